//! Deploy: what rolls out (a command, a pipeline, a cluster's own controllers), and what proves it.

pub mod command;
pub mod kubernetes;
pub mod objects;
pub mod probe;
