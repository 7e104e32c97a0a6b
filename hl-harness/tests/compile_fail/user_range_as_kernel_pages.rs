//! User memory cannot be shown or freed as kernel memory.
use hl_mem::host::{HostMemory, UserRange};

fn free<H: HostMemory>(host: &H, range: UserRange) {
    host.free(range);
}

fn main() {}
