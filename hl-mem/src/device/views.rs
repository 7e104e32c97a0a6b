//! What users see: views of kernel buffers and of registers.

use core::fmt;

use crate::buffer::{BufferId, ViewRefusal};
use crate::host::{HostError, HostMemory, ViewRights};
use crate::identity::Identity;
use crate::port::Port;
use crate::profile::Asic;

use super::{Device, RegisterBlock};

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
    device: Identity,
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

/// A view of another device. Nothing was done; what was handed over is inside.
#[must_use = "what is inside is lost if this is dropped"]
pub struct ForeignView<V>(V);

impl<V> ForeignView<V> {
    /// What was handed over, unchanged.
    pub fn into_inner(self) -> V {
        self.0
    }
}

impl<V> fmt::Debug for ForeignView<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignView").finish_non_exhaustive()
    }
}

impl<V> fmt::Display for ForeignView<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the view is of another device")
    }
}

impl<V> core::error::Error for ForeignView<V> {}

#[cfg(feature = "defmt")]
impl<V> defmt::Format for ForeignView<V> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "the view is of another device");
    }
}

/// Why a buffer is not shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ViewBufferError {
    Refused(ViewRefusal),
    Host(HostError),
}

impl<A: Asic, P: Port> Device<'_, A, P> {
    /// Shows a buffer of exactly `len` bytes to a process, with no lock of the device held. Nobody else
    /// may look for its pages meanwhile (see [`with_pages`](Self::with_pages)).
    pub(crate) fn view_buffer(
        &self,
        process: &<P::Host as HostMemory>::Process,
        id: BufferId,
        len: u64,
        rights: ViewRights,
    ) -> Result<BufferView<P>, ViewBufferError> {
        let begun = self.shown.lock().buffers.begin_view(id, len);
        begun.map_err(ViewBufferError::Refused)?;
        let shown = self.with_pages(id, |pages| self.host.view(process, pages, rights));
        let error = match shown {
            Some(Ok(view)) => {
                return Ok(BufferView {
                    device: self.identity,
                    of: Viewed::Buffer(id),
                    pages: len / P::Host::PAGE_BYTES,
                    view,
                });
            }
            Some(Err(error)) => ViewBufferError::Host(error),
            None => ViewBufferError::Refused(ViewRefusal::Gone),
        };
        self.shown.lock().buffers.uncount_view(id);
        Err(error)
    }

    /// Shows registers to a process.
    pub(crate) fn view_registers(
        &self,
        process: &<P::Host as HostMemory>::Process,
        block: &RegisterBlock,
    ) -> Result<BufferView<P>, HostError> {
        let view = self.host.view_registers(process, block.registers)?;
        self.count_view(Viewed::Registers);
        Ok(BufferView {
            device: self.identity,
            of: Viewed::Registers,
            pages: block.registers.len() / P::Host::PAGE_BYTES,
            view,
        })
    }

    fn count_view(&self, of: Viewed) {
        let shown = &mut *self.shown.lock();
        match of {
            Viewed::Buffer(id) => shown.buffers.count_view(id),
            Viewed::Registers => shown.register_views = shown.register_views.saturating_add(1),
        }
    }

    /// Notes that the system copied `pages` pages of a view, as it does when a process forks, and when
    /// one unmaps the middle of a view and two ends remain. `copy` is what the port has of the copy.
    /// Each is ended by itself, in any order; what they show lives until the last page of the last one
    /// is gone.
    ///
    /// When a view is split, the copy takes over pages of the first:
    /// [`end_pages`](Self::end_pages) takes them from that one.
    ///
    /// # Errors
    ///
    /// [`ForeignView`], with the copy inside, where the view is of another device.
    pub fn copy_view(
        &self,
        view: &BufferView<P>,
        pages: u64,
        copy: <P::Host as HostMemory>::View,
    ) -> Result<BufferView<P>, ForeignView<<P::Host as HostMemory>::View>> {
        if view.device != self.identity {
            return Err(ForeignView(copy));
        }
        self.count_view(view.of);
        Ok(BufferView {
            device: view.device,
            of: view.of,
            pages: pages.min(view.pages),
            view: copy,
        })
    }

    /// Notes that a user has unmapped `pages` pages of a view. Gives the view back while some are
    /// left, and ends it otherwise. The port has undone its own mapping of those pages.
    ///
    /// # Errors
    ///
    /// [`ForeignView`], with the view inside, where it is of another device.
    pub fn end_pages(
        &self,
        mut view: BufferView<P>,
        pages: u64,
    ) -> Result<Option<BufferView<P>>, ForeignView<BufferView<P>>> {
        match view.pages.checked_sub(pages) {
            Some(left) if left != 0 && view.device == self.identity => {
                view.pages = left;
                Ok(Some(view))
            }
            _ => self.end_view(view).map(|()| None),
        }
    }

    /// Ends a view, and the buffer with it where that was the last use of it.
    ///
    /// # Errors
    ///
    /// [`ForeignView`], with the view inside, where it is of another device.
    pub fn end_view(&self, view: BufferView<P>) -> Result<(), ForeignView<BufferView<P>>> {
        if view.device != self.identity {
            return Err(ForeignView(view));
        }
        let BufferView { of, view, .. } = view;
        self.host.remove_view(view);
        match of {
            Viewed::Buffer(id) => {
                self.shown.lock().buffers.uncount_view(id);
                self.release_buffer(id);
            }
            Viewed::Registers => {
                let shown = &mut *self.shown.lock();
                shown.register_views = shown.register_views.saturating_sub(1);
            }
        }
        Ok(())
    }
}
