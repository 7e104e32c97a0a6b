//! Table memory that somebody else wrote to: entries of any content in the tables of a page table.
//!
//! Nothing may panic. What an entry says must be what an entry of that says. While entries that
//! point to the pool's own tables stay out, so that no table is in two places, changes are tried
//! as well; with them, only what reads.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use mmu_core::format::{
    Entry, Format, Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, Hop, TABLE_ENTRIES, V1, X86_64,
};
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Invalidate, MapOptions, PageTable, Region, ReuseOrder, Run,
    Stale, TablePool, TableRecord, TableWord, Word,
};
use spin::mutex::SpinMutex;

const TABLES: usize = 12;
const TABLES_AT: u64 = 0x1_0000_0000;
const PAGES_AT: u64 = 0x8000_0000;

/// More would make a walk through tables in a circle too long.
const MOST_ENTRIES: usize = 8;

/// Takes numbers off the front of the input, and zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, bound: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first % bound
    }

    fn word(&mut self) -> u64 {
        let bytes = [(); 8].map(|()| self.below(255));
        u64::from_le_bytes(bytes)
    }
}

/// An MMU that has nothing to forget.
struct NoMmu;

// SAFETY: there is no device that could remember anything.
unsafe impl Invalidate for NoMmu {
    type Error = ();

    fn invalidate(&mut self, _stale: &Stale) -> Result<(), ()> {
        Ok(())
    }
}

/// An entry of what an entry says says the same.
fn check_decoding<F: Format>(entry: u64) {
    for (number, geometry) in (0..).zip(F::HOPS) {
        let hop = Hop::new(number).expect("no format has more hops");
        let said = F::decode(hop, entry);
        assert_eq!(
            matches!(said, Entry::Leaf { .. }),
            F::is_leaf(hop, entry),
            "{}: {entry:#x}",
            F::NAME
        );
        let again = match said {
            Entry::Empty => continue,
            Entry::Table { address } => F::table_entry(hop, address),
            // Elsewhere nobody asks for one.
            Entry::Leaf { .. } if !geometry.leaf => continue,
            Entry::Leaf {
                address,
                attributes,
            } => F::leaf_entry(hop, address, attributes),
        };
        assert_eq!(F::decode(hop, again), said, "{}: {entry:#x}", F::NAME);
    }
}

/// Whether an entry points to a table of the pool.
fn points_inside<F: Format>(entry: u64) -> bool {
    (0..F::HOPS.len() as u8)
        .filter_map(Hop::new)
        .any(|hop| match F::decode(hop, entry) {
            Entry::Table { address } => {
                address.wrapping_sub(TABLES_AT) < TABLES as u64 * TABLE_ENTRIES as u64 * 8
            }
            _ => false,
        })
}

fn drive<F: Format>(bytes: &mut Bytes<'_>)
where
    F::Attributes: Default,
{
    let words: Vec<[Word; TABLE_ENTRIES]> = (0..TABLES)
        .map(|_| std::array::from_fn(|_| Word::default()))
        .collect();
    let mut records: Vec<TableRecord> = (0..TABLES).map(|_| TableRecord::new()).collect();
    let region = Region::new(&words, BusAddr::new(TABLES_AT)).expect("it is aligned");
    let pool: TablePool<_, SpinMutex<()>> =
        TablePool::new(region, &mut records, ReuseOrder::LastReleased).expect("records suffice");
    let mut table = PageTable::<F, _>::new(&pool)
        .expect("memory answers")
        .expect("there is a table");
    let page = F::HOPS
        .last()
        .map_or(0, |hop| F::device_len(hop.entry_span()));
    let at = |number: u8| DeviceAddr::new(u64::from(number) * page);
    let run = |number: u8| Run::new(BusAddr::new(PAGES_AT + u64::from(number) * page), page);
    for _ in 0..bytes.below(4) {
        let number = bytes.below(16);
        if let Some(run) = run(number) {
            // A refusal is as good.
            let _ = table.map(at(number), run, &MapOptions::default());
        }
    }
    let mut inside = false;
    for _ in 0..bytes.below(MOST_ENTRIES as u8 + 1) {
        let (number, index) = (bytes.below(TABLES as u8), bytes.below(18));
        let entry = match bytes.below(3) {
            0 => bytes.word(),
            1 => bytes.word() & 0xFFF | PAGES_AT,
            _ => {
                let table = u64::from(bytes.below(TABLES as u8)) * TABLE_ENTRIES as u64 * 8;
                bytes.word() & 0xFFF | (TABLES_AT + table)
            }
        };
        check_decoding::<F>(entry);
        inside |= points_inside::<F>(entry);
        TableWord::store(&words[usize::from(number)][usize::from(index)], entry);
    }
    for _ in 0..bytes.below(8) {
        let (number, pages) = (bytes.below(16), 1 + bytes.below(4));
        let Some(range) = AddrRange::new(at(number), u64::from(pages) * page) else {
            continue;
        };
        match bytes.below(if inside { 2 } else { 6 }) {
            0 => {
                let _ = table.query(at(number));
            }
            1 => assert!(table.runs(range).take(64).count() <= 64),
            2 => {
                if let Ok(removed) = table.unmap(range) {
                    removed
                        .confirm(&mut NoMmu)
                        .expect("there is nothing to forget");
                }
            }
            3 => table
                .sweep(range)
                .confirm(&mut NoMmu)
                .expect("there is nothing to forget"),
            4 => {
                if let Ok(removed) = table.split(at(number)) {
                    removed
                        .confirm(&mut NoMmu)
                        .expect("there is nothing to forget");
                }
            }
            _ => {
                if let Some(run) = run(number) {
                    let _ = table.map(at(number), run, &MapOptions::default());
                }
            }
        }
    }
    let mut text = String::new();
    let _ = write!(text, "{}", table.dump());
    if !inside {
        table
            .close()
            .confirm(&mut NoMmu)
            .expect("there is nothing to forget");
        // A stranger's entry may hide tables, which are then lost; none comes back twice.
        assert!(pool.usage().free <= pool.usage().capacity);
    }
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    match bytes.below(7) {
        0 => drive::<V1>(&mut bytes),
        1 => drive::<Gaudi2Pmmu>(&mut bytes),
        2 => drive::<Gaudi2Pmmu64K>(&mut bytes),
        3 => drive::<Gaudi2Hmmu<6>>(&mut bytes),
        4 => drive::<Gaudi2Hmmu<5>>(&mut bytes),
        5 => drive::<X86_64<4>>(&mut bytes),
        _ => drive::<X86_64<5>>(&mut bytes),
    }
});
