//! The life of a physical page: handed out, referred to, pinned, moved, freed, poisoned.

use std::sync::Weak;
use std::sync::atomic::Ordering;

use super::frames::{self, FrameTable};
use super::sync::fence;
use super::{
    FREE, Frame, FrameOwner, Host, NoDmaMapping, NotPinned, OutOfFrames, POISON_WORD, PinReason,
    STEADY, UNMAPPED, UNPINNED,
};
use crate::log::Event;

impl Host {
    /// Takes a pin off a page; the last one lets it move, or frees it if nobody else refers to it.
    ///
    /// # Errors
    ///
    /// [`NotPinned`]: somebody unpinned once too often.
    pub fn unpin(&self, frame: Frame, dirty: bool) -> Result<(), NotPinned> {
        let mut table = self.frames();
        let state = table.state_mut(frame);
        let Some(pins) = state.pins.checked_sub(1) else {
            return Err(NotPinned { frame });
        };
        state.pins = pins;
        state.dirty |= dirty;
        self.log.record(Event::Unpin { frame, pins, dirty });
        self.settle(&mut table, frame);
        Ok(())
    }

    /// Maps pages for the device's accesses, as the DMA API of an operating system does: all or none.
    /// Their bus addresses are what [`bus_address`](Self::bus_address) says. Whatever this thread stores
    /// afterwards, such as an entry that leads a device to them, is seen after what they have now.
    ///
    /// # Errors
    ///
    /// [`NoDmaMapping`] with the first page that could not be mapped.
    pub fn map_for_dma(&self, frames: &[Frame]) -> Result<(), NoDmaMapping> {
        // An entry is stored relaxed, and must not be seen before the zeros or the data of its page.
        fence(Ordering::Release);
        let mut table = self.frames();
        for (mapped, frame) in frames.iter().enumerate() {
            if self.fail_dma_map.hit() {
                self.take_dma_mappings(&mut table, &frames[..mapped]);
                return Err(NoDmaMapping { frame: *frame });
            }
            table.state_mut(*frame).dma_mappings += 1;
            self.settle(&mut table, *frame);
        }
        Ok(())
    }

    /// Takes back what [`map_for_dma`](Self::map_for_dma) did, while the pages are still held.
    ///
    /// # Panics
    ///
    /// Where a page is not mapped: somebody unmapped it once too often.
    pub fn unmap_for_dma(&self, frames: &[Frame]) {
        self.take_dma_mappings(&mut self.frames(), frames);
    }

    fn take_dma_mappings(&self, table: &mut FrameTable, frames: &[Frame]) {
        for frame in frames {
            let state = table.state_mut(*frame);
            let left = state.dma_mappings.checked_sub(1);
            state.dma_mappings = left.expect("the page is mapped for dma");
            self.settle(table, *frame);
        }
    }

    /// The pins on a page.
    #[must_use]
    pub fn pins(&self, frame: Frame) -> u32 {
        self.frames().state(frame).pins
    }

    /// Whether a page was marked dirty since it was handed out.
    #[must_use]
    pub fn is_dirty(&self, frame: Frame) -> bool {
        self.frames().state(frame).dirty
    }

    /// Who has a page.
    #[must_use]
    pub fn owner(&self, frame: Frame) -> FrameOwner {
        self.frames().state(frame).owner
    }

    pub(crate) fn pin_frame(&self, frame: Frame) -> Result<(), PinReason> {
        if self.fail_pin.hit() {
            return Err(PinReason::Injected);
        }
        let mut table = self.frames();
        let state = table.state_mut(frame);
        state.pins += 1;
        let pins = state.pins;
        self.log.record(Event::Pin { frame, pins });
        self.statistics.pins_taken.fetch_add(1, Ordering::Relaxed);
        self.settle(&mut table, frame);
        Ok(())
    }

    /// Moves every page of every process that is not pinned and that only the process refers to; the old
    /// pages are freed and poisoned at once. Returns how many moved. What a busy machine may do to any
    /// such page at any time.
    pub fn reclaim(&self) -> usize {
        let processes: Vec<_> = self.processes().iter().filter_map(Weak::upgrade).collect();
        let mut moved = 0;
        for process in &processes {
            for page in process.space().pages.values_mut() {
                if let Some(to) = self.move_frame(page.frame) {
                    page.frame = to;
                    moved += 1;
                }
            }
        }
        moved
    }

    /// Moves one page if it may move and there is room.
    fn move_frame(&self, from: Frame) -> Option<Frame> {
        let mut table = self.frames();
        let FrameOwner::User(_) = table.state(from).owner else {
            return None;
        };
        if table.state(from).pins > 0 || table.state(from).references != 1 {
            return None;
        }
        let to = table.take()?;
        let state = *table.state(from);
        self.check_poison(&table, to);
        *table.state_mut(to) = frames::FrameState {
            used: true,
            ..state
        };
        self.memory.copy(from, to);
        self.log.record(Event::PageMove { from, to });
        self.statistics.moved.fetch_add(1, Ordering::Relaxed);
        self.settle(&mut table, to);
        table.state_mut(from).references = 0;
        self.settle(&mut table, from);
        Some(to)
    }

    /// Allocates zeroed pages one by one, all or none.
    pub(crate) fn allocate_all(
        &self,
        pages: usize,
        owner: FrameOwner,
    ) -> Result<Vec<Frame>, OutOfFrames> {
        let mut frames = Vec::new();
        for _ in 0..pages {
            let taken = if self.fail_allocation.hit() {
                None
            } else {
                let mut table = self.frames();
                let taken = table.take();
                taken.inspect(|frame| self.hand_out(&mut table, *frame, owner))
            };
            match taken {
                Some(frame) => frames.push(frame),
                None => {
                    self.release_all(&frames);
                    return Err(OutOfFrames);
                }
            }
        }
        if frames.is_empty() {
            return Err(OutOfFrames);
        }
        Ok(frames)
    }

    /// Allocates zeroed contiguous pages.
    pub(crate) fn allocate_run(
        &self,
        pages: usize,
        align: usize,
        owner: FrameOwner,
    ) -> Result<Vec<Frame>, OutOfFrames> {
        let count = u32::try_from(pages).map_err(|_| OutOfFrames)?;
        let align = u32::try_from(align).map_err(|_| OutOfFrames)?;
        if align == 0 || self.fail_allocation.hit() {
            return Err(OutOfFrames);
        }
        let mut table = self.frames();
        let first = table.take_run(count, align).ok_or(OutOfFrames)?;
        let frames: Vec<Frame> = (first.0..first.0 + count).map(Frame).collect();
        for frame in &frames {
            self.hand_out(&mut table, *frame, owner);
        }
        Ok(frames)
    }

    fn hand_out(&self, table: &mut FrameTable, frame: Frame, owner: FrameOwner) {
        self.check_poison(table, frame);
        *table.state_mut(frame) = frames::FrameState {
            owner,
            references: 1,
            pins: 0,
            dma_mappings: 0,
            dirty: false,
            used: true,
        };
        self.memory.fill(frame, 0);
        self.statistics.allocations.fetch_add(1, Ordering::Relaxed);
        self.log.record(Event::PageAllocate { frame, owner });
        self.settle(table, frame);
    }

    fn check_poison(&self, table: &FrameTable, frame: Frame) {
        if table.state(frame).used && !self.is_poisoned(frame) {
            self.statistics
                .poison_damaged
                .fetch_add(1, Ordering::Relaxed);
            self.log.record(Event::PoisonDamaged { frame });
        }
    }

    pub(crate) fn is_poisoned(&self, frame: Frame) -> bool {
        self.memory.is_filled(frame, POISON_WORD)
    }

    pub(crate) fn reference_all(&self, frames: &[Frame]) {
        let mut table = self.frames();
        for frame in frames {
            table.state_mut(*frame).references += 1;
        }
    }

    /// Copies a page into a new one of somebody's, where there is one left.
    pub(crate) fn copy_frame(&self, from: Frame, owner: FrameOwner) -> Result<Frame, OutOfFrames> {
        let copies = self.allocate_all(1, owner)?;
        let copy = *copies.first().ok_or(OutOfFrames)?;
        self.memory.copy(from, copy);
        Ok(copy)
    }

    /// Makes a page somebody's own where nothing else refers to it; whether that is so.
    pub(crate) fn keep_alone(&self, frame: Frame, owner: FrameOwner) -> bool {
        let mut table = self.frames();
        let state = table.state_mut(frame);
        let alone = state.references == 1;
        if alone {
            state.owner = owner;
        }
        alone
    }

    pub(crate) fn release_all(&self, frames: &[Frame]) {
        let mut table = self.frames();
        for frame in frames {
            table.state_mut(*frame).references -= 1;
            self.settle(&mut table, *frame);
        }
    }

    /// Brings a page's state in line with its counts: frees and poisons it when the last one is gone,
    /// and tells device accesses what it is.
    fn settle(&self, table: &mut FrameTable, frame: Frame) {
        let state = table.state_mut(frame);
        let unused = state.references == 0 && state.pins == 0;
        let access = match state.owner {
            _ if unused => FREE,
            FrameOwner::User(_) if state.pins == 0 => UNPINNED,
            FrameOwner::User(_) if state.dma_mappings == 0 => UNMAPPED,
            _ => STEADY,
        };
        self.device_access[frame.0 as usize].store(access, Ordering::Release);
        if unused && state.owner != FrameOwner::Free {
            let owner = core::mem::replace(&mut state.owner, FrameOwner::Free);
            state.dirty = false;
            self.memory.fill(frame, POISON_WORD);
            self.log.record(Event::PageFree { frame, owner });
            table.put(frame);
        }
    }
}
