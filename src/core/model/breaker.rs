//! The circuit breaker: when turns of several runs fail for the same cause, the cause is not the
//! runs. Pickup pauses, one human is asked, and the runs wait instead of giving up one by one.

use serde::{Deserialize, Serialize};

use crate::model::agent_event::TurnEnd;

/// Runs that must fail alike.
pub const RUNS: usize = 3;
/// Time in which they must fail, in milliseconds.
pub const WINDOW: i64 = 15 * 60_000;
/// Time between two tries of a run while the breaker is open, in milliseconds.
pub const PAUSE: i64 = 5 * 60_000;
/// Failures that are remembered.
const KEPT: usize = 64;

/// A failure without what differs from run to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cause(pub String);

impl Cause {
    /// Of a turn's end; none where the end says nothing about the world.
    #[must_use]
    pub fn of(end: &TurnEnd) -> Option<Self> {
        match end {
            TurnEnd::ApiError { status: Some(status), .. } => {
                Some(Self(format!("the model's API answers {status}")))
            }
            TurnEnd::ApiError { status: None, why } => {
                Some(Self(format!("the model fails: {}", signature(&why.clean_line()))))
            }
            TurnEnd::NotStarted { why } => {
                Some(Self(format!("the agent can't start: {}", signature(&why.clean_line()))))
            }
            TurnEnd::Crashed { why } => {
                Some(Self(format!("the agent crashes: {}", signature(&why.clean_line()))))
            }
            TurnEnd::Silent => Some(Self("the agent falls silent".into())),
            _ => None,
        }
    }
}

/// A text without its numbers and names of places, so that two of the same kind are equal.
fn signature(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let odd = word.contains('/') || word.chars().any(|c| c.is_ascii_digit());
        if odd { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ").chars().take(80).collect()
}
