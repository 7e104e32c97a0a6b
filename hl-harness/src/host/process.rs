//! User processes: address spaces, memory, pinning.

mod fork;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{
    FRAME_SIZE, Frame, FrameOwner, Host, KernelBlock, MapError, OutOfFrames, Permission, PinError,
    PinReason, ProcessId, UserAddress, UserFault, View,
};

const PAGE: u64 = FRAME_SIZE as u64;

/// The first address handed out; below it nothing is ever mapped unasked.
const FIRST: u64 = 0x7F00_0000_0000;

/// What the device will do with pinned memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinAccess {
    /// It only reads: read-only pages will do.
    Read,
    /// It may write.
    Write,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct UserPage {
    pub(crate) frame: Frame,
    permission: Permission,
    /// A parent or a child may have it too, so that it is not to be written before it is copied.
    shared: bool,
}

impl UserPage {
    const fn new(frame: Frame, permission: Permission) -> Self {
        Self {
            frame,
            permission,
            shared: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct AddressSpace {
    /// By page number.
    pub(crate) pages: BTreeMap<u64, UserPage>,
    next: u64,
}

/// Where a mapping goes.
#[derive(Clone, Copy)]
enum Place {
    At(UserAddress),
    /// Behind all others, at a multiple of so many bytes.
    Anywhere {
        align: u64,
    },
}

impl Place {
    const PAGE_ALIGNED: Self = Self::Anywhere { align: PAGE };
}

#[derive(Debug)]
pub(crate) struct Shared {
    host: Arc<Host>,
    id: ProcessId,
    space: Mutex<AddressSpace>,
}

impl Shared {
    pub(crate) fn space(&self) -> MutexGuard<'_, AddressSpace> {
        self.space.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let space = self.space.get_mut().unwrap_or_else(PoisonError::into_inner);
        let frames: Vec<Frame> = space.pages.values().map(|page| page.frame).collect();
        self.host.release_all(&frames);
    }
}

/// A process. Clones are handles to the same one; with the last its memory goes, except pages that are
/// pinned, which go with their last pin.
#[derive(Clone, Debug)]
pub struct Process {
    shared: Arc<Shared>,
}

impl Process {
    pub(crate) fn new(host: &Arc<Host>, id: ProcessId) -> (Self, Arc<Shared>) {
        let shared = Arc::new(Shared {
            host: Arc::clone(host),
            id,
            space: Mutex::new(AddressSpace {
                pages: BTreeMap::new(),
                next: FIRST,
            }),
        });
        let process = Self {
            shared: Arc::clone(&shared),
        };
        (process, shared)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.shared.id
    }

    /// Maps `pages` fresh zeroed pages at an address the host chooses. An unmapped page follows.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfFrames`], [`MapError::BadRange`] for no pages.
    pub fn map(&self, pages: usize, permission: Permission) -> Result<UserAddress, MapError> {
        self.map_frames(Place::PAGE_ALIGNED, pages, permission, |host, owner| {
            host.allocate_all(pages, owner)
        })
    }

    /// Maps `pages` fresh zeroed pages at `address`.
    ///
    /// # Errors
    ///
    /// [`MapError`], each of them.
    pub fn map_at(
        &self,
        address: UserAddress,
        pages: usize,
        permission: Permission,
    ) -> Result<(), MapError> {
        self.map_frames(Place::At(address), pages, permission, |host, owner| {
            host.allocate_all(pages, owner)
        })?;
        Ok(())
    }

    /// Maps `pages` physically contiguous pages, the address and the first page both multiples of
    /// `align_pages` pages: 512 and 512 make a huge page of 2 MiB.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfFrames`] where there is no such run, [`MapError::BadRange`] for no pages or an
    /// alignment of 0.
    pub fn map_contiguous(
        &self,
        pages: usize,
        align_pages: usize,
        permission: Permission,
    ) -> Result<UserAddress, MapError> {
        let align = (align_pages as u64).checked_mul(PAGE);
        let align = align.filter(|align| *align > 0).ok_or(MapError::BadRange)?;
        self.map_frames(
            Place::Anywhere { align },
            pages,
            permission,
            |host, owner| host.allocate_run(pages, align_pages, owner),
        )
    }

    /// Maps a block of the kernel: what `mmap` of a handle does. The process holds references on the
    /// pages until it unmaps them.
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`] where the address space is full.
    pub fn map_block(
        &self,
        block: &KernelBlock,
        permission: Permission,
    ) -> Result<UserAddress, MapError> {
        let frames = block.frames();
        self.map_frames(Place::PAGE_ALIGNED, frames.len(), permission, |host, _| {
            host.reference_all(frames);
            Ok(frames.to_vec())
        })
    }

    /// Gives `child` the same pages of a range at the same addresses with the same permissions: what a
    /// fork does to a shared mapping.
    ///
    /// # Errors
    ///
    /// [`MapError::BadRange`] where a page of the range is not mapped; [`MapError::Occupied`] where the
    /// child has something there. The child is then as it was.
    pub fn copy_to(
        &self,
        child: &Self,
        address: UserAddress,
        pages: usize,
    ) -> Result<(), MapError> {
        let range = page_range(address, pages).ok_or(MapError::BadRange)?;
        let copies: Vec<UserPage> = {
            let space = self.shared.space();
            let pages = range.clone().map(|page| space.pages.get(&page).copied());
            pages.collect::<Option<_>>().ok_or(MapError::BadRange)?
        };
        let frames: Vec<Frame> = copies.iter().map(|page| page.frame).collect();
        child.map_frames(
            Place::At(address),
            pages,
            Permission::ReadOnly,
            |host, _| {
                host.reference_all(&frames);
                Ok(frames.clone())
            },
        )?;
        let mut space = child.shared.space();
        space.pages.extend(range.zip(copies));
        Ok(())
    }

    fn map_frames(
        &self,
        place: Place,
        pages: usize,
        permission: Permission,
        get: impl FnOnce(&Host, FrameOwner) -> Result<Vec<Frame>, OutOfFrames>,
    ) -> Result<UserAddress, MapError> {
        let mut space = self.shared.space();
        let start = match place {
            Place::At(address) => address.get(),
            Place::Anywhere { align } => {
                let next = space.next.checked_next_multiple_of(align);
                next.ok_or(MapError::BadRange)?
            }
        };
        let range = page_range(UserAddress::new(start), pages).ok_or(MapError::BadRange)?;
        if let Some((page, _)) = space.pages.range(range.clone()).next() {
            let address = UserAddress::new(page * PAGE);
            return Err(MapError::Occupied { address });
        }
        let frames = get(&self.shared.host, FrameOwner::User(self.shared.id))?;
        // One page stays unmapped behind every mapping, so that running over the end is a fault.
        space.next = space.next.max((range.end + 1) * PAGE);
        for (page, frame) in range.zip(frames) {
            space.pages.insert(page, UserPage::new(frame, permission));
        }
        Ok(UserAddress::new(start))
    }

    /// Unmaps every page of the range that is mapped; returns how many were.
    pub fn unmap(&self, address: UserAddress, pages: usize) -> usize {
        let Some(range) = page_range(address, pages) else {
            return 0;
        };
        let mut space = self.shared.space();
        let numbers: Vec<u64> = space.pages.range(range).map(|(page, _)| *page).collect();
        let gone = numbers.iter().filter_map(|page| space.pages.remove(page));
        let frames: Vec<Frame> = gone.map(|page| page.frame).collect();
        self.shared.host.release_all(&frames);
        frames.len()
    }

    /// Unmaps everything: what exit does to memory.
    pub fn exit(&self) {
        let pages = std::mem::take(&mut self.shared.space().pages);
        let frames: Vec<Frame> = pages.values().map(|page| page.frame).collect();
        self.shared.host.release_all(&frames);
    }

    /// Puts fresh zeroed pages in the place of mapped ones: `munmap` and `mmap` at the same address.
    /// Pinned pages live on, elsewhere than the process looks.
    ///
    /// # Errors
    ///
    /// [`MapError::OutOfFrames`], [`MapError::BadRange`]; the old pages stay.
    pub fn replace(
        &self,
        address: UserAddress,
        pages: usize,
        permission: Permission,
    ) -> Result<(), MapError> {
        let range = page_range(address, pages).ok_or(MapError::BadRange)?;
        let mut space = self.shared.space();
        let owner = FrameOwner::User(self.shared.id);
        let frames = self.shared.host.allocate_all(pages, owner)?;
        let fresh = range.zip(frames).filter_map(|(page, frame)| {
            let old = space.pages.insert(page, UserPage::new(frame, permission));
            old.map(|page| page.frame)
        });
        let old: Vec<Frame> = fresh.collect();
        self.shared.host.release_all(&old);
        Ok(())
    }

    /// Sets what the process may do with the mapped pages of a range; returns how many there are.
    pub fn protect(&self, address: UserAddress, pages: usize, permission: Permission) -> usize {
        let Some(range) = page_range(address, pages) else {
            return 0;
        };
        let mut space = self.shared.space();
        let found = space.pages.range_mut(range);
        found.map(|(_, page)| page.permission = permission).count()
    }

    /// The page behind an address.
    #[must_use]
    pub fn frame_at(&self, address: UserAddress) -> Option<Frame> {
        let space = self.shared.space();
        let page = space.pages.get(&(address.get() / PAGE))?;
        Some(page.frame)
    }

    // --- pinning ---

    /// Pins `pages` pages from the page of `address` on: they stay where they are until unpinned with
    /// [`Host::unpin`], whatever the process does.
    ///
    /// # Errors
    ///
    /// [`PinError`] with the first page that could not be pinned; the pins taken before are returned.
    pub fn pin(
        &self,
        address: UserAddress,
        pages: usize,
        access: PinAccess,
    ) -> Result<Vec<Frame>, PinError> {
        let mut pinned = Vec::new();
        let result = self.pin_each(address, pages, access, |frame| pinned.push(frame));
        match result {
            Ok(()) => Ok(pinned),
            Err(error) => {
                for frame in &pinned {
                    // Each was pinned just above, so it has a pin to give back.
                    let _ = self.shared.host.unpin(*frame, false);
                }
                Err(error)
            }
        }
    }

    /// Pins page by page, telling `each` of every pin taken. An error leaves the pins taken.
    ///
    /// # Errors
    ///
    /// [`PinError`] with the first page that could not be pinned.
    pub fn pin_each(
        &self,
        address: UserAddress,
        pages: usize,
        access: PinAccess,
        mut each: impl FnMut(Frame),
    ) -> Result<(), PinError> {
        let start = UserAddress::new(address.get() / PAGE * PAGE);
        let range = page_range(start, pages).ok_or(PinError {
            address,
            reason: PinReason::Hole,
        })?;
        // The lock keeps reclaim from moving a page between the look-up and its pin.
        let mut space = self.shared.space();
        for number in range {
            let fail = |reason| PinError {
                address: UserAddress::new(number * PAGE),
                reason,
            };
            let page = space.pages.get_mut(&number).ok_or(fail(PinReason::Hole))?;
            if access == PinAccess::Write && page.permission == Permission::ReadOnly {
                return Err(fail(PinReason::ReadOnly));
            }
            let alone = self.unshare(page);
            alone.map_err(|OutOfFrames| fail(PinReason::OutOfFrames))?;
            self.shared.host.pin_frame(page.frame).map_err(fail)?;
            each(page.frame);
        }
        Ok(())
    }

    // --- the process's own accesses ---

    /// Reads the process's memory.
    ///
    /// # Errors
    ///
    /// [`UserFault::Hole`]; bytes before it were read.
    pub fn read(&self, address: UserAddress, buffer: &mut [u8]) -> Result<(), UserFault> {
        let len = buffer.len();
        self.each_page(address, len, false, |offset, done, count| {
            let memory = &self.shared.host.memory;
            memory.read(offset, &mut buffer[done..done + count]);
        })
    }

    /// Writes the process's memory.
    ///
    /// # Errors
    ///
    /// [`UserFault::Hole`], [`UserFault::ReadOnly`], [`UserFault::OutOfFrames`]; bytes before it were
    /// written.
    pub fn write(&self, address: UserAddress, bytes: &[u8]) -> Result<(), UserFault> {
        self.each_page(address, bytes.len(), true, |offset, done, count| {
            let memory = &self.shared.host.memory;
            memory.write(offset, &bytes[done..done + count]);
        })
    }

    /// Loads an aligned 32-bit number of the process, acquiring.
    ///
    /// # Errors
    ///
    /// [`UserFault::Hole`], [`UserFault::Misaligned`].
    pub fn load_u32(&self, address: UserAddress) -> Result<u32, UserFault> {
        let mut value = 0;
        check_aligned(address)?;
        self.each_page(address, 4, false, |offset, _, _| {
            value = self.shared.host.memory.load_u32(offset);
        })?;
        Ok(value)
    }

    /// Stores an aligned 32-bit number of the process, releasing.
    ///
    /// # Errors
    ///
    /// [`UserFault`], each of them.
    pub fn store_u32(&self, address: UserAddress, value: u32) -> Result<(), UserFault> {
        check_aligned(address)?;
        self.each_page(address, 4, true, |offset, _, _| {
            self.shared.host.memory.store_u32(offset, value);
        })
    }

    /// Maps the process's memory into this program as [`Host::view`] does, with the process's permissions, so that
    /// a thread can play the process without locks.
    ///
    /// # Errors
    ///
    /// What `mmap` of the machine says; `InvalidInput` where a page of the range is not mapped.
    pub fn view(&self, address: UserAddress, pages: usize) -> io::Result<View> {
        let hole = || io::Error::from(io::ErrorKind::InvalidInput);
        let range = page_range(address, pages).ok_or_else(hole)?;
        let space = self.shared.space();
        let mut frames = Vec::new();
        let mut writable = Vec::new();
        for number in range {
            let page = space.pages.get(&number).ok_or_else(hole)?;
            frames.push(page.frame);
            writable.push(page.permission == Permission::ReadWrite);
        }
        View::new(&self.shared.host, &frames, writable)
    }

    /// Visits the parts of a range page by page: byte offset into physical memory, bytes before, bytes.
    fn each_page(
        &self,
        address: UserAddress,
        len: usize,
        write: bool,
        mut visit: impl FnMut(usize, usize, usize),
    ) -> Result<(), UserFault> {
        // Under the lock, so that no page is moved while it is being read or written.
        let mut space = self.shared.space();
        let mut done = 0;
        while done < len {
            let at = address.offset(done as u64);
            let within = (at.get() % PAGE) as usize;
            let count = (len - done).min(FRAME_SIZE - within);
            let page = space.pages.get_mut(&(at.get() / PAGE));
            let page = page.ok_or(UserFault::Hole { address: at })?;
            if write && page.permission == Permission::ReadOnly {
                return Err(UserFault::ReadOnly { address: at });
            }
            if write {
                let alone = self.unshare(page);
                alone.map_err(|OutOfFrames| UserFault::OutOfFrames { address: at })?;
            }
            visit(
                page.frame.number() as usize * FRAME_SIZE + within,
                done,
                count,
            );
            done += count;
        }
        Ok(())
    }
}

fn check_aligned(address: UserAddress) -> Result<(), UserFault> {
    if address.is_multiple_of(4) {
        Ok(())
    } else {
        Err(UserFault::Misaligned { address })
    }
}

/// The page numbers of a range; `None` where it is empty, misaligned or wraps.
fn page_range(address: UserAddress, pages: usize) -> Option<std::ops::Range<u64>> {
    let first = address.get() / PAGE;
    let end = first.checked_add(pages as u64)?;
    let whole = address.is_multiple_of(PAGE) && pages > 0 && end <= u64::MAX / PAGE;
    whole.then_some(first..end)
}
