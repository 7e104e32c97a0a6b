//! What an invalidation covers.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What an invalidation covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InvalidationScope {
    /// Both caches, all address spaces.
    All,
    /// The line cache, all address spaces.
    Lines,
    /// Translations in the leaf cache whose page meets a range of 4 KiB page numbers.
    Leaves {
        /// Only those of this address space.
        asid: Option<u16>,
        /// The first page number dropped: one above the start register, which is exclusive.
        first_page: u64,
        /// The last page number dropped; below the first where the registers name an empty range.
        last_page: u64,
    },
}

impl fmt::Display for InvalidationScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Lines => f.write_str("lines"),
            Self::Leaves {
                asid,
                first_page,
                last_page,
            } => {
                match asid {
                    Some(asid) => write!(f, "asid {asid}")?,
                    None => f.write_str("any asid")?,
                }
                write!(f, " pages {first_page:#x}..={last_page:#x}")
            }
        }
    }
}
