//! What is expected of the free device addresses.

use core::fmt;

use mmu_core::{AddrRange, DeviceAddr};

use super::super::ast::{Between, Who};
use super::super::text::{Invalid, Span};
use super::stop::{Failure, Stop};
use super::{Runner, Words};
use crate::extents::Extents;
use crate::machine::Model;

/// Pieces in the order of their addresses, as a scenario writes them.
#[derive(PartialEq)]
struct Pieces(Vec<AddrRange<DeviceAddr>>);

impl fmt::Display for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, piece) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            // No range of an ASIC ends with the last address there is.
            let end = piece.end().map_or(u64::MAX, DeviceAddr::get);
            write!(f, "{comma}{:#x}..{end:#x}", piece.start().get())?;
        }
        Ok(())
    }
}

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    /// Compares the free pieces of an address space with those that are wanted.
    pub(super) fn expect_free(
        &mut self,
        span: Span,
        who: &Who,
        within: Option<&Between>,
        pieces: &[Between],
    ) -> Words {
        let extents = match who {
            Who::Context(name) => Extents::of_context(&self.file(name)?.context),
            _ => Extents::privileged(self.machine()),
        };
        let within = within.map(|within| self.between(within)).transpose()?;
        let wanted: Result<Vec<_>, Stop> = pieces.iter().map(|piece| self.between(piece)).collect();
        let (wanted, found) = (Pieces(wanted?), Pieces(extents.free(within).collect()));
        if found == wanted {
            return Ok(found.to_string());
        }
        let expected = format_args!("free extents {who} = {wanted}");
        Err(Failure::new(span, expected, found).into())
    }

    fn between(&mut self, Between(start, end): &Between) -> Result<AddrRange<DeviceAddr>, Stop> {
        let at = start.span.to(end.span);
        let (start, end) = (self.eval(start)?, self.eval(end)?);
        let len = end.saturating_sub(start);
        let range = AddrRange::new(DeviceAddr::new(start), len);
        let message = format_args!("there is nothing from {start:#x} to {end:#x}");
        range.ok_or_else(|| Invalid::new(at, message).into())
    }
}
