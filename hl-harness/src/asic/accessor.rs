//! An initiator that behaves like a processor: small accesses, anywhere, of either kind.

use core::fmt;
use std::sync::Arc;

use mmu_core::{AddrRange, DeviceAddr};

use super::Asic;
use super::fault::{AccessError, AccessKind, InitiatorId};

/// The longest access in bytes: a cache line.
const LONGEST: u64 = 64;

/// Reads and writes a few bytes at a time at random addresses of a window, always the same ones for
/// the same seed. Accesses may cross pages, and the four-byte ones at aligned addresses are those that
/// order memory ([`Asic::load_u32`], [`Asic::store_u32`]).
///
/// What it writes says who wrote it and where, so that a stray write is known wherever it turns up.
#[derive(Clone, Debug)]
pub struct RandomAccessor {
    asic: Arc<Asic>,
    initiator: InitiatorId,
    window: AddrRange<DeviceAddr>,
    mark: u8,
    /// Its only kind of access, where it does not make both.
    only: Option<AccessKind>,
    random: fastrand::Rng,
}

/// An access that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomAccess {
    /// Where.
    pub address: DeviceAddr,
    /// What it did there.
    pub kind: AccessKind,
    /// The bytes that were read or written.
    pub bytes: Vec<u8>,
}

/// An access that did not end, and what of it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAccess {
    /// The access, with the bytes that moved before it stopped.
    pub made: RandomAccess,
    /// Why it stopped.
    pub error: AccessError,
}

impl fmt::Display for RefusedAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RandomAccess { address, kind, .. } = &self.made;
        write!(f, "{kind} at {address} {}", self.error)
    }
}

impl core::error::Error for RefusedAccess {}

impl RandomAccessor {
    /// Accesses of `initiator`, in the mode that it has then, to addresses of `window`. `mark` goes
    /// into what it writes.
    #[must_use]
    pub fn new(
        asic: &Arc<Asic>,
        initiator: InitiatorId,
        window: AddrRange<DeviceAddr>,
        mark: u8,
        seed: u64,
    ) -> Self {
        Self {
            asic: Arc::clone(asic),
            initiator,
            window,
            mark,
            only: None,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Makes accesses of one kind only, at the addresses where it would have made both.
    #[must_use]
    pub fn only(self, kind: AccessKind) -> Self {
        Self {
            only: Some(kind),
            ..self
        }
    }

    /// The byte that an accessor with this mark writes to an address.
    #[must_use]
    pub fn byte_at(address: DeviceAddr, mark: u8) -> u8 {
        let [low, middle, ..] = (address.get() >> 2).to_le_bytes();
        low.wrapping_mul(31) ^ middle ^ mark
    }

    /// Makes the next access.
    ///
    /// # Errors
    ///
    /// The first fault, or the loss of the device, with the bytes that came before. The accessor goes on
    /// with its next access all the same.
    pub fn step(&mut self) -> Result<RandomAccess, RefusedAccess> {
        let len = self.random.u64(1..=LONGEST).min(self.window.len());
        let offset = self.random.u64(..=self.window.len() - len);
        let start = DeviceAddr::new(self.window.start().get() + offset);
        let ordering = len >= 4 && self.random.bool();
        // The window may begin anywhere, and its first bytes need not be a word.
        let aligned = DeviceAddr::new(start.get() & !3);
        let ordering = ordering && aligned >= self.window.start();
        let (address, len) = if ordering { (aligned, 4) } else { (start, len) };
        let chosen = match self.random.bool() {
            true => AccessKind::Write,
            false => AccessKind::Read,
        };
        let kind = self.only.unwrap_or(chosen);
        let mut bytes = match kind {
            AccessKind::Read => vec![0; len as usize],
            AccessKind::Write => (address.get()..)
                .take(len as usize)
                .map(|address| Self::byte_at(DeviceAddr::new(address), self.mark))
                .collect(),
        };
        let done = self.access(kind, ordering, address, &mut bytes);
        if let Err(error) = &done {
            bytes.truncate(error.bytes_done as usize);
        }
        let made = RandomAccess {
            address,
            kind,
            bytes,
        };
        match done {
            Ok(()) => Ok(made),
            Err(error) => Err(RefusedAccess { made, error }),
        }
    }

    fn access(
        &self,
        kind: AccessKind,
        ordering: bool,
        address: DeviceAddr,
        bytes: &mut [u8],
    ) -> Result<(), AccessError> {
        let (asic, initiator) = (&self.asic, self.initiator);
        match (kind, <&mut [u8; 4]>::try_from(&mut *bytes)) {
            (AccessKind::Read, Ok(word)) if ordering => {
                *word = asic.load_u32(initiator, address)?.to_le_bytes();
                Ok(())
            }
            (AccessKind::Write, Ok(word)) if ordering => {
                asic.store_u32(initiator, address, u32::from_le_bytes(*word))
            }
            (AccessKind::Read, _) => asic.read(initiator, address, bytes),
            (AccessKind::Write, _) => asic.write(initiator, address, bytes),
        }
    }
}
