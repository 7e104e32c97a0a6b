//! Accesses of the device that move many bytes: in pieces, between which others may have their turns.

use std::sync::{Arc, Mutex};

use mmu_core::DeviceAddr;

use super::super::ast::{End, Name, Transfer};
use super::super::data::Difference;
use super::Runner;
use super::answer::Answer;
use super::env::Copy;
use super::host::PIECE;
use super::stop::Stop;
use super::turns::{Part, Work};
use crate::asic::{DmaEngine, Endpoint, InitiatorId};
use crate::host::FRAME_SIZE;
use crate::machine::Model;

const PAGE: u64 = FRAME_SIZE as u64;

/// How many bytes move before others have their turns.
#[derive(Clone, Copy)]
enum Pieces {
    /// All of them.
    Whole,
    /// So many, and what is less up to the next multiple of so many.
    UpTo(u64),
}

impl Pieces {
    /// Bytes of the piece at `at`, where `left` bytes are left.
    fn len(self, at: u64, left: u64) -> u64 {
        match self {
            Self::Whole => left,
            Self::UpTo(most) => left.min(most - at % most),
        }
    }
}

/// Moves `size` bytes from `start` on, piece by piece. `piece` is told how many moved before, and how many
/// are to move.
fn in_pieces<'m>(
    (start, size): (u64, u64),
    pieces: Pieces,
    mut piece: impl FnMut(u64, u64) -> Result<Answer, Difference> + 'm,
) -> Work<'m> {
    let mut done = 0;
    Box::new(move || {
        let len = pieces.len(start.wrapping_add(done), size - done);
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

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    pub(super) fn dma(
        &mut self,
        initiator: InitiatorId,
        transfer: &Transfer,
        name: Option<&Name>,
    ) -> Result<Work<'m>, Stop> {
        let asic = Arc::clone(&self.machine().asic);
        let turns = self.thread.is_some();
        let pieces = Pieces::UpTo(if turns { PAGE } else { PIECE });
        match transfer {
            Transfer::Read(start, size, data) => {
                let (start, size) = (self.eval(start)?, self.eval(size)?);
                let wanted = self.wanted(data)?;
                let mut buffer = Vec::new();
                Ok(in_pieces((start, size), pieces, move |done, len| {
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
                Ok(in_pieces((start, size), pieces, move |done, len| {
                    buffer.resize(len as usize, 0);
                    bytes.fill(done, &mut buffer);
                    let at = DeviceAddr::new(start.wrapping_add(done));
                    Ok(Answer::of_access(asic.write(initiator, at, &buffer), done))
                }))
            }
            Transfer::Copy(from, to, size) => {
                let (from, to) = (self.copy_end(from)?, self.copy_end(to)?);
                let size = self.eval(size)?;
                let engine = DmaEngine::with_initiator(&asic, initiator);
                let key = name.map(|name| self.key(name)).transpose()?;
                let armed = key.filter(|key| matches!(self.env.copies.get(key), Some(Copy::Armed)));
                if let Some(key) = armed {
                    let answer = match engine.begin(from, to, size) {
                        Ok(transfer) => {
                            let transfer = Arc::new(Mutex::new(Some(transfer)));
                            self.env.copies.insert(key, Copy::Translated(transfer));
                            Answer::Done
                        }
                        Err(error) => Answer::of_access(Err(error), 0),
                    };
                    return Ok(Box::new(move || Ok(Part::Done(answer))));
                }
                let start = match from {
                    Endpoint::Virtual(address) => address.get(),
                    Endpoint::DeviceMemory(offset) => offset,
                };
                // As one DMA, where nobody has a turn meanwhile.
                let pieces = if turns { pieces } else { Pieces::Whole };
                Ok(in_pieces((start, size), pieces, move |done, len| {
                    let copied = engine.copy(skip(from, done), skip(to, done), len);
                    Ok(Answer::of_access(copied, done))
                }))
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
