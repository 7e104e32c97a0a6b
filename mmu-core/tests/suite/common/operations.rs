//! Sequences of operations on a page table, each compared with the oracle.

use mmu_core::{MapOptions, PageTable, SplitError, TableMemory};

use super::model::{Model, leaf_sizes};
use super::shape::Shape;
use super::{Memory, Words, agree, confirm, device, range, run};

/// A number of leaves of each size, smallest first.
pub(crate) type Lengths = [u64; 3];

#[derive(Clone, Debug)]
pub(crate) struct Bus {
    /// In units of the largest leaf.
    pub(crate) at: u64,
    /// How far it is out of step with the device address.
    pub(crate) out_of_step: Lengths,
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Map {
        at: Lengths,
        len: Lengths,
        bus: Bus,
        sizes: u8,
        bits: u8,
    },
    MapList {
        at: Lengths,
        runs: Vec<(Lengths, Bus)>,
        sizes: u8,
        bits: u8,
    },
    Unmap(Lengths, Lengths),
    UnmapPiece(u64),
    Sweep(Lengths, Lengths),
    Split(Lengths),
    Query(Lengths),
}

/// So many leaves of each size in bytes; sizes that the format does not have count as the largest
/// that it has.
fn bytes<F: Shape>(lengths: Lengths) -> u64 {
    let sizes = lengths.iter().enumerate();
    sizes
        .map(|(n, count)| count * F::SIZES[n.min(F::SIZES.len() - 1)].bytes)
        .sum()
}

fn largest<F: Shape>() -> u64 {
    F::SIZES.last().unwrap().bytes
}

/// Two of the largest leaves before the edge.
fn address<F: Shape>(at: Lengths) -> u64 {
    F::EDGE - 2 * largest::<F>() + bytes::<F>(at)
}

fn bus_address<F: Shape>(bus: &Bus, at: u64) -> u64 {
    F::BUS
        + bus.at * largest::<F>()
        + (at - F::ORIGIN) % largest::<F>()
        + bytes::<F>(bus.out_of_step)
}

/// The length of a request, never nothing. So many leaves of each size; where the number of small
/// ones is 3, up to the end of a table instead, so that a large leaf may just fit.
fn span<F: Shape>(at: u64, len: Lengths) -> u64 {
    let bytes = bytes::<F>(len).max(F::small());
    if len[0] < 3 || F::SIZES.len() == 1 {
        return bytes;
    }
    (at + bytes).next_multiple_of(F::large()) - at
}

/// The length of a map, without a great many small leaves.
fn length<F: Shape>(at: u64, len: Lengths, bus: &Bus, sizes: u8) -> u64 {
    let len = span::<F>(at, len);
    let small_only = F::SIZES.len() > 1 && (bus.out_of_step[0] != 0 || sizes & 0b010 == 0);
    if small_only {
        (len % (3 * F::large())).max(F::small())
    } else {
        len
    }
}

/// Does it all, with every table word checked after each step.
pub(crate) fn drive<F: Shape>(operations: &[Operation]) {
    let mut memory = Memory::new(600);
    let pool = memory.pool();
    drive_on::<F, _>(&pool, &pool, operations);
}

/// [`drive`] over tables behind a bus.
pub(crate) fn drive_on_device<F: Shape>(operations: &[Operation]) {
    let mut memory = super::device::Memory::new(600);
    let pool = memory.pool();
    drive_on::<F, _>(&pool, &pool, operations);
    assert_eq!(pool.map_usage().used(), 0);
}

/// Tables of `memory`, of which the words are in `pool`.
fn drive_on<F: Shape, M: TableMemory>(pool: &impl Words, memory: M, operations: &[Operation]) {
    let mut table = PageTable::<F, _>::new(memory).unwrap().unwrap();
    let mut model = Model::<F>::new();
    let window = (F::EDGE - 2 * largest::<F>(), 80 * largest::<F>());
    for operation in operations {
        match operation {
            Operation::Map {
                at,
                len,
                bus,
                sizes,
                bits,
            } => {
                let at = address::<F>(*at);
                let len = length::<F>(at, *len, bus, *sizes);
                let bus = bus_address::<F>(bus, at);
                let options = MapOptions {
                    sizes: leaf_sizes::<F>(*sizes),
                    attributes: F::attributes(*bits),
                };
                let bits = F::bits(options.attributes);
                let result = table.map(device(at), run(bus, len), &options);
                assert_eq!(result, model.map(at, &[(bus, len)], *sizes, bits));
            }
            Operation::MapList {
                at,
                runs,
                sizes,
                bits,
            } => {
                let at = address::<F>(*at);
                let mut next = at;
                let mut list = Vec::new();
                for (len, bus) in runs {
                    let len = length::<F>(next, *len, bus, *sizes);
                    list.push((bus_address::<F>(bus, next), len));
                    next += len;
                }
                let options = MapOptions {
                    sizes: leaf_sizes::<F>(*sizes),
                    attributes: F::attributes(*bits),
                };
                let bits = F::bits(options.attributes);
                let runs = list.iter().map(|&(bus, len)| run(bus, len));
                let result = table.map_list(range(at, next - at), runs, &options);
                assert_eq!(result, model.map(at, &list, *sizes, bits));
            }
            Operation::Unmap(at, len) => {
                let at = address::<F>(*at);
                let len = span::<F>(at, *len);
                let result = table.unmap(range(at, len)).map(|removed| {
                    confirm(removed);
                });
                assert_eq!(result, model.unmap(at, len));
            }
            Operation::UnmapPiece(n) => {
                let Some((at, len)) = model.nth_piece(*n) else {
                    continue;
                };
                confirm(table.unmap(range(at, len)).unwrap());
                model.unmap(at, len).unwrap();
            }
            Operation::Sweep(at, len) => {
                let at = address::<F>(*at);
                let len = span::<F>(at, *len);
                confirm(table.sweep(range(at, len)));
                model.sweep(at, len);
            }
            Operation::Split(at) => {
                let at = address::<F>(*at);
                match (table.split(device(at)), model.split(at)) {
                    (Ok(removed), Ok(true)) => {
                        confirm(removed);
                    }
                    (Err(SplitError::NoSmallerLeaf { .. }), Ok(false))
                    | (Err(SplitError::NotMapped { .. }), Err(_)) => {}
                    (split, expected) => panic!("{split:?}, expected {expected:?}"),
                }
            }
            Operation::Query(at) => {
                let at = address::<F>(*at) + 5;
                let found = table.query(device(at));
                let told = found.map(|found| (found.bus.get(), found.leaf));
                let expected = model.query(at);
                let expected = expected.map(|hit| (hit.bus, range(hit.leaf, hit.leaf_bytes)));
                assert_eq!(told, expected);
            }
        }
        agree(pool, &table, &model, window);
    }
    confirm(table.close());
    assert_eq!(pool.pool_usage().used(), 0);
}
