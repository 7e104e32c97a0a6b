//! Steps about what handles name beside blocks: command buffers, timestamps, registers; exports, and
//! what users are told.

use core::num::NonZeroU64;
use std::sync::Arc;

use hl_mem::context::DramExport;
use hl_mem::events::{DeviceEvent, Report};
use hl_mem::handle::RawHandle;
use hl_mem::timestamps::Registered;
use hl_mem::uapi::{
    self, CommandBufferInput, Errno, ExportRefused, Exporter, FLAG_DEVICE_ADDRESS, FLAG_MAP,
    MemoryInput, OP_CREATE, OP_DESTROY, OP_EXPORT, OP_INFO, OP_MAP_BLOCK, OP_TS_ALLOC,
};

use super::super::ast::{CommandBufferWords, Expr, Name, Outcome, Step, TimestampWords};
use super::super::text::{Invalid, Span};
use super::super::words::Told;
use super::answer::Answer;
use super::env::key_text;
use super::stop::{Failure, Stop};
use super::{Runner, Words};
use crate::machine::Model;
use crate::port::counter_interrupt;

/// Keeps an export as its file would.
#[derive(Default)]
struct OneFile(Option<DramExport>);

/// The descriptor of that file.
const DESCRIPTOR: i32 = 3;

impl Exporter for OneFile {
    fn export(&mut self, export: DramExport, _flags: u32) -> Result<i32, ExportRefused> {
        self.0 = Some(export);
        Ok(DESCRIPTOR)
    }
}

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    pub(super) fn object_step(&mut self, span: Span, step: &Step) -> Words {
        match step {
            Step::CommandBuffer {
                context,
                request,
                outcome,
            } => self.command_buffer(span, context, request, outcome),
            Step::Timestamps {
                context,
                request,
                outcome,
            } => self.timestamps(span, context, request, outcome),
            Step::Registers {
                context,
                address,
                outcome,
            } => {
                let input = MemoryInput {
                    arguments: [self.eval(address)?, 0, 0],
                    op: OP_MAP_BLOCK,
                    ..MemoryInput::default()
                };
                let file = self.file(context)?;
                let reply = uapi::dispatch(&file.context, &input.to_bytes());
                self.judge(
                    span,
                    outcome,
                    Answer::of_request(reply, |reply| reply.value),
                )
            }
            Step::Export {
                context,
                at,
                size,
                from,
                name,
                outcome,
            } => {
                let from = self.eval_option(from.as_ref())?.unwrap_or(0);
                let input = MemoryInput {
                    arguments: [self.eval(at)?, self.eval(size)?, from],
                    op: OP_EXPORT,
                    ..MemoryInput::default()
                };
                let file = self.file(context)?;
                let mut kept = OneFile::default();
                let reply = uapi::dispatch_with(&file.context, &input.to_bytes(), &mut kept);
                if let Some(export) = kept.0 {
                    let key = self.key(name)?;
                    self.env.exports.insert(key, Arc::new(export));
                }
                self.judge(
                    span,
                    outcome,
                    Answer::of_request(reply, |reply| reply.value),
                )
            }
            Step::Unexport { name } => {
                let key = self.key(name)?;
                let Some(export) = self.env.exports.remove(&key) else {
                    let message = format_args!("there is no export `{}` now", key_text(&key));
                    return Err(Invalid::new(name.span, message).into());
                };
                self.end_export(export);
                Ok("ended".to_owned())
            }
            Step::Report { outcome } => {
                let told = self.machine().device.report_faults(|_| {});
                // What keeps the driver from reading a register has no errno of its own.
                let answer =
                    Answer::of_request(told.map_err(|_| Errno::EIO), |told| told.taken.into());
                self.judge(span, outcome, answer)
            }
            _ => unreachable!("the step is one of these"),
        }
    }

    /// Ends an export: by its file if that is open, or else by the device.
    pub(super) fn end_export(&self, export: Arc<DramExport>) {
        // Threads have ended, and with them their copies of the names.
        let Some(mut export) = Arc::into_inner(export) else {
            return;
        };
        for file in self.env.files.values() {
            match file.context.end_export(export) {
                Ok(()) => return,
                Err(foreign) => export = foreign,
            }
        }
        let ended = self.machine().device.end_export(export);
        ended.expect("no open file has it");
    }

    fn command_buffer(
        &mut self,
        span: Span,
        context: &Name,
        request: &CommandBufferWords,
        outcome: &Outcome,
    ) -> Words {
        let mut input = CommandBufferInput::default();
        match request {
            CommandBufferWords::Create(size, map) => {
                input.op = OP_CREATE;
                input.size = self.eval_small(size, u64::from(u32::MAX))? as u32;
                input.flags = if *map { FLAG_MAP } else { 0 };
            }
            CommandBufferWords::Destroy(handle) => {
                input.op = OP_DESTROY;
                input.handle = self.eval(handle)?;
            }
            CommandBufferWords::Uses(handle) => {
                input.op = OP_INFO;
                input.handle = self.eval(handle)?;
            }
            CommandBufferWords::Address(handle) => {
                input.op = OP_INFO;
                input.handle = self.eval(handle)?;
                input.flags = FLAG_DEVICE_ADDRESS;
            }
        }
        let file = self.file(context)?;
        let reply = uapi::dispatch_command_buffer(&file.context, &input.to_bytes());
        self.judge(
            span,
            outcome,
            Answer::of_request(reply, |reply| reply.value),
        )
    }

    fn timestamps(
        &mut self,
        span: Span,
        context: &Name,
        request: &TimestampWords,
        outcome: &Outcome,
    ) -> Words {
        let file = self.file(context)?;
        let context = &file.context;
        // What the driver refuses by itself has no errno; it is an argument that does not fit.
        let answer = match request {
            TimestampWords::Alloc(count) => {
                let input = MemoryInput {
                    op: OP_TS_ALLOC,
                    element_count: self.eval_small(count, u64::from(u32::MAX))? as u32,
                    ..MemoryInput::default()
                };
                let reply = uapi::dispatch(context, &input.to_bytes());
                Answer::of_request(reply, |reply| reply.value)
            }
            TimestampWords::Destroy(handle) => {
                let handle = RawHandle::new(self.eval(handle)?);
                Answer::of_request(context.destroy_timestamps(handle), |()| 0)
            }
            TimestampWords::Register {
                handle,
                slot,
                counter,
                target,
                value,
                now,
            } => {
                let handle = RawHandle::new(self.eval(handle)?);
                let slot = self.eval(slot)?;
                let wait = (self.eval(counter)?, self.eval(target)?);
                let value = self.eval_option(value.as_ref())?.unwrap_or(0);
                let now = self.time(now.as_ref())?;
                let registered = context.register_timestamp(handle, slot, wait, value, now);
                let reached = |registered| u64::from(registered == Registered::Reached);
                Answer::of_request(registered.map_err(|_| Errno::EINVAL), reached)
            }
            TimestampWords::Reach {
                counter,
                value,
                now,
            } => {
                let (counter, value) = (self.eval(counter)?, self.eval(value)?);
                let now = self.time(now.as_ref())?;
                let reached = counter_interrupt(context, (counter, value), now);
                Answer::of_request(reached.map_err(|_| Errno::EINVAL), u64::from)
            }
            TimestampWords::Reap => {
                context.reap_timestamps();
                Answer::Done
            }
        };
        self.judge(span, outcome, answer)
    }

    fn time(&mut self, now: Option<&Expr>) -> Result<NonZeroU64, Stop> {
        let Some(expr) = now else {
            return Ok(NonZeroU64::MIN);
        };
        let time = NonZeroU64::new(self.eval(expr)?);
        time.ok_or_else(|| Invalid::new(expr.span, "no time is 0").into())
    }

    /// Takes what a user is told next, and compares it.
    pub(super) fn expect_event(
        &mut self,
        span: Span,
        context: &Name,
        told: Told,
        at: Option<&Expr>,
    ) -> Words {
        let at = self.eval_option(at)?;
        let file = self.file(context)?;
        let next = file.context.next_event();
        if let Some(report) = &next {
            // It is what is in front, and nobody else reads.
            let _ = file.context.confirm_event(report);
        }
        let (found, holds, words) = match next {
            None => (Told::None, true, "nothing".to_owned()),
            Some(Report::Lost { count, .. }) => {
                (Told::Missed, true, format!("missed {count} events"))
            }
            Some(Report::Event { event, .. }) => {
                let found = match event {
                    DeviceEvent::ContextAborted => Told::Aborted,
                    DeviceEvent::DeviceLost => Told::Lost,
                    DeviceEvent::DeviceRecovered => Told::Recovered,
                    _ => Told::Fault,
                };
                let place = match (&event, at) {
                    (_, None) => true,
                    (DeviceEvent::Fault(fault), Some(at)) => fault
                        .at
                        .is_some_and(|range| range.contains(mmu_core::DeviceAddr::new(at))),
                    (_, Some(_)) => false,
                };
                (found, place, event.to_string())
            }
        };
        if found == told && holds {
            return Ok(words);
        }
        let place = at.map_or(String::new(), |at| format!(" at {at:#x}"));
        Err(Failure::new(span, format_args!("{told}{place}"), words).into())
    }
}
