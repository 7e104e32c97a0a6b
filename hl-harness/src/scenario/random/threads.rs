//! Accesses at random places, and threads that take turns.

use super::{BUFFERS, Content, Mapping, Model, Touch};

impl Model {
    /// A processor of the device uses a part of a mapping.
    pub(super) fn access(&mut self) {
        let Some(mapping) = self.mapping() else {
            return self.first_map();
        };
        let Mapping { name, buffer, .. } = mapping;
        let first = self.chance.below(mapping.pages);
        let pages = 1 + self.chance.below(mapping.pages - first);
        let contents: Vec<Content> = (0..pages)
            .map(|page| self.content(buffer, mapping.first + first + page))
            .collect();
        let count = 1 + self.chance.below(60);
        let seed = self.chance.below(1000);
        let mut line = format!("access c1 m{name} + {first} * page {pages} * page count {count}");
        let kinds = ["", " reads", " writes"];
        // Of each byte it is known who wrote it, but for those of two marks.
        let kind = match contents.iter().all(|content| content.touch.is_none()) {
            true => self.chance.one_of(&kinds).unwrap_or_default(),
            false => " reads",
        };
        line += kind;
        let mark = self.fresh() % 256;
        if kind != " reads" {
            line += &format!(" mark {mark}");
        }
        line += &format!(" seed {seed}");
        if let Some(content) = as_one(&contents).filter(|_| kind != " writes") {
            line += &format!(" expect {}", content.words());
        }
        self.say(line);
        if kind != " reads" {
            self.touch(mapping, first, pages, mark);
        }
        let page = mapping.first + first + self.chance.below(pages);
        let content = self.content(buffer, page).words();
        self.say(format!(
            "read b{buffer} at {page} * page size page expect {content}"
        ));
    }

    /// Notes that accesses have written to pages of a mapping.
    fn touch(&mut self, mapping: Mapping, first: u64, pages: u64, mark: u64) {
        let Some(buffer) = self.buffers.get_mut(mapping.buffer as usize) else {
            return;
        };
        let places = buffer.iter_mut().skip((mapping.first + first) as usize);
        for (place, page) in places.zip(first..first + pages) {
            place.touch = Some(Touch {
                mark,
                mapping: mapping.name,
                page,
            });
        }
    }

    /// Each thread with memory of its own, so that what it finds is known whatever the order; and one that
    /// reads what the others may have unmapped.
    pub(super) fn interleave(&mut self) {
        let seed = self.chance.below(1000);
        self.say(format!("interleave seed {seed}"));
        self.say("thread 1");
        for Mapping { name, pages, .. } in self.mappings.clone() {
            let count = 1 + self.chance.below(8);
            self.say(format!(
                "access c1 m{name} {pages} * page count {count} reads -> ok or faults"
            ));
        }
        self.say("end");
        for buffer in 0..BUFFERS {
            self.say("thread 1");
            self.own = Some(buffer);
            for _ in 0..1 + self.chance.below(4) {
                match self.chance.below(7) {
                    0 => self.write(),
                    1 => self.use_mapping(),
                    2 | 3 => self.access(),
                    4 => self.unmap(),
                    5 => self.say("reclaim"),
                    _ => {
                        let times = 1 + self.chance.below(3);
                        self.say(format!("repeat {times}"));
                        self.map_and_unmap();
                        self.say("end");
                    }
                }
            }
            self.own = None;
            self.say("end");
        }
        self.say("end");
        self.count();
    }

    /// A mapping that goes again at once.
    pub(super) fn map_and_unmap(&mut self) {
        let (buffer, first, pages) = self.part();
        let name = self.fresh();
        self.say(format!(
            "map c1 b{buffer} + {first} * page size {pages} * page -> m{name}"
        ));
        let page = self.chance.below(pages);
        let content = self.content(buffer, first + page).words();
        self.say(format!(
            "dma read c1 m{name} + {page} * page page expect {content}"
        ));
        self.say(format!("unmap c1 m{name}"));
        self.gone(name);
    }
}

/// What is in pages that follow each other, as that of one piece, where it is.
fn as_one(contents: &[Content]) -> Option<Content> {
    let (first, others) = contents.split_first()?;
    let follows = |(content, after): (&Content, u64)| match first.number {
        0 => content.number == 0,
        number => content.number == number && content.page == first.page + after,
    };
    let plain = contents.iter().all(|content| content.touch.is_none());
    let one = others.is_empty() || plain && others.iter().zip(1..).all(follows);
    one.then_some(*first)
}
