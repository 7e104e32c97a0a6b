//! Checks of profiles at compile time.

use mmu_core::{AddrRange, DeviceAddr};

use super::{LargeHost, Profile, VaRange};
use crate::asid::Asid;

/// The last address of a range.
const fn last(range: AddrRange<DeviceAddr>) -> u64 {
    range.start().get() + (range.len() - 1)
}

const fn disjoint(a: AddrRange<DeviceAddr>, b: AddrRange<DeviceAddr>) -> bool {
    last(a) < b.start().get() || last(b) < a.start().get()
}

const fn inside(inner: AddrRange<DeviceAddr>, outer: AddrRange<DeviceAddr>) -> bool {
    outer.start().get() <= inner.start().get() && last(inner) <= last(outer)
}

/// Whether a range within `of` consists of whole pages.
const fn whole_pages(range: AddrRange<DeviceAddr>, of: &VaRange) -> bool {
    let page = of.page_bytes;
    let origin = if page.is_power_of_two() {
        0
    } else {
        of.range.start().get()
    };
    (range.start().get() - origin).is_multiple_of(page) && range.len().is_multiple_of(page)
}

const fn windows_fit(windows: &[AddrRange<DeviceAddr>], of: &VaRange) -> bool {
    let mut i = 0;
    while i < windows.len() {
        if !inside(windows[i], of.range) || !whole_pages(windows[i], of) {
            return false;
        }
        let mut j = 0;
        while j < i {
            if !disjoint(windows[i], windows[j]) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

const fn range_is_sound(range: &VaRange) -> bool {
    if range.page_bytes == 0
        || range.large_bytes == 0
        || !range.large_bytes.is_multiple_of(range.page_bytes)
    {
        return false;
    }
    let mut i = 0;
    while i < range.fixed.len() {
        let mut j = 0;
        while j < range.reserved.len() {
            if !disjoint(range.fixed[i], range.reserved[j]) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    whole_pages(range.range, range)
        && windows_fit(range.fixed, range)
        && windows_fit(range.reserved, range)
}

/// Whether the privileged windows keep out of a range.
const fn keeps_out(profile: &Profile, range: AddrRange<DeviceAddr>) -> bool {
    match &profile.privileged {
        Some(windows) => disjoint(windows.firmware, range) && disjoint(windows.processor, range),
        None => true,
    }
}

/// Whether the numbers of a profile fit together.
pub(super) const fn is_sound(profile: &Profile) -> bool {
    let host = profile.host.range;
    if !range_is_sound(&profile.host) || !keeps_out(profile, host) {
        return false;
    }
    if let LargeHost::Own(large) = &profile.large_host
        && (!range_is_sound(large)
            || !disjoint(large.range, host)
            || !keeps_out(profile, large.range))
    {
        return false;
    }
    if let Some(dram) = &profile.dram.mapped_at
        && (!range_is_sound(dram)
            || !disjoint(dram.range, host)
            || !disjoint(dram.range, profile.large_host_range().range)
            || !keeps_out(profile, dram.range))
    {
        return false;
    }
    let memory = profile.dram.memory;
    let tables = profile.device_tables;
    let page = profile.dram.page_bytes;
    profile.max_asid >= 1
        && profile.max_asid <= Asid::LIMIT
        && profile.root_tables().is_some()
        && memory.start().get() <= tables.start().get()
        && tables.start().get() + tables.len() <= profile.dram.user_start.get()
        && profile.dram.user_start.get() < memory.start().get() + memory.len()
        && (profile.dram.user_start.get() - memory.start().get()).is_multiple_of(page)
        && memory.len().is_multiple_of(page)
}

#[cfg(test)]
mod tests;
