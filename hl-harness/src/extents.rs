//! The device addresses of a space, piece by piece: which are free, and which are whose.
//!
//! Two spaces with as many free pieces of as many bytes can still differ: a mapping that fails must
//! leave every single address as it was.

use hl_mem::inspect::{Backing, Part, Stage};
use mmu_core::{AddrRange, DeviceAddr};

use crate::machine::{Machine, MachineContext, Model};

/// What a piece of a device's addresses is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Nothing.
    Free,
    /// A mapping.
    Mapping(Backing, Stage),
}

/// The pieces of one address space, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents(Vec<(AddrRange<DeviceAddr>, Use)>);

impl Extents {
    /// Those of a file's address space.
    #[must_use]
    pub fn of_context<A: Model>(context: &MachineContext<'_, '_, '_, A>) -> Self {
        let mut extents = Self::default();
        context.inspect(&mut |part| extents.add(&part));
        extents.in_order()
    }

    /// Those of the privileged address space.
    #[must_use]
    pub fn privileged<A: Model>(machine: &Machine<'_, '_, A>) -> Self {
        let mut extents = Self::default();
        let look = &mut |part: Part<'_>| extents.add(&part);
        let looked = machine.device.inspect(&machine.privilege, look);
        looked.expect("the privilege is that of this machine");
        extents.in_order()
    }

    /// The pieces that are free, as far as they lie in `within` where that is given.
    pub fn free(
        &self,
        within: Option<AddrRange<DeviceAddr>>,
    ) -> impl Iterator<Item = AddrRange<DeviceAddr>> {
        let free = self.0.iter().filter(|(_, of)| *of == Use::Free);
        free.filter_map(move |(range, _)| match within {
            Some(within) => range.intersection(within),
            None => Some(*range),
        })
    }

    fn add(&mut self, part: &Part<'_>) {
        let piece = match part {
            Part::Free(range) => (*range, Use::Free),
            Part::Mapping {
                range,
                backing,
                stage,
                ..
            } => (*range, Use::Mapping(*backing, *stage)),
            _ => return,
        };
        self.0.push(piece);
    }

    fn in_order(mut self) -> Self {
        self.0
            .sort_by_key(|(range, _)| (range.start(), range.len()));
        self
    }

    /// Which pieces there were `before` and are not any more, and which are new, one line each.
    #[must_use]
    pub fn differences(&self, before: &Self) -> Vec<String> {
        if self == before {
            return Vec::new();
        }
        let gone = before.0.iter().filter(|piece| !self.0.contains(piece));
        let new = self.0.iter().filter(|piece| !before.0.contains(piece));
        let line = |(range, of): &(AddrRange<DeviceAddr>, Use), when| match of {
            Use::Free => format!("{range} {when} a free piece"),
            Use::Mapping(backing, stage) => {
                format!("{range} {when} a mapping ({backing:?}, {stage:?})")
            }
        };
        gone.map(|piece| line(piece, "was"))
            .chain(new.map(|piece| line(piece, "is now")))
            .collect()
    }
}
