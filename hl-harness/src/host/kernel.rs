//! Kernel memory: contiguous in the kernel's addresses, scattered in physical ones.

use std::io;
use std::sync::Arc;

use super::{FRAME_SIZE, Frame, FrameOwner, Host, OutOfFrames, Permission, View};

/// Zeroed pages of the kernel, in the order of its virtual addresses: what `vmalloc_user` gives. Freed
/// when dropped, except pages that somebody still maps or pins, which go with their last user.
#[derive(Debug)]
pub struct KernelBlock {
    host: Arc<Host>,
    frames: Vec<Frame>,
}

impl KernelBlock {
    pub(crate) fn new(
        host: &Arc<Host>,
        pages: usize,
        purpose: &'static str,
    ) -> Result<Self, OutOfFrames> {
        Ok(Self {
            frames: host.allocate_all(pages, FrameOwner::Kernel(purpose))?,
            host: Arc::clone(host),
        })
    }

    pub(crate) fn contiguous(
        host: &Arc<Host>,
        pages: usize,
        align: usize,
        purpose: &'static str,
    ) -> Result<Self, OutOfFrames> {
        Ok(Self {
            frames: host.allocate_run(pages, align, FrameOwner::Kernel(purpose))?,
            host: Arc::clone(host),
        })
    }

    /// The pages, in virtual order.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Its length in bytes, a multiple of 4 KiB.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "a block of no pages is refused"
    )]
    pub fn len(&self) -> usize {
        self.frames.len() * FRAME_SIZE
    }

    /// The kernel's own view of it, writable.
    ///
    /// # Errors
    ///
    /// What `mmap` of the machine says.
    pub fn view(&self) -> io::Result<View> {
        self.host.view(&self.frames, Permission::ReadWrite)
    }
}

impl Drop for KernelBlock {
    fn drop(&mut self) {
        self.host.release_all(&self.frames);
    }
}
