//! One user who takes long keeps no other waiting: threads of one context stop in the middle of
//! building a table, and everything that another context does goes on.
//!
//! The port's table bus and its `before_lock` are where a thread stops: at the first store of a table,
//! or when it is about to take a lock.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use hl_mem::budget::Budget;
use hl_mem::device::{Device, Privilege, PrivilegedWindow, WindowMemory};
use hl_mem::dram::{Contiguity, Sharing};
use hl_mem::lock::LockRank;
use hl_mem::mmu::GoyaMmu;
use hl_mem::profile::{Asic, Goya};
use hl_mem::uapi::{FLAG_USERPTR, MemoryInput, OP_MAP, OP_UNMAP, dispatch};
use hl_mem::{Context, Wanted};
use mmu_core::{BusAddr, DeviceAddr, DeviceLost, Run, TableBus};

use support::smallest_port::{MmuRegisters, NoEngines, TableWindow, USER_BASE};
use support::{BusTables, InOrder, Manner, TestPort, bus_tables, file_storage, parts};

pub mod support;

/// Where a thread can be made to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Point {
    /// It writes an entry.
    Write,
    /// It is about to take a lock.
    Lock(LockRank),
}

/// A stop of a thread: it says that it is there, and goes on when it is told to.
struct Stop {
    at: Point,
    there: Sender<()>,
    go: Receiver<()>,
}

/// The other end of a [`Stop`].
struct Watch {
    there: Receiver<()>,
    go: Sender<()>,
}

/// Longer than anything takes here, for a test that would otherwise hang.
const TOO_LONG: Duration = Duration::from_secs(20);

impl Watch {
    /// Waits until the thread is there.
    fn arrived(&self) {
        self.there.recv_timeout(TOO_LONG).expect("the thread comes");
    }

    /// Has the thread go on, whether or not it is there.
    fn go_on(&self) {
        self.go.send(()).expect("the thread is there, or comes");
    }
}

fn stop(at: Point) -> (Stop, Watch) {
    let ((there, is_there), (go, may_go)) = (channel(), channel());
    let stop = Stop {
        at,
        there,
        go: may_go,
    };
    (
        stop,
        Watch {
            there: is_there,
            go,
        },
    )
}

thread_local! {
    /// Where this thread is to stop, the next one last.
    static STOPS: RefCell<Vec<Stop>> = const { RefCell::new(Vec::new()) };
}

/// Stops this thread at each of `stops`, in their order.
fn stop_at(stops: impl IntoIterator<Item = Stop>) {
    let mut stops: Vec<_> = stops.into_iter().collect();
    stops.reverse();
    STOPS.set(stops);
}

fn pass(point: Point) {
    let stop = STOPS.with_borrow_mut(|stops| stops.pop_if(|stop| stop.at == point));
    if let Some(stop) = stop {
        stop.there.send(()).expect("the test watches");
        stop.go.recv().expect("the test lets everybody go on");
    }
}

/// Table memory where a thread can be stopped.
struct Gated(TableWindow);

impl TableBus for Gated {
    fn write(&self, address: BusAddr, entries: impl Iterator<Item = u64>) {
        pass(Point::Write);
        self.0.write(address, entries);
    }

    fn read(&self, address: BusAddr) -> u64 {
        self.0.read(address)
    }

    fn flush(&self) -> Result<(), DeviceLost> {
        self.0.flush()
    }
}

type Tables = BusTables<Gated>;

/// Locks are where a thread can be stopped, too.
struct Gates;

impl Manner for Gates {
    fn before_lock(rank: LockRank) {
        pass(Point::Lock(rank));
        InOrder::before_lock(rank);
    }
}

type Mmu = GoyaMmu<&'static MmuRegisters, 3>;
type GatedPort = TestPort<Mmu, Tables, NoEngines, Gates>;

type User<'c> = Context<'c, 'static, Goya, GatedPort>;

struct Machine {
    device: Device<'static, Goya, GatedPort>,
    privilege: Privilege,
    budget: Budget,
}

impl Machine {
    fn new() -> Self {
        let registers: &MmuRegisters = Box::leak(Box::default());
        registers.reset();
        let tables = bus_tables::<Goya, _>(Gated(TableWindow::default()));
        let mmu = |parking| GoyaMmu::new(registers, Goya::PROFILE.timeouts, parking);
        let (device, privilege) = Device::new(parts(tables, NoEngines, 2), mmu).unwrap();
        Self {
            device,
            privilege,
            budget: Budget::unlimited(),
        }
    }

    fn open(&self) -> User<'_> {
        let opened = self.device.open((), &self.budget, file_storage());
        opened.unwrap()
    }
}

/// Maps four pages of the user's, by a request as he makes it.
fn map(user: &User<'_>) -> DeviceAddr {
    let input = MemoryInput {
        arguments: [USER_BASE, 0, 0x4000],
        op: OP_MAP,
        flags: FLAG_USERPTR,
        ..MemoryInput::default()
    };
    DeviceAddr::new(dispatch(user, &input.to_bytes()).unwrap().value)
}

fn unmap(user: &User<'_>, at: DeviceAddr) {
    let input = MemoryInput {
        arguments: [at.get(), 0, 0],
        op: OP_UNMAP,
        ..MemoryInput::default()
    };
    dispatch(user, &input.to_bytes()).unwrap();
}

/// All that a user does with a device, and his driver for him, but with the privileged space.
fn everything_of(machine: &Machine, user: &User<'_>) {
    let at = map(user);
    unmap(user, at);
    let buffer = user.create_command_buffer(0x1000, true).unwrap();
    let view = user.mmap(buffer, 0x1000).unwrap();
    machine.device.end_view(view).unwrap();
    user.destroy_command_buffer(buffer).unwrap();
    let memory = user
        .allocate_dram(2 << 20, Contiguity::Scattered, Sharing::Private)
        .unwrap();
    let at = user.map_dram(memory, Wanted::Anywhere).unwrap();
    let export = user.export_dram(at, 0x1000, 0).unwrap();
    user.end_export(export).unwrap();
    user.unmap(at).unwrap();
    user.free_dram(memory).unwrap();
    let _ = machine.device.report_faults(|_| {}).unwrap();
}

/// Sees whether another user gets on while threads are stopped, and lets them go then.
fn others_get_on<'s, 'm: 's>(
    scope: &'s thread::Scope<'s, '_>,
    machine: &'m Machine,
    other: &'s User<'m>,
    let_go: impl FnOnce(),
) {
    let (done, is_done) = channel();
    scope.spawn(move || {
        everything_of(machine, other);
        done.send(()).unwrap();
    });
    let got_on = is_done.recv_timeout(TOO_LONG);
    // In any case, so that a test which fails does not hang.
    let_go();
    got_on.expect("another user waits for one who takes long");
}

/// One thread stops in a table build that `stalled` makes; another of the same user does `waiting`,
/// which needs the same space.
fn nobody_waits_for(
    stalled: impl FnOnce(&Machine, &User<'_>) + Send,
    waiting: impl FnOnce(&Machine, &User<'_>) + Send,
) {
    let machine = &Machine::new();
    let (slow, other) = (&machine.open(), &machine.open());
    thread::scope(|scope| {
        let (build, building) = stop(Point::Write);
        scope.spawn(move || {
            stop_at([build]);
            stalled(machine, slow);
        });
        building.arrived();
        let (lock, locking) = stop(Point::Lock(LockRank::Space));
        scope.spawn(move || {
            stop_at([lock]);
            waiting(machine, slow);
        });
        locking.arrived();
        locking.go_on();
        others_get_on(scope, machine, other, || building.go_on());
    });
}

#[test]
fn nobody_waits_for_a_user_who_confirms_a_removal_while_another_thread_of_his_maps() {
    let machine = &Machine::new();
    let (slow, other) = (&machine.open(), &machine.open());
    let at = map(slow);
    thread::scope(|scope| {
        let (mmu, at_mmu) = stop(Point::Lock(LockRank::HostMmu));
        let (release, releasing) = stop(Point::Lock(LockRank::Space));
        scope.spawn(move || {
            stop_at([mmu, release]);
            unmap(slow, at);
        });
        // The entries are cleared, and the space is free again.
        at_mmu.arrived();
        let (build, building) = stop(Point::Write);
        scope.spawn(move || {
            stop_at([build]);
            map(slow);
        });
        building.arrived();
        at_mmu.go_on();
        releasing.arrived();
        releasing.go_on();
        others_get_on(scope, machine, other, || building.go_on());
    });
}

#[test]
fn nobody_waits_for_a_user_who_maps_device_memory() {
    nobody_waits_for(
        |_, user| {
            let (pieces, private) = (Contiguity::Scattered, Sharing::Private);
            let memory = user.allocate_dram(4 << 20, pieces, private).unwrap();
            user.map_dram(memory, Wanted::Anywhere).unwrap();
        },
        |_, user| {
            map(user);
        },
    );
}

#[test]
fn nobody_waits_for_a_user_for_whom_a_command_buffer_is_mapped() {
    nobody_waits_for(
        |_, user| {
            user.create_command_buffer(0x1000, true).unwrap();
        },
        |_, user| user.inspect(&mut |_| {}),
    );
}

#[test]
fn nobody_waits_for_a_user_for_whom_a_block_is_mapped() {
    let machine = &Machine::new();
    let (slow, other) = (&machine.open(), &machine.open());
    let (block, id) = slow.create_block(&machine.privilege, 0x3000).unwrap();
    thread::scope(|scope| {
        let (build, building) = stop(Point::Write);
        scope.spawn(move || {
            stop_at([build]);
            let at = slow.map_block(&machine.privilege, block, Wanted::Anywhere);
            assert!(at.is_ok());
        });
        building.arrived();
        // The block itself is there for everybody who may know of it.
        let (tell, told) = channel();
        scope.spawn(move || tell.send(machine.device.block_range(&machine.privilege, id)));
        let range = told.recv_timeout(TOO_LONG);
        others_get_on(scope, machine, other, || building.go_on());
        let range = range.expect("the driver waits for the user");
        assert_eq!(range.map(|range| range.len()), Ok(0x3000));
    });
    // Nothing of it was lost on the way.
    let view = slow.mmap(block, 0x3000).unwrap();
    machine.device.end_view(view).unwrap();
    slow.destroy_block(block).unwrap();
}

#[test]
fn nobody_waits_for_a_block_that_is_made_while_a_window_is_mapped() {
    nobody_waits_for(
        |machine, user| {
            user.create_block(&machine.privilege, 0x3000).unwrap();
        },
        |machine, _| {
            let start = Goya::PROFILE.device_tables.start();
            let memory = WindowMemory::Device(Run::new(start, 2 << 20).unwrap());
            let window = PrivilegedWindow::Firmware;
            let device = &machine.device;
            device
                .map_window(&machine.privilege, window, memory)
                .unwrap();
        },
    );
}

#[test]
fn nobody_waits_for_a_block_that_is_made_while_the_device_is_looked_at() {
    nobody_waits_for(
        |machine, user| {
            user.create_block(&machine.privilege, 0x3000).unwrap();
        },
        |machine, _| {
            let _ = machine.device.usage();
            machine
                .device
                .inspect(&machine.privilege, &mut |_| {})
                .unwrap();
        },
    );
}

#[test]
fn nobody_waits_for_a_block_that_is_given_up_while_another_is_made() {
    let machine = &Machine::new();
    let (slow, other) = (&machine.open(), &machine.open());
    let (block, _) = slow.create_block(&machine.privilege, 0x3000).unwrap();
    thread::scope(|scope| {
        let (clear, clearing) = stop(Point::Write);
        scope.spawn(move || {
            stop_at([clear]);
            slow.destroy_block(block).unwrap();
        });
        clearing.arrived();
        others_get_on(scope, machine, other, || clearing.go_on());
    });
}

#[test]
#[cfg_attr(
    not(debug_assertions),
    ignore = "only debug builds tell the port of locks"
)]
fn a_block_that_is_being_made_has_a_place_and_is_none_yet() {
    let machine = &Machine::new();
    let user = &machine.open();
    let counts = || {
        let buffers = machine.device.usage().buffers;
        (buffers.held, buffers.buffers)
    };
    thread::scope(|scope| {
        let (mmu, at_mmu) = stop(Point::Lock(LockRank::HostMmu));
        scope.spawn(move || {
            stop_at([mmu]);
            user.create_block(&machine.privilege, 0x3000).unwrap();
        });
        // It is mapped, and about to be announced.
        at_mmu.arrived();
        let meanwhile = counts();
        at_mmu.go_on();
        assert_eq!(meanwhile, (1, 0));
    });
    assert_eq!(counts(), (0, 1));
}
