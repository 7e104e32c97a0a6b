//! The ring of records inside a producer/consumer block.
//!
//! A *block* is kernel memory of whole pages that the device and one user process share (facts,
//! section 11). The **device produces**: it reaches the block by device virtual address, through
//! its MMU, and any access of its may fault. The **process consumes**: it reaches the block through
//! `mmap`, where everything but its own index is read-only. [`BlockLayout`] says what lies where,
//! [`Producer`] and [`Consumer`] are the two ends, and the traits of [`memory`](BlockIndices) are
//! all they know of the memory in between. Records have one size; where they have to differ,
//! [`FrameLayout`], [`FrameProducer`] and [`FrameConsumer`] do the same for frames, records of any
//! length. [Blocks](crate::guide::blocks) has a ring in a block of a device.
//!
//! ```
//! use core::sync::atomic::AtomicU32;
//! use hl_mem::ring::{BlockLayout, Consumer, PopError, Producer, PushError, SharedWords};
//!
//! // Two records of 16 bytes. Page 0 is the consumer's, page 1 the producer's, page 2 has the data.
//! const LAYOUT: BlockLayout = match BlockLayout::new(4096, 16, 2) {
//!     Ok(layout) => layout,
//!     Err(_) => panic!("the layout is a constant"),
//! };
//! static BLOCK: [AtomicU32; LAYOUT.block_len() as usize / 4] =
//!     [const { AtomicU32::new(0) }; LAYOUT.block_len() as usize / 4];
//!
//! let mut memory = SharedWords::new(&BLOCK);
//! LAYOUT.initialize(&mut memory, 0).unwrap();
//!
//! let mut producer = Producer::attach(memory, LAYOUT).unwrap();
//! producer.push(&[1; 16]).unwrap();
//! producer.push(&[2; 16]).unwrap();
//! assert_eq!(producer.push(&[3; 16]), Err(PushError::Full));
//!
//! // The consumer learns the layout from the block, which it checks and does not trust.
//! let layout = BlockLayout::read_header(&mut memory, 4096, LAYOUT.block_len()).unwrap();
//! let mut consumer = Consumer::attach(memory, layout).unwrap();
//! let mut record = [0; 16];
//! consumer.pop(&mut record).unwrap();
//! assert_eq!(record, [1; 16]);
//! consumer.pop(&mut record).unwrap();
//! assert_eq!(consumer.pop(&mut record), Err(PopError::Empty));
//! ```
//!
//! # Indices
//!
//! Both indices run freely through all 2^32 values and wrap; a record's slot is its index modulo the
//! capacity, which is a power of two of at most 2^31. Equal indices mean empty and a difference of
//! the capacity means full, so a ring of N holds N records.
//!
//! # Trust
//!
//! Neither end trusts the other. Each keeps its own index privately and stores it for the peer's
//! information only. The peer's index is read once per decision and must lie between the last value
//! seen and the furthest the peer could honestly have come; anything else is a [`PeerIndex`] error
//! that changes nothing. The length of a frame is read once and must lie within what was published. An index is therefore at worst wrong by a value that an honest peer could
//! have written, and every access stays inside the data pages. The geometry comes from a
//! [`BlockLayout`] held privately; nobody reads the header twice. A record is copied out before
//! anything looks at it, so what was checked is what is used. What the ring cannot promise is the
//! *content*: a producer that writes to slots it has published hands over any bytes it likes, torn
//! ones included, and only the consumer's own checks of the copy help against that.
//!
//! # Ordering
//!
//! Two publications carry everything:
//!
//! 1. The producer writes records, then stores its index with **release**; the consumer loads that
//!    index with **acquire**, then reads records. So it sees each record whole.
//! 2. The consumer copies records out, then stores its index with **release**; the producer loads
//!    that index with **acquire**, then overwrites the slots. So it never overwrites a record that
//!    is still being copied.
//!
//! Between these the records themselves need no ordering, but they do need to be accesses that may
//! race: a hostile peer can write at any time, and with plain loads and stores that would be
//! undefined behaviour *here*, not only wrong data. [`SharedWords`] therefore moves records in
//! relaxed atomic words: single loads and stores, each word whole, and no promise between words
//! beyond the index's. Both ends in one program must use words of the same size, since the language
//! gives mixed-size atomic accesses no meaning. `WideWords` moves records in words of 64 bits, where
//! the machine has such atomics.
//!
//! Compilers and CPUs are ordered by that. Where a device, a non-coherent cache or a bus takes part,
//! the language's orderings end at the edge, and the implementation of [`BlockIndices`] provides the
//! barrier or cache maintenance that amounts to the same.
//!
//! # Waiting
//!
//! Nothing here waits. [`PushError::Full`] and [`PopError::Empty`] come back at once, and what then
//! happens is the embedder's. It can poll, and no more is needed for that. Or it can sleep until the
//! peer rings a doorbell (an interrupt, an eventfd), with the help of two calls:
//!
//! * The end that wants to sleep calls `request_wake`, which leaves a request in the block and then
//!   looks once more. Only where the answer is [`WakeRequest::Armed`] may it sleep.
//! * The other end calls `owes_wake` after each push or pop, and rings where the answer is `true`:
//!   once for each request at most, so that a busy ring causes no doorbells at all.
//!
//! Each end stores something and then loads what the other stored, and of two ends that do so at the
//! same time at least one must see the other's store, or both go on as if alone: the one sleeps and
//! the other does not ring. Release and acquire do not promise that. [`BlockFence`] does, and only
//! these two calls need it. A hostile peer can ring without need or not at all; how long to sleep is
//! the embedder's decision, too.
//!
//! # Overflow
//!
//! A producer that cannot wait calls `push_or_drop`. What finds no room is dropped and counted in the
//! block, and [`Consumer::dropped`] reports the count. A drop is counted before any later record is
//! published, so a consumer that asks after each batch never takes two records for neighbours that
//! are not.

mod consumer;
mod drops;
mod end;
mod frame_consumer;
mod frame_layout;
mod frame_producer;
mod layout;
mod memory;
mod peer;
mod producer;
mod wake;
mod words;

pub use consumer::{Consumer, PopError};
pub use drops::Pushed;
pub use frame_consumer::{FrameConsumer, FramePopError};
pub use frame_layout::FrameLayout;
pub use frame_producer::{FrameProducer, FramePushError};
pub use layout::{BlockLayout, HeaderError, LayoutError};
pub use memory::{BlockFence, BlockIndices, BlockRead, BlockWrite};
pub use peer::PeerIndex;
pub use producer::{Producer, PushError};
pub use wake::WakeRequest;
#[cfg(any(loom, target_has_atomic = "64"))]
pub use words::WideWords;
pub use words::{SharedWords, SharedWordsError};
