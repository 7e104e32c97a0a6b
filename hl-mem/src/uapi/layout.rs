//! Checks at compile time that a structure lies in memory as the driver's header has it.

/// The size of a field, told by a function that gives a reference to it.
pub(super) const fn size_of_field<S, F>(_field: fn(&S) -> &F) -> usize {
    size_of::<F>()
}

/// Checks the size of a structure, and size and offset of each of its fields: of all of them, or it
/// does not compile.
macro_rules! assert_layout {
    ($structure:ident of $bytes:literal bytes {
        $($field:ident: $size:literal at $offset:literal),* $(,)?
    }) => {
        static_assertions::const_assert_eq!(size_of::<$structure>(), $bytes);
        $(
            static_assertions::const_assert_eq!(core::mem::offset_of!($structure, $field), $offset);
            static_assertions::const_assert_eq!(
                super::layout::size_of_field(|whole: &$structure| &whole.$field),
                $size
            );
        )*
        const _: fn($structure) = |$structure { $($field: _),* }| {};
    };
}
pub(super) use assert_layout;
