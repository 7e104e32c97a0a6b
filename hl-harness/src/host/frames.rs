//! Physical pages: who owns each, who refers to it, who pinned it, and in which order they are reused.

use core::fmt;

/// A physical page of the host by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame(pub(crate) u32);

impl Frame {
    /// Its number; the first is 0.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame {:#x}", self.0)
    }
}

/// A process by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub(crate) u32);

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.0)
    }
}

/// Whom a page was allocated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameOwner {
    /// Nobody: it is free.
    Free,
    /// The kernel, for this purpose.
    Kernel(&'static str),
    /// A process: reclaim may move it while it is not pinned.
    User(ProcessId),
}

impl fmt::Display for FrameOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("nobody"),
            Self::Kernel(purpose) => write!(f, "kernel ({purpose})"),
            Self::User(process) => process.fmt(f),
        }
    }
}

/// In which order free pages are handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameOrder {
    /// Anywhere, decided by a seed: neighbours in an allocation are almost never neighbours in memory.
    Scattered {
        /// The seed; the same one gives the same frames for the same calls.
        seed: u64,
    },
    /// The page freed last comes first: a page still in use by a device is overwritten soonest. While
    /// none was freed, ascending.
    ImmediateReuse,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameState {
    pub(crate) owner: FrameOwner,
    /// Address spaces, blocks and views that refer to it.
    pub(crate) references: u32,
    pub(crate) pins: u32,
    pub(crate) dma_mappings: u32,
    pub(crate) dirty: bool,
    /// It was handed out before, so while free it must hold the poison.
    pub(crate) used: bool,
}

/// The state of every frame and the free list.
#[derive(Debug)]
pub(crate) struct FrameTable {
    states: Vec<FrameState>,
    free: Vec<u32>,
    /// Where a free frame stands in `free`.
    position: Vec<u32>,
    order: FrameOrder,
    random: fastrand::Rng,
}

impl FrameTable {
    pub(crate) fn new(frames: u32, order: FrameOrder) -> Self {
        let state = FrameState {
            owner: FrameOwner::Free,
            references: 0,
            pins: 0,
            dma_mappings: 0,
            dirty: false,
            used: false,
        };
        // Reversed, because frames are taken from the end.
        let free: Vec<u32> = (0..frames).rev().collect();
        Self {
            states: vec![state; frames as usize],
            position: free.clone(),
            free,
            order,
            random: fastrand::Rng::with_seed(match order {
                FrameOrder::Scattered { seed } => seed,
                FrameOrder::ImmediateReuse => 0,
            }),
        }
    }

    pub(crate) fn state(&self, frame: Frame) -> &FrameState {
        &self.states[frame.0 as usize]
    }

    pub(crate) fn state_mut(&mut self, frame: Frame) -> &mut FrameState {
        &mut self.states[frame.0 as usize]
    }

    pub(crate) fn states(&self) -> &[FrameState] {
        &self.states
    }

    /// Chooses a free frame and takes it off the list.
    pub(crate) fn take(&mut self) -> Option<Frame> {
        let last = self.free.len().checked_sub(1)?;
        let at = match self.order {
            FrameOrder::ImmediateReuse => last,
            FrameOrder::Scattered { .. } => self.random.usize(..self.free.len()),
        };
        Some(self.take_at(at))
    }

    /// Takes `count` consecutive frames, the first a multiple of `align`; the lowest there are.
    pub(crate) fn take_run(&mut self, count: u32, align: u32) -> Option<Frame> {
        let total = self.states.len() as u32;
        let mut first = 0_u32;
        while count > 0 && first.checked_add(count)? <= total {
            let run = first..first + count;
            let taken = run.rev().find(|n| !self.is_free(*n));
            match taken {
                None => {
                    for number in first..first + count {
                        self.take_at(self.position[number as usize] as usize);
                    }
                    return Some(Frame(first));
                }
                Some(obstacle) => first = (obstacle + 1).checked_next_multiple_of(align)?,
            }
        }
        None
    }

    /// Puts a frame back.
    pub(crate) fn put(&mut self, frame: Frame) {
        self.position[frame.0 as usize] = self.free.len() as u32;
        self.free.push(frame.0);
    }

    fn is_free(&self, number: u32) -> bool {
        self.states[number as usize].owner == FrameOwner::Free
    }

    fn take_at(&mut self, at: usize) -> Frame {
        let number = self.free.swap_remove(at);
        if let Some(moved) = self.free.get(at) {
            self.position[*moved as usize] = at as u32;
        }
        Frame(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(table: &mut FrameTable) -> Option<Frame> {
        let frame = table.take()?;
        table.state_mut(frame).owner = FrameOwner::Kernel("test");
        Some(frame)
    }

    fn put(table: &mut FrameTable, frame: Frame) {
        table.state_mut(frame).owner = FrameOwner::Free;
        table.put(frame);
    }

    #[test]
    fn scattered_frames_are_all_different_and_repeat_with_the_seed() {
        let order = FrameOrder::Scattered { seed: 7 };
        let mut one = FrameTable::new(100, order);
        let mut other = FrameTable::new(100, order);
        let frames: Vec<_> = std::iter::from_fn(|| take(&mut one)).collect();
        let again: Vec<_> = std::iter::from_fn(|| take(&mut other)).collect();
        assert_eq!(frames, again);
        let neighbours = frames.windows(2).filter(|w| w[0].0 + 1 == w[1].0).count();
        assert!(neighbours < 10, "{neighbours} of 99 pairs are neighbours");
        let mut sorted = frames;
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), 100);
    }

    #[test]
    fn immediate_reuse_hands_out_the_frame_freed_last() {
        let mut table = FrameTable::new(4, FrameOrder::ImmediateReuse);
        assert_eq!(
            (take(&mut table), take(&mut table)),
            (Some(Frame(0)), Some(Frame(1)))
        );
        put(&mut table, Frame(0));
        assert_eq!(take(&mut table), Some(Frame(0)));
    }

    #[test]
    fn a_run_is_aligned_skips_what_is_taken_and_leaves_the_rest_of_the_list_whole() {
        let mut table = FrameTable::new(16, FrameOrder::ImmediateReuse);
        let first = take(&mut table);
        assert_eq!(first, Some(Frame(0)));
        assert_eq!(table.take_run(4, 4), Some(Frame(4)));
        for number in 4..8 {
            table.state_mut(Frame(number)).owner = FrameOwner::Kernel("test");
        }
        assert_eq!(table.take_run(9, 1), None);
        let rest: Vec<_> = std::iter::from_fn(|| take(&mut table)).collect();
        assert_eq!(rest.len(), 11);
        assert!(
            rest.iter()
                .all(|frame| !(4..8).contains(&frame.0) && frame.0 != 0)
        );
    }
}
