//! Both ends of a ring of records of one size, over words in memory.

#![no_std]
#![no_main]

use hl_firmware_size::{rings, used};

/// The entry, which has the linker keep everything.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    used(rings::use_records());
}
