//! The translation caches of one MMU: what makes a forgotten invalidation visible.
//!
//! Two caches, as the invalidation registers suggest (facts INV-G2-4, UK-2):
//!
//! * the *leaf cache* holds finished translations, keyed by address space and page. It never holds
//!   absence. Full and range invalidations empty it.
//! * the *line cache* holds lines of table memory, 64 bytes or 8 entries each, keyed by their address:
//!   leaves, table pointers and *not-present entries* alike, the neighbours of an entry with the
//!   entry. Full and memory-cache invalidations empty it.
//!
//! Hence a driver that maps a page beside a cached one and does not invalidate meets its own stale
//! not-present entry (scenario I-01), one that frees a table without invalidation has the device walk
//! freed memory, and one that uses the range registers without the memory-cache register has both.

use std::collections::HashMap;
use std::hash::Hash;

use super::config::CacheSize;

/// A 64-byte line of a page table.
pub(crate) type Line = [u64; 8];

/// Identifies a finished translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LeafKey {
    pub(crate) asid: u16,
    /// The hop the leaf stands at.
    pub(crate) hop: u8,
    /// The walked address, shifted down by the hop's shift.
    pub(crate) page: u64,
}

/// A key that says which set it belongs to.
pub(crate) trait Key: Copy + Eq + Hash {
    fn set(self) -> u64;
}

impl Key for LeafKey {
    fn set(self) -> u64 {
        self.page
    }
}

impl Key for u64 {
    fn set(self) -> u64 {
        self
    }
}

/// One cache.
#[derive(Debug)]
pub(crate) enum Cache<K, V> {
    None,
    Sets { sets: Vec<Vec<(K, V)>>, ways: usize },
    Infinite(HashMap<K, V>),
}

impl<K: Key, V: Copy> Cache<K, V> {
    pub(crate) fn new(size: CacheSize) -> Self {
        match size {
            CacheSize::Infinite => Self::Infinite(HashMap::new()),
            CacheSize::SetAssociative { sets, ways } if sets > 0 && ways > 0 => Self::Sets {
                sets: (0..sets).map(|_| Vec::with_capacity(ways)).collect(),
                ways,
            },
            CacheSize::None | CacheSize::SetAssociative { .. } => Self::None,
        }
    }

    pub(crate) fn get(&self, key: K) -> Option<V> {
        match self {
            Self::None => None,
            Self::Infinite(map) => map.get(&key).copied(),
            Self::Sets { sets, .. } => {
                let set = &sets[(key.set() % sets.len() as u64) as usize];
                set.iter().find(|(k, _)| *k == key).map(|(_, v)| *v)
            }
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self {
            Self::None => {}
            Self::Infinite(map) => {
                map.insert(key, value);
            }
            Self::Sets { sets, ways } => {
                let index = (key.set() % sets.len() as u64) as usize;
                let set = &mut sets[index];
                set.retain(|(k, _)| *k != key);
                if set.len() == *ways {
                    set.remove(0);
                }
                set.push((key, value));
            }
        }
    }

    /// Keeps what `keep` says; returns how many were dropped.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K) -> bool) -> u64 {
        let before = self.len();
        match self {
            Self::None => {}
            Self::Infinite(map) => map.retain(|key, _| keep(key)),
            Self::Sets { sets, .. } => {
                for set in sets {
                    set.retain(|(key, _)| keep(key));
                }
            }
        }
        (before - self.len()) as u64
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Infinite(map) => map.len(),
            Self::Sets { sets, .. } => sets.iter().map(Vec::len).sum(),
        }
    }
}

/// The two caches of one MMU.
#[derive(Debug)]
pub(crate) struct Caches {
    /// Value: the address in the leaf entry.
    pub(crate) leaves: Cache<LeafKey, u64>,
    /// Key: the line's address divided by 64.
    pub(crate) lines: Cache<u64, Line>,
}

impl Caches {
    pub(crate) fn new(leaves: CacheSize, lines: CacheSize) -> Self {
        Self {
            leaves: Cache::new(leaves),
            lines: Cache::new(lines),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_set_replaces_its_oldest_way_and_leaves_other_sets_alone() {
        let mut cache = Cache::new(CacheSize::SetAssociative { sets: 2, ways: 2 });
        for key in [0_u64, 1, 2, 4] {
            cache.insert(key, key * 10);
        }
        assert_eq!(cache.get(0), None);
        assert_eq!(
            (cache.get(1), cache.get(2), cache.get(4)),
            (Some(10), Some(20), Some(40))
        );
        cache.insert(2, 21);
        assert_eq!((cache.get(2), cache.len()), (Some(21), 3));
    }

    #[test]
    fn an_infinite_cache_evicts_nothing() {
        let mut cache = Cache::new(CacheSize::Infinite);
        for key in 0..10_000_u64 {
            cache.insert(key, ());
        }
        assert_eq!(cache.len(), 10_000);
        assert_eq!(cache.retain(|key| key % 2 == 0), 5_000);
    }
}
