//! Kernel memory cannot be mapped by the way of user memory.
use hl_mem::host::{DeviceAccess, HostMemory};
use hl_mem::profile::Asic;
use hl_mem::{Context, Port, Wanted};

fn map<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    pages: <P::Host as HostMemory>::KernelPages,
) {
    let _ = context.map(pages, DeviceAccess::ReadWrite, Wanted::Anywhere);
}

fn main() {}
