//! Steps about the event log.

use super::super::ast::{Moment, Name};
use super::super::parse::{CLEAR, event_word};
use super::super::text::{Invalid, Span};
use super::super::words::Which;
use super::env::{Key, key_text};
use super::stop::{Failure, Stop};
use super::{Runner, Words};
use crate::log::{Event, Record};
use crate::machine::Model;

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn records(&mut self, since: Option<&Name>) -> Result<Vec<Record>, Stop> {
        let mark = match since {
            Some(name) => {
                let key: Key = self.key(name)?;
                let mark = self.env.marks.get(&key).copied();
                mark.ok_or_else(|| {
                    let message = format_args!("`{}` is not marked yet", key_text(&key));
                    Invalid::new(name.span, message)
                })?
            }
            None => 0,
        };
        Ok(self.machine().log.since(mark))
    }

    pub(super) fn expect_order(
        &mut self,
        span: Span,
        since: Option<&Name>,
        moments: &[Moment],
    ) -> Words {
        let records = self.records(since)?;
        let mut before: Option<(u64, String)> = None;
        let mut found = Vec::new();
        for Moment { which, event } in moments {
            let mut like = records.iter().filter(|record| is(event, &record.event));
            let record = match which {
                Which::First => like.next(),
                Which::Last => like.next_back(),
            };
            let name = format!("{which} {event}");
            let Some(record) = record else {
                return Err(Failure::new(span, &name, "no such event").into());
            };
            if let Some((sequence, earlier)) = &before
                && record.sequence <= *sequence
            {
                let expected = format_args!("{name} after {earlier}, which is event {sequence}");
                let mut failure = Failure::new(span, expected, record.to_string().trim_start());
                failure.notes = found;
                return Err(failure.into());
            }
            found.push(format!("{name}: {}", record.to_string().trim_start()));
            before = Some((record.sequence, name));
        }
        Ok(found.join("; "))
    }
}

/// Whether an event is of the kind that a word stands for.
pub(super) fn is(word: &str, event: &Event) -> bool {
    match word {
        CLEAR => matches!(event, Event::EntryStore { entry: 0, .. }),
        _ => event_word(event.kind()) == word,
    }
}
