//! A terminal cockpit for coding agents that work while their owner is away from the keyboard.
//!
//! The map, in the order of the arrows (nothing points back up):
//!
//! - [`core`]: pure; what the fleet is, what may happen next, and why.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod core;
pub mod config;
pub mod journal;
pub mod process;
pub mod workspace;
pub mod notify;
pub mod secrets;
pub mod tracker;
pub mod agent;
pub mod ci;
pub mod deploy;
pub mod runtime;
pub mod cli;
pub mod error;
pub mod term;
