//! The smallest port, which the guide shows and its examples run on, as a program of its own.

#[path = "../src/guide/smallest_port.rs"]
/// The smallest port.
pub mod port;

use port::Machine;

#[test]
fn it_comes_up() {
    let machine = Machine::new().unwrap();
    let context = machine.open().unwrap();
    context.close().unwrap();
    assert_eq!(machine.ram.allocated(), 0);
}
