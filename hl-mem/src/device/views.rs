//! What users see: views of kernel buffers and of registers.

use core::fmt;

use crate::buffer::{BufferId, ViewRefusal};
use crate::host::{HostError, HostMemory, ViewRights};
use crate::port::Port;
use crate::profile::Asic;

use super::{Device, RegisterBlock, Shown};

/// What a view is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Viewed {
    Buffer(BufferId),
    Registers,
}

/// Memory or registers as a user sees them: the port's view, and how many pages of it the user
/// still has mapped.
///
/// The port keeps it with the user's mapping and hands it to [`Device::end_view`] when that is gone,
/// or to [`Device::end_pages`] as parts of it go. It may outlive the context: what it shows stays.
#[must_use = "what is shown stays alive until the view is ended"]
pub struct BufferView<P: Port> {
    of: Viewed,
    pages: u64,
    view: <P::Host as HostMemory>::View,
}

impl<P: Port> BufferView<P> {
    /// The port's view.
    pub fn view(&self) -> &<P::Host as HostMemory>::View {
        &self.view
    }

    /// Pages that the user still has mapped through it.
    pub fn pages(&self) -> u64 {
        self.pages
    }
}

impl<P: Port> fmt::Debug for BufferView<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BufferView({:?}, {} pages)", self.of, self.pages)
    }
}

/// Why a buffer is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewBufferError {
    Refused(ViewRefusal),
    Host(HostError),
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Shows a buffer of exactly `len` bytes to a process.
    pub(crate) fn view_buffer(
        &self,
        process: &<P::Host as HostMemory>::Process,
        id: BufferId,
        len: u64,
        rights: ViewRights,
    ) -> Result<BufferView<P>, ViewBufferError> {
        let Shown { buffers, .. } = &mut *self.shown.lock();
        let memory = buffers
            .viewable(id, len)
            .map_err(ViewBufferError::Refused)?;
        let view = self
            .host
            .view(process, memory, rights)
            .map_err(ViewBufferError::Host)?;
        buffers.count_view(id);
        Ok(BufferView {
            of: Viewed::Buffer(id),
            pages: len / P::Host::PAGE_BYTES,
            view,
        })
    }

    /// Shows registers to a process.
    pub(crate) fn view_registers(
        &self,
        process: &<P::Host as HostMemory>::Process,
        block: &RegisterBlock,
    ) -> Result<BufferView<P>, HostError> {
        let view = self.host.view_registers(process, block.registers)?;
        let shown = &mut *self.shown.lock();
        shown.register_views = shown.register_views.saturating_add(1);
        Ok(BufferView {
            of: Viewed::Registers,
            pages: block.registers.len() / P::Host::PAGE_BYTES,
            view,
        })
    }

    /// Notes that the system copied `pages` pages of a view, as it does when a process forks, and when
    /// one unmaps the middle of a view and two ends remain. `copy` is what the port has of the copy.
    /// Each is ended by itself, in any order; what they show lives until the last page of the last one
    /// is gone.
    ///
    /// When a view is split, the copy takes over pages of the first:
    /// [`end_pages`](Self::end_pages) takes them from that one.
    pub fn copy_view(
        &self,
        view: &BufferView<P>,
        pages: u64,
        copy: <P::Host as HostMemory>::View,
    ) -> BufferView<P> {
        let shown = &mut *self.shown.lock();
        match view.of {
            Viewed::Buffer(id) => shown.buffers.count_view(id),
            Viewed::Registers => shown.register_views = shown.register_views.saturating_add(1),
        }
        BufferView {
            of: view.of,
            pages: pages.min(view.pages),
            view: copy,
        }
    }

    /// Notes that a user has unmapped `pages` pages of a view. Gives the view back while some are
    /// left, and ends it otherwise. The port has undone its own mapping of those pages.
    pub fn end_pages(&self, mut view: BufferView<P>, pages: u64) -> Option<BufferView<P>> {
        match view.pages.checked_sub(pages) {
            Some(left) if left != 0 => {
                view.pages = left;
                Some(view)
            }
            _ => {
                self.end_view(view);
                None
            }
        }
    }

    /// Ends a view, and the buffer with it where that was the last use of it.
    pub fn end_view(&self, view: BufferView<P>) {
        {
            let shown = &mut *self.shown.lock();
            self.host.remove_view(view.view);
            match view.of {
                Viewed::Buffer(id) => shown.buffers.uncount_view(id),
                Viewed::Registers => {
                    shown.register_views = shown.register_views.saturating_sub(1);
                }
            }
        }
        if let Viewed::Buffer(id) = view.of {
            self.release_buffer(id);
        }
    }
}
