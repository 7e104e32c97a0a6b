//! The snapshots themselves: what the sweeps would not notice, if these did not see it.

use hl_harness::host::Permission;
use hl_harness::machine::Model;
use hl_harness::stress::Snapshot;
use hl_mem::budget::Budget;
use hl_mem::uapi::{FLAG_FORCE_HINT, FLAG_USERPTR, OP_MAP, OP_UNMAP};

use crate::rig::{PAGE, Room, Storage, call, config, machine, on_each_asic};

on_each_asic!(addresses_that_moved_are_a_difference_though_as_many_are_free_in_as_many_pieces);

fn addresses_that_moved_are_a_difference_though_as_many_are_free_in_as_many_pieces<A: Model>() {
    machine::<A>(config(), |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = Storage::new(Room::default());
        let context = storage.open(machine, &process, &budget).unwrap();
        let buffer = process.map(1, Permission::ReadWrite).unwrap().get();
        let start = A::PROFILE.host.range.start().get();
        let map = |at: u64| {
            let flags = FLAG_USERPTR | FLAG_FORCE_HINT;
            call(&context, [buffer, at, PAGE], OP_MAP, flags).unwrap();
        };
        let snapshot = || Snapshot::of(machine, &[&context], &[&budget]).without_dirt();
        let (one, other) = (start + 16 * PAGE, start + 24 * PAGE);
        map(one);
        let before = snapshot();
        call(&context, [one, 0, 0], OP_UNMAP, 0).unwrap();
        map(other);
        let after = snapshot();
        assert_eq!(before.contexts, after.contexts, "every number is the same");
        let lines = after.difference(&before);
        let piece = |at: u64, len: u64| format!("[{at:#018x}, +{len:#x})");
        for (piece, what) in [
            (piece(start, 16 * PAGE), "was a free piece"),
            (piece(one, PAGE), "was a mapping"),
            (piece(start, 24 * PAGE), "is now a free piece"),
            (piece(other, PAGE), "is now a mapping"),
        ] {
            let told = |line: &String| line.starts_with(&piece) && line.contains(what);
            assert!(lines.iter().any(told), "{piece} {what}: {lines:#?}");
        }
        context.close().unwrap();
    });
}
