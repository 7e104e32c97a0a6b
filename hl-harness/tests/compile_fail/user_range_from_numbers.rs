//! Only the parser of a request makes a user range.
fn main() {
    let _ = hl_mem::host::UserRange::parse(0x1000, 0x1000, 4096);
    let _ = hl_mem::host::UserAddr::new(0x1000);
}
