//! The pins of a mapping belong to it: nobody unpins mapped memory.
use hl_mem::context::UserMapping;
use hl_mem::host::{DeviceAccess, HostMemory};
use hl_mem::Port;

fn unpin<P: Port>(host: &P::Host, mapping: UserMapping<P>) {
    host.unpin(mapping.0.pinned, DeviceAccess::Read);
}

fn main() {}
