//! Inspection, for people who would rather look than read.
//!
//! [`State::capture`] makes plain data of a machine: what the MMUs are programmed with, the page
//! tables as bytes, the address ranges and mappings as the driver has them, the event log. From there
//! on nothing needs the machine, so a state can be [saved](State::save) and looked at later.
//!
//! | function | shows |
//! |---|---|
//! | [`State::walk`] | one device address, hop by hop, with each field of each entry |
//! | [`State::dump`] | the page tables as a tree, runs of equal entries folded |
//! | [`State::map`] | a picture of the device addresses: what is free, what is mapped, what is behind it |
//! | [`State::history`] | the life of each mapping, replayed from the event log |
//! | [`State::timeline`] | a picture of these lives: mapped, unmapped, invalidated, released |
//!
//! All of them read the tables with the software ASIC's own description of the formats and its own
//! walker, never with `mmu-core`; and they compare what they find with what the driver says.

mod audit;
mod capture;
mod command;
mod dump;
mod events;
mod hex;
mod history;
mod map;
mod picture;
mod sample;
mod state;
mod tables;
mod timeline;
mod walk;

pub use command::{
    DumpArguments, LookCommand, PictureArguments, SampleArguments, Sight, Source, WalkArguments,
    main,
};
pub use dump::{Dump, Totals, Tree};
pub use events::{Claim, Event, Record};
pub use history::{History, Life, Offence, OffenceKind, Stage};
pub use sample::{SampleOptions, sample};
pub use state::{
    AsicState, Backing, BusExtent, DefaultPage, Extent, HostState, MappingState, MmuState,
    RangeState, Root, SpaceState, State, TableState, VERSION, Word,
};
pub use walk::{Field, HopReport, Walk};
