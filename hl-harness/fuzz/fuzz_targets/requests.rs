//! Requests of two users, as bytes, against whole machines.
//!
//! Nothing may panic; a refused request changes nothing; the device reaches nothing that the host
//! has free; and whatever the users left behind, every counter is back when both files are closed.
#![no_main]

use std::sync::Arc;

use hl_harness::asic::{DmaEngine, InitiatorMode};
use hl_harness::host::{Permission, Process, UserAddress};
use hl_harness::log::EventLog;
use hl_harness::machine::{Machine, MachineConfig, MachineContext, Model, with_machine};
use hl_mem::budget::Budget;
use hl_mem::profile::{Gaudi, Gaudi2, Goya};
use hl_mem::uapi::{self, FLAG_USERPTR, MemoryInput, OP_MAP};
use libfuzzer_sys::fuzz_target;
use mmu_core::DeviceAddr;

/// Pages of a user's memory.
const PAGES: usize = 24;
const PAGE: u64 = 4096;
/// Locked pages that a user may have.
const LIMIT: usize = 40;
const MOST_REQUESTS: usize = 64;

/// Takes numbers off the front of the input, and zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn below(&mut self, bound: u8) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        first % bound
    }

    fn word(&mut self) -> u64 {
        u64::from_le_bytes([(); 8].map(|()| self.below(255)))
    }
}

/// One user, and what the requests so far have returned to him.
struct User<'u, 'c, 's, 'm, A: Model> {
    context: &'u MachineContext<'c, 's, 'm, A>,
    buffer: UserAddress,
    values: Vec<u64>,
}

impl<A: Model> User<'_, '_, '_, '_, A> {
    /// A number that means something: an address of his, a value he was given, or any number.
    fn number(&self, bytes: &mut Bytes<'_>) -> u64 {
        match bytes.below(4) {
            0 => self.buffer.get() + u64::from(bytes.below(32)) * PAGE / 2,
            1 => match self.values.as_slice() {
                [] => 0,
                values => values[usize::from(bytes.below(255)) % values.len()],
            },
            2 => u64::from(bytes.below(64)) * PAGE / 4,
            _ => bytes.word(),
        }
    }

    fn request(&self, bytes: &mut Bytes<'_>) -> Vec<u8> {
        let input = MemoryInput {
            arguments: [(); 3].map(|()| self.number(bytes)),
            op: u32::from(bytes.below(8)),
            flags: match bytes.below(4) {
                0 => 0,
                1 => FLAG_USERPTR,
                2 => u32::from(bytes.below(16)),
                _ => bytes.word() as u32,
            },
            context_id: u32::from(bytes.below(3)),
            element_count: 0,
        };
        let mut request = input.to_bytes().to_vec();
        if bytes.below(32) == 1 {
            request.truncate(usize::from(bytes.below(40)));
        }
        request
    }
}

fn process<A: Model>(machine: &Machine<'_, '_, A>) -> (Arc<Process>, UserAddress) {
    let process = machine.spawn();
    let buffer = process
        .map(PAGES, Permission::ReadWrite)
        .expect("the host has memory");
    (process, buffer)
}

fn drive<A: Model>(bytes: &mut Bytes<'_>) {
    let config = MachineConfig {
        frames: 256,
        // Few enough to run out of.
        tables: 24,
        mappings: 6,
        users: 2,
        ..MachineConfig::default()
    };
    let driven = with_machine::<A, _>(config, EventLog::new(), |machine| {
        // Whether free device memory is scrubbed or waits for it is all that may change.
        let counters = || machine.counters().named();
        let before = counters();
        let [(one, first), (other, second)] = [process(machine), process(machine)];
        let budgets = [Budget::new(LIMIT), Budget::new(LIMIT)];
        let mut storage = [machine.storage(), machine.storage()];
        let [mine, his] = &mut storage;
        let contexts = [
            machine
                .open(&one, &budgets[0], mine)
                .expect("there is a seat"),
            machine
                .open(&other, &budgets[1], his)
                .expect("there is a seat"),
        ];
        let mut users = [
            User {
                context: &contexts[0],
                buffer: first,
                values: Vec::new(),
            },
            User {
                context: &contexts[1],
                buffer: second,
                values: Vec::new(),
            },
        ];
        for _ in 0..MOST_REQUESTS {
            if bytes.0.is_empty() {
                break;
            }
            let user = &mut users[usize::from(bytes.below(2))];
            let request = user.request(bytes);
            let state = || (counters(), user.context.usage());
            let known = state();
            match uapi::dispatch(user.context, &request) {
                Ok(output) if output.value != 0 => user.values.push(output.value),
                Ok(_) => {}
                Err(_) => assert_eq!(state(), known, "a refused request changed something"),
            }
            if request.get(24) == Some(&(OP_MAP as u8)) {
                // What is not pinned moves away at once; the device must not notice.
                machine.host.reclaim();
            }
            // The device uses what it has been given, and faults elsewhere.
            let mode = InitiatorMode::User(user.context.asid().get());
            let engine = DmaEngine::new(&machine.asic, "user", mode);
            let at = DeviceAddr::new(user.number(bytes));
            let _ = machine.asic.read(engine.initiator(), at, &mut [0; 16]);
        }
        for context in contexts {
            context.close().expect("the device confirms every removal");
        }
        one.exit();
        other.exit();
        assert_eq!(counters(), before);
        assert_eq!(budgets.map(|budget| budget.charged()), [0, 0]);
        let statistics = machine.host.statistics();
        assert_eq!(
            (statistics.free_accesses, statistics.unpinned_accesses),
            (0, 0),
            "the device used memory that it was not given"
        );
    });
    driven.expect("the machine has memory");
}

fuzz_target!(|input: &[u8]| {
    let mut bytes = Bytes(input);
    match bytes.below(3) {
        0 => drive::<Goya>(&mut bytes),
        1 => drive::<Gaudi>(&mut bytes),
        _ => drive::<Gaudi2<6>>(&mut bytes),
    }
});
