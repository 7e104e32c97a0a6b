//! The steps of the device that are one line.

use super::super::ast::{AccessWords, End, PieceWords, Step, Transfer};
use super::super::names::{Kind, Names};
use super::super::text::Invalid;
use super::super::words::{Accesses, Choice, Failure, Wrong};
use super::cursor::Cursor;

impl Cursor {
    pub(super) fn dma(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let (what, at) = self.word("`read`, `write` or `copy`")?;
        if !["read", "write", "copy"].contains(&what.as_str()) {
            let invalid = Invalid::new(at, format_args!("the device has no `dma {what}`"));
            return Err(invalid.suggest(&what, ["read", "write", "copy"]));
        }
        let who = self.who(names)?;
        let transfer = match what.as_str() {
            "read" => Transfer::Read(
                self.expr(names)?,
                self.expr(names)?,
                self.expected_data(names)?,
            ),
            "write" => Transfer::Write(self.expr(names)?, self.expr(names)?, self.data(names)?),
            _ => {
                let mut pieces = vec![self.copy_piece(names)?];
                while self.take_sign(",") {
                    pieces.push(self.copy_piece(names)?);
                }
                Transfer::Copy(pieces)
            }
        };
        let hmmu = self.option("hmmu", names)?;
        let at = self.place();
        let name = match self.take("as") {
            true => Some(self.define(names, Kind::Dma)?),
            false => None,
        };
        let paused = match &transfer {
            Transfer::Copy(pieces) => pieces.len() == 1,
            Transfer::Read(..) | Transfer::Write(..) => false,
        };
        if name.is_some() && !paused {
            return Err(Invalid::new(
                at,
                "only a copy has a name, and one of one piece, since only that can be paused",
            ));
        }
        Ok(Step::Dma {
            who,
            transfer,
            hmmu,
            name,
            outcome: self.outcome(names)?,
        })
    }

    pub(super) fn access(&mut self, names: &mut Names) -> Result<Step, Invalid> {
        let who = self.who(names)?;
        let (start, size) = (self.expr(names)?, self.expr(names)?);
        self.keyword("count")?;
        let count = self.expr(names)?;
        let only = match self.peek_word() {
            Some("reads" | "writes") => Some(self.choice("a kind of access")?),
            _ => None,
        };
        let mark = self.option("mark", names)?;
        let seed = self.option("seed", names)?;
        let place = self.place();
        let data = self.expected_data(names)?;
        if only == Some(Accesses::Writes) && !data.is_empty() {
            return Err(Invalid::new(place, "writes find nothing"));
        }
        let words = AccessWords {
            start,
            size,
            count,
            only,
            mark,
            seed,
            data,
        };
        Ok(Step::Access {
            who,
            words: Box::new(words),
            hmmu: self.option("hmmu", names)?,
            outcome: self.outcome(names)?,
        })
    }

    fn copy_piece(&mut self, names: &Names) -> Result<PieceWords, Invalid> {
        Ok(PieceWords {
            from: self.copy_end(names)?,
            to: self.copy_end(names)?,
            size: self.expr(names)?,
        })
    }

    fn copy_end(&mut self, names: &Names) -> Result<End, Invalid> {
        if self.take("device") {
            return self.expr(names).map(End::Device);
        }
        self.expr(names).map(End::Virtual)
    }

    pub(super) fn fail(&mut self, names: &Names) -> Result<Step, Invalid> {
        if self.take("nothing") {
            return Ok(Step::FailNothing);
        }
        if self.take("stop") {
            let name = self.used(names, &[Kind::Block, Kind::Context])?;
            let user = names.check(&name, &[Kind::Context]).is_ok();
            return Ok(Step::FailStop { name, user });
        }
        let words = Failure::words().chain(["stop", "nothing"]);
        let what = self.choice_of::<Failure>("what is to fail, or `nothing`", words)?;
        let nth = self.expr(names)?;
        let how = match what.is_hardware() {
            false => None,
            true => match self.choice::<Wrong>("how it fails")? {
                Wrong::Timeout => Some((Wrong::Timeout, None)),
                Wrong::Slow => Some((Wrong::Slow, Some(self.expr(names)?))),
            },
        };
        let times = match what.is_hardware() {
            true => self.option("times", names)?,
            false => None,
        };
        Ok(Step::Fail {
            what,
            nth,
            how,
            times,
        })
    }
}
