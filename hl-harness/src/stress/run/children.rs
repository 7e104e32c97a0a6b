//! Processes that forked off: each has what its parent was shown, until it ends or gives it back.

use std::sync::Arc;

use super::super::operations::Failure;
use super::{CONTIGUOUS, Child, Epoch, SCATTERED, Shown, Viewer};
use crate::machine;

/// Children at a time.
const CHILDREN: usize = 3;

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    pub(super) fn fork(&mut self, user: usize, failure: Option<Failure>) -> Result<(), String> {
        // What the system does where it has no page for a copy is nothing of the driver's.
        if self.children.len() == CHILDREN || failure.is_some() {
            return Ok(());
        }
        let number = self.summary.steps;
        let written = format!("child[{number}]");
        self.scribe
            .step(format_args!("fork u[{user}] as {written}"));
        let process = self.processes[user].fork();
        let process = Arc::new(process.map_err(|error| format!("forking: {error}"))?);
        let mut copies = Vec::new();
        for shown in &self.views {
            if shown.viewer != Viewer::User(user) {
                continue;
            }
            let mapping = shown.view.view().fork(&process);
            let mapping = mapping.map_err(|error| format!("forking a view: {error}"))?;
            let device = &self.machine.device;
            let copy = device.copy_view(&shown.view, shown.view.pages(), mapping);
            copies.push(Shown {
                name: format!("{} of {written}", shown.name),
                viewer: Viewer::Child(number),
                buffer: shown.buffer,
                gone: shown.gone.clone(),
                view: copy.map_err(|error| error.to_string())?,
            });
        }
        for copy in copies {
            self.model.show(copy.buffer);
            self.views.push(copy);
            self.check_view(self.views.len() - 1)?;
        }
        // Its copy of the memory would be the host's to get right.
        let (scattered, contiguous) = self.memory[user];
        for (name, at, pages) in [("s", scattered, SCATTERED), ("c", contiguous, CONTIGUOUS)] {
            self.scribe
                .step(format_args!("munmap {name}[{user}] of {written}"));
            process.unmap(at, pages as usize);
        }
        self.children.push(Child { number, process });
        Ok(())
    }

    pub(super) fn exit(&mut self, which: u64) -> Result<(), String> {
        if self.children.is_empty() {
            return Ok(());
        }
        let which = which as usize % self.children.len();
        let Child { number, process } = self.children.swap_remove(which);
        self.scribe.step(format_args!("exit child[{number}]"));
        let all = core::mem::take(&mut self.views);
        let (own, others): (Vec<_>, _) = all
            .into_iter()
            .partition(|shown| shown.viewer == Viewer::Child(number));
        self.views = others;
        for shown in own {
            self.note_end(shown.buffer, |machine| {
                let ended = machine.device.end_view(shown.view);
                ended.map_err(|error| error.to_string())
            })?;
        }
        process.exit();
        Ok(())
    }
}
