//! What people get to read.

use mmu_core::format::{Gaudi2Hmmu, V1};
use mmu_core::{MapOptions, PageTable};

use super::common::shape::Shape;
use super::common::{Memory, device, run};

#[test]
fn a_dump_tells_hop_index_value_and_meaning_and_folds_leaves() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let options = MapOptions::default();
    // Indices 1, 0x46, 0x115, 0x13C, 0x9A (facts 2.8).
    table
        .map(device(0x1_2345_6789_A000), run(0x7000, 0x3000), &options)
        .unwrap();
    table
        .map(device(0x1_2345_6789_D000), run(0x1_0000, 0x1000), &options)
        .unwrap();
    table
        .map(
            device(0x1_2345_67A0_0000),
            run(0x20_0000, 0x40_0000),
            &options,
        )
        .unwrap();
    // Written by hand from the facts; tables are handed out in ascending order.
    let expected = "\
habanalabs v1, root table at 0x0000000040000000, 1 of 4 entries in use
hop 0 [0x001] 0x0000000040001001 at 0x0001000000000000: table at 0x0000000040001000, 1 of 512 entries in use
  hop 1 [0x046] 0x0000000040002001 at 0x0001230000000000: table at 0x0000000040002000, 1 of 512 entries in use
    hop 2 [0x115] 0x0000000040003001 at 0x0001234540000000: table at 0x0000000040003000, 3 of 512 entries in use
      hop 3 [0x13c] 0x0000000040004001 at 0x0001234567800000: table at 0x0000000040004000, 4 of 512 entries in use
        hop 4 [0x09a..=0x09c] 0x0000000000007801 at 0x000123456789a000: 3 x 0x1000 bytes to 0x0000000000007000
        hop 4 [0x09d] 0x0000000000010801 at 0x000123456789d000: 1 x 0x1000 bytes to 0x0000000000010000
      hop 3 [0x13d..=0x13e] 0x0000000000200801 at 0x0001234567a00000: 2 x 0x200000 bytes to 0x0000000000200000
";
    assert_eq!(table.dump().to_string(), expected);
}

#[test]
fn a_dump_of_scrambled_tables_shows_the_addresses_that_people_know() {
    let mut memory = Memory::new(16);
    let pool = memory.pool();
    let mut table = PageTable::<Gaudi2Hmmu<6>, _>::new(&pool).unwrap().unwrap();
    let (at, bus) = (Gaudi2Hmmu::<6>::BASE, Gaudi2Hmmu::<6>::BUS);
    let pages = run(bus, 2 * Gaudi2Hmmu::<6>::PAGE_BYTES);
    table
        .map(device(at), pages, &MapOptions::default())
        .unwrap();
    let dump = table.dump().to_string();
    // Facts 2.8: index 0x80, raw and scrambled bus address.
    let line = "hop 3 [0x080..=0x081] 0x1001000040000801 at 0x1001001800000000: \
                2 x 0x30000000 bytes to 0x1001000030000000\n";
    assert!(dump.ends_with(line), "{dump}");
}
