//! What an image consists of: its sections, and which crate its code and statics are of.
//!
//! Code counts for the crate that it was written in, wherever the compiler inlined it. What is
//! written in `core` and inlined elsewhere, such as the addition of two numbers, counts for whom it
//! was inlined into. Constants that lie among a function's code count for that function.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SectionKind, Symbol, SymbolKind};
use rustc_demangle::demangle;

use crate::Result;
use crate::inlined::Inlined;

/// Crates that are reported by name; the others together. `compiler_builtins` has `memcpy` and the
/// arithmetic that the processor lacks.
const CRATES: &[&str] = &[
    "mmu_core",
    "hl_mem",
    "hl_firmware",
    "defmt",
    CORE,
    "compiler_builtins",
];
const CORE: &str = "core";
const OTHERS: &str = "others";
/// Bytes of the shortest instruction of the targets.
const INSTRUCTION: usize = 2;

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
        format!("  {name:<18}{text:>9}{rodata:>9}{data:>9}{bss:>9}")
    }
}

/// Prints the sizes of an image, and fails where a crate's code is larger than its limit in
/// `limits`, such as `mmu_core=6144`.
///
/// # Errors
/// That, or the image cannot be read.
pub(crate) fn print(name: &str, elf: &[u8], limits: &[&str]) -> Result<()> {
    let file = object::File::parse(elf).map_err(|error| format!("{name}: {error}"))?;
    let inlined = Inlined::of(&file)?;
    let mut all = Sizes::default();
    for section in file.sections().filter(is_loaded) {
        if let Some(size) = all.of(section.kind()) {
            *size += section.size();
        }
    }
    let mut crates: BTreeMap<&str, Sizes> = BTreeMap::new();
    for (symbol, kind) in loaded_symbols(&file) {
        if kind == SectionKind::Text {
            for function in functions(&file, &inlined, &symbol) {
                crates.entry(owner(&function)).or_default().text += INSTRUCTION as u64;
            }
        } else if let Some(size) = crates
            .entry(owner(&own_name(&symbol)))
            .or_default()
            .of(kind)
        {
            *size += symbol.size();
        }
    }
    println!(
        "  {:<18}{:>9}{:>9}{:>9}{:>9}",
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

/// Prints how much code of an image was written in each function, the most first.
///
/// # Errors
/// The image cannot be read.
pub(crate) fn print_functions(name: &str, elf: &[u8]) -> Result<()> {
    let file = object::File::parse(elf).map_err(|error| format!("{name}: {error}"))?;
    let inlined = Inlined::of(&file)?;
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for (symbol, kind) in loaded_symbols(&file) {
        if kind == SectionKind::Text {
            for function in functions(&file, &inlined, &symbol) {
                *sizes.entry(function).or_default() += INSTRUCTION;
            }
        }
    }
    let mut sizes: Vec<_> = sizes.into_iter().collect();
    sizes.sort_by_key(|(_, bytes)| Reverse(*bytes));
    for (function, bytes) in sizes {
        println!("{bytes:>7} {function}");
    }
    Ok(())
}

/// The named code and statics of an image, each once, with where they are.
fn loaded_symbols<'f, 'd>(
    file: &'f object::File<'d>,
) -> impl Iterator<Item = (Symbol<'d, 'f>, SectionKind)> {
    file.symbols().filter_map(|symbol| {
        let named = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Data);
        let section = file.section_by_index(symbol.section_index()?).ok()?;
        (named && is_loaded(&section)).then(|| (symbol, section.kind()))
    })
}

/// For each instruction of a symbol's code, by the shortest there are: the function it was written in.
fn functions(
    file: &object::File<'_>,
    inlined: &Inlined<'_>,
    symbol: &Symbol<'_, '_>,
) -> impl Iterator<Item = String> {
    let own = own_name(symbol);
    // The lowest bit of a function's address on Arm says that it is Thumb code.
    let start = match file.architecture() {
        object::Architecture::Arm => symbol.address() & !1,
        _ => symbol.address(),
    };
    (start..start + symbol.size())
        .step_by(INSTRUCTION)
        .map(move |address| {
            let names = inlined.functions(address);
            let written = names.into_iter().find(|name| owner(name) != CORE);
            written.unwrap_or_else(|| own.clone())
        })
}

fn own_name(symbol: &Symbol<'_, '_>) -> String {
    format!("{:#}", demangle(symbol.name().unwrap_or_default()))
}

fn is_loaded<'d>(section: &impl ObjectSection<'d>) -> bool {
    // SHF_ALLOC; defmt's strings are in the file only.
    matches!(section.flags(), SectionFlags::Elf { sh_flags, .. } if sh_flags.0 & 2 != 0)
        && section.name().is_ok_and(|name| !name.starts_with(".defmt"))
}

/// The crate of a function: the first that its path names. An implementation, `<Type as Trait>`, is of
/// the crate of the type or of that of the trait; `core` has none for what is not its own.
fn owner(name: &str) -> &'static str {
    let Some(implementation) = name.strip_prefix('<') else {
        return known(name).unwrap_or(OTHERS);
    };
    let (of, what) = implementation
        .split_once(" as ")
        .unwrap_or((implementation, ""));
    let mut crates = [of, what].into_iter().map(|path| {
        let path = path.trim_start_matches(['<', '&', '(', '[', '*']);
        let path = path.trim_start_matches("mut ").trim_start_matches("const ");
        let first = path.split("::").next().unwrap_or(path);
        // What is in no crate is a parameter or a type of the language.
        let in_crate = path.contains("::") && !first.contains(['>', ']', ')']);
        known(path).unwrap_or(if in_crate { OTHERS } else { CORE })
    });
    crates.find(|owner| *owner != CORE).unwrap_or(CORE)
}

fn known(path: &str) -> Option<&'static str> {
    let first = path.split("::").next().unwrap_or(path);
    CRATES.iter().find(|&&known| known == first).copied()
}
