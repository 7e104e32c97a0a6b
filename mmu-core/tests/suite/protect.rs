//! Changing the rights of mapped leaves, on the format that has rights.

use mmu_core::format::X86_64;
use mmu_core::{Extent, LeafSizes, MapOptions, PageTable, UnmapError};

use super::common::model::{ALL, Model};
use super::common::shape::Shape;
use super::common::{Memory, Random, Snapshot, Table, agree, confirm, device, range, run};

type X = X86_64<4>;
const SMALL: u64 = 0x1000;
const LARGE: u64 = 0x20_0000;
const ALL_RIGHTS: u8 = 0b011;
const NO_RIGHTS: u8 = 0b100;

fn map(table: &mut Table<'_, '_, X>, at: u64, len: u64, bits: u8) {
    let options = MapOptions {
        sizes: LeafSizes::ALL,
        attributes: X::attributes(bits),
    };
    table
        .map(device(at), run(X::BUS + (at - X::BASE), len), &options)
        .unwrap();
}

#[test]
fn only_rights_that_shrink_make_cached_copies_stale() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<X, _>::new(&pool).unwrap().unwrap();
    let all = range(X::BASE, SMALL);
    for old in 0..8_u8 {
        for new in 0..8_u8 {
            map(&mut table, X::BASE, SMALL, old);
            let stale = confirm(table.protect(all, X::attributes(new)).unwrap());
            // Bits 0 and 1 allow, bit 2 refuses.
            let shrinks = (old ^ 0b100) & !(new ^ 0b100) != 0;
            let expected = if shrinks {
                Extent::Range(all)
            } else {
                Extent::Nothing
            };
            assert_eq!(stale.extent, expected, "{old:03b} to {new:03b}");
            assert!(!stale.tables);
            let found = table.query(device(X::BASE)).unwrap().attributes;
            assert_eq!(X::bits(found), new);
            confirm(table.unmap(all).unwrap());
        }
    }
}

#[test]
fn the_stale_extent_covers_the_leaves_that_lost_rights_and_no_others() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<X, _>::new(&pool).unwrap().unwrap();
    // Read-only, then one large and three small leaves with all rights, then read-only.
    map(&mut table, X::BASE, LARGE, NO_RIGHTS);
    map(&mut table, X::BASE + LARGE, LARGE, ALL_RIGHTS);
    map(&mut table, X::BASE + 2 * LARGE, 3 * SMALL, ALL_RIGHTS);
    map(
        &mut table,
        X::BASE + 2 * LARGE + 3 * SMALL,
        SMALL,
        NO_RIGHTS,
    );
    let all = range(X::BASE, 2 * LARGE + 4 * SMALL);
    let stale = confirm(table.protect(all, X::attributes(NO_RIGHTS)).unwrap());
    let lost = range(X::BASE + LARGE, LARGE + 3 * SMALL);
    assert_eq!(stale.extent, Extent::Range(lost));
    assert_eq!(stale.root, table.root());
}

#[test]
fn a_range_that_is_not_whole_mapped_leaves_keeps_its_rights() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<X, _>::new(&pool).unwrap().unwrap();
    map(&mut table, X::BASE, LARGE + 3 * SMALL, ALL_RIGHTS);
    let before = Snapshot::of(&pool);
    let end = X::BASE + LARGE + 3 * SMALL;
    for (at, len, expected) in [
        (
            X::BASE,
            SMALL,
            UnmapError::WouldSplit {
                leaf: device(X::BASE),
            },
        ),
        (
            X::BASE,
            LARGE + 4 * SMALL,
            UnmapError::NotMapped { at: device(end) },
        ),
        (
            X::BASE,
            LARGE + 1,
            UnmapError::Misaligned {
                at: device(X::BASE),
            },
        ),
        (
            1 << 47,
            SMALL,
            UnmapError::OutOfRange {
                at: device(1 << 47),
            },
        ),
    ] {
        let result = table.protect(range(at, len), X::attributes(NO_RIGHTS));
        assert_eq!(result.unwrap_err(), expected);
        before.expect(&pool, "a refused change of rights");
    }
}

#[test]
fn rights_changed_at_random_agree_with_the_oracle() {
    let mut memory = Memory::new(64);
    let pool = memory.pool();
    let mut table = PageTable::<X, _>::new(&pool).unwrap().unwrap();
    let mut model = Model::<X>::new();
    let window = (X::EDGE - 4 * LARGE, 8 * LARGE);
    let mut random = Random::new(0x9806);
    for _ in 0..600 {
        let at = window.0 + random.below(8) * LARGE + random.below(3) * SMALL;
        let len =
            (random.below(3) * LARGE + (1 + random.below(3)) * SMALL).min(window.0 + window.1 - at);
        let bits = random.below(8) as u8;
        if random.below(2) == 0 {
            let bus = X::BUS + (at - X::BASE);
            let options = MapOptions {
                sizes: LeafSizes::ALL,
                attributes: X::attributes(bits),
            };
            let result = table.map(device(at), run(bus, len), &options);
            assert_eq!(result, model.map(at, &[(bus, len)], ALL, bits));
        } else {
            let (at, len) = match model.nth_piece(random.below(32)) {
                Some(piece) if random.below(2) == 0 => piece,
                _ => (at, len),
            };
            let result = table.protect(range(at, len), X::attributes(bits));
            let result = result.map(|removed| {
                confirm(removed);
            });
            assert_eq!(result, model.protect(at, len, bits));
        }
        agree(&pool, &table, &model, window);
    }
    assert!(!model.is_empty());
}
