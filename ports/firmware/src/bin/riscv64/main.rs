//! The image for a 64-bit RISC-V processor: page tables built by `mmu-core` are the processor's own.
//!
//! The image runs in supervisor mode, translated by those tables: its own code, its stack, and what
//! it looks at. Every word of the memory it looks at holds its own physical address, so that a load
//! says where the processor's walker went, and `query` has to say the same.

#![no_std]
#![no_main]

mod processor;
mod sv39;

use core::sync::atomic::AtomicU64;

use defmt_semihosting as _; // where the log goes
use mmu_core::{
    AddrRange, BusAddr, DeviceAddr, Format, LeafSizes, MapOptions, PageTable, QueryError, Region,
    ReuseOrder, Run, TablePool, TableRecord, Word,
};
use processor::{LOAD_PAGE_FAULT, Processor, STORE_PAGE_FAULT, load, store};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use sv39::{Rights, Sv39};

const TABLES: usize = 16;
const PAGE: u64 = 1 << 12;
const LARGE: u64 = 1 << 21;
const HUGE: u64 = 1 << 30;

/// All memory of the machine begins here, and the image with it.
const MEMORY: u64 = 0x8000_0000;
/// What the image may use of it.
const IMAGE_BYTES: u64 = 4 * LARGE;
/// Memory whose words hold their addresses.
const MARKED: u64 = 0x8400_0000;
const MARKED_BYTES: u64 = 2 * LARGE;

/// Where the tests map: single pages, one large leaf, one huge leaf.
const SMALL_AT: u64 = 0x10_0000_0000;
const LARGE_AT: u64 = 0x20_0000_0000;
const HUGE_AT: u64 = 0x30_0000_0000;
/// Pages that are mapped one by one, scattered.
const PAGES: u64 = 64;

#[repr(C, align(4096))]
struct Arena([[Word; 512]; TABLES]);

static ARENA: Arena = Arena([const { [const { AtomicU64::new(0) }; 512] }; TABLES]);
static RECORDS: SpinMutex<[TableRecord; TABLES]> =
    SpinMutex::new([const { TableRecord::new() }; TABLES]);

type Pool = TablePool<'static, Region<'static>, SpinMutex<()>>;
type Table<'p> = PageTable<Sv39, &'p Pool>;

/// Fails with a name where a condition does not hold, and counts it where it does.
struct Checks(u32);

impl Checks {
    fn that(&mut self, holds: bool, what: &'static str) -> Result<(), &'static str> {
        self.0 += 1;
        if holds { Ok(()) } else { Err(what) }
    }

    /// The processor and `query` agree on an address: both find the same memory, or neither any.
    fn agree(&mut self, table: &Table<'_>, at: u64) -> Result<bool, &'static str> {
        let asked = table.query(DeviceAddr::new(at));
        let loaded = load(at);
        let agree = match (asked, loaded) {
            (Ok(there), Ok(address)) => there.bus.get() == address,
            (Err(QueryError::NotMapped { .. } | QueryError::OutOfRange { .. }), Err(cause)) => {
                cause == LOAD_PAGE_FAULT
            }
            _ => false,
        };
        if !agree {
            let found = asked.map(|there| there.bus);
            defmt::error!(
                "{=u64:#x}: query says {}, the processor {}",
                at,
                found,
                loaded
            );
        }
        self.that(agree, "the processor and query agree")
            .map(|()| loaded.is_ok())
    }

    fn leads(
        &mut self,
        table: &Table<'_>,
        at: u64,
        what: &'static str,
    ) -> Result<(), &'static str> {
        let found = self.agree(table, at)?;
        self.that(found, what)
    }

    fn traps(
        &mut self,
        table: &Table<'_>,
        at: u64,
        what: &'static str,
    ) -> Result<(), &'static str> {
        let found = self.agree(table, at)?;
        self.that(!found, what)
    }
}

#[unsafe(no_mangle)]
extern "C" fn supervisor() -> ! {
    let mut checks = Checks(0);
    let status = match run(&mut checks) {
        Ok(()) => {
            defmt::info!("verdict: PASS, {=u32} checks", checks.0);
            0
        }
        Err(what) => {
            defmt::error!("verdict: FAIL: {=str}", what);
            1
        }
    };
    semihosting::process::exit(status)
}

fn run(checks: &mut Checks) -> Result<(), &'static str> {
    // Not translated yet: addresses are physical.
    for at in (MARKED..MARKED + MARKED_BYTES).step_by(8) {
        store(at, at).map_err(|_| "marked memory is there")?;
    }
    let records = RECORDS
        .try_lock()
        .map(SpinMutexGuard::leak)
        .ok_or("claimed once")?;
    let region = Region::new(&ARENA.0, BusAddr::new(ARENA.0.as_ptr().addr() as u64));
    let region = region.ok_or("the tables are aligned")?;
    let pool = Pool::new(region, records, ReuseOrder::LastReleased).map_err(|_| "a pool")?;
    let mut table: Table<'_> = PageTable::new(&pool).ok().flatten().ok_or("a root")?;

    map(&mut table, MEMORY, MEMORY, IMAGE_BYTES, Rights::ALL)?;
    for page in 0..PAGES {
        // Any permutation will do; 37 is odd.
        let bus = MARKED + page * 37 % PAGES * PAGE;
        map(&mut table, SMALL_AT + page * PAGE, bus, PAGE, Rights::READ)?;
    }
    map(
        &mut table,
        LARGE_AT,
        MARKED + LARGE,
        LARGE,
        Rights::READ_WRITE,
    )?;
    map(&mut table, HUGE_AT, MEMORY, HUGE, Rights::READ)?;
    Processor::translate_by(table.root());
    defmt::info!(
        "1 on: {=str}, {=u32} tables, the image runs in them",
        Sv39::NAME,
        pool.usage().used()
    );

    for (at, len) in [
        (SMALL_AT, PAGE),
        (LARGE_AT, LARGE),
        (HUGE_AT, HUGE),
        (MEMORY, LARGE),
    ] {
        let leaf = table
            .query(DeviceAddr::new(at))
            .map_err(|_| "it is mapped")?
            .leaf;
        checks.that(leaf.len() == len, "a leaf is as large as can be")?;
    }
    for offset in [0, 8, PAGE - 8, PAGE, 31 * PAGE + 0x128, PAGES * PAGE - 8] {
        checks.leads(&table, SMALL_AT + offset, "small leaves lead somewhere")?;
    }
    for offset in [0, 8, PAGE, LARGE / 2, LARGE - 8] {
        checks.leads(&table, LARGE_AT + offset, "a large leaf does")?;
    }
    for offset in [MARKED - MEMORY, MARKED - MEMORY + LARGE + 0x1238] {
        checks.leads(&table, HUGE_AT + offset, "a huge leaf does")?;
    }
    defmt::info!("2 mapped: leaves of 4 KiB, 2 MiB and 1 GiB lead where query says");

    let nowhere = [
        0,
        SMALL_AT - 8,
        SMALL_AT + PAGES * PAGE,
        LARGE_AT - 8,
        LARGE_AT + LARGE,
        1 << 38,
        u64::MAX - 7,
    ];
    for at in nowhere {
        checks.traps(&table, at, "what is not mapped traps")?;
    }
    checks.that(
        store(SMALL_AT, 0) == Err(STORE_PAGE_FAULT),
        "read-only memory is not written",
    )?;
    checks.that(store(LARGE_AT, MARKED + LARGE).is_ok(), "other memory is")?;
    defmt::info!("3 not mapped: the processor traps, and so does writing what is read-only");

    unmap_and_map(checks, &mut table)?;
    sweep(checks, &table)?;

    let used = pool.usage().used();
    let range = range(SMALL_AT, PAGES * PAGE)?;
    let removed = table.sweep(range);
    removed
        .confirm(&mut Processor)
        .map_err(|_| "it is confirmed")?;
    checks.that(pool.usage().used() < used, "tables come back")?;
    checks.traps(&table, SMALL_AT + 5 * PAGE, "nothing is left")?;
    defmt::info!("6 swept: {=u32} tables left", pool.usage().used());
    Ok(())
}

/// What is unmapped is found until the processor is told, and not afterwards.
fn unmap_and_map(checks: &mut Checks, table: &mut Table<'_>) -> Result<(), &'static str> {
    let at = SMALL_AT + 9 * PAGE;
    checks.leads(table, at, "the page is mapped, and cached by now")?;
    let removed = table
        .unmap(range(at, PAGE)?)
        .map_err(|_| "the page is unmapped")?;
    removed
        .confirm(&mut Processor)
        .map_err(|_| "it is confirmed")?;
    checks.traps(table, at, "a page just invalidated traps")?;
    checks.leads(table, at - PAGE, "the page before is there")?;
    checks.leads(table, at + PAGE, "the page behind is there")?;
    let elsewhere = MARKED + (PAGES + 3) * PAGE;
    map(table, at, elsewhere, PAGE, Rights::READ)?;
    // A processor may remember that nothing was there.
    Processor::forget();
    checks.leads(table, at, "mapped anew, it leads somewhere")?;
    checks.that(load(at + 16) == Ok(elsewhere + 16), "namely elsewhere")?;
    defmt::info!(
        "4 invalidated: a page traps at once, its neighbours do not, and it can be mapped anew"
    );

    // A large leaf, split under the processor's feet, loses one page.
    let hole = LARGE_AT + 77 * PAGE;
    let removed = table
        .split(DeviceAddr::new(hole))
        .map_err(|_| "the leaf is split")?;
    removed
        .confirm(&mut Processor)
        .map_err(|_| "it is confirmed")?;
    checks.leads(table, hole, "split, it leads where it did")?;
    let removed = table
        .unmap(range(hole, PAGE)?)
        .map_err(|_| "a page of it is unmapped")?;
    removed
        .confirm(&mut Processor)
        .map_err(|_| "it is confirmed")?;
    checks.traps(table, hole + 8, "the hole traps")?;
    checks.leads(table, hole - 8, "before the hole is memory")?;
    checks.leads(table, hole + PAGE, "behind the hole is memory")
}

/// Both answer the same for addresses all over the place.
fn sweep(checks: &mut Checks, table: &Table<'_>) -> Result<(), &'static str> {
    const ADDRESSES: u32 = 20_000;
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut found = 0;
    for turn in 0..ADDRESSES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let (base, span) = match turn % 4 {
            0 => (SMALL_AT, 2 * PAGES * PAGE),
            1 => (LARGE_AT, 2 * LARGE),
            2 => (HUGE_AT + (MARKED - MEMORY), MARKED_BYTES),
            _ => (LARGE_AT + 76 * PAGE, 3 * PAGE),
        };
        found += u32::from(checks.agree(table, base + state % span / 8 * 8)?);
    }
    checks.that(
        found > ADDRESSES / 4 && found < ADDRESSES * 9 / 10,
        "some lead somewhere",
    )?;
    defmt::info!(
        "5 compared: {=u32} addresses, {=u32} of them mapped",
        ADDRESSES,
        found
    );
    Ok(())
}

fn range(at: u64, len: u64) -> Result<AddrRange<DeviceAddr>, &'static str> {
    AddrRange::new(DeviceAddr::new(at), len).ok_or("a range")
}

fn map(
    table: &mut Table<'_>,
    at: u64,
    bus: u64,
    len: u64,
    rights: Rights,
) -> Result<(), &'static str> {
    let run = Run::new(BusAddr::new(bus), len).ok_or("a run")?;
    let options = MapOptions {
        sizes: LeafSizes::ALL,
        attributes: rights,
    };
    table
        .map(DeviceAddr::new(at), run, &options)
        .map_err(|_| "it is mapped")
}
