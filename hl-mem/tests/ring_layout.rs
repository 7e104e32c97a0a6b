//! Layouts and headers of a block. Expected numbers are worked out by hand.
#![cfg(not(loom))]

use core::sync::atomic::AtomicU32;

use hl_mem::ring::{
    BlockLayout, BlockRead, BlockWrite, HeaderError, LayoutError, SharedWords, SharedWordsError,
};

fn words(block_len: u64) -> Vec<AtomicU32> {
    (0..block_len / 4).map(|_| AtomicU32::new(0)).collect()
}

#[test]
fn every_party_has_pages_of_its_own() {
    let layout = BlockLayout::new(4096, 64, 64).unwrap();
    assert_eq!(layout.consumer_index_offset(), 0);
    assert_eq!(layout.header_offset(), 4096);
    assert_eq!(layout.producer_index_offset(), 4096 + 128);
    assert_eq!(layout.data_offset(), 8192);
    assert_eq!(layout.data_len(), 4096);
    assert_eq!(layout.block_len(), 12288);

    let layout = BlockLayout::new(65536, 64, 64).unwrap();
    assert_eq!(layout.header_offset(), 65536);
    assert_eq!(layout.producer_index_offset(), 65536 + 128);
    assert_eq!(layout.data_offset(), 131_072);
    assert_eq!(layout.data_len(), 4096);
    assert_eq!(layout.block_len(), 196_608);
}

#[test]
fn records_straddle_pages_and_the_last_page_is_whole() {
    // 256 records of 24 bytes are 6144 bytes: one and a half data pages.
    let layout = BlockLayout::new(4096, 24, 256).unwrap();
    assert_eq!(layout.data_len(), 6144);
    assert_eq!(layout.block_len(), 4 * 4096);
    assert_eq!(layout.record_offset(0), 8192);
    assert_eq!(layout.record_offset(170), 8192 + 4080);
    assert_eq!(layout.record_offset(255), 8192 + 6120);
    assert_eq!(layout.record_offset(256), 8192);
    assert_eq!(layout.record_offset(u32::MAX), 8192 + 6120);
}

#[test]
fn the_smallest_and_the_largest_rings_have_layouts() {
    let one = BlockLayout::new(4096, 8, 1).unwrap();
    assert_eq!(one.block_len(), 3 * 4096);
    assert_eq!(one.record_offset(u32::MAX), 8192);

    let most = BlockLayout::new(4096, u32::MAX - 7, 1 << 31).unwrap();
    assert_eq!(most.data_len(), 0x7FFF_FFFC_0000_0000);
    assert_eq!(most.block_len(), 0x7FFF_FFFC_0000_2000);
}

#[test]
fn unusable_sizes_are_told_apart() {
    for page_size in [0, 1, 2048, 4095, 4097, 12288, u64::MAX] {
        assert_eq!(
            BlockLayout::new(page_size, 8, 1),
            Err(LayoutError::PageSize { page_size })
        );
    }
    for record_size in [0, 1, 4, 7, 12, u32::MAX] {
        assert_eq!(
            BlockLayout::new(4096, record_size, 1),
            Err(LayoutError::RecordSize { record_size })
        );
    }
    for capacity in [0, 3, 63, (1 << 31) + 1, u32::MAX] {
        assert_eq!(
            BlockLayout::new(4096, 8, capacity),
            Err(LayoutError::Capacity { capacity })
        );
    }
    // Two pages of 2^62 and a data page of as much fit 64 bits; of 2^63 they do not.
    assert_eq!(
        BlockLayout::new(1 << 62, 8, 1).map(BlockLayout::block_len),
        Ok(3 << 62)
    );
    assert_eq!(
        BlockLayout::new(1 << 63, 8, 1),
        Err(LayoutError::BlockTooLong)
    );
}

#[test]
fn the_largest_ring_that_fits_is_a_power_of_two() {
    let capacity = |page_size, record_size, block_len| {
        BlockLayout::fitting(page_size, record_size, block_len).map(BlockLayout::capacity)
    };
    assert_eq!(capacity(4096, 64, 3 * 4096), Ok(64));
    assert_eq!(capacity(4096, 24, 3 * 4096), Ok(128)); // 170 would fit
    assert_eq!(capacity(4096, 4096, 3 * 4096), Ok(1));
    assert_eq!(capacity(4096, 4096, 5 * 4096), Ok(2)); // 3 would fit
    assert_eq!(capacity(65536, 64, 3 * 65536), Ok(1024));
    // 2^61 records would fit, indices go to 2^31.
    assert_eq!(capacity(4096, 8, 0xFFFF_FFFF_FFFF_F000), Ok(1 << 31));
}

#[test]
fn a_block_too_short_for_a_record_has_no_ring() {
    for block_len in [0, 4096, 8192] {
        assert_eq!(
            BlockLayout::fitting(4096, 8, block_len),
            Err(LayoutError::BlockTooShort { block_len })
        );
    }
    assert_eq!(
        BlockLayout::fitting(4096, 4104, 12288),
        Err(LayoutError::BlockTooShort { block_len: 12288 })
    );
    assert_eq!(
        BlockLayout::fitting(1 << 63, 8, 1 << 63),
        Err(LayoutError::BlockTooShort { block_len: 1 << 63 })
    );
    assert_eq!(
        BlockLayout::fitting(65536, 8, 3 * 65536 + 4096),
        Err(LayoutError::PartialPage {
            block_len: 3 * 65536 + 4096
        })
    );
}

#[test]
fn the_fitting_ring_fits_and_twice_as_much_does_not() {
    for page_size in [4096, 65536] {
        for record_size in [8, 16, 24, 40, 64, 4096, 4104, 65536] {
            for pages in 0..40 {
                let block_len = pages * page_size;
                match BlockLayout::fitting(page_size, record_size, block_len) {
                    Ok(layout) => {
                        assert!(layout.block_len() <= block_len);
                        let twice = BlockLayout::new(page_size, record_size, 2 * layout.capacity())
                            .unwrap();
                        assert!(twice.block_len() > block_len);
                    }
                    Err(error) => {
                        assert_eq!(error, LayoutError::BlockTooShort { block_len });
                        let one = BlockLayout::new(page_size, record_size, 1).unwrap();
                        assert!(one.block_len() > block_len);
                    }
                }
            }
        }
    }
}

#[test]
fn the_header_has_the_documented_bytes() {
    let layout = BlockLayout::new(4096, 64, 4096).unwrap();
    let block = words(layout.block_len());
    let mut memory = SharedWords::new(&block);

    // No request to be woken: one step before the last lap, 0xFFFF_FFFE - 0x1000 - 1.
    let nobody = [0xFD, 0xEF, 0xFF, 0xFF];
    let mut start = [0; 4096];
    memory.write(4096 + 384, &[7; 4]).unwrap();
    layout.initialize(&mut memory, 0xFFFF_FFFE).unwrap();
    memory.read(4096, &mut start).unwrap();
    let mut expected = [0; 4096];
    expected[..16].copy_from_slice(b"HLRB\x01\0\0\0\x40\0\0\0\x00\x10\0\0");
    expected[128..132].copy_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF]);
    expected[256..260].copy_from_slice(&nobody);
    assert_eq!(start, expected);

    let mut consumer_page = [0; 4096];
    memory.read(0, &mut consumer_page).unwrap();
    let mut expected = [0; 4096];
    expected[..4].copy_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF]);
    expected[128..132].copy_from_slice(&nobody);
    assert_eq!(consumer_page, expected);
}

#[test]
fn a_layout_survives_the_way_through_the_header() {
    for page_size in [4096, 65536] {
        for (record_size, capacity) in [(8, 1), (24, 64), (64, 1024)] {
            let layout = BlockLayout::new(page_size, record_size, capacity).unwrap();
            let block = words(layout.block_len());
            let mut memory = SharedWords::new(&block);
            layout.initialize(&mut memory, 0).unwrap();
            let read = BlockLayout::read_header(&mut memory, page_size, layout.block_len());
            assert_eq!(read, Ok(layout));
        }
    }
}

#[test]
fn a_forged_header_is_refused() {
    let layout = BlockLayout::new(4096, 64, 64).unwrap();
    let block = words(layout.block_len());
    let mut memory = SharedWords::new(&block);
    let mut read_forged = |word: u64, value: u32| {
        layout.initialize(&mut memory, 0).unwrap();
        memory.write(4096 + 4 * word, &value.to_le_bytes()).unwrap();
        BlockLayout::read_header(&mut memory, 4096, 12288)
    };

    for value in [0, 0x4252_4C49, u32::MAX] {
        let found = value.to_le_bytes();
        assert_eq!(read_forged(0, value), Err(HeaderError::Magic { found }));
    }
    for found in [0, 2, u32::MAX] {
        assert_eq!(read_forged(1, found), Err(HeaderError::Version { found }));
    }
    for record_size in [0, 4, 63, u32::MAX] {
        assert_eq!(
            read_forged(2, record_size),
            Err(HeaderError::Layout(LayoutError::RecordSize { record_size }))
        );
    }
    for capacity in [0, 63, 65, (1 << 31) + 1, u32::MAX] {
        assert_eq!(
            read_forged(3, capacity),
            Err(HeaderError::Layout(LayoutError::Capacity { capacity }))
        );
    }
    // Valid in itself, but more than is mapped: 128 records of 64 bytes, or 64 of 72.
    let truncated = Err(HeaderError::Truncated {
        needed: 16384,
        block_len: 12288,
    });
    assert_eq!(read_forged(3, 128), truncated);
    assert_eq!(read_forged(2, 72), truncated);
    assert_eq!(
        read_forged(2, u32::MAX - 7),
        Err(HeaderError::Truncated {
            needed: 64 * 0x1_0000_0000 - 64 * 8 + 512 + 8192,
            block_len: 12288,
        })
    );
    // Smaller than the block is an honest possibility.
    assert_eq!(read_forged(3, 32).map(BlockLayout::capacity), Ok(32));
}

#[test]
fn a_mapping_without_a_whole_header_page_is_not_read() {
    let block = words(4096);
    let mut memory = SharedWords::new(&block);
    for block_len in [0, 4096, 8191] {
        assert_eq!(
            BlockLayout::read_header(&mut memory, 4096, block_len),
            Err(HeaderError::Truncated {
                needed: 8192,
                block_len
            })
        );
    }
    assert_eq!(
        BlockLayout::read_header(&mut memory, 4000, 12288),
        Err(HeaderError::Layout(LayoutError::PageSize {
            page_size: 4000
        }))
    );
    assert_eq!(
        BlockLayout::read_header(&mut memory, 4096, 12288),
        Err(HeaderError::Memory(SharedWordsError::OutOfBounds {
            offset: 4096,
            len: 16
        }))
    );
}

#[test]
fn shared_words_refuse_what_is_outside_or_split() {
    let block = words(64);
    let mut memory = SharedWords::part(4096, &block);
    memory.write(4096, &[7; 64]).unwrap();
    memory.read(4160, &mut []).unwrap();
    for (offset, len) in [(0, 4), (4092, 8), (4156, 8), (4160, 4), (u64::MAX - 3, 4)] {
        let outside = SharedWordsError::OutOfBounds { offset, len };
        assert_eq!(memory.read(offset, &mut vec![0; len]), Err(outside));
        assert_eq!(memory.write(offset, &vec![0; len]), Err(outside));
    }
    for (offset, len) in [(4097, 4), (4098, 2), (4096, 3)] {
        let split = SharedWordsError::Misaligned { offset, len };
        assert_eq!(memory.read(offset, &mut vec![0; len]), Err(split));
        assert_eq!(memory.write(offset, &vec![0; len]), Err(split));
    }
    let mut all = [0; 64];
    memory.read(4096, &mut all).unwrap();
    assert_eq!(all, [7; 64]);
}
