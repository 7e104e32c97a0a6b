//! Random scenarios: steps that a simple model chooses, with what it expects of them.
//!
//! The model is a list of what there is: buffers with the pattern in each page, mappings with their
//! pages, blocks, device memory. It knows no allocator, no table and no order of release, so that what
//! it expects (data, pins, charges, errors) is written down without looking at how it comes about. A
//! scenario is text, and so is what reproduces a failure. It is made of choices, each of which follows from
//! its number and from what there is when it is made, so that some of them make a scenario as well.

mod children;
mod objects;
mod threads;

use super::words::AsicWord;
use children::Child;

/// Pages of each buffer.
const PAGES: u64 = 16;
/// Buffers of the process.
const BUFFERS: u64 = 3;
/// The most of anything else at a time.
const MOST: usize = 6;

/// Numbers that follow from a seed.
#[derive(Debug)]
struct Chance(fastrand::Rng);

impl Chance {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        let index = self.below(all.len().max(1) as u64) as usize;
        all.get(index).copied()
    }
}

/// What is in a page: a part of a pattern.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Content {
    /// The pattern; 0 for zeros.
    number: u64,
    /// The page of it.
    page: u64,
    /// Accesses that have written to some of its bytes since.
    touch: Option<Touch>,
}

/// Accesses with a mark, by a page of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touch {
    mark: u64,
    mapping: u64,
    page: u64,
}

impl Content {
    /// As a scenario writes it.
    fn words(self) -> String {
        let words = match self.number {
            0 => "byte 0".to_owned(),
            number => format!("pattern {number} from {} * page", self.page),
        };
        match self.touch {
            None => words,
            Some(Touch {
                mark,
                mapping,
                page,
            }) => format!("{words} or mark {mark} from m{mapping} + {page} * page"),
        }
    }
}

/// What is in the buffers of a process.
type Contents = Vec<[Content; PAGES as usize]>;

/// A mapping of a part of a buffer.
#[derive(Clone, Copy, Debug)]
struct Mapping {
    name: u64,
    buffer: u64,
    first: u64,
    pages: u64,
}

/// A block, and whether it has a view.
#[derive(Clone, Copy, Debug)]
struct Block {
    name: u64,
    pages: u64,
    content: Option<u64>,
    shown: bool,
}

/// A piece of device memory, and where it is mapped.
#[derive(Clone, Copy, Debug)]
struct Piece {
    name: u64,
    content: Option<u64>,
    mapped: bool,
}

/// What there is.
#[derive(Debug)]
struct Model {
    chance: Chance,
    lines: Vec<String>,
    /// Whether device memory is mapped on this ASIC.
    maps_dram: bool,
    buffers: Contents,
    /// The buffer that the steps of a thread are about, which no other thread uses.
    own: Option<u64>,
    mappings: Vec<Mapping>,
    blocks: Vec<Block>,
    pieces: Vec<Piece>,
    command_buffers: Vec<u64>,
    children: Vec<Child>,
    /// The last name and pattern given.
    names: u64,
}

/// A random scenario of about `steps` steps for an ASIC. The same arguments give the same text.
#[must_use]
pub fn random(asic: AsicWord, steps: usize, seed: u64) -> String {
    random_of(asic, seed, &choices(asic, steps, seed))
}

/// The choices that a random scenario is made of, by their numbers.
pub(super) fn choices(asic: AsicWord, steps: usize, seed: u64) -> Vec<u64> {
    let mut model = Model::new(asic, seed);
    let mut choices = Vec::new();
    for choice in 0.. {
        if model.lines.len() >= steps {
            break;
        }
        model.choose(seed, choice);
        choices.push(choice);
    }
    choices
}

/// The scenario of some of the choices. What is expected in it is what these lead to, without those that
/// are left out.
pub(super) fn random_of(asic: AsicWord, seed: u64, choices: &[u64]) -> String {
    let mut model = Model::new(asic, seed);
    for choice in choices {
        model.choose(seed, *choice);
    }
    let mut text = model.lines.join("\n");
    text.push('\n');
    text
}

impl Model {
    /// A machine, and a process that has opened it.
    fn new(asic: AsicWord, seed: u64) -> Self {
        let mut model = Self {
            chance: Chance(fastrand::Rng::with_seed(seed)),
            lines: vec![
                format!("# Random, from seed {seed}."),
                format!("asics {asic}"),
                "machine frames 2048 tables 200 reuse immediate".to_owned(),
            ],
            maps_dram: asic != AsicWord::Gaudi,
            buffers: Vec::new(),
            own: None,
            mappings: Vec::new(),
            blocks: Vec::new(),
            pieces: Vec::new(),
            command_buffers: Vec::new(),
            children: Vec::new(),
            names: 0,
        };
        model.open();
        model
    }

    /// Makes a choice, which follows from its number and from what there is.
    fn choose(&mut self, seed: u64, choice: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let scattered = random.u64(..).wrapping_add(choice);
        self.chance = Chance(fastrand::Rng::with_seed(scattered));
        self.step();
    }

    fn say(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    fn fresh(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// A process with its buffers, which are zero.
    fn open(&mut self) {
        self.say("open c1 budget 400");
        for number in 0..BUFFERS {
            // One that large leaves could be in, were it larger; the others scattered.
            let contiguous = if number == 0 {
                " contiguous 64 KiB"
            } else {
                ""
            };
            self.say(format!("buffer c1 b{number} {PAGES} pages{contiguous}"));
        }
        self.buffers = vec![[Content::default(); PAGES as usize]; BUFFERS as usize];
    }

    fn step(&mut self) {
        match self.chance.below(29) {
            0..4 => self.map(),
            4..7 => self.unmap(),
            7..9 => self.write(),
            9..12 => self.use_mapping(),
            12 => self.say("reclaim"),
            13 => self.refused(),
            14 => self.fail_map(),
            15 => self.fail_unmap(),
            16 | 17 => self.block(),
            18 | 19 => self.piece(),
            20 => self.command_buffer(),
            21 => self.count(),
            22 | 23 => self.access(),
            24 | 25 => self.child(),
            26 => self.interleave(),
            27 if self.chance.below(4) == 0 => self.close(),
            _ if self.chance.below(12) == 0 => self.lose(),
            _ => self.count(),
        }
    }

    /// A part of a buffer: which one, its first page, how many.
    fn part(&mut self) -> (u64, u64, u64) {
        let chosen = self.chance.below(BUFFERS);
        let buffer = self.own.unwrap_or(chosen);
        let first = self.chance.below(PAGES);
        (buffer, first, 1 + self.chance.below(PAGES - first))
    }

    fn map(&mut self) {
        if self.mappings.len() == MOST {
            return self.unmap();
        }
        let (buffer, first, pages) = self.part();
        let name = self.fresh();
        let hint = match self.chance.below(3) {
            0 => format!(" hint host.start + {} * page", self.chance.below(1 << 20)),
            _ => String::new(),
        };
        self.say(format!(
            "map c1 b{buffer} + {first} * page size {pages} * page{hint} -> m{name}"
        ));
        self.mappings.push(Mapping {
            name,
            buffer,
            first,
            pages,
        });
    }

    fn unmap(&mut self) {
        let Some(Mapping { name, .. }) = self.mapping() else {
            return;
        };
        self.mappings.retain(|mapping| mapping.name != name);
        self.say(format!("unmap c1 m{name}"));
        self.gone(name);
    }

    /// Nothing is where a mapping was; or what another thread has mapped there.
    fn gone(&mut self, name: u64) {
        self.say(match self.own {
            None => format!("dma read c1 m{name} 8 -> faults at m{name} because not-present"),
            Some(_) => format!("dma read c1 m{name} 8 -> ok or faults"),
        });
    }

    /// A mapping; in a thread, one of its own memory.
    fn mapping(&mut self) -> Option<Mapping> {
        let own = |mapping: &Mapping| self.own.is_none_or(|buffer| mapping.buffer == buffer);
        let all: Vec<Mapping> = self.mappings.iter().copied().filter(own).collect();
        self.chance.one_of(&all)
    }

    fn index(&mut self, len: usize) -> Option<usize> {
        (len > 0).then(|| self.chance.below(len as u64) as usize)
    }

    fn write(&mut self) {
        let (buffer, first, pages) = self.part();
        let number = self.fresh();
        self.say(format!(
            "write b{buffer} at {first} * page size {pages} * page pattern {number}"
        ));
        self.fill(buffer, first, pages, number);
    }

    /// Notes that a part of a buffer has a pattern from its beginning on.
    fn fill(&mut self, buffer: u64, first: u64, pages: u64, number: u64) {
        let Some(content) = self.buffers.get_mut(buffer as usize) else {
            return;
        };
        for (place, page) in content.iter_mut().skip(first as usize).zip(0..pages) {
            *place = Content {
                number,
                page,
                touch: None,
            };
        }
    }

    fn content(&self, buffer: u64, page: u64) -> Content {
        content(&self.buffers, buffer, page)
    }

    /// Maps something where nothing is mapped. What a thread maps has no name after it.
    fn first_map(&mut self) {
        match self.own {
            None => self.map(),
            Some(_) => self.map_and_unmap(),
        }
    }

    /// The device reads what the process wrote, or writes what the process reads.
    fn use_mapping(&mut self) {
        let Some(mapping) = self.mapping() else {
            return self.first_map();
        };
        let Mapping {
            name,
            buffer,
            first,
            pages,
        } = mapping;
        if self.chance.below(2) == 0 {
            let number = self.fresh();
            self.say(format!(
                "dma write c1 m{name} {pages} * page pattern {number}"
            ));
            self.fill(buffer, first, pages, number);
            let page = first + self.chance.below(pages);
            let content = self.content(buffer, page).words();
            self.say(format!(
                "read b{buffer} at {page} * page size page expect {content}"
            ));
        } else {
            let page = self.chance.below(pages);
            let content = self.content(buffer, first + page).words();
            self.say(format!(
                "dma read c1 m{name} + {page} * page page expect {content}"
            ));
        }
    }

    /// Requests that are refused, and change nothing.
    fn refused(&mut self) {
        let (buffer, _, _) = self.part();
        let name = self.fresh();
        self.say(format!("snapshot s{name}"));
        match self.chance.one_of(&self.mappings) {
            Some(mapping) => {
                let at = mapping.name;
                let page = self.chance.below(mapping.pages);
                self.say(format!(
                    "map c1 b{buffer} size page hint m{at} + {page} * page force -> fails ENOMEM"
                ));
                self.say(format!(
                    "unmap c1 m{at} + 1 + {page} * page -> fails EINVAL"
                ));
            }
            None => {
                self.say(format!("map c1 b{buffer} size 0 -> fails EINVAL"));
                self.say("unmap c1 host.start -> fails EINVAL");
            }
        }
        self.say(format!(
            "map c1 b{buffer} + page size {PAGES} * page -> fails EFAULT"
        ));
        self.say("free c1 max -> fails EINVAL");
        self.same(name);
    }

    /// All is as in a snapshot. A page that a child shares becomes two as soon as somebody tries to map it.
    fn same(&mut self, name: u64) {
        let except = match self.children.is_empty() {
            true => "",
            false => " except frames-in-use, user-frames, references",
        };
        self.say(format!("expect same as s{name}{except}"));
    }

    /// A map that fails at some page.
    fn fail_map(&mut self) {
        let (buffer, first, pages) = self.part();
        let (name, nth) = (self.fresh(), 1 + self.chance.below(pages));
        self.say(format!("snapshot s{name}"));
        self.say(format!("fail pin {nth}"));
        self.say(format!(
            "map c1 b{buffer} + {first} * page size {pages} * page -> fails ENOMEM"
        ));
        self.same(name);
    }

    /// An unmap that the device does not confirm at first.
    fn fail_unmap(&mut self) {
        let Some(index) = self.index(self.mappings.len()) else {
            return;
        };
        let mapping = self.mappings.swap_remove(index);
        let Mapping {
            name,
            buffer,
            first,
            ..
        } = mapping;
        let pins = self.pins(buffer, first) + 1;
        self.say("fail invalidate 1 timeout times 1000");
        self.say(format!("unmap c1 m{name} -> fails ETIMEDOUT"));
        self.say("expect quarantined c1 = 1");
        self.say(format!("expect pins b{buffer} page {first} = {pins}"));
        self.say("fail nothing");
        self.say("settle c1");
        self.say(format!(
            "dma read c1 m{name} 8 -> faults at m{name} because not-present"
        ));
    }

    /// How many mappings a page of a buffer is in.
    fn pins(&self, buffer: u64, page: u64) -> u64 {
        let inside = |mapping: &&Mapping| {
            let pages = mapping.first..mapping.first + mapping.pages;
            mapping.buffer == buffer && pages.contains(&page)
        };
        self.mappings.iter().filter(inside).count() as u64
    }

    /// What is counted.
    fn count(&mut self) {
        let (buffer, page, _) = self.part();
        let pins = self.pins(buffer, page);
        self.say(format!("expect pins b{buffer} page {page} = {pins}"));
        let charged: u64 = self.mappings.iter().map(|mapping| mapping.pages).sum();
        self.say(format!("expect charged c1 = {charged}"));
        let pieces = self.pieces.iter().filter(|piece| piece.mapped).count();
        let mapped = self.mappings.len() + pieces + self.command_buffers.len();
        self.say(format!("expect mappings c1 = {mapped}"));
        let handles = self.blocks.len() + self.command_buffers.len();
        self.say(format!("expect handles c1 = {handles}"));
    }

    /// The file is closed with everything in it, and another one is opened.
    fn close(&mut self) {
        let pieces = self.pieces.iter().filter(|piece| piece.mapped).count();
        let mapped = self.mappings.len() + pieces;
        let handles = self.blocks.len() + self.command_buffers.len();
        let dram = self.pieces.len();
        self.say(format!(
            "close c1 -> left mappings {mapped} handles {handles} dram {dram}"
        ));
        self.forget();
    }

    /// The device is gone, and comes back with nothing in its tables.
    fn lose(&mut self) {
        let undefined = ["", " undefined"];
        let undefined = self.chance.one_of(&undefined).unwrap_or_default();
        self.say("lose");
        if let Some(mapping) = self.chance.one_of(&self.mappings) {
            self.say(format!("dma read c1 m{} 8 -> lost", mapping.name));
            self.say(format!("unmap c1 m{} -> fails EIO", mapping.name));
        }
        self.say(format!("reset{undefined}"));
        self.say("recover");
        self.say("close c1");
        self.forget();
    }

    /// Nothing is there any more; a new process comes.
    fn forget(&mut self) {
        for child in core::mem::take(&mut self.children) {
            self.say(format!("exit k{}", child.name));
        }
        for number in 0..BUFFERS {
            self.say(format!("expect pins b{number} = 0"));
            self.say(format!("munmap b{number}"));
        }
        for block in core::mem::take(&mut self.blocks) {
            if block.shown {
                self.say(format!("munmap v{}", block.name));
            }
        }
        self.mappings.clear();
        self.pieces.clear();
        self.command_buffers.clear();
        self.open();
    }
}

fn content(buffers: &Contents, buffer: u64, page: u64) -> Content {
    let buffer = buffers.get(buffer as usize);
    let content = buffer.and_then(|pages| pages.get(page as usize));
    content.copied().unwrap_or_default()
}
