//! Steps back to text, in the one canonical form.

mod step;

use core::fmt;
use core::fmt::Display;

use super::ast::{
    AccessWords, Between, CacheWords, Count, Data, End, Expr, ExprKind, FaultWords, Line,
    MachineWords, Memory, Name, Outcome, PieceWords, Place, Quantity, Script, Series, Step,
    ThreadWords, Who, Word,
};
use super::words::Failure;

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        self.index
            .iter()
            .try_for_each(|index| write!(f, "[{index}]"))?;
        self.of
            .iter()
            .try_for_each(|process| write!(f, " of {process}"))
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
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

/// Prints what is to be found, where anything is.
fn expected(f: &mut fmt::Formatter<'_>, data: &[Data]) -> fmt::Result {
    if data.is_empty() {
        return Ok(());
    }
    f.write_str(" expect ")?;
    list(f, " or ", data)
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
            Self::OrFaults => f.write_str(" -> ok or faults"),
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
        option(f, "in piece", self.piece.as_ref())?;
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
            Self::Mark(mark, from) => write!(f, "mark {mark} from {from}"),
        }
    }
}

impl Display for AccessWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} count {}", self.start, self.size, self.count)?;
        self.only.iter().try_for_each(|only| write!(f, " {only}"))?;
        option(f, "mark", self.mark.as_ref())?;
        option(f, "seed", self.seed.as_ref())?;
        expected(f, &self.data)
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

impl Display for PieceWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.from, self.to, self.size)
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
            Self::Entry(who, at, hop) => write!(f, "entry {who} {at} hop {hop}"),
            Self::Bus(who, at) => write!(f, "bus {who} {at}"),
            Self::Leaves(who, at, size) => write!(f, "leaves {who} {at} size {size}"),
            Self::Counter(counter) => write!(f, "counter {counter}"),
            Self::Events(event, since) => {
                write!(f, "events {event}")?;
                option(f, "since", since.as_ref())
            }
            Self::Register(offset) => write!(f, "register {offset}"),
            Self::Pending(name) => write!(f, "pending {name}"),
            Self::Records(name) => write!(f, "records {name}"),
            Self::Faults => f.write_str("faults"),
            Self::Bar => f.write_str("bar"),
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

impl Display for CacheWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(cache) => cache.fmt(f),
            Self::Sets(sets, ways) => write!(f, "{sets} sets {ways} ways"),
        }
    }
}

impl Display for Between {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.0, self.1)
    }
}

impl Display for MachineWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("machine")?;
        self.settings
            .iter()
            .try_for_each(|(setting, value)| write!(f, " {setting} {value}"))?;
        match &self.caches {
            [leaves, lines] if leaves == lines => option(f, "cache", leaves.as_ref())?,
            [leaves, lines] => {
                option(f, "leaf-cache", leaves.as_ref())?;
                option(f, "line-cache", lines.as_ref())?;
            }
        }
        flag(f, "default-page", self.default_page)?;
        option(f, "views", self.views.as_ref())?;
        option(f, "reuse", self.reuse.as_ref())?;
        option(f, "host", self.host.as_ref())?;
        option(f, "range-end", self.range_end.as_ref())?;
        option(f, "posted-writes", self.posted.as_ref())?;
        self.hmmus
            .iter()
            .try_for_each(|hmmus| write!(f, " hmmus {:#x}", hmmus.value))
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
            Step::Parallel { threads } | Step::Interleave { threads, .. } => {
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
