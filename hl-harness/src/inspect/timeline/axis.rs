//! From places in the log to places in the picture.

use std::collections::BTreeSet;

use super::super::events::Record;
use super::super::history::Life;

/// What any event adds to the axis beside one that is a moment in the life of a mapping, which adds
/// one. Of a long row of other events, no more than the first few count.
const OTHER: f64 = 0.04;
const ROW: u32 = 5;

/// Pixels before each moment of a life in the wrong order, and how many lives have them.
const WIDE: f64 = 18.0;
const WIDE_LIVES: usize = 6;

/// The moments of lives in the wrong order, whose order is to be seen among any number of others.
fn wide_moments(lives: &[Life]) -> BTreeSet<u64> {
    let mut moments = BTreeSet::new();
    let offended = lives.iter().filter(|life| !life.offences.is_empty());
    for life in offended.take(WIDE_LIVES) {
        let offences = life.offences.iter().map(|offence| offence.sequence);
        let marks = [life.unmapped, life.invalidated, life.released];
        moments.extend(marks.into_iter().flatten().chain(offences));
    }
    moments
}

/// Where each sequence number stands.
#[derive(Debug)]
pub(super) struct Axis {
    left: f64,
    width: f64,
    /// The weight that came before each place of the log, in its order.
    before: Vec<(u64, f64)>,
    whole: f64,
    first: u64,
    last: u64,
}

impl Axis {
    /// An axis over the part of the log from the first moment of a life on.
    pub(super) fn new(events: &[Record], lives: &[Life], left: f64, width: f64) -> Self {
        let mut moments: BTreeSet<u64> = BTreeSet::new();
        for life in lives {
            let offences = life.offences.iter().map(|offence| offence.sequence);
            let marks = [life.mapped, life.unmapped, life.invalidated, life.released];
            moments.extend(marks.into_iter().flatten().chain(offences));
        }
        let late = lives.iter().any(|life| life.mapped.is_none()) || moments.is_empty();
        let begin = events.first().map_or(0, |record| record.sequence);
        let first = match moments.first() {
            Some(first) if !late => *first,
            _ => begin,
        };
        let last = events
            .last()
            .map_or(first, |record| record.sequence)
            .max(first);
        let wide = wide_moments(lives);
        // Those take their pixels from the others, whose number decides about their weight.
        let share = (wide.len() as f64 * WIDE / width).min(0.5);
        let weight = share / (1.0 - share) * moments.len() as f64 / wide.len().max(1) as f64;
        let mut before = Vec::new();
        let (mut whole, mut row) = (0.5, 0);
        for record in events.iter().filter(|record| record.sequence >= first) {
            if wide.contains(&record.sequence) {
                whole += weight;
            }
            before.push((record.sequence, whole));
            if moments.contains(&record.sequence) {
                whole += 1.0;
                row = 0;
            } else {
                row += 1;
                if row <= ROW {
                    whole += OTHER;
                }
            }
        }
        Self {
            left,
            width,
            before,
            whole: whole + 0.5,
            first,
            last,
        }
    }

    /// Where an event stands; what came before the axis begins stands at its beginning.
    pub(super) fn x(&self, sequence: u64) -> f64 {
        let place = self.before.partition_point(|(at, _)| *at < sequence);
        let place = self.before.get(place);
        let weight = place.map_or(self.whole, |(_, weight)| *weight);
        if sequence < self.first {
            return self.left;
        }
        self.left + self.width * (weight / self.whole)
    }

    pub(super) fn left(&self) -> f64 {
        self.left
    }

    pub(super) fn right(&self) -> f64 {
        self.left + self.width
    }

    /// The first and the last place of the log that it shows.
    pub(super) fn shown(&self) -> (u64, u64) {
        (self.first, self.last)
    }

    /// Sequence numbers at about equal distances, for labels.
    pub(super) fn labels(&self, number: usize) -> Vec<u64> {
        let mut labels: Vec<u64> = Vec::new();
        for label in 0..number {
            let wanted = self.whole * label as f64 / number as f64;
            let found = self.before.partition_point(|(_, weight)| *weight < wanted);
            let found = self.before.get(found);
            if let Some((sequence, _)) = found
                && labels.last().is_none_or(|last| last < sequence)
            {
                labels.push(*sequence);
            }
        }
        labels
    }
}
