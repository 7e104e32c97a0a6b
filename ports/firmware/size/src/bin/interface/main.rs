//! The whole interface of `hl-mem`: a device, its contexts, the requests, rings, timestamps and events,
//! for one ASIC, with a port that does nothing.

#![no_std]
#![no_main]

mod apart;
mod port;

use core::num::NonZeroU64;

use hl_firmware_size::{any, opaque, rings, slice, used};
use hl_mem::Wanted;
use hl_mem::budget::Budget;
use hl_mem::buffer::ViewPolicy;
use hl_mem::context::{Context, ContextStorage, DramExport, TimestampStorage};
use hl_mem::device::{
    BufferView, Device, DeviceOptions, DeviceParts, Privilege, SpaceNodes, WindowMemory,
};
use hl_mem::dram::PackHandle;
use hl_mem::events::DeviceEvent;
use hl_mem::handle::RawHandle;
use hl_mem::host::DeviceAccess;
use hl_mem::mmu::Gaudi2HostMmu;
use hl_mem::profile::{Asic, Gaudi2};
use hl_mem::uapi::{
    CommandBufferInput, MemoryInput, Request, dispatch, dispatch_command_buffer, dispatch_with,
};
use mmu_core::{DeviceAddr, PageTable};

use port::{Nothing, Tables};

type Chip = Gaudi2<6>;

fn nodes() -> SpaceNodes<Nothing> {
    SpaceNodes {
        small: slice(),
        large: slice(),
        dram: slice(),
    }
}

fn any_policy() -> ViewPolicy {
    match any() {
        0 => ViewPolicy::Single,
        _ => ViewPolicy::Counted,
    }
}

fn bring_up(tables: Tables) {
    let parts = DeviceParts {
        host: Nothing,
        engines: Nothing,
        tables,
        privileged: nodes(),
        buffers: slice(),
        seats: slice(),
        dram: owned(),
        scrubber: Nothing,
        options: DeviceOptions {
            views: any_policy(),
            register_blocks: slice(),
            peer_window: None,
            default_mapping: any() == 0,
        },
    };
    let timeouts = Chip::PROFILE.timeouts;
    let mmu = |parking| Gaudi2HostMmu::new(Nothing, timeouts, parking);
    used(Device::<Chip, Nothing>::new(parts, mmu));
}

/// Something of a type that the compiler knows nothing about, owned.
fn owned<T: 'static>() -> T {
    // SAFETY: the image is never run; for the compiler a value is there.
    unsafe { core::ptr::read(opaque()) }
}

fn use_device(device: &'static Device<'static, Chip, Nothing>, privilege: &Privilege) {
    used((device.host(), device.engines(), device.usage()));
    used((device.note_lost(), device.is_lost()));
    used((device.recover(*opaque()), device.settle_quarantine()));
    used(owned::<Device<'static, Chip, Nothing>>().shut_down());
    used(device.create_block(privilege, any(), *opaque()));
    used(device.with_block(privilege, *opaque(), |_| ()));
    used(device.destroy_block(privilege, *opaque()));
    used(device.block_range(privilege, *opaque()));
    used(device.dram_run(privilege, *opaque(), PackHandle::new(any())));
    let query = |table: &PageTable<_, _>| used(table.query(DeviceAddr::new(any())));
    used(device.with_privileged_table(privilege, query));
    used(device.with_mmu(hl_mem::mmu::MmuControl::take_fault));
    used(device.report_faults(used));
    used(device.post(DeviceEvent::DeviceLost));
    used(device.inspect(privilege, &mut |part| used(part)));
    used(device.map_window(privilege, *opaque(), *opaque()));
    used(device.unmap_window(privilege, *opaque()));
    let storage = ContextStorage {
        nodes: nodes(),
        mappings: slice(),
        handles: slice(),
        timestamps: TimestampStorage {
            pools: slice(),
            waits: slice(),
            counters: slice(),
        },
    };
    used(device.open((), opaque::<Budget>(), storage));
}

fn use_views(device: &'static Device<'static, Chip, Nothing>) {
    let view: BufferView<Nothing> = owned();
    used((view.pages(), *view.view()));
    used(device.copy_view(&view, any(), any()));
    used(device.end_pages(view, any()));
    used(device.end_view(owned()));
    let export: &DramExport = opaque();
    used(export.bytes());
    device.with_export(export, |runs| used(runs.next()));
    used(device.end_export(owned()));
}

fn use_context(context: &'static Context<'static, 'static, Chip, Nothing>, privilege: &Privilege) {
    used((context.asid(), context.owner(), context.usage()));
    used(context.device());
    context.with_table(|table| used(table.query(DeviceAddr::new(any()))));
    context.inspect(&mut |part| used(part));
    let wanted: Wanted = *opaque();
    used(context.map(*opaque(), DeviceAccess::ReadWrite, wanted));
    used(context.unmap(DeviceAddr::new(any())));
    used(context.settle_quarantine());
    let memory: WindowMemory = *opaque();
    used(context.map_window(privilege, DeviceAddr::new(any()), memory));
    used(context.next_event());
    used(context.confirm_event(opaque()));
    used(context.allocate_dram(any(), *opaque(), *opaque()));
    used(context.free_dram(PackHandle::new(any())));
    used(context.map_dram(PackHandle::new(any()), wanted));
    used(context.export_dram(DeviceAddr::new(any()), any(), any()));
    used(context.end_export(owned()));
    used(owned::<Context<'static, 'static, Chip, Nothing>>().close());
}

fn use_handles(context: &'static Context<'static, 'static, Chip, Nothing>, privilege: &Privilege) {
    let handle = RawHandle::new(any());
    used(context.create_block(privilege, any()));
    used(context.map_block(privilege, handle, Wanted::Anywhere));
    used(context.destroy_block(handle));
    used(context.create_command_buffer(any(), any() != 0));
    used(context.command_buffer(handle));
    used(context.destroy_command_buffer(handle));
    used(context.register_block(any()));
    used(context.mmap(handle, any()));
    used(context.create_timestamps(any()));
    used(context.destroy_timestamps(handle));
    let now = NonZeroU64::MIN;
    used(context.register_timestamp(handle, any(), (any(), any()), any(), now));
    used(context.counter_reached(any(), any(), now));
}

fn use_requests(context: &'static Context<'static, 'static, Chip, Nothing>) {
    if let Ok(output) = dispatch(context, slice()) {
        used(output.to_bytes());
    }
    if let Err(errno) = dispatch_with(context, slice(), &mut Nothing) {
        used((errno.get(), errno.name()));
    }
    if let Ok(output) = dispatch_command_buffer(context, slice()) {
        used(output.to_bytes());
    }
    if let Some(input) = MemoryInput::from_bytes(slice()) {
        used((Request::parse(&input, any()), input.to_bytes()));
    }
    used(CommandBufferInput::from_bytes(slice()).map(CommandBufferInput::to_bytes));
}

/// The entry, which has the linker keep everything.
#[unsafe(no_mangle)]
extern "C" fn _start() {
    let privilege = opaque::<Privilege>();
    bring_up(opaque());
    use_device(opaque(), privilege);
    use_views(opaque());
    use_context(opaque(), privilege);
    use_handles(opaque(), privilege);
    use_requests(opaque());
    apart::use_timestamps();
    apart::use_events();
    used(rings::use_records());
    used(rings::use_frames());
}
