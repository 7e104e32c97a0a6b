//! Steps of the two ends of a ring: the device produces, a process consumes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hl_mem::ring::{
    BlockIndices, BlockLayout, BlockRead, Consumer, HeaderError, PopError, Producer, PushError,
};
use hl_mem::uapi::Errno;
use mmu_core::DeviceAddr;

use super::super::ast::{Data, Expr, Name, Outcome, RingWords, Who};
use super::super::data::Difference;
use super::super::text::{Invalid, Span};
use super::super::words::Access;
use super::answer::Answer;
use super::env::{Viewed, key_text};
use super::host::view_refused;
use super::stop::Stop;
use super::turns::{Part, Work};
use super::{Runner, Words};
use crate::block_access::{DeviceBlock, MappedBlock};
use crate::host::{FRAME_SIZE, ViewError};
use crate::machine::Model;

/// A ring, with its ends as far as there are any.
pub(crate) struct Ring<'m, A: Model> {
    layout: BlockLayout,
    producer: Mutex<Producer<DeviceBlock>>,
    consumer: Mutex<Option<Consumer<Shown<'m, A>>>>,
}

/// A block as it is shown to a process, for as long as the ring has the view.
struct Shown<'m, A: Model>(Arc<Viewed<'m, A>>);

impl<A: Model> Shown<'_, A> {
    fn mapped(&self) -> MappedBlock<'_> {
        MappedBlock::new(self.0.mapping().view())
    }
}

impl<A: Model> BlockIndices for Shown<'_, A> {
    type Error = ViewError;

    fn load_index(&mut self, offset: u64) -> Result<u32, ViewError> {
        self.mapped().load_index(offset)
    }

    fn store_index(&mut self, offset: u64, index: u32) -> Result<(), ViewError> {
        self.mapped().store_index(offset, index)
    }
}

impl<A: Model> BlockRead for Shown<'_, A> {
    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), ViewError> {
        self.mapped().read(offset, bytes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An access of the process that was refused.
fn refused(error: ViewError) -> Answer {
    Answer::Refused(view_refused(Access::Read, error))
}

impl<'m, A: Model> Runner<'_, '_, '_, 'm, A> {
    pub(super) fn ring_step(
        &mut self,
        span: Span,
        (name, request): (&Name, &RingWords),
        outcome: &Outcome,
    ) -> Words {
        let answer = match request {
            RingWords::Make {
                block,
                record,
                size,
                start,
            } => {
                let small = u64::from(u32::MAX);
                let record = self.eval_small(record, small)? as u32;
                let capacity = self.eval_small(size, small)? as u32;
                let first = match start {
                    Some(start) => self.eval_small(start, small)? as u32,
                    None => 0,
                };
                let layout = BlockLayout::new(FRAME_SIZE as u64, record, capacity);
                let layout = layout.map_err(|error| Invalid::new(size.span, error))?;
                let start = self.number_of(block)?;
                self.make_ring(name, layout, start, first)?
            }
            RingWords::Consume { view } => {
                let ring = self.ring(name)?;
                let Some(viewed) = self.view(view)? else {
                    return Err(Invalid::new(view.span, "there is no such view now").into());
                };
                let len = viewed.mapping().view().len() as u64;
                let mut shown = Shown(viewed);
                match BlockLayout::read_header(&mut shown, FRAME_SIZE as u64, len) {
                    Ok(layout) => match Consumer::attach(shown, layout) {
                        Ok(consumer) => {
                            *lock(&ring.consumer) = Some(consumer);
                            Answer::Done
                        }
                        Err(error) => refused(error),
                    },
                    Err(HeaderError::Memory(error)) => refused(error),
                    Err(_) => Answer::Errno(Errno::EINVAL),
                }
            }
            RingWords::End => {
                let key = self.key(name)?;
                let _ = self.ring(name)?;
                self.env.rings.remove(&key);
                Answer::Done
            }
            RingWords::Push { .. } | RingWords::Pop { .. } => {
                unreachable!("these are carried out in parts")
            }
        };
        self.judge(span, outcome, answer)
    }

    /// The driver writes the header of a block, through the device, whose engine is then the producer.
    fn make_ring(
        &mut self,
        name: &Name,
        layout: BlockLayout,
        start: u64,
        first: u32,
    ) -> Result<Answer, Stop> {
        let initiator = self.initiator(&Who::Privileged, None)?;
        let asic = &self.machine().asic;
        let mut memory = DeviceBlock::new(asic, initiator, DeviceAddr::new(start));
        let made = layout.initialize(&mut memory, first);
        let producer = match made.and_then(|()| Producer::attach(memory, layout)) {
            Ok(producer) => Mutex::new(producer),
            Err(error) => return Ok(Answer::of_access(Err(error), 0)),
        };
        let ring = Ring {
            layout,
            producer,
            consumer: Mutex::new(None),
        };
        let key = self.key(name)?;
        self.env.rings.insert(key, Arc::new(ring));
        Ok(Answer::Done)
    }

    fn ring(&mut self, name: &Name) -> Result<Arc<Ring<'m, A>>, Stop> {
        let key = self.key(name)?;
        let ring = self.env.rings.get(&key).cloned();
        ring.ok_or_else(|| {
            let message = format_args!("there is no ring `{}` now", key_text(&key));
            Invalid::new(name.span, message).into()
        })
    }

    pub(super) fn push(
        &mut self,
        name: &Name,
        data: &Data,
        count: Option<&Expr>,
        wait: bool,
    ) -> Result<Work<'m>, Stop> {
        let ring = self.ring(name)?;
        let bytes = self.bytes(data)?;
        let count = self.eval_option(count)?.unwrap_or(1);
        let mut record = vec![0; ring.layout.record_size() as usize];
        Ok(each(count, wait, move |number| {
            bytes.fill(number * record.len() as u64, &mut record);
            let pushed = lock(&ring.producer).push(&record);
            Ok(match pushed {
                Ok(()) => Answer::Done,
                Err(PushError::Full) => Answer::Errno(Errno::EBUSY),
                Err(PushError::Memory(error)) => Answer::of_access(Err(error), 0),
                // The other end's index cannot be right.
                Err(_) => Answer::Errno(Errno::EIO),
            })
        }))
    }

    pub(super) fn pop(
        &mut self,
        name: &Name,
        data: &[Data],
        count: Option<&Expr>,
        wait: bool,
    ) -> Result<Work<'m>, Stop> {
        let ring = self.ring(name)?;
        let wanted = self.wanted(data)?;
        let count = self.eval_option(count)?.unwrap_or(1);
        let mut record = vec![0; ring.layout.record_size() as usize];
        Ok(each(count, wait, move |number| {
            let popped = match &mut *lock(&ring.consumer) {
                Some(consumer) => consumer.pop(&mut record),
                None => return Ok(Answer::Errno(Errno::EINVAL)),
            };
            match popped {
                Ok(()) => {
                    let at = number * record.len() as u64;
                    let wrong = wanted.difference(at, &record);
                    wrong.map_or(Ok(Answer::Done), Err)
                }
                Err(PopError::Empty) => Ok(Answer::Errno(Errno::EBUSY)),
                Err(PopError::Memory(error)) => Ok(refused(error)),
                // The other end's index cannot be right.
                Err(_) => Ok(Answer::Errno(Errno::EIO)),
            }
        }))
    }

    /// Records that the consumer has not taken, as he sees it.
    pub(super) fn records_in(&mut self, name: &Name) -> Result<Result<u64, String>, Stop> {
        let ring = self.ring(name)?;
        let mut consumer = lock(&ring.consumer);
        Ok(match &mut *consumer {
            Some(consumer) => match consumer.occupied() {
                Ok(records) => Ok(records.into()),
                Err(error) => Err(error.to_string()),
            },
            None => Err("a ring without a consumer".to_owned()),
        })
    }
}

/// Does something for each of `count` records, until one is refused, or waits for the other end.
fn each<'m>(
    count: u64,
    wait: bool,
    mut one: impl FnMut(u64) -> Result<Answer, Difference> + 'm,
) -> Work<'m> {
    let mut number = 0;
    Box::new(move || {
        if number == count {
            return Ok(Part::Done(Answer::Value(count)));
        }
        Ok(match one(number)? {
            Answer::Done => {
                number += 1;
                match number == count {
                    true => Part::Done(Answer::Value(count)),
                    false => Part::Going(format!("{number} of {count} records")),
                }
            }
            Answer::Errno(Errno::EBUSY) if wait => Part::Waiting,
            refused => Part::Done(refused),
        })
    })
}
