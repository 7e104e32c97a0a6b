//! Exports of device memory.

use hl_harness::machine::Model;
use hl_mem::budget::Budget;
use hl_mem::context::{DramExport, ExportDramError};
use hl_mem::profile::Goya;
use hl_mem::uapi::{
    self, Errno, ExportRefused, Exporter, FLAG_SHARED, MemoryInput, OP_ALLOC, OP_EXPORT, OP_FREE,
    OP_MAP, OP_UNMAP,
};
use hl_mem::{Context, Wanted};

use crate::rig::{machine, memory_input, on_each_asic_with_mapped_dram};

type Dispatch<'a> = dyn Fn(MemoryInput) -> Result<u64, Errno> + 'a;

on_each_asic_with_mapped_dram!(an_export_keeps_its_mapping_and_its_memory);

/// Keeps exports as files would.
#[derive(Default)]
struct Files {
    open: Vec<DramExport>,
    full: bool,
}

impl Exporter for Files {
    fn export(&mut self, export: DramExport, _flags: u32) -> Result<i32, ExportRefused> {
        if self.full {
            let errno = Errno::ENOMEM;
            return Err(ExportRefused { export, errno });
        }
        self.open.push(export);
        Ok(self.open.len() as i32 + 2)
    }
}

fn an_export_keeps_its_mapping_and_its_memory<A: Model>() {
    machine::<A>(|machine| {
        let page = A::PROFILE.dram.page_bytes;
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let plain: &Dispatch<'_> =
            &|input| uapi::dispatch(&context, &input.to_bytes()).map(|reply| reply.value);
        let handle = plain(MemoryInput {
            flags: FLAG_SHARED,
            ..memory_input(OP_ALLOC, [3 * page, 0, 0])
        })
        .unwrap();
        let at = plain(memory_input(OP_MAP, [0, handle, 0])).unwrap();
        let mut files = Files::default();
        let export = |files: &mut Files, address, bytes, offset| {
            let request = memory_input(OP_EXPORT, [address, bytes, offset]).to_bytes();
            uapi::dispatch_with(&context, &request, files).map(|reply| reply.value)
        };
        let usage = machine.counters();
        for (address, bytes, offset) in [
            (at + page, page, 0),
            (at, 0, 0),
            (at, page + 1, 0),
            (at, page, 8),
            (at, 3 * page + 4096, 0),
            (at, page, 3 * page),
            (at, 4096, u64::MAX - 4095),
            (at, u64::MAX - 4095, 4096),
        ] {
            let refused = export(&mut files, address, bytes, offset);
            assert_eq!(
                refused,
                Err(Errno::EINVAL),
                "{address:#x} {bytes:#x} {offset:#x}"
            );
        }
        files.full = true;
        assert_eq!(export(&mut files, at, page, 0), Err(Errno::ENOMEM));
        assert_eq!(
            plain(memory_input(OP_EXPORT, [at, page, 0])),
            Err(Errno::EOPNOTSUPP)
        );
        assert_eq!(machine.counters(), usage);
        files.full = false;
        assert_eq!(export(&mut files, at, page + 4096, page - 4096), Ok(3));
        let exported = &files.open[0];
        let run = machine
            .device
            .dram_run(&machine.privilege, context.owner(), {
                hl_mem::dram::PackHandle::new(handle)
            });
        let runs = machine
            .device
            .with_export(exported, |runs| runs.collect::<Vec<_>>());
        let total: u64 = runs.iter().map(|run| run.len()).sum();
        assert_eq!(total, page + 4096);
        let start = run.unwrap().start().checked_add(page - 4096).unwrap();
        assert_eq!(runs[0].start(), start);
        // It blocks UNMAP and FREE (facts EX-5).
        assert_eq!(
            plain(memory_input(OP_UNMAP, [at, 0, 0])),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            plain(memory_input(OP_FREE, [handle, 0, 0])),
            Err(Errno::EINVAL)
        );
        // A second one, whose context is gone before it.
        assert_eq!(export(&mut files, at, page, 0), Ok(4));
        context.end_export(files.open.remove(0)).unwrap();
        assert_eq!(
            plain(memory_input(OP_UNMAP, [at, 0, 0])),
            Err(Errno::EINVAL)
        );
        let left = context.close().unwrap();
        assert_eq!((left.mappings, left.dram), (1, 1));
        assert_eq!(machine.counters().device.dram.orphans, 1);
        let mut storage = machine.storage();
        let other: Context<'_, '_, _, _> = machine.open(&process, &budget, &mut storage).unwrap();
        let foreign = other.end_export(files.open.remove(0)).unwrap_err();
        machine.device.end_export(foreign).unwrap();
        other.close().unwrap();
        drop(process);
        let after = machine.counters();
        assert_eq!(after.device.dram.packs + after.device.dram.orphans, 0);
        assert_eq!(after.tables, before.tables);
    });
}

#[test]
fn memory_that_peers_do_not_reach_is_not_exported() {
    machine::<Goya>(|machine| {
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let mut storage = machine.storage();
        let context = machine.open(&process, &budget, &mut storage).unwrap();
        let all = A_GOYA_USER_BYTES;
        let (contiguity, sharing) = (
            hl_mem::dram::Contiguity::Contiguous,
            hl_mem::dram::Sharing::Private,
        );
        let handle = context.allocate_dram(all, contiguity, sharing).unwrap();
        let at = context.map_dram(handle, Wanted::Anywhere).unwrap();
        let half = all / 2;
        let export = context.export_dram(at, half, 0).unwrap();
        context.end_export(export).unwrap();
        for (bytes, offset) in [(half + 4096, 0), (4096, half), (all, 0)] {
            let refused = context.export_dram(at, bytes, offset).unwrap_err();
            assert_eq!(refused, ExportDramError::OutOfReach);
        }
        context.unmap(at).unwrap();
        context.free_dram(handle).unwrap();
        context.close().unwrap();
    });
}

/// Facts 2.2: 4 GiB less what belongs to driver and firmware.
const A_GOYA_USER_BYTES: u64 = (4 << 30) - 0x2000_0000;
