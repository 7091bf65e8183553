//! Decision tables: each maps facts from outside to a meaning, in one file with a test for every
//! row. Adapters collect the facts and call the tables, so that no adapter decides by itself
//! whether something is green.
//!
//! Unless a file says otherwise, the first matching row wins. An unlisted word means "pending" or
//! "unknown", never success, and green needs at least one positive signal.
//!
//! | table | file | judges |
//! | --- | --- | --- |
//! | T1 | [`arming`] | who armed an issue |
//! | T2 | [`blocking`] | the issues that an issue waits for |
//! | T3, T4 | [`check`], [`suite`], [`commit`] | a commit on GitHub |
//! | T5 | [`pipeline`] | a Woodpecker pipeline |
//! | T6, T7 | [`image`], [`rollout`], [`pod`], [`soak`] | a rollout on Kubernetes |
//! | T8 | [`job`] | a Kubernetes Job |
//! | T9 | [`answer`] | a response of GitHub's API |
//! | T10 | [`sink`] | a response of a notice sink, of a collector of traces or of Vault |
//! | T11 | [`gate`] | the commits of a run before their push |
//! | | `permission`, [`guardrail`] | an agent's permission request |
//! | | `breakglass_agent` | a call of the breakglass agent |

pub mod answer;
pub mod arming;
pub mod blocking;
pub(crate) mod breakglass_agent;
pub mod check;
pub mod commit;
pub mod gate;
pub mod guardrail;
pub mod image;
pub mod inline_tests;
pub mod job;
pub mod permission;
pub mod pipeline;
pub mod pod;
pub mod rollout;
pub(crate) mod shell_words;
pub mod sink;
pub mod soak;
pub mod suite;
