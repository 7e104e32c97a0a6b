//! Forks: what is shared, what is copied, and what stays with the parent.

use super::super::*;

in_each_storage!(
    a_child_has_what_its_parent_had_and_neither_sees_what_the_other_writes,
    pinned_pages_stay_with_the_parent,
    a_shared_page_is_copied_before_it_is_pinned_whatever_for,
    a_page_that_cannot_be_copied_stays_shared_and_a_fork_that_fails_leaves_no_child,
    reclaim_moves_a_page_once_only_one_process_has_it,
);

fn a_child_has_what_its_parent_had_and_neither_sees_what_the_other_writes(storage: FrameStorage) {
    let host = host(storage, 64);
    let before = host.counters();
    let parent = host.spawn();
    let start = parent.map(3, Permission::ReadWrite).unwrap();
    parent.write(start, &[1; 3 * FRAME_SIZE]).unwrap();
    parent.protect(start, 1, Permission::ReadOnly);
    let child = parent.fork().unwrap();
    assert_eq!(host.counters().user_frames, 3, "pages are shared");
    let second = start.offset(PAGE);
    child.write(second, b"child").unwrap();
    assert_eq!(host.counters().user_frames, 4, "one is copied");
    parent.write(start.offset(2 * PAGE), b"parent").unwrap();
    let read = |process: &Process, at| {
        let mut bytes = [0; 6];
        process.read(at, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(read(&parent, second), [1; 6]);
    assert_eq!(&read(&child, second)[..5], b"child");
    assert_eq!(read(&child, start.offset(2 * PAGE)), [1; 6]);
    assert_eq!(
        child.write(start, b"x"),
        Err(UserFault::ReadOnly { address: start })
    );
    // What only one of them has left is not copied.
    let frame = parent.frame_at(start);
    drop(child);
    parent.protect(start, 1, Permission::ReadWrite);
    parent.write(start, b"alone").unwrap();
    assert_eq!(parent.frame_at(start), frame);
    drop(parent);
    assert_restored(&host, before);
}

fn pinned_pages_stay_with_the_parent(storage: FrameStorage) {
    let host = host(storage, 64);
    let before = host.counters();
    let parent = host.spawn();
    let start = parent.map(2, Permission::ReadWrite).unwrap();
    parent.write(start, &[1; 2 * FRAME_SIZE]).unwrap();
    let pinned = parent.pin(start, 1, PinAccess::Write).unwrap();
    let child = parent.fork().unwrap();
    assert_ne!(child.frame_at(start), Some(pinned[0]));
    assert_eq!(
        child.frame_at(start.offset(PAGE)),
        parent.frame_at(start.offset(PAGE))
    );
    // The parent writes, and the device sees it; the device writes, and the parent sees it.
    parent.write(start, b"parent").unwrap();
    let bus = host.bus_address(pinned[0]);
    assert_eq!(host.load_u64(bus).unwrap().to_le_bytes()[..6], *b"parent");
    host.store_u64(bus, u64::from_le_bytes(*b"a device"))
        .unwrap();
    let mut bytes = [0; 8];
    parent.read(start, &mut bytes).unwrap();
    assert_eq!(&bytes, b"a device");
    child.read(start, &mut bytes).unwrap();
    assert_eq!(bytes, [1; 8]);
    host.unpin(pinned[0], true).unwrap();
    drop((parent, child));
    assert_restored(&host, before);
}

fn a_shared_page_is_copied_before_it_is_pinned_whatever_for(storage: FrameStorage) {
    for access in [PinAccess::Read, PinAccess::Write] {
        let host = host(storage, 64);
        let before = host.counters();
        let parent = host.spawn();
        let start = parent.map(1, Permission::ReadWrite).unwrap();
        let child = parent.fork().unwrap();
        let pinned = child.pin(start, 1, access).unwrap();
        assert_ne!(parent.frame_at(start), Some(pinned[0]), "{access:?}");
        child.write(start, b"child").unwrap();
        assert_eq!(child.frame_at(start), Some(pinned[0]), "{access:?}");
        host.unpin(pinned[0], false).unwrap();
        drop((parent, child));
        assert_restored(&host, before);
    }
}

fn a_page_that_cannot_be_copied_stays_shared_and_a_fork_that_fails_leaves_no_child(
    storage: FrameStorage,
) {
    let host = host(storage, 64);
    let before = host.counters();
    let parent = host.spawn();
    let start = parent.map(1, Permission::ReadWrite).unwrap();
    let child = parent.fork().unwrap();
    host.fail(HostFailure::FrameAllocation, Some(1));
    let refused = child.write(start, b"child");
    assert_eq!(refused, Err(UserFault::OutOfFrames { address: start }));
    host.fail(HostFailure::FrameAllocation, Some(1));
    let refused = child.pin(start, 1, PinAccess::Read).unwrap_err();
    assert_eq!(refused.reason, PinReason::OutOfFrames);
    assert_eq!(child.frame_at(start), parent.frame_at(start));
    child.write(start, b"child").unwrap();
    drop(child);

    let pinned = parent.pin(start, 1, PinAccess::Write).unwrap();
    let alone = host.counters();
    host.fail(HostFailure::FrameAllocation, Some(1));
    assert!(parent.fork().is_err());
    assert_eq!(host.counters(), alone);
    parent.write(start, b"parent").unwrap();
    assert_eq!(parent.frame_at(start), Some(pinned[0]));
    host.unpin(pinned[0], false).unwrap();
    drop(parent);
    assert_restored(&host, before);
}

fn reclaim_moves_a_page_once_only_one_process_has_it(storage: FrameStorage) {
    let host = host(storage, 64);
    let parent = host.spawn();
    let start = parent.map(1, Permission::ReadWrite).unwrap();
    parent.write(start, b"content").unwrap();
    let child = parent.fork().unwrap();
    assert_eq!(host.reclaim(), 0);
    drop(parent);
    assert_eq!(host.reclaim(), 1);
    let mut bytes = [0; 7];
    child.read(start, &mut bytes).unwrap();
    assert_eq!(&bytes, b"content");
    child.write(start, b"written").unwrap();
}
