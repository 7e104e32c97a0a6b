//! The device is lost, and comes back with its memory or without.

use hl_mem::uapi::{Errno, FLAG_USERPTR, OP_MAP};

use super::super::model::Expected;
use super::super::operations::Place;
use super::super::scribe::Handles;
use super::{Epoch, USERS};
use crate::asic::{DramContent, InitiatorMode};
use crate::machine;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// The device is lost: requests fail, it is reset, which its memory may survive, and every file is
    /// closed. New ones are opened. Whether the driver notes that it is lost or not, it knows when it
    /// brings it back.
    pub(super) fn die(&mut self, user: usize, kept: bool, noted: bool) -> Result<(), String> {
        self.summary.deaths += 1;
        self.disarm();
        self.machine.asic.lose();
        self.scribe.step("lose");
        self.scribe
            .step(format_args!("map u[{user}] s[{user}] size 1"));
        self.scribe.outcome("-> fails EIO or EBUSY or ENOMEM");
        let context = self.context(user)?;
        let input = hl_mem::uapi::MemoryInput {
            arguments: [self.address(user, 0).get(), 0, 1],
            op: OP_MAP,
            flags: FLAG_USERPTR,
            ..Default::default()
        };
        let full = self.model.files[user].mapping_count() >= self.rules.mappings
            || self.model.charged(user) >= self.rules.budget;
        let refused = hl_mem::uapi::dispatch(context, &input.to_bytes());
        let told = match refused {
            Err(Errno::EIO | Errno::EBUSY) => true,
            Err(Errno::ENOMEM) => full,
            _ => false,
        };
        if !told {
            return Err(format!("a lost device answers {refused:?}"));
        }
        if noted {
            self.note_lost(user)?;
        }
        // What is mapped stays pinned: nobody knows what the device still does.
        let pins = self.model.pins();
        let pins: u64 = pins.values().map(|pins| u64::from(*pins)).sum();
        if self.machine.host.counters().pins < pins {
            return Err("pins went without the device's word".to_owned());
        }
        let (word, content) = match kept {
            true => ("reset", DramContent::Kept),
            false => ("reset undefined", DramContent::Undefined),
        };
        self.scribe.step(word);
        self.scribe.step("recover");
        self.machine.reset(content);
        self.machine
            .recover()
            .map_err(|error| format!("recovering: {error}"))?;
        self.model.forget_captured();
        // Who was not told of the loss is told of both now.
        for works in [false, true] {
            self.model.tell(works, self.rules.events);
        }
        let privileged = self.engines[USERS];
        self.machine
            .asic
            .set_initiator_mode(privileged, InitiatorMode::Privileged);
        self.share_what_is_left(user, kept)?;
        self.end_everything()?;
        if self.storages.len() < USERS {
            self.over = true;
            return Ok(());
        }
        (0..USERS).try_for_each(|user| self.open(user))
    }

    /// The driver notes that the device is lost.
    fn note_lost(&mut self, user: usize) -> Result<(), String> {
        // Once that is noted, nonsense is told the same as what could be done.
        self.scribe.step("notice");
        let woken = self.machine.device.note_lost();
        if self.model.tell(false, self.rules.events) != woken {
            return Err(format!("readers are woken: {woken}, and not {}", !woken));
        }
        // The MMUs of a lost device are not to be read.
        self.scribe.step("report faults");
        self.scribe.outcome("-> fails EIO");
        if let Ok(reported) = self.machine.device.report_faults(|_| {}) {
            return Err(format!("a lost device gave {reported:?}"));
        }
        for size in [1, 0] {
            self.scribe
                .step(format_args!("map u[{user}] s[{user}] size {size}"));
            self.scribe.outcome("-> fails EBUSY");
            let arguments = [self.address(user, 0).get(), 0, size];
            let refused = self.call(user, arguments, OP_MAP, FLAG_USERPTR)?;
            if refused != Err(Errno::EBUSY) {
                return Err(format!("a device noted as lost answers {refused:?}"));
            }
        }
        Ok(())
    }

    /// Opens a new file among those of before the reset. It gets their device memory where that is shared and
    /// still has what was written to it.
    fn share_what_is_left(&mut self, user: usize, kept: bool) -> Result<(), String> {
        for pack in self.model.packs.values_mut() {
            pack.lost |= !kept;
        }
        // One for him now, and one for everybody afterwards.
        if self.storages.len() <= USERS {
            return Ok(());
        }
        self.close(user)?;
        self.open(user)?;
        if kept {
            let count = self.model.packs.len() as u64;
            return (0..count)
                .try_for_each(|number| self.map_dram(user, None, number, Place::Anywhere));
        }
        let others = self.model.packs.iter();
        let others: Vec<_> = others.map(|(handle, pack)| (*handle, *pack)).collect();
        for (handle, pack) in others {
            let expected = match (self.rules.dram, pack.owner, pack.shared) {
                (None, ..) | (_, None, _) => Errno::EINVAL,
                (Some(_), Some(_), false) => Errno::EPERM,
                (Some(_), Some(_), true) => Errno::ENODEV,
            };
            let written = self.scribe.handle(Handles::Memory, handle);
            self.scribe
                .step(format_args!("map u[{user}] dram {written}"));
            let got = self.call(user, [0, handle, 0], OP_MAP, 0)?;
            self.check(Expected::Refused(expected), None, &got)?;
        }
        Ok(())
    }
}
