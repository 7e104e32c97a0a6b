//! A reset of the device, and what works after it.

use super::super::*;

#[test]
fn device_memory_is_overwritten_before_the_next_file_has_it_after_a_reset_too() {
    let text = "\
        machine frames 1024 tables 64\n\
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
