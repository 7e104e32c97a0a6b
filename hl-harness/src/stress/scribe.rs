//! What a run does and expects, written down as a scenario, so that a disagreement can be looked at and
//! kept without the program that found it.

use core::fmt::Display;
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::model::Expected;
use super::operations::Step;
use super::run::written;
use crate::machine::Model;
use crate::scenario::words::AsicWord;

/// The farthest that something lies behind the address that gave it its name.
const REACH: u64 = 1 << 32;

/// What a handle is of: two of different kinds may be the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Handles {
    /// What the registry of a file names.
    Objects,
    /// Device memory.
    Memory,
}

/// Writes the scenario, where anybody wants it.
#[derive(Debug, Default)]
pub(super) struct Scribe(Option<RefCell<Page>>);

#[derive(Debug, Default)]
struct Page {
    lines: Vec<String>,
    /// A step whose outcome is not known yet.
    open: Option<String>,
    handles: BTreeMap<(Handles, u64), String>,
    /// Device addresses by users and values.
    addresses: BTreeMap<(usize, u64), String>,
    /// What was expected last, so that it is said again only when it has changed.
    expected: BTreeMap<String, u64>,
}

impl Page {
    fn close(&mut self, outcome: &str) {
        if let Some(line) = self.open.take() {
            self.lines.push(format!("{line}{outcome}"));
        }
    }
}

impl Scribe {
    /// One that writes.
    pub(super) fn writing() -> Self {
        Self(Some(RefCell::default()))
    }

    fn page(&self) -> Option<core::cell::RefMut<'_, Page>> {
        self.0.as_ref().map(RefCell::borrow_mut)
    }

    /// The lines so far.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(mut page) = self.page() {
            page.close("");
            for line in &page.lines {
                text += line;
                text.push('\n');
            }
        }
        text
    }

    /// A step that is about to be carried out, which succeeds where nothing else is said.
    pub(super) fn step(&self, line: impl Display) {
        if let Some(mut page) = self.page() {
            page.close("");
            page.open = Some(line.to_string());
        }
    }

    /// What is expected of the last step.
    pub(super) fn outcome(&self, outcome: impl Display) {
        if let Some(mut page) = self.page() {
            page.close(&format!(" {outcome}"));
        }
    }

    /// The same of a request. Its number gets a name, which is its place in the list.
    pub(super) fn expected(&self, expected: Expected) {
        let name = self.next();
        match expected {
            Expected::Done => self.outcome(format_args!("-> {name}")),
            Expected::Refused(errno) => self.outcome(format_args!("-> fails {errno}")),
            Expected::Either(errno) => self.outcome(format_args!("-> {name} or {errno}")),
        }
    }

    fn next(&self) -> String {
        let number = self.page().map_or(0, |page| page.lines.len());
        format!("x[{number}]")
    }

    /// The name of the number that came of the last step.
    pub(super) fn result(&self) -> String {
        let number = self.page().map_or(1, |page| page.lines.len().max(1)) - 1;
        format!("x[{number}]")
    }

    /// The last step gave a handle.
    pub(super) fn made(&self, of: Handles, handle: u64) {
        let name = self.result();
        if let Some(mut page) = self.page() {
            page.handles.insert((of, handle), name);
        }
    }

    /// There is a device address of a user by this name.
    pub(super) fn lies(&self, user: usize, at: u64, name: String) {
        if let Some(mut page) = self.page() {
            page.addresses.insert((user, at), name);
        }
    }

    /// How a handle is written.
    pub(super) fn handle(&self, of: Handles, handle: u64) -> String {
        let named = |page: core::cell::RefMut<'_, Page>| page.handles.get(&(of, handle)).cloned();
        let name = self.page().and_then(named);
        name.unwrap_or_else(|| format!("{handle:#x}"))
    }

    /// How a device address of a user is written: by what lies there or before it.
    pub(super) fn address(&self, user: usize, at: u64) -> String {
        let near = self.page().and_then(|page| {
            let before = page.addresses.range((user, 0)..=(user, at));
            let ((_, start), name) = before.last()?;
            Some((at - start, name.clone()))
        });
        match near {
            Some((0, name)) => name,
            Some((behind, name)) if behind < REACH => format!("{name} + {behind:#x}"),
            _ => format!("{at:#x}"),
        }
    }

    /// A number of the machine is expected to be this one.
    pub(super) fn number(&self, what: String, number: u64) {
        let known = self
            .page()
            .and_then(|mut page| page.expected.insert(what.clone(), number));
        if known != Some(number) {
            self.step(format_args!("expect {what} = {number}"));
        }
    }

    /// What was expected of a user's file holds no more.
    pub(super) fn forget(&self, user: usize) {
        if let Some(mut page) = self.page() {
            let of_user = format!("u[{user}]");
            page.expected.retain(|what, _| !what.ends_with(&of_user));
            page.addresses.retain(|(other, _), _| *other != user);
        }
    }
}

/// Carries out steps on a new machine and on a new model, and writes down what they are and what is
/// expected of them, as a scenario for the ASIC: up to the first disagreement, which is its last line.
#[must_use]
pub fn as_scenario<A: Model>(steps: &[Step]) -> String {
    let scribe = Scribe::writing();
    let said = match written::<A>(steps, &|_| {}, &scribe) {
        Ok(summary) => format!("{summary}, without a disagreement"),
        Err(disagreement) => disagreement.to_string(),
    };
    let said: Vec<String> = said.lines().map(|line| format!("# {line}\n")).collect();
    let asic = AsicWord::of_model::<A>();
    format!("{}asics {asic}\n{}", said.concat(), scribe.text())
}
