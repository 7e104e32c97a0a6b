//! Step 5: memory of the user, by the user's own request.

use std::sync::Arc;

use hl_mem::budget::Budget;
use hl_mem::uapi::{self, FLAG_USERPTR, MemoryInput, MemoryOutput, OP_MAP, OP_UNMAP};
use mmu_core::{BusAddr, DeviceAddr, Run};

use super::failure::{Failure, OrFail, check};
use super::report::{Report, bytes, count, grouped};
use crate::asic::{AccessError, Asic, Fault, FaultReason, InitiatorId, InitiatorMode};
use crate::host::{FRAME_SIZE, Permission, Process, UserAddress};
use crate::log::Event;
use crate::machine::{Machine, MachineContext, Model};

/// Pages of the user's memory: enough for two large leaves and small ones on both sides.
const PAGES: u64 = 1 + 1024 + 7;
/// Pages of 4 KiB in a large one.
const LARGE_PAGE: usize = 512;
/// Where the user's range begins within its first page, and ends before its last one's end.
const CUT: u64 = 100;
/// Bytes of the user's range.
pub const BYTES: u64 = PAGES * FRAME_SIZE as u64 - 2 * CUT;

/// A DMA engine of the user between device memory and the user's addresses. Its side of device
/// memory is programmed by the driver and by physical address, since the user's address space does
/// not have it.
#[derive(Debug)]
pub struct UserEngine {
    asic: Arc<Asic>,
    memory: InitiatorId,
    user: InitiatorId,
}

impl UserEngine {
    /// An engine of the user with this ASID.
    #[must_use]
    pub fn new(asic: &Arc<Asic>, asid: hl_mem::UserAsid) -> Self {
        Self {
            asic: Arc::clone(asic),
            memory: asic.add_initiator("user dma, device memory", InitiatorMode::Bypass),
            user: asic.add_initiator("user dma", InitiatorMode::User(asid.get())),
        }
    }

    /// The initiator that accesses the user's addresses.
    #[must_use]
    pub fn initiator(&self) -> InitiatorId {
        self.user
    }

    /// Copies device memory to the user's memory.
    ///
    /// # Errors
    ///
    /// The first fault of either side.
    pub fn copy_out(&self, from: BusAddr, to: DeviceAddr, len: u64) -> Result<(), AccessError> {
        let from = DeviceAddr::new(from.get());
        self.copy((self.memory, from), (self.user, to), len)
    }

    /// Copies the user's memory to device memory.
    ///
    /// # Errors
    ///
    /// The first fault of either side.
    pub fn copy_in(&self, from: DeviceAddr, to: BusAddr, len: u64) -> Result<(), AccessError> {
        let to = DeviceAddr::new(to.get());
        self.copy((self.user, from), (self.memory, to), len)
    }

    fn copy(
        &self,
        from: (InitiatorId, DeviceAddr),
        to: (InitiatorId, DeviceAddr),
        len: u64,
    ) -> Result<(), AccessError> {
        let mut buffer = vec![0; 64 << 10];
        let mut done = 0;
        while done < len {
            let count = (len - done).min(buffer.len() as u64);
            let piece = &mut buffer[..count as usize];
            let at = |start: DeviceAddr| DeviceAddr::new(start.get().wrapping_add(done));
            self.asic.read(from.0, at(from.1), piece)?;
            self.asic.write(to.0, at(to.1), piece)?;
            done += count;
        }
        Ok(())
    }
}

/// Mapped memory of the user.
#[derive(Clone, Debug)]
pub struct UserMap {
    /// Where the process has it.
    pub address: UserAddress,
    /// Where the device has it.
    pub at: DeviceAddr,
    /// The request, as the process passed it.
    pub request: MemoryInput,
    /// Pins on pages.
    pub pins: u64,
    /// Pages charged to the user's budget.
    pub charged: usize,
    /// Leaves by size.
    pub leaves: Vec<(u64, u64)>,
    /// Pages that the host moved as soon as it could.
    pub moved: usize,
}

/// Makes memory of a process, [`BYTES`] of it, in one piece from the last page of a large one on.
/// Pages in one piece are rare once others have taken theirs: make it first.
///
/// # Errors
///
/// [`Failure::Check`] where the host has no such piece.
pub fn make_memory(process: &Process) -> Result<UserAddress, Failure> {
    let before = LARGE_PAGE - 1;
    let memory = process
        .map_contiguous(before + PAGES as usize, LARGE_PAGE, Permission::ReadWrite)
        .or_fail("making user memory")?;
    Ok(memory.offset((before * FRAME_SIZE) as u64 + CUT))
}

/// Has the process of a context ask for memory of [`make_memory`] to be mapped, by the bytes of the
/// request.
///
/// # Errors
///
/// [`Failure::Check`] where it is refused.
pub fn map<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    budget: &Budget,
    address: UserAddress,
) -> Result<UserMap, Failure> {
    let before = (machine.host.counters().pins, budget.charged());
    let request = MemoryInput {
        arguments: [address.get(), 0, BYTES],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    let reply = uapi::dispatch(context, &request.to_bytes()).or_fail("MAP of user memory")?;
    let at = DeviceAddr::new(reply.value);
    machine.log.record(Event::Map {
        asid: context.asid().get(),
        address: at,
        len: BYTES,
    });
    let mut leaves: Vec<(u64, u64)> = Vec::new();
    let mut next = at;
    while next.get() - at.get() < BYTES {
        let leaf = context
            .with_table(|table| table.query(next))
            .or_fail("asking the user's table")?
            .leaf;
        match leaves.iter_mut().find(|(size, _)| *size == leaf.len()) {
            Some((_, number)) => *number += 1,
            None => leaves.push((leaf.len(), 1)),
        }
        next = leaf
            .end()
            .ok_or_else(|| Failure::check("the last leaf ends at 2^64"))?;
    }
    Ok(UserMap {
        address,
        at,
        request,
        pins: machine.host.counters().pins - before.0,
        charged: budget.charged() - before.1,
        leaves,
        moved: machine.host.reclaim(),
    })
}

impl UserMap {
    /// Prints it.
    pub fn print(&self, report: &Report) {
        report.field(
            "request",
            format_args!(
                "MAP of {} at user address {:#x}: {} in, {} out",
                bytes(BYTES),
                self.address.get(),
                count(MemoryInput::BYTES as u64, "byte"),
                MemoryOutput::BYTES
            ),
        );
        report.field(
            "pinned",
            format_args!(
                "{}, charged {}",
                count(self.pins, "page"),
                grouped(self.charged as u64)
            ),
        );
        let leaves = self.leaves.iter();
        let leaves = leaves.map(|(size, number)| format!("{number} of {}", bytes(*size)));
        report.field(
            "mapped at",
            format_args!(
                "{}, leaves: {}",
                self.at,
                leaves.collect::<Vec<_>>().join(", ")
            ),
        );
        report.field(
            "host under pressure",
            format_args!(
                "{} moved away; pinned ones stay",
                count(self.moved as u64, "page")
            ),
        );
    }
}

/// What the DMA moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Bytes, each way.
    pub bytes: u64,
}

/// Copies device memory to the user's memory, and from there to another place of device memory.
/// `memory` has room for both.
///
/// # Errors
///
/// [`Failure::Check`] where the contents differ or the device faults.
pub fn copy_there_and_back<A: Model>(
    machine: &Machine<'_, '_, A>,
    process: &Process,
    engine: &UserEngine,
    mapped: &UserMap,
    memory: Run,
) -> Result<Copied, Failure> {
    let too_small = || Failure::check("the device memory is too small");
    let from = memory.start();
    let back = memory.skip(BYTES).ok_or_else(too_small)?.start();
    // Bytes that repeat at no power of two, so that pages in the wrong place show.
    let data: Vec<u8> = (0..BYTES).map(|at| (at * 31 % 251) as u8).collect();
    check(machine.asic.poke(from, &data), "no device memory to copy")?;
    engine
        .copy_out(from, mapped.at, BYTES)
        .or_fail("DMA to the user's memory")?;
    let mut found = vec![0; BYTES as usize];
    process
        .read(mapped.address, &mut found)
        .or_fail("the process reads its memory")?;
    check(found == data, "the user's memory is not what was copied")?;
    engine
        .copy_in(mapped.at, back, BYTES)
        .or_fail("DMA from the user's memory")?;
    found.fill(0);
    check(
        machine.asic.peek(back, &mut found),
        "no device memory to look at",
    )?;
    check(found == data, "the device memory is not what was copied")?;
    Ok(Copied { bytes: BYTES })
}

/// What came of an access after the memory was unmapped.
#[derive(Clone, Copy, Debug)]
pub struct Unmapped {
    /// The device's fault.
    pub fault: Fault,
    /// The same fault, as the driver read it from the MMU's registers.
    pub captured: hl_mem::mmu::Fault,
}

/// Unmaps the user's memory by request and has the device try it once more.
///
/// # Errors
///
/// [`Failure::Check`] where the request is refused, or the device still reaches the memory.
pub fn unmap<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    engine: &UserEngine,
    mapped: &UserMap,
) -> Result<Unmapped, Failure> {
    unmap_only(machine, context, mapped)?;
    while take_fault(machine)?.is_some() {}
    let error = machine
        .asic
        .write(engine.initiator(), mapped.at, b"too late")
        .err();
    let fault = error
        .and_then(|error| error.fault())
        .ok_or_else(|| Failure::check("the device still reaches unmapped memory"))?;
    check(
        fault.asid == context.asid().get() && fault.address == mapped.at,
        format_args!("the fault is another one: {fault}"),
    )?;
    check(
        matches!(fault.reason, FaultReason::NotPresent { .. }),
        format_args!("the fault is of another kind: {fault}"),
    )?;
    let captured = take_fault(machine)?
        .ok_or_else(|| Failure::check("the driver finds no fault in the registers"))?;
    Ok(Unmapped { fault, captured })
}

fn take_fault<A: Model>(
    machine: &Machine<'_, '_, A>,
) -> Result<Option<hl_mem::mmu::Fault>, Failure> {
    use hl_mem::mmu::MmuControl;
    machine
        .device
        .with_mmu(|mmu| mmu.take_fault())
        .or_fail("reading the MMU's fault registers")
}

/// Unmaps the user's memory by request.
///
/// # Errors
///
/// [`Failure::Check`] where it is refused.
pub fn unmap_only<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    mapped: &UserMap,
) -> Result<(), Failure> {
    let request = MemoryInput {
        arguments: [mapped.at.get(), 0, 0],
        op: OP_UNMAP,
        ..MemoryInput::default()
    };
    let outcome = uapi::dispatch(context, &request.to_bytes());
    let (asid, address, len) = (context.asid().get(), mapped.at, BYTES);
    machine.log.record(match outcome {
        Ok(_) => Event::Release { asid, address, len },
        Err(_) => Event::Quarantine { asid, address, len },
    });
    outcome.map(drop).or_fail("UNMAP of user memory")
}

impl Unmapped {
    /// Prints it.
    pub fn print(&self, report: &Report) {
        report.field(
            "UNMAP, one more write",
            format_args!(
                "fault in ASID {} at {}: {}, {}",
                self.fault.asid, self.fault.address, self.fault.access, self.fault.reason
            ),
        );
        report.field("driver reads", self.captured);
    }
}
