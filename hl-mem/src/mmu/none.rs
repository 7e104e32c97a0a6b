//! No MMU.

use mmu_core::{BusAddr, Format, Invalidate, Stale};

use super::{Fault, MmuControl, MmuError, Walks};
use crate::asid::Asid;

/// The MMU for device memory where there is none of its own: on Goya and Gaudi, and in a port that maps
/// no device memory. There is no value of it, and what would use one is not compiled.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum NoDramMmu {}

#[expect(unsafe_code, reason = "nobody calls what has no value")]
// SAFETY: there is no value of it.
unsafe impl Invalidate for NoDramMmu {
    type Error = MmuError;

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), MmuError> {
        match *self {}
    }
}

#[expect(unsafe_code, reason = "nobody calls what has no value")]
// SAFETY: there is no value of it.
unsafe impl<F: Format> Walks<F> for NoDramMmu {}

#[expect(unsafe_code, reason = "nobody calls what has no value")]
// SAFETY: there is no value of it.
unsafe impl MmuControl for NoDramMmu {
    const EXISTS: bool = false;

    fn enable(&mut self) -> Result<(), MmuError> {
        match *self {}
    }

    fn disable(&mut self) -> Result<(), MmuError> {
        match *self {}
    }

    fn set_root(&mut self, _asid: Asid, _root: BusAddr) -> Result<(), MmuError> {
        match *self {}
    }

    fn park(&mut self, _asid: Asid) -> Result<(), MmuError> {
        match *self {}
    }

    fn announce(&mut self) -> Result<(), MmuError> {
        match *self {}
    }

    fn invalidate_all(&mut self) -> Result<(), MmuError> {
        match *self {}
    }

    fn next_fault(&mut self, _from: &mut u32) -> Result<Option<Fault>, MmuError> {
        match *self {}
    }
}
