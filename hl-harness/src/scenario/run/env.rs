//! What a running scenario has given names to.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use hl_mem::budget::Budget;
use hl_mem::context::DramExport;
use typed_arena::Arena;

use super::ring::Ring;
use crate::asic::TranslatedTransfer;
use crate::host::{Process, UserAddress};
use crate::machine::{FileStorage, MachineContext, MachineView, Model};
use crate::port::BlockMapping;

/// A name and its index.
pub(crate) type Key = (String, Option<u64>);

/// An open file.
pub(crate) struct File<'c, 's, 'm, A: Model> {
    pub(crate) context: MachineContext<'c, 's, 'm, A>,
    pub(crate) process: Arc<Process>,
    pub(crate) budget: &'c Budget,
}

/// Memory of a process.
#[derive(Clone, Debug)]
pub(crate) struct Buffer {
    pub(crate) process: Arc<Process>,
    pub(crate) start: UserAddress,
    pub(crate) bytes: u64,
}

/// A block of the driver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// Its device address.
    pub(crate) start: u64,
}

/// A view, and which part of it its process has unmapped.
pub(crate) struct Viewed<'m, A: Model> {
    pub(crate) view: MachineView<'m, A>,
    /// Byte offsets, in whole pages.
    pub(crate) gone: Vec<Range<u64>>,
}

impl<A: Model> Viewed<'_, A> {
    /// The mapping of the process.
    pub(crate) fn mapping(&self) -> &BlockMapping {
        self.view.view()
    }
}

/// A copy that was given a name.
#[derive(Clone, Debug, Default)]
pub(crate) enum Copy {
    /// The next one stops when it is translated.
    #[default]
    Armed,
    /// It has stopped there.
    Translated(Arc<Mutex<Option<TranslatedTransfer>>>),
}

/// Storage that lives as long as the machine runs.
pub(crate) struct Arenas<'m, A: Model> {
    pub(crate) files: Arena<FileStorage<'m, A>>,
    pub(crate) budgets: Arena<Budget>,
}

impl<A: Model> Arenas<'_, A> {
    pub(crate) fn new() -> Self {
        Self {
            files: Arena::new(),
            budgets: Arena::new(),
        }
    }
}

/// The names, by kind. A thread has a copy of its own.
pub(crate) struct Env<'c, 's, 'm, A: Model> {
    pub(crate) variables: BTreeMap<Key, u64>,
    pub(crate) files: BTreeMap<Key, Arc<File<'c, 's, 'm, A>>>,
    /// Those that forked off.
    pub(crate) children: BTreeMap<Key, Arc<Process>>,
    pub(crate) buffers: BTreeMap<Key, Buffer>,
    pub(crate) blocks: BTreeMap<Key, Block>,
    pub(crate) views: BTreeMap<Key, Arc<Viewed<'m, A>>>,
    pub(crate) exports: BTreeMap<Key, Arc<DramExport>>,
    pub(crate) rings: BTreeMap<Key, Arc<Ring<'m, A>>>,
    pub(crate) copies: BTreeMap<Key, Copy>,
    pub(crate) marks: BTreeMap<Key, u64>,
}

impl<A: Model> Env<'_, '_, '_, A> {
    pub(crate) fn new() -> Self {
        Self {
            variables: BTreeMap::new(),
            files: BTreeMap::new(),
            children: BTreeMap::new(),
            buffers: BTreeMap::new(),
            blocks: BTreeMap::new(),
            views: BTreeMap::new(),
            exports: BTreeMap::new(),
            rings: BTreeMap::new(),
            copies: BTreeMap::new(),
            marks: BTreeMap::new(),
        }
    }
}

// Not derived, since that would want the ASIC to be `Clone` for what only counts references.
impl<A: Model> Clone for Env<'_, '_, '_, A> {
    fn clone(&self) -> Self {
        Self {
            variables: self.variables.clone(),
            files: self.files.clone(),
            children: self.children.clone(),
            buffers: self.buffers.clone(),
            blocks: self.blocks.clone(),
            views: self.views.clone(),
            exports: self.exports.clone(),
            rings: self.rings.clone(),
            copies: self.copies.clone(),
            marks: self.marks.clone(),
        }
    }
}

/// What stands between a name and the child that has what its parent called so, in a key.
const OF: &str = " of ";

/// The key of what a child has from its parent, by the parent's key.
pub(crate) fn inherited((name, index): &Key, child: &Key) -> Key {
    // The parent may have it from its own.
    let name = name.split(OF).next().unwrap_or(name);
    (format!("{name}{OF}{}", key_text(child)), *index)
}

/// How a key is written.
pub(crate) fn key_text((name, index): &Key) -> String {
    match (index, name.split_once(OF)) {
        (None, _) => name.clone(),
        (Some(index), None) => format!("{name}[{index}]"),
        (Some(index), Some((name, child))) => format!("{name}[{index}]{OF}{child}"),
    }
}
