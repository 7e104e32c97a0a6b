//! Both ends of a ring, over words in memory.

#![no_std]
#![no_main]

use hl_firmware_size::{any, opaque, slice, used};
use hl_mem::ring::{BlockLayout, Consumer, Producer, SharedWords};

fn rings() -> Option<()> {
    let (page, record, capacity) = (any(), any() as u32, any() as u32);
    used(BlockLayout::fitting(page, record, any()));
    let layout = BlockLayout::new(page, record, capacity).ok()?;
    let words = slice();
    let mut memory = SharedWords::part(any(), words);
    used(layout.initialize(&mut memory, any() as u32));
    used(layout.record_offset(any() as u32));
    used((layout.data_len(), layout.block_len(), layout.data_offset()));
    let layout = BlockLayout::read_header(&mut memory, any(), any()).ok()?;
    used((
        Consumer::attach(memory, layout),
        Producer::attach(memory, layout),
    ));
    let consumer = opaque::<Consumer<SharedWords<'_>>>();
    used((
        consumer.occupied(),
        consumer.pop(slice()),
        consumer.pop_batch(slice()),
    ));
    used(consumer.index());
    let producer = opaque::<Producer<SharedWords<'_>>>();
    used((
        producer.free(),
        producer.push(slice()),
        producer.push_batch(slice()),
    ));
    used(producer.index());
    Some(())
}

/// The entry, which has the linker keep everything.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    used(rings());
}
