//! For the test programs whose whole length takes minutes.

/// Whether tests go all the way: `HL_LONG_TESTS` is set, as `cargo xtask ci --long` does.
pub(crate) fn is_long() -> bool {
    std::env::var_os("HL_LONG_TESTS").is_some()
}
