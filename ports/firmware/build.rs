//! Hands each image its linker scripts.

use std::env;

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rerun-if-changed=memory.x");
    println!("cargo:rerun-if-changed=virt.x");
    println!("cargo:rustc-link-search={root}");
    println!("cargo:rustc-link-arg-bin=cortex-m=-Tlink.x");
    println!("cargo:rustc-link-arg-bin=cortex-m=-Tdefmt.x");
    println!("cargo:rustc-link-arg-bin=riscv64=-Tvirt.x");
    println!("cargo:rustc-link-arg-bin=riscv64=-Tdefmt.x");
    // Tables are aligned to their size, wherever the sections begin.
    println!("cargo:rustc-link-arg-bin=cortex-m=--nmagic");
}
