//! A defmt stream, decoded by defmt's own decoder.

use defmt_decoder::{DecodeError, Table};

use crate::Result;

/// Prints the messages in `log`, and fails unless the last one begins with `verdict`.
///
/// # Errors
/// The image has no log messages, the stream is damaged, or the verdict is another or missing.
pub(crate) fn print(elf: &[u8], log: &[u8], verdict: &str) -> Result<()> {
    let table = Table::parse(elf)
        .map_err(|error| format!("the image's log messages cannot be read: {error}"))?
        .ok_or("the image has no log messages")?;
    let mut decoder = table.new_stream_decoder();
    decoder.received(log);
    let mut last = String::new();
    loop {
        match decoder.decode() {
            Ok(frame) => {
                let level = frame.level().map_or("", |level| level.as_str());
                last = frame.display_message().to_string();
                println!("  {level:<5} {last}");
            }
            Err(DecodeError::UnexpectedEof) => break,
            Err(DecodeError::Malformed) => return Err("the log is damaged".to_owned()),
        }
    }
    if last.starts_with(verdict) {
        Ok(())
    } else if last.is_empty() {
        Err("the image logged nothing".to_owned())
    } else {
        Err(format!("the last message is no `{verdict}`: {last}"))
    }
}
