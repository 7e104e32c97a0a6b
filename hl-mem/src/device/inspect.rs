//! Looking at the privileged address space.

use super::{Device, Privilege};
use crate::host::{HostMemory, seen_by_device};
use crate::inspect::{Backing, Part};
use crate::port::Port;
use crate::profile::Asic;

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Gives `look` each part of the privileged address space: the free addresses, then the blocks
    /// that have a place there.
    ///
    /// The locks of the space and of the kernel buffers are held meanwhile: `look` must not call into the device or a context
    /// of it.
    pub fn inspect(&self, _privilege: &Privilege, look: &mut dyn FnMut(Part<'_>)) {
        let privileged = self.privileged.lock();
        let shown = self.shown.lock();
        for extent in privileged.space.free_extents() {
            look(Part::Free(extent));
        }
        for (range, stage, pages) in shown.buffers.mapped(self.resets()) {
            let runs = self.host.kernel_runs(pages);
            look(Part::Mapping {
                range,
                backing: Backing::Block,
                stage,
                runs: &mut runs.map_while(|run| seen_by_device(run, &A::PROFILE)),
            });
        }
    }
}
