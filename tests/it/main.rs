//! Everything that needs the program, real git, real processes or a terminal; a file a feature.

#[path = "../support/mod.rs"]
mod support;

mod crash;
mod demo;
mod purity;
