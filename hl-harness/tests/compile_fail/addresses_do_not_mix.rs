//! An address of one space is none of another, and a number is no address.
use mmu_core::{AddrRange, BusAddr, DeviceAddr};

fn device(_: DeviceAddr) {}

fn main() {
    device(BusAddr::new(0x1000));
    device(0x1000u64.into());
    let _: AddrRange<DeviceAddr> = AddrRange::new(BusAddr::new(0), 1).unwrap();
}
