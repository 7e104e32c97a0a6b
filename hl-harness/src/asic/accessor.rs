//! An initiator that behaves like a processor: small accesses, anywhere, of either kind.

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
            random: fastrand::Rng::with_seed(seed),
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
    pub fn step(&mut self) -> Result<RandomAccess, AccessError> {
        let len = self.random.u64(1..=LONGEST).min(self.window.len());
        let offset = self.random.u64(..=self.window.len() - len);
        let start = DeviceAddr::new(self.window.start().get() + offset);
        let (asic, initiator) = (&self.asic, self.initiator);
        let ordering = len >= 4 && self.random.bool();
        // The window may begin anywhere, and its first bytes need not be a word.
        let aligned = DeviceAddr::new(start.get() & !3);
        let word_at = (ordering && aligned >= self.window.start()).then_some(aligned);
        let written = |start: DeviceAddr, len: u64| -> Vec<u8> {
            let addresses = (start.get()..).take(len as usize);
            addresses
                .map(|address| Self::byte_at(DeviceAddr::new(address), self.mark))
                .collect()
        };
        if self.random.bool() {
            let (address, bytes) = if let Some(at) = word_at {
                let bytes = written(at, 4);
                let word = bytes
                    .iter()
                    .rev()
                    .fold(0, |word, byte| word << 8 | u32::from(*byte));
                asic.store_u32(initiator, at, word)?;
                (at, bytes)
            } else {
                let bytes = written(start, len);
                asic.write(initiator, start, &bytes)?;
                (start, bytes)
            };
            let kind = AccessKind::Write;
            return Ok(RandomAccess {
                address,
                kind,
                bytes,
            });
        }
        let (address, bytes) = if let Some(at) = word_at {
            (at, asic.load_u32(initiator, at)?.to_le_bytes().to_vec())
        } else {
            let mut bytes = vec![0; len as usize];
            asic.read(initiator, start, &mut bytes)?;
            (start, bytes)
        };
        let kind = AccessKind::Read;
        Ok(RandomAccess {
            address,
            kind,
            bytes,
        })
    }
}
