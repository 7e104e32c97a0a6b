//! A small machine with a file that has one of everything, and the storage of a file in any size.

use std::sync::Arc;

use hl_harness::asic::{InitiatorId, InitiatorMode};
use hl_harness::host::{Permission, Process, UserAddress};
use hl_harness::log::EventLog;
use hl_harness::machine::{
    HarnessPort, Machine, MachineConfig, MachineContext, Model, USER_REGISTERS, with_machine,
};
use hl_harness::stress::Snapshot;
use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::context::{
    ContextStorage, MappingSlot, Object, OpenError, TimestampPlace, TimestampStorage,
};
use hl_mem::device::SpaceNodes;
use hl_mem::handle::{HandleSlot, RawHandle};
use hl_mem::timestamps::{CounterSlot, TimestampSlot, WaitSlot};
use hl_mem::uapi::{self, Errno, FLAG_USERPTR, MemoryInput, OP_ALLOC, OP_FREE, OP_MAP, OP_UNMAP};
use hl_mem::va::Node;

pub(crate) const PAGE: u64 = 4096;
pub(crate) const LARGE: u64 = 2 << 20;

#[path = "../support/each_asic.rs"]
mod each_asic;
pub(crate) use each_asic::on_each_asic;

#[path = "../support/long.rs"]
mod long;

/// How far to go from the n-th occasion to the next that is tried, where there are hundreds of the same
/// kind: each of them when tests go all the way.
pub(crate) fn sparse(nth: u64) -> u64 {
    if long::is_long() || nth < 24 { 1 } else { 13 }
}

/// The same for accesses to the device, of which few are unlike the one before, and each of which that is
/// tried takes a reset.
pub(crate) fn wide(nth: u64) -> u64 {
    match (long::is_long(), nth) {
        (true, _) | (_, 0..4) => 1,
        _ => 11,
    }
}

/// Small, because each failure is followed by a look at all of it; and with hardly a place to spare, so
/// that one that is lost is missed soon, whether or not it is counted.
pub(crate) fn config() -> MachineConfig {
    MachineConfig {
        frames: 2560,
        tables: 48,
        users: 2,
        buffers: 6,
        ..MachineConfig::default()
    }
}

pub(crate) fn machine<A: Model>(
    config: MachineConfig,
    run: impl for<'s, 'm> FnOnce(&Machine<'s, 'm, A>),
) {
    with_machine::<A, _>(config, EventLog::new(), |machine| {
        run(machine);
        let statistics = machine.host.statistics();
        let stray = statistics.free_accesses + statistics.unpinned_accesses;
        assert_eq!(stray + statistics.unmapped_accesses, 0);
        assert_eq!(machine.host.damaged_free_frames(), []);
    })
    .expect("the machine has memory");
}

/// How many of each an open file has room for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) nodes: [usize; 3],
    pub(crate) mappings: usize,
    pub(crate) handles: usize,
    pub(crate) pools: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            nodes: [32; 3],
            mappings: 6,
            handles: 6,
            pools: 2,
        }
    }
}

impl Room {
    /// For everything at once.
    pub(crate) const ROOMY: Self = Self {
        nodes: [32; 3],
        mappings: 16,
        handles: 16,
        pools: 3,
    };
}

/// The storage of a file of any size.
pub(crate) struct Storage<'m, A: Model> {
    nodes: [usize; 3],
    mappings: Vec<MappingSlot<HarnessPort<'m, A>>>,
    handles: Vec<HandleSlot<Object>>,
    pools: Vec<TimestampPlace<HarnessPort<'m, A>>>,
    waits: Vec<WaitSlot>,
    counters: Vec<CounterSlot>,
}

impl<'m, A: Model> Storage<'m, A> {
    pub(crate) fn new(room: Room) -> Self {
        let pool = |_| {
            let slots = (0..600).map(|_| TimestampSlot::new());
            TimestampPlace::new(slots.collect())
        };
        Self {
            nodes: room.nodes,
            mappings: (0..room.mappings).map(|_| MappingSlot::new()).collect(),
            handles: (0..room.handles).map(|_| HandleSlot::new()).collect(),
            pools: (0..room.pools).map(pool).collect(),
            waits: (0..4).map(|_| WaitSlot::new()).collect(),
            counters: vec![CounterSlot::new(); 4],
        }
    }

    pub(crate) fn open<'c, 's>(
        &'c mut self,
        machine: &'c Machine<'s, 'm, A>,
        process: &Arc<Process>,
        budget: &'c Budget,
    ) -> Result<MachineContext<'c, 's, 'm, A>, OpenError> {
        let [small, large, dram] = self.nodes.map(|count| vec![Node::EMPTY; count]);
        let storage = ContextStorage {
            nodes: SpaceNodes { small, large, dram },
            mappings: &mut self.mappings,
            handles: &mut self.handles,
            timestamps: TimestampStorage {
                pools: &mut self.pools,
                waits: &mut self.waits,
                counters: &mut self.counters,
            },
        };
        machine.device.open(Arc::clone(process), budget, storage)
    }
}

/// A file that has one of everything, so that what fails has neighbours that it could harm.
pub(crate) struct Scene<'a, 'c, 's, 'm, A: Model> {
    pub(crate) machine: &'a Machine<'s, 'm, A>,
    pub(crate) context: &'a MachineContext<'c, 's, 'm, A>,
    pub(crate) budget: &'c Budget,
    /// Nine scattered pages, the first and the last of which are used in part.
    pub(crate) small: (UserAddress, u64),
    /// One piece for a large leaf.
    pub(crate) large: (UserAddress, u64),
    /// Small leaves, a large one, small leaves.
    pub(crate) mixed: (UserAddress, u64),
    pub(crate) furniture: Furniture,
    /// The device working for the user.
    pub(crate) initiator: InitiatorId,
}

/// What the file of a scene has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Furniture {
    pub(crate) block: RawHandle,
    pub(crate) command_buffer: RawHandle,
    pub(crate) timestamps: RawHandle,
    /// Registers, where the ASIC has some for users.
    pub(crate) registers: Option<(RawHandle, u64)>,
    pub(crate) pack: u64,
    /// Where that is mapped, if the ASIC maps it.
    pub(crate) dram: Option<u64>,
}

impl Furniture {
    /// Nothing but a piece of device memory, which is as good as mapped for what asks whether it can be.
    pub(crate) fn bare<A: Model>(pack: u64) -> Self {
        let nothing = RawHandle::new(0);
        Self {
            block: nothing,
            command_buffer: nothing,
            timestamps: nothing,
            registers: None,
            pack,
            dram: A::PROFILE.dram.mapped_at.map(|_| 0),
        }
    }
}

impl<A: Model> Scene<'_, '_, '_, '_, A> {
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::of(self.machine, &[self.context], &[self.budget])
    }

    /// What is in quarantine: mappings of the file and buffers of the device.
    pub(crate) fn quarantined(&self) -> u32 {
        let buffers = self.machine.device.usage().buffers.quarantined;
        self.context.usage().quarantined + buffers
    }

    /// Settles all that is in quarantine.
    pub(crate) fn settle(&self) -> Result<(), ()> {
        let buffers = self.machine.device.settle_quarantine();
        let mappings = self.context.settle_quarantine();
        buffers.map_err(drop).and(mappings.map_err(drop))
    }

    pub(crate) fn call(&self, arguments: [u64; 3], op: u32, flags: u32) -> Result<u64, Errno> {
        call(self.context, arguments, op, flags)
    }

    pub(crate) fn map(&self, (address, len): (UserAddress, u64)) -> Result<u64, Errno> {
        self.call([address.get(), 0, len], OP_MAP, FLAG_USERPTR)
    }

    pub(crate) fn unmap(&self, at: u64) -> Result<(), Errno> {
        self.call([at, 0, 0], OP_UNMAP, 0).map(drop)
    }

    pub(crate) fn free(&self, handle: u64) -> Result<(), Errno> {
        self.call([handle, 0, 0], OP_FREE, 0).map(drop)
    }
}

pub(crate) fn call<A: Model>(
    context: &MachineContext<'_, '_, '_, A>,
    arguments: [u64; 3],
    op: u32,
    flags: u32,
) -> Result<u64, Errno> {
    let input = MemoryInput {
        arguments,
        op,
        flags,
        ..MemoryInput::default()
    };
    uapi::dispatch(context, &input.to_bytes()).map(|reply| reply.value)
}

/// Builds a scene on a machine, calls `run` with it, closes the file, and compares the machine with
/// what it was before.
pub(crate) fn with_scene<A: Model>(
    machine: &Machine<'_, '_, A>,
    room: Room,
    run: impl FnOnce(&Scene<'_, '_, '_, '_, A>),
) {
    let budget = Budget::unlimited();
    let before = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    let process = machine.spawn();
    let mut storage = Storage::new(room);
    let context = storage.open(machine, &process, &budget).unwrap();
    furnish(machine, &context, &process, &budget, run);
    context.close().unwrap();
    drop(process);
    let after = Snapshot::of(machine, &[], &[&budget]).without_dirt();
    after.assert_is(&before, "after closing the scene");
}

/// The device working for the user.
pub(crate) fn initiator<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
) -> InitiatorId {
    let mode = InitiatorMode::User(context.asid().get());
    machine.asic.add_initiator("sweep", mode)
}

/// Gives a file one of everything and calls `run` with the scene.
pub(crate) fn furnish<'c, 's, 'm, A: Model>(
    machine: &Machine<'s, 'm, A>,
    context: &MachineContext<'c, 's, 'm, A>,
    process: &Arc<Process>,
    budget: &'c Budget,
    run: impl FnOnce(&Scene<'_, 'c, 's, 'm, A>),
) {
    // Before others scatter their pages over all of memory.
    let huge = process
        .map_contiguous(2 * 512, 512, Permission::ReadWrite)
        .unwrap();
    let scattered = process.map(9, Permission::ReadWrite).unwrap();
    let own = process.map(2, Permission::ReadWrite).unwrap();
    let map = [own.get(), 0, 2 * PAGE];
    let (block, _) = context.create_block(&machine.privilege, 2 * PAGE).unwrap();
    context
        .map_block(&machine.privilege, block, Wanted::Anywhere)
        .unwrap();
    let pack = call(context, [1, 0, 0], OP_ALLOC, 0).unwrap();
    let dram = A::PROFILE.dram.mapped_at;
    call(context, map, OP_MAP, FLAG_USERPTR).unwrap();
    let furniture = Furniture {
        block,
        command_buffer: context.create_command_buffer(PAGE, true).unwrap(),
        timestamps: context.create_timestamps(10).unwrap(),
        registers: context.register_block(USER_REGISTERS).ok(),
        pack,
        dram: dram.map(|_| call(context, [0, pack, 0], OP_MAP, 0).unwrap()),
    };
    run(&Scene {
        machine,
        context,
        budget,
        small: (scattered.offset(100), 8 * PAGE),
        large: (huge, LARGE),
        mixed: (huge.offset(LARGE - 3 * PAGE), LARGE + 3 * PAGE),
        furniture,
        initiator: initiator(machine, context),
    });
}
