//! What images that only exist to be linked have in common.
//!
//! Their panic handler calls a function that does not exist. Where optimised code can reach a panic,
//! the image does not link, and the linker names the function that can.

#![no_std]

pub mod rings;

use core::panic::PanicInfo;

unsafe extern "C" {
    /// Does not exist.
    fn this_code_can_panic() -> !;
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    // SAFETY: an image in which this is called does not link.
    unsafe { this_code_can_panic() }
}

/// A number that the compiler knows nothing about.
#[inline(never)]
pub fn any() -> u64 {
    // SAFETY: the image is never run; for the compiler this is a device's register.
    unsafe { core::ptr::without_provenance::<u64>(0x4000_0000).read_volatile() }
}

/// Has the compiler believe that a result is used.
#[inline(always)]
pub fn used<T>(value: T) {
    core::hint::black_box(&value);
    core::mem::forget(value);
}

/// Something of a type that the compiler knows nothing about.
pub fn opaque<T>() -> &'static mut T {
    let pointer = core::ptr::without_provenance_mut::<T>(any() as usize);
    // SAFETY: the image is never run; for the compiler a value is there.
    unsafe { &mut *pointer }
}

/// Values of a type that the compiler knows nothing about; nor how many.
pub fn slice<T>() -> &'static mut [T] {
    let pointer = core::ptr::without_provenance_mut::<T>(any() as usize);
    // SAFETY: the image is never run; for the compiler values are there.
    unsafe { core::slice::from_raw_parts_mut(pointer, any() as u16 as usize) }
}
