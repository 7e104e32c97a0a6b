//! Windows: addresses at which the driver itself maps something (facts KM-2, KM-4).

use hl_harness::asic::{Completion, InitiatorMode, Operation};
use hl_harness::machine::{Machine, Model};
use hl_mem::budget::Budget;
use hl_mem::device::{MapWindowError, PrivilegedWindow, WindowMemory};
use hl_mem::host::{DmaAddr, DmaRun};
use hl_mem::profile::{Asic, Gaudi, Gaudi2, Goya};
use mmu_core::{BusAddr, DeviceAddr, Run};

use crate::rig::{machine, user_mode};

/// Contiguous pages of the host as the driver has them for a window.
fn host_pages<A: Model>(
    machine: &Machine<'_, '_, A>,
    pages: usize,
) -> (hl_harness::host::KernelBlock, WindowMemory) {
    let block = machine
        .host
        .kernel_contiguous(pages, 512, "window")
        .unwrap();
    let start = machine.host.bus_address(block.frames()[0]);
    let run = DmaRun::new(DmaAddr::new(start.get()), block.len() as u64).unwrap();
    (block, WindowMemory::Host(run))
}

#[test]
fn goyas_processor_finds_its_firmware_and_the_memory_that_it_shares() {
    machine::<Goya>(|machine| {
        let before = machine.counters();
        let (device, privilege) = (&machine.device, &machine.privilege);
        let image = WindowMemory::Device(Run::new(BusAddr::new(0), 256 << 20).unwrap());
        let at = device.map_window(privilege, PrivilegedWindow::Firmware, image);
        assert_eq!(at.unwrap().len(), 256 << 20);
        let (shared, memory) = host_pages(machine, 512);
        device
            .map_window(privilege, PrivilegedWindow::Processor, memory)
            .unwrap();
        // Leaves of 2 MiB at hop 3, 512 GiB apart: one table of hop 1, two of hop 2 and of hop 3, and
        // none of the last hop.
        assert_eq!(machine.counters().tables, before.tables + 5);
        let cpu = machine.asic.add_initiator("cpu", InitiatorMode::Privileged);
        let there = DeviceAddr::new(0x80_0000_0000 + (2 << 20) - 8);
        machine.asic.write(cpu, there, b"an event").unwrap();
        let mut seen = [0; 8];
        shared
            .view()
            .unwrap()
            .read((2 << 20) - 8, &mut seen)
            .unwrap();
        assert_eq!(&seen, b"an event");
        let last = DeviceAddr::new((256 << 20) - 8);
        machine.asic.write(cpu, last, b"firmware").unwrap();
        let bypass = machine.asic.add_initiator("dma", InitiatorMode::Bypass);
        let mut seen = [0; 8];
        machine.asic.read(bypass, last, &mut seen).unwrap();
        assert_eq!(&seen, b"firmware");
        let again = device.map_window(privilege, PrivilegedWindow::Processor, memory);
        assert_eq!(again, Err(MapWindowError::Occupied));

        // The invalidation never ends: the window stays taken until one does.
        machine
            .asic
            .inject(Operation::Invalidation, 1, 100, Completion::Never);
        device
            .unmap_window(privilege, PrivilegedWindow::Processor)
            .unwrap_err();
        let again = device.map_window(privilege, PrivilegedWindow::Processor, memory);
        assert_eq!(again, Err(MapWindowError::Occupied));
        machine.asic.clear_injections();
        for window in [PrivilegedWindow::Processor, PrivilegedWindow::Firmware] {
            device.unmap_window(privilege, window).unwrap();
            // Nothing is there any more, and nothing is done.
            device.unmap_window(privilege, window).unwrap();
        }
        assert!(machine.asic.read(cpu, there, &mut seen).is_err());
        assert!(machine.asic.read(cpu, last, &mut seen).is_err());
        drop(shared);
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn what_does_not_fit_in_a_window_is_refused_and_changes_nothing() {
    machine::<Goya>(|machine| {
        let before = machine.counters();
        let (device, privilege) = (&machine.device, &machine.privilege);
        let run =
            |start, bytes| WindowMemory::Device(Run::new(BusAddr::new(start), bytes).unwrap());
        let far = DmaRun::new(DmaAddr::new(1 << 48), 4096).unwrap();
        for (memory, expected) in [
            (run(0, (2 << 20) + 4096), MapWindowError::Memory),
            (WindowMemory::Host(far), MapWindowError::Memory),
        ] {
            let refused = device.map_window(privilege, PrivilegedWindow::Processor, memory);
            assert_eq!(refused, Err(expected));
        }
        let refused = device.map_window(privilege, PrivilegedWindow::Processor, run(1, 4096));
        assert!(matches!(refused, Err(MapWindowError::Space(_))));
        // Not occupied either.
        device
            .map_window(privilege, PrivilegedWindow::Processor, run(0, 4096))
            .unwrap();
        device
            .unmap_window(privilege, PrivilegedWindow::Processor)
            .unwrap();
        assert_eq!(machine.counters(), before);
    });
    fn none<A: Model>() {
        machine::<A>(|machine| {
            let memory = WindowMemory::Device(Run::new(BusAddr::new(0), 4096).unwrap());
            for window in [PrivilegedWindow::Firmware, PrivilegedWindow::Processor] {
                let refused = machine
                    .device
                    .map_window(&machine.privilege, window, memory);
                assert_eq!(refused, Err(MapWindowError::NoWindow));
            }
        });
    }
    none::<Gaudi>();
    none::<Gaudi2<6>>();
}

#[test]
fn the_doorbell_of_gaudi2_is_mapped_for_each_user_and_goes_with_his_file() {
    machine::<Gaudi2<6>>(|machine| {
        let before = machine.counters();
        let (budget, process) = (Budget::unlimited(), machine.spawn());
        let (doorbell, memory) = host_pages(machine, 1);
        let window = Gaudi2::<6>::PROFILE.host.fixed[0].start();
        let (mut one, mut two) = (machine.storage(), machine.storage());
        let contexts = [&mut one, &mut two].map(|storage| {
            let context = machine.open(&process, &budget, storage).unwrap();
            let at = context.map_window(&machine.privilege, window, memory);
            assert_eq!(at, Ok(window));
            let twice = context.map_window(&machine.privilege, window, memory);
            assert!(matches!(twice, Err(MapWindowError::Space(_))), "{twice:?}");
            assert!(context.unmap(window).is_err());
            context
        });
        let elsewhere = DeviceAddr::new(window.get() - 4096);
        let refused = contexts[0].map_window(&machine.privilege, elsewhere, memory);
        assert_eq!(refused, Err(MapWindowError::NoWindow));
        for (context, value) in contexts.iter().zip([*b"one!", *b"two!"]) {
            let queue = machine
                .asic
                .add_initiator("queue", user_mode(context.asid()));
            machine.asic.write(queue, window, &value).unwrap();
            let mut seen = [0; 4];
            doorbell.view().unwrap().read(0, &mut seen).unwrap();
            assert_eq!(seen, value);
        }
        for context in contexts {
            let queue = machine
                .asic
                .add_initiator("queue", user_mode(context.asid()));
            let left = context.close().unwrap();
            assert_eq!(left.mappings, 0);
            assert!(machine.asic.write(queue, window, b"late").is_err());
        }
        drop((doorbell, process));
        assert_eq!(machine.counters(), before);
    });
}
