//! A machine with a few mappings, and what is known of it.

use hl_harness::asic::{InitiatorId, InitiatorMode};
use hl_harness::host::Permission;
use hl_harness::inspect::State;
use hl_harness::log::{Event, EventLog};
use hl_harness::machine::{Machine, MachineConfig, MachineContext, Model, with_machine};
use hl_harness::scenario::words::AsicWord;
use hl_mem::budget::Budget;
use hl_mem::uapi::{self, FLAG_USERPTR, MemoryInput, OP_ALLOC, OP_MAP, OP_UNMAP};
use mmu_core::{BusAddr, DeviceAddr};

pub(crate) const PAGE: u64 = 4096;
pub(crate) const PARTS: [AsicWord; 4] = [
    AsicWord::Goya,
    AsicWord::Gaudi,
    AsicWord::Gaudi2,
    AsicWord::Gaudi2Five,
];

#[path = "../support/each_asic.rs"]
mod each_asic;
pub(crate) use each_asic::on_each_asic;

/// The user of a machine.
pub(crate) struct User<'a, 'c, 's, 'm, A: Model> {
    pub(crate) machine: &'a Machine<'s, 'm, A>,
    pub(crate) context: &'a MachineContext<'c, 's, 'm, A>,
    pub(crate) process: &'a hl_harness::host::Process,
    pub(crate) engine: InitiatorId,
}

impl<A: Model> User<'_, '_, '_, '_, A> {
    pub(crate) fn request(&self, arguments: [u64; 3], op: u32, flags: u32) -> u64 {
        let input = MemoryInput {
            arguments,
            op,
            flags,
            ..MemoryInput::default()
        };
        uapi::dispatch(self.context, &input.to_bytes())
            .unwrap()
            .value
    }

    /// Maps fresh pages, scattered, or in one piece that begins `before` pages before a large one.
    pub(crate) fn map(&self, pages: u64, before: Option<u64>) -> u64 {
        let memory = match before {
            None => self.process.map(pages as usize, Permission::ReadWrite),
            Some(before) => self
                .process
                .map_contiguous((pages + 512) as usize, 512, Permission::ReadWrite)
                .map(|memory| memory.offset((512 - before) * PAGE)),
        };
        self.request(
            [memory.unwrap().get(), 0, pages * PAGE],
            OP_MAP,
            FLAG_USERPTR,
        )
    }

    /// Maps so many pages of device memory; `None` where the ASIC does not map it.
    pub(crate) fn map_device_memory(&self, pages: u64) -> Option<u64> {
        A::PROFILE.dram.mapped_at?;
        let bytes = pages * A::PROFILE.dram.page_bytes;
        let pack = self.request([bytes, 0, 0], OP_ALLOC, 0);
        Some(self.request([0, pack, 0], OP_MAP, 0))
    }

    pub(crate) fn unmap(&self, at: u64) {
        self.request([at, 0, 0], OP_UNMAP, 0);
    }

    pub(crate) fn asid(&self) -> u16 {
        self.context.asid().get()
    }

    pub(crate) fn state(&self) -> State {
        State::capture("test", self.machine, &[self.context])
    }

    /// Has the device read one byte; where its translation led, or its fault.
    pub(crate) fn device_reads(
        &self,
        at: DeviceAddr,
    ) -> Result<BusAddr, hl_harness::asic::FaultReason> {
        let mark = self.machine.log.mark();
        match self.machine.asic.read(self.engine, at, &mut [0]) {
            Ok(()) => {
                let translated = self
                    .machine
                    .log
                    .find(mark, |event| matches!(event, Event::DmaTranslate { .. }));
                match translated.unwrap().event {
                    Event::DmaTranslate { bus, .. } => Ok(bus),
                    other => panic!("{other}"),
                }
            }
            Err(error) => Err(error.fault().unwrap().reason),
        }
    }

    /// Writes an entry into table memory, behind the driver's back.
    pub(crate) fn plant(&self, memory: hl_harness::log::TableMemory, at: BusAddr, entry: u64) {
        match memory {
            hl_harness::log::TableMemory::Device => {
                assert!(self.machine.asic.poke(at, &entry.to_le_bytes()));
            }
            hl_harness::log::TableMemory::Host => self.machine.host.store_u64(at, entry).unwrap(),
        }
    }
}

/// A machine with one user and a block of five pages.
pub(crate) fn with_user<A: Model>(run: impl FnOnce(&User<'_, '_, '_, '_, A>)) {
    with_machine::<A, _>(MachineConfig::default(), EventLog::recording(), |machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        context.create_block(&machine.privilege, 5 * PAGE).unwrap();
        let mode = InitiatorMode::User(context.asid().get());
        run(&User {
            machine,
            context: &context,
            process: &process,
            engine: machine.asic.add_initiator("test", mode),
        });
        context.close().unwrap();
    })
    .unwrap();
}
