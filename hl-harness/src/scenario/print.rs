//! Steps back to text, in the one canonical form.

use core::fmt;
use core::fmt::Display;

use super::ast::{
    CommandBufferWords, Data, End, Expr, ExprKind, FaultWords, Line, MachineWords, Memory, Name,
    Outcome, Place, Quantity, Script, Series, Step, ThreadWords, TimestampWords, Transfer, Who,
};
use super::words::Failure;

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.index
            .iter()
            .try_for_each(|index| write!(f, "[{index}]"))
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f, 0)
    }
}

impl Expr {
    /// Prints it where something else binds as tightly as `around`.
    fn print(&self, f: &mut fmt::Formatter<'_>, around: u8) -> fmt::Result {
        match &self.kind {
            ExprKind::Number { value, hex, unit } => {
                if *hex {
                    write!(f, "{value:#x}")?;
                } else {
                    write!(f, "{value}")?;
                }
                unit.iter().try_for_each(|unit| write!(f, " {unit}"))
            }
            ExprKind::Name(name) => name.fmt(f),
            ExprKind::Constant(constant) => constant.fmt(f),
            ExprKind::Random(low, high) => write!(f, "random({low}, {high})"),
            ExprKind::Binary(one, operator, other) => {
                let binds = operator.binds();
                let apart = binds < around;
                if apart {
                    f.write_str("(")?;
                }
                one.print(f, binds)?;
                write!(f, " {operator} ")?;
                other.print(f, binds + 1)?;
                if apart {
                    f.write_str(")")?;
                }
                Ok(())
            }
        }
    }
}

/// Prints a word and a number where there is one.
fn option(f: &mut fmt::Formatter<'_>, word: &str, value: Option<&impl Display>) -> fmt::Result {
    match value {
        Some(value) => write!(f, " {word} {value}"),
        None => Ok(()),
    }
}

fn flag(f: &mut fmt::Formatter<'_>, word: &str, set: bool) -> fmt::Result {
    if set { write!(f, " {word}") } else { Ok(()) }
}

/// Prints things with `between` between them.
fn list(
    f: &mut fmt::Formatter<'_>,
    between: &str,
    all: impl IntoIterator<Item = impl Display>,
) -> fmt::Result {
    for (index, one) in all.into_iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        one.fmt(f)?;
    }
    Ok(())
}

impl Display for Outcome {
    /// With the arrow in front; nothing where it just succeeds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeds => Ok(()),
            Self::Either(or) => {
                f.write_str(" -> ok")?;
                or.iter().try_for_each(|errno| write!(f, " or {errno}"))
            }
            Self::Binds(name, or) => {
                write!(f, " -> {name}")?;
                or.iter().try_for_each(|errno| write!(f, " or {errno}"))
            }
            Self::Fails(errnos) => {
                f.write_str(" -> fails")?;
                if !errnos.is_empty() {
                    f.write_str(" ")?;
                }
                list(f, " or ", errnos)
            }
            Self::Faults(fault) => write!(f, " -> faults{fault}"),
            Self::Lost => f.write_str(" -> lost"),
            Self::Left(left) => {
                f.write_str(" -> left")?;
                left.iter()
                    .try_for_each(|(what, count)| write!(f, " {what} {count}"))
            }
        }
    }
}

impl Display for FaultWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.access
            .iter()
            .try_for_each(|access| write!(f, " {access}"))?;
        option(f, "asid", self.asid.as_ref())?;
        option(f, "at", self.at.as_ref())?;
        option(f, "because", self.reason.as_ref())?;
        option(f, "after", self.after.as_ref())
    }
}

impl Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(number, from) => {
                write!(f, "pattern {number}")?;
                option(f, "from", from.as_ref())
            }
            Self::Byte(byte) => write!(f, "byte {byte}"),
            Self::Word(word) => write!(f, "word {word}"),
        }
    }
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)?;
        option(f, "at", self.at.as_ref())?;
        option(f, "size", self.size.as_ref())
    }
}

impl Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(name) => name.fmt(f),
            Self::Asid(number) => write!(f, "asid {number}"),
            Self::Privileged => f.write_str("privileged"),
            Self::Bypass => f.write_str("bypass"),
        }
    }
}

impl Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Buffer(name) => name.fmt(f),
            Self::Range(start, size) => write!(f, "{start} size {size}"),
            Self::Dram(handle) => write!(f, "dram {handle}"),
        }
    }
}

impl Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Virtual(address) => address.fmt(f),
            Self::Device(offset) => write!(f, "device {offset}"),
        }
    }
}

impl Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_page = |f: &mut fmt::Formatter<'_>, word, name, page: &Option<Expr>| {
            write!(f, "{word} {name}")?;
            option(f, "page", page.as_ref())
        };
        match self {
            Self::Pins(name, page) => of_page(f, "pins", name, page),
            Self::Dirty(name, page) => of_page(f, "dirty", name, page),
            Self::Charged(name) => write!(f, "charged {name}"),
            Self::Mappings(name) => write!(f, "mappings {name}"),
            Self::Quarantined(name) => write!(f, "quarantined {name}"),
            Self::Handles(name) => write!(f, "handles {name}"),
            Self::Used(name) => write!(f, "used {name}"),
            Self::Extents(name) => write!(f, "extents {name}"),
            Self::Asid(name) => write!(f, "asid {name}"),
            Self::Offset(name, handle) => write!(f, "dram-offset {name} {handle}"),
            Self::Leaf(who, at) => write!(f, "leaf {who} {at}"),
            Self::Leaves(who, at, size) => write!(f, "leaves {who} {at} size {size}"),
            Self::Counter(counter) => write!(f, "counter {counter}"),
            Self::Events(event, since) => {
                write!(f, "events {event}")?;
                option(f, "since", since.as_ref())
            }
            Self::Register(offset) => write!(f, "register {offset}"),
            Self::Pending(name) => write!(f, "pending {name}"),
            Self::Faults => f.write_str("faults"),
        }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open {
                context,
                budget,
                process,
                outcome,
            } => {
                write!(f, "open {context}")?;
                option(f, "budget", budget.as_ref())?;
                option(f, "process of", process.as_ref())?;
                outcome.fmt(f)
            }
            Self::Close { context, outcome } => write!(f, "close {context}{outcome}"),
            Self::Buffer {
                context,
                name,
                size,
                contiguous,
                read_only,
            } => {
                write!(f, "buffer {context} {name} {size}")?;
                option(f, "contiguous", contiguous.as_ref())?;
                flag(f, "read-only", *read_only)
            }
            Self::Munmap { place } => write!(f, "munmap {place}"),
            Self::Replace { name } => write!(f, "replace {name}"),
            Self::Protect { name, read_only } => {
                let how = if *read_only { "read-only" } else { "writable" };
                write!(f, "protect {name} {how}")
            }
            Self::Reclaim => f.write_str("reclaim"),
            Self::Exit { context } => write!(f, "exit {context}"),
            Self::Write {
                place,
                data,
                outcome,
            } => write!(f, "write {place} {data}{outcome}"),
            Self::Read {
                place,
                data,
                outcome,
            } => {
                write!(f, "read {place}")?;
                option(f, "expect", data.as_ref())?;
                outcome.fmt(f)
            }
            Self::Map {
                context,
                memory,
                hint,
                force,
                prefetch,
                outcome,
            } => {
                write!(f, "map {context} {memory}")?;
                option(f, "hint", hint.as_ref())?;
                flag(f, "force", *force)?;
                flag(f, "prefetch", *prefetch)?;
                outcome.fmt(f)
            }
            Self::Unmap {
                context,
                at,
                outcome,
            } => write!(f, "unmap {context} {at}{outcome}"),
            Self::Alloc {
                context,
                size,
                contiguous,
                shared,
                outcome,
            } => {
                write!(f, "alloc {context} {size}")?;
                flag(f, "contiguous", *contiguous)?;
                flag(f, "shared", *shared)?;
                outcome.fmt(f)
            }
            Self::Free {
                context,
                handle,
                outcome,
            } => write!(f, "free {context} {handle}{outcome}"),
            Self::Ioctl {
                context,
                op,
                flags,
                arguments,
                bytes,
                outcome,
            } => {
                write!(f, "ioctl {context} op {op} flags {flags} args ")?;
                list(f, " ", arguments.iter())?;
                option(f, "bytes", bytes.as_ref())?;
                outcome.fmt(f)
            }
            Self::Block {
                context,
                name,
                size,
                outcome,
            } => write!(f, "block {context} {name} {size}{outcome}"),
            Self::Destroy {
                context,
                handle,
                outcome,
            } => write!(f, "destroy {context} {handle}{outcome}"),
            Self::Mmap {
                context,
                handle,
                view,
                size,
                outcome,
            } => write!(f, "mmap {context} {handle} as {view} {size}{outcome}"),
            Self::Attach {
                context,
                handle,
                hint,
                force,
                outcome,
            } => {
                write!(f, "attach {context} {handle}")?;
                option(f, "hint", hint.as_ref())?;
                flag(f, "force", *force)?;
                outcome.fmt(f)
            }
            Self::Fork { view, copy } => write!(f, "fork {view} as {copy}"),
            Self::CommandBuffer {
                context,
                request,
                outcome,
            } => {
                match request {
                    CommandBufferWords::Create(size, map) => {
                        write!(f, "cb create {context} {size}")?;
                        flag(f, "mapped", *map)?;
                    }
                    CommandBufferWords::Destroy(handle) => {
                        write!(f, "cb destroy {context} {handle}")?;
                    }
                    CommandBufferWords::Uses(handle) => write!(f, "cb uses {context} {handle}")?,
                    CommandBufferWords::Address(handle) => {
                        write!(f, "cb address {context} {handle}")?;
                    }
                }
                outcome.fmt(f)
            }
            Self::Timestamps {
                context,
                request,
                outcome,
            } => {
                match request {
                    TimestampWords::Alloc(count) => write!(f, "ts alloc {context} {count}")?,
                    TimestampWords::Destroy(handle) => write!(f, "ts destroy {context} {handle}")?,
                    TimestampWords::Register {
                        handle,
                        slot,
                        counter,
                        target,
                        value,
                        now,
                    } => {
                        write!(f, "ts register {context} {handle} slot {slot} ")?;
                        write!(f, "count {counter} target {target}")?;
                        option(f, "value", value.as_ref())?;
                        option(f, "now", now.as_ref())?;
                    }
                    TimestampWords::Reach {
                        counter,
                        value,
                        now,
                    } => {
                        write!(f, "ts reach {context} count {counter} value {value}")?;
                        option(f, "now", now.as_ref())?;
                    }
                }
                outcome.fmt(f)
            }
            Self::Registers {
                context,
                address,
                outcome,
            } => write!(f, "registers {context} {address}{outcome}"),
            Self::Export {
                context,
                at,
                size,
                from,
                name,
                outcome,
            } => {
                write!(f, "export {context} {at} {size}")?;
                option(f, "from", from.as_ref())?;
                write!(f, " as {name}{outcome}")
            }
            Self::Unexport { name } => write!(f, "unexport {name}"),
            Self::Report { outcome } => write!(f, "report faults{outcome}"),
            Self::ExpectEvent { context, told, at } => {
                write!(f, "expect event {context} {told}")?;
                option(f, "at", at.as_ref())
            }
            Self::Dma {
                who,
                transfer,
                hmmu,
                name,
                outcome,
            } => {
                match transfer {
                    Transfer::Read(at, size, data) => {
                        write!(f, "dma read {who} {at} {size}")?;
                        option(f, "expect", data.as_ref())?;
                    }
                    Transfer::Write(at, size, data) => {
                        write!(f, "dma write {who} {at} {size} {data}")?;
                    }
                    Transfer::Copy(from, to, size) => {
                        write!(f, "dma copy {who} {from} {to} {size}")?;
                    }
                }
                option(f, "hmmu", hmmu.as_ref())?;
                option(f, "as", name.as_ref())?;
                outcome.fmt(f)
            }
            Self::Pause { dma } => write!(f, "pause dma {dma} after translate"),
            Self::Resume { dma, outcome } => write!(f, "resume dma {dma}{outcome}"),
            Self::Register { offset, value } => write!(f, "register {offset} {value}"),
            Self::Fail {
                what,
                nth,
                how,
                times,
            } => {
                write!(f, "fail {what} {nth}")?;
                if let Some((wrong, looks)) = how {
                    write!(f, " {wrong}")?;
                    looks.iter().try_for_each(|looks| write!(f, " {looks}"))?;
                }
                option(f, "times", times.as_ref())
            }
            Self::FailNothing => f.write_str("fail nothing"),
            Self::Lose => f.write_str("lose"),
            Self::Reset { undefined } => {
                f.write_str("reset")?;
                flag(f, "undefined", *undefined)
            }
            Self::Recover { outcome } => write!(f, "recover{outcome}"),
            Self::Settle { context, outcome } => {
                f.write_str("settle")?;
                context.iter().try_for_each(|name| write!(f, " {name}"))?;
                outcome.fmt(f)
            }
            Self::Snapshot { name } => write!(f, "snapshot {name}"),
            Self::ExpectSame { name, except } => {
                write!(f, "expect same as {name}")?;
                if !except.is_empty() {
                    f.write_str(" except ")?;
                }
                list(f, ", ", except)
            }
            Self::ExpectQuantity {
                quantity,
                comparison,
                value,
            } => write!(f, "expect {quantity} {comparison} {value}"),
            Self::Expect {
                one,
                comparison,
                other,
            } => write!(f, "expect {one} {comparison} {other}"),
            Self::ExpectOrder { since, moments } => {
                f.write_str("expect order")?;
                option(f, "since", since.as_ref())?;
                f.write_str(" ")?;
                let words = moments
                    .iter()
                    .map(|moment| format!("{} {}", moment.which, moment.event));
                list(f, ", ", words)
            }
            Self::ExpectFault { fault } => write!(f, "expect fault{fault}"),
            Self::ForgetFaults => f.write_str("forget faults"),
            Self::AllowStray => f.write_str("allow stray accesses"),
            Self::Mark { name } => write!(f, "mark {name}"),
            Self::Let { name, value } => write!(f, "let {name} = {value}"),
            Self::LetQuantity { name, quantity } => write!(f, "let {name} = {quantity}"),
            Self::Repeat { times, .. } => write!(f, "repeat {times}"),
            Self::For { name, series, .. } => write!(f, "for {name} in {series}"),
            Self::On { asics, .. } => {
                f.write_str("on ")?;
                list(f, " ", asics)
            }
            Self::If {
                one,
                comparison,
                other,
                ..
            } => write!(f, "if {one} {comparison} {other}"),
            Self::Parallel { .. } => f.write_str("parallel"),
        }
    }
}

impl Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(first, end, step) => {
                write!(f, "{first}..{end}")?;
                option(f, "step", step.as_ref())
            }
            Self::List(values) => list(f, ", ", values),
        }
    }
}

impl Display for ThreadWords {
    /// The heading.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {}", self.count)?;
        option(f, "as", self.number.as_ref())
    }
}

impl Display for MachineWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("machine")?;
        self.settings
            .iter()
            .try_for_each(|(setting, value)| write!(f, " {setting} {value}"))?;
        option(f, "cache", self.cache.as_ref())?;
        option(f, "views", self.views.as_ref())?;
        option(f, "reuse", self.reuse.as_ref())
    }
}

/// Prints steps and what they contain, indented.
fn lines(f: &mut fmt::Formatter<'_>, lines: &[Line], depth: usize) -> fmt::Result {
    let indent = "  ".repeat(depth);
    for line in lines {
        writeln!(f, "{indent}{}", line.step)?;
        match &line.step {
            Step::Repeat { body, .. }
            | Step::For { body, .. }
            | Step::On { body, .. }
            | Step::If { body, .. } => self::lines(f, body, depth + 1)?,
            Step::Parallel { threads } => {
                for thread in threads {
                    writeln!(f, "{indent}  {thread}")?;
                    self::lines(f, &thread.body, depth + 2)?;
                    writeln!(f, "{indent}  end")?;
                }
            }
            _ => continue,
        }
        writeln!(f, "{indent}end")?;
    }
    Ok(())
}

impl Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.asics.is_empty() {
            f.write_str("asics ")?;
            list(f, " ", &self.asics)?;
            writeln!(f)?;
        }
        if self.machine != MachineWords::default() {
            writeln!(f, "{}", self.machine)?;
        }
        lines(f, &self.steps, 0)
    }
}

impl Failure {
    /// Whether it is the hardware's, so that it needs to be said how it goes wrong.
    pub(crate) const fn is_hardware(self) -> bool {
        matches!(self, Self::Invalidate | Self::Root)
    }
}
