//! The lives of mappings: one by one, or many in a row.

use super::super::hex::{Bytes, count, grouped};
use super::super::history::{History, Life, Stage};
use super::super::picture::{
    ALARM, Anchor, Area, Canvas, DONE, FAINT, INK, MARGIN, RULE, WAITING, WIDTH, colour, fitting,
};
use super::super::state::Backing;
use super::axis::Axis;
use super::{ONE_BY_ONE, WORDS};

const LANE: f64 = 19.0;
const SIZE: f64 = 11.0;
/// The boxes that mark moments: no narrower distance between them is drawn with letters.
const MARK: f64 = 12.0;
/// The most lives that are taken out of the fold, of those that deserve it.
const APART: usize = 40;
/// Pixels of the folded lives, and of a row of them.
const FOLD: f64 = 640.0;
const ROW: f64 = 2.0;

pub(super) fn draw(canvas: &mut Canvas, history: &History, axis: &Axis) {
    let lives: Vec<&Life> = history.lives.iter().collect();
    if lives.len() <= ONE_BY_ONE {
        heading(canvas, "mappings, in the order in which they were mapped");
        explain_ticks(canvas);
        for life in lives {
            lane(canvas, axis, life);
        }
        return;
    }
    let apart = |life: &&&Life| matches!(life.stage(), Stage::Offended | Stage::Waiting);
    let mut told: Vec<&Life> = lives.iter().filter(apart).copied().collect();
    told.sort_by_key(|life| (life.stage(), life.mapped));
    let hidden = told.len().saturating_sub(APART);
    told.truncate(APART);
    if !told.is_empty() {
        heading(
            canvas,
            "mappings in the wrong order, or not forgotten by the device",
        );
        explain_ticks(canvas);
    }
    for life in told {
        lane(canvas, axis, life);
    }
    if hidden > 0 {
        let text = format!("and {} of this kind", count(hidden as u64, "more mapping"));
        canvas.row(11.0, ALARM, &text);
    }
    fold(canvas, axis, &lives);
}

fn heading(canvas: &mut Canvas, text: &str) {
    canvas.y += 8.0;
    canvas.row(12.0, INK, text);
}

fn explain_ticks(canvas: &mut Canvas) {
    let text = "white tick in a bar: used by the device; dark tick: refused to the device";
    canvas.row(10.0, FAINT, text);
}

/// The colours of a life from left to right.
fn stretches(axis: &Axis, life: &Life) -> Vec<(f64, f64, &'static str)> {
    let from = life.mapped.map_or(axis.left(), |at| axis.x(at));
    let mut stretches = Vec::new();
    let offended = life.stage() == Stage::Offended;
    let unmapped = life.unmapped.map_or(axis.right(), |at| axis.x(at));
    let invalidated = life.invalidated.map_or(axis.right(), |at| axis.x(at));
    match life.released.filter(|_| offended) {
        // From the release on, whoever has the memory now is exposed.
        Some(released) => {
            let released = axis.x(released);
            stretches.push((from, unmapped.min(released), colour(life.backing)));
            if unmapped < released {
                stretches.push((unmapped, released, WAITING));
            }
            stretches.push((released, invalidated.max(released), ALARM));
        }
        None => {
            stretches.push((from, unmapped, colour(life.backing)));
            if life.unmapped.is_some() {
                let fill = if offended { ALARM } else { WAITING };
                stretches.push((unmapped, invalidated, fill));
            }
            if let (Some(_), Some(released)) = (life.invalidated, life.released) {
                stretches.push((invalidated, axis.x(released), DONE));
            }
        }
    }
    stretches
}

fn lane(canvas: &mut Canvas, axis: &Axis, life: &Life) {
    let y = canvas.y;
    let base = y + 13.5;
    let stage = life.stage();
    let ink = match stage {
        Stage::Offended => ALARM,
        Stage::Waiting => "#9a5b00",
        _ => INK,
    };
    let name = format!("asid {} {}", life.asid, life.extent.start);
    canvas.text((MARGIN, base), SIZE, ink, &name);
    let len = Bytes(life.extent.len).to_string();
    canvas.text_at((MARGIN + 244.0, base), SIZE, ink, Anchor::End, &len);
    canvas.text(
        (MARGIN + 251.0, base),
        SIZE,
        FAINT,
        &life.backing.to_string(),
    );
    let tip = format!("asid {} {} +{len}: {stage}", life.asid, life.extent.start);
    for (from, to, fill) in stretches(axis, life) {
        let area = Area::new(from, y + 5.0, (to - from).max(1.0), LANE - 10.0);
        canvas.rect_of(area, fill, "life", &tip);
    }
    if let Some(released) = life
        .released
        .or(life.invalidated.filter(|_| stage != Stage::Offended))
    {
        let (from, at) = (axis.x(released), y + LANE / 2.0);
        canvas.line((from, at), (axis.right(), at), RULE, 0.8);
    }
    used(canvas, axis, life);
    marks(canvas, axis, life);
    if stage == Stage::Offended {
        let from = MARGIN - 3.0;
        let area = Area::new(from, y + 1.0, WIDTH - MARGIN + 3.0 - from, LANE - 2.0);
        canvas.frame(area, ALARM, 1.2);
    }
    let told = match life.offences.first() {
        Some(offence) => offence.kind.to_string(),
        None if stage == Stage::Waiting && life.quarantined.is_some() => "in quarantine".to_owned(),
        None => stage.to_string(),
    };
    let told = fitting(&told, SIZE, WORDS - 14.0);
    canvas.text((axis.right() + 12.0, base), SIZE, ink, &told);
    canvas.y += LANE;
}

/// Ticks where the device used it, and where it was refused.
fn used(canvas: &mut Canvas, axis: &Axis, life: &Life) {
    let y = canvas.y;
    for (moments, fill, top) in [(&life.used, "#ffffff", 8.0), (&life.faults, INK, 2.0)] {
        let mut last = f64::MIN;
        for at in moments {
            let x = axis.x(*at);
            if x > last + 2.0 {
                last = x;
                canvas.line((x, y + top), (x, y + LANE - top), fill, 1.3);
            }
        }
    }
}

/// Boxes with the letters of the moments; ticks where there is no room for boxes.
fn marks(canvas: &mut Canvas, axis: &Axis, life: &Life) {
    let y = canvas.y;
    let offended = |at: &u64| life.offences.iter().any(|offence| offence.sequence == *at);
    let moments = [
        (life.mapped, "M", colour(life.backing)),
        (life.unmapped, "U", WAITING),
        (life.invalidated, "I", DONE),
        (life.released, "R", INK),
    ];
    let mut placed: Vec<(f64, &str, &str)> = Vec::new();
    for (moment, letter, fill) in moments {
        if let Some(at) = moment {
            let fill = if offended(&at) { ALARM } else { fill };
            placed.push((axis.x(at), letter, fill));
        }
    }
    for offence in &life.offences {
        if life.released != Some(offence.sequence) {
            placed.push((axis.x(offence.sequence), "!", ALARM));
        }
    }
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    let close = placed.windows(2).any(|pair| pair[1].0 - pair[0].0 < MARK);
    for (x, letter, fill) in placed {
        if close {
            canvas.rect(Area::new(x - 1.0, y + 2.5, 2.0, LANE - 5.0), fill);
            continue;
        }
        let area = Area::new(x - MARK / 2.0, y + 3.0, MARK, LANE - 6.0);
        canvas.rect(area, fill);
        let ink = if fill == WAITING { INK } else { "#ffffff" };
        canvas.text_at((x, y + 13.0), 9.5, ink, Anchor::Middle, letter);
    }
}

/// What a column of a folded row has of its lives.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Column {
    mapped: [u32; Backing::ALL.len()],
    waiting: bool,
    forgotten: bool,
    offended: bool,
}

impl Column {
    /// Its colour and how dark it is: what is grave before what is frequent. `None` where no life
    /// of the row has begun or all have ended.
    fn look(&self, lives: usize) -> Option<(&'static str, u8)> {
        if self.offended {
            return Some((ALARM, 4));
        }
        if self.waiting {
            return Some((WAITING, 4));
        }
        let mapped: u32 = self.mapped.iter().sum();
        if mapped == 0 {
            return self.forgotten.then_some((DONE, 4));
        }
        let most = (0..self.mapped.len()).max_by_key(|kind| self.mapped[*kind])?;
        let quarters = (4 * mapped as usize).div_ceil(lives.max(1)).clamp(1, 4);
        Some((colour(Backing::ALL[most]), quarters as u8))
    }
}

/// Draws all lives in rows of many: a row takes mappings that were mapped one after the other.
fn fold(canvas: &mut Canvas, axis: &Axis, lives: &[&Life]) {
    let each = lives.len().div_ceil((FOLD / ROW) as usize).max(1);
    let rows = lives.len().div_ceil(each);
    // Whole pixels: others make stripes where there are none.
    let height = (FOLD / rows as f64).clamp(ROW, 6.0).floor();
    let text = format!(
        "all {}, in the order in which they were mapped, {} in a row; paler where fewer of them are mapped",
        count(lives.len() as u64, "mapping"),
        grouped(each as u64)
    );
    heading(canvas, &text);
    let top = canvas.y.ceil();
    let bottom = top + height * rows as f64;
    let columns = (axis.right() - axis.left()).floor() as usize;
    // A label wherever there is room for one.
    let distance = rows.div_ceil(10).max((14.0 / height).ceil() as usize);
    for (number, group) in lives.chunks(each).enumerate() {
        let y = top + number as f64 * height;
        let row: Vec<_> = fold_row(axis, group, columns)
            .iter()
            .map(|column| column.look(group.len()))
            .collect();
        let mut at = 0;
        for alike in row.chunk_by(|one, other| one == other) {
            if let Some(Some((fill, quarters))) = alike.first() {
                let area = Area::new(axis.left() + at as f64, y, alike.len() as f64, height);
                canvas.tint(area, fill, f64::from(*quarters) / 4.0);
            }
            at += alike.len();
        }
        if number.is_multiple_of(distance) && y + 10.0 <= bottom {
            let start = group.first().map(|life| life.extent.start.to_string());
            let text = format!(
                "mapping {} at {}",
                grouped((number * each + 1) as u64),
                start.unwrap_or_default()
            );
            canvas.text((MARGIN, y + 9.0), 10.0, FAINT, &text);
            canvas.line((MARGIN, y), (axis.left(), y), RULE, 0.5);
        }
    }
    canvas.y = bottom + 4.0;
    canvas.frame(
        Area::new(axis.left(), top, columns as f64, bottom - top),
        RULE,
        0.6,
    );
}

fn fold_row(axis: &Axis, group: &[&Life], columns: usize) -> Vec<Column> {
    let mut row = vec![Column::default(); columns];
    for life in group {
        let kind = Backing::ALL
            .iter()
            .position(|kind| *kind == life.backing)
            .unwrap_or(0);
        for (from, to, fill) in stretches(axis, life) {
            let first = (from - axis.left()).floor().max(0.0) as usize;
            let last = (to - axis.left()).ceil().max(0.0) as usize;
            // However short a stretch is, it is seen.
            let last = last.max(first + 1).min(columns);
            for column in row.get_mut(first.min(last)..last).into_iter().flatten() {
                match fill {
                    ALARM => column.offended = true,
                    WAITING => column.waiting = true,
                    DONE => column.forgotten = true,
                    _ => column.mapped[kind] += 1,
                }
            }
        }
    }
    row
}
