//! A reset of the device, and what works after it.

use super::super::*;

#[test]
fn a_device_with_a_default_page_comes_back_after_a_reset() {
    let text = "\
        machine frames 1024 tables 300 default-page\n\
        reset undefined\n\
        recover\n\
        open c1\n\
        dma read c1 0x1000 8 expect byte 0x99\n";
    if let Err(stop) = on(AsicWord::Goya, text) {
        panic!("{stop:?}");
    }
    let without = text.replace(" default-page", "");
    assert!(on(AsicWord::Goya, &without).is_err(), "it is there anyway");
}

#[test]
fn device_memory_is_overwritten_before_the_next_file_has_it_after_a_reset_too() {
    let text = "\
        machine frames 1024 tables 64 dram-pages 2\n\
        open c1\n\
        alloc c1 dram.page -> freed\n\
        alloc c1 dram.page -> left_behind\n\
        let first = dram-offset c1 freed\n\
        free c1 freed\n\
        close c1\n\
        reset\n\
        recover\n\
        open c1\n\
        alloc c1 dram.page * dram.pages contiguous -> all\n\
        expect dram-offset c1 all = first\n";
    for asic in [AsicWord::Goya, AsicWord::Gaudi] {
        if let Err(stop) = on(asic, text) {
            panic!("{asic}: {stop:?}");
        }
    }
}
