//! Numbers, names, and what is expected of answers.

use super::super::ast::{Data, Expr, ExprKind, FaultWords, Name, Outcome, Who};
use super::super::data::{Bytes, Wanted};
use super::super::text::{Invalid, Span};
use super::super::words::{Constant, LeftWord, Operator};
use super::answer::{Answer, Refused, left};
use super::env::{Block, Buffer, File, Key, Viewed, inherited, key_text};
use super::stop::{Failure, Stop};
use super::{Runner, Words};
use crate::asic::{InitiatorMode, MAX_ASID};
use crate::machine::{Model, USER_REGISTERS};
use hl_mem::profile::VaRange;
use std::sync::Arc;

impl<'c, 's, 'm, A: Model> Runner<'_, 'c, 's, 'm, A> {
    /// Computes a number.
    pub(super) fn eval(&mut self, expr: &Expr) -> Result<u64, Stop> {
        let overflow = |what: &str| Invalid::new(expr.span, what);
        match &expr.kind {
            ExprKind::Number { value, unit, .. } => {
                let bytes = unit.map_or(1, |unit| unit.bytes());
                let product = value.checked_mul(bytes);
                product.ok_or_else(|| overflow("this is more than 64 bits hold").into())
            }
            ExprKind::Name(name) => self.number_of(name),
            ExprKind::Constant(constant) => self.constant(*constant, expr.span),
            ExprKind::Binary(one, operator, other) => {
                let (one, other) = (self.eval(one)?, self.eval(other)?);
                let result = match operator {
                    Operator::Add => one.checked_add(other),
                    Operator::Subtract => one.checked_sub(other),
                    Operator::Multiply => one.checked_mul(other),
                    Operator::Divide => one.checked_div(other),
                    Operator::Remainder => one.checked_rem(other),
                };
                let message = format!("{one:#x} {operator} {other:#x} is no number of 64 bits");
                result.ok_or_else(|| overflow(&message).into())
            }
            ExprKind::Random(low, high) => {
                let (low, high) = (self.eval(low)?, self.eval(high)?);
                let message = format!("nothing is at least {low} and less than {high}");
                let span = high.checked_sub(low).filter(|span| *span > 0);
                let span = span.ok_or_else(|| overflow(&message))?;
                Ok(low + self.random.u64(..span))
            }
        }
    }

    pub(super) fn eval_option(&mut self, expr: Option<&Expr>) -> Result<Option<u64>, Stop> {
        expr.map(|expr| self.eval(expr)).transpose()
    }

    /// Computes a number of pages or the like, which is to be small.
    pub(super) fn eval_small(&mut self, expr: &Expr, limit: u64) -> Result<usize, Stop> {
        let value = self.eval(expr)?;
        match usize::try_from(value) {
            Ok(small) if value <= limit => Ok(small),
            _ => {
                let message =
                    format_args!("{value:#x} is more than {limit:#x}, the most there may be");
                Err(Invalid::new(expr.span, message).into())
            }
        }
    }

    fn constant(&self, constant: Constant, span: Span) -> Result<u64, Stop> {
        let profile = A::PROFILE;
        // The ends of ranges are below 2^64 on every ASIC.
        let end = |range: &VaRange| range.range.end().map_or(u64::MAX, |end| end.get());
        let dram = || {
            let none = || Invalid::new(span, "this ASIC does not map device memory");
            profile.dram.mapped_at.ok_or_else(none)
        };
        Ok(match constant {
            Constant::Page => 4096,
            Constant::Max => u64::MAX,
            Constant::HostStart => profile.host.range.start().get(),
            Constant::HostEnd => end(&profile.host),
            Constant::LargeStart => profile.large_host_range().range.start().get(),
            Constant::LargeEnd => end(profile.large_host_range()),
            Constant::DramStart => dram()?.range.start().get(),
            Constant::DramEnd => end(&dram()?),
            Constant::DramPage => profile.dram.page_bytes,
            Constant::DramPages => u64::from(self.machine().dram_pages()),
            Constant::HostOffset => profile.host_offset,
            Constant::UserRegisters => USER_REGISTERS,
        })
    }

    /// The name with its index computed.
    pub(super) fn key(&mut self, name: &Name) -> Result<Key, Stop> {
        let index = self.eval_option(name.index.as_deref())?;
        let key = (name.text.clone(), index);
        Ok(match &name.of {
            Some(child) => inherited(&key, &self.key(child)?),
            None => key,
        })
    }

    pub(super) fn number_of(&mut self, name: &Name) -> Result<u64, Stop> {
        let key = self.key(name)?;
        let env = &self.env;
        let variable = env.variables.get(&key).copied();
        let buffer = || env.buffers.get(&key).map(|buffer| buffer.start.get());
        let block = || env.blocks.get(&key).map(|block| block.start);
        let view = || {
            env.views
                .get(&key)
                .map(|view| view.mapping().address().get())
        };
        let number = variable.or_else(buffer).or_else(block).or_else(view);
        number.ok_or_else(|| {
            let message = format_args!("`{}` has no value yet", key_text(&key));
            Invalid::new(name.span, message).into()
        })
    }

    fn missing(&self, name: &Name, key: &Key, what: &str) -> Stop {
        let message = format_args!("there is no {what} `{}` now", key_text(key));
        Invalid::new(name.span, message).into()
    }

    pub(super) fn file(&mut self, name: &Name) -> Result<Arc<File<'c, 's, 'm, A>>, Stop> {
        let key = self.key(name)?;
        let file = self.env.files.get(&key).cloned();
        file.ok_or_else(|| self.missing(name, &key, "open context"))
    }

    pub(super) fn buffer(&mut self, name: &Name) -> Result<Buffer, Stop> {
        let key = self.key(name)?;
        let buffer = self.env.buffers.get(&key).cloned();
        buffer.ok_or_else(|| self.missing(name, &key, "buffer"))
    }

    pub(super) fn view(&mut self, name: &Name) -> Result<Option<Arc<Viewed<'m, A>>>, Stop> {
        let key = self.key(name)?;
        Ok(self.env.views.get(&key).cloned())
    }

    pub(super) fn set_variable(&mut self, name: &Name, value: u64) -> Result<(), Stop> {
        let key = self.key(name)?;
        self.env.variables.insert(key, value);
        Ok(())
    }

    pub(super) fn set_block(&mut self, name: &Name, start: u64) -> Result<(), Stop> {
        let key = self.key(name)?;
        self.env.blocks.insert(key, Block { start });
        Ok(())
    }

    pub(super) fn bytes(&mut self, data: &Data) -> Result<Bytes, Stop> {
        Ok(match data {
            Data::Pattern(number, from) => Bytes::Pattern {
                number: self.eval(number)?,
                from: self.eval_option(from.as_ref())?.unwrap_or(0),
            },
            Data::Word(word) => Bytes::Word(self.eval(word)?),
            Data::Byte(byte) => Bytes::Byte(self.eval_small(byte, 0xFF)? as u8),
            Data::Mark(mark, from) => Bytes::Mark {
                mark: self.eval_small(mark, 0xFF)? as u8,
                from: self.eval(from)?,
            },
        })
    }

    /// What is to be found.
    pub(super) fn wanted(&mut self, data: &[Data]) -> Result<Wanted, Stop> {
        let bytes = data.iter().map(|data| self.bytes(data));
        bytes.collect::<Result<_, _>>().map(Wanted)
    }

    /// The number of an address space, and the mode of whoever works in it.
    pub(super) fn who(&mut self, who: &Who) -> Result<(u16, InitiatorMode), Stop> {
        Ok(match who {
            Who::Context(name) => {
                let asid = self.file(name)?.context.asid().get();
                (asid, InitiatorMode::User(asid))
            }
            Who::Asid(number) => match self.eval_small(number, u64::from(MAX_ASID))? as u16 {
                0 => (0, InitiatorMode::Privileged),
                asid => (asid, InitiatorMode::User(asid)),
            },
            Who::Privileged => (0, InitiatorMode::Privileged),
            Who::Bypass => (0, InitiatorMode::Bypass),
        })
    }

    /// Compares what came of a step with what was expected, and gives the result its name.
    pub(super) fn judge(&mut self, span: Span, outcome: &Outcome, answer: Answer) -> Words {
        let one_of = |errnos: &[String]| match answer {
            Answer::Errno(errno) => errnos
                .iter()
                .any(|name| Some(name.as_str()) == errno.name()),
            _ => false,
        };
        let done = match answer {
            Answer::Done | Answer::Closed(_) => Some(0),
            Answer::Value(value) => Some(value),
            Answer::Errno(_) | Answer::Refused(_) | Answer::Lost => None,
        };
        let (holds, expected) = match outcome {
            Outcome::Succeeds => (done.is_some(), "success".to_owned()),
            Outcome::Either(or) => (done.is_some() || one_of(or), text(outcome)),
            Outcome::OrFaults => {
                let refused = matches!(answer, Answer::Refused(_));
                (done.is_some() || refused, text(outcome))
            }
            Outcome::Binds(name, or) => {
                if let Some(value) = done {
                    self.set_variable(name, value)?;
                }
                let expected = match or.as_slice() {
                    [] => "success".to_owned(),
                    _ => text(outcome),
                };
                (done.is_some() || one_of(or), expected)
            }
            Outcome::Fails(errnos) => {
                let any = errnos.is_empty() && matches!(answer, Answer::Errno(_));
                (any || one_of(errnos), text(outcome))
            }
            Outcome::Lost => (answer == Answer::Lost, text(outcome)),
            Outcome::Faults(words) => match answer {
                Answer::Refused(refused) => self.judge_fault(words, &refused)?,
                _ => (false, text(outcome)),
            },
            Outcome::Left(words) => match answer {
                Answer::Closed(found) => self.judge_left(words, &found)?,
                _ => (false, text(outcome)),
            },
        };
        if holds {
            return Ok(answer.to_string());
        }
        Err(Failure::new(span, expected, answer).into())
    }

    /// Whether a refused access is the one in the words, and the words with their numbers computed.
    pub(super) fn judge_fault(
        &mut self,
        words: &FaultWords,
        found: &Refused,
    ) -> Result<(bool, String), Stop> {
        let mut expected = "faults".to_owned();
        let mut holds = true;
        if let Some(access) = words.access {
            expected += &format!(" {access}");
            holds &= access == found.access;
        }
        if let Some(asid) = self.eval_option(words.asid.as_ref())? {
            expected += &format!(" asid {asid}");
            holds &= found.asid.map(u64::from) == Some(asid);
        }
        if let Some(at) = self.eval_option(words.at.as_ref())? {
            expected += &format!(" at {at:#x}");
            holds &= at == found.at;
        }
        if let Some(piece) = self.eval_option(words.piece.as_ref())? {
            expected += &format!(" in piece {piece}");
            holds &= Some(piece) == found.piece;
        }
        if let Some(reason) = words.reason {
            expected += &format!(" because {reason}");
            holds &= Some(reason) == found.reason;
        }
        if let Some(after) = self.eval_option(words.after.as_ref())? {
            expected += &format!(" after {after:#x} bytes");
            holds &= Some(after) == found.after;
        }
        Ok((holds, expected))
    }

    fn judge_left(
        &mut self,
        words: &[(LeftWord, Expr)],
        found: &hl_mem::context::LeftBehind,
    ) -> Result<(bool, String), Stop> {
        let mut expected = "left".to_owned();
        let mut holds = true;
        for (what, count) in words {
            let count = self.eval(count)?;
            expected += &format!(" {what} {count}");
            holds &= left(found, *what) == count;
        }
        Ok((holds, expected))
    }
}

/// An outcome as it was written, without its arrow.
fn text(outcome: &Outcome) -> String {
    outcome.to_string().trim_start_matches(" -> ").to_owned()
}
