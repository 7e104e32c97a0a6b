//! What handlers of interrupts do, and the threads that they wake.

use core::num::NonZeroU64;

use hl_mem::profile::Asic;
use hl_mem::timestamps::NoSuchCounter;
use hl_mem::{Context, Port};

/// The interrupt of a counter that reached a value: the handler writes some of the timestamps that waited
/// for it, and the thread that it wakes those that are left. Returns how many there were.
///
/// # Errors
///
/// [`NoSuchCounter`].
pub fn counter_interrupt<A: Asic, P: Port>(
    context: &Context<'_, '_, A, P>,
    (counter, value): (u64, u64),
    now: NonZeroU64,
) -> Result<u32, NoSuchCounter> {
    let mut completed = 0;
    loop {
        let told = context.counter_reached(counter, value, now)?;
        completed += told.completed;
        if !told.more {
            return Ok(completed);
        }
    }
}
