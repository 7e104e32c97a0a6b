//! Nothing is mapped in the privileged address space without the right to it.
use hl_mem::profile::Asic;
use hl_mem::{Context, Port};

fn create<A: Asic, P: Port>(context: &Context<'_, '_, A, P>) {
    let _ = context.create_block(4096);
}

fn main() {}
