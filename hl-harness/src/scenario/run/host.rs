//! Steps of processes and of the host.

use super::super::ast::{Place, Step};
use super::super::text::{Invalid, Span};
use super::super::words::{Access, Reason};
use super::answer::{Answer, Refused};
use super::env::{Buffer, Key, Viewed, key_text};
use super::stop::{Failure, Stop};
use super::{Runner, Words};
use crate::host::{FRAME_SIZE, Permission, UserAddress, UserFault, ViewError};
use crate::machine::Model;
use std::sync::Arc;

const PAGE: u64 = FRAME_SIZE as u64;

/// Bytes that are moved at a time.
pub(super) const PIECE: u64 = 1 << 16;

/// The most memory that a buffer may have.
const MAX_BUFFER: u64 = 1 << 34;

/// Memory as a process reaches it.
enum Reached<'m, A: Model> {
    Buffer(Buffer),
    View(Arc<Viewed<'m, A>>),
}

impl<A: Model> Reached<'_, A> {
    fn len(&self) -> u64 {
        match self {
            Self::Buffer(buffer) => buffer.bytes,
            Self::View(view) => view.mapping().view().len() as u64,
        }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), Refused> {
        let result = match self {
            Self::Buffer(memory) => {
                let address = memory.start.offset(at);
                memory.process.read(address, buffer).map_err(user_fault)
            }
            Self::View(view) if let Some(hole) = hole(view, at, buffer.len() as u64) => Err(hole),
            Self::View(view) => {
                let read = view.mapping().view().read(at as usize, buffer);
                read.map_err(view_fault)
            }
        };
        result.map_err(|(at, reason)| refused(Access::Read, at, reason))
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let result = match self {
            Self::Buffer(memory) => {
                let address = memory.start.offset(at);
                memory.process.write(address, bytes).map_err(user_fault)
            }
            Self::View(view) if let Some(hole) = hole(view, at, bytes.len() as u64) => Err(hole),
            Self::View(view) => {
                let written = view.mapping().view().write(at as usize, bytes);
                written.map_err(view_fault)
            }
        };
        result.map_err(|(at, reason)| refused(Access::Write, at, reason))
    }
}

fn user_fault(fault: UserFault) -> (u64, Option<Reason>) {
    match fault {
        UserFault::Hole { address } => (address.get(), Some(Reason::Hole)),
        UserFault::ReadOnly { address } => (address.get(), Some(Reason::ReadOnly)),
        UserFault::Misaligned { address } | UserFault::OutOfFrames { address } => {
            (address.get(), None)
        }
    }
}

fn view_fault(error: ViewError) -> (u64, Option<Reason>) {
    match error {
        ViewError::Outside { offset } => (offset as u64, Some(Reason::Outside)),
        ViewError::ReadOnly { offset } => (offset as u64, Some(Reason::ReadOnly)),
    }
}

/// An access to a view that was refused.
pub(super) fn view_refused(access: Access, error: ViewError) -> Refused {
    let (at, reason) = view_fault(error);
    refused(access, at, reason)
}

fn refused(access: Access, at: u64, reason: Option<Reason>) -> Refused {
    Refused {
        access,
        asid: None,
        at,
        piece: None,
        reason,
        after: None,
    }
}

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    pub(super) fn host_step(&mut self, span: Span, step: &Step) -> Words {
        match step {
            Step::Exit { process } => self.exit(process),
            Step::Buffer {
                context,
                name,
                size,
                contiguous,
                read_only,
            } => {
                let process = Arc::clone(&self.file(context)?.process);
                let bytes = self.eval_small(size, MAX_BUFFER)?;
                let pages = bytes.div_ceil(FRAME_SIZE);
                let permission = permission(*read_only);
                let mapped = match contiguous {
                    None => process.map(pages, permission),
                    Some(align) => {
                        let align = self.eval_small(align, MAX_BUFFER)? / FRAME_SIZE;
                        process.map_contiguous(pages, align, permission)
                    }
                };
                let start = mapped.map_err(|error| {
                    let message = format_args!("the host has no such memory: {error}");
                    Invalid::new(size.span, message)
                })?;
                let key = self.key(name)?;
                let bytes = pages as u64 * PAGE;
                let buffer = Buffer {
                    process,
                    start,
                    bytes,
                };
                self.env.buffers.insert(key, buffer);
                Ok(format!("at {start}, {pages} pages"))
            }
            Step::Munmap { place } => self.munmap(place),
            Step::Replace { place } => {
                let (buffer, start, pages) = self.pages_of(place)?;
                let process = &buffer.process;
                let replaced = process.replace(start, pages, Permission::ReadWrite);
                replaced.map_err(|error| Invalid::new(place.name.span, error))?;
                Ok(format!("{pages} fresh pages"))
            }
            Step::Protect { place, read_only } => {
                let (buffer, start, pages) = self.pages_of(place)?;
                buffer.process.protect(start, pages, permission(*read_only));
                Ok("protected".to_owned())
            }
            Step::Reclaim => Ok(format!("{} pages moved", self.machine().host.reclaim())),
            Step::Write {
                place,
                data,
                outcome,
            } => {
                let (memory, at, size) = self.reach(place)?;
                let bytes = self.bytes(data)?;
                let mut piece = vec![0; size.min(PIECE) as usize];
                let answer = each_piece(size, |done, len| {
                    bytes.fill(done, &mut piece[..len]);
                    memory.write(at.wrapping_add(done), &piece[..len])
                });
                self.judge(span, outcome, answer)
            }
            Step::Read {
                place,
                data,
                outcome,
            } => {
                let (memory, at, size) = self.reach(place)?;
                let wanted = self.wanted(data)?;
                let mut piece = vec![0; size.min(PIECE) as usize];
                let mut differs = None;
                let answer = each_piece(size, |done, len| {
                    memory.read(at.wrapping_add(done), &mut piece[..len])?;
                    differs = differs
                        .take()
                        .or_else(|| wanted.difference(done, &piece[..len]));
                    Ok(())
                });
                if let Some(wrong) = differs {
                    return Err(Failure::new(span, wrong.wanted, wrong.found).into());
                }
                self.judge(span, outcome, answer)
            }
            _ => unreachable!("the step is one of the host"),
        }
    }

    /// The memory that a place is in, where the place begins there, and how long it is.
    fn reach(&mut self, place: &Place) -> Result<(Reached<'m, A>, u64, u64), Stop> {
        let reached = match self.view(&place.name)? {
            Some(view) => Reached::View(view),
            None => Reached::Buffer(self.buffer(&place.name)?),
        };
        let at = self.eval_option(place.at.as_ref())?.unwrap_or(0);
        let rest = reached.len().saturating_sub(at);
        let size = self.eval_option(place.size.as_ref())?.unwrap_or(rest);
        Ok((reached, at, size))
    }

    /// Unmaps a view or a part of it.
    fn munmap_view(&mut self, place: &Place, key: Key, view: Arc<Viewed<'m, A>>) -> Words {
        let at = self.eval_option(place.at.as_ref())?.unwrap_or(0);
        let size = self.eval_option(place.size.as_ref())?;
        let refused = |message: &str| Invalid::new(place.name.span, message);
        let Some(Viewed { view, mut gone }) = Arc::into_inner(view) else {
            return Err(refused("the view is in use elsewhere").into());
        };
        let Some(size) = size else {
            self.machine()
                .device
                .end_view(view)
                .expect("the view is of this device");
            return Ok("the view has ended".to_owned());
        };
        let len = view.view().view().len() as u64;
        let part = at..at.saturating_add(size);
        let whole_pages = at.is_multiple_of(PAGE) && size.is_multiple_of(PAGE) && part.end <= len;
        let fresh = gone
            .iter()
            .all(|gone| gone.end <= part.start || part.end <= gone.start);
        if !whole_pages || !fresh {
            return Err(refused("this is no whole pages of what is left of the view").into());
        }
        gone.push(part);
        let words = format!("{} pages of {}", size / PAGE, key_text(&key));
        let left = self.machine().device.end_pages(view, size / PAGE);
        if let Some(view) = left.expect("the view is of this device") {
            self.env.views.insert(key, Arc::new(Viewed { view, gone }));
        }
        Ok(words)
    }

    fn munmap(&mut self, place: &Place) -> Words {
        let key = self.key(&place.name)?;
        if let Some(view) = self.env.views.remove(&key) {
            return self.munmap_view(place, key, view);
        }
        let (buffer, start, pages) = self.pages_of(place)?;
        let gone = buffer.process.unmap(start, pages);
        if pages as u64 * PAGE == buffer.bytes {
            self.env.buffers.remove(&key);
        }
        Ok(format!("{gone} pages"))
    }

    /// Whole pages of a buffer: where they begin, and how many.
    fn pages_of(&mut self, place: &Place) -> Result<(Buffer, UserAddress, usize), Stop> {
        let buffer = self.buffer(&place.name)?;
        let at = self.eval_option(place.at.as_ref())?.unwrap_or(0);
        let rest = buffer.bytes.saturating_sub(at);
        let size = self.eval_option(place.size.as_ref())?.unwrap_or(rest);
        let aligned = at.is_multiple_of(PAGE) && size.is_multiple_of(PAGE) && size <= rest;
        if !aligned {
            let message = format_args!("{at:#x} and {size:#x} are no whole pages of the buffer");
            return Err(Invalid::new(place.name.span, message).into());
        }
        let start = buffer.start.offset(at);
        Ok((buffer, start, (size / PAGE) as usize))
    }
}

/// The first byte of a part of a view that its process has unmapped.
fn hole<A: Model>(view: &Viewed<'_, A>, at: u64, len: u64) -> Option<(u64, Option<Reason>)> {
    let gone = view.gone.iter();
    let met = gone.filter(|gone| gone.start < at.saturating_add(len) && at < gone.end);
    let first = met.map(|gone| gone.start.max(at)).min()?;
    Some((first, Some(Reason::Hole)))
}

const fn permission(read_only: bool) -> Permission {
    if read_only {
        Permission::ReadOnly
    } else {
        Permission::ReadWrite
    }
}

/// Moves `size` bytes, piece by piece.
fn each_piece(size: u64, mut each: impl FnMut(u64, usize) -> Result<(), Refused>) -> Answer {
    let mut done = 0;
    while done < size {
        let len = PIECE.min(size - done);
        if let Err(refused) = each(done, len as usize) {
            return Answer::Refused(refused);
        }
        done += len;
    }
    Answer::Done
}
