//! Deploy: a command that rolls out, and probes that prove it.

pub mod command;
pub mod probe;
