//! Steps 2 and 3: the driver's block, and its user's view of it.

use hl_mem::buffer::BufferId;
use hl_mem::handle::RawHandle;
use hl_mem::ring::BlockLayout;
use mmu_core::{AddrRange, DeviceAddr};

use super::failure::{Failure, OrFail, check};
use super::report::{Report, bytes, count};
use crate::asic::InitiatorMode;
use crate::block_access::DeviceBlock;
use crate::host::{FRAME_SIZE, UserAddress, ViewError};
use crate::log::Event;
use crate::machine::{Machine, MachineContext, MachineView, Model};

/// A block in the privileged address space.
#[derive(Clone, Debug)]
pub struct Created {
    /// What the user knows.
    pub handle: RawHandle,
    /// What the driver knows.
    pub block: BufferId,
    /// Where the device finds it.
    pub range: AddrRange<DeviceAddr>,
    /// What lies where in it.
    pub layout: BlockLayout,
    /// Its pages.
    pub pages: u64,
    /// Pieces of contiguous bus addresses that its pages are in.
    pub runs: u64,
    /// Leaves by which it is mapped.
    pub leaves: u64,
    /// Page tables that were taken for it.
    pub tables: u32,
    /// Invalidations it took, counted per unit of the MMU.
    pub invalidations: u64,
}

/// Has the driver allocate a block, map it and write its header.
///
/// # Errors
///
/// [`Failure::Check`] where hl-mem refuses, or device and driver see different pages.
pub fn create<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
    layout: BlockLayout,
    block_bytes: u64,
) -> Result<Created, Failure> {
    let tables = machine.counters().tables;
    let invalidations = machine.asic.counters().invalidations_done;
    let (handle, block) = context
        .create_block(&machine.privilege, block_bytes)
        .or_fail("creating the block")?;
    let range = machine
        .device
        .block_range(&machine.privilege, block)
        .or_fail("finding the block")?;
    machine.log.record(Event::Map {
        asid: 0,
        address: range.start(),
        len: range.len(),
    });
    let (mut leaves, mut runs, mut end) = (0, 0, None);
    let mut offset = 0;
    while let Some(rest) = range.skip(offset) {
        let driver = machine
            .device
            .with_privileged_table(&machine.privilege, |table| table.query(rest.start()))
            .or_fail("looking at the driver's table")?
            .or_fail("asking the driver's table")?;
        let device = machine.asic.explain(0, rest.start()).outcome;
        check(
            device == Ok(driver.bus),
            format_args!("{}: driver and device disagree", rest.start()),
        )?;
        leaves += 1;
        runs += u64::from(end != Some(driver.bus));
        end = driver.bus.checked_add(driver.leaf.len());
        offset += driver.leaf.len();
    }
    let firmware = machine
        .asic
        .add_initiator("driver", InitiatorMode::Privileged);
    let mut memory = DeviceBlock::new(&machine.asic, firmware, range.start());
    layout
        .initialize(&mut memory, 0)
        .or_fail("writing the block's header")?;
    Ok(Created {
        handle,
        block,
        range,
        layout,
        pages: range.len() / FRAME_SIZE as u64,
        runs,
        leaves,
        tables: machine.counters().tables - tables,
        invalidations: machine.asic.counters().invalidations_done - invalidations,
    })
}

impl Created {
    /// Prints it, but for the handle.
    pub fn print(&self, report: &Report) {
        report.field(
            "kernel pages",
            format_args!(
                "{}, zeroed, in {} of bus addresses",
                count(self.pages, "page"),
                count(self.runs, "run")
            ),
        );
        report.field("mapped at", format_args!("{} under ASID 0", self.range));
        report.field(
            "page tables",
            format_args!(
                "{} in {} more",
                leaf_count(self.leaves, self.range.len() / self.leaves),
                count(self.tables.into(), "table")
            ),
        );
        report.field(
            "invalidation",
            format_args!("{}, confirmed by the MMU", self.invalidations),
        );
        report.field(
            "registered",
            "as the driver's; users' requests are looked up elsewhere",
        );
        report.field(
            "ring",
            format_args!(
                "{} of {}, header written by device address",
                count(self.layout.capacity().into(), "record"),
                bytes(self.layout.record_size().into())
            ),
        );
    }
}

fn leaf_count(number: u64, size: u64) -> String {
    let plural = if number == 1 { "leaf" } else { "leaves" };
    format!(
        "{} {plural} of {}",
        super::report::grouped(number),
        bytes(size)
    )
}

/// A block as its user has it.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// All that the user was given.
    pub handle: RawHandle,
    /// Bytes.
    pub len: u64,
    /// Where the process has it.
    pub address: UserAddress,
    /// Pieces that the system maps to make the view.
    pub pieces: usize,
}

/// Maps the block into the process, by its handle, and checks the rights of each page.
///
/// # Errors
///
/// [`Failure::Check`] where hl-mem refuses, or a page has other rights than it is to have.
pub fn show<'m, A: Model>(
    context: &MachineContext<'_, '_, 'm, A>,
    created: &Created,
) -> Result<(MachineView<'m, A>, Shown), Failure> {
    let len = created.range.len();
    let mapped = context
        .mmap(created.handle, len)
        .or_fail("mapping the handle")?;
    let view = mapped.view().view();
    let index = view.load_u32(0).or_fail("reading the consumer's index")?;
    view.store_u32(0, index)
        .or_fail("writing the consumer's index")?;
    for page in 1..view.frames().len() {
        let offset = page * FRAME_SIZE;
        check(
            view.store_u32(offset, 0) == Err(ViewError::ReadOnly { offset }),
            format_args!("page {page} of the view is not read-only"),
        )?;
    }
    let pieces = view
        .frames()
        .chunk_by(|a, b| a.number() + 1 == b.number())
        .count();
    let shown = Shown {
        handle: created.handle,
        len,
        address: mapped.view().address(),
        pieces,
    };
    Ok((mapped, shown))
}

impl Shown {
    /// Prints it.
    pub fn print(&self, report: &Report) {
        report.field(
            "handle",
            format_args!("{:#018x}, all the user is given", self.handle.get()),
        );
        report.field(
            "mmap checks",
            format_args!("kind, generation, file, length (exactly {:#x})", self.len),
        );
        report.field(
            "user's view",
            format_args!(
                "{} at user address {}, the same pages in {}",
                bytes(self.len),
                self.address,
                count(self.pieces as u64, "piece")
            ),
        );
        report.field(
            "rights",
            "page 0 (consumer's index) read and write; all others read only",
        );
    }
}
