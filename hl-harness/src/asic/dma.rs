//! DMA engines: copies whose every page goes through the walker.

use std::collections::VecDeque;
use std::sync::Arc;

use mmu_core::{BusAddr, DeviceAddr};

use super::fault::{AccessError, AccessKind, FaultReason, InitiatorId, Stopped};
use super::{Asic, InitiatorMode, Target};
use crate::log::Event;

/// One end of a DMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An address the initiator sends; what becomes of it is the initiator's mode.
    Virtual(DeviceAddr),
    /// A byte offset into device DRAM, past the MMU. Allowed on Gaudi, where DRAM does not lie behind
    /// the MMU, and everywhere to an initiator in bypass mode.
    DeviceMemory(u64),
}

impl Endpoint {
    /// The endpoint `bytes` further on.
    fn skip(self, bytes: u64) -> Self {
        match self {
            Self::Virtual(address) => {
                Self::Virtual(DeviceAddr::new(address.get().wrapping_add(bytes)))
            }
            Self::DeviceMemory(offset) => Self::DeviceMemory(offset.wrapping_add(bytes)),
        }
    }
}

/// A DMA engine: an initiator that copies.
///
/// It works in pieces that cross no page of either side and stops at the first fault, reporting how
/// many bytes it moved. Several engines, or one from several threads, may run at once.
#[derive(Clone, Debug)]
pub struct DmaEngine {
    asic: Arc<Asic>,
    initiator: InitiatorId,
}

/// One piece of a scatter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// Where the bytes are.
    pub from: Endpoint,
    /// Where they go.
    pub to: Endpoint,
    /// How many.
    pub len: u64,
}

/// Bytes moved at a time.
const PIECE: u64 = 4096;
/// Bytes of device memory filled at a time, in what may be a thousand megabytes.
const FILLED: u64 = 1 << 20;

impl DmaEngine {
    /// A new initiator called `name` in `mode`, as an engine. On Gaudi2 its device-memory accesses go
    /// through the first enabled HMMU.
    #[must_use]
    pub fn new(asic: &Arc<Asic>, name: &'static str, mode: InitiatorMode) -> Self {
        Self::with_initiator(asic, asic.add_initiator(name, mode))
    }

    /// An engine that acts as an existing initiator.
    #[must_use]
    pub fn with_initiator(asic: &Arc<Asic>, initiator: InitiatorId) -> Self {
        Self {
            asic: Arc::clone(asic),
            initiator,
        }
    }

    /// The initiator it acts as.
    #[must_use]
    pub fn initiator(&self) -> InitiatorId {
        self.initiator
    }

    /// Copies `len` bytes, from the lowest address up.
    ///
    /// # Errors
    ///
    /// The first fault, or the loss of the device, with the bytes moved before.
    pub fn copy(&self, from: Endpoint, to: Endpoint, len: u64) -> Result<(), AccessError> {
        self.move_piece(self.asic.life(), Descriptor { from, to, len })?;
        self.complete(len);
        Ok(())
    }

    /// Copies what a scatter list names, piece after piece, as one DMA.
    ///
    /// # Errors
    ///
    /// As [`copy`](Self::copy); `bytes_done` counts those of all pieces.
    pub fn copy_list(&self, list: &[Descriptor]) -> Result<(), AccessError> {
        let life = self.asic.life();
        let mut done = 0;
        for &piece in list {
            self.move_piece(life, piece).map_err(|error| AccessError {
                bytes_done: done + error.bytes_done,
                ..error
            })?;
            done += piece.len;
        }
        self.complete(done);
        Ok(())
    }

    /// Copies what a scatter list names in steps, which may be far apart: a page is translated in one
    /// and moves in the next.
    #[must_use]
    pub fn steps(&self, list: &[Descriptor]) -> DmaSteps {
        DmaSteps {
            engine: self.clone(),
            life: self.asic.life(),
            list: list.iter().copied().collect(),
            begun: None,
            bytes_done: 0,
        }
    }

    fn move_piece(
        &self,
        life: u64,
        Descriptor { from, to, len }: Descriptor,
    ) -> Result<(), AccessError> {
        let mut buffer = [0; PIECE as usize];
        let mut done = 0;
        while done < len {
            let mut count = PIECE.min(len - done);
            let stop = |stopped| AccessError {
                bytes_done: done,
                stopped,
            };
            // The whole piece is translated before it moves, as engines with a read buffer do.
            self.one(
                life,
                from.skip(done),
                AccessKind::Read,
                &mut count,
                |asic, target, count| asic.read_target(target, &mut buffer[..count]),
            )
            .map_err(stop)?;
            let mut written = 0;
            while written < count {
                let mut part = count - written;
                let at = to.skip(done + written);
                self.one(
                    life,
                    at,
                    AccessKind::Write,
                    &mut part,
                    |asic, target, part| {
                        let start = written as usize;
                        asic.write_target(target, &buffer[start..start + part])
                    },
                )
                .map_err(|stopped| AccessError {
                    bytes_done: done + written,
                    stopped,
                })?;
                written += part;
            }
            done += count;
        }
        Ok(())
    }

    /// Fills `len` bytes with a repeated byte.
    ///
    /// # Errors
    ///
    /// As [`copy`](Self::copy).
    pub fn fill(&self, to: Endpoint, byte: u8, len: u64) -> Result<(), AccessError> {
        let life = self.asic.life();
        let mut done = 0;
        while done < len {
            let rest = len - done;
            let mut count = rest.min(PIECE);
            let fill =
                |asic: &Asic, target: Target, count: usize| asic.fill_target(target, byte, count);
            let filled = match to.skip(done) {
                Endpoint::DeviceMemory(offset) => {
                    count = rest.min(FILLED - offset % FILLED);
                    self.asic.with_device_memory(
                        life,
                        self.initiator,
                        offset,
                        AccessKind::Write,
                        count,
                        fill,
                    )
                }
                end @ Endpoint::Virtual(_) => {
                    self.one(life, end, AccessKind::Write, &mut count, fill)
                }
            };
            filled.map_err(|stopped| AccessError {
                bytes_done: done,
                stopped,
            })?;
            done += count;
        }
        self.complete(len);
        Ok(())
    }

    /// Translates a whole copy and moves nothing yet.
    ///
    /// The result is a transfer stuck between the MMU and the bus. It does *not* hold back
    /// invalidations: finishing it after its mapping is gone is how use after unmap is shown. A reset
    /// ends it, as it ends everything that the device does.
    ///
    /// # Errors
    ///
    /// The first fault; `bytes_done` is 0.
    pub fn begin(
        &self,
        from: Endpoint,
        to: Endpoint,
        len: u64,
    ) -> Result<TranslatedTransfer, AccessError> {
        self.begin_in(self.asic.life(), Descriptor { from, to, len })
    }

    fn begin_in(
        &self,
        life: u64,
        Descriptor { from, to, len }: Descriptor,
    ) -> Result<TranslatedTransfer, AccessError> {
        let mut pieces = Vec::new();
        let mut at = 0;
        while at < len {
            let mut count = PIECE.min(len - at);
            let mut source = None;
            let mut destination = None;
            let translated = self
                .one(
                    life,
                    from.skip(at),
                    AccessKind::Read,
                    &mut count,
                    |_, target, _| {
                        source = Some(target);
                        Ok(())
                    },
                )
                .and_then(|()| {
                    self.one(
                        life,
                        to.skip(at),
                        AccessKind::Write,
                        &mut count,
                        |_, target, _| {
                            destination = Some(target);
                            Ok(())
                        },
                    )
                });
            translated.map_err(|stopped| AccessError {
                bytes_done: 0,
                stopped,
            })?;
            if let (Some(from), Some(to)) = (source, destination) {
                pieces.push((from, to, count));
            }
            at += count;
        }
        Ok(TranslatedTransfer {
            engine: self.clone(),
            life,
            from,
            to,
            pieces,
            len,
        })
    }

    /// Translates one end and uses it, at most to the end of its contiguous stretch: `count` says how
    /// much is wanted and, afterwards, how much it was.
    fn one(
        &self,
        life: u64,
        end: Endpoint,
        access: AccessKind,
        count: &mut u64,
        move_bytes: impl FnOnce(&Asic, Target, usize) -> Result<(), BusAddr>,
    ) -> Result<(), Stopped> {
        match end {
            Endpoint::Virtual(address) => {
                self.asic
                    .with_target(life, self.initiator, address, access, count, move_bytes)
            }
            Endpoint::DeviceMemory(offset) => {
                *count = (*count).min(PIECE - offset % PIECE);
                self.asic.with_device_memory(
                    life,
                    self.initiator,
                    offset,
                    access,
                    *count,
                    move_bytes,
                )
            }
        }
    }

    fn complete(&self, bytes: u64) {
        self.asic.log.record(Event::DmaComplete {
            initiator: self.initiator,
            bytes,
        });
    }
}

/// A DMA whose addresses are translated and whose bytes have not moved.
#[derive(Debug)]
#[must_use = "a begun transfer moves nothing until it is finished"]
pub struct TranslatedTransfer {
    engine: DmaEngine,
    /// The device's life in which it began.
    life: u64,
    from: Endpoint,
    to: Endpoint,
    pieces: Vec<(Target, Target, u64)>,
    len: u64,
}

impl TranslatedTransfer {
    /// Moves the bytes to and from where the translation pointed, whatever has happened since.
    ///
    /// # Errors
    ///
    /// The loss of the device or a reset of it, or a bus address that no longer answers, with the bytes moved before.
    pub fn finish(self) -> Result<(), AccessError> {
        let asic = &self.engine.asic;
        let mut buffer = [0; PIECE as usize];
        let mut bytes_done = 0;
        for (from, to, count) in self.pieces {
            let stop = |stopped| AccessError {
                bytes_done,
                stopped,
            };
            if !asic.lives(self.life) {
                return Err(stop(Stopped::Lost));
            }
            let piece = &mut buffer[..count as usize];
            let refuse = |end: Endpoint, access, bus| {
                let address = asic.sent_address(end.skip(bytes_done));
                let reason = FaultReason::Decode { bus };
                stop(asic.refuse_initiator(self.engine.initiator, address, access, reason))
            };
            asic.read_target(from, piece)
                .map_err(|bus| refuse(self.from, AccessKind::Read, bus))?;
            asic.write_target(to, piece)
                .map_err(|bus| refuse(self.to, AccessKind::Write, bus))?;
            bytes_done += count;
        }
        self.engine.complete(self.len);
        Ok(())
    }

    /// The bytes it will move.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it will move nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// A DMA that goes on when it is told to. See [`DmaEngine::steps`].
#[derive(Debug)]
pub struct DmaSteps {
    engine: DmaEngine,
    /// The device's life in which it began.
    life: u64,
    /// What is not begun.
    list: VecDeque<Descriptor>,
    begun: Option<TranslatedTransfer>,
    bytes_done: u64,
}

impl DmaSteps {
    /// Takes the next step: translates one page of each end, or moves what was translated. `false`
    /// when there was nothing left to do.
    ///
    /// # Errors
    ///
    /// As [`DmaEngine::begin`] and [`TranslatedTransfer::finish`], with all bytes that moved before.
    /// What is left stays where it is; taking another step tries it again.
    pub fn step(&mut self) -> Result<bool, AccessError> {
        let before = self.bytes_done;
        let add_before = |error: AccessError| AccessError {
            bytes_done: before + error.bytes_done,
            ..error
        };
        if let Some(transfer) = self.begun.take() {
            let len = transfer.len();
            transfer.finish().map_err(add_before)?;
            self.bytes_done += len;
            return Ok(true);
        }
        let Some(piece) = self.list.front_mut() else {
            return Ok(false);
        };
        let len = piece.len.min(PIECE);
        let step = Descriptor { len, ..*piece };
        let transfer = self.engine.begin_in(self.life, step);
        self.begun = Some(transfer.map_err(add_before)?);
        piece.from = piece.from.skip(len);
        piece.to = piece.to.skip(len);
        piece.len -= len;
        if piece.len == 0 {
            self.list.pop_front();
        }
        Ok(true)
    }

    /// Bytes that moved.
    #[must_use]
    pub fn bytes_done(&self) -> u64 {
        self.bytes_done
    }
}
