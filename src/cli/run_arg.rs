//! A run on the command line: `r4`, as every screen shows it, or `4`.

use crate::core::fleet::Fleet;
use crate::core::model::id::RunId;
use crate::core::model::run::Run;
use crate::error::{Failure, FailureKind};

/// Parses the id of a run.
pub(super) fn parse(text: &str) -> Result<RunId, Failure> {
    RunId::parse(text.trim().trim_start_matches('r')).ok_or_else(|| unknown(text))
}

/// Finds the run in a fleet.
pub(super) fn find<'a>(fleet: &'a Fleet, text: &str) -> Result<&'a Run, Failure> {
    fleet.runs.get(&parse(text)?).map(AsRef::as_ref).ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> Failure {
    Failure::new(FailureKind::Negative, format!("there is no run {text}"))
        .hint("`afk status` lists the runs")
}
