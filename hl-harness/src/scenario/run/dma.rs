//! Accesses of the device that move many bytes: in pieces, between which others may have their turns.

use std::sync::{Arc, Mutex};

use mmu_core::DeviceAddr;

use super::super::ast::{End, Name, Transfer};
use super::super::data::Difference;
use super::Runner;
use super::answer::{Answer, Refused};
use super::env::Copy;
use super::host::PIECE;
use super::stop::Stop;
use super::turns::{Part, Work};
use crate::asic::{Descriptor, DmaEngine, Endpoint, InitiatorId};
use crate::host::FRAME_SIZE;
use crate::machine::Model;

const PAGE: u64 = FRAME_SIZE as u64;

/// Bytes from `at` up to the next multiple of `most`, and not more than `left`.
fn up_to(most: u64, at: u64, left: u64) -> u64 {
    left.min(most - at % most)
}

/// Moves `size` bytes from `start` on, piece by piece: up to the next multiple of `most`. `piece` is told
/// how many moved before, and how many are to move.
fn in_pieces<'m>(
    (start, size): (u64, u64),
    most: u64,
    mut piece: impl FnMut(u64, u64) -> Result<Answer, Difference> + 'm,
) -> Work<'m> {
    let mut done = 0;
    Box::new(move || {
        let len = up_to(most, start.wrapping_add(done), size - done);
        if len == 0 {
            return Ok(Part::Done(Answer::Done));
        }
        let answer = piece(done, len)?;
        done += len;
        Ok(match answer {
            Answer::Done if done < size => Part::Going(format!("{done:#x} of {size:#x} bytes")),
            answer => Part::Done(answer),
        })
    })
}

/// The end of a copy, `bytes` further on.
fn skip(end: Endpoint, bytes: u64) -> Endpoint {
    match end {
        Endpoint::Virtual(address) => {
            Endpoint::Virtual(DeviceAddr::new(address.get().wrapping_add(bytes)))
        }
        Endpoint::DeviceMemory(offset) => Endpoint::DeviceMemory(offset.wrapping_add(bytes)),
    }
}

/// Copies a page of the source at a time, piece after piece.
fn in_turns<'m>(engine: DmaEngine, pieces: Vec<Descriptor>) -> Work<'m> {
    let size = pieces
        .iter()
        .fold(0_u64, |size, piece| size.saturating_add(piece.len));
    let (mut next, mut done_before, mut done) = (0, 0, 0);
    Box::new(move || {
        while pieces.get(next).is_some_and(|piece| done == piece.len) {
            next += 1;
            done_before += done;
            done = 0;
        }
        let Some(piece) = pieces.get(next) else {
            return Ok(Part::Done(Answer::Done));
        };
        let from = skip(piece.from, done);
        let at = match from {
            Endpoint::Virtual(address) => address.get(),
            Endpoint::DeviceMemory(offset) => offset,
        };
        let len = up_to(PAGE, at, piece.len - done);
        let copied = engine.copy(from, skip(piece.to, done), len);
        let answer = Answer::of_access(copied, done_before + done);
        done += len;
        let moved = done_before + done;
        Ok(match answer {
            Answer::Done if moved < size => Part::Going(format!("{moved:#x} of {size:#x} bytes")),
            answer => Part::Done(in_piece(answer, &pieces)),
        })
    })
}

/// The same answer, with the piece that was refused where there are several.
fn in_piece(answer: Answer, pieces: &[Descriptor]) -> Answer {
    match answer {
        Answer::Refused(refused) if pieces.len() > 1 => {
            let mut left = refused.after.unwrap_or(0);
            // An access that is refused moved less than its piece has.
            let number = pieces.iter().position(|piece| {
                let here = left < piece.len;
                left = left.saturating_sub(piece.len);
                here
            });
            Answer::Refused(Refused {
                piece: number.map(|number| number as u64),
                ..refused
            })
        }
        answer => answer,
    }
}

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    pub(super) fn dma(
        &mut self,
        initiator: InitiatorId,
        transfer: &Transfer,
        name: Option<&Name>,
    ) -> Result<Work<'m>, Stop> {
        let asic = Arc::clone(&self.machine().asic);
        let turns = self.thread.is_some();
        let most = if turns { PAGE } else { PIECE };
        match transfer {
            Transfer::Read(start, size, data) => {
                let (start, size) = (self.eval(start)?, self.eval(size)?);
                let wanted = self.wanted(data)?;
                let mut buffer = Vec::new();
                Ok(in_pieces((start, size), most, move |done, len| {
                    buffer.resize(len as usize, 0);
                    let at = DeviceAddr::new(start.wrapping_add(done));
                    let read = asic.read(initiator, at, &mut buffer);
                    let arrived = match &read {
                        Ok(()) => buffer.len(),
                        Err(error) => error.bytes_done as usize,
                    };
                    match wanted.difference(done, &buffer[..arrived]) {
                        Some(wrong) => Err(wrong),
                        None => Ok(Answer::of_access(read, done)),
                    }
                }))
            }
            Transfer::Write(start, size, data) => {
                let (start, size) = (self.eval(start)?, self.eval(size)?);
                let bytes = self.bytes(data)?;
                let mut buffer = Vec::new();
                Ok(in_pieces((start, size), most, move |done, len| {
                    buffer.resize(len as usize, 0);
                    bytes.fill(done, &mut buffer);
                    let at = DeviceAddr::new(start.wrapping_add(done));
                    Ok(Answer::of_access(asic.write(initiator, at, &buffer), done))
                }))
            }
            Transfer::Copy(words) => {
                let mut pieces = Vec::with_capacity(words.len());
                for words in words {
                    pieces.push(Descriptor {
                        from: self.copy_end(&words.from)?,
                        to: self.copy_end(&words.to)?,
                        len: self.eval(&words.size)?,
                    });
                }
                let engine = DmaEngine::with_initiator(&asic, initiator);
                let key = name.map(|name| self.key(name)).transpose()?;
                let armed = key.filter(|key| matches!(self.env.copies.get(key), Some(Copy::Armed)));
                if let (Some(key), [piece]) = (armed, pieces.as_slice()) {
                    let answer = match engine.begin(piece.from, piece.to, piece.len) {
                        Ok(transfer) => {
                            let transfer = Arc::new(Mutex::new(Some(transfer)));
                            self.env.copies.insert(key, Copy::Translated(transfer));
                            Answer::Done
                        }
                        Err(error) => Answer::of_access(Err(error), 0),
                    };
                    return Ok(Box::new(move || Ok(Part::Done(answer))));
                }
                // As one DMA, where nobody has a turn meanwhile.
                Ok(match turns {
                    true => in_turns(engine, pieces),
                    false => Box::new(move || {
                        let copied = engine.copy_list(&pieces);
                        let answer = Answer::of_access(copied, 0);
                        Ok(Part::Done(in_piece(answer, &pieces)))
                    }),
                })
            }
        }
    }

    fn copy_end(&mut self, end: &End) -> Result<Endpoint, Stop> {
        Ok(match end {
            End::Virtual(address) => Endpoint::Virtual(DeviceAddr::new(self.eval(address)?)),
            End::Device(offset) => Endpoint::DeviceMemory(self.eval(offset)?),
        })
    }
}
