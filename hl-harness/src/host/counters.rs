//! What the host holds, as numbers that must return to where they were.

use core::fmt;

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl $name {
            /// The names of the counters, in declaration order.
            pub(crate) const NAMES: &'static [&'static str] = &[$($label),*];

            /// The counters by name, in declaration order.
            #[must_use]
            pub fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$(($label, self.$field)),*]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (index, (label, value)) in self.named().into_iter().enumerate() {
                    let separator = if index == 0 { "" } else { ", " };
                    write!(f, "{separator}{value} {label}")?;
                }
                Ok(())
            }
        }
    };
}

counters! {
    /// What the host holds now. Everything in it must be as before once what was made is undone, so a
    /// test compares a snapshot taken before with one taken after.
    HostCounters {
        /// Pages that are not free.
        frames_in_use "frames in use",
        /// Pages of processes, not free.
        user_frames "user frames",
        /// Pages of the kernel, not free.
        kernel_frames "kernel frames",
        /// Pages with at least one pin.
        pinned_frames "pinned frames",
        /// Pins on all pages together.
        pins "pins",
        /// Mappings for DMA of all pages together.
        dma_mappings "dma mappings",
        /// Pages marked dirty and not freed since.
        dirty_frames "dirty frames",
        /// References to pages by address spaces, blocks and views.
        references "references",
        /// Views.
        views "views",
        /// Pages that views show.
        view_pages "view pages",
    }
}

counters! {
    /// What happened on the host so far. The fields only grow. The first four are bugs of a driver.
    HostStatistics {
        /// Device accesses to pages that were free.
        free_accesses "device accesses to free frames",
        /// Device accesses to pages of a process that nobody had pinned.
        unpinned_accesses "device accesses to unpinned frames",
        /// Device accesses to pinned pages of a process that nobody had mapped for DMA.
        unmapped_accesses "device accesses to frames not mapped for dma",
        /// Free pages that had been written to when they were handed out again.
        poison_damaged "free frames damaged",
        /// Pages allocated.
        allocations "allocations",
        /// Pins taken.
        pins_taken "pins taken",
        /// Pages moved by reclaim.
        moved "frames moved",
    }
}

impl HostCounters {
    /// What differs from `before`, one line each: `pins: 3 -> 5`. Empty where nothing does.
    #[must_use]
    pub fn difference(&self, before: &Self) -> CounterDifference {
        let pairs = before.named().into_iter().zip(self.named());
        CounterDifference {
            changed: pairs
                .filter(|((_, old), (_, new))| old != new)
                .map(|((label, old), (_, new))| (label, old, new))
                .collect(),
        }
    }
}

/// Counters that are not what they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterDifference {
    changed: Vec<(&'static str, u64, u64)>,
}

impl CounterDifference {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }
}

impl fmt::Display for CounterDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, old, new) in &self.changed {
            writeln!(f, "{label}: {old} -> {new}")?;
        }
        Ok(())
    }
}
