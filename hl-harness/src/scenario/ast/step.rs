//! The steps.

use super::super::words::{Allowed, Asics, Comparison, Failure, Told, Wrong};
use super::{
    AccessWords, Between, CommandBufferWords, Data, Expr, FaultWords, Line, Memory, Moment, Name,
    Outcome, Place, Quantity, RingWords, Series, ThreadWords, TimestampWords, Transfer, Who,
    WindowMemoryWords, WindowPlace, Word,
};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A process opens the device.
    Open {
        /// The context's name.
        context: Name,
        /// Pages that may be pinned.
        budget: Option<Expr>,
        /// Whose process it is, where not one of its own: that of a context, or of a buffer.
        process: Option<Name>,
        /// What comes of it.
        outcome: Outcome,
    },
    /// It closes it.
    Close {
        /// The context.
        context: Name,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A process gets memory.
    Buffer {
        /// Whose.
        context: Name,
        /// Its name.
        name: Name,
        /// Bytes, rounded up to pages.
        size: Expr,
        /// In one piece of memory that is aligned to so many bytes, as are its addresses.
        contiguous: Option<Expr>,
        /// The process may not write it.
        read_only: bool,
    },
    /// A process gives memory back, or a view.
    Munmap {
        /// Which, and which part of it.
        place: Place,
    },
    /// Other pages appear at the addresses of a buffer.
    Replace {
        /// Which, and which part of it.
        place: Place,
    },
    /// A buffer becomes read-only, or writable.
    Protect {
        /// Which, and which part of it.
        place: Place,
        /// The first.
        read_only: bool,
    },
    /// Every page that is not pinned moves.
    Reclaim,
    /// The memory of a process goes.
    Exit {
        /// Whose, or that of a context.
        process: Name,
    },
    /// A process writes.
    Write {
        /// Where.
        place: Place,
        /// What.
        data: Data,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A process reads.
    Read {
        /// Where.
        place: Place,
        /// What it finds: each byte is as in one of these.
        data: Vec<Data>,
        /// What comes of it.
        outcome: Outcome,
    },
    /// MAP.
    Map {
        /// Who.
        context: Name,
        /// What.
        memory: Memory,
        /// Where it should be.
        hint: Option<Expr>,
        /// There or nowhere.
        force: bool,
        /// With the advice to translate ahead.
        prefetch: bool,
        /// What comes of it.
        outcome: Outcome,
    },
    /// UNMAP.
    Unmap {
        /// Who.
        context: Name,
        /// What MAP returned.
        at: Expr,
        /// What comes of it.
        outcome: Outcome,
    },
    /// ALLOC.
    Alloc {
        /// Who.
        context: Name,
        /// Bytes.
        size: Expr,
        /// In one piece.
        contiguous: bool,
        /// For other contexts too.
        shared: bool,
        /// What comes of it.
        outcome: Outcome,
    },
    /// FREE.
    Free {
        /// Who.
        context: Name,
        /// What ALLOC returned.
        handle: Expr,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A request as bare numbers.
    Ioctl {
        /// Who.
        context: Name,
        /// The operation.
        op: Expr,
        /// Its flags.
        flags: Expr,
        /// Its three numbers.
        arguments: Box<[Expr; 3]>,
        /// The number of elements that it names.
        count: Option<Expr>,
        /// How many bytes of the request are passed in, where not all.
        bytes: Option<Expr>,
        /// What comes of it.
        outcome: Outcome,
    },
    /// The driver makes a block for a file.
    Block {
        /// Whose.
        context: Name,
        /// Its name.
        name: Name,
        /// Bytes.
        size: Expr,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A block's handle is given up.
    Destroy {
        /// Who.
        context: Name,
        /// The handle.
        handle: Expr,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A block is shown to its process.
    Mmap {
        /// Who.
        context: Name,
        /// The handle.
        handle: Expr,
        /// The name of the view.
        view: Name,
        /// Bytes.
        size: Expr,
        /// What comes of it.
        outcome: Outcome,
    },
    /// The driver maps a block in the user's address space as well.
    Attach {
        /// Whose.
        context: Name,
        /// The block's handle.
        handle: Expr,
        /// Where it should be.
        hint: Option<Expr>,
        /// There or nowhere.
        force: bool,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A process forks: its child has all of its memory and views.
    Fork {
        /// The process, or a context of it.
        process: Name,
        /// The child.
        child: Name,
    },
    /// A request about a command buffer.
    CommandBuffer {
        /// Who.
        context: Name,
        /// What.
        request: CommandBufferWords,
        /// What comes of it.
        outcome: Outcome,
    },
    /// Something about timestamps.
    Timestamps {
        /// Whose.
        context: Name,
        /// What.
        request: TimestampWords,
        /// What comes of it.
        outcome: Outcome,
    },
    /// The driver maps something of its own in a window.
    Window {
        /// Where.
        place: WindowPlace,
        /// What.
        memory: WindowMemoryWords,
        /// Its name.
        name: Name,
        /// What comes of it.
        outcome: Outcome,
    },
    /// It unmaps a window of the privileged address space.
    Unwindow {
        /// Which.
        name: Name,
        /// What comes of it.
        outcome: Outcome,
    },
    /// Something with a ring.
    Ring {
        /// Which.
        ring: Name,
        /// What.
        request: RingWords,
        /// What comes of it.
        outcome: Outcome,
    },
    /// MAP_BLOCK: a handle for registers.
    Registers {
        /// Who.
        context: Name,
        /// By which address.
        address: Expr,
        /// What comes of it.
        outcome: Outcome,
    },
    /// EXPORT.
    Export {
        /// Who.
        context: Name,
        /// What MAP returned.
        at: Expr,
        /// Bytes.
        size: Expr,
        /// From so many bytes on.
        from: Option<Expr>,
        /// The name of the export.
        name: Name,
        /// What comes of it.
        outcome: Outcome,
    },
    /// An export ends.
    Unexport {
        /// Which.
        name: Name,
    },
    /// The driver tells users of the faults that the MMUs captured.
    Report {
        /// What comes of it: how many there were.
        outcome: Outcome,
    },
    /// A user is told this next.
    ExpectEvent {
        /// Who.
        context: Name,
        /// What.
        told: Told,
        /// The address of a fault.
        at: Option<Expr>,
    },
    /// The device works.
    Dma {
        /// In whose address space.
        who: Who,
        /// What it does.
        transfer: Transfer,
        /// Through which MMU for device memory.
        hmmu: Option<Expr>,
        /// What it is called.
        name: Option<Name>,
        /// What comes of it.
        outcome: Outcome,
    },
    /// The device accesses memory as a processor does.
    Access {
        /// In whose address space.
        who: Who,
        /// What it does.
        words: Box<AccessWords>,
        /// Through which MMU for device memory.
        hmmu: Option<Expr>,
        /// What comes of it.
        outcome: Outcome,
    },
    /// The next copy of that name stops when its addresses are translated.
    Pause {
        /// The copy.
        dma: Name,
    },
    /// It goes on.
    Resume {
        /// The copy.
        dma: Name,
        /// What comes of it.
        outcome: Outcome,
    },
    /// A register of the device is written.
    Register {
        /// Its offset.
        offset: Expr,
        /// The value.
        value: Expr,
    },
    /// Somebody moves the window by which the host reaches device memory.
    Bar {
        /// The offset in device memory that is to lie in it.
        offset: Expr,
    },
    /// Something is going to fail.
    Fail {
        /// What.
        what: Failure,
        /// On which occasion, the next being 1.
        nth: Expr,
        /// How, and after how many looks.
        how: Option<(Wrong, Option<Expr>)>,
        /// How often in a row.
        times: Option<Expr>,
    },
    /// The engines that work on a block, or for a user, do not stop when they are told to.
    FailStop {
        /// The block, or the context of the user.
        name: Name,
        /// The latter.
        user: bool,
    },
    /// Nothing is going to fail any more.
    FailNothing,
    /// The device falls off the bus.
    Lose,
    /// The device is reset.
    Reset {
        /// Its memory is undefined afterwards.
        undefined: bool,
    },
    /// The driver notes that it is lost.
    Notice,
    /// The driver brings it back.
    Recover {
        /// What comes of it.
        outcome: Outcome,
    },
    /// What is in quarantine is tried again.
    Settle {
        /// Whose; the device's blocks, where nobody is named.
        context: Option<Name>,
        /// What comes of it.
        outcome: Outcome,
    },
    /// Everything countable gets a name.
    Snapshot {
        /// The name.
        name: Name,
    },
    /// Everything countable is as it was.
    ExpectSame {
        /// When.
        name: Name,
        /// But for these counters.
        except: Vec<Word>,
    },
    /// A number of the machine is this.
    ExpectQuantity {
        /// Which number.
        quantity: Quantity,
        /// How it compares.
        comparison: Comparison,
        /// With what.
        value: Expr,
    },
    /// The free device addresses are these pieces.
    ExpectFree {
        /// Of which address space.
        who: Who,
        /// Only what lies from the one to the other is looked at.
        within: Option<Between>,
        /// The pieces, in the order of their addresses.
        pieces: Vec<Between>,
    },
    /// Two numbers compare.
    Expect {
        /// One.
        one: Expr,
        /// How.
        comparison: Comparison,
        /// The other.
        other: Expr,
    },
    /// Things happened in this order.
    ExpectOrder {
        /// Only what happened since.
        since: Option<Name>,
        /// What happened.
        moments: Vec<Moment>,
    },
    /// The oldest fault that nobody has looked at is this one.
    ExpectFault {
        /// What it is.
        fault: FaultWords,
    },
    /// Nobody cares for the faults so far.
    ForgetFaults,
    /// This is known to happen, and no failure.
    Allow(Allowed),
    /// From here on events are kept; this moment gets a name.
    Mark {
        /// The name.
        name: Name,
    },
    /// A variable gets a value.
    Let {
        /// The variable.
        name: Name,
        /// The value.
        value: Expr,
    },
    /// A variable gets a number of the machine.
    LetQuantity {
        /// The variable.
        name: Name,
        /// Which number.
        quantity: Quantity,
    },
    /// Steps, several times.
    Repeat {
        /// How often.
        times: Expr,
        /// The steps.
        body: Vec<Line>,
    },
    /// Steps, for each number of a series.
    For {
        /// The variable.
        name: Name,
        /// The series.
        series: Series,
        /// The steps.
        body: Vec<Line>,
    },
    /// Steps on some ASICs only.
    On {
        /// Which.
        asics: Vec<Asics>,
        /// The steps.
        body: Vec<Line>,
    },
    /// Steps where two numbers compare.
    If {
        /// One.
        one: Expr,
        /// How.
        comparison: Comparison,
        /// The other.
        other: Expr,
        /// The steps.
        body: Vec<Line>,
    },
    /// Threads, all at once.
    Parallel {
        /// What each of them does.
        threads: Vec<ThreadWords>,
    },
    /// Threads that take turns.
    Interleave {
        /// What the order follows from, where not from the seed of the run.
        seed: Option<Expr>,
        /// What each of them does.
        threads: Vec<ThreadWords>,
    },
}

impl Step {
    /// Whether driver or device may notice that the step was there; looking at them is not work.
    #[must_use]
    pub fn is_work(&self) -> bool {
        !matches!(
            self,
            Self::Buffer { .. }
                | Self::Snapshot { .. }
                | Self::ExpectSame { .. }
                | Self::ExpectQuantity { .. }
                | Self::Expect { .. }
                | Self::ExpectOrder { .. }
                | Self::Mark { .. }
                | Self::Let { .. }
                | Self::LetQuantity { .. }
        )
    }
}
