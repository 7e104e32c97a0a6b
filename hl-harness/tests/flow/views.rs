//! Views that are copied and end in parts.

use hl_harness::machine::{MachineConfig, Model};
use hl_mem::buffer::ViewPolicy;
use hl_mem::context::ViewError;

use crate::rig::{machine, machine_of, on_each_asic, with_file};

on_each_asic!(
    h02_what_is_shown_lives_until_the_last_page_of_the_last_view_is_gone,
    views_are_counted_where_the_port_wants_several,
);

fn h02_what_is_shown_lives_until_the_last_page_of_the_last_view_is_gone<A: Model>() {
    machine::<A>(|machine| {
        with_file!(machine, context, {
            let handle = context.create_command_buffer(4 * 4096, false).unwrap();
            let view = context.mmap(handle, 4 * 4096).unwrap();
            assert_eq!(
                context.mmap(handle, 4 * 4096).unwrap_err(),
                ViewError::Viewed
            );
            context.destroy_command_buffer(handle).unwrap();
            let child = machine.spawn();
            let copy = view.view().fork(&child).unwrap();
            let copy = machine.device.copy_view(&view, view.pages(), copy).unwrap();
            assert_eq!(machine.device.usage().buffers.views, 2);
            view.view().view().write(0, b"alive").unwrap();
            // The parent unmaps in two halves, the second of which is more than is left.
            let left = machine.device.end_pages(view, 3).unwrap().unwrap();
            assert_eq!((left.pages(), machine.device.usage().buffers.views), (1, 2));
            assert!(machine.device.end_pages(left, 1).unwrap().is_none());
            let mut seen = [0; 5];
            copy.view().view().read(0, &mut seen).unwrap();
            assert_eq!(&seen, b"alive");
            let usage = machine.device.usage().buffers;
            assert_eq!((usage.buffers, usage.views), (1, 1));
            machine.device.end_view(copy).unwrap();
            assert_eq!(machine.device.usage().buffers.buffers, 0);
        });
    });
}

fn views_are_counted_where_the_port_wants_several<A: Model>() {
    let config = MachineConfig {
        views: ViewPolicy::Counted,
        ..MachineConfig::default()
    };
    machine_of::<A>(config, |machine| {
        with_file!(machine, context, {
            let handle = context.create_command_buffer(4096, false).unwrap();
            let [one, two] = [(); 2].map(|()| context.mmap(handle, 4096).unwrap());
            one.view().view().write(8, b"same").unwrap();
            context.destroy_command_buffer(handle).unwrap();
            machine.device.end_view(one).unwrap();
            let mut seen = [0; 4];
            two.view().view().read(8, &mut seen).unwrap();
            assert_eq!(&seen, b"same");
            machine.device.end_view(two).unwrap();
        });
    });
}
