//! Opening a file where that asks anything of the device: on Goya with its default page, whose mapping
//! takes 65 536 entries.

use hl_harness::asic::{Completion, DramContent, InitiatorMode, Operation};
use hl_harness::machine::{Machine, MachineConfig};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::profile::Goya;
use mmu_core::DeviceAddr;

use crate::rig::{Room, Storage, config, machine};

/// Opens a file, with the device lost at the n-th access to it, and another one after a reset. Returns
/// whether the first was open.
fn open_twice(machine: &Machine<'_, '_, Goya>, nth: u64) -> bool {
    let what = format!("opening, lost at access {nth}");
    let (budget, process) = (Budget::unlimited(), machine.spawn());
    let snapshot = || Snapshot::of(machine, &[], &[&budget]).without_dirt();
    let before = snapshot();
    let mut storage = Storage::new(Room::default());
    let never = Completion::Never;
    machine.asic.inject(Operation::HostAccess, nth, 1, never);
    let opened = storage.open(machine, &process, &budget);
    machine.asic.clear_injections();
    let is_open = opened.is_ok();
    if machine.asic.is_lost() {
        assert!(!is_open, "{what}");
        machine.reset(DramContent::Undefined);
        machine.recover().unwrap();
    }
    if let Ok(context) = opened {
        context.close().unwrap();
    }
    snapshot().assert_is(&before, &what);
    let mut storage = Storage::new(Room::default());
    let context = storage.open(machine, &process, &budget).unwrap();
    let mode = InitiatorMode::User(context.asid().get());
    let engine = machine.asic.add_initiator("next user", mode);
    for at in [0, 0x8_0000_0000, 0x20_0000_0000 - 8] {
        let mut bytes = [0; 8];
        let read = machine.asic.read(engine, DeviceAddr::new(at), &mut bytes);
        assert_eq!(read.map_err(|error| error.to_string()), Ok(()), "{what}");
        assert_eq!(bytes, [0x99; 8], "{what}");
    }
    context.close().unwrap();
    snapshot().assert_is(&before, format_args!("{what}, and the next file"));
    is_open
}

#[test]
fn a_file_with_a_default_page_is_open_or_not_wherever_the_device_goes_and_the_next_one_works() {
    let config = MachineConfig {
        tables: 320,
        default_mapping: true,
        ..config()
    };
    machine::<Goya>(config, |machine| {
        let mut nth = 1;
        while !open_twice(machine, nth) {
            nth *= 2;
        }
        assert!(nth > 64, "there are as many accesses as tables");
    });
}
