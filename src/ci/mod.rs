//! CI: what decides about a pushed commit.

pub mod command;
