//! One mapping of each shape, on every format.
mod common;

use common::{Memory, NoCache};
use mmu_core::format::{Gaudi2Hmmu, Gaudi2Pmmu, Gaudi2Pmmu64K, V1, X86_64};
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Format, LeafSizes, MapError, MapOptions, PageTable, QueryError,
    Run, UnmapError,
};

fn run(bus: u64, len: u64) -> Run {
    AddrRange::new(BusAddr::new(bus), len).unwrap()
}
fn range(at: u64, len: u64) -> AddrRange<DeviceAddr> {
    AddrRange::new(DeviceAddr::new(at), len).unwrap()
}

fn round_trip<F: Format>(at: u64, bus: u64, len: u64, page: u64)
where
    F::Attributes: Default,
{
    let mut memory = Memory::new(2100);
    let pool = memory.pool(0x4000_0000);
    let mut table = PageTable::<F, _>::new(&pool).unwrap().unwrap();
    let before = pool.usage();
    table
        .map(DeviceAddr::new(at), run(bus, len), &MapOptions::default())
        .unwrap();
    let mut offset = 0;
    while offset < len {
        let got = table.query(DeviceAddr::new(at + offset)).unwrap();
        assert_eq!(
            got.bus,
            BusAddr::new(bus + offset),
            "{} +{offset:#x}",
            F::NAME
        );
        offset += page;
    }
    let after = table.query(DeviceAddr::new(at + len));
    assert!(matches!(after, Err(QueryError::NotMapped { .. })));
    let again = table.map(
        DeviceAddr::new(at + len - page),
        run(bus, page),
        &MapOptions::default(),
    );
    assert!(
        matches!(again, Err(MapError::AlreadyMapped { .. })),
        "{again:?}"
    );
    let hole = table.unmap(range(at, len + page));
    assert!(
        matches!(hole, Err(UnmapError::NotMapped { .. })),
        "{hole:?}"
    );
    table
        .unmap(range(at, len))
        .unwrap()
        .confirm(&mut NoCache::default())
        .unwrap();
    assert_eq!(pool.usage(), before);
    assert!(table.is_empty());
    let _ = table.close().confirm(&mut NoCache::default());
    assert_eq!(pool.usage().used(), 0);
}

#[test]
fn what_is_mapped_translates_and_what_is_unmapped_leaves_nothing_on_every_format() {
    for len in [
        0x1000,
        0x3000,
        0x20_0000,
        0x20_1000,
        0x4000_0000,
        0x4020_3000u64,
    ] {
        round_trip::<V1>(0x1_0000_0000_0000, 0x1000_0000, len, 0x1000);
        round_trip::<V1>(0x1_0000_001F_F000, 0x1000_0000, len, 0x1000);
        round_trip::<Gaudi2Pmmu>(0xFFF0_0000_0000_0000, 0x1000_0000, len, 0x1000);
        round_trip::<Gaudi2Pmmu>(0xFFF0_0000_001F_F000, 0x101F_F000, len, 0x1000);
        round_trip::<X86_64<4>>(0x40_0000_0000, 0x4000_0000, len, 0x1000);
        round_trip::<X86_64<5>>(0xFFFF_F000_0000_1000, 0x4000_0000, len, 0x1000);
        let len = len * 16;
        round_trip::<Gaudi2Pmmu64K>(0xFFF0_0000_0000_0000, 0x1000_0000, len, 0x1_0000);
    }
    for pages in [1, 2, 127] {
        let (page6, page5) = (768 << 20, 640 << 20);
        round_trip::<Gaudi2Hmmu<6>>(
            0x1001_0018_0000_0000,
            0x1001_0000_3000_0000,
            pages * page6,
            page6,
        );
        round_trip::<Gaudi2Hmmu<5>>(
            0x1001_0014_0000_0000,
            0x1001_0000_2800_0000,
            pages * page5,
            page5,
        );
    }
}

#[test]
fn a_list_of_scattered_pages_maps_each_of_them() {
    let mut memory = Memory::new(64);
    let pool = memory.pool(0x4000_0000);
    let mut table = PageTable::<V1, _>::new(&pool).unwrap().unwrap();
    let pages: Vec<Run> = (0..3000u64)
        .map(|i| run(((i * 7919) % 65536) << 12, 0x1000))
        .collect();
    let all = range(0x1_0000_0000_0000 + 0x1000 * 100, 0x1000 * 3000);
    table
        .map_list(
            all,
            pages.iter().copied(),
            &MapOptions {
                sizes: LeafSizes::ALL,
                ..MapOptions::default()
            },
        )
        .unwrap();
    for (i, page) in pages.iter().enumerate() {
        let at = DeviceAddr::new(all.start().get() + i as u64 * 0x1000 + 5);
        assert_eq!(table.query(at).unwrap().bus.get(), page.start().get() + 5);
    }
    table
        .unmap(all)
        .unwrap()
        .confirm(&mut NoCache::default())
        .unwrap();
    assert_eq!(pool.usage().used(), 1);
}
