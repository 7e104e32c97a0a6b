//! What can be made and unmade, each in the same shape, so that every failure is tried on all of it.

use hl_harness::asic::{Asic, InitiatorId};
use hl_harness::machine::{MachineView, Model};
use hl_mem::Wanted;
use hl_mem::buffer::BufferId;
use hl_mem::context::DramExport;
use hl_mem::device::{BlockPages, OwnBlockError};
use hl_mem::handle::RawHandle;
use hl_mem::uapi::{Errno, FLAG_CONTIGUOUS, FLAG_SHARED, OP_ALLOC, OP_MAP};
use mmu_core::DeviceAddr;

use crate::rig::{PAGE, Scene};

/// Something that can be made and unmade.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Creation {
    SmallMapping,
    LargeMapping,
    MixedMapping,
    DramMapping,
    Block,
    BlockMapping,
    /// The driver's own, which no handle names.
    OwnBlock,
    /// The same, of one run of pages.
    ContiguousBlock,
    CommandBuffer,
    MappedCommandBuffer,
    Timestamps,
    Export,
    BlockView,
    CommandBufferView,
    TimestampsView,
    RegistersView,
    Dram,
    /// Which other users may map, so that it is scrubbed whoever had it before.
    SharedDram,
}

pub(crate) const ALL: [Creation; 18] = [
    Creation::SmallMapping,
    Creation::LargeMapping,
    Creation::MixedMapping,
    Creation::DramMapping,
    Creation::Block,
    Creation::BlockMapping,
    Creation::OwnBlock,
    Creation::ContiguousBlock,
    Creation::CommandBuffer,
    Creation::MappedCommandBuffer,
    Creation::Timestamps,
    Creation::Export,
    Creation::BlockView,
    Creation::CommandBufferView,
    Creation::TimestampsView,
    Creation::RegistersView,
    Creation::Dram,
    Creation::SharedDram,
];

/// What was made.
pub(crate) enum Made<'m, A: Model> {
    Mapping(u64),
    Object(RawHandle, Option<u64>),
    OwnBlock(BufferId),
    View(MachineView<'m, A>),
    Export(DramExport),
    Pack(u64),
}

impl<A: Model> Made<'_, A> {
    /// Where it is for the device, which is the same whenever it is made again.
    pub(crate) fn address(&self) -> Option<u64> {
        match self {
            Self::Mapping(at) | Self::Object(_, Some(at)) => Some(*at),
            _ => None,
        }
    }
}

/// Some bytes, each on another page, that a creation makes the user's engines reach.
#[derive(Clone, Debug)]
pub(crate) struct Reached {
    initiator: InitiatorId,
    at: Vec<DeviceAddr>,
}

impl Reached {
    /// Accesses them all, as far as they are reached.
    pub(crate) fn access(&self, asic: &Asic) {
        for at in &self.at {
            let _ = asic.read(self.initiator, *at, &mut [0]);
        }
    }

    /// Accesses the first, which must be reached; the others are then known from the line of its
    /// table.
    pub(crate) fn access_first(&self, asic: &Asic) {
        asic.read(self.initiator, self.at[0], &mut [0]).unwrap();
    }

    /// Fails where one of them is still reached.
    pub(crate) fn assert_gone(&self, asic: &Asic, what: &str) {
        for at in &self.at {
            let reached = asic.read(self.initiator, *at, &mut [0]);
            assert!(reached.is_err(), "{what}: {at} is still reached");
        }
    }
}

/// What is made of something that is there already.
pub(crate) type Prepared = Option<RawHandle>;

impl Creation {
    /// Whether the ASIC has such things.
    pub(crate) fn exists<A: Model>(self, scene: &Scene<'_, '_, '_, '_, A>) -> bool {
        match self {
            Self::DramMapping | Self::Export => scene.furniture.dram.is_some(),
            Self::RegistersView => scene.furniture.registers.is_some(),
            _ => true,
        }
    }

    /// What the user's engines reach of it, where it is at a device address of the user.
    pub(crate) fn reached<A: Model>(
        self,
        scene: &Scene<'_, '_, '_, '_, A>,
        address: Option<u64>,
    ) -> Option<Reached> {
        let pages = match self {
            Self::SmallMapping => 9,
            Self::LargeMapping | Self::DramMapping => 1,
            // Of the mixed mapping, the small leaves before the large one.
            Self::MixedMapping | Self::BlockMapping | Self::MappedCommandBuffer => 3,
            _ => return None,
        };
        let address = address?;
        Some(Reached {
            initiator: scene.initiator,
            at: (0..pages)
                .map(|page| DeviceAddr::new(address + page * PAGE))
                .collect(),
        })
    }

    /// Makes what it is made of.
    pub(crate) fn prepare<A: Model>(self, scene: &Scene<'_, '_, '_, '_, A>) -> Prepared {
        (self == Self::BlockMapping).then(|| {
            let created = scene
                .context
                .create_block(&scene.machine.privilege, 3 * PAGE);
            created.unwrap().0
        })
    }

    /// Makes it.
    pub(crate) fn make<'m, A: Model>(
        self,
        scene: &Scene<'_, '_, '_, 'm, A>,
        prepared: Prepared,
    ) -> Result<Made<'m, A>, Errno> {
        let (context, furniture) = (scene.context, &scene.furniture);
        let privilege = &scene.machine.privilege;
        let object = |handle| Made::Object(handle, None);
        let view = |handle, len| {
            let view = context.mmap(handle, len).map(Made::View);
            view.map_err(Errno::from)
        };
        Ok(match self {
            Self::SmallMapping => Made::Mapping(scene.map(scene.small)?),
            Self::LargeMapping => Made::Mapping(scene.map(scene.large)?),
            Self::MixedMapping => Made::Mapping(scene.map(scene.mixed)?),
            Self::DramMapping => Made::Mapping(scene.call([0, furniture.pack, 0], OP_MAP, 0)?),
            Self::Block => object(context.create_block(privilege, 7 * PAGE)?.0),
            Self::OwnBlock | Self::ContiguousBlock => {
                let pages = match self {
                    Self::ContiguousBlock => BlockPages::Contiguous,
                    _ => BlockPages::Scattered,
                };
                let device = &scene.machine.device;
                Made::OwnBlock(device.create_block(privilege, 7 * PAGE, pages)?)
            }
            Self::BlockMapping => {
                let block = prepared.expect("it was prepared");
                let at = context.map_block(privilege, block, Wanted::Anywhere)?;
                Made::Object(block, Some(at.get()))
            }
            Self::CommandBuffer => object(context.create_command_buffer(3 * PAGE, false)?),
            Self::MappedCommandBuffer => {
                let handle = context.create_command_buffer(3 * PAGE, true)?;
                let mapped = context.command_buffer(handle)?.mapped_at;
                Made::Object(handle, mapped.map(|at| at.get()))
            }
            Self::Timestamps => object(context.create_timestamps(600)?),
            Self::Export => {
                let at = furniture.dram.expect("it is mapped");
                Made::Export(context.export_dram(DeviceAddr::new(at), PAGE, PAGE)?)
            }
            Self::BlockView => view(furniture.block, 2 * PAGE)?,
            Self::CommandBufferView => view(furniture.command_buffer, PAGE)?,
            Self::TimestampsView => view(furniture.timestamps, PAGE)?,
            Self::RegistersView => {
                let (handle, bytes) = furniture.registers.expect("there are some");
                view(handle, bytes)?
            }
            Self::Dram => Made::Pack(scene.call([1, 0, 0], OP_ALLOC, FLAG_CONTIGUOUS)?),
            Self::SharedDram => Made::Pack(scene.call([1, 0, 0], OP_ALLOC, FLAG_SHARED)?),
        })
    }

    /// Unmakes it, and what it was made of.
    pub(crate) fn unmake<'m, A: Model>(
        self,
        scene: &Scene<'_, '_, '_, 'm, A>,
        made: Made<'m, A>,
    ) -> Result<(), Errno> {
        let context = scene.context;
        match made {
            Made::Mapping(at) => scene.unmap(at),
            Made::Object(handle, _) => match self {
                Self::Block | Self::BlockMapping => Ok(context.destroy_block(handle)?),
                Self::Timestamps => Ok(context.destroy_timestamps(handle)?),
                _ => Ok(context.destroy_command_buffer(handle)?),
            },
            Made::OwnBlock(block) => {
                let machine = scene.machine;
                let destroyed = machine.device.destroy_block(&machine.privilege, block);
                destroyed.map_err(|error| match error {
                    OwnBlockError::Retire(error) => Errno::from(error),
                    error => panic!("{error}"),
                })
            }
            Made::View(view) => {
                scene.machine.device.end_view(view).unwrap();
                Ok(())
            }
            Made::Export(export) => {
                context.end_export(export).expect("it is of this file");
                Ok(())
            }
            Made::Pack(handle) => scene.free(handle),
        }
    }
}
