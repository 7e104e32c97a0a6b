//! The timeline: a picture of the event log, with a lane for the life of each mapping.

mod axis;
mod lanes;
mod tracks;

use std::collections::BTreeMap;

use super::events::Event;
use super::hex::{count, grouped};
use super::history::{History, Life, Stage};
use super::picture::{
    ALARM, Anchor, Canvas, DONE, FAINT, INK, MARGIN, RULE, WAITING, WIDTH, colour, text_width,
};
use super::state::{Backing, State};
use axis::Axis;

/// Where the lanes begin, and what is left behind them for words.
const LEFT: f64 = MARGIN + 346.0;
const WORDS: f64 = 250.0;
/// Up to so many lives are drawn one by one.
const ONE_BY_ONE: usize = 60;
/// The most offences that are told in words.
const TOLD: usize = 12;

impl State {
    /// Draws the event log as SVG: for each mapping when it was mapped, unmapped, invalidated and
    /// released, in an alarming colour where that is not the order; above them what tables, MMUs,
    /// host and device did meanwhile. Lives by the thousand are folded, those that are in the wrong
    /// order never.
    #[must_use]
    pub fn timeline(&self) -> String {
        let history = self.history();
        let mut canvas = Canvas::new();
        canvas.row(18.0, INK, &format!("Timeline: {}", self.title));
        summary(&mut canvas, self, &history);
        legend(&mut canvas, &history);
        let axis = Axis::new(
            &self.events,
            &history.lives,
            LEFT,
            WIDTH - MARGIN - WORDS - LEFT,
        );
        let (first, last) = axis.shown();
        let earlier = self
            .events
            .iter()
            .filter(|record| record.sequence < first)
            .count();
        let text = format!(
            "events {} to {}, spaced by what happens to mappings, not evenly; {} before, while nothing was mapped",
            grouped(first),
            grouped(last),
            count(earlier as u64, "event"),
        );
        canvas.row(10.5, FAINT, &text);
        canvas.y += 4.0;
        ruler(&mut canvas, &axis);
        let top = canvas.y;
        tracks::draw(&mut canvas, self, &axis);
        lanes::draw(&mut canvas, &history, &axis);
        landmarks(&mut canvas, self, &axis, top);
        ruler(&mut canvas, &axis);
        canvas.finish()
    }
}

fn summary(canvas: &mut Canvas, state: &State, history: &History) {
    let mut stages: BTreeMap<Stage, u64> = BTreeMap::new();
    for life in &history.lives {
        *stages.entry(life.stage()).or_default() += 1;
    }
    let told = stages
        .iter()
        .map(|(stage, number)| format!("{} {stage}", grouped(*number)));
    let told = told.collect::<Vec<_>>().join("; ");
    let events = count(state.events.len() as u64, "event");
    let lives = count(history.lives.len() as u64, "mapping");
    canvas.row(
        12.0,
        FAINT,
        &format!("{}, {events}, {lives}", state.asic.kind),
    );
    if !told.is_empty() {
        canvas.row(12.0, FAINT, &told);
    }
    if history.begins_late {
        canvas.row(
            12.0,
            FAINT,
            "the log begins late: what was mapped before has no beginning here",
        );
    }
    let mut told = 0;
    let offended = |life: &&Life| !life.offences.is_empty();
    for life in history.lives.iter().filter(offended) {
        for offence in &life.offences {
            told += 1;
            if told <= TOLD {
                canvas.row(12.0, ALARM, &complaint(life, offence));
            }
        }
    }
    for offence in &history.offences {
        told += 1;
        if told <= TOLD {
            let text = format!("{} at event {}", offence.kind, offence.sequence);
            canvas.row(12.0, ALARM, &text);
        }
    }
    if told > TOLD {
        let text = format!("and {} more", grouped((told - TOLD) as u64));
        canvas.row(12.0, ALARM, &text);
    }
    if told == 0 {
        canvas.row(
            12.0,
            DONE,
            "nothing was released before the device had forgotten it",
        );
    }
}

fn complaint(life: &Life, offence: &super::history::Offence) -> String {
    let moment = |moment: Option<u64>| match moment {
        Some(at) => format!("at {at}"),
        None => "never".to_owned(),
    };
    format!(
        "{}: asid {} {} at event {} (unmapped {}, invalidated {})",
        offence.kind,
        life.asid,
        life.extent.start,
        offence.sequence,
        moment(life.unmapped),
        moment(life.invalidated)
    )
}

fn legend(canvas: &mut Canvas, history: &History) {
    let mut entries: Vec<(&str, String)> = Vec::new();
    for backing in Backing::ALL {
        if history.lives.iter().any(|life| life.backing == backing) {
            entries.push((colour(backing), format!("M mapped: {backing}")));
        }
    }
    entries.push((
        WAITING,
        "U unmapped: the device may still know it".to_owned(),
    ));
    entries.push((DONE, "I invalidated: it does not".to_owned()));
    entries.push((INK, "R released".to_owned()));
    entries.push((ALARM, "wrong order".to_owned()));
    canvas.legend(&entries);
}

/// Sequence numbers along the axis.
fn ruler(canvas: &mut Canvas, axis: &Axis) {
    const SIZE: f64 = 9.5;
    canvas.y += 10.0;
    let mut end = f64::MIN;
    for label in axis.labels(9) {
        let text = grouped(label);
        let x = axis.x(label);
        let half = text_width(&text, SIZE) / 2.0;
        if x - half > end + 8.0 {
            end = x + half;
            canvas.text_at((x, canvas.y), SIZE, FAINT, Anchor::Middle, &text);
            canvas.line((x, canvas.y + 2.0), (x, canvas.y + 6.0), FAINT, 0.6);
        }
    }
    canvas.y += 7.0;
    canvas.line((axis.left(), canvas.y), (axis.right(), canvas.y), RULE, 1.0);
    canvas.y += 3.0;
}

/// What concerns the whole device, as lines across all lanes.
fn landmarks(canvas: &mut Canvas, state: &State, axis: &Axis, top: f64) {
    const SIZE: f64 = 9.5;
    let (first, _) = axis.shown();
    let mut end = axis.left();
    let mut drawn = 0;
    canvas.y += 12.0;
    for record in state
        .events
        .iter()
        .filter(|record| record.sequence >= first)
    {
        let (text, fill) = match &record.event {
            Event::DeviceReset => ("reset", INK),
            Event::DeviceLost => ("device lost", ALARM),
            Event::Note { text } => (text.as_str(), FAINT),
            _ => continue,
        };
        let x = axis.x(record.sequence);
        // Of many at one place, those that can be read.
        if x < end || drawn >= 24 {
            continue;
        }
        let text = super::picture::fitting(text, SIZE, WIDTH - MARGIN - x);
        canvas.line((x, top), (x, canvas.y - 9.0), fill, 0.8);
        canvas.text((x, canvas.y), SIZE, fill, &text);
        end = x + text_width(&text, SIZE) + 8.0;
        drawn += 1;
    }
}
