//! A terminal cockpit for coding agents that work while their owner is away from the keyboard.
//!
//! The modules, from the bottom of the house to its top. A module uses only those that stand before it
//! in this list; docs/architecture.md describes the flows between them.
//!
//! - [`core`]: the pure core, a package of its own: the fleet, the rules, and each decision with its
//!   reason
//! - `lock`: locks that a panic elsewhere can't disable
//! - `redact`: keeps secrets out of what afk stores, shows and sends
//! - `trusted_file`: reads of files that grant rights, which nobody else may be able to change
//! - [`error`]: one way to print an error with its causes; how a command fails
//! - [`network`]: failed calls to other machines, with their address, cause and hint
//! - [`config`]: `afk.toml`, the environment, and each repository's `.afk.toml`
//! - `egress`: the proxy through which a program behind the wall reaches only the hosts of a list
//! - [`sandbox`]: the wall around programs that aren't ours: what they can reach
//! - [`process`]: child processes as whole trees, with limits and without orphans
//! - [`journal`]: the hash-chained record of events, and the transcripts of runs
//! - `test_report`: the names and results of tests, from reports or from the output of a test command
//! - [`workspace`]: base clones, worktrees, and the checkouts of the gate
//! - [`secrets`], [`cluster`], [`github`]: clients that several adapters share
//! - [`agent`], [`tracker`], [`ci`], [`deploy`], [`notify`]: adapters to the outside, a file for each
//!   service or program
//! - [`executor`]: turns that another machine carries out
//! - [`breakglass`]: ssh to the hypervisor and to hosts, pinned keys, verbs and recordings
//! - [`term`]: terminals, local and remote: keys in, frames out
//! - [`runtime`]: the loop that owns the fleet, and the tasks that carry out its effects
//! - [`serve`]: the ways in for other programs: the attach socket, HTTP, SSH
//! - [`tui`]: the cockpit: panes, overlays, keymaps, themes
//! - [`cli`]: the subcommands, one file each, and the demo
//! - `fuzz`: the fuzz targets of all modules, compiled only for tests and for fuzzing
//!
//! docs/architecture.md explains the design and the arrows between these modules.
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
mod egress;
pub mod error;
pub mod executor;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod github;
pub mod journal;
mod lock;
pub mod network;
pub mod notify;
pub mod process;
mod redact;
pub mod runtime;
pub mod sandbox;
pub mod secrets;
pub mod serve;
mod server_clock;
pub mod term;
mod test_report;
pub mod tracker;
mod trusted_file;
pub mod tui;
pub mod version;
mod whole_file;
pub mod workspace;
