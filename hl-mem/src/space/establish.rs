//! How entries that were written become a mapping.

use crate::mmu::MmuError;

use super::{Detached, Mapped, SpaceError, SpaceFailure};

/// Why entries did not become a mapping.
#[derive(Clone, Copy, Debug)]
pub(crate) enum EstablishError {
    /// They could not all be written.
    Space(SpaceError),
    /// The MMU did not take note of them.
    Mmu(MmuError),
}

/// Gives each of these errors the variants of [`EstablishError`] as its own.
macro_rules! tells_establish {
    ($($error:ty),*) => {
        $(
            impl From<crate::space::EstablishError> for $error {
                fn from(error: crate::space::EstablishError) -> Self {
                    match error {
                        crate::space::EstablishError::Space(error) => Self::Space(error),
                        crate::space::EstablishError::Mmu(error) => Self::Mmu(error),
                    }
                }
            }
        )*
    };
}
pub(crate) use tells_establish;

/// What is left of a mapping that did not come to be.
pub(crate) enum Left<K, B> {
    /// The memory alone: the device never saw an entry.
    Unseen(B),
    /// The device may have seen entries, which are taken back: to be confirmed before the memory goes.
    Detached(Detached<K, B>),
}

/// A mapping that did not come to be: why, and what is left of it.
pub(crate) struct NotEstablished<K, B> {
    pub(crate) error: EstablishError,
    pub(crate) left: Left<K, B>,
}

/// Makes a mapping of the entries that were written, which the memory behind it belongs to from then on,
/// once the MMU has taken note of them by `announce`. Where it does not, they are taken back by `unmap`.
pub(crate) fn establish<K, B>(
    written: Result<Mapped<K, ()>, SpaceFailure<K>>,
    backing: B,
    announce: impl FnOnce() -> Result<(), MmuError>,
    unmap: impl FnOnce(Mapped<K, B>) -> Detached<K, B>,
) -> Result<Mapped<K, B>, NotEstablished<K, B>> {
    let mapped = match written {
        Ok(mapped) => mapped.owning(backing),
        Err(failure) => {
            return Err(NotEstablished {
                error: EstablishError::Space(failure.error),
                left: match failure.detached {
                    None => Left::Unseen(backing),
                    Some(detached) => Left::Detached(detached.owning(backing)),
                },
            });
        }
    };
    match announce() {
        Ok(()) => Ok(mapped),
        Err(error) => Err(NotEstablished {
            error: EstablishError::Mmu(error),
            left: Left::Detached(unmap(mapped)),
        }),
    }
}
