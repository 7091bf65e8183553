//! The error of a task: a line for a person, and the outage behind it where there is one. A run is
//! held by an outage and spends nothing; any other error is the run's own.

use std::fmt;

use super::setup::SetupFailure;
use crate::core::model::input::{RunFact, TryFailure};
use crate::core::model::outage::OutageCause;
use crate::workspace::WorkspaceError;

/// Why a task could not be carried out.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct TaskError {
    why: String,
    outage: Option<OutageCause>,
    /// The shortest wait before another try, in milliseconds, where a service demands one.
    wait_ms: i64,
}

impl TaskError {
    /// An error that an outage explains.
    pub(in crate::runtime) const fn outage(cause: OutageCause, why: String, wait_ms: i64) -> Self {
        Self { why, outage: Some(cause), wait_ms }
    }

    /// The same error with the thing that it is about before it.
    pub(in crate::runtime) fn about(self, subject: &str) -> Self {
        Self { why: format!("{subject}: {}", self.why), ..self }
    }

    /// Whether an outage explains the error.
    pub(in crate::runtime) const fn is_outage(&self) -> bool {
        self.outage.is_some()
    }

    /// The outage that explains the error.
    pub(super) fn into_outage(self) -> Option<OutageCause> {
        self.outage
    }

    /// The report of the task.
    pub(super) fn into_fact(self) -> RunFact {
        let why = self.why.into();
        match self.outage {
            Some(cause) => {
                let failure = TryFailure { why, wait_ms: self.wait_ms };
                RunFact::Unavailable { cause, failure }
            }
            None => RunFact::Failed { why },
        }
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<String> for TaskError {
    fn from(why: String) -> Self {
        Self { why, outage: None, wait_ms: 0 }
    }
}

impl From<&str> for TaskError {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

impl From<&WorkspaceError> for TaskError {
    fn from(error: &WorkspaceError) -> Self {
        Self { why: error.to_string(), outage: error.outage(), wait_ms: 0 }
    }
}

impl From<WorkspaceError> for TaskError {
    fn from(error: WorkspaceError) -> Self {
        Self::from(&error)
    }
}

impl From<SetupFailure> for TaskError {
    fn from(failure: SetupFailure) -> Self {
        Self { why: failure.why, outage: failure.outage, wait_ms: 0 }
    }
}
