//! Parts that several steps have: whose, where, data, and what is to come of it.

use super::super::ast::{Data, FaultWords, Outcome, Place, Who};
use super::super::names::{Kind, Names};
use super::super::text::Invalid;
use super::super::words::{ERRNOS, LeftWord};
use super::cursor::Cursor;

/// Words that begin a result, where it is not a name.
const RESULTS: &[&str] = &["ok", "fails", "faults", "lost", "left"];

impl Cursor {
    /// Whose address space.
    pub(super) fn who(&mut self, names: &Names) -> Result<Who, Invalid> {
        if self.take("privileged") {
            Ok(Who::Privileged)
        } else if self.take("bypass") {
            Ok(Who::Bypass)
        } else if self.take("asid") {
            self.primary(names).map(Who::Asid)
        } else {
            self.context(names).map(Who::Context)
        }
    }

    pub(super) fn place_of(&mut self, names: &Names) -> Result<Place, Invalid> {
        self.place_in(names, &[Kind::Buffer, Kind::View])
    }

    /// A part of something of these kinds.
    pub(super) fn place_in(&mut self, names: &Names, kinds: &[Kind]) -> Result<Place, Invalid> {
        Ok(Place {
            name: self.used(names, kinds)?,
            at: self.option("at", names)?,
            size: self.option("size", names)?,
        })
    }

    pub(super) fn data(&mut self, names: &Names) -> Result<Data, Invalid> {
        if self.take("pattern") {
            let number = self.expr(names)?;
            let from = self.option("from", names)?;
            Ok(Data::Pattern(number, from))
        } else if self.take("byte") {
            self.expr(names).map(Data::Byte)
        } else if self.take("word") {
            self.expr(names).map(Data::Word)
        } else if self.take("mark") {
            let mark = self.expr(names)?;
            self.keyword("from")?;
            Ok(Data::Mark(mark, self.expr(names)?))
        } else {
            Err(self.expected("data: `pattern N`, `byte N`, `word N` or `mark N from ADDRESS`"))
        }
    }

    /// What is to be found, where anything is.
    pub(super) fn expected_data(&mut self, names: &Names) -> Result<Vec<Data>, Invalid> {
        let mut data = Vec::new();
        if self.take("expect") {
            data.push(self.data(names)?);
            while self.take("or") {
                data.push(self.data(names)?);
            }
        }
        Ok(data)
    }

    fn errno(&mut self) -> Result<String, Invalid> {
        let invalid = self.expected("an error number by its name, such as `EINVAL`");
        match self.peek_word() {
            Some(word) if ERRNOS.contains(&word) => Ok(self.word("an errno")?.0),
            Some(word) => {
                let word = word.to_owned();
                Err(invalid.suggest(&word, ERRNOS.iter().copied()))
            }
            None => Err(invalid),
        }
    }

    fn alternatives(&mut self) -> Result<Vec<String>, Invalid> {
        let mut errnos = Vec::new();
        while self.take("or") {
            errnos.push(self.errno()?);
        }
        Ok(errnos)
    }

    /// What is expected to come of a step.
    pub(super) fn outcome(&mut self, names: &mut Names) -> Result<Outcome, Invalid> {
        if !self.take_sign("->") {
            return Ok(Outcome::Succeeds);
        }
        if self.take("ok") {
            if !self.take("or") {
                return Ok(Outcome::Succeeds);
            }
            if self.take("faults") {
                return Ok(Outcome::OrFaults);
            }
            let mut or = vec![self.errno()?];
            or.extend(self.alternatives()?);
            return Ok(Outcome::Either(or));
        }
        if self.take("fails") {
            let mut errnos = Vec::new();
            if !self.is_at_end() {
                errnos.push(self.errno()?);
                errnos.extend(self.alternatives()?);
            }
            return Ok(Outcome::Fails(errnos));
        }
        if self.take("faults") {
            return self.fault(names).map(Outcome::Faults);
        }
        if self.take("lost") {
            return Ok(Outcome::Lost);
        }
        if self.take("left") {
            let mut left = Vec::new();
            while !self.is_at_end() {
                let what = self.choice::<LeftWord>("what is left")?;
                left.push((what, self.expr(names)?));
            }
            return Ok(Outcome::Left(left));
        }
        let name = self.indexed(
            "what comes of it: a name for it, `ok`, `fails`, `faults`, `lost` or `left`",
            names,
        )?;
        let or = self.alternatives()?;
        if !self.is_at_end() {
            // Most likely a misspelt word, and no name.
            let message = format_args!("`{}` is no result that goes on like this", name.text);
            let invalid = Invalid::new(name.span, message);
            return Err(invalid.suggest(&name.text, RESULTS.iter().copied()));
        }
        names.define(&name, Kind::Variable)?;
        Ok(Outcome::Binds(name, or))
    }

    /// What a refused access is like.
    pub(super) fn fault(&mut self, names: &Names) -> Result<FaultWords, Invalid> {
        let access = match self.peek_word() {
            Some("read" | "write") => Some(self.choice("an access")?),
            _ => None,
        };
        let asid = self.option("asid", names)?;
        let at = self.option("at", names)?;
        let piece = match self.take("in") {
            true => {
                self.keyword("piece")?;
                Some(self.expr(names)?)
            }
            false => None,
        };
        let reason = match self.take("because") {
            true => Some(self.choice("a reason")?),
            false => None,
        };
        let after = self.option("after", names)?;
        Ok(FaultWords {
            access,
            asid,
            at,
            piece,
            reason,
            after,
        })
    }
}
