//! The counters that a scenario names, whether it runs or not.

use super::ast::Word;
use super::text::Invalid;
use crate::asic::AsicCounters;
use crate::host::HostStatistics;
use crate::machine::MachineCounters;

/// A counter of the device, and where it is found.
type OfAsic = (&'static str, fn(&AsicCounters) -> u64);

const OF_ASIC: &[OfAsic] = &[
    ("translations", |asic| asic.translations),
    ("leaf hits", |asic| asic.leaf_hits),
    ("line hits", |asic| asic.line_hits),
    ("table fetches", |asic| asic.table_fetches),
    ("faults raised", |asic| asic.faults),
    ("bytes read", |asic| asic.bytes_read),
    ("bytes written", |asic| asic.bytes_written),
    ("posted writes", |asic| asic.posted_writes),
    ("flushes", |asic| asic.flushes),
    ("invalidations", |asic| asic.invalidations),
    ("invalidations done", |asic| asic.invalidations_done),
    ("protocol violations", |asic| asic.protocol_violations),
];

/// What a snapshot has of each context, behind its name.
pub(crate) const OF_CONTEXT: [&str; 7] = [
    "mappings",
    "quarantined",
    "used",
    "extents",
    "handles",
    "timestamps",
    "charged",
];

/// A counter as a scenario writes it.
pub(crate) fn word(name: &str) -> String {
    name.replace(' ', "-")
}

/// Everything that is counted, in the order of [`names`].
pub(crate) fn all(
    machine: &MachineCounters,
    host: &HostStatistics,
    asic: &AsicCounters,
) -> Vec<(String, u64)> {
    let asic = OF_ASIC.iter().map(|(name, count)| (*name, count(asic)));
    let all = machine.named().into_iter().chain(host.named()).chain(asic);
    all.map(|(name, value)| (word(name), value)).collect()
}

/// Every counter.
pub(crate) fn names() -> Vec<String> {
    let host = HostStatistics::NAMES.iter().copied();
    let asic = OF_ASIC.iter().map(|(name, _)| *name);
    let all = MachineCounters::names().chain(host).chain(asic);
    all.map(word).collect()
}

/// What a snapshot has, where these contexts are open.
pub(crate) fn names_in_snapshot<'n>(contexts: impl Iterator<Item = &'n str>) -> Vec<String> {
    let of_contexts =
        contexts.flat_map(|context| OF_CONTEXT.map(|what| format!("{context}.{what}")));
    let machine = MachineCounters::names().map(word);
    machine.chain(of_contexts).collect()
}

/// There is no such counter.
pub(crate) fn unknown(counter: &Word, known: &[impl AsRef<str>]) -> Invalid {
    let message = format_args!("there is no counter `{counter}`");
    let known = || known.iter().map(AsRef::as_ref);
    let near = Invalid::new(counter.span, message).suggest(&counter.text, known());
    match near.help {
        Some(_) => near,
        None => {
            let known: Vec<&str> = known().collect();
            near.help(format_args!("there is {}", known.join(", ")))
        }
    }
}
