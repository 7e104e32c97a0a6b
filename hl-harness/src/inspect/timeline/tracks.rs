//! What tables, MMUs, host and device did, above the lives of the mappings.

use std::collections::BTreeMap;

use super::super::events::Event;
use super::super::hex::{count, grouped};
use super::super::picture::{
    ALARM, Area, Canvas, DONE, FAINT, INK, MARGIN, RULE, TABLE, WAITING, WIDTH, fitting,
};
use super::super::state::State;
use super::WORDS;
use super::axis::Axis;
use crate::asic::MmuInstance;

const HEIGHT: f64 = 16.0;
/// Pixels of a column of a track.
const COLUMN: f64 = 2.0;
const SIZE: f64 = 11.0;

/// A kind of event that is drawn by how many of it there are.
struct Track {
    name: &'static str,
    thing: &'static str,
    fill: &'static str,
    is: fn(&Event) -> bool,
}

const TRACKS: [Track; 7] = [
    Track {
        name: "entry stores",
        thing: "store",
        fill: TABLE,
        is: |event| matches!(event, Event::EntryStore { .. }),
    },
    Track {
        name: "flushes",
        thing: "flush",
        fill: FAINT,
        is: |event| matches!(event, Event::Flush { .. }),
    },
    Track {
        name: "pins",
        thing: "pin",
        fill: "#2f7fbf",
        is: |event| matches!(event, Event::Pin { .. }),
    },
    Track {
        name: "unpins and page frees",
        thing: "page",
        fill: INK,
        is: |event| matches!(event, Event::Unpin { .. } | Event::PageFree { .. }),
    },
    Track {
        name: "accesses of the device",
        thing: "access",
        fill: "#2d9d83",
        is: |event| matches!(event, Event::Translate { .. }),
    },
    Track {
        name: "refusals",
        thing: "fault",
        fill: ALARM,
        is: |event| matches!(event, Event::Fault { .. }),
    },
    Track {
        name: "accesses to pages of others",
        thing: "stray access",
        fill: ALARM,
        is: |event| matches!(event, Event::StrayAccess { .. }),
    },
];

pub(super) fn draw(canvas: &mut Canvas, state: &State, axis: &Axis) {
    for track in &TRACKS {
        draw_track(canvas, state, axis, track);
    }
    draw_invalidations(canvas, state, axis);
    canvas.y += 6.0;
}

fn label(canvas: &mut Canvas, axis: &Axis, name: &str, told: &str) {
    let base = canvas.y + HEIGHT - 4.5;
    canvas.text((MARGIN, base), SIZE, INK, name);
    let told = fitting(told, SIZE, WORDS - 12.0);
    canvas.text((axis.right() + 12.0, base), SIZE, FAINT, &told);
    let y = canvas.y + HEIGHT;
    canvas.line((MARGIN, y), (WIDTH - MARGIN, y), RULE, 0.4);
}

/// Draws how many events there are in each column, by the logarithm.
fn draw_track(canvas: &mut Canvas, state: &State, axis: &Axis, track: &Track) {
    let (first, _) = axis.shown();
    let mut columns: BTreeMap<u64, u64> = BTreeMap::new();
    let shown = state
        .events
        .iter()
        .filter(|record| record.sequence >= first);
    for record in shown.filter(|record| (track.is)(&record.event)) {
        let column = ((axis.x(record.sequence) - axis.left()) / COLUMN).floor();
        *columns.entry(column as u64).or_default() += 1;
    }
    let whole: u64 = columns.values().sum();
    if whole == 0 {
        return;
    }
    label(canvas, axis, track.name, &count(whole, track.thing));
    let height = |number: u64| 1.0 + (number as f64).log2();
    let highest = columns.values().copied().map(height).fold(1.0, f64::max);
    for (column, number) in columns {
        let tall = (HEIGHT - 3.0) * height(number) / highest;
        let x = axis.left() + column as f64 * COLUMN;
        let area = Area::new(x, canvas.y + HEIGHT - tall, COLUMN - 0.3, tall);
        canvas.rect(area, track.fill);
    }
    canvas.y += HEIGHT;
}

/// An invalidation from its start until it took effect.
#[derive(Clone, Copy)]
struct Span {
    begin: u64,
    end: Option<u64>,
    stuck: bool,
}

/// Draws the invalidations of each MMU; those for device memory, which work together, in one row.
fn draw_invalidations(canvas: &mut Canvas, state: &State, axis: &Axis) {
    let mut spans: BTreeMap<&str, (Vec<Span>, BTreeMap<MmuInstance, usize>)> = BTreeMap::new();
    for record in &state.events {
        let at = record.sequence;
        let row = |mmu: MmuInstance| match mmu {
            MmuInstance::Single => "invalidations of the mmu",
            MmuInstance::Pmmu => "invalidations of the pmmu",
            MmuInstance::Hmmu(_) => "invalidations of the hmmus",
        };
        match &record.event {
            Event::InvalidateBegin { mmu, .. } => {
                let (spans, open) = spans.entry(row(*mmu)).or_default();
                open.insert(*mmu, spans.len());
                spans.push(Span {
                    begin: at,
                    end: None,
                    stuck: false,
                });
            }
            Event::InvalidateEnd { mmu, .. } => {
                let (spans, open) = spans.entry(row(*mmu)).or_default();
                let span = open.remove(mmu).and_then(|number| spans.get_mut(number));
                if let Some(span) = span {
                    span.end = Some(at);
                }
            }
            Event::InvalidateStuck { mmu, .. } => {
                let (spans, open) = spans.entry(row(*mmu)).or_default();
                let span = open.remove(mmu).and_then(|number| spans.get_mut(number));
                if let Some(span) = span {
                    span.stuck = true;
                }
            }
            _ => {}
        }
    }
    let (first, _) = axis.shown();
    for (name, (spans, _)) in spans {
        let shown: Vec<Span> = spans
            .into_iter()
            .filter(|span| span.begin >= first)
            .collect();
        if shown.is_empty() {
            continue;
        }
        let stuck = shown.iter().filter(|span| span.stuck).count();
        let told = format!(
            "{} done, {} stuck",
            grouped((shown.len() - stuck) as u64),
            stuck
        );
        label(canvas, axis, name, &told);
        let mut drawn = f64::MIN;
        for span in shown {
            let x = axis.x(span.begin);
            let end = axis.x(span.end.unwrap_or(span.begin));
            let area = Area::new(x, canvas.y + 3.0, (end - x).max(1.5), HEIGHT - 5.0);
            let fill = if span.stuck {
                ALARM
            } else if span.end.is_none() {
                WAITING
            } else {
                DONE
            };
            // Of many at one place, one is enough.
            if area.x + area.width > drawn + 0.5 || span.stuck {
                drawn = area.x + area.width;
                let tip = match (span.end, span.stuck) {
                    (Some(end), _) => format!("from event {} to {end}", span.begin),
                    (None, true) => format!("stuck at event {}", span.begin),
                    (None, false) => format!("from event {}, not finished", span.begin),
                };
                canvas.rect_of(area, fill, "invalidation", &tip);
            }
        }
        canvas.y += HEIGHT;
    }
}
