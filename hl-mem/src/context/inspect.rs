//! Looking at the address space of a context.

use super::{Backing, Context, Stage};
use crate::host::{HostMemory, seen_by_device};
use crate::inspect::{Backing as Kind, Part, Stage as LifeStage};
use crate::port::Port;
use crate::profile::Asic;

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Gives `look` each part of the user's address space: the free addresses, then the mappings,
    /// in no order.
    ///
    /// The locks of the space, of the kernel buffers and of device memory are held meanwhile: `look`
    /// must not call into the device or a context of it.
    pub fn inspect(&self, look: &mut dyn FnMut(Part<'_>)) {
        let host = &self.device.host;
        let space = self.space.lock();
        let dram = self.device.dram.lock();
        let shown = self.device.shown.lock();
        let lost = self.device.was_reset_since(&self.seat);
        let apart = space.dram.iter().flat_map(|dram| dram.free_extents());
        for extent in space.space.free_extents().chain(apart) {
            look(Part::Free(extent));
        }
        for mapping in space.mappings.iter() {
            let (range, backing, stage) = match &mapping.0 {
                Stage::Live(mapped) if lost => (mapped.range(), mapped.backing(), LifeStage::Lost),
                Stage::Live(mapped) => (mapped.range(), mapped.backing(), LifeStage::Live),
                Stage::Quarantined(gone) => (gone.range(), gone.backing(), LifeStage::Quarantined),
            };
            let mut part = |backing, runs: &mut dyn Iterator<Item = _>| {
                look(Part::Mapping {
                    range,
                    backing,
                    stage,
                    runs,
                });
            };
            let seen = |run| seen_by_device(run, &A::PROFILE);
            match backing {
                Backing::User(memory) => {
                    let runs = host.pinned_runs(&memory.pinned);
                    part(Kind::Pinned, &mut runs.map_while(seen));
                }
                Backing::Dram { hold, .. } => {
                    part(
                        Kind::DeviceMemory,
                        &mut dram.runs(hold).into_iter().flatten(),
                    );
                }
                Backing::Buffer(hold) => {
                    let pages = shown.buffers.held_pages(hold).into_iter();
                    let runs = pages.flat_map(|pages| host.kernel_runs(pages));
                    part(Kind::Buffer, &mut runs.map_while(seen));
                }
                Backing::Window(run) => part(Kind::Window, &mut core::iter::once(*run)),
            }
        }
    }
}
