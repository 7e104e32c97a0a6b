//! Steps that look, and the numbers of the machine.

use hl_mem::dram::PackHandle;
use mmu_core::DeviceAddr;

use super::super::ast::{Quantity, Step};
use super::super::counters;
use super::super::parse::event_word;
use super::super::text::{Invalid, Span};
use super::super::words::Comparison;
use super::answer::Refused;
use super::env::Buffer;
use super::events::is;
use super::stop::{Failure, Stop};
use super::{Runner, Words};
use crate::host::{FRAME_SIZE, UserAddress};
use crate::log::EventKind;
use crate::machine::Model;

/// A number, or what there is instead of one.
type Number = Result<u64, String>;

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn look_step(&mut self, span: Span, step: &Step) -> Words {
        match step {
            Step::Snapshot { name } => {
                let key = self.key(name)?;
                let snapshot = self.snapshot();
                let words = snapshot.to_string();
                self.snapshots.insert(key, snapshot);
                Ok(words)
            }
            Step::ExpectSame { name, except } => self.expect_same(span, name, except),
            Step::ExpectQuantity {
                quantity,
                comparison,
                value,
            } => {
                let found = self.quantity(quantity)?;
                let value = self.eval(value)?;
                check(span, &quantity.to_string(), found, *comparison, value)
            }
            Step::Expect {
                one,
                comparison,
                other,
            } => {
                let (found, value) = (self.eval(one)?, self.eval(other)?);
                check(span, &one.to_string(), Ok(found), *comparison, value)
            }
            Step::ExpectOrder { since, moments } => {
                self.expect_order(span, since.as_ref(), moments)
            }
            Step::ExpectFree {
                who,
                within,
                pieces,
            } => self.expect_free(span, who, within.as_ref(), pieces),
            Step::ExpectFault { fault } => {
                let oldest = {
                    let mut faults = self.faults();
                    (!faults.is_empty()).then(|| faults.remove(0))
                };
                let Some(oldest) = oldest else {
                    return Err(
                        Failure::new(span, format_args!("a fault:{fault}"), "no fault").into(),
                    );
                };
                let found = Refused::by_device(oldest, None);
                match self.judge_fault(fault, &found)? {
                    (true, _) => Ok(found.to_string()),
                    (false, expected) => Err(Failure::new(span, expected, found).into()),
                }
            }
            Step::ExpectEvent { context, told, at } => {
                self.expect_event(span, context, *told, at.as_ref())
            }
            Step::ForgetFaults => {
                let forgotten = core::mem::take(&mut *self.faults()).len();
                Ok(format!("{forgotten} faults"))
            }
            Step::Allow(allowed) => {
                self.allow(*allowed);
                Ok("allowed".to_owned())
            }
            Step::Mark { name } => {
                let key = self.key(name)?;
                let log = &self.machine().log;
                log.set_recording(true);
                // What happened since is counted from the events that are kept.
                self.env.marks.insert(key, log.mark());
                Ok("marked".to_owned())
            }
            Step::Let { name, value } => {
                let value = self.eval(value)?;
                self.set_variable(name, value)?;
                Ok(format!("{value:#x}"))
            }
            Step::LetQuantity { name, quantity } => match self.quantity(quantity)? {
                Ok(value) => {
                    self.set_variable(name, value)?;
                    Ok(format!("{value:#x}"))
                }
                Err(found) => {
                    Err(Failure::new(span, format_args!("one number of {quantity}"), found).into())
                }
            },
            _ => unreachable!("the step is one that looks"),
        }
    }

    fn quantity(&mut self, quantity: &Quantity) -> Result<Number, Stop> {
        let number = match quantity {
            Quantity::Pins(name, page) => {
                let buffer = self.buffer(name)?;
                let host = &self.machine().host;
                let pins = |at| {
                    let frame = buffer.process.frame_at(at);
                    frame.map_or(0, |frame| u64::from(host.pins(frame)))
                };
                match self.eval_option(page.as_ref())? {
                    Some(page) => pins(page_of(&buffer, page)),
                    None => return Ok(same_on_each_page(&buffer, pins)),
                }
            }
            Quantity::Dirty(name, page) => {
                let buffer = self.buffer(name)?;
                let host = &self.machine().host;
                let dirty = |at| {
                    let frame = buffer.process.frame_at(at);
                    frame.map_or(0, |frame| u64::from(host.is_dirty(frame)))
                };
                match self.eval_option(page.as_ref())? {
                    Some(page) => dirty(page_of(&buffer, page)),
                    None => pages(&buffer).map(dirty).sum(),
                }
            }
            Quantity::Charged(name) => self.file(name)?.budget.charged() as u64,
            Quantity::Mappings(name) => u64::from(self.file(name)?.context.usage().mappings),
            Quantity::Quarantined(name) => u64::from(self.file(name)?.context.usage().quarantined),
            Quantity::Handles(name) => u64::from(self.file(name)?.context.usage().handles),
            Quantity::Used(name) => self.file(name)?.context.usage().bytes,
            Quantity::Extents(name) => u64::from(self.file(name)?.context.usage().extents),
            Quantity::Pending(name) => u64::from(self.file(name)?.context.usage().timestamps),
            Quantity::Records(name) => return self.records_in(name),
            Quantity::Asid(name) => u64::from(self.file(name)?.context.asid().get()),
            Quantity::Offset(name, handle) => {
                let owner = self.file(name)?.context.owner();
                let pack = PackHandle::new(self.eval(handle)?);
                let machine = self.machine();
                let run = machine.device.dram_run(&machine.privilege, owner, pack);
                let run = run.map_err(|error| Invalid::new(handle.span, error))?;
                run.start().get() - machine.asic.dram_base().get()
            }
            Quantity::Leaf(who, at) => {
                let (asid, _) = self.who(who)?;
                let at = DeviceAddr::new(self.eval(at)?);
                self.machine().asic.explain(asid, at).leaf_size
            }
            Quantity::Entry(who, at, hop) => {
                let (asid, _) = self.who(who)?;
                let at = DeviceAddr::new(self.eval(at)?);
                let hop = self.eval_small(hop, 5)?;
                let walk = self.machine().asic.explain(asid, at);
                let step = walk.steps.get(hop);
                match step.map(|step| step.entry) {
                    Some(Some(entry)) => entry,
                    Some(None) => return Ok(Err("an entry that cannot be read".to_owned())),
                    None => {
                        let hops = walk.steps.len();
                        return Ok(Err(format!("a walk that ends after {hops} hops")));
                    }
                }
            }
            Quantity::Bus(who, at) => {
                let (asid, _) = self.who(who)?;
                let at = DeviceAddr::new(self.eval(at)?);
                match self.machine().asic.explain(asid, at).outcome {
                    Ok(bus) => bus.get(),
                    Err(reason) => return Ok(Err(format!("a fault: {reason}"))),
                }
            }
            Quantity::Leaves(who, at, size) => {
                let (asid, _) = self.who(who)?;
                let (at, size) = (self.eval(at)?, self.eval(size)?);
                self.leaves(asid, at, size)
            }
            Quantity::Counter(name) => {
                let counters = self.counters();
                match counters.iter().find(|(known, _)| *known == name.text) {
                    Some((_, value)) => *value,
                    None => {
                        let known: Vec<_> = counters.into_iter().map(|(known, _)| known).collect();
                        return Err(counters::unknown(name, &known).into());
                    }
                }
            }
            Quantity::Events(word, since) => match since {
                None => {
                    let kind = EventKind::ALL
                        .iter()
                        .find(|kind| event_word(**kind) == *word);
                    kind.map_or(0, |kind| self.machine().log.count(*kind))
                }
                Some(_) => {
                    let records = self.records(since.as_ref())?;
                    records
                        .iter()
                        .filter(|record| is(word, &record.event))
                        .count() as u64
                }
            },
            Quantity::Register(offset) => {
                let offset = self.eval_small(offset, u64::from(u32::MAX))?;
                u64::from(self.machine().asic.read_register(offset as u32))
            }
            Quantity::Faults => self.faults().len() as u64,
            Quantity::Bar => {
                let asic = &self.machine().asic;
                asic.bar_base().get() - asic.dram_base().get()
            }
        };
        Ok(Ok(number))
    }

    /// Counts leaves of an address space, as the device would find them.
    fn leaves(&self, asid: u16, start: u64, size: u64) -> u64 {
        let mut at = start;
        let mut count = 0;
        while at.wrapping_sub(start) < size {
            let walk = self.machine().asic.explain(asid, DeviceAddr::new(at));
            let span = match walk.leaf_size {
                0 => FRAME_SIZE as u64,
                leaf => {
                    count += 1;
                    leaf - walk.walked.get() % leaf
                }
            };
            match at.checked_add(span) {
                Some(next) => at = next,
                None => break,
            }
        }
        count
    }

    /// Everything that the machine counts, by name.
    fn counters(&self) -> Vec<(String, u64)> {
        let machine = self.machine();
        let (host, asic) = (machine.host.statistics(), machine.asic.counters());
        counters::all(&machine.counters(), &host, &asic)
    }
}

/// The addresses of the pages of a buffer.
fn pages(buffer: &Buffer) -> impl Iterator<Item = UserAddress> {
    let page = FRAME_SIZE as u64;
    let start = buffer.start;
    (0..buffer.bytes / page).map(move |number| start.offset(number * page))
}

fn page_of(buffer: &Buffer, page: u64) -> UserAddress {
    buffer.start.offset(page.wrapping_mul(FRAME_SIZE as u64))
}

/// The number that all pages of a buffer have; in words where they do not have the same one.
fn same_on_each_page(buffer: &Buffer, number: impl Fn(UserAddress) -> u64) -> Number {
    let mut numbers = pages(buffer).map(number).enumerate();
    let first = numbers.next().map_or(0, |(_, first)| first);
    match numbers.find(|(_, other)| *other != first) {
        None => Ok(first),
        Some((page, other)) => Err(format!("{first} on page 0, {other} on page {page}")),
    }
}

fn check(span: Span, what: &str, found: Number, comparison: Comparison, value: u64) -> Words {
    let shown = |value: u64| match value {
        0..4096 => value.to_string(),
        _ => format!("{value:#x}"),
    };
    let expected = format!("{what} {comparison} {}", shown(value));
    match found {
        Ok(found) if comparison.holds(found, value) => Ok(shown(found)),
        Ok(found) => Err(Failure::new(span, expected, shown(found)).into()),
        Err(found) => Err(Failure::new(span, expected, found).into()),
    }
}
