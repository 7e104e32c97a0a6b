//! One step to text.

use core::fmt;
use core::fmt::Display;

use super::super::ast::{
    CommandBufferWords, RingWords, Step, TimestampWords, Transfer, WindowMemoryWords, WindowPlace,
};
use super::{expected, flag, list, option};

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
            Self::Replace { place } => write!(f, "replace {place}"),
            Self::Protect { place, read_only } => {
                let how = if *read_only { "read-only" } else { "writable" };
                write!(f, "protect {place} {how}")
            }
            Self::Reclaim => f.write_str("reclaim"),
            Self::Exit { process } => write!(f, "exit {process}"),
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
                expected(f, data)?;
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
                count,
                bytes,
                outcome,
            } => {
                write!(f, "ioctl {context} op {op} flags {flags} args ")?;
                list(f, " ", arguments.iter())?;
                option(f, "count", count.as_ref())?;
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
            Self::Fork { process, child } => write!(f, "fork {process} as {child}"),
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
            Self::Window {
                place,
                memory,
                name,
                outcome,
            } => {
                match place {
                    WindowPlace::Privileged(window) => write!(f, "window {window}")?,
                    WindowPlace::User(context, at) => write!(f, "window {context} {at}")?,
                }
                match memory {
                    WindowMemoryWords::Device(at, size) => write!(f, " device {at} {size}")?,
                    WindowMemoryWords::Host(size) => write!(f, " host {size}")?,
                }
                write!(f, " as {name}{outcome}")
            }
            Self::Unwindow { name, outcome } => write!(f, "unwindow {name}{outcome}"),
            Self::Ring {
                ring,
                request,
                outcome,
            } => {
                match request {
                    RingWords::Make {
                        block,
                        record,
                        size,
                        start,
                    } => {
                        write!(f, "ring make {ring} in {block} record {record} size {size}")?;
                        option(f, "from", start.as_ref())?;
                    }
                    RingWords::Consume { view } => write!(f, "ring consume {ring} by {view}")?,
                    RingWords::Push { data, count, wait } => {
                        write!(f, "ring push {ring} {data}")?;
                        option(f, "count", count.as_ref())?;
                        flag(f, "wait", *wait)?;
                    }
                    RingWords::Pop { count, wait, data } => {
                        write!(f, "ring pop {ring}")?;
                        option(f, "count", count.as_ref())?;
                        flag(f, "wait", *wait)?;
                        expected(f, data)?;
                    }
                    RingWords::End => write!(f, "ring end {ring}")?,
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
                    TimestampWords::Reap => write!(f, "ts reap {context}")?,
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
                        expected(f, data)?;
                    }
                    Transfer::Write(at, size, data) => {
                        write!(f, "dma write {who} {at} {size} {data}")?;
                    }
                    Transfer::Copy(pieces) => {
                        write!(f, "dma copy {who} ")?;
                        list(f, ", ", pieces)?;
                    }
                }
                option(f, "hmmu", hmmu.as_ref())?;
                option(f, "as", name.as_ref())?;
                outcome.fmt(f)
            }
            Self::Access {
                who,
                words,
                hmmu,
                outcome,
            } => {
                write!(f, "access {who} {words}")?;
                option(f, "hmmu", hmmu.as_ref())?;
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
            Self::FailStop { name, .. } => write!(f, "fail stop {name}"),
            Self::Bar { offset } => write!(f, "bar {offset}"),
            Self::FailNothing => f.write_str("fail nothing"),
            Self::Lose => f.write_str("lose"),
            Self::Reset { undefined } => {
                f.write_str("reset")?;
                flag(f, "undefined", *undefined)
            }
            Self::Notice => f.write_str("notice"),
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
            Self::ExpectFree {
                who,
                within,
                pieces,
            } => {
                write!(f, "expect free extents {who}")?;
                option(f, "in", within.as_ref())?;
                f.write_str(" = ")?;
                if pieces.is_empty() {
                    return f.write_str("none");
                }
                list(f, ", ", pieces)
            }
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
            Self::Allow(allowed) => write!(f, "allow {allowed} {}", allowed.what()),
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
            Self::Interleave { seed, .. } => {
                f.write_str("interleave")?;
                option(f, "seed", seed.as_ref())
            }
        }
    }
}
