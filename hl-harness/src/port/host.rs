//! Pages of the host model.

use std::io;
use std::sync::Arc;

use hl_mem::host::{
    DeviceAccess, DmaAddr, DmaRun, HostError, HostMemory, UserAddr, UserPages, ViewRights,
};
use hl_mem::timestamps::TimestampMemory;
use mmu_core::Run;

use crate::host::{
    FRAME_SIZE, Frame, Host, KernelBlock, OutOfFrames, Permission, PinAccess, PinReason, Process,
    UserAddress, View,
};

/// The host model, as a port sees it.
#[derive(Clone, Debug)]
pub struct HarnessHost {
    host: Arc<Host>,
    /// What stands for the registers that users may map.
    registers: Arc<KernelBlock>,
}

impl HarnessHost {
    /// The pages of `host`, with `registers` for users.
    #[must_use]
    pub fn new(host: &Arc<Host>, registers: &Arc<KernelBlock>) -> Self {
        Self {
            host: Arc::clone(host),
            registers: Arc::clone(registers),
        }
    }

    /// Kernel pages as the device may reach them, where there are any.
    fn mapped_for_dma(
        &self,
        block: Result<KernelBlock, OutOfFrames>,
    ) -> Result<KernelBlock, HostError> {
        let block = block.map_err(|_| HostError::NoMemory)?;
        let mapped = self.host.map_for_dma(block.frames());
        mapped.map(|()| block).map_err(|_| HostError::NoMemory)
    }

    fn release(&self, frames: &[Frame], dirty: bool) {
        for frame in frames {
            self.host
                .unpin(*frame, dirty)
                .expect("the frame was pinned when it was handed out");
        }
    }

    fn runs<'a>(&'a self, frames: &'a [Frame]) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        // Pages that follow each other on the bus make one run.
        frames
            .chunk_by(|a, b| a.number() + 1 == b.number())
            .filter_map(|run| {
                let start = DmaAddr::new(self.host.bus_address(run[0]).get());
                DmaRun::new(start, (run.len() * FRAME_SIZE) as u64)
            })
    }
}

/// Pinned pages of a process, in the order of its addresses.
#[derive(Debug)]
#[must_use = "the pages stay pinned until they are handed to `unpin`"]
pub struct PinnedFrames(Vec<Frame>);

impl PinnedFrames {
    /// The pages.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.0
    }
}

/// A block as a process has it mapped.
#[derive(Debug)]
pub struct BlockMapping {
    process: Arc<Process>,
    address: UserAddress,
    pages: usize,
    view: View,
}

impl BlockMapping {
    /// Where the process has it.
    #[must_use]
    pub fn address(&self) -> UserAddress {
        self.address
    }

    /// Pages that the process has mapped there.
    #[must_use]
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Whose it is.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The process's memory, mapped for real, with the process's rights.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// What a forked child has: the same pages at the same addresses with the same rights.
    ///
    /// # Errors
    ///
    /// What the child's address space or the system says.
    pub fn fork(&self, child: &Arc<Process>) -> io::Result<Self> {
        self.process
            .copy_to(child, self.address, self.pages)
            .map_err(io::Error::other)?;
        let view = child.view(self.address, self.pages)?;
        Ok(Self {
            process: Arc::clone(child),
            address: self.address,
            pages: self.pages,
            view,
        })
    }
}

/// The kernel's own mapping of its pages, for 64-bit numbers.
#[derive(Debug)]
pub struct KernelWords(View);

impl TimestampMemory for KernelWords {
    fn store(&mut self, slot: u32, value: u64) {
        self.0
            .store_u64(slot as usize * 8, value)
            .expect("a pool stores within its memory");
    }
}

fn user(address: UserAddr) -> UserAddress {
    UserAddress::new(address.get())
}

// SAFETY: the host model zeroes kernel pages and keeps them for the block until it is dropped, in
// the order of its frames (1); it counts pins, moves no pinned page and frees none (2); frames of
// a block or of a pin never change (3); a view maps the block's frames, all read-only but for the
// pages asked for, until it is dropped (4).
unsafe impl HostMemory for HarnessHost {
    type Process = Arc<Process>;
    type KernelPages = KernelBlock;
    type PinnedPages = PinnedFrames;
    type View = BlockMapping;
    type Words = KernelWords;

    const PAGE_BYTES: u64 = FRAME_SIZE as u64;

    fn allocate(&self, pages: u64) -> Result<KernelBlock, HostError> {
        let pages = usize::try_from(pages).map_err(|_| HostError::NoMemory)?;
        let block = self.host.kernel_block(pages, "block");
        self.mapped_for_dma(block)
    }

    fn allocate_contiguous(&self, pages: u64) -> Result<KernelBlock, HostError> {
        let pages = usize::try_from(pages).map_err(|_| HostError::NoMemory)?;
        let block = self.host.kernel_contiguous(pages, 1, "coherent buffer");
        self.mapped_for_dma(block)
    }

    fn words(&self, pages: &KernelBlock) -> Option<KernelWords> {
        pages.view().ok().map(KernelWords)
    }

    fn free(&self, pages: KernelBlock) {
        self.host.unmap_for_dma(pages.frames());
        drop(pages);
    }

    fn kernel_runs<'a>(
        &'a self,
        pages: &'a KernelBlock,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        self.runs(pages.frames())
    }

    fn pin(
        &self,
        process: &Arc<Process>,
        pages: UserPages,
        access: DeviceAccess,
    ) -> Result<PinnedFrames, HostError> {
        let count = usize::try_from(pages.count()).map_err(|_| HostError::NoMemory)?;
        let access = match access {
            DeviceAccess::Read => PinAccess::Read,
            DeviceAccess::ReadWrite => PinAccess::Write,
        };
        let start = pages.range().start();
        let pinned = process.pin(user(start), count, access).map_err(|error| {
            let into = error.address.get().saturating_sub(start.get());
            match error.reason {
                PinReason::Injected | PinReason::OutOfFrames => HostError::NoMemory,
                _ => HostError::Fault {
                    at: start.checked_add(into).unwrap_or(start),
                },
            }
        })?;
        if self.host.map_for_dma(&pinned).is_err() {
            self.release(&pinned, false);
            return Err(HostError::NoMemory);
        }
        Ok(PinnedFrames(pinned))
    }

    fn pinned_runs<'a>(
        &'a self,
        pages: &'a PinnedFrames,
    ) -> impl Iterator<Item = DmaRun> + Clone + 'a {
        self.runs(&pages.0)
    }

    fn unpin(&self, pages: PinnedFrames, access: DeviceAccess) {
        self.host.unmap_for_dma(&pages.0);
        self.release(&pages.0, access == DeviceAccess::ReadWrite);
    }

    fn view(
        &self,
        process: &Arc<Process>,
        pages: &KernelBlock,
        rights: ViewRights,
    ) -> Result<BlockMapping, HostError> {
        map(process, pages, rights.writable_pages)
    }

    fn view_registers(
        &self,
        process: &Arc<Process>,
        registers: Run,
    ) -> Result<BlockMapping, HostError> {
        let frames = self.registers.frames();
        if self.host.bus_address(frames[0]) != registers.start() {
            return Err(HostError::Unsupported);
        }
        map(process, &self.registers, u64::MAX)
    }

    fn remove_view(&self, view: BlockMapping) {
        view.process.unmap(view.address, view.pages);
    }
}

/// Maps a block into a process, of which so many pages from the first on are writable.
fn map(
    process: &Arc<Process>,
    pages: &KernelBlock,
    writable_pages: u64,
) -> Result<BlockMapping, HostError> {
    let count = pages.frames().len();
    let address = process
        .map_block(pages, Permission::ReadOnly)
        .map_err(|_| HostError::NoMemory)?;
    let writable = usize::try_from(writable_pages).unwrap_or(count).min(count);
    if writable > 0 {
        process.protect(address, writable, Permission::ReadWrite);
    }
    match process.view(address, count) {
        Ok(view) => Ok(BlockMapping {
            process: Arc::clone(process),
            address,
            pages: count,
            view,
        }),
        Err(_) => {
            process.unmap(address, count);
            Err(HostError::NoMemory)
        }
    }
}
