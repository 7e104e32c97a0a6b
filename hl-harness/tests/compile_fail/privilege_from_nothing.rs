//! Nobody makes the right to the privileged address space.
fn main() {
    let _ = hl_mem::Privilege(());
}
