//! A terminal cockpit for coding agents that work while their owner is away from the keyboard.
//!
//! The map, in the order of the arrows (nothing points back up):
//!
//! - [`core`]: pure; what the fleet is, what may happen next, and why.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod agent;
pub mod ci;
pub mod cli;
pub mod config;
pub mod core;
pub mod deploy;
pub mod error;
pub mod journal;
pub mod notify;
pub mod process;
pub mod runtime;
pub mod secrets;
pub mod serve;
pub mod term;
pub mod tracker;
pub mod tui;
pub mod workspace;
