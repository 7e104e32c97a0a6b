//! The founding flow in miniature, the refusals, and the exhaustion of table memory.
//!
//! Every step logs what it found and fails with a name; the last line is the verdict.

use core::sync::atomic::Ordering;

use hl_mem::context::{ContextUsage, DestroyError, ViewError};
use hl_mem::device::DeviceUsage;
use hl_mem::handle::{HandleError, RawHandle};
use hl_mem::mmu::{FaultKind, MmuControl};
use hl_mem::ring::{BlockLayout, Consumer, PopError, Producer, PushError};
use hl_mem::uapi::{self, Errno, FLAG_FORCE_HINT, FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP};
use mmu_core::{AddrRange, DeviceAddr};

use crate::device::{DeviceBlock, ENGINE, PMMU};
use crate::memory::{PAGE_BYTES, TABLE_MEMORY, USER_MEMORY, USER_PAGES};
use crate::port::{
    FirmwareContext, MAPPINGS, Machine, StaticHost, USER_BASE, ViewMemory, bring_up,
};

/// Bytes of a record; its number, and the same number scrambled.
const RECORD: usize = 64;
/// Records in the ring: two pages of data.
const CAPACITY: u32 = 128;
/// Records that are streamed: a few laps.
const RECORDS: u32 = 1000;
const LAYOUT: BlockLayout = match BlockLayout::new(PAGE_BYTES as u64, RECORD as u32, CAPACITY) {
    Ok(layout) => layout,
    Err(_) => panic!("the layout is a constant"),
};
/// Tables in use when nothing is mapped: two address spaces and the parking table.
const ROOTS: u32 = 3;
/// The start of the user's device addresses (facts 2.4).
const HINTS: u64 = 0xFFF0_0000_0000_0000;
/// Where the user's memory lies from there.
const APART: u64 = 1 << 24;
/// What one table of hop 2 maps: two mappings as far apart share none of the last three hops.
const FAR: u64 = 1 << 39;

/// What went otherwise than it must.
struct Failure(&'static str);

/// Fails with a name where a condition does not hold, and counts it where it does.
struct Checks(u32);

impl Checks {
    fn that(&mut self, holds: bool, what: &'static str) -> Result<(), Failure> {
        self.0 += 1;
        if holds { Ok(()) } else { Err(Failure(what)) }
    }
}

trait OrFail<T> {
    fn or_fail(self, what: &'static str) -> Result<T, Failure>;
}

impl<T, E: defmt::Format> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: &'static str) -> Result<T, Failure> {
        self.map_err(|error| {
            defmt::error!("{=str}: {}", what, error);
            Failure(what)
        })
    }
}

/// Runs everything; returns the exit status.
pub fn main() -> i32 {
    let mut checks = Checks(0);
    match run(&mut checks) {
        Ok(()) => {
            defmt::info!("verdict: PASS, {=u32} checks", checks.0);
            0
        }
        Err(Failure(what)) => {
            defmt::error!("verdict: FAIL: {=str}", what);
            1
        }
    }
}

/// Everything countable.
#[derive(Clone, Copy, PartialEq, Eq, defmt::Format)]
struct Counters {
    tables: u32,
    kernel_pages: usize,
    pins: u32,
    charged: usize,
    device: DeviceUsage,
}

fn counters(machine: &Machine) -> Counters {
    Counters {
        tables: machine.tables.usage().used(),
        kernel_pages: StaticHost.kernel_pages(),
        pins: StaticHost.pins(),
        charged: machine.charged(),
        device: machine.device.usage(),
    }
}

fn run(checks: &mut Checks) -> Result<(), Failure> {
    let (machine, mut storage) = bring_up()
        .ok_or(Failure("the storage is claimed or misplaced"))?
        .or_fail("bringing the device up")?;
    let idle = counters(&machine);
    checks.that(idle.tables == ROOTS, "three roots after bring-up")?;
    defmt::info!("1 up: {=u32} root tables, MMU enabled", idle.tables);

    let context = machine.open(&mut storage).or_fail("opening the file")?;
    let opened = context.usage();
    let (handle, range) = create(&machine, &context, checks)?;
    stream(&context, handle, range, checks)?;
    let user_at = user_memory(&context, checks)?;
    refusals(&machine, &context, handle, range, checks)?;

    request(&context, OP_UNMAP, [user_at.get(), 0, 0], 0).or_fail("unmapping user memory")?;
    checks.that(faults(1, user_at), "unmapped user memory is forgotten")?;
    teardown(&machine, &context, handle, range, checks)?;
    checks.that(context.usage() == opened, "the file is as it was opened")?;
    let left = context.close().map_err(|_| Failure("closing the file"))?;
    checks.that(left == Default::default(), "nothing was left behind")?;
    checks.that(counters(&machine) == idle, "all counters are back")?;
    defmt::info!("7 closed, all counters back: {}", counters(&machine));

    exhaustion(&machine, &mut storage, idle, checks)
}

/// The driver's block, under ASID 0; its user gets a handle.
fn create(
    machine: &Machine,
    context: &FirmwareContext<'_>,
    checks: &mut Checks,
) -> Result<(RawHandle, AddrRange<DeviceAddr>), Failure> {
    let created = context.create_block(&machine.privilege, LAYOUT.block_len());
    let (handle, block) = created.or_fail("creating the block")?;
    let range = machine.device.block_range(&machine.privilege, block);
    let range = range.or_fail("asking for the block's device address")?;
    #[cfg(feature = "planted-fault")]
    crate::device::damage(
        0,
        DeviceAddr::new(range.start().get() + LAYOUT.data_offset()),
    );
    let mut scattered = false;
    let mut before = None;
    for page in 0..range.len() / PAGE_BYTES as u64 {
        let at = DeviceAddr::new(range.start().get() + page * PAGE_BYTES as u64);
        let there = machine
            .device
            .with_privileged_table(&machine.privilege, |table| table.query(at))
            .or_fail("looking at the table")?
            .or_fail("asking the table")?;
        defmt::debug!("  {} -> {}", at, there.bus);
        scattered |=
            before.is_some_and(|before: u64| before + PAGE_BYTES as u64 != there.bus.get());
        before = Some(there.bus.get());
        let seen = PMMU.look(0, at.get());
        checks.that(
            seen == Some(there.bus.get()),
            "driver and device agree on a page",
        )?;
        checks.that(
            faults(1, at),
            "the user's address space does not have the block",
        )?;
    }
    checks.that(scattered, "the pages are scattered")?;
    LAYOUT
        .initialize(&mut DeviceBlock::new(0, range.start()), 0)
        .or_fail("writing the block's header")?;
    let pages = range.len() / PAGE_BYTES as u64;
    defmt::info!(
        "2 block: {=u64} scattered pages at {} of ASID 0, handle {}",
        pages,
        range,
        handle
    );
    Ok((handle, range))
}

/// The engine produces through its MMU, the user consumes through his view.
fn stream(
    context: &FirmwareContext<'_>,
    handle: RawHandle,
    range: AddrRange<DeviceAddr>,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let shown = context
        .mmap(handle, range.len())
        .or_fail("mapping the block")?;
    let mut memory = ViewMemory(shown.view());
    let layout = BlockLayout::read_header(&mut memory, PAGE_BYTES as u64, range.len())
        .or_fail("reading the header")?;
    checks.that(layout == LAYOUT, "the header says what was written")?;
    let mut consumer = Consumer::attach(memory, layout).or_fail("attaching the consumer")?;
    let block = DeviceBlock::new(0, range.start());
    let mut producer = Producer::attach(block, LAYOUT).or_fail("attaching the producer")?;
    ENGINE.start();
    let (mut sent, mut received, mut full) = (0, 0, 0);
    while received < RECORDS {
        // The engine writes until the ring is full, then the user reads until it is empty.
        while sent < RECORDS && ENGINE.is_running() {
            match producer.push(&record(sent)) {
                Ok(()) => sent += 1,
                Err(PushError::Full) => {
                    full += 1;
                    break;
                }
                Err(error) => return Err(error).or_fail("pushing a record"),
            }
        }
        loop {
            let mut copy = [0; RECORD];
            match consumer.pop(&mut copy) {
                Ok(()) => {
                    checks.that(copy == record(received), "a record arrives as it was sent")?;
                    received += 1;
                }
                Err(PopError::Empty) => break,
                Err(error) => return Err(error).or_fail("popping a record"),
            }
        }
    }
    checks.that(sent == RECORDS && full > 0, "the ring was full in between")?;
    let second = context.mmap(handle, range.len());
    checks.that(
        matches!(second, Err(ViewError::Viewed)),
        "one view at a time",
    )?;
    let ended = context.device().end_view(shown).is_ok();
    checks.that(ended, "the view is of this device")?;
    defmt::info!(
        "3 ring: {=u32} records through ASID 0, {=u32} times full",
        received,
        full
    );
    defmt::info!("  {}", PMMU.counters());
    Ok(())
}

/// A record that no other equals: its number, then words that depend on it.
fn record(number: u32) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    for (index, chunk) in bytes.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *chunk = number
            .wrapping_mul(0x9E37_79B9)
            .wrapping_add(index as u32)
            .to_le_bytes();
    }
    bytes
}

/// A request, as bytes.
fn request(
    context: &FirmwareContext<'_>,
    op: u32,
    arguments: [u64; 3],
    flags: u32,
) -> Result<u64, Errno> {
    let input = MemoryInput {
        arguments,
        op,
        flags,
        ..MemoryInput::default()
    };
    uapi::dispatch(context, &input.to_bytes()).map(|output| output.value)
}

/// Whether an access of the device at `at` faults.
fn faults(asid: u32, at: DeviceAddr) -> bool {
    let mut block = DeviceBlock::new(asid, at);
    hl_mem::ring::BlockIndices::load_index(&mut block, 0).is_err()
}

/// The user's own memory, pinned and mapped by request, written by the device.
fn user_memory(context: &FirmwareContext<'_>, checks: &mut Checks) -> Result<DeviceAddr, Failure> {
    let bytes = 2 * PAGE_BYTES as u64;
    // Address spaces are apart: without the hint it would get the address that the block has.
    let arguments = [USER_BASE + 8, HINTS + APART, bytes];
    let at = request(context, OP_MAP, arguments, FLAG_USERPTR | FLAG_FORCE_HINT)
        .or_fail("mapping user memory")?;
    // Two pages from offset 8 on touch three.
    checks.that(StaticHost.pins() == 3, "three pages are pinned")?;
    let last = DeviceAddr::new(at + bytes - 4);
    let mut device = DeviceBlock::new(1, last);
    hl_mem::ring::BlockIndices::store_index(&mut device, 0, 0xC0DE)
        .or_fail("writing user memory by the device")?;
    // The user's third page lies third from the end.
    let page = USER_MEMORY
        .page(USER_PAGES - 3)
        .ok_or(Failure("a page is missing"))?;
    checks.that(
        page[1].load(Ordering::Acquire) == 0xC0DE,
        "the device wrote the user's word",
    )?;
    checks.that(
        faults(0, last),
        "the privileged address space does not have it",
    )?;
    defmt::info!(
        "4 user memory: {=u64} bytes at {=u64:#x} of ASID 1",
        bytes,
        at
    );
    Ok(DeviceAddr::new(at))
}

/// What a user may not do, and that it changes nothing.
fn refusals(
    machine: &Machine,
    context: &FirmwareContext<'_>,
    handle: RawHandle,
    range: AddrRange<DeviceAddr>,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let before = (counters(machine), context.usage(), table_sum());
    let unknown = context.mmap(
        RawHandle::new(handle.get() + PAGE_BYTES as u64),
        range.len(),
    );
    checks.that(
        matches!(unknown, Err(ViewError::Handle(_))),
        "an unknown handle",
    )?;
    let malformed = context.mmap(RawHandle::new(handle.get() | 1), range.len());
    checks.that(
        matches!(malformed, Err(ViewError::Handle(HandleError::Malformed))),
        "a malformed handle",
    )?;
    for wrong in [range.len() - PAGE_BYTES as u64, range.len() + 1, 0] {
        let refused = context.mmap(handle, wrong);
        checks.that(
            matches!(refused, Err(ViewError::Length { .. })),
            "a wrong length",
        )?;
    }
    let privileged = range.start().get();
    let refused = [
        // The privileged address, named by a user.
        request(context, OP_UNMAP, [privileged, 0, 0], 0) == Err(Errno::EINVAL),
        // Its handle is no address either.
        request(context, OP_UNMAP, [handle.get(), 0, 0], 0) == Err(Errno::EINVAL),
        request(context, OP_MAP, [USER_BASE, 0, u64::MAX], FLAG_USERPTR) == Err(Errno::EINVAL),
        request(context, OP_MAP, [USER_BASE, 0, 0], FLAG_USERPTR) == Err(Errno::EINVAL),
        request(context, OP_MAP, [privileged, 0, 4096], FLAG_USERPTR) == Err(Errno::EFAULT),
        request(context, OP_MAP, [USER_BASE, 0, 1 << 40], FLAG_USERPTR) == Err(Errno::ENOMEM),
        request(context, OP_MAP, [0; 3], 0) == Err(Errno::EINVAL),
        request(context, 99, [0; 3], 0) == Err(Errno::EINVAL),
        uapi::dispatch(context, &[0; 39]).is_err(),
    ];
    for refused in refused {
        checks.that(refused, "a request that must be refused")?;
    }
    let after = (counters(machine), context.usage(), table_sum());
    checks.that(before == after, "refusals change nothing")?;
    checks.that(!faults(0, range.start()), "the block is still mapped")?;
    // Beyond the block is nothing, and the MMU says so.
    drain_faults(machine);
    let beyond = DeviceAddr::new(range.last().get() + 1);
    checks.that(faults(0, beyond), "beyond the block is nothing")?;
    let fault = machine
        .device
        .with_mmu(|mmu| mmu.take_fault())
        .or_fail("reading the fault")?;
    let reported = fault.is_some_and(|fault| {
        fault.kind == FaultKind::Page && fault.at.is_some_and(|at| at.start() == beyond)
    });
    checks.that(reported, "the fault is reported where it was")?;
    defmt::info!("5 refusals: all refused, nothing changed");
    Ok(())
}

fn drain_faults(machine: &Machine) {
    while machine
        .device
        .with_mmu(|mmu| matches!(mmu.take_fault(), Ok(Some(_))))
    {}
}

/// The end of the block: nothing is left of it but a stale handle.
fn teardown(
    machine: &Machine,
    context: &FirmwareContext<'_>,
    handle: RawHandle,
    range: AddrRange<DeviceAddr>,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let view = context
        .mmap(handle, range.len())
        .or_fail("mapping the block again")?;
    // The walker has this in its cache: only an invalidation makes it forget.
    checks.that(!faults(0, range.start()), "the block is mapped")?;
    ENGINE.start();
    let before = PMMU.counters().invalidations;
    context
        .destroy_block(handle)
        .or_fail("destroying the block")?;
    checks.that(!ENGINE.is_running(), "its engine was stopped")?;
    checks.that(
        PMMU.counters().invalidations > before,
        "the MMU has invalidated",
    )?;
    checks.that(
        faults(0, range.start()),
        "the device has forgotten the block",
    )?;
    checks.that(StaticHost.kernel_pages() > 0, "a view keeps the pages")?;
    let ended = machine.device.end_view(view).is_ok();
    checks.that(ended, "the view is of this device")?;
    checks.that(StaticHost.kernel_pages() == 0, "the pages go with the view")?;
    let stale = context.mmap(handle, range.len());
    checks.that(
        matches!(stale, Err(ViewError::Handle(HandleError::Stale))),
        "a stale handle is not mapped",
    )?;
    let stale = context.destroy_block(handle);
    checks.that(
        matches!(stale, Err(DestroyError::Handle(HandleError::Stale))),
        "a stale handle is not destroyed",
    )?;
    drain_faults(machine);
    defmt::info!(
        "6 teardown: engine stopped, invalidated, {=u32} tables left",
        machine.tables.usage().used()
    );
    Ok(())
}

/// A sum over every byte of table memory, in which the order counts.
fn table_sum() -> u32 {
    let words = TABLE_MEMORY.words().iter();
    words.fold(0, |sum: u32, word| {
        sum.rotate_left(5) ^ word.load(Ordering::Acquire)
    })
}

/// Maps until there are no tables any more, and sees that the refusal changed nothing.
fn exhaustion(
    machine: &Machine,
    storage: &mut crate::port::FileStorage,
    idle: Counters,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let context = machine.open(storage).or_fail("opening the file again")?;
    let mut mapped: [u64; MAPPINGS] = [0; MAPPINGS];
    let mut count = 0;
    let before: (Counters, ContextUsage, u32) = loop {
        let before = (counters(machine), context.usage(), table_sum());
        let arguments = [USER_BASE, HINTS + count as u64 * FAR, PAGE_BYTES as u64];
        match request(&context, OP_MAP, arguments, FLAG_USERPTR | FLAG_FORCE_HINT) {
            Ok(at) => {
                let slot = mapped
                    .get_mut(count)
                    .ok_or(Failure("tables never run out"))?;
                *slot = at;
                count += 1;
            }
            Err(error) => {
                checks.that(error == Errno::ENOMEM, "running out of tables is ENOMEM")?;
                break before;
            }
        }
    };
    let usage = machine.tables.usage();
    checks.that(
        usage.free < 3 && count < MAPPINGS,
        "it is tables that ran out",
    )?;
    let after = (counters(machine), context.usage(), table_sum());
    checks.that(before == after, "the refusal changed nothing")?;
    for &at in &mapped[..count] {
        checks.that(!faults(1, DeviceAddr::new(at)), "what was mapped still is")?;
    }
    defmt::info!(
        "8 exhaustion: {=usize} mappings, then ENOMEM with {} and nothing changed",
        count,
        usage
    );
    // Giving one up makes room for another.
    request(&context, OP_UNMAP, [mapped[0], 0, 0], 0).or_fail("unmapping one")?;
    let arguments = [USER_BASE, HINTS + count as u64 * FAR, PAGE_BYTES as u64];
    request(&context, OP_MAP, arguments, FLAG_USERPTR | FLAG_FORCE_HINT)
        .or_fail("mapping in its place")?;
    let left = context.close().map_err(|_| Failure("closing the file"))?;
    checks.that(left.mappings == count as u32, "closing finds what was left")?;
    drain_faults(machine);
    checks.that(
        counters(machine) == idle,
        "all counters are back after exhaustion",
    )?;
    defmt::info!(
        "9 closed with {=u32} mappings left behind, all counters back",
        left.mappings
    );
    Ok(())
}
