//! A terminal cockpit for coding agents that work while their owner is away from the keyboard.
//!
//! The map, from what is at the bottom to what is on top; nothing points back down the list:
//!
//! - [`core`]: pure; what the fleet is, what may happen next, and why
//! - [`error`]: one way to print an error with its causes; how a command fails
//! - [`network`]: failed calls to other machines, with address, cause and hint
//! - [`config`]: `afk.toml`, environment, `.afk.toml`
//! - [`process`]: children as whole trees
//! - [`journal`]: the hash-chained record, and transcripts
//! - [`workspace`]: base clones, worktrees, the gate's checkouts
//! - [`cluster`]: how a Kubernetes cluster is reached
//! - [`agent`], [`tracker`], [`ci`], [`deploy`], [`notify`], [`secrets`]: adapters, a file each
//! - [`executor`]: turns that are carried out elsewhere
//! - [`runtime`]: the loop that owns the fleet, and the tasks that carry its effects out
//! - [`serve`]: ways in for other programs
//! - [`term`]: keys, frames and the wire to a terminal
//! - [`tui`]: panes, overlays, keymaps, themes
//! - [`cli`]: one file a subcommand; the demo
//! - `lock`: locks that a panic elsewhere can't disable
//!
//! docs/architecture.md tells more.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod agent;
pub mod breakglass;
pub mod ci;
pub mod cli;
pub mod cluster;
pub mod config;
pub use afk_core as core;
pub mod deploy;
pub mod error;
pub mod executor;
pub mod github;
pub mod journal;
mod lock;
pub mod network;
pub mod notify;
pub mod process;
pub mod runtime;
pub mod secrets;
pub mod serve;
pub mod term;
pub mod tracker;
pub mod tui;
pub mod workspace;
