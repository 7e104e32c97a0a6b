//! What users do, and what fails meanwhile.

/// Where a mapping is asked to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Wherever the driver likes.
    Anywhere,
    /// Preferably on a page of this number, counted from far into the range.
    Hint(u64),
    /// There or not at all.
    Exact(u64),
    /// At an address inside of a page, or not at all.
    Crooked(u64),
}

/// What a user does. Numbers choose among what there is when the operation is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// What kind of machine it is, where this is the first step of all; anywhere else, nothing.
    Machine(Kind),
    /// Maps memory of the process, from a byte on, of which some may not be there.
    Map {
        /// The first byte.
        start: u64,
        /// How many.
        len: u64,
        /// From the piece that is contiguous, where large leaves can be.
        contiguous: bool,
        /// Where to.
        place: Place,
    },
    /// Maps device memory, of whichever user.
    MapDram {
        /// Which piece.
        pack: u64,
        /// Where to.
        place: Place,
    },
    /// Unmaps something.
    Unmap(u64),
    /// Unmaps where nothing is mapped by request, such as within a mapping.
    UnmapNothing(u64),
    /// Has the driver make a block of some pages.
    CreateBlock(u64),
    /// Has the driver map a block for the user.
    MapBlock(u64),
    /// Makes a command buffer of some pages.
    CreateCommandBuffer {
        /// How many.
        pages: u64,
        /// And maps it.
        mapped: bool,
    },
    /// Asks for a handle for registers.
    Registers(u64),
    /// Makes timestamps.
    CreateTimestamps(u64),
    /// Asks for the time in a slot when a counter reaches a target.
    Register {
        /// Of which timestamps.
        pool: u64,
        /// Which slot.
        slot: u64,
        /// Which counter, and which target.
        target: u64,
    },
    /// A counter reaches a value.
    Reach(u64),
    /// Destroys what a handle names.
    Destroy(u64),
    /// Destroys by a handle that names nothing, or something else.
    DestroyNothing(u64),
    /// Shows what a handle names.
    View {
        /// Which.
        object: u64,
        /// By a wrong length.
        wrong: bool,
    },
    /// Ends a view.
    EndView(u64),
    /// Gives a page of a view back.
    EndPage {
        /// Which view.
        view: u64,
        /// Which of the pages that are left.
        page: u64,
    },
    /// The process forks; the child keeps what its parent is shown, and none of the memory.
    Fork,
    /// A child ends.
    Exit(u64),
    /// Allocates device memory.
    Allocate {
        /// How many pages.
        pages: u64,
        /// In one piece.
        contiguous: bool,
        /// For others as well.
        shared: bool,
    },
    /// Frees device memory, of whichever user.
    Free(u64),
    /// Exports mapped device memory.
    Export(u64),
    /// Ends an export.
    EndExport(u64),
    /// The device writes into a mapping.
    Write {
        /// Which mapping.
        mapping: u64,
        /// Where.
        at: u64,
        /// What.
        stamp: u64,
    },
    /// The device reads from a mapping.
    Read {
        /// Which mapping.
        mapping: u64,
        /// Where.
        at: u64,
    },
    /// The device reads where something was mapped a while ago.
    Stray(u64),
    /// The process writes its memory.
    Store {
        /// Where.
        at: u64,
        /// What.
        stamp: u64,
    },
    /// The process gets other pages at the same addresses.
    Replace(u64),
    /// The host moves all pages that it may.
    Reclaim,
    /// Settles what is in quarantine.
    Settle,
    /// Closes the file, as it is, and opens another.
    Reopen,
    /// The driver takes the faults that the device captured, and tells the users.
    Report,
    /// Reads up to so many of the things that he is told.
    Hear(u64),
    /// The device is lost and reset; all files are closed.
    Die {
        /// The reset keeps the device's memory.
        kept: bool,
        /// The driver notes the loss before the reset.
        noted: bool,
    },
}

/// What can be chosen of a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kind {
    /// A buffer may be shown any number of times, and not only once.
    pub many_views: bool,
    /// Users find the default page of the ASIC where nothing is mapped, if it has one.
    pub default_page: bool,
}

/// What fails during a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The n-th allocation of a page.
    Page(u64),
    /// The n-th pin.
    Pin(u64),
    /// The n-th invalidation.
    Invalidation(u64),
    /// The n-th invalidation and all that follow.
    Invalidations(u64),
}

/// One step: an operation of a user, and what fails during it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Which user.
    pub user: usize,
    /// What he does.
    pub operation: Operation,
    /// What fails.
    pub failure: Option<Failure>,
}

/// Numbers from a seed.
#[derive(Clone, Debug)]
struct Numbers(fastrand::Rng);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn place(&mut self) -> Place {
        match self.below(10) {
            0 | 1 => Place::Hint(self.below(40)),
            2 | 3 => Place::Exact(self.below(40)),
            4 => Place::Crooked(self.below(40)),
            _ => Place::Anywhere,
        }
    }

    fn operation(&mut self) -> Operation {
        match self.below(2070) {
            0..400 => Operation::Map {
                start: self.next(),
                len: self.next(),
                contiguous: self.one_in(8),
                place: self.place(),
            },
            400..480 => Operation::MapDram {
                pack: self.next(),
                place: self.place(),
            },
            480..860 => Operation::Unmap(self.next()),
            860..890 => Operation::UnmapNothing(self.next()),
            890..930 => Operation::CreateBlock(self.next()),
            930..960 => Operation::MapBlock(self.next()),
            960..1020 => Operation::CreateCommandBuffer {
                pages: self.next(),
                mapped: self.one_in(2),
            },
            1020..1045 => Operation::CreateTimestamps(self.next()),
            1045..1065 => Operation::Register {
                pool: self.next(),
                slot: self.next(),
                target: self.next(),
            },
            1065..1080 => Operation::Reach(self.next()),
            1080..1160 => Operation::Destroy(self.next()),
            1160..1180 => Operation::DestroyNothing(self.next()),
            1180..1230 => Operation::View {
                object: self.next(),
                wrong: self.one_in(5),
            },
            1230..1280 => Operation::EndView(self.next()),
            1280..1320 => Operation::Allocate {
                pages: self.next(),
                contiguous: self.one_in(2),
                shared: self.one_in(3),
            },
            1320..1350 => Operation::Free(self.next()),
            1350..1365 => Operation::Export(self.next()),
            1365..1380 => Operation::EndExport(self.next()),
            1380..1560 => Operation::Write {
                mapping: self.next(),
                at: self.next(),
                stamp: self.next() | 1,
            },
            1560..1800 => Operation::Read {
                mapping: self.next(),
                at: self.next(),
            },
            1800..1840 => Operation::Stray(self.next()),
            1840..1864 => Operation::EndPage {
                view: self.next(),
                page: self.next(),
            },
            1864..1872 => Operation::Fork,
            1872..1880 => Operation::Exit(self.next()),
            1880..1930 => Operation::Store {
                at: self.next(),
                stamp: self.next() | 1,
            },
            1930..1945 => Operation::Replace(self.next()),
            1945..1947 => Operation::Reclaim,
            1947..1985 => Operation::Settle,
            1985..2000 => Operation::Reopen,
            2000..2035 => Operation::Report,
            2035..2055 => Operation::Hear(self.next()),
            _ => Operation::Registers(self.next()),
        }
    }

    /// Allocations fail in one step of a hundred, invalidations in one of a thousand, the device in
    /// one of ten thousand (acceptance S-03).
    fn step(&mut self, users: usize) -> Step {
        let user = self.below(users as u64) as usize;
        let operation = match self.one_in(10_000) {
            true => Operation::Die {
                kept: self.one_in(2),
                noted: !self.one_in(3),
            },
            false => self.operation(),
        };
        let failure = match self.below(2000) {
            0..10 => Some(Failure::Page(1 + self.below(6))),
            10..20 => Some(Failure::Pin(1 + self.below(12))),
            20 => Some(Failure::Invalidation(1 + self.below(3))),
            21 => Some(Failure::Invalidations(1 + self.below(3))),
            _ => None,
        };
        Step {
            user,
            operation,
            failure,
        }
    }
}

/// The first `count` steps of so many users from a seed. More steps from the same seed begin with the
/// same ones.
#[must_use]
pub fn steps(seed: u64, users: usize, count: usize) -> Vec<Step> {
    let mut numbers = Numbers(fastrand::Rng::with_seed(seed));
    let kind = Step {
        user: 0,
        operation: Operation::Machine(Kind {
            many_views: numbers.one_in(2),
            default_page: numbers.one_in(2),
        }),
        failure: None,
    };
    let others = core::iter::repeat_with(|| numbers.step(users));
    core::iter::once(kind).chain(others).take(count).collect()
}
