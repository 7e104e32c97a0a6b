//! A chapter for each area, each with an example that is compiled and run.
//!
//! | area | chapter |
//! |---|---|
//! | implementing the traits for a kernel or a firmware | [`porting`] |
//! | contexts and address spaces | [`contexts`] |
//! | device addresses | [`va`](crate::va) |
//! | sources, pinning, mapping | [`mapping`] |
//! | privileged mappings and blocks | [`blocks`] |
//! | rings: producer and consumer | [`ring`](crate::ring) |
//! | device memory and exports | [`device_memory`], over [`dram`](crate::dram) |
//! | handles, mmap and views | [`views`], over [`handle`](crate::handle) |
//! | command buffers | [`command_buffers`] |
//! | timestamps | [`counters`], over [`timestamps`](crate::timestamps) |
//! | events | [`faults`], over [`events`](crate::events) |
//! | requests of user space | [`requests`], over [`uapi`](crate::uapi) |
//! | drivers of MMUs | [`mmus`], over [`mmu`](crate::mmu) |
//! | numbers of the ASICs | [`profile`](crate::profile) |
//! | locks | [`locks`], over [`lock`](crate::lock) |
//! | reset and recovery | [`recovery`] |
//! | teardown | [`teardown`] |
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

#[doc = include_str!("guide/counters.md")]
pub mod counters {}

#[doc = include_str!("guide/faults.md")]
pub mod faults {}

#[doc = include_str!("guide/requests.md")]
pub mod requests {}

#[doc = include_str!("guide/mmus.md")]
pub mod mmus {}

#[doc = include_str!("guide/locks.md")]
pub mod locks {}

#[doc = include_str!("guide/recovery.md")]
pub mod recovery {}

#[doc = include_str!("guide/teardown.md")]
pub mod teardown {}
