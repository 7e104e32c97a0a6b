//! Names the entry of the images.

fn main() {
    for bin in ["table", "tables", "parts", "ring", "interface"] {
        println!("cargo:rustc-link-arg-bin={bin}=--entry=_start");
    }
}
