//! A fuzz target for issues and their histories as GitHub sends them.

use serde::Deserialize;
use serde_json::Value;

use super::arming::ArmingHistory;
use super::dto::{CommentDto, IssueDto, LabelDto, TimelineEventDto};
use crate::core::model::gate_report::ChangeClass;
use crate::core::model::id::Repo;
use crate::core::model::issue::Priority;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::blocking::references;
use crate::github::time;

/// Several answers in one file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct IssueAnswers {
    issues: Vec<IssueDto>,
    timeline: Vec<TimelineEventDto>,
    comments: Vec<CommentDto>,
    /// The issue as GraphQL answers it.
    edits: Value,
}

/// Reads issues: each has a key and blockers with keys that can be written and read again.
pub(crate) fn issues(data: &[u8]) {
    let Ok(answers) = serde_json::from_slice::<IssueAnswers>(data) else { return };
    let Ok(repo) = Repo::parse("acme/web") else { return };
    for comment in &answers.comments {
        let _ = (comment.is_of("afk-bot"), comment.text());
    }
    for issue in &answers.issues {
        let mut keys = references(issue.body.as_deref().unwrap_or_default(), &repo);
        keys.extend(issue.key(&repo).filter(|key| key.number > 0));
        for key in keys {
            let again = crate::core::model::id::IssueKey::parse(&key.to_string());
            assert_eq!(again.as_ref(), Ok(&key), "{key} reads back as another key");
        }
        let _ = (issue.found(), issue.has("ready"), clean_line(&issue.title));
        let names = || issue.labels.iter().map(LabelDto::name);
        let _ = (ChangeClass::from_labels(names()), names().filter_map(Priority::from_label).min());
        let mut history = ArmingHistory::default();
        for event in &answers.timeline {
            history.take_event(event, "ready");
        }
        history.take_edits(&answers.edits, issue);
        let _ = history.lags(time(&issue.updated_at));
    }
}
