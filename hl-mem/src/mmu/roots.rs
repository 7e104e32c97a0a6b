//! Which root table each ASID was given.

use mmu_core::BusAddr;
use mmu_core::format::TABLE_BYTES;

use crate::asid::Asid;

use super::MmuError;

/// What is known of the translations made under one ASID.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Record {
    /// There are none, and its root is the parking table.
    Clean,
    /// They are of the tables below this root, which it has.
    Live(BusAddr),
    /// They are of the tables below this root, but it has the parking table now.
    Leaving(BusAddr),
    /// It was not seen to take over its last root.
    Unknown,
}

/// Under which ASIDs the translations of a root can be cached.
#[derive(Debug)]
pub(super) struct Roots<const ASIDS: usize> {
    records: [Record; ASIDS],
    /// Translations may be cached under an ASID of which the record says otherwise.
    strays: bool,
}

impl<const ASIDS: usize> Roots<ASIDS> {
    const FITS_THE_HARDWARE: () = assert!(
        ASIDS > 0 && ASIDS <= Asid::LIMIT as usize,
        "the hardware has 10 bits for an ASID"
    );

    /// For caches that are empty, all ASIDs having the parking table or being about to get it.
    pub(super) const fn new() -> Self {
        let () = Self::FITS_THE_HARDWARE;
        Self {
            records: [Record::Clean; ASIDS],
            strays: false,
        }
    }

    /// Every ASID there is.
    pub(super) fn asids() -> impl Iterator<Item = Asid> {
        (0..ASIDS).filter_map(|number| Asid::new(u16::try_from(number).ok()?))
    }

    /// Notes that an ASID is about to get another root, and yields what was known of it until now.
    pub(super) fn begin(&mut self, asid: Asid) -> Result<Record, MmuError> {
        let record = self
            .records
            .get_mut(usize::from(asid.get()))
            .ok_or(MmuError::AsidOutOfRange { asid })?;
        Ok(core::mem::replace(record, Record::Unknown))
    }

    /// Notes that it got `root`, or the parking table.
    pub(super) fn finish(&mut self, asid: Asid, before: Record, root: Option<BusAddr>) {
        let now = match (before, root) {
            (Record::Live(old) | Record::Leaving(old), None) => Record::Leaving(old),
            (Record::Live(old) | Record::Leaving(old), Some(new)) => {
                self.strays |= old != new;
                Record::Live(new)
            }
            (Record::Clean, None) => Record::Clean,
            (Record::Clean, Some(new)) => Record::Live(new),
            (Record::Unknown, root) => {
                self.strays = true;
                root.map_or(Record::Clean, Record::Live)
            }
        };
        if let Some(record) = self.records.get_mut(usize::from(asid.get())) {
            *record = now;
        }
    }

    /// Notes that all caches were emptied.
    pub(super) fn all_forgotten(&mut self) {
        self.strays = false;
        for record in &mut self.records {
            if matches!(record, Record::Leaving(_)) {
                *record = Record::Clean;
            }
        }
    }

    /// The only ASID under which translations of the tables below `root` can be cached; `None`
    /// where there may be none, several, or others than are recorded.
    pub(super) fn only_asid_of(&self, root: BusAddr) -> Option<Asid> {
        if self.strays || self.records.contains(&Record::Unknown) {
            return None;
        }
        let mut found = Self::asids().zip(&self.records).filter(|&(_, &record)| {
            record == Record::Live(root) || record == Record::Leaving(root)
        });
        let (only, _) = found.next()?;
        found.next().is_none().then_some(only)
    }
}

/// The two halves of a root's address as the registers take them (facts PT-6), for hardware that
/// has `bits` address bits.
pub(super) fn root_halves(root: BusAddr, bits: u32) -> Result<(u32, u32), MmuError> {
    let beyond = root.get().checked_shr(bits).unwrap_or(0);
    if beyond != 0 || !root.is_multiple_of(TABLE_BYTES) {
        return Err(MmuError::UnusableRoot { root });
    }
    Ok(low_and_high(root.get(), 12))
}

/// Bits `shift + 31..=shift` and the 32 bits above them.
pub(super) fn low_and_high(address: u64, shift: u32) -> (u32, u32) {
    let low = address.checked_shr(shift).unwrap_or(0);
    // Truncation is the point: the registers hold 32 bits each.
    (low as u32, (low >> 32) as u32)
}
