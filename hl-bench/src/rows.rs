//! The rows: what is done to each subject in a round, and how its result is checked.

use core::hint::black_box;

use mmu_core::BusAddr;

use crate::arena::{self, Content, FRAMES};
use crate::record::{Floor, LOOP_NAME, Recorder, Row};
use crate::subject::{Call, Subject, Table};

const PAGE: u64 = 1 << 12;
const LARGE_PAGE: u64 = 1 << 21;
const GIB: u64 = 1 << 30;

/// Pages in a GiB.
pub(crate) const PAGES: u64 = GIB / PAGE;

/// GiB that the rows of large leaves map, each with one call and under tables of its own. One call
/// takes too short a time to measure, and of a few the first takes the most: it is the first to run
/// that code for a while, which the floor's one loop does not have to pay for.
const LARGE_RUNS: u64 = 64;

/// Leaves in these.
pub(crate) const LARGE_LEAVES: u64 = LARGE_RUNS * (GIB / LARGE_PAGE);

/// Pages of the sparse rows, each in a leaf table of its own.
pub(crate) const SPARSE_PAGES: u64 = GIB / LARGE_PAGE;

/// Times that a leaf is mapped and unmapped again.
pub(crate) const PAIRS: u64 = 10_000;

/// Where the rows map: 256 GiB.
const DEVICE: u64 = 1 << 38;

/// What an entry of the topmost of four hops covers.
const FAR: u64 = 1 << 39;

/// What the rows map to. A multiple of 2 MiB, so that large leaves are possible, and not of 1 GiB,
/// so that still larger ones are not.
const BUS: u64 = 0x40_0020_0000;

/// Addresses that are the same for all subjects and rounds.
pub(crate) struct Inputs {
    /// Bus addresses of pages, no two adjacent.
    scattered: Vec<BusAddr>,
    /// Offsets into a GiB.
    random: Vec<u64>,
}

impl Inputs {
    pub(crate) fn new() -> Self {
        // An odd factor permutes the numbers below a power of two.
        let scattered = (0..PAGES)
            .map(|page| BusAddr::new(BUS + (page.wrapping_mul(0x2_4F35) % PAGES) * PAGE))
            .collect();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let random = (0..PAGES)
            .map(|_| {
                // xorshift64
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state % GIB
            })
            .collect();
        Self { scattered, random }
    }
}

/// Measures the floors.
pub(crate) fn floors(recorder: &mut Recorder, inputs: &Inputs) {
    recorder.floor(Floor::Stores, || arena::store_words(PAGES));
    recorder.floor(Floor::FewStores, || arena::store_words(LARGE_LEAVES));
    recorder.floor(Floor::List, || arena::store_list(&inputs.scattered));
    query_loops(recorder, inputs);
}

/// Measures what the loops of the queries take by themselves.
fn query_loops(recorder: &mut Recorder, inputs: &Inputs) {
    let mut sum = 0_u64;
    recorder.measure(LOOP_NAME, Row::QuerySequential, || {
        sum = sum_over(page_offsets(), |device| Some(opaque(device)));
    });
    assert_eq!(
        sum,
        (0..PAGES)
            .map(|page| DEVICE + page * PAGE)
            .fold(0, u64::wrapping_add)
    );
    let mut sum = 0_u64;
    recorder.measure(LOOP_NAME, Row::QueryRandom, || {
        sum = sum_over(inputs.random.iter().copied(), |device| Some(opaque(device)));
    });
    let expected = inputs.random.iter().map(|offset| DEVICE + offset);
    assert_eq!(sum, expected.fold(0, u64::wrapping_add));
}

/// The same number, of which the compiler knows nothing. No instruction, where that can be said.
#[inline(always)]
fn opaque(number: u64) -> u64 {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut number = number;
        // SAFETY: there is no instruction, so the register keeps its value, and nothing else changes.
        unsafe {
            core::arch::asm!("/* {0} */", inout(reg) number, options(nomem, nostack, preserves_flags));
        }
        number
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    black_box(number)
}

fn page_offsets() -> impl Iterator<Item = u64> {
    (0..GIB).step_by(PAGE as usize)
}

/// Does the work of every row with one subject.
pub(crate) fn round<S: Subject>(recorder: &mut Recorder, inputs: &Inputs) {
    pages::<S>(recorder, inputs);
    run::<S>(recorder);
    half_tables::<S>(recorder);
    list::<S>(recorder, inputs);
    list_of_runs::<S>(recorder, inputs);
    large_run::<S>(recorder);
    large_pages::<S>(recorder);
    sparse::<S>(recorder);
    pairs::<S>(recorder);
}

/// Gives a part of the round an empty page table in a dirty arena, and sees all tables come back.
fn with_table<S: Subject>(work: impl FnOnce(&mut S::Table<'_>)) {
    with_table_in::<S>(Content::Dirty, work);
}

/// The same in an arena with this content.
fn with_table_in<S: Subject>(content: Content, work: impl FnOnce(&mut S::Table<'_>)) {
    FRAMES.reset(content);
    S::with_table(content, |mut table| {
        work(&mut table);
        table.close();
    });
}

/// Records under the subject's name what `work` costs, and how many tables it leaves in use
/// besides the root.
fn measure<S: Subject>(
    recorder: &mut Recorder,
    row: Row,
    call: Call,
    table: &mut S::Table<'_>,
    work: impl FnOnce(&mut S::Table<'_>),
) {
    let tables_before = table.tables() - 1;
    recorder.measure(S::NAME, row, || work(table));
    let mut note = S::note(call).to_owned();
    let mut add = |text: String| {
        let separator = if note.is_empty() { "" } else { ": " };
        note += separator;
        note += &text;
    };
    if row.removes() && table.tables() > 1 {
        add(format!("{} tables left", table.tables() - 1));
    }
    if row.repeats() && tables_before > 0 {
        add(format!("{tables_before} tables were left"));
    }
    recorder.note(S::NAME, row, note);
}

/// Checks that `len` bytes from `device` lead to `bus` and what follows, and that nothing beside
/// them leads anywhere.
fn check_run(table: &impl Table, device: u64, bus: u64, len: u64) {
    let stretch = len.min(64 * PAGE);
    for offset in (0..len).step_by(stretch as usize) {
        assert_eq!(table.query(device + offset), Some(bus + offset));
        let last = offset + stretch - 1;
        assert_eq!(table.query(device + last), Some(bus + last));
    }
    assert_eq!(table.query(device - 1), None);
    assert_eq!(table.query(device + len), None);
}

/// The sum of where offsets lead.
#[inline(always)]
fn sum_of_queries(table: &impl Table, offsets: impl Iterator<Item = u64>) -> u64 {
    sum_over(offsets, |device| table.query(device))
}

/// The sum of the answers. Kept in a register: a sum that the caller can see would be stored for each
/// query.
#[inline(always)]
fn sum_over(offsets: impl Iterator<Item = u64>, query: impl Fn(u64) -> Option<u64>) -> u64 {
    offsets.fold(0, |sum, offset| {
        sum.wrapping_add(query(DEVICE + offset).unwrap_or(0))
    })
}

fn check_empty(table: &impl Table, device: u64, len: u64) {
    check_empty_each(table, device, len, 8 * PAGE);
}

/// Checks that the first address of each `step` bytes leads nowhere.
fn check_empty_each(table: &impl Table, device: u64, len: u64, step: u64) {
    for offset in (0..len).step_by(step as usize) {
        assert_eq!(table.query(device + offset), None);
    }
}

fn pages<S: Subject>(recorder: &mut Recorder, inputs: &Inputs) {
    with_table::<S>(|table| {
        measure::<S>(recorder, Row::MapPages, Call::MapPage, table, |table| {
            for offset in (0..GIB).step_by(PAGE as usize) {
                table.map_one::<false>(DEVICE + offset, BUS + offset);
            }
        });
        check_run(table, DEVICE, BUS, GIB);

        let mut sum = 0_u64;
        measure::<S>(
            recorder,
            Row::QuerySequential,
            Call::Query,
            table,
            |table| {
                sum = sum_of_queries(table, page_offsets());
            },
        );
        let expected = (0..PAGES).map(|page| BUS + page * PAGE);
        assert_eq!(sum, expected.fold(0, u64::wrapping_add));

        let mut sum = 0_u64;
        measure::<S>(recorder, Row::QueryRandom, Call::Query, table, |table| {
            sum = sum_of_queries(table, inputs.random.iter().copied());
        });
        let expected = inputs.random.iter().map(|offset| BUS + offset);
        assert_eq!(sum, expected.fold(0, u64::wrapping_add));

        measure::<S>(recorder, Row::UnmapPages, Call::UnmapPage, table, |table| {
            for offset in (0..GIB).step_by(PAGE as usize) {
                table.unmap_one::<false>(DEVICE + offset);
            }
        });
        check_empty(table, DEVICE, GIB);
    });
}

fn run<S: Subject>(recorder: &mut Recorder) {
    with_table::<S>(|table| {
        measure::<S>(recorder, Row::MapRun, Call::MapRun, table, |table| {
            table.map_run::<false>(DEVICE, BUS, GIB);
        });
        check_run(table, DEVICE, BUS, GIB);
        measure::<S>(recorder, Row::UnmapRun, Call::UnmapRun, table, |table| {
            table.unmap_run::<false>(DEVICE, GIB);
        });
        check_empty(table, DEVICE, GIB);
    });
}

fn half_tables<S: Subject>(recorder: &mut Recorder) {
    const HALF: u64 = LARGE_PAGE / 2;
    with_table::<S>(|table| {
        table.map_run::<false>(DEVICE, BUS, GIB);
        measure::<S>(recorder, Row::UnmapHalves, Call::UnmapRun, table, |table| {
            for offset in (0..GIB).step_by(HALF as usize) {
                table.unmap_run::<false>(DEVICE + offset, HALF);
            }
        });
        check_empty(table, DEVICE, GIB);
    });
}

fn list<S: Subject>(recorder: &mut Recorder, inputs: &Inputs) {
    with_table::<S>(|table| {
        measure::<S>(recorder, Row::MapList, Call::MapList, table, |table| {
            table.map_list(DEVICE, &inputs.scattered);
        });
        for (index, page) in inputs.scattered.iter().enumerate() {
            let device = DEVICE + index as u64 * PAGE;
            assert_eq!(table.query(device + 0xFFF), Some(page.get() + 0xFFF));
        }
        assert_eq!(table.query(DEVICE - 1), None);
        assert_eq!(table.query(DEVICE + GIB), None);
        measure::<S>(recorder, Row::UnmapList, Call::UnmapRun, table, |table| {
            table.unmap_run::<false>(DEVICE, GIB);
        });
        check_empty(table, DEVICE, GIB);
    });
}

/// What a driver does with the scatter list of pages that it pinned.
fn list_of_runs<S: Subject>(recorder: &mut Recorder, inputs: &Inputs) {
    if !S::MAPS_RUNS {
        return;
    }
    with_table::<S>(|table| {
        measure::<S>(recorder, Row::MapRuns, Call::MapList, table, |table| {
            table.map_runs(DEVICE, &inputs.scattered);
        });
        for (index, page) in inputs.scattered.iter().enumerate() {
            let device = DEVICE + index as u64 * PAGE;
            assert_eq!(table.query(device + 0xFFF), Some(page.get() + 0xFFF));
        }
        table.unmap_run::<false>(DEVICE, GIB);
        check_empty(table, DEVICE, GIB);
    });
}

/// The places of the GiBs that are mapped with large leaves.
fn large_places() -> impl Iterator<Item = (u64, u64)> {
    (0..LARGE_RUNS).map(|index| (DEVICE + index * FAR, BUS + index * GIB))
}

fn large_run<S: Subject>(recorder: &mut Recorder) {
    with_table::<S>(|table| {
        measure::<S>(recorder, Row::MapLargeRun, Call::MapRun, table, |table| {
            map_large_runs(table);
        });
        check_large_runs(table);
        measure::<S>(
            recorder,
            Row::UnmapLargeRun,
            Call::UnmapRun,
            table,
            |table| unmap_large_runs(table),
        );
        check_large_empty(table);

        // Once more before it counts: the checks leave the caches as chance has it.
        map_large_runs(table);
        unmap_large_runs(table);
        measure::<S>(recorder, Row::RemapLargeRun, Call::MapRun, table, |table| {
            map_large_runs(table)
        });
        check_large_runs(table);
        unmap_large_runs(table);
        check_large_empty(table);
    });
}

#[inline(always)]
fn map_large_runs(table: &mut impl Table) {
    for (device, bus) in large_places() {
        table.map_run::<true>(device, bus, GIB);
    }
}

#[inline(always)]
fn unmap_large_runs(table: &mut impl Table) {
    for (device, _) in large_places() {
        table.unmap_run::<true>(device, GIB);
    }
}

fn check_large_runs(table: &impl Table) {
    for (device, bus) in large_places() {
        check_run(table, device, bus, GIB);
    }
}

fn check_large_empty(table: &impl Table) {
    for (device, _) in large_places() {
        check_empty_each(table, device, GIB, LARGE_PAGE / 2);
    }
}

fn large_pages<S: Subject>(recorder: &mut Recorder) {
    with_table::<S>(|table| {
        measure::<S>(
            recorder,
            Row::MapLargePages,
            Call::MapPage,
            table,
            |table| {
                for (device, bus) in large_places() {
                    for offset in (0..GIB).step_by(LARGE_PAGE as usize) {
                        table.map_one::<true>(device + offset, bus + offset);
                    }
                }
            },
        );
        check_large_runs(table);
        measure::<S>(
            recorder,
            Row::UnmapLargePages,
            Call::UnmapPage,
            table,
            |table| {
                for (device, _) in large_places() {
                    for offset in (0..GIB).step_by(LARGE_PAGE as usize) {
                        table.unmap_one::<true>(device + offset);
                    }
                }
            },
        );
        check_large_empty(table);
    });
}

fn sparse<S: Subject>(recorder: &mut Recorder) {
    with_table::<S>(|table| {
        measure_map_sparse::<S>(recorder, table, Row::MapSparse);
        measure::<S>(
            recorder,
            Row::UnmapSparse,
            Call::UnmapPage,
            table,
            |table| unmap_sparse(table),
        );
        check_empty(table, DEVICE, GIB);

        // Once more before it counts, as above.
        map_sparse(table);
        unmap_sparse(table);
        measure_map_sparse::<S>(recorder, table, Row::RemapSparse);
        unmap_sparse(table);
        check_empty(table, DEVICE, GIB);
    });
    with_table_in::<S>(Content::Zero, |table| {
        measure_map_sparse::<S>(recorder, table, Row::MapSparseInZeros);
        unmap_sparse(table);
    });
}

fn measure_map_sparse<S: Subject>(recorder: &mut Recorder, table: &mut S::Table<'_>, row: Row) {
    measure::<S>(recorder, row, Call::MapPage, table, |table| {
        map_sparse(table);
    });
    for offset in (0..GIB).step_by(LARGE_PAGE as usize) {
        check_run(table, DEVICE + offset, BUS + offset, PAGE);
    }
}

#[inline(always)]
fn map_sparse(table: &mut impl Table) {
    for offset in (0..GIB).step_by(LARGE_PAGE as usize) {
        table.map_one::<false>(DEVICE + offset, BUS + offset);
    }
}

#[inline(always)]
fn unmap_sparse(table: &mut impl Table) {
    for offset in (0..GIB).step_by(LARGE_PAGE as usize) {
        table.unmap_one::<false>(DEVICE + offset);
    }
}

fn pairs<S: Subject>(recorder: &mut Recorder) {
    // A neighbour keeps the leaf table.
    with_table::<S>(|table| {
        table.map_one::<false>(DEVICE + PAGE, BUS + PAGE);
        measure::<S>(recorder, Row::PairKept, Call::UnmapPage, table, |table| {
            for _ in 0..PAIRS {
                table.map_one::<false>(black_box(DEVICE), BUS);
                table.unmap_one::<false>(black_box(DEVICE));
            }
        });
        check_pair(table, PAGE);
        table.unmap_one::<false>(DEVICE + PAGE);
    });
    // A page far away keeps all tables but the leaf's own.
    with_table::<S>(|table| {
        table.map_one::<false>(DEVICE + LARGE_PAGE, BUS + LARGE_PAGE);
        measure::<S>(recorder, Row::PairAlone, Call::UnmapPage, table, |table| {
            for _ in 0..PAIRS {
                table.map_one::<false>(black_box(DEVICE), BUS);
                table.unmap_one::<false>(black_box(DEVICE));
            }
        });
        check_pair(table, LARGE_PAGE);
        table.unmap_one::<false>(DEVICE + LARGE_PAGE);
    });
    with_table::<S>(|table| {
        table.map_one::<true>(DEVICE + LARGE_PAGE, BUS + LARGE_PAGE);
        measure::<S>(recorder, Row::PairLarge, Call::UnmapPage, table, |table| {
            for _ in 0..PAIRS {
                table.map_one::<true>(black_box(DEVICE), BUS);
                table.unmap_one::<true>(black_box(DEVICE));
            }
        });
        check_pair(table, LARGE_PAGE);
        table.unmap_one::<true>(DEVICE + LARGE_PAGE);
    });
}

/// Checks that the neighbour is still mapped and the leaf of the pairs is not, and maps and unmaps
/// it once more to see that it was in between.
fn check_pair(table: &mut impl Table, neighbour: u64) {
    assert_eq!(table.query(DEVICE), None);
    assert_eq!(table.query(DEVICE + neighbour), Some(BUS + neighbour));
    table.map_one::<false>(DEVICE, BUS);
    assert_eq!(table.query(DEVICE + 0xFFF), Some(BUS + 0xFFF));
    table.unmap_one::<false>(DEVICE);
    assert_eq!(table.query(DEVICE), None);
}
