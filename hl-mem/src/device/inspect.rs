//! Looking at the privileged address space.

use super::{Device, ForeignPrivilege, Privilege};
use crate::host::{HostMemory, seen_by_device};
use crate::inspect::{Backing, Part};
use crate::port::Port;
use crate::profile::Asic;

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Gives `look` each part of the privileged address space: the free addresses, then what is in the
    /// windows, then the blocks that have a place there.
    ///
    /// The locks of the space and of the kernel buffers are held meanwhile: `look` must not call into
    /// the device or a context of it.
    ///
    /// # Errors
    ///
    /// [`ForeignPrivilege`].
    pub fn inspect(
        &self,
        privilege: &Privilege,
        look: &mut dyn FnMut(Part<'_>),
    ) -> Result<(), ForeignPrivilege> {
        self.check(privilege)?;
        let privileged = self.privileged.lock();
        let shown = self.shown.lock();
        let resets = self.resets();
        for extent in privileged.space.free_extents() {
            look(Part::Free(extent));
        }
        for in_window in privileged.windows.iter().flatten() {
            let (range, stage, run) = in_window.part(resets);
            look(Part::Mapping {
                range,
                backing: Backing::Window,
                stage,
                runs: &mut core::iter::once(run),
            });
        }
        for (range, stage, pages) in shown.buffers.mapped(resets) {
            let runs = self.host.kernel_runs(pages);
            look(Part::Mapping {
                range,
                backing: Backing::Block,
                stage,
                runs: &mut runs.map_while(|run| seen_by_device(run, &A::PROFILE)),
            });
        }
        Ok(())
    }
}
