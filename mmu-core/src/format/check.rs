//! Whether a format keeps what is asked of it, as far as trying tells.

use core::fmt;

use super::{Entry, Format, Hop, MAX_HOPS};
use crate::addr::BusAddr;

/// What a format does not keep (see [the module](super#what-a-format-has-to-keep)).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FormatRule {
    /// An entry of zero is empty.
    Zero,
    /// [`decode`](Format::decode) undoes [`leaf_entry`](Format::leaf_entry).
    Leaf,
    /// [`decode`](Format::decode) undoes [`table_entry`](Format::table_entry), above the deepest hop.
    Table,
    /// [`is_leaf`](Format::is_leaf) says the same as [`decode`](Format::decode).
    IsLeaf,
    /// Entries of consecutive pages are evenly spaced numbers.
    Spacing,
    /// What makes an entry valid is in its lower half.
    LowerHalf,
    /// [`BITS_IN_PLACE`](Format::BITS_IN_PLACE) are the bits of the addresses that a leaf holds, each in
    /// its own place.
    BitsInPlace,
    /// With [`LINKS_IN_PLACE`](Format::LINKS_IN_PLACE) a table entry is that for address 0 plus the
    /// address.
    LinksInPlace,
    /// [`WALK_MARKS`](Format::WALK_MARKS) are no part of a table entry, and change nothing in what it says.
    WalkMarks,
    /// [`device_address`](Format::device_address) undoes [`walk_address`](Format::walk_address), and
    /// [`walk_key`](Format::walk_key) of that is the [`key`](Format::key).
    WalkAddress,
}

/// A rule that a format does not keep, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub struct FormatFault {
    /// What it does not keep.
    pub rule: FormatRule,
    /// In tables of which hop.
    pub hop: Hop,
    /// The entry address with which it shows; for [`FormatRule::WalkAddress`] the walk address.
    pub address: u64,
}

impl fmt::Display for FormatFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = match self.rule {
            FormatRule::Zero => "zero is not empty",
            FormatRule::Leaf => "a leaf is decoded as something else",
            FormatRule::Table => "a table is decoded as something else",
            FormatRule::IsLeaf => "what is a leaf is said in two ways",
            FormatRule::Spacing => "leaves of consecutive pages are not evenly spaced",
            FormatRule::LowerHalf => "an entry without its lower half is valid",
            FormatRule::BitsInPlace => "the bits in place are others",
            FormatRule::LinksInPlace => "a link is not the sum of its mark and the address",
            FormatRule::WalkMarks => "marks of a walk change what an entry says",
            FormatRule::WalkAddress => "a walk address does not lead back",
        };
        write!(f, "{rule}: {}, address {:#x}", self.hop, self.address)
    }
}

impl core::error::Error for FormatFault {}

/// Tries a format: for the tests of whoever writes one. `attributes` are values that leaves carry, all of
/// them or the telling ones.
///
/// Each address bit that leaves can hold is tried by itself and all of them at once, at every hop. That
/// the hardware reads entries as the format writes them, nobody finds out here.
///
/// # Errors
///
/// The first [`FormatFault`] that shows.
pub fn check<F: Format>(attributes: &[F::Attributes]) -> Result<(), FormatFault> {
    for (index, geometry) in F::HOPS.iter().enumerate().take(MAX_HOPS) {
        let is_deepest = index + 1 == F::HOPS.len();
        let hop = Hop::from_index(index);
        let fault = |rule, address| Err(FormatFault { rule, hop, address });
        if F::decode(hop, 0) != Entry::Empty {
            return fault(FormatRule::Zero, 0);
        }
        if F::is_leaf(hop, 0) {
            return fault(FormatRule::IsLeaf, 0);
        }
        let all = held::<F>(geometry.shift).fold(0, |all, address| all | address);
        let all = Some(all).filter(|&all| is_held::<F>(all));
        for address in held::<F>(geometry.shift).chain(all).chain([0]) {
            if geometry.leaf {
                for attributes in attributes {
                    let step = 1 << geometry.shift;
                    check_leaf::<F>(hop, address, *attributes, step)
                        .or_else(|rule| fault(rule, address))?;
                }
            }
            if !is_deepest {
                check_table::<F>(hop, address & !0xFFF).or_else(|rule| fault(rule, address))?;
            }
        }
        for bit in geometry.shift..64 {
            for walk in [1_u64 << bit, (1_u64 << bit).wrapping_sub(1)] {
                let leads_back = walk > F::LAST_WALK_ADDRESS || {
                    let device = F::device_address(walk);
                    // The end of a slot may stand for no device address.
                    F::walk_address(device).is_none_or(|found| {
                        found == walk
                            && F::device_address(found) == device
                            && F::key(device) == Some(F::walk_key(found))
                    })
                };
                if !leads_back {
                    return fault(FormatRule::WalkAddress, walk);
                }
            }
        }
    }
    Ok(())
}

/// Whether a leaf can hold an entry address.
fn is_held<F: Format>(address: u64) -> bool {
    F::entry_address(F::bus_address(address)) == Some(address)
}

/// The entry addresses of one bit from `shift` on that leaves can hold.
fn held<F: Format>(shift: u8) -> impl Iterator<Item = u64> {
    (shift..64)
        .map(|bit| 1_u64 << bit)
        .filter(|&address| is_held::<F>(address))
}

fn check_leaf<F: Format>(
    hop: Hop,
    address: u64,
    attributes: F::Attributes,
    step: u64,
) -> Result<(), FormatRule> {
    let entry = F::leaf_entry(hop, address, attributes);
    let expected = Entry::Leaf {
        address,
        attributes,
    };
    if F::decode(hop, entry) != expected {
        return Err(FormatRule::Leaf);
    }
    if !F::is_leaf(hop, entry) {
        return Err(FormatRule::IsLeaf);
    }
    if F::decode(hop, entry & !u64::from(u32::MAX)) != Entry::Empty {
        return Err(FormatRule::LowerHalf);
    }
    let spacing = |address| {
        let after = F::leaf_entry(hop, address + step, attributes);
        after.wrapping_sub(F::leaf_entry(hop, address, attributes))
    };
    // From this address on, where two more leaves follow it that can be held, and from the first one.
    let follows = |count: u64| {
        let next = step
            .checked_mul(count)
            .and_then(|far| address.checked_add(far));
        next.is_some_and(is_held::<F>)
    };
    if follows(2) && spacing(address) != spacing(address + step) {
        return Err(FormatRule::Spacing);
    }
    if F::BITS_IN_PLACE != 0 {
        let empty = F::leaf_entry(hop, 0, attributes);
        let in_place = address & !F::BITS_IN_PLACE == 0 && entry == empty.wrapping_add(address);
        let others = !F::BITS_IN_PLACE & !(step - 1);
        let refused = (0..64)
            .map(|bit| 1_u64 << bit)
            .filter(|bit| bit & others != 0)
            .all(|bit| F::entry_address(BusAddr::new(bit)).is_none());
        if !in_place || !refused {
            return Err(FormatRule::BitsInPlace);
        }
    }
    Ok(())
}

fn check_table<F: Format>(hop: Hop, address: u64) -> Result<(), FormatRule> {
    let entry = F::table_entry(hop, address);
    let expected = Entry::Table { address };
    if F::decode(hop, entry) != expected {
        return Err(FormatRule::Table);
    }
    if F::is_leaf(hop, entry) {
        return Err(FormatRule::IsLeaf);
    }
    if F::decode(hop, entry & !u64::from(u32::MAX)) != Entry::Empty {
        return Err(FormatRule::LowerHalf);
    }
    if F::LINKS_IN_PLACE && entry != F::table_entry(hop, 0).wrapping_add(address) {
        return Err(FormatRule::LinksInPlace);
    }
    if entry & F::WALK_MARKS != 0 || F::decode(hop, entry | F::WALK_MARKS) != expected {
        return Err(FormatRule::WalkMarks);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
