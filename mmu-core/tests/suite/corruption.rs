//! Table words that a stranger wrote. The result is undefined for the device, but never a panic.

use mmu_core::format::{V1, X86_64};
use mmu_core::{MapOptions, PageTable, QueryError, TableArena, TableId, TableWord};

use crate::common::shape::Shape;
use crate::common::{ARENA, Memory, Random, device, for_every_format, range, run};

for_every_format!(
    leaves_that_a_stranger_wrote_are_swept_without_a_panic,
    random_words_among_the_entries_cause_errors_at_most,
);

fn leaves_that_a_stranger_wrote_are_swept_without_a_panic<F: Shape>() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let page = run(F::BUS, F::small());
    table
        .map(device(F::EDGE), page, &MapOptions::default())
        .unwrap();
    // The count says one, the table has three.
    let words = pool.arena().words(TableId::new(pool.usage().used() - 1));
    let words = words.unwrap();
    let leaf = TableWord::load(&words[0]);
    TableWord::store(&words[1], leaf);
    TableWord::store(&words[2], leaf);
    let _ = table.unmap(range(F::EDGE, 3 * F::small())).unwrap();
}

fn random_words_among_the_entries_cause_errors_at_most<F: Shape>() {
    let mut random = Random::new(0xC0DE);
    for _ in 0..40 {
        let mut memory = Memory::new(64);
        let pool = memory.pool();
        let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
        let place = |random: &mut Random| F::EDGE + random.below(3 * F::slots()) * F::small();
        for _ in 0..60 {
            // Few at a time: a table that holds itself 512 times would be walked for ever.
            if random.below(6) == 0 {
                let number = TableId::new(random.below(u64::from(pool.usage().used())) as u32);
                let index = random.below(1 << 9) as usize;
                let word = match random.below(4) {
                    0 => 0,
                    1 => random.next(),
                    2 => ARENA + random.below(64) * 4096 + 1,
                    _ => (random.next() & 0xFFFF_F000) | 0x8E1,
                };
                TableWord::store(&pool.arena().words(number).unwrap()[index], word);
            }
            let at = place(&mut random);
            let len = (1 + random.below(2 * F::slots())) * F::small();
            match random.below(6) {
                0 | 1 => {
                    let bus = run(F::BUS + at % F::small(), len);
                    let _ = table.map(device(at), bus, &MapOptions::default());
                }
                2 => drop(table.unmap(range(at, len))),
                3 => drop(table.sweep(range(at, len))),
                4 => drop(table.split(device(at))),
                _ => {
                    let _ = table.query(device(at));
                    table.runs(range(at, len)).for_each(drop);
                    let _ = table.dump().to_string();
                }
            }
        }
        drop(table.close());
    }
}

#[test]
fn a_dump_shows_attributes_and_what_points_out_of_the_pool() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<X86_64<4>, _>::new(&pool).unwrap().unwrap();
    let one = run(0x5000, 0x1000);
    table.map(device(0), one, &MapOptions::default()).unwrap();
    let words = pool.arena().words(TableId::new(0)).unwrap();
    TableWord::store(&words[7], 0x5555_0007);
    let dump = table.dump().to_string();
    assert!(dump.contains("no_execute: true"), "{dump}");
    let stranger =
        "hop 0 [0x007] 0x0000000055550007 at 0x0000038000000000: points out of the pool\n";
    assert!(dump.ends_with(stranger), "{dump}");
}

#[test]
fn an_entry_that_points_out_of_the_pool_is_told_and_the_visit_goes_on() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    table
        .map(device(V1::BASE), run(0x5000, 0x1000), &options)
        .unwrap();
    table
        .map(device(V1::BASE + 0x4000), run(0x9000, 0x1000), &options)
        .unwrap();
    // The leaf table is the last that was taken; a stranger writes to it.
    let leaf_table = TableId::new(pool.usage().used() - 1);
    let words = pool.arena().words(leaf_table).unwrap();
    assert_eq!(TableWord::load(&words[4]), 0x9801);
    TableWord::store(&words[2], 0x5555_0001);
    let told: Vec<_> = table.runs(range(V1::BASE, 0x10_0000)).collect();
    assert_eq!(told.len(), 3);
    assert_eq!(told[0].unwrap().bus.get(), 0x5000);
    let at = device(V1::BASE + 0x2000);
    assert_eq!(told[1], Err(QueryError::Corrupt { at }));
    assert_eq!(told[2].unwrap().bus.get(), 0x9000);
}
