//! T5: a Woodpecker pipeline.

/// What a pipeline says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PipelineState {
    /// Not ended.
    Pending,
    /// Somebody must let it go on.
    NeedsApproval,
    /// Good.
    Pass,
    /// Bad.
    Red,
    /// Cut off because something newer came.
    Superseded,
    /// Its conditions did not fit: nothing ran.
    NotRun,
}

/// The table. A pipeline that runs is pending though a step of it has failed.
#[must_use]
pub fn state(status: &str, replaced: bool) -> PipelineState {
    match status {
        "blocked" => PipelineState::NeedsApproval,
        "success" => PipelineState::Pass,
        "failure" | "error" | "killed" | "declined" => PipelineState::Red,
        "canceled" if replaced => PipelineState::Superseded,
        "canceled" => PipelineState::Red,
        "skipped" => PipelineState::NotRun,
        // `created`, `pending`, `running`, and every word that nobody knows.
        _ => PipelineState::Pending,
    }
}

/// A pipeline, as far as it is matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pipeline<'a> {
    /// What began it.
    pub event: &'a str,
    /// Its commit. Of a `manual` one the branch's head when it was begun, which tells nothing.
    pub commit: &'a str,
    /// Its variable `IMAGE_TAG`.
    pub image_tag: Option<&'a str>,
}

/// Whether a pipeline is about a commit: a deploy pipeline (`manual`) by its `IMAGE_TAG`, the first
/// eight digits; another by its commit. Never by being the latest.
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
    fn every_row() {
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
    fn a_deploy_pipeline_is_matched_by_its_image_tag_alone() {
        let sha = "0123456789abcdef0123456789abcdef01234567";
        let pipeline = |event, commit, image_tag| Pipeline { event, commit, image_tag };
        assert!(is_of(pipeline("push", sha, None), sha));
        assert!(!is_of(pipeline("push", "other", Some("01234567")), sha));
        assert!(is_of(pipeline("manual", "other", Some("01234567")), sha));
        assert!(!is_of(pipeline("manual", sha, Some("76543210")), sha), "the head at that time");
        assert!(!is_of(pipeline("manual", sha, None), sha));
    }
}
