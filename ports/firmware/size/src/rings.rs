//! Both ends of both kinds of ring, over words in memory.

use hl_mem::ring::{
    BlockLayout, Consumer, FrameConsumer, FrameLayout, FrameProducer, Producer, SharedWords,
};

use crate::{any, opaque, slice, used};

/// Everything that can be done with a ring of records of one size.
#[inline(never)]
pub fn use_records() -> Option<()> {
    let (page, record, capacity) = (any(), any() as u32, any() as u32);
    used(BlockLayout::fitting(page, record, any()));
    let layout = BlockLayout::new(page, record, capacity).ok()?;
    let words = slice();
    let mut memory = SharedWords::part(any(), words);
    used(SharedWords::new(words));
    used(layout.initialize(&mut memory, any() as u32));
    used(layout.record_offset(any() as u32));
    used((layout.data_len(), layout.block_len(), layout.data_offset()));
    used((layout.page_size(), layout.record_size(), layout.capacity()));
    used((layout.header_offset(), layout.dropped_offset()));
    used((
        layout.consumer_index_offset(),
        layout.producer_index_offset(),
    ));
    used((layout.consumer_wake_offset(), layout.producer_wake_offset()));
    let layout = BlockLayout::read_header(&mut memory, any(), any()).ok()?;
    used((
        Consumer::attach(memory, layout),
        Producer::attach(memory, layout),
    ));
    let consumer = opaque::<Consumer<SharedWords<'_>>>();
    used((consumer.occupied(), consumer.index()));
    used((consumer.pop(slice()), consumer.pop_batch(slice())));
    used(consumer.dropped());
    used((consumer.owes_wake(), consumer.request_wake(any() as u32)));
    let producer = opaque::<Producer<SharedWords<'_>>>();
    used((producer.free(), producer.index()));
    used((producer.push(slice()), producer.push_batch(slice())));
    used(producer.push_or_drop(slice()));
    producer.count_dropped(any() as u32);
    used((producer.owes_wake(), producer.request_wake(any() as u32)));
    Some(())
}

/// Everything that can be done with a ring of records of any length.
#[inline(never)]
pub fn use_frames() -> Option<()> {
    used(FrameLayout::fitting(any(), any()));
    let layout = FrameLayout::new(any(), any() as u32).ok()?;
    used((layout.block(), layout.max_record_len()));
    used(FrameLayout::frame_units(any() as u32));
    let mut memory = SharedWords::part(any(), slice());
    used(layout.initialize(&mut memory, any() as u32));
    let layout = FrameLayout::read_header(&mut memory, any(), any()).ok()?;
    used((
        FrameConsumer::attach(memory, layout),
        FrameProducer::attach(memory, layout),
    ));
    let consumer = opaque::<FrameConsumer<SharedWords<'_>>>();
    used((consumer.occupied(), consumer.index(), consumer.next_len()));
    used((consumer.pop(slice()), consumer.pop_batch(slice(), slice())));
    used((consumer.skip(), consumer.skip_all(), consumer.dropped()));
    used((consumer.owes_wake(), consumer.request_wake()));
    let producer = opaque::<FrameProducer<SharedWords<'_>>>();
    used((producer.free(), producer.index()));
    used((producer.push(slice()), producer.push_batch(slice())));
    used(producer.push_or_drop(slice()));
    producer.count_dropped(any() as u32);
    used((producer.owes_wake(), producer.request_wake(any() as usize)));
    Some(())
}
