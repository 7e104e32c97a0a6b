//! What errors and events say to people.

use std::fmt::Display;
use std::num::NonZeroU64;
use std::string::{String, ToString};
use std::vec::Vec;
use std::{assert, assert_eq, assert_ne, format, vec};

use mmu_core::{AddrRange, BusAddr, ConfirmError, DeviceAddr, MapError, Run};

use crate::asid::{Asid, UserAsid};
use crate::budget::{Budget, ForeignCharge, OverBudget};
use crate::context::{
    DestroyError, ExportDramError, MapDramError, MapUserError, OpenError, RegisterBlockError,
    RegisterTimestampError, UnmapUserError, ViewError,
};
use crate::device::{
    BlockRangeError, BringUpError, BufferError, DramError, DramRunError, ForeignPrivilege,
    MapBufferError, MapWindowError, OwnBlockError, RetireError, StillUsed, UnmapWindowError,
};
use crate::dram::{self, ExportError, Foreign, NotScrubbed, PackError, PackHandle, RegionError};
use crate::events::{DeviceEvent, NotInFront};
use crate::handle::{
    ForeignReservation, HandleError, HandleKind, HandleSlot, HandleTable, RawHandle, TableFull,
};
use crate::host::HostError;
use crate::lock::tests::RANKS;
use crate::lock::{LockRank, OutOfOrder};
use crate::mmu::{Fault, FaultKind, MmuError};
use crate::owner::Owner;
use crate::ring::{
    self, FramePopError, FramePushError, HeaderError, PeerIndex, PopError, PushError,
    SharedWordsError,
};
use crate::space::SpaceError;
use crate::timestamps::{
    CounterSlot, CounterWaits, ForeignRegistration, NoSuchCounter, PoolSize, PoolSizeError,
    RegisterError, StillPending, StillWaiting, TimestampMemory, TimestampPool, TimestampSlot,
    TooFewSlots, Wait, WaitSlot,
};
use crate::uapi::Errno;
use crate::va;

const AT: DeviceAddr = DeviceAddr::new(0x1234_5000);

fn run() -> Run {
    AddrRange::const_bus(BusAddr::new(0x1234_5000), 0x1000).unwrap()
}

/// The messages of one type, which are sentences that can stand after a colon, and differ.
fn distinct<T: Display>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    let messages: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
    for (place, message) in messages.iter().enumerate() {
        assert!(message.len() > 2, "{place}: {message:?}");
        assert!(!message.ends_with(['.', ' ']), "{message:?}");
        let first = message.split(' ').next().unwrap_or_default();
        let acronym = first.chars().all(char::is_uppercase);
        assert!(acronym || first == first.to_lowercase(), "{message:?}");
        assert!(!messages[..place].contains(message), "{message:?} twice");
    }
    messages
}

/// Each message names the place that its error carries.
fn naming_the_place<T: Display>(values: impl IntoIterator<Item = T>) {
    for message in distinct(values) {
        assert!(message.contains("12345000"), "{message:?}");
    }
}

#[test]
fn errors_of_a_context_differ_and_pass_on_what_is_behind_them() {
    let host = HostError::NoMemory;
    let space = SpaceError::Runs;
    let mmu = MmuError::DeviceLost;
    let handle = HandleError::Stale;
    distinct([
        OpenError::Lost,
        OpenError::NoAddressSpace,
        OpenError::Storage(va::LayoutError::NoNodes),
        OpenError::DefaultPage(MapError::DeviceLost),
        OpenError::Engines,
    ]);
    let over = OverBudget {
        requested: 4711,
        left: 815,
        limit: 9000,
    };
    let messages = distinct([
        MapUserError::TooManyMappings,
        MapUserError::Budget(over),
        MapUserError::Host(host),
        MapUserError::Space(space),
        MapUserError::Mmu(mmu),
        MapUserError::Lost,
        MapUserError::Reset,
        MapUserError::Closing,
    ]);
    for number in ["4711", "815", "9000"] {
        assert!(messages[1].contains(number));
    }
    assert_eq!(messages[2], host.to_string());
    distinct([
        MapDramError::Unsupported,
        MapDramError::TooManyMappings,
        MapDramError::Lost,
        MapDramError::Reset,
        MapDramError::Closing,
        MapDramError::Pack(PackError::Stale),
        MapDramError::Space(space),
        MapDramError::Mmu(mmu),
    ]);
    let unconfirmed = ConfirmError::Invalidate(mmu);
    distinct([UnmapUserError::Unconfirmed(unconfirmed)]);
    naming_the_place([
        UnmapUserError::NotMapped { at: AT },
        UnmapUserError::Exported { at: AT },
    ]);
    let messages = distinct([
        ViewError::Handle(handle),
        ViewError::Length { expected: 0x4711 },
        ViewError::Viewed,
        ViewError::Host(host),
        ViewError::Lost,
        ViewError::Reset,
        ViewError::Closing,
    ]);
    assert!(messages[1].contains("0x4711"));
    let retire: [RetireError<&str>; 2] = [
        RetireError::Engines("they are busy"),
        RetireError::Unconfirmed(unconfirmed),
    ];
    assert!(distinct(retire)[0].ends_with("they are busy"));
    let own: [OwnBlockError<&str>; 3] = [
        OwnBlockError::ForeignPrivilege,
        OwnBlockError::Unknown,
        OwnBlockError::Retire(retire[0]),
    ];
    assert!(distinct(own)[2].ends_with("they are busy"));
    distinct([
        DestroyError::Handle(handle),
        DestroyError::Retire(retire[0]),
        DestroyError::Unconfirmed(unconfirmed),
    ]);
    distinct([
        ExportDramError::Range(ExportError::Misaligned),
        ExportDramError::OutOfReach,
        ExportDramError::TooMany,
        ExportDramError::Lost,
        ExportDramError::Reset,
        ExportDramError::Closing,
    ]);
    naming_the_place([ExportDramError::NotMapped { at: AT }]);
    distinct([
        RegisterBlockError::Lost,
        RegisterBlockError::Reset,
        RegisterBlockError::Closing,
        RegisterBlockError::NoBlocks,
        RegisterBlockError::Unknown,
        RegisterBlockError::TooManyHandles,
    ]);
    distinct([
        RegisterTimestampError::Lost,
        RegisterTimestampError::Reset,
        RegisterTimestampError::Closing,
        RegisterTimestampError::Handle(handle),
        RegisterTimestampError::Counter(NoSuchCounter {
            index: 7,
            counters: 3,
        }),
        RegisterTimestampError::Register(RegisterError::Closed),
    ]);
}

#[test]
fn errors_of_a_device_differ_and_pass_on_what_is_behind_them() {
    let space = SpaceError::Runs;
    let mmu = MmuError::Stuck;
    distinct([
        BringUpError::NoTableMemory,
        BringUpError::DeviceLost,
        BringUpError::Addresses(va::LayoutError::NoNodes),
        BringUpError::Mmu(mmu),
        BringUpError::DefaultPage,
    ]);
    let users = 4711;
    assert!(distinct([BringUpError::TooManySeats { users }])[0].contains("4711"));
    distinct([
        BufferError::Size,
        BufferError::TooManyBuffers,
        BufferError::TooManyHandles,
        BufferError::TooManyTimestamps,
        BufferError::Unsupported,
        BufferError::Host(HostError::NoMemory),
        BufferError::Map(MapBufferError::TooManyMappings),
        BufferError::Lost,
        BufferError::Reset,
        BufferError::Closing,
    ]);
    distinct([
        MapBufferError::Handle(HandleError::Unknown),
        MapBufferError::TooManyMappings,
        MapBufferError::Lost,
        MapBufferError::Reset,
        MapBufferError::Closing,
        MapBufferError::Space(space),
        MapBufferError::Mmu(mmu),
    ]);
    naming_the_place([MapBufferError::Mapped { at: AT }]);
    distinct([
        MapWindowError::NoWindow,
        MapWindowError::Memory,
        MapWindowError::Occupied,
        MapWindowError::TooManyMappings,
        MapWindowError::Lost,
        MapWindowError::Reset,
        MapWindowError::Closing,
        MapWindowError::Space(space),
        MapWindowError::Mmu(mmu),
    ]);
    let unconfirmed = UnmapWindowError::Unconfirmed(ConfirmError::Invalidate(mmu));
    let foreign = distinct([ForeignPrivilege]);
    let messages = [
        distinct([UnmapWindowError::ForeignPrivilege, unconfirmed]),
        distinct([BlockRangeError::ForeignPrivilege, BlockRangeError::Unmapped]),
        distinct([
            DramRunError::ForeignPrivilege,
            DramRunError::Pack(PackError::Stale),
        ]),
    ];
    assert!(messages.iter().all(|messages| messages[0] == foreign[0]));
    distinct([
        StillUsed::Context,
        StillUsed::Buffer,
        StillUsed::Registers,
        StillUsed::Window,
        StillUsed::Removal,
        StillUsed::DeviceMemory,
        StillUsed::Mmu(mmu),
    ]);
    distinct([
        DramError::Allocate(dram::AllocateError::NoMemory),
        DramError::Scrub,
        DramError::Lost,
        DramError::Reset,
        DramError::Closing,
    ]);
    distinct([
        SpaceError::Runs,
        SpaceError::Addresses(va::AllocateError::NoSpace),
        SpaceError::Tables(MapError::DeviceLost),
    ]);
}

#[test]
fn errors_of_addresses_and_of_device_memory_name_the_place() {
    distinct([
        va::LayoutError::ZeroPage,
        va::LayoutError::RegionBelowOnePage,
        va::LayoutError::NoNodes,
    ]);
    naming_the_place([
        va::LayoutError::UnalignedRegion { at: AT },
        va::LayoutError::LargePage { bytes: 0x1234_5000 },
        va::LayoutError::WindowOutsideRegion { at: AT },
        va::LayoutError::UnalignedWindow { at: AT },
        va::LayoutError::WindowsOverlap { at: AT },
    ]);
    distinct([
        va::AllocateError::ZeroLength,
        va::AllocateError::NoSpace,
        va::AllocateError::NoNodes,
    ]);
    naming_the_place([
        va::AllocateError::Alignment { align: 0x1234_5000 },
        va::AllocateError::Unaligned { at: AT },
        va::AllocateError::OutsideRegion { at: AT },
        va::AllocateError::HintTaken { at: AT },
    ]);
    let messages = distinct([
        RegionError::Misaligned,
        RegionError::PageCount,
        RegionError::BeyondTop,
        RegionError::TooFewPageRecords { needed: 4711 },
    ]);
    assert!(messages[3].contains("4711"));
    distinct([
        dram::AllocateError::ZeroLength,
        dram::AllocateError::TooLarge,
        dram::AllocateError::NoMemory,
        dram::AllocateError::ScrubUnderWay,
        dram::AllocateError::NoPackRecord,
    ]);
    naming_the_place([dram::AllocateError::Unscrubbed { first: run() }]);
    let messages = distinct([
        PackError::Unknown,
        PackError::Stale,
        PackError::NotOwner,
        PackError::TooManyHolds,
        PackError::Held { holds: 4711 },
        PackError::Lost,
    ]);
    assert!(messages[4].contains("4711"));
    distinct([
        ExportError::ZeroLength,
        ExportError::Misaligned,
        ExportError::OutOfRange,
        ExportError::Foreign,
    ]);
    distinct([Foreign(())]);
    distinct([NotScrubbed]);
}

#[test]
fn errors_of_handles_locks_and_timestamps_name_what_they_are_about() {
    let messages = distinct([
        HandleError::Malformed,
        HandleError::WrongKind {
            found: HandleKind::CommandBuffer,
        },
        HandleError::Unknown,
        HandleError::Stale,
    ]);
    assert!(messages[1].contains("command buffer"));
    distinct([
        HandleKind::CommandBuffer,
        HandleKind::RegisterBlock,
        HandleKind::TimestampPool,
    ]);
    assert_eq!(HandleKind::Block.to_string(), "block");
    assert!(distinct([TableFull { capacity: 4711 }])[0].contains("4711"));
    let wanted = LockRank::Space;
    let out_of_order = distinct([OutOfOrder { wanted }]);
    assert!(out_of_order[0].contains(&wanted.to_string()));
    distinct(RANKS);
    let messages = distinct([
        PoolSizeError::Empty,
        PoolSizeError::TooLarge { timestamps: 4711 },
    ]);
    assert!(messages[1].contains("4711"));
    let counter = NoSuchCounter {
        index: 4711,
        counters: 815,
    };
    let messages = distinct([
        RegisterError::Counter(counter),
        RegisterError::Slot {
            slot: 4711,
            slots: 815,
        },
        RegisterError::Full { capacity: 4711 },
        RegisterError::Closed,
    ]);
    assert!(messages[..3].iter().all(|text| text.contains("4711")));
    assert!(messages[..2].iter().all(|text| text.contains("815")));
}

#[test]
fn errors_of_hosts_budgets_and_events_name_what_they_are_about() {
    let mut messages = distinct([
        HostError::NoMemory,
        HostError::Unsupported,
        HostError::Other(Errno::EMFILE),
    ]);
    assert!(messages[2].ends_with("EMFILE"));
    messages.extend(distinct([NotInFront { next: 4711 }]));
    assert!(messages[3].contains("4711"));
    let budget = Budget::new(9000);
    let charge = budget.charge(4711).unwrap();
    assert!(ForeignCharge(charge).to_string().contains("4711"));
    let fault = Fault {
        kind: FaultKind::Page,
        at: AddrRange::new(AT, 0x1000),
        instance: 3,
    };
    let others =
        [FaultKind::Access, FaultKind::Other { cause: 9 }].map(|kind| Fault { kind, ..fault });
    naming_the_place([fault, others[0], others[1]]);
    assert!(fault.to_string().ends_with("(MMU 3)"));
    let messages = distinct([
        DeviceEvent::Fault(fault),
        DeviceEvent::ContextAborted,
        DeviceEvent::DeviceLost,
        DeviceEvent::DeviceRecovered,
    ]);
    assert_eq!(messages[0], fault.to_string());
    let root = BusAddr::new(0x1234_5000);
    naming_the_place([
        MmuError::TimedOut {
            register: 0x1234_5000,
        },
        MmuError::UnusableRoot { root },
    ]);
    distinct([
        MmuError::DeviceLost,
        MmuError::Disabled,
        MmuError::Stuck,
        MmuError::AsidOutOfRange {
            asid: Asid::PRIVILEGED,
        },
    ]);
}

/// The errors of both ends of both kinds of ring.
#[test]
fn errors_of_a_ring_name_what_they_are_about_and_what_is_behind_them() {
    use core::error::Error;

    let peer = PeerIndex {
        found: 0x12,
        earliest: 0x34,
        latest: 0x56,
    };
    for part in ["0x12", "0x34", "0x56"] {
        assert!(peer.to_string().contains(part));
    }
    let memory = SharedWordsError::Misaligned { offset: 4, len: 3 };
    let other = SharedWordsError::OutOfBounds { offset: 4, len: 3 };
    assert_ne!(distinct([memory, other])[0], "");
    let layout = ring::LayoutError::BlockTooLong;
    let behind = |errors: [&dyn Error; 2], sources: [&dyn Error; 2]| {
        for (error, source) in errors.into_iter().zip(sources) {
            let found = error.source().map(ToString::to_string);
            assert_eq!(found, Some(source.to_string()));
            assert!(error.to_string().ends_with(&source.to_string()));
        }
    };
    type Memory = SharedWordsError;
    let pop = [PopError::PeerIndex(peer), PopError::Memory(memory)];
    behind([&pop[0], &pop[1]], [&peer, &memory]);
    let pop = [
        PopError::<Memory>::Empty,
        PopError::Length { len: 4711 },
        pop[0],
        pop[1],
    ];
    assert!(pop[0].source().is_none() && pop[1].source().is_none());
    assert!(distinct(pop)[1].contains("4711"));
    let push = [PushError::PeerIndex(peer), PushError::Memory(memory)];
    behind([&push[0], &push[1]], [&peer, &memory]);
    let push = [
        PushError::<Memory>::Full,
        PushError::Length { len: 4711 },
        push[0],
        push[1],
    ];
    assert!(push[0].source().is_none() && push[1].source().is_none());
    assert!(distinct(push)[1].contains("4711"));
    let pop = [
        FramePopError::PeerIndex(peer),
        FramePopError::Memory(memory),
    ];
    behind([&pop[0], &pop[1]], [&peer, &memory]);
    let too_short = FramePopError::BufferTooShort { len: 4711 };
    let frame = FramePopError::<Memory>::Frame {
        index: 0x47,
        prefix: 0x11,
        published: 815,
    };
    assert!(too_short.source().is_none() && frame.source().is_none());
    let messages = distinct([FramePopError::Empty, too_short, frame, pop[0], pop[1]]);
    assert!(messages[1].contains("4711"));
    for part in ["0x47", "11", "815"] {
        assert!(messages[2].contains(part));
    }
    let push = [
        FramePushError::PeerIndex(peer),
        FramePushError::Memory(memory),
    ];
    behind([&push[0], &push[1]], [&peer, &memory]);
    let too_long = FramePushError::<Memory>::TooLong {
        len: 4711,
        max: 815,
    };
    assert!(too_long.source().is_none());
    let messages = distinct([FramePushError::Full, too_long, push[0], push[1]]);
    assert!(messages[1].contains("4711") && messages[1].contains("815"));
    let header = [HeaderError::Layout(layout), HeaderError::Memory(memory)];
    behind([&header[0], &header[1]], [&layout, &memory]);
    let magic = HeaderError::<Memory>::Magic { found: *b"none" };
    assert!(magic.source().is_none());
    let messages = distinct([
        magic,
        HeaderError::Version { found: 4711 },
        HeaderError::Truncated {
            needed: 4711,
            block_len: 815,
        },
        header[0],
        header[1],
    ]);
    assert!(messages[1].contains("4711"));
    assert!(messages[2].contains("4711") && messages[2].contains("815"));
    let layouts = [
        ring::LayoutError::PageSize { page_size: 4711 },
        ring::LayoutError::RecordSize { record_size: 4711 },
        ring::LayoutError::Capacity { capacity: 4711 },
        ring::LayoutError::PartialPage { block_len: 4711 },
        ring::LayoutError::BlockTooShort { block_len: 4711 },
    ];
    for message in distinct(layouts) {
        assert!(message.contains("4711"));
    }
    distinct([layout]);
}

/// Errors that hand back what was given are no `Copy`, and stand alone.
#[test]
fn what_is_handed_back_is_told_with_why() {
    let mut table = HandleTable::<(), _>::new([const { HandleSlot::new() }], 0);
    let reservation = table.reserve(HandleKind::Block).unwrap();
    let object = ();
    distinct([ForeignReservation {
        reservation,
        object,
    }]);
    let too_few = TooFewSlots {
        memory: (),
        slots: (),
        needed: 4711,
    };
    assert!(distinct([too_few])[0].contains("4711"));

    struct Nowhere;
    impl TimestampMemory for Nowhere {
        fn store(&mut self, _: u32, _: u64) {}
    }
    let size = PoolSize::new(1).unwrap();
    let mut pool = TimestampPool::new(size, Nowhere, [TimestampSlot::new()])
        .ok()
        .unwrap();
    let mut waits = CounterWaits::new([const { WaitSlot::new() }; 1], [CounterSlot::new()]);
    let counter = waits.counter(0).unwrap();
    let wait = Wait {
        slot: 0,
        counter,
        target: 1,
    };
    waits.register(&mut pool, wait, 0, NonZeroU64::MIN).unwrap();
    assert!(distinct([StillPending(pool)])[0].starts_with("1 "));
    let registration = waits.take_any().unwrap();
    distinct([ForeignRegistration(registration)]);
    assert!(distinct([StillWaiting(waits)])[0].starts_with("0 "));
}

#[test]
fn numbers_are_written_as_people_compare_them() {
    assert_eq!(Asid::new(17).unwrap().to_string(), "17");
    assert_eq!(UserAsid::new(17).unwrap().to_string(), "17");
    assert_eq!(Owner::new(17).to_string(), "owner 17");
    assert_eq!(PackHandle::new(17).to_string(), "0x11");
    assert_eq!(RawHandle::new(17).to_string(), "0x0000000000000011");
}

#[test]
fn an_errno_has_the_name_that_c_gives_it() {
    let errnos = vec![
        (Errno::EPERM, 1, "EPERM"),
        (Errno::EINTR, 4, "EINTR"),
        (Errno::EIO, 5, "EIO"),
        (Errno::EAGAIN, 11, "EAGAIN"),
        (Errno::ENOMEM, 12, "ENOMEM"),
        (Errno::EFAULT, 14, "EFAULT"),
        (Errno::EBUSY, 16, "EBUSY"),
        (Errno::ENODEV, 19, "ENODEV"),
        (Errno::EINVAL, 22, "EINVAL"),
        (Errno::EMFILE, 24, "EMFILE"),
        (Errno::EOPNOTSUPP, 95, "EOPNOTSUPP"),
        (Errno::ETIMEDOUT, 110, "ETIMEDOUT"),
    ];
    for (errno, number, name) in errnos {
        assert_eq!((errno.get(), errno.name()), (number, Some(name)));
        assert_eq!(errno.to_string(), name);
        assert_eq!(format!("{errno:?}"), name);
        assert_eq!(Errno::new(number as u16), Some(errno));
    }
}

#[test]
fn an_errno_of_a_ports_own_is_told_by_its_number() {
    let largest = Errno::new(4095).unwrap();
    assert_eq!((largest.get(), largest.name()), (4095, None));
    assert_eq!(largest.to_string(), "errno 4095");
    assert_eq!((Errno::new(0), Errno::new(4096)), (None, None));
}
