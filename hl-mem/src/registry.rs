//! The live mappings of one address space, found by the device address that was handed out.
//!
//! A table of chained slots in the embedder's storage: finding, adding and removing take constant
//! time on average. A mapping that is being made or undone keeps its slot meanwhile, so that one
//! whose removal cannot be confirmed always has somewhere to stay.

use core::fmt;

use mmu_core::DeviceAddr;

const NONE: u32 = u32::MAX;

/// A place for one mapping. The embedder provides as many as there may be mappings at a time.
pub struct Slot<T> {
    /// The first slot of the chain that hashes to this slot's number.
    first: u32,
    /// The next slot of the chain, of the free list or of those that are parked, whichever this slot is
    /// in.
    next: u32,
    state: State<T>,
}

enum State<T> {
    Vacant,
    /// Taken, and found by nobody: the mapping is being made or undone.
    Held,
    /// Found by its address.
    Filled {
        key: DeviceAddr,
        value: T,
    },
    /// The driver's own: found by whoever has its [`Kept`], and by no address.
    Kept(T),
    /// Kept, and found by nobody.
    Parked(T),
}

impl<T> Slot<T> {
    /// A place without a mapping.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: NONE,
            next: NONE,
            state: State::Vacant,
        }
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.state {
            State::Vacant => f.write_str("vacant"),
            State::Held => f.write_str("held"),
            State::Filled { key, .. } => write!(f, "filled at {key}"),
            State::Kept(_) => f.write_str("kept"),
            State::Parked(_) => f.write_str("parked"),
        }
    }
}

/// A slot that is taken and that nobody finds.
#[derive(Debug)]
#[must_use = "the slot stays taken until it is filled, parked or given back"]
pub(crate) struct Place(u32);

/// The name of a mapping that no address finds: one that the driver made in a user's space.
#[derive(Debug)]
#[must_use = "nothing else finds the mapping until its space is closed"]
pub(crate) struct Kept(u32);

/// The mappings of one address space.
pub(crate) struct Registry<'s, T> {
    slots: &'s mut [Slot<T>],
    free: u32,
    taken: u32,
    parked: u32,
    /// The slot that was parked first of all that are, and the one that was parked last.
    parked_ends: [u32; 2],
}

impl<'s, T> Registry<'s, T> {
    /// An empty registry; slots beyond 2^32 - 1 are not used.
    pub(crate) fn new(slots: &'s mut [Slot<T>]) -> Self {
        let usable = slots.len().min(NONE as usize);
        let slots = &mut slots[..usable];
        let mut free = NONE;
        for (number, slot) in slots.iter_mut().enumerate().rev() {
            *slot = Slot {
                first: NONE,
                next: free,
                state: State::Vacant,
            };
            free = number as u32;
        }
        Self {
            slots,
            free,
            taken: 0,
            parked: 0,
            parked_ends: [NONE; 2],
        }
    }

    /// Slots that are taken: filled, held or parked.
    pub(crate) fn taken(&self) -> u32 {
        self.taken
    }

    /// Mappings that are kept though nobody finds them.
    pub(crate) fn parked(&self) -> u32 {
        self.parked
    }

    /// Takes a slot; `None` when there is none left.
    pub(crate) fn hold(&mut self) -> Option<Place> {
        let number = self.free;
        let slot = self.slots.get_mut(number as usize)?;
        self.free = slot.next;
        slot.next = NONE;
        slot.state = State::Held;
        self.taken += 1;
        Some(Place(number))
    }

    /// Gives a slot back.
    pub(crate) fn give_back(&mut self, place: Place) {
        let free = self.free;
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            slot.state = State::Vacant;
            slot.next = free;
            self.free = place.0;
            self.taken -= 1;
        }
    }

    /// Makes a mapping known by its address. Two with one address cannot exist, since addresses
    /// are handed out once.
    pub(crate) fn fill(&mut self, place: Place, key: DeviceAddr, value: T) {
        let bucket = self.bucket(key);
        let Some(first) = self.slots.get_mut(bucket).map(|slot| &mut slot.first) else {
            return;
        };
        let next = core::mem::replace(first, place.0);
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            slot.next = next;
            slot.state = State::Filled { key, value };
        }
    }

    /// Keeps a mapping where no address finds it.
    pub(crate) fn keep(&mut self, place: Place, value: T) -> Kept {
        if let Some(slot) = self.slots.get_mut(place.0 as usize) {
            slot.state = State::Kept(value);
        }
        Kept(place.0)
    }

    /// Takes a kept mapping out, for which its slot stays held.
    pub(crate) fn take_kept(&mut self, kept: Kept) -> Option<(Place, T)> {
        let slot = self.slots.get_mut(kept.0 as usize)?;
        match core::mem::replace(&mut slot.state, State::Held) {
            State::Kept(value) => Some((Place(kept.0), value)),
            other => {
                slot.state = other;
                None
            }
        }
    }

    /// Keeps a mapping where nobody finds it, behind those that are kept like that already.
    pub(crate) fn park(&mut self, place: Place, value: T) {
        let Some(slot) = self.slots.get_mut(place.0 as usize) else {
            return;
        };
        slot.state = State::Parked(value);
        slot.next = NONE;
        self.parked += 1;
        let last = core::mem::replace(&mut self.parked_ends[1], place.0);
        match self.slots.get_mut(last as usize) {
            Some(last) => last.next = place.0,
            None => self.parked_ends[0] = place.0,
        }
    }

    /// The mapping at `key`; `None` where there is none.
    pub(crate) fn get_mut(&mut self, key: DeviceAddr) -> Option<&mut T> {
        let mut number = self.slots.get(self.bucket(key))?.first;
        loop {
            let slot = self.slots.get(number as usize)?;
            if matches!(&slot.state, State::Filled { key: found, .. } if *found == key) {
                break;
            }
            number = slot.next;
        }
        match &mut self.slots.get_mut(number as usize)?.state {
            State::Filled { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Takes the mapping at `key` out, for which its slot stays held; `None` where there is none.
    pub(crate) fn take(&mut self, key: DeviceAddr) -> Option<(Place, T)> {
        let bucket = self.bucket(key);
        let mut previous = None;
        let mut number = self.slots.get(bucket)?.first;
        loop {
            let slot = self.slots.get_mut(number as usize)?;
            if matches!(&slot.state, State::Filled { key: found, .. } if *found == key) {
                break;
            }
            previous = Some(number);
            number = slot.next;
        }
        let slot = self.slots.get_mut(number as usize)?;
        let next = core::mem::replace(&mut slot.next, NONE);
        let state = core::mem::replace(&mut slot.state, State::Held);
        match previous.and_then(|previous| self.slots.get_mut(previous as usize)) {
            Some(previous) => previous.next = next,
            None => self.slots.get_mut(bucket)?.first = next,
        }
        match state {
            State::Filled { value, .. } => Some((Place(number), value)),
            _ => None,
        }
    }

    /// Takes any mapping out, filled or kept; `None` when there is none. `from` is where the search goes on: zero
    /// at first.
    pub(crate) fn take_next(&mut self, from: &mut usize) -> Option<(Place, T)> {
        while let Some(slot) = self.slots.get(*from) {
            let number = *from as u32;
            *from += 1;
            match slot.state {
                State::Filled { key, .. } => return self.take(key),
                State::Kept(_) => return self.take_kept(Kept(number)),
                _ => {}
            }
        }
        None
    }

    /// Takes the mapping out that has been parked for longest; `None` when none is.
    pub(crate) fn take_parked(&mut self) -> Option<(Place, T)> {
        let [number, _] = self.parked_ends;
        let slot = self.slots.get_mut(number as usize)?;
        let next = core::mem::replace(&mut slot.next, NONE);
        let state = core::mem::replace(&mut slot.state, State::Held);
        self.parked_ends[0] = next;
        if next == NONE {
            self.parked_ends[1] = NONE;
        }
        self.parked -= 1;
        match state {
            State::Parked(value) => Some((Place(number), value)),
            // Only parked slots are in the list.
            _ => None,
        }
    }

    /// All mappings, found or not, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> + '_ {
        self.slots.iter().filter_map(|slot| match &slot.state {
            State::Filled { value, .. } | State::Kept(value) | State::Parked(value) => Some(value),
            State::Vacant | State::Held => None,
        })
    }

    fn bucket(&self, key: DeviceAddr) -> usize {
        // Fibonacci hashing: the low bits of addresses say little, so the product's high half
        // picks the bucket, without a division.
        let hash = key.get().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        ((hash * self.slots.len() as u64) >> 32) as usize
    }
}

impl<T> fmt::Debug for Registry<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Registry({} of {} taken, {} parked)",
            self.taken,
            self.slots.len(),
            self.parked
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> DeviceAddr {
        DeviceAddr::new(0x1_0000_0000_0000 + number * 0x1000)
    }

    fn storage(count: usize) -> Vec<Slot<u64>> {
        (0..count).map(|_| Slot::new()).collect()
    }

    #[test]
    fn every_mapping_is_found_by_its_address_once_and_every_slot_comes_back() {
        let mut slots = storage(100);
        let mut registry = Registry::new(&mut slots);
        for round in 0..3 {
            for number in 0..100 {
                let place = registry.hold().unwrap();
                registry.fill(place, key(number * 7 + round), number);
            }
            assert!(registry.hold().is_none());
            assert!(registry.take(key(10_000)).is_none());
            // Neither the order of filling nor its reverse.
            for number in (0..100).map(|number| number * 37 % 100) {
                let (place, value) = registry.take(key(number * 7 + round)).unwrap();
                assert_eq!(value, number);
                assert!(registry.take(key(number * 7 + round)).is_none());
                registry.give_back(place);
            }
            assert_eq!(registry.taken(), 0);
        }
    }

    #[test]
    fn a_held_slot_is_not_found_and_keeps_its_place() {
        let mut slots = storage(1);
        let mut registry = Registry::new(&mut slots);
        let place = registry.hold().unwrap();
        registry.fill(place, key(1), 1);
        let (place, value) = registry.take(key(1)).unwrap();
        assert!(registry.take(key(1)).is_none() && registry.hold().is_none());
        registry.park(place, value);
        assert_eq!((registry.taken(), registry.parked()), (1, 1));
        assert!(registry.take(key(1)).is_none() && registry.take_next(&mut 0).is_none());
        let (place, value) = registry.take_parked().unwrap();
        assert_eq!(value, 1);
        registry.give_back(place);
        assert_eq!((registry.taken(), registry.parked()), (0, 0));
    }

    #[test]
    fn a_registry_and_its_slots_say_what_they_hold() {
        let mut slots = storage(3);
        let mut registry = Registry::new(&mut slots);
        let filled = registry.hold().unwrap();
        registry.fill(filled, key(1), 1);
        let parked = registry.hold().unwrap();
        registry.park(parked, 2);
        assert_eq!(format!("{registry:?}"), "Registry(2 of 3 taken, 1 parked)");
        let _held = registry.hold().unwrap();
        assert_eq!(
            format!("{slots:?}"),
            "[filled at 0x0001000000001000, parked, held]"
        );
        assert_eq!(format!("{:?}", Slot::<u64>::default()), "vacant");
    }

    #[test]
    fn a_search_for_the_next_goes_on_where_it_stopped() {
        let mut slots = storage(3);
        let mut registry = Registry::new(&mut slots);
        for number in 0..3 {
            let place = registry.hold().unwrap();
            registry.fill(place, key(number), number);
        }
        let mut from = 0;
        for number in 0..3 {
            let (place, value) = registry.take_next(&mut from).unwrap();
            assert_eq!((value, from as u64), (number, number + 1));
            registry.park(place, value);
        }
        assert!(registry.take_next(&mut from).is_none());
        // In the order in which they were parked, one of them once more.
        let (place, value) = registry.take_parked().unwrap();
        assert_eq!((value, registry.parked()), (0, 2));
        registry.park(place, value);
        for (number, left) in [(1, 2), (2, 1), (0, 0)] {
            let (place, value) = registry.take_parked().unwrap();
            assert_eq!((value, registry.parked()), (number, left));
            registry.give_back(place);
        }
        assert!(registry.take_parked().is_none());
        assert_eq!(registry.taken(), 0);
        // The list begins anew.
        let place = registry.hold().unwrap();
        registry.park(place, 7);
        assert_eq!(registry.take_parked().unwrap().1, 7);
    }

    #[test]
    fn a_registry_without_slots_finds_and_holds_nothing() {
        let mut registry: Registry<'_, u64> = Registry::new(&mut []);
        assert!(registry.hold().is_none() && registry.take(key(0)).is_none());
    }
}
