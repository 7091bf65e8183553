//! Telling the operator.

pub mod terminal;
