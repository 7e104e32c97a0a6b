//! Faults that the driver takes from the MMUs, and what users are told of them and of the device.

use hl_mem::events::{DeviceEvent, Report};
use hl_mem::mmu::FaultKind;
use mmu_core::DeviceAddr;

use super::super::model::{Expected, Heard, Told};
use super::Epoch;
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// The driver takes the faults that there are, and tells everybody.
    pub(super) fn report(&mut self) -> Result<(), String> {
        self.scribe.step("report faults");
        let mut taken = Vec::new();
        let got = self.machine.device.report_faults(|fault| taken.push(fault));
        let got = got.map_err(|error| format!("reporting faults: {error}"))?;
        let (expected, wake) = self.model.report(self.rules.events);
        self.scribe.expected(Expected::Done);
        let name = self.scribe.result();
        let count = expected.len();
        self.scribe.step(format_args!("expect {name} = {count}"));
        let places = taken.iter().map(|fault| (fault.kind, fault.at));
        let like = places
            .zip(&expected)
            .all(|((kind, place), at)| kind == FaultKind::Page && self.is_at(place, *at));
        if !like || taken.len() != count || got.taken as usize != count {
            return Err(format!("{taken:x?} are reported, and not {expected:#x?}"));
        }
        match got.wake == wake {
            true => Ok(()),
            false => Err(format!("readers are woken: {}, and not {wake}", got.wake)),
        }
    }

    /// Whether a fault that was captured somewhere may be one at an address: of device memory behind an MMU of
    /// its own it is known to be in a part of a page.
    fn is_at(&self, place: Option<mmu_core::AddrRange<DeviceAddr>>, at: u64) -> bool {
        let exact = if self.rules.is_apart(at) {
            self.rules.dram_page
        } else {
            1
        };
        place.is_some_and(|range| range.contains(DeviceAddr::new(at)) && range.len() <= exact)
    }

    /// A user reads some of what he is told.
    pub(super) fn hear(&mut self, user: usize, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let expected = self.model.files[user].events.next();
            let words = match expected {
                None => "nothing".to_owned(),
                Some(Heard::Missed(..)) => "missed".to_owned(),
                Some(Heard::Event(_, Told::Fault(at))) => format!("fault at {at:#x}"),
                Some(Heard::Event(_, Told::Lost)) => "lost".to_owned(),
                Some(Heard::Event(_, Told::Recovered)) => "recovered".to_owned(),
            };
            self.scribe
                .step(format_args!("expect event u[{user}] {words}"));
            let context = self.context(user)?;
            let got = context.next_event();
            let as_expected = match (expected, &got) {
                (None, None) => true,
                (Some(Heard::Missed(from, number)), Some(Report::Lost { first, count })) => {
                    (from, number) == (*first, count.get())
                }
                (Some(Heard::Event(number, told)), Some(Report::Event { sequence, event })) => {
                    let like = match (told, event) {
                        (Told::Fault(at), DeviceEvent::Fault(fault)) => self.is_at(fault.at, at),
                        (Told::Lost, DeviceEvent::DeviceLost)
                        | (Told::Recovered, DeviceEvent::DeviceRecovered) => true,
                        _ => false,
                    };
                    like && number == *sequence
                }
                _ => false,
            };
            if !as_expected {
                return Err(format!("a user is told {got:x?}, and not {expected:x?}"));
            }
            let (Some(report), Some(heard)) = (got, expected) else {
                break;
            };
            let confirmed = context.confirm_event(&report);
            confirmed.map_err(|error| format!("what a user was told: {error}"))?;
            if context.confirm_event(&report).is_ok() {
                return Err(format!("{report:x?} was confirmed twice"));
            }
            self.model.files[user].events.hear(heard);
            self.summary.told += 1;
        }
        Ok(())
    }
}
