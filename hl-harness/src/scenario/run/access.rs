//! What a processor of the device does: small accesses at random places.

use std::collections::BTreeSet;

use mmu_core::{AddrRange, DeviceAddr};

use super::super::ast::AccessWords;
use super::super::data::{Bytes, Difference, Wanted};
use super::super::text::Invalid;
use super::super::words::Accesses;
use super::Runner;
use super::answer::Answer;
use super::stop::Stop;
use super::turns::{Part, Work};
use crate::asic::{AccessKind, InitiatorId, RandomAccess, RandomAccessor, RefusedAccess};
use crate::machine::Model;

/// What reads of a window find.
struct Found {
    start: u64,
    /// What these accesses write.
    own: Wanted,
    /// Where they have written.
    written: BTreeSet<u64>,
    /// What is everywhere else; anything where nothing is wanted.
    wanted: Wanted,
}

impl Found {
    fn note(&mut self, access: &RandomAccess) -> Result<(), Difference> {
        if self.wanted.is_empty() {
            return Ok(());
        }
        let first = access.address.get();
        let mut bytes = (first..).zip(&access.bytes);
        match access.kind {
            AccessKind::Write => {
                self.written.extend(bytes.map(|(address, _)| address));
                Ok(())
            }
            AccessKind::Read => bytes.try_for_each(|(address, byte)| {
                let wanted = match self.written.contains(&address) {
                    true => &self.own,
                    false => &self.wanted,
                };
                let wrong = wanted.difference(address - self.start, &[*byte]);
                wrong.map_or(Ok(()), Err)
            }),
        }
    }
}

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    pub(super) fn access(
        &mut self,
        initiator: InitiatorId,
        words: &AccessWords,
    ) -> Result<Work<'m>, Stop> {
        let (start, size) = (self.eval(&words.start)?, self.eval(&words.size)?);
        let window = AddrRange::new(DeviceAddr::new(start), size).ok_or_else(|| {
            let message = "a window has a byte at least, and lies within 64 bits";
            Invalid::new(words.size.span, message)
        })?;
        let count = self.eval(&words.count)?;
        let mark = match &words.mark {
            Some(mark) => self.eval_small(mark, 0xFF)? as u8,
            None => 0,
        };
        // Drawn in any case, so that whoever writes one down changes nothing else that is random.
        let drawn = self.random.u64(..);
        let seed = self.eval_option(words.seed.as_ref())?.unwrap_or(drawn);
        let mut found = Found {
            start,
            own: Wanted(vec![Bytes::Mark { mark, from: start }]),
            written: BTreeSet::new(),
            wanted: self.wanted(&words.data)?,
        };
        let asic = &self.machine().asic;
        let accessor = RandomAccessor::new(asic, initiator, window, mark, seed);
        let mut accessor = match words.only {
            Some(Accesses::Reads) => accessor.only(AccessKind::Read),
            Some(Accesses::Writes) => accessor.only(AccessKind::Write),
            None => accessor,
        };
        let mut left = count;
        Ok(Box::new(move || {
            if left == 0 {
                return Ok(Part::Done(Answer::Done));
            }
            left -= 1;
            let (made, error) = match accessor.step() {
                Ok(made) => (made, None),
                Err(RefusedAccess { made, error }) => (made, Some(error)),
            };
            found.note(&made)?;
            Ok(match (error, left) {
                (Some(error), _) => Part::Done(Answer::of_access(Err(error), 0)),
                (None, 0) => Part::Done(Answer::Done),
                (None, _) => {
                    let RandomAccess {
                        address,
                        kind,
                        bytes,
                    } = made;
                    Part::Going(format!("{kind} of {} bytes at {address}", bytes.len()))
                }
            })
        }))
    }
}
