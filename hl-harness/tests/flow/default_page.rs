//! Goya's default page: what a stray access of a user's engine finds (facts DP-1 to DP-10).

use hl_harness::asic::{Completion, InitiatorMode, Operation};
use hl_harness::machine::{Machine, MachineConfig};
use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::context::OpenError;
use hl_mem::dram::{Contiguity, Sharing};
use hl_mem::profile::Goya;
use mmu_core::{DeviceAddr, MapError};

use crate::rig::{machine_of, user_mode};

/// Facts DP-3: a table of hop 1, one of hop 2, and 128 of hop 3.
const TABLES: u32 = 130;
const LEAF: u64 = 2 << 20;
/// The end of what the page is mapped at, 128 GiB.
const END: u64 = 0x20_0000_0000;

fn goya(tables: u32, run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, Goya>)) {
    let config = MachineConfig {
        tables,
        users: 2,
        default_mapping: true,
        ..MachineConfig::default()
    };
    machine_of::<Goya>(config, run);
}

#[test]
fn a_stray_access_finds_the_default_page_and_memory_that_is_mapped_takes_its_place() {
    goya(1024, |machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        assert_eq!(machine.counters().tables, before.tables + TABLES);
        let engine = machine.asic.add_initiator("dma", user_mode(context.asid()));
        let read = |at: u64| {
            let mut bytes = [0; 8];
            let read = machine.asic.read(engine, DeviceAddr::new(at), &mut bytes);
            read.map(|()| bytes)
        };
        for at in [0, 0x1000, 0x8_0000_0000, 0x12_3456_7890, END - 8] {
            assert_eq!(read(at).ok(), Some([0x99; 8]), "{at:#x}");
        }
        assert!(read(END).is_err(), "the default mapping is too long");

        let pack = context
            .allocate_dram(2 * LEAF, Contiguity::Contiguous, Sharing::Private)
            .unwrap();
        let at = context.map_dram(pack, Wanted::Anywhere).unwrap();
        assert_eq!(machine.counters().tables, before.tables + TABLES);
        let last = DeviceAddr::new(at.get() + 2 * LEAF - 8);
        machine.asic.write(engine, last, b"not 0x99").unwrap();
        assert_eq!(read(last.get()).unwrap(), *b"not 0x99");
        assert_eq!(read(at.get() + 2 * LEAF).ok(), Some([0x99; 8]));
        context.unmap(at).unwrap();
        assert_eq!(read(last.get()).ok(), Some([0x99; 8]));
        context.free_dram(pack).unwrap();

        // The privileged space has none (facts DP-1).
        let privileged = machine.asic.add_initiator("cpu", InitiatorMode::Privileged);
        let stray = machine
            .asic
            .read(privileged, DeviceAddr::new(0x1000), &mut [0; 8]);
        assert!(stray.is_err());

        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.dram), (0, 0));
        assert!(
            read(0x1000).is_err(),
            "the table of nobody has a default page"
        );
        drop(process);
        let after = machine.counters();
        assert_eq!((after.tables, after.device.free_asids), (before.tables, 2));
    });
}

#[test]
fn a_file_is_not_opened_where_the_tables_do_not_suffice_and_nothing_changes() {
    goya(TABLES + 10, |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let first = machine.open(&process, &budget, &mut storage).unwrap();
        let before = machine.counters();
        let mut storage = machine.storage();
        let refused = machine.open(&process, &budget, &mut storage).map(drop);
        let needed = u64::from(TABLES);
        let expected = OpenError::DefaultPage(MapError::NoTableMemory { needed });
        assert_eq!(refused.unwrap_err(), expected);
        assert_eq!(machine.counters(), before);
        first.close().unwrap();
        let mut storage = machine.storage();
        let second = machine.open(&process, &budget, &mut storage).unwrap();
        second.close().unwrap();
    });
}

#[test]
fn a_close_whose_invalidation_fails_keeps_the_default_page_until_one_succeeds() {
    goya(1024, |machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        machine
            .asic
            .inject(Operation::Invalidation, 1, 100, Completion::Never);
        let context = context.close().unwrap_err().into_context();
        assert_eq!(machine.counters().tables, before.tables + TABLES);
        assert_eq!(machine.counters().device.free_asids, 1);
        machine.asic.clear_injections();
        context.close().unwrap();
        drop(process);
        assert_eq!(machine.counters().tables, before.tables);
        assert_eq!(machine.counters().device.free_asids, 2);
    });
}
