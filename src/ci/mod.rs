//! CI: what decides about a pushed commit.

pub mod command;
pub mod github;
pub mod woodpecker;
