//! Decision tables: what a fact from outside means. Pure, one file a table; every row has a test.
//!
//! Unless a file says otherwise the first matching row wins. A word that nobody knows leads to
//! "pending" or "unknown", never to success, and green needs at least one positive signal.

pub mod answer;
pub mod arming;
pub mod blocking;
pub mod check;
pub mod commit;
pub mod guardrail;
pub mod job;
pub mod permission;
pub mod pipeline;
pub mod pod;
pub mod rollout;
pub mod shell_words;
pub mod sink;
