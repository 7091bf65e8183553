//! Fuzz targets for what CI services report about a commit.

use serde_json::Value;

use super::github_checks::CheckAnswers;
use super::woodpecker::{created, line};
use crate::core::model::time::Timestamp;
use crate::core::tables::commit::{CommitChecks, CommitVerdict, Deadlines, judge};
use crate::core::tables::pipeline::{Pipeline, is_of, state, whole};

/// Judges GitHub's checks: a commit is green only when a check has passed.
pub(crate) fn github_checks(data: &[u8]) {
    let Ok(answers) = serde_json::from_slice::<CheckAnswers>(data) else { return };
    let checks = answers.check_runs(Some(Timestamp(1_800_000_000_000)));
    let (unread, reservation) = (checks.unread(), checks.reservation());
    let successes = checks.all.iter().filter(|check| {
        let conclusion = check.conclusion.as_deref().unwrap_or(&check.status);
        matches!(conclusion, "success" | "neutral" | "skipped")
    });
    let successes = successes.count();
    for (age, quiet) in [(0, 0), (i64::MAX, i64::MAX)] {
        let seen = CommitChecks {
            ancestor: true,
            moved: false,
            quiet,
            quiet_needed: 30_000,
            unread,
            checks: checks.all.clone(),
            runs: checks.runs.clone(),
            suites: checks.suites.clone(),
            required: vec!["test".into()],
            age,
        };
        match judge(&seen, Deadlines { appear: 600_000, run: 3_600_000 }) {
            CommitVerdict::Green(count) => {
                assert!(count > 0 && count <= successes, "{count} of {successes} checks passed");
                assert!(age > 0, "a commit is green at once");
            }
            CommitVerdict::NoCi(_) | CommitVerdict::Stuck(_) => {
                assert!(age > 0, "a deadline is over at once");
            }
            _ => {}
        }
    }
    let _ = reservation;
}

/// Judges Woodpecker's pipelines and the lines of a log.
pub(crate) fn woodpecker(data: &[u8]) {
    let Ok(answer) = serde_json::from_slice::<Value>(data) else { return };
    for pipeline in answer.as_array().into_iter().flatten() {
        let text = |key: &str| pipeline[key].as_str().unwrap_or_default();
        let image_tag = pipeline["variables"]["IMAGE_TAG"].as_str();
        let which = Pipeline { event: text("event"), commit: text("commit"), image_tag };
        let _ = is_of(which, "0123456789abcdef0123456789abcdef01234567");
        let _ = (state(text("status"), false), whole(text("status"), &[text("status")], true));
        let _ = Timestamp(1_800_000_000_000).since(created(pipeline));
        let log = line(pipeline);
        assert!(log.len() <= 3 * data.len() + 1, "{} bytes of log", log.len());
    }
}
