//! Files and their device, on ports of the smallest one's parts: what is said to be in use, what comes
//! back, and what stays where the device, its MMU or its engines do not answer.

mod blocks;
mod closing;
mod inspect;
mod kinds;
mod malformed;
mod own_blocks;
mod seats;
/// Ports of the parts of the smallest one, which the guide shows.
#[path = "../support/mod.rs"]
pub mod support;

use hl_mem::profile::{Asic, Gaudi2};
use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_MAP, dispatch};
use hl_mem::{Context, Device, Port};
use mmu_core::{DeviceAddr, Region, Word};

use support::smallest_port::{NoEngines, USER_BASE};
use support::{ArenaTables, InOrder, NoCache, TestPort, arena_tables, parts};

/// Tables in the memory of the host.
type Tables = ArenaTables<Region<'static, Word>>;

/// Two MMUs, each with tables of its own.
type TwoMmus = TestPort<NoCache, Tables, NoEngines, InOrder, NoCache, Tables>;

/// A device for one user, with these MMUs of host memory and of device memory.
fn two_mmus(host: NoCache, dram: NoCache) -> Device<'static, Gaudi2<6>, TwoMmus> {
    let tables = || arena_tables(64, |region| region);
    let parts = parts(tables(), NoEngines, 1);
    let dram_mmu = Some((tables(), |_parking| dram));
    let (device, _privilege) = Device::with_dram_mmu(parts, |_parking| host, dram_mmu).unwrap();
    device
}

/// Maps so many bytes of the user's memory, by a request as he makes it.
fn map<A: Asic, P: Port>(user: &Context<'_, '_, A, P>, bytes: u64) -> DeviceAddr {
    let input = MemoryInput {
        arguments: [USER_BASE, 0, bytes],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    DeviceAddr::new(dispatch(user, &input.to_bytes()).unwrap().value)
}
