//! A chapter for each area, each with an example that is compiled and run.
//!
//! | area | chapter | reference |
//! |---|---|---|
//! | implementing the traits for a kernel or a firmware | [`porting`] | [`port`](crate::port) |
//! | contexts and address spaces | [`contexts`] | [`context`](crate::context), [`asid`](crate::asid) |
//! | device addresses | | [`va`](crate::va) |
//! | sources, pinning, mapping | [`mapping`] | [`host`](crate::host), [`budget`](crate::budget) |
//! | privileged mappings and blocks | [`blocks`] | [`buffer`](crate::buffer) |
//! | rings: producer and consumer | | [`ring`](crate::ring) |
//! | device memory and exports | [`device_memory`] | [`dram`](crate::dram) |
//! | handles, mmap and views | [`views`] | [`handle`](crate::handle) |
//! | command buffers | [`command_buffers`] | [`buffer`](crate::buffer) |
//! | timestamps | [`timestamps`] | [`timestamps`](crate::timestamps) |
//! | events | [`events`] | [`events`](crate::events) |
//! | requests of user space | [`uapi`] | [`uapi`](crate::uapi) |
//! | drivers of MMUs | [`mmu`] | [`mmu`](crate::mmu) |
//! | numbers of the ASICs | | [`profile`](crate::profile) |
//! | locks | [`locks`] | [`lock`](crate::lock) |
//! | reset and recovery | [`recovery`] | [`Device::recover`](crate::Device::recover) |
//! | teardown | [`teardown`] | [`Context::close`](crate::Context::close) |
//!
//! # The examples
//!
//! They run on the [smallest port](porting#the-smallest-port): a Goya whose registers answer at once,
//! with some pages of memory and no engines but the examples themselves. `Machine::new()` brings its
//! device up and `Machine::open()` opens a file, which is all that a reader has to know of it.

#[doc = include_str!("guide/porting.md")]
///
/// # The smallest port
///
/// All of it, as the examples of this guide use it. It is made for reading: storage is leaked, and
/// memory is a vector. `ports/firmware` of the repository has a port with statics, without an allocator;
/// `hl-harness/src/port` has one over a model of a host and of a device, with threads.
///
/// ```
#[doc = include_str!("guide/smallest_port.rs")]
/// ```
pub mod porting {}

#[doc = include_str!("guide/contexts.md")]
pub mod contexts {}

#[doc = include_str!("guide/mapping.md")]
pub mod mapping {}

#[doc = include_str!("guide/blocks.md")]
pub mod blocks {}

#[doc = include_str!("guide/device_memory.md")]
pub mod device_memory {}

#[doc = include_str!("guide/views.md")]
pub mod views {}

#[doc = include_str!("guide/command_buffers.md")]
pub mod command_buffers {}

#[doc = include_str!("guide/timestamps.md")]
pub mod timestamps {}

#[doc = include_str!("guide/events.md")]
pub mod events {}

#[doc = include_str!("guide/uapi.md")]
pub mod uapi {}

#[doc = include_str!("guide/mmu.md")]
pub mod mmu {}

#[doc = include_str!("guide/locks.md")]
pub mod locks {}

#[doc = include_str!("guide/recovery.md")]
pub mod recovery {}

#[doc = include_str!("guide/teardown.md")]
pub mod teardown {}
