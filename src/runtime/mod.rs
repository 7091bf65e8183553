//! The imperative shell around the pure core: this module owns the fleet, writes the journal and
//! carries out the core's decisions. `cli` starts it; `serve` and `tui` talk to it through a
//! [`Handle`] or a `client::Client`.
//!
//! ```text
//!   commands (Handle)   facts (tasks)   issues, policy (watchers)   time
//!          └───────────────┬┴─────────────────┴─────────────────────┘
//!                     LoopMessage
//!                          ▼
//!   event_loop:  core::step(fleet, input) → events, effects, reply
//!                          ▼
//!                journal: one batch, one sync          (nothing acts on an event before)
//!                          ▼
//!        ┌─────────────────┼──────────────────┬──────────────────┐
//!     replies       PreparedEffect          Batch            Snapshot
//!     (clients)     → lanes → tasks → facts (followers, SSE)  (screens)
//! ```
//!
//! Each file has one subject:
//!
//! - `startup`: open, recover, start, stop; `setup` builds the parts that tasks and clients share;
//!   `temporary_state` is the folder of breakglass without a journal
//! - `handle`, `client`: how a program and a screen reach the runtime; `rights`, `refusals`: what they
//!   may do there now, and what they were refused
//! - `context`, `side_state`, `services`: the state that every task shares
//! - `event_loop`, `loop_message`, `snapshot`, `clock`: the loop, its inputs and its outputs
//! - `prepared_effect`, `lanes`, `tasks`, `delivery`: how effects are carried out
//! - `outages`: which errors are outages, and the tries whether one is over
//! - `tracker_watch`, `config_watch`, `control`: where inputs come from
//! - `baseline_watch`: tests new commits of upstreams before a run needs it
//! - `wall`: what programs that aren't ours can reach
//! - `worktree_stats`, `presence`, `claims`, `loki`: measurements and reports beside the journal
//! - `traces`: each run as a trace of OpenTelemetry, with the feature of that name
//! - `event_log`, `metrics`: the journal's events as lines of the log and as counters
//! - `leader`, `follower`: several afk on one journal
//! - `breakglass`: verbs and shells, also while the journal can't be written

pub(crate) mod agent_home;
mod baseline_watch;
pub(crate) mod breakglass;
mod claims;
pub(crate) mod client;
pub mod clock;
mod config_watch;
mod context;
mod control;
mod delivery;
pub(crate) mod dry_turn;
mod event_log;
mod event_loop;
mod first_clones;
mod follower;
mod handle;
mod job_listeners;
mod known_secrets;
mod lanes;
pub(crate) mod leader;
mod loki;
mod loop_message;
pub(crate) mod metrics;
pub(crate) mod operators;
mod outages;
mod pool_opening;
mod ports;
mod prepared_effect;
pub mod presence;
mod prompt;
pub(crate) mod refusals;
mod remote_turns;
pub(crate) mod rights;
mod scratch_dirs;
mod services;
mod setup;
mod side_state;
mod snapshot;
mod startup;
mod tasks;
mod temporary_state;
#[cfg(feature = "traces")]
mod traces;
mod tracker_watch;
mod wall;
mod workspaces;
mod worktree_stats;

pub(crate) use context::Context;
pub(crate) use handle::Attachment;
pub use handle::Handle;
pub(crate) use loop_message::LoopMessage;
pub(crate) use side_state::ProblemSource;
pub(crate) use snapshot::Batch;
pub use snapshot::{Snapshot, WatcherHealth, WorktreeStats};
pub use startup::{Runtime, RuntimeError};
pub(crate) use wall::{Grants, Owner, Wall};
