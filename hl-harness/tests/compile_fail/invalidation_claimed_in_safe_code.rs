//! Whoever claims that an invalidation happened has to say so with `unsafe`.
use mmu_core::{Invalidate, Stale};

struct Liar;

impl Invalidate for Liar {
    type Error = ();

    fn invalidate(&mut self, _: &Stale) -> Result<(), ()> {
        Ok(())
    }
}

fn main() {}
