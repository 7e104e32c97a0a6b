//! Whether the device is there, as the driver notes it, and what users are told of it: an interrupt
//! notes a loss whenever it comes, while the device is brought back and while files are opened.

use hl_mem::dram::DramContent;
use hl_mem::events::{DeviceEvent, Report};
use loom::sync::Mutex;

use crate::rig::hold::Hold;
use crate::rig::pages::Owner;
use crate::rig::port::{HostTables, ModelContext, try_map};
use crate::{expect_failure_in_large, explore_large};

const PROCESS: Owner = 7;
const UNTOLD: &str = "a user believes what is not so";

type Machine = crate::rig::port::Machine<HostTables>;
type Context = ModelContext<HostTables>;

/// Whether the device works as far as the user can know, who took it to do so before or not, and reads
/// everything that he was told. Turns of fate are told in turn, and are not lost.
fn believes_it_works(context: &Context, before: bool) -> bool {
    let mut works = before;
    while let Some(report) = context.next_event() {
        context.confirm_event(&report).unwrap();
        let Report::Event { event, .. } = report else {
            panic!("an event was lost");
        };
        works = match event {
            DeviceEvent::DeviceLost => false,
            DeviceEvent::DeviceRecovered => true,
            other => panic!("nobody posts {other}"),
        };
    }
    works
}

/// Who tells users that the device works again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tells {
    Library,
    /// Planted: the driver does, once the device was brought back.
    DriverToo,
}

/// The device is brought back after a reset; meanwhile an interrupt notes that it is lost once more.
/// What does not come back in the first try does in the second.
fn lost_while_it_comes_back(tells: Tells) {
    Hold::run(move |hold| {
        let machine = Machine::new(hold, 1, None);
        let device = &machine.device;
        let before = machine.counters();
        let context = machine.open(hold, PROCESS);
        let _ = device.note_lost();
        assert!(!believes_it_works(&context, true));
        hold.spawn(move || {
            let _ = device.note_lost();
        });
        let bring_back = || {
            machine.rig.hardware.reset();
            let back = device.recover(DramContent::Unknown);
            if back.is_ok() && tells == Tells::DriverToo {
                let _ = device.post(DeviceEvent::DeviceRecovered);
            }
            back
        };
        let first = bring_back();
        hold.join();
        if first.is_err() {
            assert!(device.is_lost());
        }
        let works = !device.is_lost();
        if works != believes_it_works(&context, false) {
            panic!("{UNTOLD}");
        }
        if !works {
            bring_back().expect("nobody notes a loss any more");
            assert!(believes_it_works(&context, false));
        }
        // It is of no use any more, whatever he was told.
        assert!(try_map(&context).is_err());
        context.close().expect("the device confirms");
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn a_device_is_lost_while_it_comes_back() {
    explore_large(
        "a loss noted while the device is brought back: that fails or came before, and users know",
        || lost_while_it_comes_back(Tells::Library),
    );
}

#[test]
fn good_news_that_are_old_are_found() {
    expect_failure_in_large(
        "the driver tells users that the device is back when it may be lost again",
        UNTOLD,
        || lost_while_it_comes_back(Tells::DriverToo),
    );
}

/// A file is opened while an interrupt notes that the device is lost, which is then brought back.
fn opened_while_it_is_lost() {
    Hold::run(|hold| {
        let machine = Machine::new(hold, 1, None);
        let device = &machine.device;
        let before = machine.counters();
        let opened = &*hold.keep(Mutex::new(None));
        let room = machine.room(hold);
        hold.spawn(move || *opened.lock().unwrap() = machine.try_open(PROCESS, room).ok());
        let _ = device.note_lost();
        hold.join();
        let context = opened.lock().unwrap().take();
        if context
            .as_ref()
            .is_some_and(|context| believes_it_works(context, true))
        {
            panic!("{UNTOLD}");
        }
        machine.rig.hardware.reset();
        let back = device.recover(DramContent::Unknown);
        back.expect("nobody notes a loss any more");
        if let Some(context) = context {
            assert!(believes_it_works(&context, false));
            context.close().expect("the device confirms");
        }
        assert_eq!(machine.counters(), before);
    });
}

#[test]
fn a_file_is_opened_while_the_device_is_lost() {
    explore_large(
        "a file that is opened while the device is lost was told so, or was not opened",
        opened_while_it_is_lost,
    );
}
