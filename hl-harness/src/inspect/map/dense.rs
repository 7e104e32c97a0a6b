//! Mappings by the thousand: how densely they lie, and what they are.

use super::super::hex::{Bytes, count, grouped};
use super::super::picture::{
    ALARM, Area, Canvas, FAINT, FREE, INK, MARGIN, RULE, WAITING, WIDTH, colour, text_width,
};
use super::super::state::{Backing, RangeState};
use super::content::{Cluster, Drawn, clusters};

/// Cells in a row.
const COLUMNS: u64 = 192;
/// The most rows of a cluster.
const ROWS: u64 = 24;
/// Where the cells begin.
const LEFT: f64 = MARGIN + 134.0;
const CELL: f64 = (WIDTH - MARGIN - LEFT) / COLUMNS as f64;
const HEIGHT: f64 = 11.0;

/// What lies in a cell.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Bytes, by what is behind them.
    bytes: [u64; Backing::ALL.len()],
    /// Mappings that have a part in it.
    mappings: u32,
    waiting: bool,
    wrong: bool,
}

/// Draws the parts of a range where mappings lie, cut into cells of equal length.
pub(super) fn draw(canvas: &mut Canvas, range: &RangeState, mappings: &[&Drawn<'_>]) {
    for cluster in clusters(mappings) {
        draw_cluster(canvas, range, &cluster);
    }
}

/// The length of a cell: a power of two of pages, such that there are about twice as many cells as
/// mappings, and no more than there is room for.
fn cell_bytes(range: &RangeState, cluster: &Cluster<'_, '_>) -> u64 {
    let wanted = (2 * cluster.mappings.len() as u64).clamp(COLUMNS, COLUMNS * ROWS);
    let mut bytes = range.page_bytes.max(1);
    while cluster.extent.len.div_ceil(bytes) > wanted && bytes < 1 << 62 {
        bytes = bytes.saturating_mul(2);
    }
    while cluster.extent.len.div_ceil(bytes) > COLUMNS * ROWS && bytes < 1 << 62 {
        bytes = bytes.saturating_mul(2);
    }
    bytes
}

fn cells(cluster: &Cluster<'_, '_>, bytes: u64) -> Vec<Cell> {
    let number = cluster.extent.len.div_ceil(bytes);
    let mut cells = vec![Cell::default(); number as usize];
    for drawn in &cluster.mappings {
        let mapping = drawn.mapping;
        let from = mapping
            .extent
            .start
            .offset_from(cluster.extent.start)
            .unwrap_or(0);
        let to = from.saturating_add(mapping.extent.len);
        let kind = Backing::ALL
            .iter()
            .position(|kind| *kind == mapping.backing)
            .unwrap_or(0);
        let mut at = from;
        while at < to {
            let end = (at / bytes + 1).saturating_mul(bytes).min(to);
            if let Some(cell) = cells.get_mut((at / bytes) as usize) {
                cell.bytes[kind] += end - at;
                cell.mappings += 1;
                cell.waiting |= mapping.is_gone();
                cell.wrong |= drawn.is_wrong();
            }
            at = end;
        }
    }
    cells
}

fn draw_cluster(canvas: &mut Canvas, range: &RangeState, cluster: &Cluster<'_, '_>) {
    let bytes = cell_bytes(range, cluster);
    let cells = cells(cluster, bytes);
    let mapped: u64 = cluster
        .mappings
        .iter()
        .map(|drawn| drawn.mapping.extent.len)
        .sum();
    canvas.row(
        11.5,
        INK,
        &format!(
            "{} in {} from {}: {} mapped, {:.0} % full; a cell is {}, a row {}",
            count(cluster.mappings.len() as u64, "mapping"),
            Bytes(cluster.extent.len),
            cluster.extent.start,
            Bytes(mapped),
            100.0 * mapped as f64 / cluster.extent.len.max(1) as f64,
            Bytes(bytes),
            Bytes(bytes.saturating_mul(COLUMNS)),
        ),
    );
    let top = canvas.y;
    let start = cluster.extent.start.get();
    for (row, line) in cells.chunks(COLUMNS as usize).enumerate() {
        let y = top + row as f64 * (HEIGHT + 1.0);
        let first = start.saturating_add((row as u64 * COLUMNS).saturating_mul(bytes));
        canvas.text((MARGIN, y + 9.0), 10.0, FAINT, &format!("{first:#018x}"));
        draw_row(canvas, line, bytes, first, y);
        canvas.y = y + HEIGHT + 1.0;
    }
    explain(canvas, &cells);
}

/// Draws the cells of a row, those that look alike in one piece.
fn draw_row(canvas: &mut Canvas, line: &[Cell], bytes: u64, first: u64, y: f64) {
    let row = Area::new(LEFT, y, line.len() as f64 * CELL, HEIGHT);
    canvas.rect(row, FREE);
    let mut at = 0;
    for alike in line.chunk_by(|a, b| look(a, bytes) == look(b, bytes)) {
        let Some(Look {
            fill,
            quarters,
            crowd,
        }) = alike.first().and_then(|cell| look(cell, bytes))
        else {
            at += alike.len();
            continue;
        };
        let height = HEIGHT * f64::from(quarters) / 4.0;
        let x = LEFT + at as f64 * CELL;
        let area = Area::new(x, y + HEIGHT - height, alike.len() as f64 * CELL, height);
        let used: u64 = alike.iter().flat_map(|cell| cell.bytes).sum();
        let parts: u64 = alike.iter().map(|cell| u64::from(cell.mappings)).sum();
        let from = first.saturating_add((at as u64).saturating_mul(bytes));
        let tip = format!(
            "{from:#018x} +{}: {} mapped, {} of mappings",
            Bytes(bytes.saturating_mul(alike.len() as u64)),
            Bytes(used),
            count(parts, "part")
        );
        canvas.shade(area, fill, CROWDS[usize::from(crowd)].1, "cell", &tip);
        at += alike.len();
    }
    canvas.frame(row, RULE, 0.4);
}

/// How many mappings have a part in a cell, up to a number, and how dark it is then.
const CROWDS: [(u32, f64); 4] = [(1, 0.4), (2, 0.6), (4, 0.8), (u32::MAX, 1.0)];

/// How a cell looks.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Look {
    fill: &'static str,
    /// How full it is: anything at all is one.
    quarters: u8,
    /// Which of [`CROWDS`].
    crowd: u8,
}

/// How a cell looks; `None` where nothing is in it.
fn look(cell: &Cell, bytes: u64) -> Option<Look> {
    let used: u64 = cell.bytes.iter().sum();
    if cell.mappings == 0 {
        return None;
    }
    let crowd = CROWDS
        .iter()
        .position(|(most, _)| cell.mappings <= *most)
        .unwrap_or(0);
    let most = (0..cell.bytes.len())
        .max_by_key(|kind| cell.bytes[*kind])
        .unwrap_or(0);
    let (fill, alarm) = match (cell.wrong, cell.waiting) {
        (true, _) => (ALARM, true),
        (false, true) => (WAITING, true),
        (false, false) => (colour(Backing::ALL[most]), false),
    };
    let quarters = used.saturating_mul(4).div_ceil(bytes.max(1)).clamp(1, 4) as u8;
    Some(Look {
        fill,
        quarters: if alarm { 4 } else { quarters },
        crowd: if alarm { 3 } else { crowd as u8 },
    })
}

/// Says how cells look and why, and how many are in use.
fn explain(canvas: &mut Canvas, cells: &[Cell]) {
    const SIZE: f64 = 9.5;
    let full = |cell: &&Cell| cell.mappings > 0;
    let used = cells.iter().filter(full).count() as u64;
    let begin = format!(
        "{} of {} in use; height: how full a cell is; darkness: mappings that have a part in it:",
        grouped(used),
        count(cells.len() as u64, "cell"),
    );
    canvas.y += 12.0;
    canvas.text((LEFT, canvas.y), SIZE, FAINT, &begin);
    let mut x = LEFT + text_width(&begin, SIZE) + 10.0;
    for ((_, shade), words) in CROWDS.iter().zip(["1", "2", "3 to 4", "more"]) {
        let area = Area::new(x, canvas.y - 8.0, 12.0, 9.0);
        canvas.shade(area, colour(Backing::UserPages), *shade, "legend", words);
        canvas.text((x + 16.0, canvas.y), SIZE, FAINT, words);
        x += 16.0 + text_width(words, SIZE) + 12.0;
    }
    canvas.y += 9.0;
}
