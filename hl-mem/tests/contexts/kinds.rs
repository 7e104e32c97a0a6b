//! Exports of device memory, and pools of timestamps.

use std::num::NonZeroU64;

use hl_mem::budget::Budget;
use hl_mem::context::MapDramError;
use hl_mem::dram::{Contiguity, Sharing};
use hl_mem::inspect::Part;
use hl_mem::profile::{Asic, Gaudi2, Goya};
use hl_mem::timestamps::Registered;
use hl_mem::uapi::{Errno, ExportRefused};
use hl_mem::va::AllocateError;
use hl_mem::{SpaceError, Wanted};

use super::support::smallest_port::{Machine, PAGE_BYTES};
use super::support::{NoCache, file_storage};
use super::two_mmus;

#[test]
fn memory_in_many_pieces_is_mapped_to_the_last_one() {
    let device = two_mmus(NoCache::new(3), NoCache::new(3));
    let budget = Budget::unlimited();
    let context = device.open((), &budget, file_storage()).unwrap();
    let page = Gaudi2::<6>::PROFILE.dram.page_bytes;
    let allocate = |pages| {
        let memory = context.allocate_dram(pages * page, Contiguity::Scattered, Sharing::Private);
        memory.unwrap()
    };
    // Every other page is taken, so that nothing is in one piece with anything.
    let pages: Vec<_> = (0..16).map(|_| allocate(1)).collect();
    for memory in pages.into_iter().step_by(2) {
        context.free_dram(memory).unwrap();
    }
    let at = context.map_dram(allocate(7), Wanted::Anywhere).unwrap();
    let mut seen = Vec::new();
    context.inspect(&mut |part| {
        if let Part::Mapping { range, runs, .. } = part {
            assert_eq!((range.start(), range.len()), (at, 7 * page));
            seen.extend(runs);
        }
    });
    assert_eq!(seen.len(), 7);
    assert_eq!(context.usage().bytes, 7 * page);
    context.close().unwrap();
}

#[test]
fn memory_for_which_there_are_no_nodes_is_not_mapped_elsewhere() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let memory = context.allocate_dram(1, Contiguity::Contiguous, Sharing::Private);
    let memory = memory.unwrap();
    // Of sixteen nodes, one has what is free.
    for _ in 0..15 {
        context.map_dram(memory, Wanted::Anywhere).unwrap();
    }
    let refused = context.map_dram(memory, Wanted::Anywhere);
    let no_nodes = SpaceError::Addresses(AllocateError::NoNodes);
    assert_eq!(refused, Err(MapDramError::Space(no_nodes)));
    assert_eq!(context.close().unwrap().mappings, 15);
}

#[test]
fn an_export_tells_how_much_it_is_of_and_where_it_is() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let bytes = Goya::PROFILE.dram.page_bytes;
    let memory = context.allocate_dram(bytes, Contiguity::Contiguous, Sharing::Private);
    let at = context.map_dram(memory.unwrap(), Wanted::Anywhere).unwrap();
    let export = context
        .export_dram(at, 3 * PAGE_BYTES, 5 * PAGE_BYTES)
        .unwrap();
    assert_eq!(export.bytes(), 3 * PAGE_BYTES);
    let text = export.to_string();
    for number in [format!("{at}"), "0x5000".to_owned()] {
        assert!(text.contains(&number), "{text}");
    }
    let errno = Errno::EOPNOTSUPP;
    let refused = ExportRefused { export, errno };
    let told = refused.to_string();
    assert!(told.contains(&text) && told.ends_with("EOPNOTSUPP"));
    let ExportRefused { export, .. } = refused;
    machine.device.with_export(&export, |runs| {
        assert_eq!(runs.map(|run| run.len()).sum::<u64>(), export.bytes());
    });
    context.end_export(export).unwrap();
    context.close().unwrap();
}

#[test]
fn a_pool_that_nothing_waits_for_stays_as_long_as_a_handle_names_it() {
    let time = NonZeroU64::new(7).unwrap();
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    let pool = context.create_timestamps(4).unwrap();
    let view = context.mmap(pool, PAGE_BYTES).unwrap();
    context.reap_timestamps();
    // Making another one reaps as well.
    let other = context.create_timestamps(4).unwrap();
    for slot in 0..4 {
        let registered = context.register_timestamp(pool, slot, (0, 1), 0, time);
        assert_eq!(registered, Ok(Registered::Pending));
    }
    assert_eq!(context.counter_reached(0, 1, time).unwrap().completed, 4);
    assert_eq!(view.view().read_word(3), 7);
    machine.device.end_view(view).unwrap();
    for handle in [pool, other] {
        context.destroy_timestamps(handle).unwrap();
    }
    assert_eq!(machine.ram.allocated(), 0);
    context.close().unwrap();
}
