//! The ledger in words: why an issue or a run stands where it stands, for the screen and for
//! `afk explain`. Every line is cleaned.

use super::id::{IssueKey, RunId, Timestamp};
use super::issue::Arming;
use super::run::Run;
use super::state::Fleet;

/// All that is known of an issue.
#[must_use]
pub fn issue(fleet: &Fleet, key: &IssueKey) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(issue) = fleet.issues.get(key) else {
        return vec![format!("{key} is not in the tracker")];
    };
    lines.push(issue.title.clean_line());
    if let Some(entry) = fleet.ledger.get(key) {
        lines.push(String::new());
        lines.push(format!("Why: {}", entry.reason.line()));
        if let Some(hint) = entry.reason.hint() {
            lines.push(format!("What to do: {hint}"));
        }
    }
    let armed = match &issue.arming {
        Arming::NotReady => "not armed".to_owned(),
        Arming::Trusted { by, .. } => format!("armed by {by}, who is trusted"),
        Arming::Untrusted { by } => format!("armed by {by}, who is not trusted"),
        Arming::Unknown { why } => format!("armed by nobody knows whom: {why}"),
        Arming::Hold { why } => format!("armed and held: {why}"),
    };
    let priority = issue.priority.map_or_else(|| "no priority".to_owned(), |p| format!("p{}", p.0));
    lines.push(format!("{armed}; {priority}; {}", if issue.open { "open" } else { "closed" }));
    for id in fleet.runs.values().filter(|run| run.work.issue() == Some(key)).map(|run| run.id) {
        lines.push(String::new());
        lines.extend(run(fleet, id));
    }
    lines.push(String::new());
    lines.extend(issue.body.clean().lines().map(str::to_owned));
    lines.iter().map(|line| super::untrusted::clean_line(line)).collect()
}

/// All that is known of a run.
#[must_use]
pub fn run(fleet: &Fleet, id: RunId) -> Vec<String> {
    let Some(run) = fleet.runs.get(&id) else {
        return vec![format!("there is no run {id}")];
    };
    let mut lines = vec![standing(run)];
    let began = run.reached.first().map_or(run.claimed, |(_, at)| *at);
    for (phase, at) in &run.reached {
        lines.push(format!("  {:>9}  {}", after(began, *at), phase.word()));
    }
    for (name, link) in run.proof.strip() {
        if let Some(link) = link {
            lines.push(format!(
                "  {name}: {} of {}, {}",
                link.verdict.word(),
                link.sha.short(),
                link.detail.clean_line()
            ));
        }
    }
    if run.attempts > 0 {
        lines.push(format!("  {} fix-forward attempts", run.attempts));
    }
    if let Some(agent) = &run.equipment {
        let said = |text: &Option<super::untrusted::Untrusted>| {
            text.as_ref().map_or_else(String::new, |text| format!(" {}", text.clean_line()))
        };
        lines.push(format!(
            "  agent: {}{}{}",
            agent.agent,
            said(&agent.version),
            said(&agent.model)
        ));
    }
    for (name, spend) in [("in all", run.spend), ("its latest turn", run.turn_spend)] {
        lines.push(format!(
            "  {} turns, {name}: {} tokens in, {} out, {}",
            run.turns,
            spend.tokens_in,
            spend.tokens_out,
            spend.line()
        ));
    }
    let places = [("branch", &run.branch), ("worktree", &run.worktree), ("evidence", &run.capsule)];
    for (name, value) in places {
        if let Some(value) = value {
            lines.push(format!("  {name}: {}", super::untrusted::clean_line(value)));
        }
    }
    lines
}

fn standing(run: &Run) -> String {
    match run.outcome {
        Some(outcome) => {
            format!("{} ended as {}: {}", run.id, outcome.word(), run.why.clean_line())
        }
        None => format!("{} is at {} and {}", run.id, run.phase.word(), run.activity.word()),
    }
}

fn after(began: Timestamp, at: Timestamp) -> String {
    let ms = at.since(began);
    format!("+{}.{:01}s", ms / 1000, ms % 1000 / 100)
}
