//! The pure core: what the fleet is, what may happen next, and why.
//!
//! [`step::step`] takes the fleet, a time and one [`input::Input`] and returns the events that
//! happened and the effects that the runtime must carry out. Nothing in here reads a clock,
//! draws a random number, waits, or touches a file; `tests/it/purity.rs` keeps it so. The fleet
//! changes only through [`state::Fleet::apply`], so folding a journal gives the same fleet.

pub mod agent_event;
pub mod approval;
pub mod breaker;
pub mod breakglass;
pub mod budget;
pub mod capability;
pub mod command;
pub mod digest;
pub mod dispatch;
pub mod effect;
pub mod event;
pub mod explain;
pub mod guardrail;
pub mod id;
pub mod input;
pub mod invariant;
pub mod issue;
pub mod job;
pub mod ledger;
pub mod lifecycle;
pub mod notice;
pub mod operator;
pub mod outbox;
pub mod outside;
pub mod permission;
pub mod policy;
pub mod progress;
pub mod queue;
pub mod run;
pub mod state;
pub mod step;
#[cfg(test)]
mod tests;
pub mod turn;
#[cfg(test)]
mod turn_tests;
pub mod untrusted;
pub mod verdict;
