//! The vocabulary: everything that a fleet consists of and exchanges with the runtime, as data.
//! Every other room of the core, and the rest of afk, uses these types. No file here decides
//! what happens next; [`crate::step`] does.

pub mod activity;
pub mod agent_event;
pub mod approval;
pub mod breaker;
pub mod breakglass;
pub mod brief;
pub mod budget;
pub mod capability;
pub mod command;
pub mod digest;
pub mod effect;
pub mod event;
pub mod fallback;
pub mod gate_report;
pub mod guardrail;
pub mod id;
pub mod input;
pub mod issue;
pub mod job;
pub mod ledger;
pub mod notice;
pub mod outage;
pub mod outbox;
pub mod permission;
pub mod plural;
pub mod policy;
pub mod run;
pub mod stage;
pub mod test_report;
pub mod time;
mod turn_agents;
pub mod untrusted;
pub mod verdict;
pub mod worktree;
