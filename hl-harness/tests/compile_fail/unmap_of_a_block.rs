//! A user's unmap takes an address of his own space, and a block has a name of its own.
use hl_mem::buffer::BufferId;
use hl_mem::profile::Asic;
use hl_mem::{Context, Port};

fn unmap<A: Asic, P: Port>(context: &Context<'_, '_, A, P>, block: BufferId) {
    let _ = context.unmap(block);
}

fn main() {}
