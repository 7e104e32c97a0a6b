//! Counting instructions: this program runs itself under callgrind, which counts only between
//! two requests that the program makes around each timed section.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

/// Set for the run under callgrind.
pub(crate) const CHILD_FLAG: &str = "--under-callgrind";

// Requests of callgrind: "CT" in the upper half.
const DUMP_STATS_AT: usize = 0x4354_0003;
const ZERO_STATS: usize = 0x4354_0001;
const TOGGLE_COLLECT: usize = 0x4354_0002;

/// Makes a request of the tool that this program runs under; does nothing outside of one.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn request(number: usize, argument: usize) {
    let arguments = [number, argument, 0, 0, 0, 0];
    // SAFETY: on a real processor the rotations add up to 128 bits and the exchange is with
    // itself, so nothing changes; under valgrind the sequence reads the array and writes rdx. The
    // flags are declared as clobbered by default.
    unsafe {
        core::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") 0_usize => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn request(_number: usize, _argument: usize) {}

/// Counts the instructions of `work` under `label`.
#[inline(always)]
pub(crate) fn count<T>(label: &str, work: impl FnOnce() -> T) -> T {
    let label = CString::new(label).unwrap_or_default();
    request(ZERO_STATS, 0);
    request(TOGGLE_COLLECT, 0);
    let result = work();
    request(TOGGLE_COLLECT, 0);
    request(DUMP_STATS_AT, label.as_ptr().addr());
    result
}

/// Runs this program under callgrind and returns the instructions by label.
pub(crate) fn run() -> io::Result<BTreeMap<String, u64>> {
    if cfg!(not(target_arch = "x86_64")) {
        return Err(io::Error::other("instructions are counted on x86-64 only"));
    }
    let directory = std::env::temp_dir().join(format!("hl-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let result = run_in(&directory);
    fs::remove_dir_all(&directory)?;
    result
}

fn run_in(directory: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut out_file = std::ffi::OsString::from("--callgrind-out-file=");
    out_file.push(directory.join("out"));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--dump-line=no"])
        .arg(out_file)
        .arg(std::env::current_exe()?)
        .arg(CHILD_FLAG)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("callgrind failed:\n{said}")));
    }
    let mut counts = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let text = fs::read_to_string(entry?.path())?;
        let label = text
            .lines()
            .find_map(|line| line.strip_prefix("desc: Trigger: Client Request: "));
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("totals: "))
            .and_then(|total| total.trim().parse().ok());
        if let (Some(label), Some(total)) = (label, total) {
            counts.insert(label.to_owned(), total);
        }
    }
    Ok(counts)
}
