//! Table words that a stranger wrote. The result is undefined for the device, but never a panic.

use mmu_core::{MapOptions, PageTable, TableArena, TableId, TableWord};

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
