//! Files: opened, settled, and closed with whatever is in them.

use super::super::model::Memory;
use super::{BUDGET, Epoch, Summary, USERS};
use crate::asic::InitiatorMode;
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// Opens a file for a user; the epoch is over where there is no storage for another one.
    pub(super) fn open(&mut self, user: usize) -> Result<(), String> {
        let storage = self.storages.next().ok_or("no storage for a file")?;
        // Before a process has any memory it is a new one.
        let process = match self.summary.steps {
            0 => String::new(),
            _ => format!(" process of s[{user}]"),
        };
        self.scribe.forget(user);
        self.scribe
            .step(format_args!("open u[{user}] budget {BUDGET}{process}"));
        let context = self
            .machine
            .open(&self.processes[user], &self.budgets[user], storage);
        let context = context.map_err(|error| format!("opening: {error}"))?;
        let mode = InitiatorMode::User(context.asid().get());
        self.machine
            .asic
            .set_initiator_mode(self.engines[user], mode);
        self.contexts[user] = Some(context);
        self.over = self.storages.len() < USERS;
        Ok(())
    }

    /// Closes a user's file with all that is in it.
    pub(super) fn close(&mut self, user: usize) -> Result<(), String> {
        for (handle, pack) in &self.model.packs {
            if pack.owner == Some((user, self.model.files[user].number)) {
                self.check_pack(user, *handle)?;
            }
        }
        self.hear(user, usize::MAX)?;
        self.summary.files += 1;
        let context = self.contexts[user].take().ok_or("no file to close")?;
        self.scribe.step(format_args!("close u[{user}]"));
        let left = match context.close() {
            Ok(left) => left,
            Err(refused) => {
                self.scribe.outcome("-> fails");
                // What failed was to fail; with that over it succeeds.
                self.disarm();
                self.scribe.step(format_args!("close u[{user}]"));
                let again = refused.into_context().close();
                again.map_err(|refused| format!("closing again: {refused}"))?
            }
        };
        let (mappings, handles, dram) = self.model.left(user);
        self.scribe.outcome(format_args!(
            "-> left mappings {mappings} handles {handles} dram {dram}"
        ));
        self.disarm();
        self.scribe.step("settle");
        self.machine
            .device
            .settle_quarantine()
            .map_err(|error| format!("settling: {error}"))?;
        let buffers: Vec<u64> = self.model.buffers.keys().copied().collect();
        for name in buffers {
            self.model
                .change_buffer(name, |buffer| buffer.quarantined = false);
        }
        for named in self.model.files[user].handles.values() {
            self.blocks.remove(&named.buffer());
        }
        let expected = self.model.close(user);
        if (left.mappings, left.handles, left.dram) == expected {
            Ok(())
        } else {
            Err(format!("{left:?} were left, and {expected:?} in the model"))
        }
    }

    pub(super) fn reopen(&mut self, user: usize) -> Result<(), String> {
        self.close(user)?;
        self.open(user)
    }

    pub(super) fn settle(&mut self) -> Result<(), String> {
        let settle = |epoch: &Self| -> Result<bool, String> {
            // What comes of it is the failure's to say that is armed.
            let one = |step: &str, settled: bool| {
                epoch.scribe.step(step);
                epoch.scribe.outcome(if settled {
                    "-> ok"
                } else {
                    "-> fails ETIMEDOUT"
                });
                settled
            };
            let mut settled = one("settle", epoch.machine.device.settle_quarantine().is_ok());
            for user in 0..USERS {
                let context = epoch.context(user)?;
                let step = format!("settle u[{user}]");
                settled &= one(&step, context.settle_quarantine().is_ok());
            }
            Ok(settled)
        };
        if !settle(self)? {
            self.disarm();
            if !settle(self)? {
                return Err("the quarantine does not settle".to_owned());
            }
        }
        self.model.settle();
        Ok(())
    }

    /// Closes every file and ends every view and export.
    pub(super) fn end_everything(&mut self) -> Result<(), String> {
        for user in 0..USERS {
            if self.contexts[user].is_some() {
                self.close(user)?;
            }
        }
        while !self.children.is_empty() {
            self.exit(0)?;
        }
        for shown in core::mem::take(&mut self.views) {
            self.scribe.step(format_args!("munmap {}", shown.name));
            self.machine
                .device
                .end_view(shown.view)
                .map_err(|error| error.to_string())?;
            self.model.hide(shown.buffer);
        }
        for exported in core::mem::take(&mut self.exports) {
            self.scribe.step(format_args!("unexport {}", exported.name));
            self.machine
                .device
                .end_export(exported.export)
                .map_err(|export| format!("{export} is not taken"))?;
            self.model.release_pack(exported.pack);
        }
        let pinned = self
            .model
            .files
            .iter()
            .flat_map(|file| file.mappings.values())
            .any(|mapping| matches!(mapping.memory, Memory::User(_)));
        if pinned || !self.model.buffers.is_empty() || !self.model.packs.is_empty() {
            return Err("the model has something left".to_owned());
        }
        Ok(())
    }

    /// Ends the epoch: nothing is left, and nobody touched what was not his.
    pub(super) fn end(mut self) -> Result<Summary, String> {
        // What the MMUs keep is nobody's later.
        self.report()?;
        self.end_everything()?;
        self.compare_pins()?;
        for user in 0..USERS {
            self.scribe.step(format_args!("munmap c[{user}]"));
            self.scribe.step(format_args!("munmap s[{user}]"));
        }
        let statistics = self.machine.host.statistics();
        let stray =
            statistics.free_accesses + statistics.unpinned_accesses + statistics.unmapped_accesses;
        if stray + statistics.poison_damaged > 0 {
            return Err(format!("stray accesses: {statistics}"));
        }
        let violations = self.machine.asic.counters().protocol_violations;
        if violations > 0 || !self.machine.host.damaged_free_frames().is_empty() {
            return Err(format!(
                "{violations} protocols broken, or free pages written"
            ));
        }
        for budget in self.budgets {
            if budget.charged() != 0 {
                return Err(format!("{} pages are charged to nobody", budget.charged()));
            }
        }
        Ok(self.summary)
    }
}
