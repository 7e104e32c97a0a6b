//! The end of every scenario: whatever is open is closed, and nothing may be left.

use std::sync::Arc;

use super::super::text::Span;
use super::super::words::Allowed;
use super::Runner;
use super::env::{File, Viewed, key_text};
use super::stop::{Failure, Stop};
use crate::asic::DramContent;
use crate::machine::{MachineCounters, Model};

impl<A: Model> Runner<'_, '_, '_, '_, A> {
    /// Closes what is open, as an operating system does when processes end, and compares with the
    /// machine as it was at first.
    pub(super) fn end(&mut self, last: Span, start: &MachineCounters) -> Result<(), Stop> {
        let machine = self.machine();
        self.fail_nothing();
        self.env.copies.clear();
        // They keep the views that they consume by.
        self.env.rings.clear();
        for view in core::mem::take(&mut self.env.views).into_values() {
            if let Some(Viewed { view, .. }) = Arc::into_inner(view) {
                machine
                    .device
                    .end_view(view)
                    .expect("the view is of this device");
            }
        }
        for export in core::mem::take(&mut self.env.exports).into_values() {
            self.end_export(export);
        }
        if machine.asic.is_lost() {
            self.bring_back(last)?;
        }
        for (key, file) in core::mem::take(&mut self.env.files) {
            let Some(File { context, .. }) = Arc::into_inner(file) else {
                continue;
            };
            let closed = match context.close() {
                Ok(_) => Ok(()),
                // A device that was reset and not brought back confirms nothing.
                Err(refused) => {
                    self.bring_back(last)?;
                    let closed = refused.into_context().close();
                    closed.map(drop).map_err(|refused| *refused.reason())
                }
            };
            if let Err(error) = closed {
                let found = format_args!("closing {}: {error}", key_text(&key));
                return Err(Failure::new(last, "the end: every file can be closed", found).into());
            }
        }
        self.end_windows(last)?;
        if let Err(error) = machine.device.settle_quarantine() {
            let expected = "the end: nothing stays in quarantine";
            return Err(Failure::new(last, expected, error).into());
        }
        for process in &self.processes {
            process.exit();
        }
        self.env.buffers.clear();
        self.clean(last, start)
    }

    fn bring_back(&self, last: Span) -> Result<(), Stop> {
        let machine = self.machine();
        machine.reset(DramContent::Kept);
        machine.recover().map_err(|error| {
            let expected = "the end: the device comes back after a reset";
            Failure::new(last, expected, error).into()
        })
    }

    /// Nothing is left, and no rule was broken meanwhile.
    fn clean(&self, last: Span, start: &MachineCounters) -> Result<(), Stop> {
        let machine = self.machine();
        let before = start.named();
        let now = machine.counters().named();
        let pairs = before.into_iter().zip(now);
        let mut notes: Vec<String> = pairs
            .filter(|((_, old), (_, new))| old != new)
            .map(|((name, old), (_, new))| format!("{name}: {old} at first, {new} now"))
            .collect();
        let damaged = [
            (
                "free pages written to",
                machine.host.statistics().poison_damaged,
            ),
            (
                "free pages that lost their poison",
                machine.host.damaged_free_frames().len() as u64,
            ),
        ];
        let (mut broken, began) = self.broken_rules();
        // What a stray access leaves behind, where there may be any.
        let damaged = damaged
            .into_iter()
            .filter(|(_, count)| !self.is_allowed(Allowed::Stray) && *count > 0);
        broken.extend(damaged.map(|(what, count)| format!("{what}: {count}")));
        // Where nothing else is wrong, it is the step that broke a rule which is to be looked at.
        let place = match began {
            Some(began) if notes.is_empty() => began,
            _ => last,
        };
        notes.extend(broken);
        let found = match notes.len() {
            0 => return Ok(()),
            1 => "1 difference".to_owned(),
            many => format!("{many} differences"),
        };
        let expected = "the end: the machine as at first, and no rule broken";
        let mut failure = Failure::new(place, expected, found);
        failure.notes = notes;
        Err(failure.into())
    }
}
