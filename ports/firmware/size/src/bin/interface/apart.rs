//! What a port may use without a device: timestamps and events.

use core::num::NonZeroU64;

use hl_firmware_size::{any, opaque, slice, used};
use hl_mem::events::{DeviceEvent, EventQueue, EventSlot};
use hl_mem::timestamps::{
    CounterSlot, CounterWaits, PoolSize, TimestampPool, TimestampSlot, Wait, WaitSlot,
};

use crate::owned;
use crate::port::Nothing;

type Pool = TimestampPool<Nothing, &'static mut [TimestampSlot]>;
type Waits = CounterWaits<&'static mut [WaitSlot], &'static mut [CounterSlot]>;

#[inline(never)]
pub(super) fn use_timestamps() {
    if let Ok(size) = PoolSize::new(any()) {
        used((size.get(), size.bytes()));
        used(TimestampPool::new(size, Nothing, slice::<TimestampSlot>()));
    }
    used(Waits::new(slice(), slice()));
    let (pool, waits) = (opaque::<Pool>(), opaque::<Waits>());
    let now = NonZeroU64::MIN;
    if let Ok(counter) = waits.counter(any()) {
        let (slot, target) = (any(), any());
        let wait = Wait {
            slot,
            counter,
            target,
        };
        used((counter.index(), waits.register(pool, wait, any(), now)));
        if let Some(reached) = waits.take_reached(counter, any()) {
            used((reached.pool(), reached.slot()));
            used(pool.complete(reached, now));
        }
    }
    if let Some((_, place)) = pool.next_pending(any() as u32)
        && let Some(registration) = waits.cancel(place)
    {
        used(pool.cancel(registration));
    }
    used((waits.take_any(), waits.waiting(), waits.capacity()));
    used((pool.id(), pool.size(), pool.pending(), pool.is_closed()));
    used(pool.memory());
    pool.close();
    used((
        owned::<Pool>().release().ok(),
        owned::<Waits>().release().ok(),
    ));
}

#[inline(never)]
pub(super) fn use_events() {
    // What a seat has.
    type Events = EventQueue<DeviceEvent, &'static mut [EventSlot<DeviceEvent>]>;
    used(Events::new(owned()));
    let events = opaque::<Events>();
    used(events.post(*opaque()));
    if let Some(report) = events.front() {
        used((report.first(), report.count()));
        used(events.confirm(&report));
    }
    used((events.take(), events.depth(), events.kept()));
    used((events.posted(), events.lost()));
}
