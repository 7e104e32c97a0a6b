//! The words of the language that are one of a few, each with what it stands for.

use core::fmt;

use crate::asic::{AsicKind, HbmStacks};
use crate::machine::Model;

/// Declares a choice: an enum, its words, and the way from one to the other.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$entry_doc:meta])* $entry:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$entry_doc])* $entry,)*
        }

        impl Choice for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$entry, $word),)*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$entry => $word,)* })
            }
        }
    };
}

/// One of a few words.
pub(crate) trait Choice: Copy + fmt::Display + 'static {
    /// Each with its word.
    const ALL: &'static [(Self, &'static str)];

    /// What a word stands for.
    fn of(word: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, text)| *text == word);
        found.map(|(choice, _)| *choice)
    }

    /// The words, in order.
    fn words() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(_, word)| *word)
    }
}

choice! {
    /// A part that scenarios run on.
    AsicWord {
        /// Goya.
        Goya "goya",
        /// Gaudi.
        Gaudi "gaudi",
        /// Gaudi2 with six stacks of memory.
        Gaudi2 "gaudi2-six",
        /// Gaudi2 with five.
        Gaudi2Five "gaudi2-five",
    }
}

impl AsicWord {
    /// The word for a part.
    #[must_use]
    pub fn of_model<A: Model>() -> Self {
        match (A::KIND, A::STACKS) {
            (AsicKind::Goya, _) => Self::Goya,
            (AsicKind::Gaudi, _) => Self::Gaudi,
            (AsicKind::Gaudi2, HbmStacks::Six) => Self::Gaudi2,
            (AsicKind::Gaudi2, HbmStacks::Five) => Self::Gaudi2Five,
        }
    }
}

choice! {
    /// An ASIC as files and options name it: one part, or all that differ in nothing but their memory.
    Asics {
        /// Goya.
        Goya "goya",
        /// Gaudi.
        Gaudi "gaudi",
        /// Gaudi2, whatever the number of its stacks.
        Gaudi2 "gaudi2",
        /// Gaudi2 with six stacks of memory.
        Gaudi2Six "gaudi2-six",
        /// Gaudi2 with five.
        Gaudi2Five "gaudi2-five",
    }
}

impl Asics {
    /// The parts that the word stands for.
    #[must_use]
    pub const fn parts(self) -> &'static [AsicWord] {
        match self {
            Self::Goya => &[AsicWord::Goya],
            Self::Gaudi => &[AsicWord::Gaudi],
            Self::Gaudi2 => &[AsicWord::Gaudi2, AsicWord::Gaudi2Five],
            Self::Gaudi2Six => &[AsicWord::Gaudi2],
            Self::Gaudi2Five => &[AsicWord::Gaudi2Five],
        }
    }

    /// The parts that several words stand for, each once; all there are where there is no word.
    #[must_use]
    pub fn parts_of(words: &[Self]) -> Vec<AsicWord> {
        let all = AsicWord::ALL.iter().map(|(part, _)| *part);
        let named = |part: &AsicWord| {
            words.is_empty() || words.iter().any(|word| word.parts().contains(part))
        };
        all.filter(named).collect()
    }
}

choice! {
    /// What a number is counted in.
    Unit {
        /// 2^10.
        Kib "KiB",
        /// 2^20.
        Mib "MiB",
        /// 2^30.
        Gib "GiB",
        /// 4 KiB.
        Pages "pages",
    }
}

impl Unit {
    /// How many bytes it is.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Kib => 1 << 10,
            Self::Mib => 1 << 20,
            Self::Gib => 1 << 30,
            Self::Pages => 1 << 12,
        }
    }
}

choice! {
    /// A number that every scenario knows.
    Constant {
        /// Bytes of a page of the host.
        Page "page",
        /// The largest number.
        Max "max",
        /// The first device address for pages of host memory.
        HostStart "host.start",
        /// The one after the last.
        HostEnd "host.end",
        /// The first device address for large leaves of host memory.
        LargeStart "large.start",
        /// The one after the last.
        LargeEnd "large.end",
        /// The first device address for device memory.
        DramStart "dram.start",
        /// The one after the last.
        DramEnd "dram.end",
        /// Bytes of a page of device memory.
        DramPage "dram.page",
        /// Pages of device memory that users may have.
        DramPages "dram.pages",
        /// What is added to a bus address of host memory to get what entries hold.
        HostOffset "host.offset",
        /// By which address users of a Gaudi2 ask for registers.
        UserRegisters "registers.user",
    }
}

choice! {
    /// An operation on two numbers.
    Operator {
        /// Sum.
        Add "+",
        /// Difference.
        Subtract "-",
        /// Product.
        Multiply "*",
        /// Quotient.
        Divide "/",
        /// Rest.
        Remainder "%",
    }
}

impl Operator {
    /// How tightly it binds.
    pub(crate) const fn binds(self) -> u8 {
        match self {
            Self::Add | Self::Subtract => 1,
            Self::Multiply | Self::Divide | Self::Remainder => 2,
        }
    }
}

choice! {
    /// How two numbers are compared.
    Comparison {
        /// Equal.
        Equal "=",
        /// Not equal.
        Unequal "!=",
        /// At most.
        AtMost "<=",
        /// At least.
        AtLeast ">=",
        /// Less.
        Less "<",
        /// More.
        More ">",
    }
}

impl Comparison {
    /// Whether it holds.
    #[must_use]
    pub const fn holds(self, one: u64, other: u64) -> bool {
        match self {
            Self::Equal => one == other,
            Self::Unequal => one != other,
            Self::AtMost => one <= other,
            Self::AtLeast => one >= other,
            Self::Less => one < other,
            Self::More => one > other,
        }
    }
}

choice! {
    /// What an access does.
    Access {
        /// It reads.
        Read "read",
        /// It writes.
        Write "write",
    }
}

choice! {
    /// Of which kind all accesses of a processor are.
    Accesses {
        /// They read.
        Reads "reads",
        /// They write.
        Writes "writes",
    }
}

choice! {
    /// Why an access is refused.
    Reason {
        /// Device: the entry is not present.
        NotPresent "not-present",
        /// Device: the address space has no root table.
        NoRoot "no-root",
        /// Device: the MMU is not enabled.
        Disabled "disabled",
        /// Device: the entry breaks the format.
        Malformed "malformed",
        /// Device: a table cannot be read.
        TableFetch "table-fetch",
        /// Device: the translated address belongs to nothing.
        Decode "decode",
        /// Device: device memory is not to be addressed directly.
        Refused "refused",
        /// Process: nothing is mapped there.
        Hole "hole",
        /// Process: the page is not to be written.
        ReadOnly "read-only",
        /// Process: the access goes beyond the memory.
        Outside "outside",
    }
}

choice! {
    /// What is made to fail.
    Failure {
        /// The allocation of a page of host memory.
        Alloc "alloc",
        /// The pinning of a page.
        Pin "pin",
        /// The mapping of a page for the device's accesses.
        DmaMap "dma-map",
        /// A read of device memory by the host, which is also what waits for what it wrote there.
        Flush "flush",
        /// An invalidation: the start of one unit of an MMU.
        Invalidate "invalidate",
        /// The taking over of a root table.
        Root "root",
        /// An access of the host to a register or to device memory, before which the device is lost.
        HostAccess "access",
    }
}

choice! {
    /// How an operation of the hardware goes wrong.
    Wrong {
        /// It never says that it is done.
        Timeout "timeout",
        /// It is done after so many looks at its status.
        Slow "slow",
    }
}

choice! {
    /// What fails a scenario at its end, unless it says that it may happen.
    Allowed {
        /// The device touches pages that it should not.
        Stray "stray",
        /// A register is written out of turn.
        Protocol "protocol",
    }
}

impl Allowed {
    /// The word behind it.
    pub(crate) const fn what(self) -> &'static str {
        match self {
            Self::Stray => "accesses",
            Self::Protocol => "violations",
        }
    }
}

choice! {
    /// A window of the privileged address space.
    WindowWord {
        /// Where the device's own processor finds its firmware.
        Firmware "firmware",
        /// Where it finds the memory that it shares with the driver.
        Processor "processor",
    }
}

choice! {
    /// What a closed file left behind.
    LeftWord {
        /// Mappings.
        Mappings "mappings",
        /// Handles.
        Handles "handles",
        /// Pieces of device memory.
        Dram "dram",
        /// Buffers of the driver's in quarantine.
        Buffers "buffers",
    }
}

choice! {
    /// A number of the machine that is chosen before it is built.
    Setting {
        /// Pages of host memory.
        Frames "frames",
        /// Page tables.
        Tables "tables",
        /// Buffers of the driver's at a time.
        Buffers "buffers",
        /// Mappings of a context at a time.
        Mappings "mappings",
        /// Handles of a context at a time.
        Handles "handles",
        /// Contexts at a time.
        Users "users",
        /// Pages of device memory that users have, at most.
        DramPages "dram-pages",
        /// Pieces of device memory at a time.
        Packs "packs",
        /// Pools of timestamps of a context at a time.
        Pools "pools",
        /// Timestamps of a pool.
        Timestamps "timestamps",
        /// Counters that timestamps of a context can wait for.
        Counters "counters",
    }
}

choice! {
    /// What the translation caches of the device are like.
    Cache {
        /// Nothing is ever evicted.
        Infinite "infinite",
        /// Of a plausible size.
        Finite "finite",
        /// There is none.
        None "none",
    }
}

choice! {
    /// How many views of a buffer of the driver's there may be at a time.
    Views {
        /// One.
        Single "single",
        /// As many as one likes.
        Counted "counted",
    }
}

choice! {
    /// What a user is told.
    Told {
        /// That the device stopped an access.
        Fault "fault",
        /// That his context was ended.
        Aborted "aborted",
        /// That the device does not answer.
        Lost "lost",
        /// That it works again.
        Recovered "recovered",
        /// That there was no room for some events.
        Missed "missed",
        /// Nothing.
        None "nothing",
    }
}

choice! {
    /// In which order host pages are handed out.
    Reuse {
        /// The page freed last comes first.
        Immediate "immediate",
        /// Scattered, by the seed.
        Scattered "scattered",
    }
}

choice! {
    /// Where the content of the host's pages is.
    HostPages {
        /// In a file in memory, which processes map for real.
        File "file",
        /// In memory of the program, without a system call.
        Memory "memory",
    }
}

choice! {
    /// Whether a range invalidation of Gaudi2 drops the page that its end register names.
    RangeEndWord {
        /// It does.
        Inclusive "inclusive",
        /// It does not.
        Exclusive "exclusive",
    }
}

choice! {
    /// When the device sees what the host stores in device memory.
    Posted {
        /// Once a read by the host has come back, and not before.
        UntilFlush "until-flush",
        /// At once.
        Immediate "immediate",
    }
}

choice! {
    /// Which of several like events.
    Which {
        /// The first one.
        First "first",
        /// The last one.
        Last "last",
    }
}

/// The error numbers that a scenario may name, by their names.
pub(crate) const ERRNOS: &[&str] = &[
    "EPERM",
    "ENOENT",
    "EINTR",
    "EIO",
    "ETIMEDOUT",
    "ENXIO",
    "EBADF",
    "EAGAIN",
    "ENOMEM",
    "EACCES",
    "EFAULT",
    "EBUSY",
    "EEXIST",
    "ENODEV",
    "EINVAL",
    "EMFILE",
    "ENFILE",
    "EFBIG",
    "ENOSPC",
    "ERANGE",
    "ENOSYS",
    "EOVERFLOW",
    "EOPNOTSUPP",
    "EADDRINUSE",
    "ETIMEDOUT",
    "ECANCELED",
];
