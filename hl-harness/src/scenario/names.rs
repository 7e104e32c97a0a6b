//! Which names a scenario has given to what, as far as it has been read.

use std::collections::BTreeMap;

use super::ast::Name;
use super::text::Invalid;

/// What a name is given to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Context,
    Process,
    Buffer,
    Block,
    View,
    Dma,
    Export,
    Ring,
    Window,
    Snapshot,
    Mark,
    Variable,
}

impl Kind {
    /// What stands for a number where one is wanted.
    pub(crate) const NUMBERS: &'static [Self] =
        &[Self::Variable, Self::Buffer, Self::Block, Self::View];

    /// What a child has too when its parent forks.
    pub(crate) const INHERITED: &'static [Self] = &[Self::Buffer, Self::View];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Context => "context",
            Self::Process => "process",
            Self::Buffer => "buffer",
            Self::Block => "block",
            Self::View => "view",
            Self::Dma => "dma",
            Self::Export => "export",
            Self::Ring => "ring",
            Self::Window => "window",
            Self::Snapshot => "snapshot",
            Self::Mark => "mark",
            Self::Variable => "variable",
        }
    }
}

/// The names given so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names(BTreeMap<String, Kind>);

impl Names {
    /// The names that are given to this kind of thing.
    pub(crate) fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let given = self.0.iter().filter(move |(_, given)| **given == kind);
        given.map(|(text, _)| text.as_str())
    }

    /// Gives a name. The same one may be given again to the same kind of thing.
    pub(crate) fn define(&mut self, name: &Name, kind: Kind) -> Result<(), Invalid> {
        match self.0.insert(name.text.clone(), kind) {
            Some(before) if before != kind => Err(Invalid::new(
                name.span,
                format_args!(
                    "`{}` is a {} already, and cannot be a {} too",
                    name.text,
                    before.word(),
                    kind.word()
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Checks that a name is given to one of these kinds. Returns which.
    pub(crate) fn check(&self, name: &Name, kinds: &[Kind]) -> Result<Kind, Invalid> {
        let words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
        let wanted = words.join(" or ");
        match self.0.get(&name.text) {
            Some(kind) if kinds.contains(kind) => Ok(*kind),
            Some(kind) => Err(Invalid::new(
                name.span,
                format_args!("`{}` is a {}, not a {wanted}", name.text, kind.word()),
            )),
            None => {
                let known = self.0.iter().filter(|(_, kind)| kinds.contains(kind));
                let known: Vec<&str> = known.map(|(text, _)| text.as_str()).collect();
                let invalid = Invalid::new(
                    name.span,
                    format_args!("there is no {wanted} called `{}` so far", name.text),
                );
                let near = invalid.suggest(&name.text, known.iter().copied());
                Err(match (&near.help, known.is_empty()) {
                    (None, false) => near.help(format_args!("there is {}", known.join(", "))),
                    _ => near,
                })
            }
        }
    }
}
