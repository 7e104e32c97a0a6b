//! Looking at the address space of a context.

use super::{Context, Gone, Live, Stage};
use crate::host::{HostMemory, seen_by_device};
use crate::inspect::{Backing, Part, Stage as LifeStage};
use crate::port::Port;
use crate::profile::Asic;

impl<A: Asic, P: Port> Context<'_, '_, A, P> {
    /// Gives `look` each part of the user's address space: the free addresses, then the mappings,
    /// in no order.
    ///
    /// The locks of the space and of device memory are held meanwhile: `look` must not call into
    /// the device or a context of it.
    pub fn inspect(&self, look: &mut dyn FnMut(Part<'_>)) {
        let dram = self.device.dram.lock();
        let space = self.space.lock();
        let apart = space.dram.iter().flat_map(|dram| dram.free_extents());
        for extent in space.space.free_extents().chain(apart) {
            look(Part::Free(extent));
        }
        for mapping in space.mappings.iter() {
            let (pinned, device, stage) = match &mapping.0 {
                Stage::Live(Live::User(mapped)) => (
                    Some((mapped.range(), mapped.backing())),
                    None,
                    LifeStage::Live,
                ),
                Stage::Live(Live::Dram(mapped)) => (
                    None,
                    Some((mapped.range(), mapped.backing())),
                    LifeStage::Live,
                ),
                Stage::Quarantined(Gone::User(gone)) => (
                    Some((gone.range(), gone.backing())),
                    None,
                    LifeStage::Quarantined,
                ),
                Stage::Quarantined(Gone::Dram(gone)) => (
                    None,
                    Some((gone.range(), gone.backing())),
                    LifeStage::Quarantined,
                ),
            };
            if let Some((range, memory)) = pinned {
                let runs = self.device.host.pinned_runs(&memory.pinned);
                look(Part::Mapping {
                    range,
                    backing: Backing::Pinned,
                    stage,
                    runs: &mut runs.map_while(|run| seen_by_device(run, &A::PROFILE)),
                });
            }
            if let Some((range, hold)) = device {
                look(Part::Mapping {
                    range,
                    backing: Backing::DeviceMemory,
                    stage,
                    runs: &mut dram.runs(hold).into_iter().flatten(),
                });
            }
        }
    }
}
