//! Decision table T5: the state of a Woodpecker pipeline, and whether it belongs to a commit.
//! Called by the CI and deploy adapters for Woodpecker.
//!
//! A pipeline that passed is green only as far as its workflows agree:
//!
//! | one of its workflows | the pipeline |
//! | --- | --- |
//! | failed | RED |
//! | was cancelled because of a newer pipeline | SUPERSEDED |
//! | waits for an approval, or hasn't ended | PENDING |
//! | all were skipped | NOT RUN |
//! | otherwise, or none is listed | PASS |

/// The state of a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineState {
    /// Queued or running, or an unlisted word.
    Pending,
    /// A person must approve the pipeline before it runs.
    NeedsApproval,
    /// Passed: a positive signal.
    Pass,
    /// Failed: a negative signal.
    Red,
    /// Cancelled, because something newer replaced it.
    Superseded,
    /// Nothing ran, since its conditions did not match.
    NotRun,
}

/// Applies the table. A running pipeline is pending even when one of its steps has failed.
#[must_use]
pub fn state(status: &str, replaced: bool) -> PipelineState {
    match status {
        "blocked" => PipelineState::NeedsApproval,
        "success" => PipelineState::Pass,
        "failure" | "error" | "killed" | "declined" => PipelineState::Red,
        "canceled" if replaced => PipelineState::Superseded,
        "canceled" => PipelineState::Red,
        "skipped" => PipelineState::NotRun,
        // `created`, `pending`, `running`, and every unlisted word.
        _ => PipelineState::Pending,
    }
}

/// Applies the table to a pipeline and the states of its workflows.
#[must_use]
pub fn whole(status: &str, workflows: &[&str], replaced: bool) -> PipelineState {
    let pipeline = state(status, replaced);
    if pipeline != PipelineState::Pass || workflows.is_empty() {
        return pipeline;
    }
    let states: Vec<PipelineState> = workflows.iter().map(|word| state(word, replaced)).collect();
    let worst = [
        PipelineState::Red,
        PipelineState::Superseded,
        PipelineState::NeedsApproval,
        PipelineState::Pending,
    ];
    if let Some(worst) = worst.into_iter().find(|worst| states.contains(worst)) {
        return worst;
    }
    if states.contains(&PipelineState::Pass) { PipelineState::Pass } else { PipelineState::NotRun }
}

/// The fields of a pipeline that link it to a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipeline<'a> {
    /// The event that started it: `push`, `manual`, …
    pub event: &'a str,
    /// Its commit. For a `manual` pipeline this is the branch's head at its start, which proves
    /// nothing.
    pub commit: &'a str,
    /// The value of its variable `IMAGE_TAG`.
    pub image_tag: Option<&'a str>,
}

/// Whether a pipeline belongs to a commit. A deploy pipeline (`manual`) matches by its `IMAGE_TAG`,
/// the first eight digits; any other by its commit. Being the latest never counts.
#[must_use]
pub fn is_of(pipeline: Pipeline<'_>, sha: &str) -> bool {
    match pipeline.event {
        "manual" => pipeline.image_tag.is_some_and(|tag| sha.get(..8) == Some(tag)),
        _ => pipeline.commit == sha,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_follows_every_row() {
        for (status, said) in [
            ("created", PipelineState::Pending),
            ("pending", PipelineState::Pending),
            ("running", PipelineState::Pending),
            ("blocked", PipelineState::NeedsApproval),
            ("success", PipelineState::Pass),
            ("failure", PipelineState::Red),
            ("error", PipelineState::Red),
            ("killed", PipelineState::Red),
            ("declined", PipelineState::Red),
            ("canceled", PipelineState::Red),
            ("skipped", PipelineState::NotRun),
            ("meditating", PipelineState::Pending),
        ] {
            assert_eq!(state(status, false), said, "{status}");
        }
        assert_eq!(state("canceled", true), PipelineState::Superseded);
        assert_eq!(state("killed", true), PipelineState::Red);
    }

    #[test]
    fn passed_pipeline_waits_for_its_workflows() {
        for (status, workflows, says) in [
            ("success", &[][..], PipelineState::Pass),
            ("success", &["success", "skipped"], PipelineState::Pass),
            ("success", &["success", "running"], PipelineState::Pending),
            ("success", &["success", "pondering"], PipelineState::Pending),
            ("success", &["success", "blocked"], PipelineState::NeedsApproval),
            ("success", &["running", "failure"], PipelineState::Red),
            ("success", &["success", "canceled"], PipelineState::Red),
            ("success", &["skipped"], PipelineState::NotRun),
            ("running", &["success", "failure"], PipelineState::Pending),
            ("failure", &["success"], PipelineState::Red),
        ] {
            assert_eq!(whole(status, workflows, false), says, "{status} {workflows:?}");
        }
        assert_eq!(whole("success", &["canceled"], true), PipelineState::Superseded);
    }

    #[test]
    fn deploy_pipeline_matches_by_its_image_tag_alone() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        let pipeline = |event, commit, image_tag| Pipeline { event, commit, image_tag };
        assert!(is_of(pipeline("push", sha, None), sha));
        assert!(!is_of(pipeline("push", "other", Some("01234567")), sha));
        assert!(is_of(pipeline("manual", "other", Some("01234567")), sha));
        assert!(!is_of(pipeline("manual", sha, Some("76543210")), sha), "the head at that time");
        assert!(!is_of(pipeline("manual", sha, None), sha));
    }
}
