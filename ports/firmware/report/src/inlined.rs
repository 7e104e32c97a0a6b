//! Which function an instruction was written in, by the image's debug information: not the one that
//! the compiler inlined it into.

use addr2line::gimli::{Dwarf, EndianSlice, Error, RunTimeEndian};
use addr2line::{Context, FrameIter};
use object::{Object, ObjectSection};
use rustc_demangle::demangle;

use crate::Result;

type Reader<'d> = EndianSlice<'d, RunTimeEndian>;

/// The debug information of an image.
pub(crate) struct Inlined<'d>(Context<Reader<'d>>);

impl<'d> Inlined<'d> {
    /// Reads the debug information of an image.
    ///
    /// # Errors
    /// It is damaged.
    pub(crate) fn of(file: &object::File<'d>) -> Result<Self> {
        let endian = match file.endianness() {
            object::Endianness::Little => RunTimeEndian::Little,
            object::Endianness::Big => RunTimeEndian::Big,
        };
        let dwarf = Dwarf::load(|section| -> std::result::Result<_, Error> {
            let section = file.section_by_name(section.name());
            let data = section.and_then(|section| section.data().ok());
            Ok(EndianSlice::new(data.unwrap_or_default(), endian))
        });
        dwarf
            .and_then(Context::from_dwarf)
            .map(Self)
            .map_err(|error| format!("the image's debug information cannot be read: {error}"))
    }

    /// The names of the functions that the instruction at `address` was inlined through, the one
    /// it was written in first. Fewer than there were, or none, where the image does not tell.
    pub(crate) fn functions(&self, address: u64) -> Vec<String> {
        let Ok(mut frames) = self.0.find_frames(address).skip_all_loads() else {
            return Vec::new();
        };
        let mut names = Vec::new();
        while let Some(name) = next_name(&mut frames) {
            names.push(name);
        }
        names
    }
}

fn next_name(frames: &mut FrameIter<'_, Reader<'_>>) -> Option<String> {
    let frame = frames.next().ok()??;
    let function = frame.function?;
    let name = function.raw_name().ok()?;
    Some(format!("{:#}", demangle(&name)))
}
