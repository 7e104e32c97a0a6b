//! Steps of the device: registers, misbehaviour, and who makes accesses.

use std::sync::PoisonError;

use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use super::super::ast::{Expr, Step, Who};
use super::super::text::{Invalid, Span};
use super::super::words::{Failure as Fails, Wrong};
use super::answer::Answer;
use super::env::{Copy, key_text};
use super::stop::Stop;
use super::{Runner, Words};
use crate::asic::{Completion, DramContent, InitiatorId, Operation};
use crate::host::HostFailure;
use crate::machine::Model;

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn device_step(&mut self, span: Span, step: &Step) -> Words {
        let machine = self.machine();
        match step {
            Step::Pause { dma } => {
                let key = self.key(dma)?;
                self.env.copies.insert(key, Copy::Armed);
                Ok("armed".to_owned())
            }
            Step::Resume { dma, outcome } => {
                let key = self.key(dma)?;
                let transfer = match self.env.copies.remove(&key) {
                    Some(Copy::Translated(transfer)) => transfer
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .take(),
                    _ => None,
                };
                let transfer = transfer.ok_or_else(|| {
                    let message = format_args!("no copy `{}` is paused", key_text(&key));
                    Invalid::new(dma.span, message)
                })?;
                let answer = Answer::of_access(transfer.finish(), 0);
                self.judge(span, outcome, answer)
            }
            Step::Register { offset, value } => {
                let offset = self.eval_small(offset, u64::from(u32::MAX))? as u32;
                let value = self.eval_small(value, u64::from(u32::MAX))? as u32;
                machine.asic.write_register(offset, value);
                Ok("written".to_owned())
            }
            Step::Fail {
                what,
                nth,
                how,
                times,
            } => {
                let nth = self.eval(nth)?;
                let times = self.eval_option(times.as_ref())?.unwrap_or(1);
                let completion = match how {
                    Some((Wrong::Slow, Some(looks))) => {
                        let looks = self.eval_small(looks, u64::from(u32::MAX))?;
                        Completion::AfterReads(looks as u32)
                    }
                    _ => Completion::Never,
                };
                match what {
                    Fails::Alloc => machine.host.fail(HostFailure::FrameAllocation, Some(nth)),
                    Fails::Pin => machine.host.fail(HostFailure::Pin, Some(nth)),
                    Fails::DmaMap => machine.host.fail(HostFailure::DmaMap, Some(nth)),
                    Fails::Flush => {
                        let operation = Operation::BarRead;
                        machine
                            .asic
                            .inject(operation, nth, times, Completion::Never);
                    }
                    Fails::HostAccess => {
                        let operation = Operation::HostAccess;
                        machine
                            .asic
                            .inject(operation, nth, times, Completion::Never);
                    }
                    Fails::Invalidate => {
                        let operation = Operation::Invalidation;
                        machine.asic.inject(operation, nth, times, completion);
                    }
                    Fails::Root => {
                        let operation = Operation::RootLatch;
                        machine.asic.inject(operation, nth, times, completion);
                    }
                }
                Ok("armed".to_owned())
            }
            Step::FailStop { name, user: true } => {
                let asid = self.file(name)?.context.asid();
                machine.engines.stick_user(asid.get());
                Ok("armed".to_owned())
            }
            Step::FailStop { name, user: false } => {
                // Its first byte is enough to tell it from others.
                let start = DeviceAddr::new(self.number_of(name)?);
                let block = AddrRange::new(start, 1)
                    .ok_or_else(|| Invalid::new(name.span, "this is no block"))?;
                machine.engines.stick(block);
                Ok("armed".to_owned())
            }
            Step::Bar { offset } => {
                let at = self.eval(offset)?;
                let asic = &machine.asic;
                let address = asic.dram_base().get().checked_add(at);
                let moved = address.map(|address| asic.bar_move(BusAddr::new(address)));
                match moved {
                    Some(Ok(window)) => Ok(window.to_string()),
                    Some(Err(_)) | None => {
                        let message = format_args!("device memory has no offset {at:#x}");
                        Err(Invalid::new(offset.span, message).into())
                    }
                }
            }
            Step::FailNothing => {
                self.fail_nothing();
                Ok("disarmed".to_owned())
            }
            Step::Lose => {
                machine.asic.lose();
                Ok("lost".to_owned())
            }
            Step::Reset { undefined } => {
                machine.reset(match undefined {
                    true => DramContent::Undefined,
                    false => DramContent::Kept,
                });
                Ok("reset".to_owned())
            }
            _ => unreachable!("the step is one of the device"),
        }
    }

    pub(super) fn fail_nothing(&self) {
        let machine = self.machine();
        machine.asic.clear_injections();
        machine.engines.release();
        machine.host.fail(HostFailure::FrameAllocation, None);
        machine.host.fail(HostFailure::Pin, None);
        machine.host.fail(HostFailure::DmaMap, None);
    }

    /// The initiator that works for `who`; a new one where there is none yet.
    pub(super) fn initiator(
        &mut self,
        who: &Who,
        hmmu: Option<&Expr>,
    ) -> Result<InitiatorId, Stop> {
        let (_, mode) = self.who(who)?;
        let asic = &self.machine().asic;
        let hmmu = match hmmu {
            Some(hmmu) => self.eval_small(hmmu, 15)? as u8,
            None => asic.config().hmmu_enabled.trailing_zeros().min(15) as u8,
        };
        let world = self.world;
        let mut made = world
            .initiators
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().find(|(key, _)| *key == (mode, hmmu));
        let initiator = match known {
            Some((_, initiator)) => *initiator,
            None => {
                let initiator = asic.add_initiator_at("scenario", mode, hmmu);
                made.push(((mode, hmmu), initiator));
                initiator
            }
        };
        // A reset of the device has made it forget.
        asic.set_initiator_mode(initiator, mode);
        Ok(initiator)
    }
}
