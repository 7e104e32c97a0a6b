//! Windows, in which the driver itself maps memory: of the privileged space, and of a user's.

use hl_harness::asic::{Completion, Operation};
use hl_harness::log::EventKind;
use hl_harness::machine::{Machine, Model};
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::device::{MapWindowError, PrivilegedWindow, WindowMemory};
use hl_mem::host::{DmaAddr, DmaRun};
use hl_mem::profile::{Asic, Gaudi2, Goya};
use mmu_core::{BusAddr, Run};

use crate::rig::{PAGE, Room, Storage, config, machine};

/// What fails, and how often from the n-th time on.
const FAILURES: [(Operation, u64); 4] = [
    (Operation::Invalidation, 1),
    (Operation::Invalidation, u64::MAX),
    (Operation::BarRead, 1),
    (Operation::BarRead, u64::MAX),
];

/// Lets each occasion of a failure in `act` come, until none is left. `act` returns whether it succeeded.
fn sweep<A: Model>(machine: &Machine<'_, '_, A>, mut act: impl FnMut(&dyn Fn(), &str) -> bool) {
    for (operation, times) in FAILURES {
        let mut failures = 0;
        for nth in 1.. {
            let what = format!("{operation:?} {nth}, {times} times");
            let begun = machine.log.count(EventKind::InvalidateBegin);
            let arm = || {
                let never = Completion::Never;
                machine.asic.inject(operation, nth, times, never);
            };
            let succeeded = act(&arm, &what);
            failures += u64::from(!succeeded);
            let begun = machine.log.count(EventKind::InvalidateBegin) - begun;
            // There are invalidations that are made up for.
            if succeeded && (operation == Operation::BarRead || begun < nth) {
                break;
            }
        }
        let is_met = operation == Operation::Invalidation || A::PROFILE.one_table;
        assert_eq!(failures > 0, is_met, "{operation:?}, {times} times");
    }
}

#[test]
fn a_privileged_window_is_mapped_or_not_whatever_fails_and_can_be_unmapped_at_last() {
    machine::<Goya>(config(), |machine| {
        let window = PrivilegedWindow::Processor;
        let memory = WindowMemory::Device(Run::new(BusAddr::new(0), 3 * PAGE).unwrap());
        let (device, privilege) = (&machine.device, &machine.privilege);
        let map = || device.map_window(privilege, window, memory);
        let unmap = || device.unmap_window(privilege, window);
        let snapshot = || Snapshot::of(machine, &[], &[]).without_dirt();
        let fresh = snapshot();
        map().unwrap();
        let mapped = snapshot();
        unmap().unwrap();
        snapshot().assert_is(&fresh, "undisturbed");
        sweep(machine, |arm, what| {
            arm();
            let outcome = map();
            machine.asic.clear_injections();
            if outcome.is_ok() {
                // The pool may give out its tables in another order by now.
                assert_eq!(snapshot().counters, mapped.counters, "mapping with {what}");
            }
            // What was not mapped as a whole, and the device may have seen a part of, is there as well.
            unmap().unwrap();
            snapshot().assert_is(&fresh, format_args!("after mapping with {what}"));
            outcome.is_ok()
        });
        sweep(machine, |arm, what| {
            map().unwrap();
            arm();
            let outcome = unmap();
            machine.asic.clear_injections();
            if outcome.is_err() {
                assert_eq!(map(), Err(MapWindowError::Occupied), "{what}");
                unmap().unwrap();
            }
            snapshot().assert_is(&fresh, format_args!("after unmapping with {what}"));
            outcome.is_ok()
        });
    });
}

#[test]
fn a_window_of_a_user_is_mapped_or_not_whatever_fails_and_goes_with_his_file() {
    machine::<Gaudi2<6>>(config(), |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let page = machine.host.kernel_contiguous(1, 1, "doorbell").unwrap();
        let start = machine.host.bus_address(page.frames()[0]).get();
        let memory = WindowMemory::Host(DmaRun::new(DmaAddr::new(start), PAGE).unwrap());
        let window = Gaudi2::<6>::PROFILE.host.fixed[0].start();
        let snapshot = || Snapshot::of(machine, &[], &[&budget]).without_dirt();
        let before = snapshot();
        sweep(machine, |arm, what| {
            let mut storage = Storage::new(Room::default());
            let context = storage.open(machine, &process, &budget).unwrap();
            let map = || context.map_window(&machine.privilege, window, memory);
            let fresh = Snapshot::of(machine, &[&context], &[&budget]);
            arm();
            let outcome = map();
            machine.asic.clear_injections();
            if outcome.is_err() {
                context.settle_quarantine().unwrap();
                let after = Snapshot::of(machine, &[&context], &[&budget]);
                after.assert_is(&fresh, format_args!("a window with {what}"));
                // It is free for another try.
                map().unwrap();
            }
            context.close().unwrap();
            snapshot().assert_is(&before, format_args!("closing after a window with {what}"));
            outcome.is_ok()
        });
    });
}
