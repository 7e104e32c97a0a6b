//! What an image consists of: its sections, and which crate its code and statics are of.

use std::collections::BTreeMap;

use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind, SymbolKind};
use rustc_demangle::demangle;

use crate::Result;

/// Crates that are reported by name; the others together.
const CRATES: &[&str] = &["mmu_core", "hl_mem", "hl_firmware", "defmt", "core"];
const OTHERS: &str = "others";
/// Where the functions are that panics go through.
const PANICS: &str = "core::panicking::panic";

#[derive(Clone, Copy, Debug, Default)]
struct Sizes {
    text: u64,
    rodata: u64,
    data: u64,
    bss: u64,
}

impl Sizes {
    fn of(&mut self, kind: SectionKind) -> Option<&mut u64> {
        match kind {
            SectionKind::Text => Some(&mut self.text),
            SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => Some(&mut self.rodata),
            SectionKind::Data => Some(&mut self.data),
            SectionKind::UninitializedData => Some(&mut self.bss),
            _ => None,
        }
    }

    fn row(&self, name: &str) -> String {
        let Self {
            text,
            rodata,
            data,
            bss,
        } = self;
        format!("  {name:<12}{text:>9}{rodata:>9}{data:>9}{bss:>9}")
    }
}

/// Prints the sizes of an image, and fails where a crate's code is larger than its limit in
/// `limits`, such as `mmu_core=6144`.
///
/// # Errors
/// That, or the image cannot be read.
pub(crate) fn print(name: &str, elf: &[u8], limits: &[&str]) -> Result<()> {
    let file = object::File::parse(elf).map_err(|error| format!("{name}: {error}"))?;
    let mut all = Sizes::default();
    for section in file.sections().filter(is_loaded) {
        if let Some(size) = all.of(section.kind()) {
            *size += section.size();
        }
    }
    let mut crates: BTreeMap<&str, Sizes> = BTreeMap::new();
    for symbol in file.symbols() {
        let named = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data);
        let section = symbol
            .section_index()
            .and_then(|index| file.section_by_index(index).ok());
        let (true, Some(section), Ok(mangled)) = (named, section, symbol.name()) else {
            continue;
        };
        if !is_loaded(&section) {
            continue;
        }
        let name = format!("{:#}", demangle(mangled));
        let owner = owner(&name);
        if let Some(size) = crates.entry(owner).or_default().of(section.kind()) {
            *size += symbol.size();
        }
    }
    println!(
        "  {:<12}{:>9}{:>9}{:>9}{:>9}",
        "bytes", "text", "rodata", "data", "bss"
    );
    println!("{}", all.row("image"));
    for &name in CRATES.iter().chain([&OTHERS]) {
        if let Some(sizes) = crates.get(name) {
            println!("{}", sizes.row(name));
        }
    }
    for limit in limits {
        let (name, bytes) = limit.split_once('=').ok_or("a limit is CRATE=BYTES")?;
        let bytes: u64 = bytes.parse().map_err(|error| format!("{limit}: {error}"))?;
        let text = match name {
            "image" => all.text,
            _ => crates.get(name).map_or(0, |sizes| sizes.text),
        };
        if text > bytes {
            return Err(format!(
                "{name} has {text} bytes of code, more than {bytes}"
            ));
        }
        println!("  {name}: {text} bytes of code, of {bytes} allowed");
    }
    Ok(())
}

/// Fails where no code of an image can panic, though it was built as one in which some can.
///
/// # Errors
/// That, or the image cannot be read.
pub(crate) fn expect_panics(name: &str, elf: &[u8]) -> Result<()> {
    let file = object::File::parse(elf).map_err(|error| format!("{name}: {error}"))?;
    let mut names = file.symbols().filter_map(|symbol| symbol.name().ok());
    if names.any(|name| format!("{:#}", demangle(name)).contains(PANICS)) {
        println!("  code in it can panic, which is known");
        return Ok(());
    }
    Err(format!(
        "no code of {name} can panic any more: say so in ci/firmware.toml"
    ))
}

fn is_loaded<'d>(section: &impl ObjectSection<'d>) -> bool {
    // SHF_ALLOC; defmt's strings are in the file only.
    matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & 2 != 0)
        && section.name().is_ok_and(|name| !name.starts_with(".defmt"))
}

/// The crate that a function's code is of: the first that its path names, behind `<` and `&`. What
/// one crate inlines of another counts as its own.
fn owner(name: &str) -> &'static str {
    let path = name.trim_start_matches(['<', '&', '(', '[']);
    let first = path.split("::").next().unwrap_or(path);
    let known = CRATES.iter().find(|&&known| known == first);
    known.copied().unwrap_or(OTHERS)
}
