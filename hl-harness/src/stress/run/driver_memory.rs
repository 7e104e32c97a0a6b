//! Kernel buffers: blocks, command buffers and timestamps, made, mapped and destroyed.

use core::num::NonZeroU64;

use hl_mem::Wanted;
use hl_mem::handle::RawHandle;
use hl_mem::timestamps::Registered;
use hl_mem::uapi::Errno;

use super::super::model::{Buffer, Expected, Mapping, Memory, Named, Pool};
use super::super::operations::Failure;
use super::super::scribe::Handles;
use super::{Epoch, places};
use crate::{machine, port};

impl<A: machine::Model> Epoch<'_, '_, '_, A> {
    /// What is expected of a new buffer whose pages take so many allocations.
    fn expect_buffer(&self, user: usize, failure: Option<Failure>, allocations: u64) -> Expected {
        let fails = matches!(failure, Some(Failure::Page(nth)) if nth <= allocations);
        let file = &self.model.files[user];
        let full = file.handles.len() >= self.rules.handles
            || self.model.buffers.len() >= self.rules.buffers;
        match full || fails {
            true => Expected::Refused(Errno::ENOMEM),
            false => Expected::Done,
        }
    }

    fn add_buffer(&mut self, buffer: Buffer) -> u64 {
        let name = self.model.name();
        self.model.buffers.insert(name, buffer);
        name
    }

    pub(super) fn add_handle(
        &mut self,
        user: usize,
        handle: RawHandle,
        named: Named,
    ) -> Result<(), String> {
        let handles = &mut self.model.files[user].handles;
        match handles.insert(handle.get(), named) {
            None => Ok(()),
            Some(_) => Err(format!("{handle} names something already")),
        }
    }

    pub(super) fn create_block(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        pages: u64,
    ) -> Result<(), String> {
        let (pages, less) = (1 + pages % 5, (pages >> 32) % self.rules.page);
        let expected = self.expect_buffer(user, failure, pages);
        let expected = Self::announced(expected, failure);
        let quarantined = self.quarantined(user)?;
        let bytes = pages * self.rules.page - less;
        let name = format!("k[{}]", self.summary.steps);
        self.scribe
            .step(format_args!("block u[{user}] {name} {bytes:#x}"));
        let privilege = &self.machine.privilege;
        let got = self.context(user)?.create_block(privilege, bytes);
        let got = got.map_err(Errno::from);
        self.check(expected, failure, &got)?;
        let buffer = Buffer {
            pages,
            ..Buffer::default()
        };
        match got {
            Ok((handle, id)) => {
                let buffer = Buffer {
                    named: true,
                    privileged: true,
                    ..buffer
                };
                self.scribe.made(Handles::Objects, handle.get());
                let range = self.machine.device.block_range(privilege, id);
                if let Ok(range) = range {
                    self.scribe.lies(super::USERS, range.start().get(), name);
                }
                let name = self.add_buffer(buffer);
                self.blocks.insert(name, id);
                self.add_handle(user, handle, Named::Block(name, None))
            }
            Err(Errno::ETIMEDOUT) if self.quarantined(user)?.1 > quarantined.1 => {
                let quarantined = true;
                self.add_buffer(Buffer {
                    quarantined,
                    ..buffer
                });
                Ok(())
            }
            Err(Errno::ETIMEDOUT) => {
                self.model.confirm_blocks();
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// One of the handles of a user.
    pub(super) fn handle(&self, user: usize, which: u64) -> Option<(RawHandle, Named)> {
        let handles = &self.model.files[user].handles;
        let mut all = handles.iter();
        let (handle, named) = all.nth(which as usize % handles.len().max(1))?;
        Some((RawHandle::new(*handle), *named))
    }

    pub(super) fn map_block(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        which: u64,
    ) -> Result<(), String> {
        let Some((handle, named)) = self.handle(user, which) else {
            return Ok(());
        };
        let full = self.model.files[user].mapping_count() >= self.rules.mappings;
        let expected = match named {
            Named::Block(_, None) if full => Expected::Refused(Errno::ENOMEM),
            Named::Block(_, None) => Self::announced(Expected::Done, failure),
            // Mapped already, or no block.
            _ => Expected::Refused(Errno::EINVAL),
        };
        let written = self.scribe.handle(Handles::Objects, handle.get());
        self.scribe.step(format_args!("attach u[{user}] {written}"));
        let privilege = &self.machine.privilege;
        let got = self
            .context(user)?
            .map_block(privilege, handle, Wanted::Anywhere);
        let got = got.map_err(Errno::from);
        self.check(expected, failure, &got)?;
        let name = named.buffer();
        match got {
            Ok(at) => {
                self.scribe.lies(user, at.get(), self.scribe.result());
                self.note_driver_mapping(user, name, at.get())?;
                let named = Named::Block(name, Some(at.get()));
                self.model.files[user].handles.insert(handle.get(), named);
                Ok(())
            }
            Err(Errno::ETIMEDOUT) => {
                self.model.change_buffer(name, |buffer| buffer.holds += 1);
                let memory = Memory::Buffer(name);
                self.note_undone(user, memory)
            }
            Err(_) => Ok(()),
        }
    }

    /// Notes a mapping that the driver made, which has to lie apart from all others.
    fn note_driver_mapping(&mut self, user: usize, name: u64, at: u64) -> Result<(), String> {
        self.model.change_buffer(name, |buffer| buffer.holds += 1);
        let mut mapping = Mapping {
            kept: (at, at),
            start: at,
            memory: Memory::Buffer(name),
        };
        mapping.kept.1 = at + self.model.bytes(&mapping, self.rules);
        let file = &mut self.model.files[user];
        let range = self.rules.host;
        if file.is_taken(mapping.kept) || at < range.0 || mapping.kept.1 > range.1 {
            return Err(format!("{:x?} is not free", mapping.kept));
        }
        file.driver_mappings.insert(at, mapping);
        Ok(())
    }

    pub(super) fn create_command_buffer(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        pages: u64,
        mapped: bool,
    ) -> Result<(), String> {
        let (pages, less) = (1 + pages % 6, (pages >> 32) % self.rules.page);
        let full = self.model.files[user].mapping_count() >= self.rules.mappings;
        let expected = match self.expect_buffer(user, failure, 1) {
            Expected::Done if mapped && full => Expected::Refused(Errno::ENOMEM),
            expected if mapped => Self::announced(expected, failure),
            expected => expected,
        };
        let context = self.context(user)?;
        let bytes = pages * self.rules.page - less;
        let word = if mapped { " mapped" } else { "" };
        self.scribe
            .step(format_args!("cb create u[{user}] {bytes:#x}{word}"));
        let got = context.create_command_buffer(bytes, mapped);
        let got = got.map_err(Errno::from);
        let at = match got {
            Ok(handle) => context
                .command_buffer(handle)
                .map_err(|error| format!("{handle}: {error}"))?
                .mapped_at
                .map(|at| at.get()),
            Err(_) => None,
        };
        self.check(expected, failure, &got)?;
        let buffer = Buffer {
            pages,
            ..Buffer::default()
        };
        match got {
            Ok(handle) => {
                let named = true;
                self.scribe.made(Handles::Objects, handle.get());
                let name = self.add_buffer(Buffer { named, ..buffer });
                if let Some(at) = at {
                    let written = self.scribe.handle(Handles::Objects, handle.get());
                    self.scribe
                        .step(format_args!("cb address u[{user}] {written}"));
                    self.scribe.expected(Expected::Done);
                    self.scribe.lies(user, at, self.scribe.result());
                    self.note_driver_mapping(user, name, at)?;
                }
                if at.is_some() != mapped {
                    return Err(format!("{handle} is mapped at {at:x?}"));
                }
                self.add_handle(user, handle, Named::CommandBuffer(name, at))
            }
            Err(Errno::ETIMEDOUT) => {
                let holds = 1;
                let name = self.add_buffer(Buffer { holds, ..buffer });
                let memory = Memory::Buffer(name);
                self.note_undone(user, memory)
            }
            Err(_) => Ok(()),
        }
    }

    pub(super) fn create_timestamps(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        count: u64,
    ) -> Result<(), String> {
        let count = 1 + count % 600;
        let pages = (count * 8).div_ceil(self.rules.page);
        let expected = match self.model.files[user].pools.len() >= self.rules.pools {
            true => Expected::Refused(Errno::ENOMEM),
            false => self.expect_buffer(user, failure, pages),
        };
        self.scribe.step(format_args!("ts alloc u[{user}] {count}"));
        let got = self.context(user)?.create_timestamps(count);
        let got = got.map_err(Errno::from);
        self.check(expected, failure, &got)?;
        if let Ok(handle) = got {
            self.scribe.made(Handles::Objects, handle.get());
            // The driver writes it, which is a use of its own.
            let name = self.add_buffer(Buffer {
                pages,
                named: true,
                holds: 1,
                ..Buffer::default()
            });
            let pool = Pool {
                slots: count,
                named: true,
                ..Pool::default()
            };
            self.model.files[user].pools.insert(name, pool);
            self.add_handle(user, handle, Named::Timestamps(name))?;
        }
        Ok(())
    }

    /// A time that no other word is.
    fn now(&self) -> NonZeroU64 {
        NonZeroU64::MIN.saturating_add(self.summary.steps << 8 | 0x74)
    }

    pub(super) fn register(
        &mut self,
        user: usize,
        pool: u64,
        slot: u64,
        target: u64,
    ) -> Result<(), String> {
        let pools = self.model.files[user].handles.iter();
        let pools: Vec<(u64, u64)> = pools
            .filter_map(|(handle, named)| match named {
                Named::Timestamps(buffer) => Some((*handle, *buffer)),
                _ => None,
            })
            .collect();
        let Some(&(handle, buffer)) = pools.get(pool as usize % pools.len().max(1)) else {
            return Ok(());
        };
        // Slots that are looked at in views, and some that there may not be.
        let page = self.rules.page;
        let [first, middle, last] = places(page);
        let slots = [
            first / 8,
            middle / 8,
            last / 8,
            page / 8 + first / 8,
            1 << 61,
        ];
        let slot = slots[slot as usize % slots.len()];
        let counter = target % (self.rules.counters + 1);
        let (target, value) = ((target >> 8) % 12, (target >> 32) % 12);
        let now = self.now();
        let written = self.scribe.handle(Handles::Objects, handle);
        self.scribe.step(format_args!(
            "ts register u[{user}] {written} slot {slot} count {counter} target {target} value {value} now {now}"
        ));
        let got = self.context(user)?.register_timestamp(
            RawHandle::new(handle),
            slot,
            (counter, target),
            value,
            now,
        );
        let known = self.model.files[user].pools.get_mut(&buffer);
        let pool = known.ok_or("no such timestamps in the model")?;
        let refused = slot >= pool.slots || counter >= self.rules.counters;
        let expected = match refused {
            true => None,
            false if target <= value => Some(Registered::Reached),
            false => Some(Registered::Pending),
        };
        match expected {
            None => self.scribe.outcome("-> fails"),
            Some(registered) => {
                self.scribe.expected(Expected::Done);
                let reached = u8::from(registered == Registered::Reached);
                let name = self.scribe.result();
                self.scribe.step(format_args!("expect {name} = {reached}"));
            }
        }
        if got.ok() != expected {
            return Err(format!("{got:?} instead of {expected:?}"));
        }
        match expected {
            None => {}
            Some(Registered::Reached) => {
                pool.waiting.remove(&slot);
                self.model.write_slot(buffer, slot, now.get(), page);
            }
            Some(Registered::Pending) => {
                // What it waited for before counts no more.
                pool.waiting.insert(slot, (counter, target));
                self.model.write_slot(buffer, slot, 0, page);
            }
        }
        Ok(())
    }

    pub(super) fn reach(&mut self, user: usize, value: u64) -> Result<(), String> {
        let (counter, value) = (value % self.rules.counters, (value >> 8) % 12);
        let now = self.now();
        self.scribe.step(format_args!(
            "ts reach u[{user}] count {counter} value {value} now {now}"
        ));
        let got = port::counter_interrupt(self.context(user)?, (counter, value), now);
        let page = self.rules.page;
        let expected = self.model.reach(user, counter, value, now.get(), page);
        self.scribe.expected(Expected::Done);
        let name = self.scribe.result();
        self.scribe.step(format_args!("expect {name} = {expected}"));
        // What the thread does that the interrupt wakes.
        self.context(user)?.reap_timestamps();
        self.scribe.step(format_args!("ts reap u[{user}]"));
        match got {
            Ok(reached) if reached == expected => Ok(()),
            other => Err(format!("{other:?} slots were reached, and {expected}")),
        }
    }

    pub(super) fn destroy(
        &mut self,
        user: usize,
        failure: Option<Failure>,
        which: u64,
    ) -> Result<(), String> {
        let Some((handle, named)) = self.handle(user, which) else {
            return Ok(());
        };
        if named == Named::Registers {
            return self.no_destroy(user, handle);
        }
        let context = self.context(user)?;
        let written = self.scribe.handle(Handles::Objects, handle.get());
        let what = match named {
            Named::Block(..) => "destroy",
            Named::CommandBuffer(..) => "cb destroy",
            Named::Timestamps(_) | Named::Registers => "ts destroy",
        };
        self.scribe.step(format_args!("{what} u[{user}] {written}"));
        let (got, mapped) = match named {
            Named::Block(_, at) => (context.destroy_block(handle).map_err(Errno::from), at),
            Named::CommandBuffer(_, at) => (
                context.destroy_command_buffer(handle).map_err(Errno::from),
                at,
            ),
            Named::Timestamps(_) | Named::Registers => (
                context.destroy_timestamps(handle).map_err(Errno::from),
                None,
            ),
        };
        let reaches_device = matches!(named, Named::Block(..)) || mapped.is_some();
        let expected = match reaches_device {
            true => Self::announced(Expected::Done, failure),
            false => Expected::Done,
        };
        self.check(expected, failure, &got)?;
        let is_block = matches!(named, Named::Block(..));
        let kept = is_block && self.quarantined(user)?.1 == self.model.quarantined_blocks() + 1;
        if got.is_ok() && kept {
            return Err("a block that was given up is in quarantine".to_owned());
        }
        let file = &mut self.model.files[user];
        file.handles.remove(&handle.get());
        if let Some(mapping) = mapped.and_then(|at| file.driver_mappings.remove(&at)) {
            file.past.push(mapping.start);
            match got {
                Ok(()) => self.note_confirmed(user, &mapping)?,
                Err(_) => self.note_removed(user, mapping)?,
            }
        }
        self.model.change_buffer(named.buffer(), |buffer| {
            buffer.named = false;
            buffer.privileged = false;
            buffer.quarantined = kept;
        });
        if is_block && !kept {
            self.model.confirm_blocks();
        }
        if let Some(pool) = self.model.files[user].pools.get_mut(&named.buffer()) {
            pool.named = false;
        }
        self.model.end_pools(user);
        self.blocks.remove(&named.buffer());
        Ok(())
    }

    pub(super) fn destroy_nothing(&mut self, user: usize, which: u64) -> Result<(), String> {
        let known = self
            .handle(user, which)
            .map_or(0, |(handle, _)| handle.get());
        let handle = known ^ 1 << (which >> 32 & 63);
        if self.model.files[user].handles.contains_key(&handle) {
            return Ok(());
        }
        self.no_destroy(user, RawHandle::new(handle))
    }

    /// A handle names nothing that can be destroyed by it.
    fn no_destroy(&mut self, user: usize, handle: RawHandle) -> Result<(), String> {
        let context = self.context(user)?;
        let answers = [
            context.destroy_block(handle).map_err(Errno::from),
            context.destroy_command_buffer(handle).map_err(Errno::from),
            context.destroy_timestamps(handle).map_err(Errno::from),
        ];
        for (what, got) in ["destroy", "cb destroy", "ts destroy"].iter().zip(answers) {
            let written = self.scribe.handle(Handles::Objects, handle.get());
            self.scribe.step(format_args!("{what} u[{user}] {written}"));
            self.check(Expected::Refused(Errno::EINVAL), None, &got)?;
        }
        Ok(())
    }
}
