//! Processes that fork off, which have what their parent had then.

use super::{BUFFERS, Content, Contents, Model, PAGES, content};

/// The most children at a time.
const MOST: usize = 2;

/// A child of the process.
#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) name: u64,
    /// What it reads, whatever its parent and the device write.
    buffers: Contents,
    /// The blocks that it has a view of.
    pub(super) views: Vec<u64>,
}

impl Model {
    /// The process forks, or a child does something.
    pub(super) fn child(&mut self) {
        let index = self.index(self.children.len());
        let Some(index) = index.filter(|_| self.chance.below(4) > 0) else {
            return self.fork();
        };
        let (buffer, first, pages) = self.part();
        let number = self.fresh();
        let choice = self.chance.below(4);
        let Some(child) = self.children.get_mut(index) else {
            return;
        };
        let name = child.name;
        match choice {
            0 | 1 => {
                let written = child.buffers.get_mut(buffer as usize);
                let places = written.into_iter().flatten().skip(first as usize);
                for (place, page) in places.zip(0..pages) {
                    *place = Content {
                        number,
                        page,
                        touch: None,
                    };
                }
                self.say(format!(
                    "write b{buffer} of k{name} at {first} * page size {pages} * page pattern {number}"
                ));
                // It is the child's alone.
                let content = self.content(buffer, first).words();
                self.say(format!(
                    "read b{buffer} at {first} * page size page expect {content}"
                ));
            }
            2 => {
                self.children.swap_remove(index);
                return self.say(format!("exit k{name}"));
            }
            _ => {}
        }
        self.child_reads(index);
    }

    /// A child finds what its parent had at the fork, or what it has written since.
    fn child_reads(&mut self, index: usize) {
        let Some(Child { name, buffers, .. }) = self.children.get(index) else {
            return;
        };
        // What has become different tells more than what both have.
        let pages = (0..BUFFERS).flat_map(|buffer| (0..PAGES).map(move |page| (buffer, page)));
        let differs = |(buffer, page): &(u64, u64)| {
            content(buffers, *buffer, *page) != content(&self.buffers, *buffer, *page)
        };
        let different: Vec<(u64, u64)> = pages.filter(differs).collect();
        let chosen = self.chance.one_of(&different);
        let (buffer, page) = chosen.unwrap_or_default();
        let content = content(buffers, buffer, page).words();
        let name = *name;
        self.say(format!(
            "read b{buffer} of k{name} at {page} * page size page expect {content}"
        ));
    }

    fn fork(&mut self) {
        if self.children.len() == MOST {
            return;
        }
        let name = self.fresh();
        self.say(format!("fork c1 as k{name}"));
        let shown = self.blocks.iter().filter(|block| block.shown);
        self.children.push(Child {
            name,
            buffers: self.buffers.clone(),
            views: shown.map(|block| block.name).collect(),
        });
        let (buffer, page) = (self.chance.below(BUFFERS), self.chance.below(PAGES));
        self.say(format!("expect pins b{buffer} of k{name} page {page} = 0"));
        let pins = self.pins(buffer, page);
        self.say(format!("expect pins b{buffer} page {page} = {pins}"));
    }
}
