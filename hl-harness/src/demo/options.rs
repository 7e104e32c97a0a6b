//! What can be asked of the demonstration.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hl_mem::ring::BlockLayout;

use super::failure::Failure;
use super::record::RECORD_BYTES;
use crate::host::FRAME_SIZE;
use crate::scenario::words::Asics;

/// The longest input: without `--output`, the copy is kept in memory.
pub(super) const MAX_INPUT_BYTES: u64 = 4 << 30;
/// The largest block: the host model keeps all of it in memory.
const MAX_BLOCK_BYTES: u64 = 256 << 20;

/// How much of the event log is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// Rows of like events by their ends, and no single address translations, which are counted.
    Events,
    /// Everything: one line for each event, translations included.
    Full,
}

/// Options of `hl-harness demo`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit status: 0 when every check passed, 1 when one did not, \
                        2 when the request itself is at fault."
)]
pub struct DemoOptions {
    /// The ASIC to run on.
    ///
    /// Of those that a word stands for, as gaudi2 does for two, it is the first: the one with six stacks.
    #[arg(long, value_enum, value_name = "ASIC", default_value_t = Asics::Gaudi2)]
    pub asic: Asics,

    /// The file whose bytes the device produces [default: this program itself].
    ///
    /// It is streamed through device memory in pieces, so it may be larger than that. At most 4 GiB.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,

    /// Where the consumer writes its copy [default: a nameless file that is gone afterwards].
    ///
    /// An existing file is overwritten.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Bytes of the block, in whole pages of 4 KiB, at least three; KiB and MiB may follow.
    ///
    /// Two pages hold the indices, the others the records. The ring takes the largest power of two
    /// of records of 1 KiB that fits, so that the default is 2 pages and 512 records. At most 256
    /// MiB.
    #[arg(long, value_name = "BYTES", default_value = "520KiB", value_parser = parse_block_size)]
    pub block_size: u64,

    /// Print the ordered event log after each step.
    ///
    /// It says what the registers, the page tables, the invalidations and the host's pages went
    /// through, each event with its place in the one sequence. Of many like events in a row the
    /// first and the last are printed. `--trace=full` prints them all, and a line for each access
    /// of the device that is translated: several for each KiB of input, all kept in memory until
    /// their step is over.
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "events",
        conflicts_with = "quiet"
    )]
    pub trace: Option<Trace>,

    /// Print one line: the verdict.
    #[arg(long)]
    pub quiet: bool,
}

/// A number of bytes, with a binary suffix or none.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        other => return Err(format!("`{other}` is no unit; there are KiB, MiB and GiB")),
    };
    let number: u64 = digits
        .trim_end()
        .parse()
        .map_err(|_| format!("`{text}` is no number of bytes"))?;
    let bytes = number.checked_mul(unit);
    bytes.ok_or_else(|| format!("`{text}` is more than 2^64 bytes"))
}

fn parse_block_size(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes > MAX_BLOCK_BYTES {
        return Err(format!(
            "a block has at most {MAX_BLOCK_BYTES} bytes (256 MiB)"
        ));
    }
    layout(bytes).map_err(|failure| failure.to_string())?;
    Ok(bytes)
}

/// What lies where in a block of so many bytes.
///
/// # Errors
///
/// [`Failure::Request`]: there is no ring in such a block.
pub fn layout(block_bytes: u64) -> Result<BlockLayout, Failure> {
    BlockLayout::fitting(FRAME_SIZE as u64, RECORD_BYTES as u32, block_bytes).map_err(|error| {
        Failure::request(format_args!(
            "{error}; a block has whole pages of {FRAME_SIZE} bytes, and at least three"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_and_without_units() {
        for (text, bytes) in [
            ("12288", 12288),
            ("12 KiB", 12288),
            ("12k", 12288),
            ("1MiB", 1 << 20),
            ("0x10", 0),
        ] {
            match parse_bytes(text) {
                Ok(found) => assert_eq!(found, bytes, "{text}"),
                Err(_) => assert_eq!(bytes, 0, "{text}"),
            }
        }
    }

    #[test]
    fn impossible_block_sizes_are_refused() {
        for text in [
            "0",
            "8KiB",
            "12289",
            "257MiB",
            "99999999999GiB",
            "much",
            "-1",
            "1TiB",
        ] {
            assert!(parse_block_size(text).is_err(), "{text}");
        }
        assert_eq!(parse_block_size("12KiB"), Ok(12 << 10));
        assert_eq!(parse_block_size("256MiB"), Ok(256 << 20));
    }
}
