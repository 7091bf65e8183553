//! The vocabulary: every thing that the fleet consists of, as data. No file here decides what
//! happens next; [`crate::step`] does.

pub mod agent_event;
pub mod approval;
pub mod breaker;
pub mod breakglass;
pub mod budget;
pub mod capability;
pub mod command;
pub mod digest;
pub mod effect;
pub mod event;
pub mod guardrail;
pub mod id;
pub mod input;
pub mod issue;
pub mod job;
pub mod ledger;
pub mod notice;
pub mod outbox;
pub mod permission;
pub mod plural;
pub mod policy;
pub mod run;
pub mod stage;
pub mod time;
pub mod untrusted;
pub mod verdict;
