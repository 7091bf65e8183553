//! The steps of the outbox in words: what each one is, why it is not done, and when afk tries
//! again. `afk explain`, `afk outbox`, the inbox and the details of a run show them.

use crate::fleet::Fleet;
use crate::model::id::{IssueKey, RunId};
use crate::model::outbox::{OutboxEntry, OutboxStep};
use crate::model::plural::plural;
use crate::model::time::Timestamp;
use crate::model::untrusted::clean_line;

/// The entries that failed or are held, oldest first.
pub fn troubled(fleet: &Fleet) -> impl Iterator<Item = &OutboxEntry> {
    fleet.outbox.values().filter(|entry| entry.held || entry.failures > 0)
}

/// One line about an entry: its step, its failures with the reason, and the next try.
#[must_use]
pub fn summary(entry: &OutboxEntry) -> String {
    let step = format!("{} {}", entry.id, entry.step.summary());
    let why = entry.error.as_deref().map(clean_line).unwrap_or_default();
    match (entry.held, entry.failures) {
        (true, _) => format!("{step}: can't be done: {why}; it waits for an operator"),
        (false, 0) => format!("{step}: waits"),
        (false, failures) => {
            let times = plural(failures, "time");
            format!("{step}: failed {times}: {why}; next try {}", clock_time(entry.not_before))
        }
    }
}

/// The lines about the undelivered steps of an issue.
#[must_use]
pub fn of_issue(fleet: &Fleet, issue: &IssueKey) -> Vec<String> {
    let fits = |entry: &&OutboxEntry| entry.step.issue() == Some(issue);
    fleet.outbox.values().filter(fits).map(|entry| format!("  {}", summary(entry))).collect()
}

/// The lines about the undelivered steps of a run: those on its issue if it is the issue's newest
/// run, and its notices.
#[must_use]
pub fn of_run(fleet: &Fleet, id: RunId) -> Vec<String> {
    let key = fleet.runs.get(&id).and_then(|run| run.work.issue());
    let newest = key.filter(|key| fleet.last_run.get(*key) == Some(&id));
    let mut lines = newest.map(|key| of_issue(fleet, key)).unwrap_or_default();
    let notices = fleet.outbox.values().filter(
        |entry| matches!(&entry.step, OutboxStep::Notify { run: Some(run), .. } if *run == id),
    );
    lines.extend(notices.map(|entry| format!("  {}", summary(entry))));
    lines
}

/// A time of the day with seconds.
fn clock_time(at: Timestamp) -> String {
    let seconds = at.0.div_euclid(1000).rem_euclid(24 * 3600);
    format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
