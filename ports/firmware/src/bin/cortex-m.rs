//! The image for a Cortex-M: a device's management controller runs the whole of `hl-mem`.

#![no_std]
#![no_main]

use cortex_m as _; // its critical section
use cortex_m_rt::{entry, exception};
use defmt_semihosting as _; // where the log goes

#[entry]
fn main() -> ! {
    semihosting::process::exit(hl_firmware::flow::main())
}

#[exception]
unsafe fn HardFault(_frame: &cortex_m_rt::ExceptionFrame) -> ! {
    defmt::error!("verdict: FAIL: hard fault");
    semihosting::process::exit(2)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    let line = info.location().map_or(0, |location| location.line());
    defmt::error!("verdict: FAIL: panic in line {}", line);
    semihosting::process::exit(3)
}
