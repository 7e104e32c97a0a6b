//! The numbers of an ASIC and of a machine that the model goes by.

use hl_mem::buffer::ViewPolicy;
use hl_mem::profile::LargeHost;
use mmu_core::DeviceAddr;

use super::super::model::Rules;
use super::{BUDGET, PACKS};
use crate::asic::AsicKind;
use crate::machine::{self, MachineConfig};

/// Those of an ASIC in a machine of this size.
pub(super) fn of<A: machine::Model>(config: &MachineConfig) -> Rules {
    let profile = A::PROFILE;
    let bounds = |range: mmu_core::AddrRange<DeviceAddr>| {
        let start = range.start().get();
        (start, start + range.len())
    };
    let memory = profile.dram.user_memory().map_or(0, |memory| memory.len());
    let default_page = profile.dram.default_page;
    let default_page = default_page.filter(|_| config.default_mapping);
    Rules {
        many_views: config.views == ViewPolicy::Counted,
        default_word: default_page.map(|page| {
            let bytes = [page.fill; 8];
            (u64::from_le_bytes(bytes), bounds(page.range))
        }),
        page: 4096,
        large: 2 << 20,
        host: bounds(profile.host.range),
        large_host: match &profile.large_host {
            LargeHost::Own(range) => Some((bounds(range.range), range.page_bytes)),
            LargeHost::Shared => None,
        },
        dram: profile.dram.mapped_at.map(|range| bounds(range.range)),
        dram_apart: !profile.one_table,
        dram_page: profile.dram.page_bytes,
        dram_pages: memory / profile.dram.page_bytes,
        packs: PACKS,
        mappings: config.mappings,
        handles: config.handles,
        pools: config.timestamp_pools,
        counters: config.counters as u64,
        buffers: config.buffers,
        budget: BUDGET as u64,
        registers: (A::KIND == AsicKind::Gaudi2).then_some((machine::USER_REGISTERS, 2)),
        events: machine::EVENTS,
    }
}
