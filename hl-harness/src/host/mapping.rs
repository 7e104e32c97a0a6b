//! The unsafe code of the host model: real mappings of the memory file, as slices of words.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use super::FRAME_SIZE;
use crate::words::WORD;

/// The host's physical memory: a file in memory whose size is sealed.
#[derive(Debug)]
pub(crate) struct MemoryFile {
    file: OwnedFd,
    frames: usize,
}

impl MemoryFile {
    /// A zeroed file of so many frames. Takes no memory until touched.
    pub(crate) fn new(frames: usize) -> io::Result<Self> {
        if rustix::param::page_size() != FRAME_SIZE {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the host model maps frames of 4 KiB; this machine's pages are larger",
            ));
        }
        let name = CString::from(c"host-model");
        let file =
            rustix::fs::memfd_create(&name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, (frames * FRAME_SIZE) as u64)?;
        // Nobody can shrink it, so no mapped page can ever disappear under a reader.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(Self { file, frames })
    }
}

/// Consecutive frames of the file, mapped alike.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) first: usize,
    pub(crate) frames: usize,
    pub(crate) writable: bool,
}

/// Pieces of the file, mapped one behind the other into this process. Unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread: any thread may use or unmap it, and the
// value is its only owner.
unsafe impl Send for Mapping {}
// SAFETY: a shared reference gives out nothing but `&[AtomicU64]`, which is `Sync`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `pieces` in order.
    pub(crate) fn new(file: &MemoryFile, pieces: &[Piece]) -> io::Result<Self> {
        let frames: usize = pieces.iter().map(|piece| piece.frames).sum();
        let bytes = frames * FRAME_SIZE;
        // SAFETY: a null hint with no MAP_FIXED lets the kernel choose unused addresses, so nothing
        // that exists is replaced. Zero bytes are refused with an error.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        }?;
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        // From here on the reservation is unmapped on every way out.
        let mapping = Self { base, bytes };
        let mut at = 0;
        for piece in pieces {
            assert!(
                piece.first + piece.frames <= file.frames,
                "{piece:?} is not in a file of {} frames",
                file.frames
            );
            let len = piece.frames * FRAME_SIZE;
            let protection = if piece.writable {
                ProtFlags::READ | ProtFlags::WRITE
            } else {
                ProtFlags::READ
            };
            let place = base.as_ptr().cast::<u8>().wrapping_add(at).cast();
            // SAFETY: MAP_FIXED replaces what is at `place`, which is `len` bytes of the reservation
            // made above: the lengths of all pieces add up to `bytes`. Nothing refers to it yet. The
            // file range exists (asserted) and cannot be cut off (sealed).
            unsafe {
                rustix::mm::mmap(
                    place,
                    len,
                    protection,
                    MapFlags::SHARED | MapFlags::FIXED,
                    &file.file,
                    (piece.first * FRAME_SIZE) as u64,
                )
            }?;
            at += len;
        }
        Ok(mapping)
    }

    /// The mapped memory. Words of pieces mapped read-only must only be loaded, relaxed.
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is page-aligned and points to `bytes` mapped, readable bytes, initialised by
        // the kernel, that stay mapped while `self` is borrowed. They are shared, with other mappings
        // of the same file too, and every one of those is accessed through this function, so only by
        // atomics of one size; `AtomicU64` allows for that. The length cannot exceed isize::MAX: the
        // kernel mapped it.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.bytes / WORD) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped exactly these bytes, this value owns them, and no slice of them is
        // left, since those borrow from it.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}
