//! What the machine of a scenario is like.

use hl_mem::buffer::ViewPolicy;

use super::super::ast::{CacheWords, Count, MachineWords};
use super::super::text::Invalid;
use super::super::words::{Cache, HostPages, Posted, RangeEndWord, Reuse, Setting, Views};
use crate::asic::{AsicConfig, CacheSize, PostedWrites, RangeEnd};
use crate::host::{FrameOrder, FrameStorage};
use crate::machine::{MachineConfig, Model};

/// The most sets that a cache may have, and the most ways.
const MAX_SETS: u64 = 1 << 12;

/// The most that a size of the machine may be.
const MAX_SETTING: u64 = 1 << 22;

/// The machine that a file describes.
pub(super) fn of_words<A: Model>(
    words: &MachineWords,
    seed: u64,
) -> Result<MachineConfig, Invalid> {
    let usual = AsicConfig {
        hbm_stacks: A::STACKS,
        ..AsicConfig::new(A::KIND)
    };
    let finite = usual.clone().with_finite_caches();
    let [leaves, lines] = words.caches;
    let mut config = MachineConfig {
        users: 2,
        views: match words.views {
            Some(Views::Counted) => ViewPolicy::Counted,
            Some(Views::Single) | None => ViewPolicy::Single,
        },
        order: match words.reuse {
            Some(Reuse::Immediate) => FrameOrder::ImmediateReuse,
            Some(Reuse::Scattered) | None => FrameOrder::Scattered { seed },
        },
        storage: match words.host {
            Some(HostPages::Memory) => FrameStorage::Program,
            Some(HostPages::File) | None => FrameStorage::MemoryFile,
        },
        default_mapping: words.default_page,
        asic: Some(AsicConfig {
            leaf_cache: cache_size(leaves, finite.leaf_cache)?,
            line_cache: cache_size(lines, finite.line_cache)?,
            range_end: match words.range_end {
                Some(RangeEndWord::Inclusive) => RangeEnd::Inclusive,
                Some(RangeEndWord::Exclusive) | None => RangeEnd::Exclusive,
            },
            posted_writes: match words.posted {
                Some(Posted::Immediate) => PostedWrites::Immediate,
                Some(Posted::UntilFlush) | None => PostedWrites::UntilFlush,
            },
            hmmu_enabled: hmmus(words)?,
            ..usual
        }),
        ..MachineConfig::default()
    };
    for &(setting, Count { value, span }) in &words.settings {
        let limit = match setting {
            // The drivers of the MMUs are built for so many, the privileged one included.
            Setting::Users => 7,
            _ => MAX_SETTING,
        };
        if value == 0 || value > limit {
            let message = format_args!("a machine has 1 to {limit} {setting}, not {value}");
            return Err(Invalid::new(span, message));
        }
        match setting {
            Setting::Frames => config.frames = value as u32,
            Setting::Tables => config.tables = value as u32,
            Setting::Buffers => config.buffers = value as usize,
            Setting::Mappings => config.mappings = value as usize,
            Setting::Handles => config.handles = value as usize,
            Setting::Users => config.users = value as usize,
            Setting::DramPages => config.dram_pages = Some(value as u32),
            Setting::Packs => config.packs = value as usize,
            Setting::Pools => config.timestamp_pools = value as usize,
            Setting::Timestamps => config.timestamps = value as usize,
            Setting::Counters => config.counters = value as usize,
        }
    }
    Ok(config)
}

/// Which HMMUs there are.
fn hmmus(words: &MachineWords) -> Result<u16, Invalid> {
    let Some(Count { value: mask, span }) = words.hmmus else {
        return Ok(u16::MAX);
    };
    match u16::try_from(mask) {
        Ok(mask) if mask != 0 => Ok(mask),
        _ => {
            let message = format_args!(
                "of 16 HMMUs, one bit each, there is one at least: 0x1 to 0xffff, not {mask:#x}"
            );
            Err(Invalid::new(span, message))
        }
    }
}

/// The size of a cache: `finite` where that is the word.
fn cache_size(cache: Option<CacheWords>, finite: CacheSize) -> Result<CacheSize, Invalid> {
    Ok(match cache {
        None | Some(CacheWords::Known(Cache::Infinite)) => CacheSize::Infinite,
        Some(CacheWords::Known(Cache::Finite)) => finite,
        Some(CacheWords::Known(Cache::None)) => CacheSize::None,
        Some(CacheWords::Sets(sets, ways)) => {
            let fitting = |count: Count, what| {
                if (1..=MAX_SETS).contains(&count.value) {
                    return Ok(count.value as usize);
                }
                let message = format_args!("a cache has 1 to {MAX_SETS} {what}");
                Err(Invalid::new(count.span, message))
            };
            CacheSize::SetAssociative {
                sets: fitting(sets, "sets")?,
                ways: fitting(ways, "ways")?,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use hl_mem::profile::Goya;

    use super::super::super::ast::Script;
    use super::*;

    /// Where a machine with these words has its pages: nothing in a scenario is to tell.
    fn storage(words: &str) -> FrameStorage {
        let text = format!("machine frames 64 {words}\nreclaim\n");
        let script: Script = text.parse().expect("it is a scenario");
        let config = of_words::<Goya>(&script.machine, 1).expect("there is such a machine");
        config.storage
    }

    #[test]
    fn the_pages_of_the_host_are_where_the_file_says() {
        assert_eq!(storage(""), FrameStorage::MemoryFile);
        assert_eq!(storage("host file"), FrameStorage::MemoryFile);
        assert_eq!(storage("host memory"), FrameStorage::Program);
    }
}
