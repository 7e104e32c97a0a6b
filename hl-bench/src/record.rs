//! What was measured, and what becomes of it: a table for people and JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use crate::callgrind;
use crate::rows::{LARGE_LEAVES, PAGES, PAIRS, SPARSE_PAGES};

/// A row of the report.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Row {
    MapPages,
    MapRun,
    MapList,
    MapRuns,
    MapLargeRun,
    MapLargePages,
    UnmapPages,
    UnmapRun,
    UnmapHalves,
    UnmapList,
    UnmapLargeRun,
    UnmapLargePages,
    QuerySequential,
    QueryRandom,
    PairKept,
    PairAlone,
    PairLarge,
    MapSparse,
    MapSparseInZeros,
    UnmapSparse,
    RemapLargeRun,
    RemapSparse,
}

impl Row {
    /// A short name without spaces.
    pub(crate) const fn id(self) -> &'static str {
        match self {
            Self::MapPages => "a.map-4k-per-page",
            Self::MapRun => "b.map-4k-run",
            Self::MapList => "c.map-4k-list",
            Self::MapRuns => "c.map-4k-list-of-runs",
            Self::MapLargeRun => "d.map-2m-run",
            Self::MapLargePages => "d.map-2m-per-leaf",
            Self::UnmapPages => "e.unmap-4k-per-page",
            Self::UnmapRun => "e.unmap-4k-run",
            Self::UnmapHalves => "e.unmap-4k-half-tables",
            Self::UnmapList => "e.unmap-4k-list",
            Self::UnmapLargeRun => "e.unmap-2m-run",
            Self::UnmapLargePages => "e.unmap-2m-per-leaf",
            Self::QuerySequential => "f.query-sequential",
            Self::QueryRandom => "f.query-random",
            Self::PairKept => "g.pair-4k-kept-table",
            Self::PairAlone => "g.pair-4k-own-table",
            Self::PairLarge => "g.pair-2m",
            Self::MapSparse => "h.map-sparse",
            Self::MapSparseInZeros => "h.map-sparse-in-zeros",
            Self::UnmapSparse => "h.unmap-sparse",
            Self::RemapLargeRun => "i.map-2m-run-again",
            Self::RemapSparse => "i.map-sparse-again",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::MapPages => "map 1 GiB of 4 KiB leaves, one call per page",
            Self::MapRun => "map 1 GiB of 4 KiB leaves, one run",
            Self::MapList => "map 1 GiB of scattered 4 KiB pages, one list",
            Self::MapRuns => "map 1 GiB of scattered 4 KiB pages, runs of any length",
            Self::MapLargeRun => "map 1 GiB of 2 MiB leaves, one run",
            Self::MapLargePages => "map 1 GiB of 2 MiB leaves, one call per leaf",
            Self::UnmapPages => "unmap 1 GiB of 4 KiB leaves, one call per page",
            Self::UnmapRun => "unmap 1 GiB of 4 KiB leaves, one run (whole leaf tables)",
            Self::UnmapHalves => "unmap 1 GiB of 4 KiB leaves in runs of half a leaf table",
            Self::UnmapList => "unmap what the list mapped, one run (whole leaf tables)",
            Self::UnmapLargeRun => "unmap 1 GiB of 2 MiB leaves, one run",
            Self::UnmapLargePages => "unmap 1 GiB of 2 MiB leaves, one call per leaf",
            Self::QuerySequential => "query each of 262,144 pages in order",
            Self::QueryRandom => "query 262,144 random addresses",
            Self::PairKept => "map and unmap one page in a table that stays",
            Self::PairAlone => "map and unmap one page alone in its table",
            Self::PairLarge => "map and unmap one 2 MiB leaf in a table that stays",
            Self::MapSparse => "map a page every 2 MiB, one call per page",
            Self::MapSparseInZeros => "map a page every 2 MiB, tables in memory known to be zero",
            Self::UnmapSparse => "unmap a page every 2 MiB, one call per page",
            Self::RemapLargeRun => "map 1 GiB of 2 MiB leaves, one run, where it was before",
            Self::RemapSparse => "map a page every 2 MiB where it was before",
        }
    }

    /// Leaves (queries, pairs) that one measurement is divided by.
    const fn leaves(self) -> u64 {
        match self {
            Self::MapLargeRun
            | Self::MapLargePages
            | Self::UnmapLargeRun
            | Self::UnmapLargePages
            | Self::RemapLargeRun => LARGE_LEAVES,
            Self::PairKept | Self::PairAlone | Self::PairLarge => PAIRS,
            Self::MapSparse | Self::MapSparseInZeros | Self::UnmapSparse | Self::RemapSparse => {
                SPARSE_PAGES
            }
            _ => PAGES,
        }
    }

    /// Whether nothing that the row is about is mapped after it.
    pub(crate) const fn removes(self) -> bool {
        matches!(
            self,
            Self::UnmapPages
                | Self::UnmapRun
                | Self::UnmapHalves
                | Self::UnmapList
                | Self::UnmapLargeRun
                | Self::UnmapLargePages
                | Self::UnmapSparse
        )
    }

    /// Whether the row maps what was mapped and unmapped before: for some the tables are still
    /// there, and for some they are known to be zero.
    pub(crate) const fn repeats(self) -> bool {
        matches!(self, Self::RemapLargeRun | Self::RemapSparse)
    }

    const fn floor(self) -> Floor {
        match self {
            Self::MapList | Self::MapRuns => Floor::List,
            Self::MapLargeRun
            | Self::MapLargePages
            | Self::UnmapLargeRun
            | Self::UnmapLargePages
            | Self::RemapLargeRun => Floor::FewStores,
            _ => Floor::Stores,
        }
    }
}

/// A loop of volatile 8-byte stores into the tables' memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Floor {
    /// As many as there are 4 KiB leaves in 1 GiB.
    Stores,
    /// As many as the rows of 2 MiB leaves have.
    FewStores,
    /// With the addresses taken from a list.
    List,
}

impl Floor {
    const ALL: [Self; 3] = [Self::Stores, Self::FewStores, Self::List];

    const fn id(self) -> &'static str {
        match self {
            Self::Stores => "floor.stores",
            Self::FewStores => "floor.stores-2m",
            Self::List => "floor.list",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Stores => "volatile stores, 262,144",
            Self::FewStores => "volatile stores, 32,768",
            Self::List => "volatile stores from a list, 262,144",
        }
    }

    const fn stores(self) -> u64 {
        match self {
            Self::Stores | Self::List => PAGES,
            Self::FewStores => LARGE_LEAVES,
        }
    }
}

/// The name under which the floors stand in the report.
const FLOOR_NAME: &str = "floor";

/// The name under which what a row does besides calling stands in the report. It is in everybody's
/// numbers of that row.
pub(crate) const LOOP_NAME: &str = "(the loop of this row by itself)";

/// How sections are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// By the clock.
    Time,
    /// By callgrind, which this process runs under.
    Instructions,
}

#[derive(Default)]
struct Samples {
    /// Nanoseconds per leaf, one for each round.
    ns: Vec<f64>,
    /// The same divided by the floor that was measured just before.
    ratios: Vec<f64>,
    note: String,
}

/// Collects measurements.
pub(crate) struct Recorder {
    mode: Mode,
    rows: BTreeMap<(Row, &'static str), Samples>,
    floors: BTreeMap<Floor, Vec<f64>>,
    /// Measurements are thrown away: the first round warms up.
    warming: bool,
}

impl Recorder {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            rows: BTreeMap::new(),
            floors: BTreeMap::new(),
            warming: mode == Mode::Time,
        }
    }

    pub(crate) fn warm(&mut self) {
        self.warming = false;
        self.rows.clear();
        self.floors.clear();
    }

    /// Measures `work` as a floor.
    #[inline(always)]
    pub(crate) fn floor(&mut self, floor: Floor, work: impl FnOnce()) {
        if let Some(ns) = self.timed(FLOOR_NAME, floor.id(), work) {
            let samples = self.floors.entry(floor).or_default();
            samples.push(ns / floor.stores() as f64);
        }
    }

    /// Measures `work` as the part of `subject` in `row`.
    #[inline(always)]
    pub(crate) fn measure(&mut self, subject: &'static str, row: Row, work: impl FnOnce()) {
        let Some(ns) = self.timed(subject, row.id(), work) else {
            return;
        };
        let ns = ns / row.leaves() as f64;
        let floor = self.floors.get(&row.floor()).and_then(|all| all.last());
        let ratio = ns / floor.copied().unwrap_or(f64::NAN);
        let samples = self.rows.entry((row, subject)).or_default();
        samples.ns.push(ns);
        samples.ratios.push(ratio);
    }

    pub(crate) fn note(&mut self, subject: &'static str, row: Row, note: String) {
        self.rows.entry((row, subject)).or_default().note = note;
    }

    #[inline(always)]
    fn timed(&self, subject: &str, id: &str, work: impl FnOnce()) -> Option<f64> {
        match self.mode {
            Mode::Time => {
                let start = Instant::now();
                section(work);
                Some(start.elapsed().as_nanos() as f64)
            }
            Mode::Instructions => {
                callgrind::count(&label(id, subject), || section(work));
                None
            }
        }
    }

    /// Turns the samples into results, with the instructions that another process counted.
    pub(crate) fn results(&self, instructions: &BTreeMap<String, u64>) -> Vec<Measurement<'_>> {
        let per_leaf = |id: &str, subject: &str, leaves: u64| {
            let total = instructions.get(&label(id, subject))?;
            Some(*total as f64 / leaves as f64)
        };
        let floors = Floor::ALL.into_iter().filter_map(|floor| {
            let ns = self.floors.get(&floor)?;
            Some(Measurement {
                row: floor.id(),
                title: floor.title(),
                subject: FLOOR_NAME,
                best_ns: best(ns),
                median_ns: median(ns),
                ratio_to_floor: 1.0,
                median_ratio_to_floor: 1.0,
                instructions: per_leaf(floor.id(), FLOOR_NAME, floor.stores()),
                note: "",
            })
        });
        let rows = self.rows.iter().map(|(&(row, subject), samples)| {
            let floor = self.floors.get(&row.floor());
            Measurement {
                row: row.id(),
                title: row.title(),
                subject,
                best_ns: best(&samples.ns),
                median_ns: median(&samples.ns),
                ratio_to_floor: best(&samples.ns) / floor.map_or(f64::NAN, |ns| best(ns)),
                median_ratio_to_floor: median(&samples.ratios),
                instructions: per_leaf(row.id(), subject, row.leaves()),
                note: &samples.note,
            }
        });
        floors.chain(rows).collect()
    }
}

/// A measured section: one function for each, which a profiler can tell from the others.
#[inline(never)]
fn section(work: impl FnOnce()) {
    work();
}

fn label(id: &str, subject: &str) -> String {
    format!("{id} {subject}")
}

/// One subject in one row.
pub(crate) struct Measurement<'a> {
    row: &'static str,
    title: &'static str,
    subject: &'a str,
    best_ns: f64,
    median_ns: f64,
    /// The best divided by the best of the floor.
    ratio_to_floor: f64,
    /// The median, over the rounds, of a round's time divided by the floor measured next to it.
    median_ratio_to_floor: f64,
    instructions: Option<f64>,
    note: &'a str,
}

/// The least of some numbers.
pub(crate) fn best(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The number in the middle of some.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The table for people.
pub(crate) fn table(measurements: &[Measurement<'_>]) -> String {
    let mut text = String::new();
    let mut title = "";
    for one in measurements {
        if one.title != title {
            title = one.title;
            let _ = writeln!(
                text,
                "\n{:<55} best ns  median ns  x floor  x (rounds)  instructions",
                one.title
            );
        }
        let instructions = one
            .instructions
            .map_or_else(|| "-".into(), |count| format!("{count:.1}"));
        let line = format!(
            "  {:<52} {:>8.2} {:>10.2} {:>8.2} {:>11.2} {:>13}  {}",
            one.subject,
            one.best_ns,
            one.median_ns,
            one.ratio_to_floor,
            one.median_ratio_to_floor,
            instructions,
            one.note
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The JSON objects for programs, one for each row and implementation.
pub(crate) fn json_objects(measurements: &[Measurement<'_>]) -> Vec<String> {
    measurements
        .iter()
        .map(|one| {
            // No name and no note has a character that JSON would escape.
            let mut object = format!(
                "{{\"row\": \"{}\", \"title\": \"{}\", \"implementation\": \"{}\", \"best_ns\": {:.4}, \
                 \"median_ns\": {:.4}, \"ratio_to_floor\": {:.4}, \
                 \"median_ratio_to_floor\": {:.4}",
                one.row,
                one.title,
                one.subject,
                one.best_ns,
                one.median_ns,
                one.ratio_to_floor,
                one.median_ratio_to_floor
            );
            if let Some(instructions) = one.instructions {
                let _ = write!(object, ", \"instructions\": {instructions:.2}");
            }
            let _ = write!(object, ", \"note\": \"{}\"}}", one.note);
            object
        })
        .collect()
}
