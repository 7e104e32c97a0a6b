//! The handles that an open file gives its user instead of objects.
//!
//! A [`HandleTable`] belongs to one open file. It keeps the file's objects, command buffers and
//! blocks and so on, and names each by a [`RawHandle`]: an opaque number for the user, who passes
//! it back to requests and, as the offset, to `mmap`. What comes back may be anything; only the
//! full 64 bits of a handle that names a live object of the expected kind find that object
//! (hazard HZ-17), and nothing else has an effect. What is shown of such objects is in
//! [views](crate::guide::views).
//!
//! ```
//! use hl_mem::handle::{HandleError, HandleKind, HandleSlot, HandleTable};
//!
//! let slots = [const { HandleSlot::new() }; 8];
//! let mut table = HandleTable::new(slots, 1);
//!
//! // A place first, then whatever else the object needs; the handle exists when the object does.
//! let reservation = table.reserve(HandleKind::Block)?;
//! let handle = table.publish(reservation, "a block")?;
//!
//! assert_eq!(table.get(handle, HandleKind::Block), Ok(&"a block"));
//! assert_eq!(table.remove(handle, HandleKind::Block), Ok("a block"));
//! assert_eq!(table.remove(handle, HandleKind::Block), Err(HandleError::Stale));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Layout
//!
//! | bits | what | source |
//! |---|---|---|
//! | 63:59 | the kind: [`TimestampPool`](HandleKind::TimestampPool) 0x10, [`Block`](HandleKind::Block) 0x8, [`RegisterBlock`](HandleKind::RegisterBlock) 0x4, [`CommandBuffer`](HandleKind::CommandBuffer) 0x2 | facts MM-3; 0x8 is ours |
//! | 58:28 | the generation of the slot | |
//! | 27:12 | the slot | |
//! | 11:0 | zero, so that the handle is an offset in pages of 4 KiB | facts MM-3 |
//!
//! The driver has no type code for a producer/consumer block. 0x8 (bit 62) is unused in its
//! layout; 0x1 was once given to completion queues of the network ports in patches outside the
//! tree, hence not that.
//!
//! The driver puts its number in bits 44:12 and ignores bits 58:45 and more (facts MM-4). Those
//! belong to the generation here: in 33 bits slot and generation would wear out, with all 47 a
//! file can create 2^31 objects per slot. The driver's users treat the number as opaque.
//!
//! # Generations
//!
//! A slot has another generation for each object it ever held, so no handle is ever used twice. A
//! slot that has had all 2^31 is retired: better one slot less than a handle that means something
//! else than it did. Slots are used in turn, longest vacant first, which spreads the wear.
//!
//! Where the generations start depends on the `salt` of the table, so that a handle of another file
//! does not by chance name something in this one. That guards against mistakes. Against intent it
//! need not guard: a table holds only what belongs to the holder of the file.
//!
//! # Two steps
//!
//! [`reserve`](HandleTable::reserve) sets a place aside and nothing more: which slot it will be,
//! and so the handle's value, is decided by [`publish`](HandleTable::publish), which needs the
//! object. A half-made object therefore has no handle that anyone could guess (facts MM-6, hazard
//! HZ-18), and giving up leaves no trace. The caller's lock is needed for each step, not between.
//!
//! The table owns its objects. Removing one hands it to the caller and ends the handle at once,
//! whoever else still uses the object; nothing is left to be put twice at close (facts MM-10,
//! hazard HZ-19).

use core::fmt;
use core::marker::PhantomData;

use crate::identity::Identity;

mod error;
mod raw;
#[cfg(test)]
mod tests;

pub use error::{ForeignReservation, HandleError, TableFull};
pub use raw::{HandleKind, RawHandle};

use raw::{GENERATIONS, MAX_SLOTS};

/// Ends the list of vacant slots.
const NONE: u32 = u32::MAX;

/// A place in a table for an object that is being made.
///
/// Ends with [`HandleTable::publish`] or [`HandleTable::cancel`]. One that is dropped keeps its
/// place from being used, as [`HandleTable::reserved`] shows.
#[derive(PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use = "the place stays set aside until the reservation is published or cancelled"]
pub struct Reservation {
    kind: HandleKind,
    table: Identity,
}

/// A place for one object.
#[cfg_attr(test, derive(Clone, PartialEq))]
pub struct HandleSlot<T> {
    /// Objects that were here and are gone.
    past: u32,
    /// The slot that has been vacant for the next shorter time, if this one is vacant.
    next: u32,
    /// The object that is here now.
    object: Option<(HandleKind, T)>,
}

impl<T> HandleSlot<T> {
    /// A place that has never been used.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            past: 0,
            next: NONE,
            object: None,
        }
    }
}

impl<T> Default for HandleSlot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for HandleSlot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some((kind, _)) => write!(f, "{kind} after {} others", self.past),
            None => write!(f, "vacant after {}", self.past),
        }
    }
}

#[cfg(feature = "defmt")]
impl<T> defmt::Format for HandleSlot<T> {
    fn format(&self, f: defmt::Formatter<'_>) {
        match &self.object {
            Some((kind, _)) => defmt::write!(f, "{} after {=u32} others", kind, self.past),
            None => defmt::write!(f, "vacant after {=u32}", self.past),
        }
    }
}

/// The objects of one open file, by handle.
///
/// See [the module](self) for an example and the layout of a handle. `S` holds the places:
/// `[HandleSlot<T>; N]`, `&mut [HandleSlot<T>]`, or anything else that always gives the same slice.
/// Every operation takes constant time, whatever the capacity, but for going through all objects.
pub struct HandleTable<T, S> {
    slots: S,
    capacity: u32,
    live: u32,
    reserved: u32,
    retired: u32,
    /// The slot vacant for longest, which is used next, and the one vacant for shortest.
    oldest: u32,
    newest: u32,
    /// The generation of the first object of each slot.
    first: u32,
    identity: Identity,
    objects: PhantomData<T>,
}

impl<T, S: AsRef<[HandleSlot<T>]> + AsMut<[HandleSlot<T>]>> HandleTable<T, S> {
    /// An empty table with a place in each of `slots`, up to 65536.
    ///
    /// Whatever the slots held is dropped. `salt` should differ from one open file of a device to
    /// the next: a counter of opens will do, and no two of 2^31 successive files then start from
    /// the same generation.
    #[must_use]
    pub fn new(mut slots: S, salt: u32) -> Self {
        // Multiples of the golden ratio of the period keep any number of successive starts about
        // as far apart as they can be; the factor is odd, so that no two of them are equal.
        const SPREAD: u32 = 1_327_217_885;
        let mut capacity = 0;
        for (slot, next) in slots.as_mut().iter_mut().zip(1..=MAX_SLOTS) {
            *slot = HandleSlot::new();
            slot.next = next;
            capacity = next;
        }
        let newest = capacity.checked_sub(1).unwrap_or(NONE);
        if let Some(last) = at_mut(slots.as_mut(), newest) {
            last.next = NONE;
        }
        Self {
            slots,
            capacity,
            live: 0,
            reserved: 0,
            retired: 0,
            oldest: if capacity == 0 { NONE } else { 0 },
            newest,
            first: salt.wrapping_mul(SPREAD) % GENERATIONS,
            identity: Identity::new(),
            objects: PhantomData,
        }
    }

    /// Sets a place aside for an object of `kind` that is about to be made.
    ///
    /// # Errors
    ///
    /// [`TableFull`] where every place is taken, set aside or retired.
    pub fn reserve(&mut self, kind: HandleKind) -> Result<Reservation, TableFull> {
        let vacant = self.capacity - self.live - self.retired;
        if self.reserved >= vacant {
            return Err(TableFull {
                capacity: self.capacity,
            });
        }
        self.reserved += 1;
        Ok(Reservation {
            kind,
            table: self.identity,
        })
    }

    /// Puts a complete object where a place was set aside for it, and tells its handle.
    ///
    /// # Errors
    ///
    /// [`ForeignReservation`], with reservation and object inside, if the reservation was made in
    /// another table. With its own it cannot fail.
    pub fn publish(
        &mut self,
        reservation: Reservation,
        object: T,
    ) -> Result<RawHandle, ForeignReservation<T>> {
        let index = self.oldest;
        let slot = at_mut(self.slots.as_mut(), index)
            .filter(|_| reservation.table == self.identity && self.reserved > 0);
        let Some(slot) = slot else {
            return Err(ForeignReservation {
                reservation,
                object,
            });
        };
        self.oldest = slot.next;
        if self.oldest == NONE {
            self.newest = NONE;
        }
        slot.next = NONE;
        slot.object = Some((reservation.kind, object));
        self.reserved -= 1;
        self.live += 1;
        let generation = generation_after(self.first, slot.past);
        Ok(RawHandle::compose(reservation.kind, index, generation))
    }

    /// Gives up a place that was set aside. The table is then as if it never had been.
    ///
    /// # Errors
    ///
    /// [`ForeignReservation`], with the reservation inside, if it was made in another table.
    pub fn cancel(&mut self, reservation: Reservation) -> Result<(), ForeignReservation> {
        match self.reserved.checked_sub(1) {
            Some(reserved) if reservation.table == self.identity => {
                self.reserved = reserved;
                Ok(())
            }
            _ => Err(ForeignReservation {
                reservation,
                object: (),
            }),
        }
    }

    /// The object that a handle names.
    ///
    /// # Errors
    ///
    /// * [`HandleError::Malformed`]: the number has bits that no handle has.
    /// * [`HandleError::WrongKind`]: it is the handle of another kind of object.
    /// * [`HandleError::Unknown`]: this table has not given it out.
    /// * [`HandleError::Stale`]: its object has been removed.
    pub fn get(&self, handle: RawHandle, kind: HandleKind) -> Result<&T, HandleError> {
        let index = self.find(handle, kind)?;
        let slot = at(self.slots.as_ref(), index).ok_or(HandleError::Unknown)?;
        slot.object
            .as_ref()
            .map(|(_, object)| object)
            .ok_or(HandleError::Unknown)
    }

    /// The object that a handle names, to be changed.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_mut(&mut self, handle: RawHandle, kind: HandleKind) -> Result<&mut T, HandleError> {
        let index = self.find(handle, kind)?;
        let slot = at_mut(self.slots.as_mut(), index).ok_or(HandleError::Unknown)?;
        slot.object
            .as_mut()
            .map(|(_, object)| object)
            .ok_or(HandleError::Unknown)
    }

    /// Takes out the object that a handle names. The handle, and every copy of it, is stale from
    /// then on.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn remove(&mut self, handle: RawHandle, kind: HandleKind) -> Result<T, HandleError> {
        let index = self.find(handle, kind)?;
        self.vacate(index)
            .map(|(_, object)| object)
            .ok_or(HandleError::Unknown)
    }

    /// The objects and their handles, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (RawHandle, &T)> + Clone {
        let first = self.first;
        let slots = self.slots.as_ref().iter().zip(0..self.capacity);
        slots.filter_map(move |(slot, index)| {
            let (kind, object) = slot.object.as_ref()?;
            let generation = generation_after(first, slot.past);
            Some((RawHandle::compose(*kind, index, generation), object))
        })
    }

    /// Takes the objects out one by one, by slot: what a close does with those left over. Objects
    /// that the iterator has not come to stay in the table.
    pub fn drain(&mut self) -> impl Iterator<Item = (RawHandle, T)> {
        (0..self.capacity).filter_map(|index| self.vacate(index))
    }

    /// Ends the life of the object in a slot.
    fn vacate(&mut self, index: u32) -> Option<(RawHandle, T)> {
        let slot = at_mut(self.slots.as_mut(), index)?;
        let (kind, object) = slot.object.take()?;
        let handle = RawHandle::compose(kind, index, generation_after(self.first, slot.past));
        slot.past += 1;
        let worn_out = slot.past == GENERATIONS;
        self.live -= 1;
        if worn_out {
            self.retired += 1;
        } else {
            match at_mut(self.slots.as_mut(), self.newest) {
                Some(newest) => newest.next = index,
                None => self.oldest = index,
            }
            self.newest = index;
        }
        Some((handle, object))
    }

    /// The slot of the live object that a handle names.
    fn find(&self, handle: RawHandle, kind: HandleKind) -> Result<u32, HandleError> {
        let found = handle.kind()?;
        if found != kind {
            return Err(HandleError::WrongKind { found });
        }
        let index = handle.slot();
        let slot = at(self.slots.as_ref(), index).ok_or(HandleError::Unknown)?;
        // How many objects the slot had before the one that the handle names.
        let past = handle.generation().wrapping_sub(self.first) % GENERATIONS;
        if past < slot.past {
            return Err(HandleError::Stale);
        }
        match &slot.object {
            Some((live, _))
                if RawHandle::compose(*live, index, generation_after(self.first, slot.past))
                    == handle =>
            {
                Ok(index)
            }
            _ => Err(HandleError::Unknown),
        }
    }
}

impl<T, S> HandleTable<T, S> {
    /// The number of objects.
    #[must_use]
    pub const fn live(&self) -> u32 {
        self.live
    }

    /// The number of places set aside for objects that are being made.
    #[must_use]
    pub const fn reserved(&self) -> u32 {
        self.reserved
    }

    /// The number of places that are worn out and never used again.
    #[must_use]
    pub const fn retired(&self) -> u32 {
        self.retired
    }

    /// The number of places, retired ones included.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }
}

impl<T, S> fmt::Debug for HandleTable<T, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleTable")
            .field("live", &self.live)
            .field("reserved", &self.reserved)
            .field("retired", &self.retired)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "defmt")]
impl<T, S> defmt::Format for HandleTable<T, S> {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(
            f,
            "HandleTable {{ live: {=u32}, reserved: {=u32}, retired: {=u32}, capacity: {=u32} }}",
            self.live,
            self.reserved,
            self.retired,
            self.capacity
        );
    }
}

/// The generation of a slot's object that comes after `past` others.
const fn generation_after(first: u32, past: u32) -> u32 {
    first.wrapping_add(past) % GENERATIONS
}

fn at<T>(slots: &[HandleSlot<T>], index: u32) -> Option<&HandleSlot<T>> {
    slots.get(usize::try_from(index).ok()?)
}

fn at_mut<T>(slots: &mut [HandleSlot<T>], index: u32) -> Option<&mut HandleSlot<T>> {
    slots.get_mut(usize::try_from(index).ok()?)
}
