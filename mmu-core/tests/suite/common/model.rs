//! The oracle: what a page table should hold, kept as plain pieces in a `BTreeMap`.

use std::collections::BTreeMap;

use mmu_core::{LeafSizes, MapError, QueryError, UnmapError};

use super::device;
use super::raw::Stretch;
use super::shape::Shape;

/// A part of what one run mapped.
#[derive(Clone, Copy, Debug)]
struct Piece {
    len: u64,
    bus: u64,
    /// Where the run began and how long it was: this decides where its leaves lie.
    run_at: u64,
    run_len: u64,
    sizes: u8,
    bits: u8,
}

/// A leaf, and where an address in it leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hit {
    pub(crate) bus: u64,
    pub(crate) leaf: u64,
    pub(crate) leaf_bytes: u64,
    pub(crate) bits: u8,
}

/// What is mapped.
#[derive(Default)]
pub(crate) struct Model<F> {
    pieces: BTreeMap<u64, Piece>,
    shape: core::marker::PhantomData<F>,
}

/// All sizes of the format.
pub(crate) const ALL: u8 = u8::MAX;

/// The leaf sizes whose places in [`Shape::SIZES`] are set in `mask`.
pub(crate) fn leaf_sizes<F: Shape>(mask: u8) -> LeafSizes {
    let sizes = F::SIZES.iter().enumerate();
    sizes
        .filter(|(place, _)| mask & 1 << place != 0)
        .map(|(_, size)| LeafSizes::at(mmu_core::Hop::new(size.hop).unwrap()))
        .reduce(LeafSizes::or)
        .expect("a size at least")
}

impl Piece {
    /// The leaf at an address of the piece: the largest that the run has room for, aligned on
    /// both sides.
    fn leaf<F: Shape>(&self, at: u64, address: u64) -> (u64, u64) {
        let sizes = F::SIZES.iter().enumerate().rev();
        for (place, size) in sizes.filter(|(place, _)| self.sizes & 1 << place != 0) {
            let down = address - (address - F::ORIGIN) % size.bytes;
            let bus = self.bus.wrapping_add(down.wrapping_sub(at));
            let fits = down >= self.run_at
                && down - self.run_at <= self.run_len.saturating_sub(size.bytes)
                && self.run_len >= size.bytes;
            if fits && F::is_aligned(bus, size.bytes) {
                return (down, size.bytes);
            }
            assert_ne!(place, 0, "a piece is whole smallest leaves");
        }
        unreachable!("a piece has a size");
    }
}

impl<F: Shape> Model<F> {
    pub(crate) fn new() -> Self {
        Self {
            pieces: BTreeMap::new(),
            shape: core::marker::PhantomData,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The start and length of the piece number `n`, counted around.
    pub(crate) fn nth_piece(&self, n: u64) -> Option<(u64, u64)> {
        let count = self.pieces.len() as u64;
        let mut pieces = self.pieces.iter();
        let (at, piece) = pieces.nth(n.checked_rem(count)? as usize)?;
        Some((*at, piece.len))
    }

    /// The piece at or below an address.
    fn below(&self, address: u64) -> Option<(u64, Piece)> {
        let (at, piece) = self.pieces.range(..=address).next_back()?;
        Some((*at, *piece))
    }

    fn covering(&self, address: u64) -> Option<(u64, Piece)> {
        self.below(address)
            .filter(|(at, piece)| address - at < piece.len)
    }

    /// The lowest address of `len` bytes from `at` that is mapped.
    pub(crate) fn first_mapped(&self, at: u64, len: u64) -> Option<u64> {
        if self.covering(at).is_some() {
            return Some(at);
        }
        let (first, _) = self.pieces.range(at..=at + (len - 1)).next()?;
        Some(*first)
    }

    pub(crate) fn map(
        &mut self,
        at: u64,
        runs: &[(u64, u64)],
        sizes: u8,
        bits: u8,
    ) -> Result<(), MapError> {
        let total = runs.iter().map(|(_, len)| len).sum();
        if let Some(first) = self.first_mapped(at, total) {
            return Err(MapError::AlreadyMapped { at: device(first) });
        }
        let mut next = at;
        for &(bus, len) in runs {
            let piece = Piece {
                len,
                bus,
                run_at: next,
                run_len: len,
                sizes,
                bits,
            };
            self.pieces.insert(next, piece);
            next = next.wrapping_add(len);
        }
        Ok(())
    }

    pub(crate) fn query(&self, address: u64) -> Result<Hit, QueryError> {
        let (at, piece) = self.covering(address).ok_or(QueryError::NotMapped {
            at: device(address),
        })?;
        let (leaf, leaf_bytes) = piece.leaf::<F>(at, address);
        Ok(Hit {
            bus: piece.bus + (address - at),
            leaf,
            leaf_bytes,
            bits: piece.bits,
        })
    }

    /// Whether leaves that end within the range map all of it.
    pub(crate) fn check(&self, at: u64, len: u64) -> Result<(), UnmapError> {
        let last = at + (len - 1);
        let mut next = at;
        loop {
            let Some((start, piece)) = self.covering(next) else {
                return Err(UnmapError::NotMapped { at: device(next) });
            };
            let (leaf, bytes) = piece.leaf::<F>(start, next);
            if leaf < at || leaf + (bytes - 1) > last {
                return Err(UnmapError::WouldSplit { leaf: device(leaf) });
            }
            let piece_last = start + (piece.len - 1);
            if piece_last >= last {
                let (leaf, bytes) = piece.leaf::<F>(start, last);
                if leaf + (bytes - 1) > last {
                    return Err(UnmapError::WouldSplit { leaf: device(leaf) });
                }
                return Ok(());
            }
            next = piece_last + 1;
        }
    }

    /// Cuts the pieces at an address, so that none reaches across it.
    fn cut(&mut self, address: u64) {
        let Some((at, piece)) = self.covering(address) else {
            return;
        };
        let before = address - at;
        if before == 0 {
            return;
        }
        self.pieces.insert(
            at,
            Piece {
                len: before,
                ..piece
            },
        );
        let after = Piece {
            len: piece.len - before,
            bus: piece.bus + before,
            ..piece
        };
        self.pieces.insert(address, after);
    }

    /// The pieces of a range that whole leaves map, cut out.
    fn pieces_in(&mut self, at: u64, len: u64) -> Vec<u64> {
        self.cut(at);
        if let Some(end) = at.checked_add(len) {
            self.cut(end);
        }
        let range = at..=at + (len - 1);
        self.pieces.range(range).map(|(at, _)| *at).collect()
    }

    pub(crate) fn unmap(&mut self, at: u64, len: u64) -> Result<(), UnmapError> {
        self.check(at, len)?;
        for at in self.pieces_in(at, len) {
            self.pieces.remove(&at);
        }
        Ok(())
    }

    /// Removes every leaf that lies within the range.
    pub(crate) fn sweep(&mut self, at: u64, len: u64) {
        let (mut first, mut last) = (at, at + (len - 1));
        if let Ok(hit) = self.query(first)
            && hit.leaf < first
        {
            first = hit.leaf + hit.leaf_bytes;
        }
        if let Ok(hit) = self.query(last)
            && hit.leaf + (hit.leaf_bytes - 1) > last
        {
            last = hit.leaf - 1;
        }
        if first > last {
            return;
        }
        for at in self.pieces_in(first, last - first + 1) {
            self.pieces.remove(&at);
        }
    }

    pub(crate) fn protect(&mut self, at: u64, len: u64, bits: u8) -> Result<(), UnmapError> {
        self.check(at, len)?;
        for at in self.pieces_in(at, len) {
            self.pieces.get_mut(&at).unwrap().bits = bits;
        }
        Ok(())
    }

    /// Splits the leaf at an address; `false` where it is one of the smallest.
    pub(crate) fn split(&mut self, address: u64) -> Result<bool, QueryError> {
        let hit = self.query(address)?;
        let place = F::SIZES
            .iter()
            .position(|size| size.bytes == hit.leaf_bytes)
            .unwrap();
        if place == 0 {
            return Ok(false);
        }
        for at in self.pieces_in(hit.leaf, hit.leaf_bytes) {
            let piece = self.pieces.get_mut(&at).unwrap();
            piece.run_at = hit.leaf;
            piece.run_len = hit.leaf_bytes;
            piece.sizes = (1 << place) - 1;
        }
        Ok(true)
    }

    /// What is mapped in a range, as stretches that are as long as they can be.
    pub(crate) fn stretches(&self, at: u64, len: u64) -> Vec<Stretch> {
        let last = at + (len - 1);
        let mut list = Vec::new();
        let first = self.covering(at).map_or(at, |(start, _)| start);
        for (&start, piece) in self.pieces.range(first..=last) {
            let piece_last = start + (piece.len - 1);
            // Where the leaf size may change.
            let mut cuts = vec![start.max(at)];
            for size in F::SIZES {
                let over = (piece.run_at - F::ORIGIN) % size.bytes;
                let up = piece.run_at.checked_add((size.bytes - over) % size.bytes);
                let run_last = piece.run_at + (piece.run_len - 1);
                let down = run_last - (run_last - F::ORIGIN) % size.bytes;
                cuts.extend(up);
                cuts.push(down);
                cuts.extend(down.checked_add(size.bytes));
            }
            cuts.retain(|&cut| cut >= start.max(at) && cut <= piece_last.min(last));
            cuts.sort_unstable();
            cuts.dedup();
            for (i, &cut) in cuts.iter().enumerate() {
                let cut_last = cuts
                    .get(i + 1)
                    .map_or(piece_last.min(last), |next| next - 1);
                let stretch = Stretch {
                    at: cut,
                    len: cut_last - cut + 1,
                    bus: piece.bus + (cut - start),
                    leaf_bytes: piece.leaf::<F>(start, cut).1,
                    bits: piece.bits,
                };
                Stretch::push(&mut list, stretch);
            }
        }
        list
    }
}
