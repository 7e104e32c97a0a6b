//! A scenario as it is understood: steps, and what they are made of.

mod step;

pub use step::Step;

use super::text::Span;
use super::words::{
    Access, Accesses, Asics, Cache, Constant, HostPages, LeftWord, Operator, Posted, RangeEndWord,
    Reason, Reuse, Setting, Unit, Views, Which, WindowWord,
};

/// A whole scenario file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// The ASICs that it is for; all of them where it names none.
    pub asics: Vec<Asics>,
    /// What the machine is like, where not as usual.
    pub machine: MachineWords,
    /// What is done.
    pub steps: Vec<Line>,
}

/// What the machine is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineWords {
    /// Sizes, in the order written.
    pub settings: Vec<(Setting, Count)>,
    /// The caches of finished translations and of lines of the page tables.
    pub caches: [Option<CacheWords>; 2],
    /// Every file gets the default page of its ASIC.
    pub default_page: bool,
    /// How many views of a buffer of the driver's there may be.
    pub views: Option<Views>,
    /// The order of host pages.
    pub reuse: Option<Reuse>,
    /// Where their content is.
    pub host: Option<HostPages>,
    /// What the range end register of a Gaudi2 means.
    pub range_end: Option<RangeEndWord>,
    /// When the device sees what the host stores in device memory.
    pub posted: Option<Posted>,
    /// Which HMMUs a Gaudi2 has, one bit each; the others were fused off.
    pub hmmus: Option<Count>,
    /// Where it stands; the start of the file where nothing is said of the machine.
    pub span: Span,
}

/// A number that is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The number.
    pub value: u64,
    /// Where it stands.
    pub span: Span,
}

/// How large a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheWords {
    /// By a word.
    Known(Cache),
    /// So many sets of so many ways.
    Sets(Count, Count),
}

/// A step with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub span: Span,
    /// What it says.
    pub step: Step,
}

/// A name, or one of several that share it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Which one.
    pub index: Option<Box<Expr>>,
    /// Of which process, where that has forked off: what its parent called so.
    pub of: Option<Box<Name>>,
    /// Where it stands.
    pub span: Span,
}

/// A word that the machine knows, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// A number to be computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    /// How.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// How a number is computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExprKind {
    /// It is written down.
    Number {
        /// The number.
        value: u64,
        /// It was written in hexadecimal digits.
        hex: bool,
        /// What it counts.
        unit: Option<Unit>,
    },
    /// The value of a variable, or the address of a buffer, a block or a view.
    Name(Box<Name>),
    /// A number that every scenario knows.
    Constant(Constant),
    /// Of two others.
    Binary(Box<Expr>, Operator, Box<Expr>),
    /// At random: at least the first, less than the second.
    Random(Box<Expr>, Box<Expr>),
}

/// What is expected to come of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It succeeds.
    #[default]
    Succeeds,
    /// It succeeds, or fails in one of these ways.
    Either(Vec<String>),
    /// It succeeds, or an access is refused: which of them is a matter of time.
    OrFaults,
    /// It succeeds with a number, which gets a name, or it fails in one of these ways.
    Binds(Name, Vec<String>),
    /// It fails, in one of these ways where any is named.
    Fails(Vec<String>),
    /// An access is refused.
    Faults(FaultWords),
    /// The device is not there.
    Lost,
    /// A closed file left so much behind.
    Left(Vec<(LeftWord, Expr)>),
}

/// What is expected of a refused access.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultWords {
    /// What it did.
    pub access: Option<Access>,
    /// In whose address space.
    pub asid: Option<Expr>,
    /// Where.
    pub at: Option<Expr>,
    /// In which piece of a copy.
    pub piece: Option<Expr>,
    /// Why.
    pub reason: Option<Reason>,
    /// How many bytes moved before.
    pub after: Option<Expr>,
}

/// Bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Those of a pattern, from an offset in it on.
    Pattern(Expr, Option<Expr>),
    /// The same byte again and again.
    Byte(Expr),
    /// The same number of 64 bits again and again, the lowest byte first.
    Word(Expr),
    /// What accesses with this mark write, from a device address on.
    Mark(Expr, Expr),
}

/// A part of a buffer or a view, as a process reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of which one.
    pub name: Name,
    /// From here on; from its start, where nothing else is said.
    pub at: Option<Expr>,
    /// So many bytes; up to its end, where nothing else is said.
    pub size: Option<Expr>,
}

/// Whose address space the device works in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// That of a context.
    Context(Name),
    /// That with this number.
    Asid(Expr),
    /// The privileged one.
    Privileged,
    /// None: addresses are physical.
    Bypass,
}

/// Addresses from the first up to the one before the second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Between(pub Expr, pub Expr);

/// What is to be mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// A whole buffer.
    Buffer(Name),
    /// Addresses of the process.
    Range(Expr, Expr),
    /// Device memory by its handle.
    Dram(Expr),
}

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A device address.
    Virtual(Expr),
    /// An offset into device memory, past the MMU.
    Device(Expr),
}

/// What the device does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// It reads, and finds each byte as in one of these.
    Read(Expr, Expr, Vec<Data>),
    /// It writes.
    Write(Expr, Expr, Data),
    /// It copies these pieces, as one DMA.
    Copy(Vec<PieceWords>),
}

/// A piece of a copy: one element of a scatter list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceWords {
    /// Where the bytes are.
    pub from: End,
    /// Where they go.
    pub to: End,
    /// How many.
    pub size: Expr,
}

/// What a processor of the device does: small accesses at random places of a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessWords {
    /// Where the window begins.
    pub start: Expr,
    /// Its bytes.
    pub size: Expr,
    /// How many accesses.
    pub count: Expr,
    /// Of which kind, where not of both.
    pub only: Option<Accesses>,
    /// What goes into the bytes that are written, where not 0.
    pub mark: Option<Expr>,
    /// What the places follow from, where not from the seed of the run.
    pub seed: Option<Expr>,
    /// What reads find where none of these accesses has written: each byte is as in one of these.
    pub data: Vec<Data>,
}

/// A number that the machine is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Quantity {
    /// The most pins on a page of a buffer, or the pins on one page of it.
    Pins(Name, Option<Expr>),
    /// How many pages of a buffer are dirty, or whether this one is.
    Dirty(Name, Option<Expr>),
    /// Pages charged to the budget of a context.
    Charged(Name),
    /// Mappings of a context, those in quarantine included.
    Mappings(Name),
    /// Those in quarantine.
    Quarantined(Name),
    /// Its handles.
    Handles(Name),
    /// Bytes of device addresses in use.
    Used(Name),
    /// Pieces of free device addresses.
    Extents(Name),
    /// The number of its address space.
    Asid(Name),
    /// Where in device memory the first piece behind a handle of a context lies.
    Offset(Name, Expr),
    /// Bytes mapped by the leaf at a device address; 0 where there is none.
    Leaf(Who, Expr),
    /// The entry at a hop of the walk of a device address.
    Entry(Who, Expr, Expr),
    /// The address that a device address leads to, as the device sends it on.
    Bus(Who, Expr),
    /// Leaves from a device address on, in so many bytes.
    Leaves(Who, Expr, Expr),
    /// A counter of the machine.
    Counter(Word),
    /// Events of a kind so far, or since a mark.
    Events(String, Option<Name>),
    /// A register of the device.
    Register(Expr),
    /// Timestamps of a context that are registered and not reached.
    Pending(Name),
    /// Records that a ring's consumer has not taken.
    Records(Name),
    /// Faults that nobody has looked at.
    Faults,
    /// Where in device memory the window begins by which the host reaches it.
    Bar,
}

/// A request about a command buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandBufferWords {
    /// Make one of so many bytes, and map it for the user's engines.
    Create(Expr, bool),
    /// Destroy the one with this handle.
    Destroy(Expr),
    /// How often it is used.
    Uses(Expr),
    /// Where the user's engines find it.
    Address(Expr),
}

/// What is done about timestamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimestampWords {
    /// TS_ALLOC: make a pool of so many.
    Alloc(Expr),
    /// The driver destroys the pool with this handle.
    Destroy(Expr),
    /// A timestamp is wanted.
    Register {
        /// In the pool with this handle.
        handle: Expr,
        /// In this place of it.
        slot: Expr,
        /// When this counter
        counter: Expr,
        /// reaches this value.
        target: Expr,
        /// Where it is now.
        value: Option<Expr>,
        /// What time it is.
        now: Option<Expr>,
    },
    /// A counter reaches a value.
    Reach {
        /// The counter.
        counter: Expr,
        /// The value.
        value: Expr,
        /// What time it is.
        now: Option<Expr>,
    },
    /// Pools that were destroyed and that nothing waits for are given up.
    Reap,
}

/// Where the driver maps something of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowPlace {
    /// In a window of the privileged address space.
    Privileged(WindowWord),
    /// In that of a context that this address is in.
    User(Name, Expr),
}

/// What the driver maps in a window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WindowMemoryWords {
    /// Memory of the device, from a physical address on, so many bytes.
    Device(Expr, Expr),
    /// Pages of the host, so many bytes in one piece.
    Host(Expr),
}

/// What is done with a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RingWords {
    /// The driver makes one in a block, and a producer of the device's.
    Make {
        /// The block.
        block: Name,
        /// Bytes of a record.
        record: Expr,
        /// How many records it holds.
        size: Expr,
        /// The first index, where not 0.
        start: Option<Expr>,
    },
    /// A process becomes its consumer.
    Consume {
        /// By this view of the block.
        view: Name,
    },
    /// The device produces.
    Push {
        /// What is in the records, one after the other.
        data: Data,
        /// How many, where not one.
        count: Option<Expr>,
        /// It waits where there is no room.
        wait: bool,
    },
    /// The process consumes.
    Pop {
        /// How many, where not one.
        count: Option<Expr>,
        /// It waits where there is none.
        wait: bool,
        /// What it finds in them: each byte is as in one of these.
        data: Vec<Data>,
    },
    /// Nobody uses it any more.
    End,
}

/// An event in an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Which one of its kind.
    pub which: Which,
    /// The kind.
    pub event: String,
}

/// What a list of numbers is walked through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Series {
    /// From the first up to the one before the second, in steps.
    Range(Expr, Expr, Option<Expr>),
    /// These.
    List(Vec<Expr>),
}

/// Threads that do the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadWords {
    /// How many.
    pub count: Expr,
    /// The variable that tells them apart, from 0 on.
    pub number: Option<Name>,
    /// What each does.
    pub body: Vec<Line>,
    /// Where they begin.
    pub span: Span,
}
