//! Memory that several parties use at once, as a slice of 64-bit atomic words.
//!
//! Host memory is written by the CPU of one thread while a device thread reads it. In Rust's terms
//! that is a data race unless both sides use atomics, and it stays one where atomics of *different
//! sizes* meet. So there is exactly one size here: every access, of whatever width, is made of 64-bit
//! atomic operations on the words that contain it. Reads are relaxed loads (followed by a fence where
//! acquire is asked for, because a stronger load is not allowed on read-only mappings); a store of
//! less than a word is a compare-and-swap loop, so that two parties may own the two halves of a word.
//!
//! Offsets are in bytes. Callers check bounds once, at their own edge; a violation here is a bug in
//! the harness and panics.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes per word.
pub(crate) const WORD: usize = 8;

/// Copies bytes out of `words` from byte `offset` on.
pub(crate) fn read(words: &[AtomicU64], offset: usize, buffer: &mut [u8]) {
    let mut at = offset;
    let mut rest = buffer;
    while !rest.is_empty() {
        let within = at % WORD;
        if within == 0 && rest.len() >= WORD {
            let rest_words = rest.len() / WORD;
            let (whole, tail) = rest.as_chunks_mut::<WORD>();
            for (bytes, word) in whole
                .iter_mut()
                .zip(&words[at / WORD..at / WORD + rest_words])
            {
                *bytes = word.load(Ordering::Relaxed).to_le_bytes();
            }
            at += whole.len() * WORD;
            rest = tail;
            continue;
        }
        let count = rest.len().min(WORD - within);
        let bytes = words[at / WORD].load(Ordering::Relaxed).to_le_bytes();
        let (part, tail) = rest.split_at_mut(count);
        part.copy_from_slice(&bytes[within..within + count]);
        rest = tail;
        at += count;
    }
}

/// Copies `bytes` into `words` from byte `offset` on.
pub(crate) fn write(words: &[AtomicU64], offset: usize, bytes: &[u8]) {
    let mut at = offset;
    let mut rest = bytes;
    while !rest.is_empty() {
        let within = at % WORD;
        if within == 0 && rest.len() >= WORD {
            let rest_words = rest.len() / WORD;
            let (whole, tail) = rest.as_chunks::<WORD>();
            for (bytes, word) in whole.iter().zip(&words[at / WORD..at / WORD + rest_words]) {
                word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
            }
            at += whole.len() * WORD;
            rest = tail;
            continue;
        }
        let count = rest.len().min(WORD - within);
        let (part, tail) = rest.split_at(count);
        let merge = |old: u64| {
            let mut new = old.to_le_bytes();
            new[within..within + count].copy_from_slice(part);
            u64::from_le_bytes(new)
        };
        replace(&words[at / WORD], Ordering::Relaxed, merge);
        rest = tail;
        at += count;
    }
}

/// Stores `value` into every word of the `len` bytes from `offset`; both multiples of eight.
pub(crate) fn fill(words: &[AtomicU64], offset: usize, len: usize, value: u64) {
    for word in &words[offset / WORD..(offset + len) / WORD] {
        word.store(value, Ordering::Relaxed);
    }
}

/// Loads the aligned 32-bit number at `offset`; what was released before it was stored is visible.
pub(crate) fn load_u32(words: &[AtomicU64], offset: usize) -> u32 {
    let word = load_u64(words, offset / WORD * WORD);
    (word >> (8 * (offset % WORD))) as u32
}

/// Stores the aligned 32-bit number at `offset`, releasing everything written before.
pub(crate) fn store_u32(words: &[AtomicU64], offset: usize, value: u32) {
    let shift = 8 * (offset % WORD);
    let merge = |old: u64| old & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
    replace(&words[offset / WORD], Ordering::Release, merge);
}

/// Loads the aligned word at `offset`; what was released before it was stored is visible.
pub(crate) fn load_u64(words: &[AtomicU64], offset: usize) -> u64 {
    let value = words[offset / WORD].load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

/// Stores the aligned word at `offset`, releasing everything written before.
pub(crate) fn store_u64(words: &[AtomicU64], offset: usize, value: u64) {
    words[offset / WORD].store(value, Ordering::Release);
}

fn replace(word: &AtomicU64, order: Ordering, merge: impl Fn(u64) -> u64) {
    let mut old = word.load(Ordering::Relaxed);
    while let Err(now) = word.compare_exchange_weak(old, merge(old), order, Ordering::Relaxed) {
        old = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Vec<AtomicU64> {
        (0..4).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn unaligned_bytes_come_back_and_neighbours_are_untouched() {
        let words = memory();
        fill(&words, 0, 32, u64::MAX);
        let bytes: Vec<u8> = (1..=19).collect();
        write(&words, 5, &bytes);
        let mut all = [0; 32];
        read(&words, 0, &mut all);
        assert_eq!(all[..5], [0xFF; 5]);
        assert_eq!(all[5..24], bytes[..]);
        assert_eq!(all[24..], [0xFF; 8]);
    }

    #[test]
    fn the_two_halves_of_a_word_are_independent() {
        let words = memory();
        store_u32(&words, 8, 0x1111_1111);
        store_u32(&words, 12, 0x2222_2222);
        store_u32(&words, 8, 0x3333_3333);
        assert_eq!(load_u64(&words, 8), 0x2222_2222_3333_3333);
        assert_eq!(load_u32(&words, 12), 0x2222_2222);
    }
}
