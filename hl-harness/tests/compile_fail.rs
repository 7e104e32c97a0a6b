//! What the types must not let anybody write (DESIGN 3.2, 3.3, 3.4, 3.9): each file here is
//! a program that must be refused, together with the message by which it is.
//!
//! A file that only failed for a reason of its own, a misspelt name say, would show in its message.

#[test]
fn confusions_of_memory_and_privilege_are_refused_by_the_compiler() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
