//! The PMMU of a Gaudi2 (facts 2.4, 9.3): registers, walker, and a cache that forgets only on demand.

use mmu_core::DeviceAddr;
use spin::mutex::SpinMutex;

use crate::memory;

/// The first bits of an address that index each hop's table, and how many (facts 2.4).
const HOPS: [(u32, u32); 6] = [(57, 7), (48, 9), (39, 9), (30, 9), (21, 9), (12, 9)];
const PRESENT: u64 = 1 << 0;
const LAST: u64 = 1 << 11;
const ADDRESS: u64 = !0xFFF;

const BASE: u32 = 0x4D0_0000;
const ENABLE: u32 = 0x000C;
const CAUSE: u32 = 0x0030;
const PAGE_ERROR_HIGH: u32 = 0x0034;
const PAGE_ERROR_LOW: u32 = 0x0038;
const ERROR_VALID: u32 = 0x0044;
const BUSY: u32 = 0x1000;
const ASID: u32 = 0x1004;
const ROOT_LOW: u32 = 0x1008;
const ROOT_HIGH: u32 = 0x100C;
const HOP_CONFIG: u32 = 0x1024;
const INVALIDATE_ALL: u32 = 0x1034;
const CACHE_INVALIDATION: u32 = 0x1050;
const CACHE_STATUS: u32 = 0x1054;
const RANGE_INVALIDATION: u32 = 0x108C;
const RANGE_START: [u32; 2] = [0x1090, 0x1094];
const RANGE_END: [u32; 2] = [0x1098, 0x109C];

/// An invalidation shows as under way for so many reads.
const LATENCY: u32 = 2;
const ASIDS: usize = 2;

/// The device accessed an address that leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, defmt::Format)]
pub struct TranslationFault {
    /// The address.
    pub at: DeviceAddr,
}

/// What the PMMU did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, defmt::Format)]
pub struct PmmuCounters {
    /// Walks of tables.
    pub walks: u32,
    /// Translations that came from the cache.
    pub cached: u32,
    /// Invalidations that were carried out.
    pub invalidations: u32,
}

#[derive(Clone, Copy)]
struct Cached {
    asid: u32,
    page: u64,
    bus_page: u64,
}

struct State {
    enabled: bool,
    roots: [u64; ASIDS],
    asid: u32,
    root: [u32; 2],
    hop_config: u32,
    cache_status: u32,
    /// Reads until the invalidation of everything is done.
    all_pending: u32,
    range: [u32; 4],
    range_request: u32,
    range_pending: u32,
    cause: u32,
    error_valid: u32,
    error: u64,
    cache: [Option<Cached>; 16],
    victim: usize,
    counters: PmmuCounters,
}

/// The PMMU.
pub struct Pmmu(SpinMutex<State>);

impl core::fmt::Debug for Pmmu {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Pmmu")
    }
}

impl Pmmu {
    pub(super) const fn new() -> Self {
        Self(SpinMutex::new(State {
            enabled: false,
            roots: [0; ASIDS],
            asid: 0,
            root: [0; 2],
            hop_config: 0,
            cache_status: 0,
            all_pending: 0,
            range: [0; 4],
            range_request: 0,
            range_pending: 0,
            cause: 0,
            error_valid: 0,
            error: 0,
            cache: [None; 16],
            victim: 0,
            counters: PmmuCounters {
                walks: 0,
                cached: 0,
                invalidations: 0,
            },
        }))
    }

    /// What it did so far.
    pub fn counters(&self) -> PmmuCounters {
        self.0.lock().counters
    }

    /// Reads a register.
    pub fn read(&self, offset: u32) -> u32 {
        let mut state = self.0.lock();
        match offset.wrapping_sub(BASE) {
            ENABLE => u32::from(state.enabled),
            CAUSE => state.cause,
            PAGE_ERROR_HIGH => (state.error >> 32) as u32,
            PAGE_ERROR_LOW => state.error as u32,
            ERROR_VALID => state.error_valid,
            HOP_CONFIG => state.hop_config,
            CACHE_STATUS => state.cache_status,
            INVALIDATE_ALL => {
                if state.all_pending == 1 {
                    state.drop_cached(|_| true);
                }
                state.all_pending = state.all_pending.saturating_sub(1);
                u32::from(state.all_pending > 0)
            }
            RANGE_INVALIDATION => {
                if state.range_pending == 1 {
                    state.drop_range();
                }
                state.range_pending = state.range_pending.saturating_sub(1);
                u32::from(state.range_pending > 0)
            }
            _ => 0,
        }
    }

    /// Writes a register.
    pub fn write(&self, offset: u32, value: u32) {
        let mut state = self.0.lock();
        match offset.wrapping_sub(BASE) {
            ENABLE => state.enabled = value & 1 != 0,
            CAUSE => state.cause = value,
            ERROR_VALID => state.error_valid = value,
            ASID => state.asid = value,
            ROOT_LOW => state.root[0] = value,
            ROOT_HIGH => state.root[1] = value,
            BUSY => {
                let [low, high] = state.root.map(u64::from);
                let asid = state.asid as usize;
                if let Some(root) = state.roots.get_mut(asid) {
                    *root = low << 12 | high << 44;
                }
            }
            HOP_CONFIG => state.hop_config = value,
            INVALIDATE_ALL => state.all_pending = LATENCY,
            // No cache of upper hops is modelled: it is empty at once, and idle.
            CACHE_INVALIDATION => state.cache_status = 0b11,
            CACHE_STATUS => state.cache_status = value & 1 | 0b10,
            RANGE_INVALIDATION => {
                state.range_request = value;
                state.range_pending = LATENCY;
            }
            register => {
                let pairs = [RANGE_START[0], RANGE_START[1], RANGE_END[0], RANGE_END[1]];
                for (half, offset) in state.range.iter_mut().zip(pairs) {
                    if register == offset {
                        *half = value;
                    }
                }
            }
        }
    }

    /// What the tables say about an address, past the cache: where it leads.
    pub fn look(&self, asid: usize, at: u64) -> Option<u64> {
        let root = *self.0.lock().roots.get(asid)?;
        let (bus, shift) = leaf(root, at)?;
        Some(bus | at & ((1 << shift) - 1))
    }

    /// Where an access of an address space goes. One that leads nowhere is captured.
    pub(super) fn translate(&self, asid: u32, at: u64) -> Result<u64, TranslationFault> {
        let mut state = self.0.lock();
        let page = at >> 12;
        let hit = state.cache.iter().flatten();
        let hit = hit
            .copied()
            .find(|cached| cached.asid == asid && cached.page == page);
        let bus_page = match hit {
            Some(cached) => {
                state.counters.cached += 1;
                cached.bus_page
            }
            None => {
                state.counters.walks += 1;
                let root = state.roots.get(asid as usize).copied();
                let found = root
                    .filter(|_| state.enabled)
                    .and_then(|root| leaf(root, at));
                let Some((bus, shift)) = found else {
                    state.cause |= 1;
                    state.error_valid |= 1;
                    state.error = at;
                    return Err(TranslationFault {
                        at: DeviceAddr::new(at),
                    });
                };
                let bus_page = (bus | at & ((1 << shift) - 1)) >> 12;
                let victim = state.victim;
                state.victim = (victim + 1) % state.cache.len();
                state.cache[victim] = Some(Cached {
                    asid,
                    page,
                    bus_page,
                });
                bus_page
            }
        };
        Ok(bus_page << 12 | at & 0xFFF)
    }
}

impl State {
    fn drop_cached(&mut self, stale: impl Fn(&Cached) -> bool) {
        for cached in &mut self.cache {
            if cached.as_ref().is_some_and(&stale) {
                *cached = None;
            }
        }
        self.counters.invalidations += 1;
    }

    /// The start is excluded (facts INV-G2-4).
    fn drop_range(&mut self) {
        let [low, high, end_low, end_high] = self.range.map(u64::from);
        let (start, end) = (high << 32 | low, end_high << 32 | end_low);
        let asid = self.range_request >> 2;
        self.drop_cached(|cached| cached.asid == asid && cached.page > start && cached.page <= end);
    }
}

/// Walks tables, byte by byte, to the leaf of an address: what it maps to, and how wide it is.
fn leaf(root: u64, at: u64) -> Option<(u64, u32)> {
    let mut table = root;
    for (shift, bits) in HOPS {
        let index = at >> shift & ((1 << bits) - 1);
        let entry = read_entry(table + index * 8)?;
        if entry & PRESENT == 0 {
            return None;
        }
        if entry & LAST != 0 {
            return Some((entry & ADDRESS, shift));
        }
        table = entry & ADDRESS;
    }
    None
}

fn read_entry(at: u64) -> Option<u64> {
    let half = |at| {
        let word = memory::word(at)?.load(core::sync::atomic::Ordering::Acquire);
        Some(u64::from(u32::from_le(word)))
    };
    Some(half(at)? | half(at + 4)? << 32)
}

/// Makes the leaf of an address lead to the next page: a wrong entry, such as a driver with a
/// defect writes.
#[cfg(feature = "planted-fault")]
pub fn damage(asid: usize, at: DeviceAddr) {
    use core::sync::atomic::Ordering;

    let mut table = crate::device::PMMU.0.lock().roots[asid];
    for (shift, bits) in HOPS {
        let slot = table + (at.get() >> shift & ((1 << bits) - 1)) * 8;
        let entry = read_entry(slot).unwrap_or(0);
        if entry & LAST != 0 {
            if let Some(low) = memory::word(slot) {
                low.store((entry as u32 ^ 0x1000).to_le(), Ordering::Release);
            }
            return;
        }
        table = entry & ADDRESS;
    }
}
