//! Step 1: a context opens.

use mmu_core::{AddrRange, BusAddr, DeviceAddr};

use super::failure::{Failure, OrFail, check};
use super::report::Report;
use crate::machine::{Machine, MachineContext, Model};
use hl_mem::profile::LargeHost;

/// A root table, as driver and device have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root {
    /// The address space.
    pub asid: u16,
    /// Where the driver's page table begins.
    pub table: BusAddr,
}

/// An open context.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The user's address space.
    pub asid: u16,
    /// Where host memory is mapped.
    pub pages: AddrRange<DeviceAddr>,
    /// Where large leaves have a range of their own.
    pub large: Option<AddrRange<DeviceAddr>>,
    /// The tables of hop 0: that of the privileged address space, then the user's.
    pub roots: [Root; 2],
    /// Whether tables are in host memory.
    pub host_tables: bool,
}

/// Looks at what opening a context made, and whether the device was told.
///
/// # Errors
///
/// [`Failure::Check`] where the device walks from another table than the driver believes.
pub fn inspect<A: Model>(
    machine: &Machine<'_, '_, A>,
    context: &MachineContext<'_, '_, '_, A>,
) -> Result<Opened, Failure> {
    let privileged = machine
        .device
        .with_privileged_table(&machine.privilege, |table| table.root())
        .or_fail("looking at the privileged table")?;
    let user = context.with_table(|table| table.root());
    let asid = context.asid().get();
    let roots = [
        Root {
            asid: 0,
            table: privileged,
        },
        Root { asid, table: user },
    ];
    for root in roots {
        // Nothing is mapped yet, so that a walk ends where it begins: at the latched root.
        let walk = machine
            .asic
            .explain(root.asid, A::PROFILE.host.range.start());
        let latched = walk.steps.first().map(|step| step.table);
        check(
            latched == Some(root.table),
            format_args!("the device walks asid {} from {latched:?}", root.asid),
        )?;
    }
    Ok(Opened {
        asid,
        pages: A::PROFILE.host.range,
        large: match A::PROFILE.large_host {
            LargeHost::Own(range) => Some(range.range),
            LargeHost::Shared => None,
        },
        roots,
        host_tables: A::PROFILE.host_table_bytes.is_some(),
    })
}

impl Opened {
    /// Prints it.
    pub fn print(&self, report: &Report) {
        report.field("user's ASID", self.asid);
        report.field("addresses", self.pages);
        match self.large {
            Some(range) => report.field("for large leaves", range),
            None => report.field("for large leaves", "the same"),
        }
        let place = if self.host_tables { "host" } else { "device" };
        for root in self.roots {
            let whose = if root.asid == 0 { "privileged" } else { "user" };
            report.field(
                &format!("hop 0 of ASID {}", root.asid),
                format_args!(
                    "{} in {place} memory, latched by the MMU ({whose})",
                    root.table
                ),
            );
        }
    }
}
