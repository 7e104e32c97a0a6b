//! Scenario files.

pub mod ast;
pub mod command;
mod data;
mod lex;
mod manual;
mod names;
mod parse;
mod print;
mod run;
mod text;
pub mod words;

pub use ast::Script;
pub use manual::{MANUAL, StepManual};
pub use run::{Executed, Failure, Options, Passed, Stop, Watch, run};
pub use text::{Invalid, Span};
