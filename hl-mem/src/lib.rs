#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

pub mod asid;
pub mod budget;
pub mod buffer;
pub mod context;
pub mod device;
pub mod dram;
mod errno;
pub mod events;
pub mod guide;
pub mod handle;
pub mod host;
mod identity;
pub mod inspect;
pub mod lock;
#[cfg(test)]
mod messages;
pub mod mmu;
mod owner;
pub mod port;
pub mod profile;
pub mod registry;
pub mod ring;
mod space;
mod sync;
pub mod timestamps;
pub mod uapi;
pub mod va;

pub use asid::{Asid, UserAsid};
pub use context::{Context, ContextStorage};
pub use device::{Device, DeviceOptions, DeviceParts, Privilege};
pub use owner::Owner;
pub use port::Port;
pub use space::{SpaceError, Wanted};
