//! Step 7: memory is given up in one order only (facts 11.14).

use std::thread;

use hl_mem::context::LeftBehind;

use super::block::Created;
use super::failure::{Failure, OrFail, check};
use super::report::{Report, count, grouped};
use super::stream::{Engine, Gauges, PRODUCER_STOPPED, Ring};
use crate::host::FrameOwner;
use crate::log::{Event, Record, TableMemory};
use crate::machine::{Machine, MachineContext, MachineView, Model};

/// One stage of giving up memory, as the log has it: the first and the last event of its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What happened.
    pub what: &'static str,
    /// How many times.
    pub events: usize,
    /// The place of the first one in the log.
    pub first: u64,
    /// The place of the last one.
    pub last: u64,
}

/// How something mapped was given up: its stages, in the order in which they must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order(pub Vec<Stage>);

/// What ends the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Pages of a block, freed; and a producer was stopped before.
    Pages,
    /// Pins of user memory.
    Pins,
}

impl Order {
    /// Finds the stages in the events of one removal and checks that each is over before the next
    /// begins.
    ///
    /// # Errors
    ///
    /// [`Failure::Check`]: a stage is missing, or begins too early.
    pub fn of(records: &[Record], given: Given) -> Result<Self, Failure> {
        let mut stages = Vec::new();
        let mut stage = |what, belongs: &dyn Fn(&Event) -> bool| {
            let mut found = records.iter().filter(|record| belongs(&record.event));
            let first = found
                .next()
                .ok_or_else(|| Failure::check(format_args!("missing: {what}")))?;
            let (events, last) = found.fold((1, first), |(events, _), record| (events + 1, record));
            stages.push(Stage {
                what,
                events,
                first: first.sequence,
                last: last.sequence,
            });
            Ok(())
        };
        if given == Given::Pages {
            stage(
                PRODUCER_STOPPED,
                &|event| matches!(event, Event::Note { text } if *text == PRODUCER_STOPPED),
            )?;
        }
        let cleared = |event: &Event| matches!(event, Event::EntryStore { entry: 0, .. });
        stage("entries cleared", &cleared)?;
        let in_device = records.iter().any(|record| {
            let device = TableMemory::Device;
            matches!(record.event, Event::EntryStore { memory, .. } if memory == device)
        });
        // Stores to host memory are not posted: a fence orders them, which no log sees.
        if in_device {
            stage("stores flushed", &|event| {
                matches!(event, Event::Flush { posted: 1.. })
            })?;
        }
        stage("invalidation started", &|event| {
            matches!(event, Event::InvalidateBegin { .. })
        })?;
        stage("invalidation confirmed", &|event| {
            matches!(event, Event::InvalidateEnd { .. })
        })?;
        match given {
            Given::Pages => stage("pages freed", &|event| {
                matches!(
                    event,
                    Event::PageFree {
                        owner: FrameOwner::Kernel(_),
                        ..
                    }
                )
            })?,
            Given::Pins => stage("pages unpinned", &|event| {
                matches!(event, Event::Unpin { .. })
            })?,
        }
        for pair in stages.windows(2) {
            // The units of an invalidation overlap; each must start before all are confirmed.
            let early = if pair[1].what == "invalidation confirmed" {
                pair[1].last <= pair[0].last
            } else {
                pair[1].first <= pair[0].last
            };
            check(
                !early,
                format_args!("{} before {} was over", pair[1].what, pair[0].what),
            )?;
        }
        Ok(Self(stages))
    }

    /// Prints it.
    pub fn print(&self, report: &Report) {
        let rows = self.0.iter().map(|stage| {
            let events = if stage.first == stage.last {
                format!("event {}", stage.first)
            } else {
                format!("events {} to {}", stage.first, stage.last)
            };
            [grouped(stage.events as u64), stage.what.to_owned(), events]
        });
        report.table(&rows.collect::<Vec<_>>());
    }
}

/// Runs `give_up` and finds the order of what it did, which the log must be recording.
///
/// # Errors
///
/// That of `give_up`, or of [`Order::of`].
pub fn ordered<A: Model>(
    machine: &Machine<'_, '_, A>,
    given: Given,
    give_up: impl FnOnce() -> Result<(), Failure>,
) -> Result<Order, Failure> {
    let mark = machine.log.mark();
    give_up()?;
    Order::of(&machine.log.since(mark), given)
}

/// Destroys a block while its producer runs and its view is open, then ends the view.
///
/// # Errors
///
/// [`Failure::Check`] where the producer does not stop, the device still reaches the block, or the
/// user loses it before he lets go of it.
pub fn destroy<'m, A: Model>(
    machine: &Machine<'_, 'm, A>,
    context: &MachineContext<'_, '_, 'm, A>,
    created: &Created,
    view: MachineView<'m, A>,
    ring: Ring<'_>,
) -> Result<(), Failure> {
    let gauges = Gauges::default();
    let engine = Engine::start(ring, &gauges).or_fail("starting a producer")?;
    let destroyed = thread::scope(|scope| {
        let producer = scope.spawn(|| engine.idle());
        // The ring is full and the producer waits: it is in the middle of its work.
        while gauges.times_full() == 0 && !producer.is_finished() {
            thread::yield_now();
        }
        let destroyed = context
            .destroy_block(created.handle)
            .or_fail("destroying the block");
        match producer.join() {
            Ok(ended) => destroyed.and(ended.or_fail("the producer")),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    let (asid, address, len) = (0, created.range.start(), created.range.len());
    if let Err(failure) = destroyed {
        // Letting go of the view frees no page that the device may still use.
        machine.device.end_view(view).or_fail("ending the view")?;
        machine.log.record(Event::Quarantine { asid, address, len });
        return Err(failure);
    }
    let first_record = created.layout.data_offset() as usize;
    let mut seen = [0; 8];
    view.view()
        .view()
        .read(first_record, &mut seen)
        .or_fail("reading the view of a destroyed block")?;
    check(
        machine.device.usage().buffers.buffers > 0,
        "the block went before its view",
    )?;
    machine.device.end_view(view).or_fail("ending the view")?;
    machine.log.record(Event::Release { asid, address, len });
    Ok(())
}

/// Prints what a file left behind that was closed without tidying up.
pub fn print_left(left: LeftBehind, invalidations: u64, report: &Report) {
    report.text(format_args!(
        "{} and {}, given up by {}",
        count(left.handles.into(), "block"),
        count(left.mappings.into(), "mapping"),
        count(invalidations, "invalidation"),
    ));
}
