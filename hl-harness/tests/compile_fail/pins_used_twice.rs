//! A pin that was handed over cannot be released by whoever pinned.
use hl_mem::host::{DeviceAccess, HostMemory};

fn twice<H: HostMemory>(host: &H, pages: H::PinnedPages) {
    host.unpin(pages, DeviceAccess::Read);
    host.unpin(pages, DeviceAccess::Read);
}

fn main() {}
