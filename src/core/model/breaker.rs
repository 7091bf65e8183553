//! The circuit breaker's vocabulary. When turns of several runs fail for the same cause, the cause
//! lies outside the runs: pickup pauses, one human is asked, and the runs wait instead of giving up
//! one by one. The fleet counts the failures; [`crate::step`] opens and closes the breaker.

use serde::{Deserialize, Serialize};

use crate::model::agent_event::TurnEnd;

/// The number of different runs that must fail alike to open the breaker.
pub(crate) const RUNS: usize = 3;
/// The span within which they must fail, in milliseconds.
pub(crate) const WINDOW: i64 = 15 * 60_000;
/// The wait between a run's retries while the breaker is open, in milliseconds.
pub(crate) const PAUSE: i64 = 5 * 60_000;

/// A failure without the details that differ from run to run, so that equal causes are equal
/// strings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cause(pub String);

impl Cause {
    /// The cause of a turn's end; none where the end says nothing about the world outside the run.
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

/// A text without its numbers and paths, so that two failures of the same kind are equal.
fn signature(text: &str) -> String {
    let words = text.split_whitespace().map(|word| {
        let odd = word.contains('/') || word.chars().any(|c| c.is_ascii_digit());
        if odd { "…" } else { word }
    });
    words.collect::<Vec<_>>().join(" ").chars().take(80).collect()
}
