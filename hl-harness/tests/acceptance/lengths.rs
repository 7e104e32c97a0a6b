//! Lengths that 32 bits do not hold.
//!
//! The pages of such memory cost nothing until they are written, but their frames do, and pinning them
//! takes its time: a quick run does the same with a thousandth of it.

use hl_harness::asic::{AccessKind, Endpoint, FaultReason};
use hl_harness::host::Permission;
use hl_harness::machine::{MachineConfig, Model};
use mmu_core::DeviceAddr;

use crate::rig::{
    LARGE, PAGE, engine, machine_of, map, on_each_asic, pattern, peek, read, scaled, unmap,
    with_file,
};

on_each_asic!(m04_no_length_of_host_memory_is_truncated);

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn m04_no_length_of_host_memory_is_truncated<A: Model>() {
    // All of it, from one place to the next, what is copied there, and the length to go around.
    let (whole, step, copied, around) = scaled(
        (20 * MIB, 4 * MIB, MIB, 16 * MIB),
        (5 * GIB, 512 * MIB, 64 * MIB, 4 * GIB),
    );
    let config = MachineConfig {
        frames: ((whole + copied) / PAGE + 8192) as u32,
        tables: 2048,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, |context, process| {
            let dma = engine(machine, &context);
            let buffer = |bytes: u64| {
                let pages = (bytes / PAGE) as usize;
                process
                    .map_contiguous(pages, 512, Permission::ReadWrite)
                    .unwrap()
            };
            let (all, window) = (buffer(whole), buffer(copied));
            let at = map(&context, all, whole).unwrap();
            let through = map(&context, window, copied).unwrap();
            let end = |at| Endpoint::Virtual(DeviceAddr::new(at));
            for offset in (0..whole).step_by(step as usize) {
                let data = pattern(copied, offset / step);
                process.write(window, &data).unwrap();
                dma.copy(end(through), end(at + offset), copied).unwrap();
                assert!(peek(&process, all.offset(offset), copied) == data);
                dma.fill(end(through), 0, copied).unwrap();
                dma.copy(end(at + offset), end(through), copied).unwrap();
                assert!(peek(&process, window, copied) == data, "{offset:#x}");
            }
            unmap(&context, through).unwrap();
            unmap(&context, at).unwrap();
            for len in [around - PAGE, around, around + PAGE] {
                let at = map(&context, all, len).unwrap();
                let leaf = |at| {
                    let asid = context.asid().get();
                    machine.asic.explain(asid, DeviceAddr::new(at)).leaf_size
                };
                assert_eq!(leaf(at), LARGE);
                assert_eq!(leaf(at + len - 1), if len == around { LARGE } else { PAGE });
                let data = pattern(PAGE, len);
                process.write(all.offset(len - PAGE), &data).unwrap();
                assert!(read(machine, &dma, at + len - PAGE, PAGE) == data);
                // The page behind it is no page of it.
                let beyond = DeviceAddr::new(at + len);
                let error = machine.asic.read(dma.initiator(), beyond, &mut [0]);
                let fault = error.unwrap_err().fault().unwrap();
                assert_eq!((fault.address, fault.access), (beyond, AccessKind::Read));
                assert!(matches!(fault.reason, FaultReason::NotPresent { .. }));
                unmap(&context, at).unwrap();
            }
        });
    });
}
