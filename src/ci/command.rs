//! The repository's own command as its CI, on a clean checkout that the caller made.

use std::path::Path;
use std::time::Duration;

use crate::core::model::verdict::Judgement;
use crate::process::{Spec, Supervisor};

/// Runs the command to its end or its time limit, and ends the processes that it leaves behind.
///
/// # Errors
/// The command can't be started, or its log can't be written.
pub async fn run(
    supervisor: &Supervisor,
    spec: &Spec,
    log: &Path,
    limit: Duration,
) -> std::io::Result<Judgement> {
    supervisor.run(spec, log, limit).await.map(|finished| finished.judgement())
}
