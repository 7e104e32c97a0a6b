//! What was allocated together, and who uses it.

use core::fmt;

use super::PackError;
use super::pages::Chain;
use crate::identity::Identity;
use crate::owner::Owner;

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
/// The number of generations of a record.
const GENERATIONS: u64 = 1 << (u64::BITS - INDEX_BITS);

/// Whether the pages of a pack lie next to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Contiguity {
    /// They form one run.
    Contiguous,
    /// They lie anywhere.
    Scattered,
}

/// Who may map a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Sharing {
    /// Its owner.
    Private,
    /// Whoever knows its handle (facts MD-3).
    Shared,
}

/// A number that names a pack, or any other number from a user.
///
/// The low 20 bits are the number of the pack record plus one, so that handles begin with 1 as the
/// driver's do (facts A-4) and zero is none. The other bits are the generation: a record's first
/// pack has zero there. All 64 bits are compared (facts MM-4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct PackHandle(u64);

impl PackHandle {
    /// The number as it came from the user, unchecked.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number to give to the user.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The handle of a pack in the record that has this number, counted from one.
    const fn compose(generation: u64, number: u64) -> Self {
        Self((generation << INDEX_BITS) | number)
    }

    const fn generation(self) -> u64 {
        self.0 >> INDEX_BITS
    }

    /// The place of the record; `None` for a number that no pack has.
    fn index(self) -> Option<usize> {
        usize::try_from((self.0 & INDEX_MASK).checked_sub(1)?).ok()
    }
}

impl fmt::Display for PackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for PackHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackHandle({:#x})", self.0)
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for PackHandle {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=u64:#x}", self.0);
    }
}

/// A use of a pack, by a mapping or an export, that keeps its pages from being freed.
///
/// Ends with [`DramPool::release`](super::DramPool::release). One that is dropped keeps the pages
/// for ever: that is a leak, which the pool's counters show, and never a reuse of memory that may
/// still be mapped.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the pages stay allocated until the hold is released"]
pub struct DramHold {
    pub(super) handle: PackHandle,
    pub(super) pool: Identity,
}

/// What a pool tells about a pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct PackInfo {
    /// The owner; `None` for an orphan, whose owner is gone and which its holds keep alive.
    pub owner: Option<Owner>,
    /// Who may map the pack.
    pub sharing: Sharing,
    /// The number of pages.
    pub pages: u32,
    /// The number of mappings and exports.
    pub holds: u32,
    /// Whether it was allocated before the memory [lost its content](super::DramPool::lose_content).
    pub lost: bool,
}

/// A place for one pack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PackRecord {
    /// Of the pack that is here or, in a vacant record, of the one that comes next.
    generation: u64,
    pack: Option<Pack>,
}

impl PackRecord {
    /// A place that has never been used.
    pub const EMPTY: Self = Self {
        generation: 0,
        pack: None,
    };
}

#[cfg(test)]
impl PackRecord {
    /// Leaves so many generations.
    pub(super) fn wear(&mut self, left: u64) {
        self.generation = GENERATIONS - left;
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Pack {
    pub(super) owner: Option<Owner>,
    pub(super) sharing: Sharing,
    pub(super) pages: u32,
    pub(super) holds: u32,
    /// Its pages have lost what was in them, and nobody knows what they have instead.
    pub(super) lost: bool,
    pub(super) chain: Chain,
}

impl Pack {
    pub(super) const fn info(&self) -> PackInfo {
        PackInfo {
            owner: self.owner,
            sharing: self.sharing,
            pages: self.pages,
            holds: self.holds,
            lost: self.lost,
        }
    }
}

/// The pack records.
#[derive(Debug)]
pub(super) struct Packs<'s> {
    records: &'s mut [PackRecord],
    /// No record below this one is vacant, unless it is worn out.
    vacant: usize,
}

impl<'s> Packs<'s> {
    /// Empties all records. Handles of packs that were in them stay stale.
    pub(super) fn new(records: &'s mut [PackRecord]) -> Self {
        let count = records.len().min(INDEX_MASK as usize);
        let records = records.get_mut(..count).unwrap_or_default();
        for record in records.iter_mut() {
            if record.pack.take().is_some() {
                record.generation += 1;
            }
        }
        Self { records, vacant: 0 }
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> &[PackRecord] {
        self.records
    }

    /// Checks what is remembered against the records.
    #[cfg(test)]
    pub(super) fn audit(&self) {
        let first = self.records.iter().position(|record| record.pack.is_none());
        assert!(first.is_none_or(|first| first >= self.vacant));
    }

    pub(super) fn records(&self) -> u32 {
        self.records.len() as u32
    }

    /// The handle that the next pack will have; `None` where every record is in use or worn out.
    pub(super) fn vacancy(&mut self) -> Option<PackHandle> {
        let is_vacant =
            |record: &PackRecord| record.pack.is_none() && record.generation < GENERATIONS;
        let skipped = self.records.iter().skip(self.vacant);
        self.vacant += skipped.take_while(|record| !is_vacant(record)).count();
        let record = self.records.get(self.vacant)?;
        Some(PackHandle::compose(
            record.generation,
            self.vacant as u64 + 1,
        ))
    }

    pub(super) fn insert(&mut self, handle: PackHandle, pack: Pack) {
        if let Some(record) = handle.index().and_then(|index| self.records.get_mut(index)) {
            record.pack = Some(pack);
        }
    }

    /// The pack of a handle from a user.
    pub(super) fn find(&mut self, handle: PackHandle) -> Result<&mut Pack, PackError> {
        let record = handle
            .index()
            .and_then(|index| self.records.get_mut(index))
            .ok_or(PackError::Unknown)?;
        if handle.generation() < record.generation {
            return Err(PackError::Stale);
        }
        match &mut record.pack {
            Some(pack) if handle.generation() == record.generation => match pack.owner {
                Some(_) => Ok(pack),
                None => Err(PackError::Stale),
            },
            _ => Err(PackError::Unknown),
        }
    }

    /// The pack of a hold, orphan or not.
    pub(super) fn held(&self, handle: PackHandle) -> Option<&Pack> {
        let record = self.records.get(handle.index()?)?;
        let pack = record.pack.as_ref()?;
        (handle.generation() == record.generation && pack.holds > 0).then_some(pack)
    }

    /// The pack of a hold, orphan or not, to be changed.
    pub(super) fn held_mut(&mut self, handle: PackHandle) -> Option<&mut Pack> {
        let record = self.records.get_mut(handle.index()?)?;
        let pack = record.pack.as_mut()?;
        (handle.generation() == record.generation && pack.holds > 0).then_some(pack)
    }

    /// Ends the pack of a handle that has been found.
    pub(super) fn remove(&mut self, handle: PackHandle) -> Option<Pack> {
        let index = handle.index()?;
        let record = self.records.get_mut(index)?;
        let pack = record.pack.take()?;
        record.generation += 1;
        self.vacant = self.vacant.min(index);
        Some(pack)
    }

    /// The pack in a record, to be changed.
    pub(super) fn at(&mut self, index: u32) -> Option<(PackHandle, &mut Pack)> {
        let record = self.records.get_mut(usize::try_from(index).ok()?)?;
        let handle = PackHandle::compose(record.generation, u64::from(index) + 1);
        Some((handle, record.pack.as_mut()?))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PackHandle, &Pack)> {
        self.records
            .iter()
            .zip(1u64..)
            .filter_map(|(record, number)| {
                let handle = PackHandle::compose(record.generation, number);
                Some((handle, record.pack.as_ref()?))
            })
    }
}
