//! The page-table crates of the registry that do the same work.

pub(crate) mod aarch64;
pub(crate) mod generic;
#[cfg(target_arch = "x86_64")]
pub(crate) mod multiarch;
pub(crate) mod x86_64;
