//! What is expected, and numbers of the machine.

use super::super::ast::{Between, Moment, Name, Quantity, Step, Who, Word};
use super::super::counters;
use super::super::names::{Kind, Names};
use super::super::text::Invalid;
use super::super::words::{Comparison, Which};
use super::cursor::Cursor;
use crate::log::EventKind;

/// What happens when an entry of a page table is stored as zero.
pub(crate) const CLEAR: &str = "clear";

/// What is known of events that are kept, and not counted otherwise: which entry was stored, and what
/// happened to the pools of page tables.
const ONLY_KEPT: &[&str] = &[CLEAR, "table-allocate", "table-free"];

/// Kinds of events that the demonstration reports of itself, and nothing in a scenario: to expect none
/// of them would hold whatever happens.
const NOT_HERE: &[EventKind] = &[
    EventKind::Map,
    EventKind::Quarantine,
    EventKind::Release,
    EventKind::Note,
];

/// A kind of event, as a scenario calls it.
pub(crate) fn event_word(kind: EventKind) -> String {
    kind.to_string().replace(' ', "-")
}

impl Cursor {
    /// The rest of `expect`.
    pub(super) fn expect(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        if self.take("same") {
            self.keyword("as")?;
            let name = self.used(names, &[Kind::Snapshot])?;
            let mut except = Vec::new();
            if self.take("except") {
                let known = counters::names_in_snapshot(names.of_kind(Kind::Context));
                except.push(self.counter(&known)?);
                while self.take_sign(",") {
                    except.push(self.counter(&known)?);
                }
            }
            return Ok(Step::ExpectSame { name, except });
        }
        if self.take("order") {
            return self.order(names);
        }
        if self.take("fault") {
            let fault = self.fault(names)?;
            return Ok(Step::ExpectFault { fault });
        }
        if self.take("event") {
            return Ok(Step::ExpectEvent {
                context: self.context(names)?,
                told: self.choice("what the user is told")?,
                at: self.option("at", names)?,
            });
        }
        if self.take("free") {
            return self.free_extents(names);
        }
        if let Some(quantity) = self.quantity(names)? {
            return Ok(Step::ExpectQuantity {
                quantity,
                comparison: self.take_comparison().unwrap_or(Comparison::Equal),
                value: self.expr(names)?,
            });
        }
        Ok(Step::Expect {
            one: self.expr(names)?,
            comparison: self.comparison()?,
            other: self.expr(names)?,
        })
    }

    fn free_extents(&mut self, names: &Names) -> Result<Step, Invalid> {
        self.keyword("extents")?;
        let who = match self.take("privileged") {
            true => Who::Privileged,
            false => self.context(names).map(Who::Context)?,
        };
        let within = match self.take("in") {
            true => Some(self.between(names)?),
            false => None,
        };
        if !self.take_sign("=") {
            return Err(self.expected("`=`, and the free pieces or `none`"));
        }
        let mut pieces = Vec::new();
        if !self.take("none") {
            pieces.push(self.between(names)?);
            while self.take_sign(",") {
                pieces.push(self.between(names)?);
            }
        }
        Ok(Step::ExpectFree {
            who,
            within,
            pieces,
        })
    }

    fn between(&mut self, names: &Names) -> Result<Between, Invalid> {
        let start = self.expr(names)?;
        if !self.take_sign("..") {
            return Err(self.expected("`..`, and where it ends"));
        }
        Ok(Between(start, self.expr(names)?))
    }

    /// The rest of `let`.
    pub(super) fn assign(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let name = self.indexed("a name", names)?;
        if !self.take_sign("=") {
            return Err(self.expected("`=`"));
        }
        let step = match self.quantity(names)? {
            Some(quantity) => Step::LetQuantity {
                name: name.clone(),
                quantity,
            },
            None => Step::Let {
                name: name.clone(),
                value: self.expr(names)?,
            },
        };
        names.define(&name, Kind::Variable)?;
        Ok(step)
    }

    /// A number of the machine, if the next word is one.
    fn quantity(&mut self, names: &Names) -> Result<Option<Quantity>, Invalid> {
        let Some(word) = self.peek_word().map(str::to_owned) else {
            return Ok(None);
        };
        let of_context = |make: fn(Name) -> Quantity, line: &mut Self| {
            line.skip();
            line.context(names).map(make).map(Some)
        };
        match word.as_str() {
            "pins" | "dirty" => {
                self.skip();
                let name = self.used(names, &[Kind::Buffer])?;
                let page = match self.take("page") {
                    true => Some(self.primary(names)?),
                    false => None,
                };
                Ok(Some(match word.as_str() {
                    "pins" => Quantity::Pins(name, page),
                    _ => Quantity::Dirty(name, page),
                }))
            }
            "charged" => of_context(Quantity::Charged, self),
            "mappings" => of_context(Quantity::Mappings, self),
            "quarantined" => of_context(Quantity::Quarantined, self),
            "handles" => of_context(Quantity::Handles, self),
            "used" => of_context(Quantity::Used, self),
            "extents" => of_context(Quantity::Extents, self),
            "asid" => of_context(Quantity::Asid, self),
            "dram-offset" => {
                self.skip();
                let name = self.context(names)?;
                Ok(Some(Quantity::Offset(name, self.expr(names)?)))
            }
            "pending" => of_context(Quantity::Pending, self),
            "records" => {
                self.skip();
                let ring = self.used(names, &[Kind::Ring])?;
                Ok(Some(Quantity::Records(ring)))
            }
            "leaf" => {
                self.skip();
                let who = self.who(names)?;
                Ok(Some(Quantity::Leaf(who, self.expr(names)?)))
            }
            "entry" => {
                self.skip();
                let who = self.who(names)?;
                let at = self.expr(names)?;
                self.keyword("hop")?;
                Ok(Some(Quantity::Entry(who, at, self.expr(names)?)))
            }
            "bus" => {
                self.skip();
                let who = self.who(names)?;
                Ok(Some(Quantity::Bus(who, self.expr(names)?)))
            }
            "leaves" => {
                self.skip();
                let who = self.who(names)?;
                let at = self.expr(names)?;
                self.keyword("size")?;
                Ok(Some(Quantity::Leaves(who, at, self.expr(names)?)))
            }
            "counter" => {
                self.skip();
                let counter = self.counter(&counters::names())?;
                Ok(Some(Quantity::Counter(counter)))
            }
            "events" => {
                self.skip();
                let event = self.event()?;
                let since = match self.take("since") {
                    true => Some(self.used(names, &[Kind::Mark])?),
                    false if ONLY_KEPT.contains(&event.as_str()) => {
                        let message = format!("`since MARK`, without which no `{event}` is kept");
                        return Err(self.expected(&message));
                    }
                    false => None,
                };
                Ok(Some(Quantity::Events(event, since)))
            }
            "register" => {
                self.skip();
                Ok(Some(Quantity::Register(self.expr(names)?)))
            }
            "faults" => {
                self.skip();
                Ok(Some(Quantity::Faults))
            }
            "bar" => {
                self.skip();
                Ok(Some(Quantity::Bar))
            }
            _ => Ok(None),
        }
    }

    fn counter(&mut self, known: &[String]) -> Result<Word, Invalid> {
        let (text, span) = self.word("a counter")?;
        let counter = Word { text, span };
        match known.contains(&counter.text) {
            true => Ok(counter),
            false => Err(counters::unknown(&counter, known)),
        }
    }

    fn event(&mut self) -> Result<String, Invalid> {
        let (word, at) = self.word("an event")?;
        let known: Vec<String> = EventKind::ALL
            .iter()
            .filter(|kind| !NOT_HERE.contains(kind))
            .map(|kind| event_word(*kind))
            .collect();
        if word == CLEAR || known.contains(&word) {
            return Ok(word);
        }
        let words = known.iter().map(String::as_str).chain([CLEAR]);
        let invalid = Invalid::new(at, format_args!("there is no event `{word}`"));
        Err(match super::super::text::nearest(&word, words) {
            Some(near) => invalid.help(format_args!("did you mean `{near}`?")),
            None => invalid.help(format_args!("there is {}, {CLEAR}", known.join(", "))),
        })
    }

    fn order(&mut self, names: &Names) -> Result<Step, Invalid> {
        let since = match self.take("since") {
            true => Some(self.used(names, &[Kind::Mark])?),
            false => None,
        };
        let mut moments = Vec::new();
        loop {
            let which = self.choice::<Which>("`first` or `last`, and an event")?;
            let event = self.event()?;
            moments.push(Moment { which, event });
            if !self.take_sign(",") {
                return Ok(Step::ExpectOrder { since, moments });
            }
        }
    }
}
