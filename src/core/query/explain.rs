//! Explanations in words: why an issue runs or doesn't, and how far a run has come.
//! `afk explain`, `afk proof` and the overlays of the cockpit show them. Every line is cleaned of
//! control characters.

use crate::fleet::Fleet;
use crate::fleet::outages::Outage;
use crate::model::activity::Activity;
use crate::model::id::{IssueKey, RunId};
use crate::model::issue::Arming;
use crate::model::plural::plural;
use crate::model::run::Run;
use crate::model::stage::ProofLink;
use crate::model::time::Timestamp;
use crate::model::verdict::Verdict;

/// The lines about an issue: its reason, what to do, its arming, its runs and its text.
#[must_use]
pub fn issue(fleet: &Fleet, key: &IssueKey) -> Vec<String> {
    let mut lines = Vec::new();
    let Some(issue) = fleet.issues.get(key) else {
        lines.push(format!("{key} is not in the tracker"));
        lines.extend(runs_on(fleet, key));
        return lines.iter().map(|line| crate::model::untrusted::clean_line(line)).collect();
    };
    lines.push(issue.title.clean_line());
    if let Some(entry) = fleet.ledger.get(key) {
        lines.push(String::new());
        lines.push(format!("Why: {}", entry.reason.summary()));
        if let Some(hint) = entry.reason.hint(fleet.policy.remote.contains(&key.repo)) {
            lines.push(format!("What to do: {hint}"));
        }
    }
    let armed = match &issue.arming {
        Arming::NotReady => "not armed".to_owned(),
        Arming::Trusted { by, .. } => format!("labelled by {by}, who is trusted"),
        Arming::Untrusted { by } => format!("labelled by {by}, who is not trusted"),
        Arming::Unknown { why } => format!("labelled by an unknown actor: {why}"),
        Arming::Hold { why } => format!("armed and held: {why}"),
    };
    let priority = issue.priority.map_or_else(|| "no priority".to_owned(), |p| format!("p{}", p.0));
    lines.push(format!("{armed}; {priority}; {}", if issue.open { "open" } else { "closed" }));
    lines.extend(runs_on(fleet, key));
    lines.push(String::new());
    lines.extend(issue.body.clean().lines().map(str::to_owned));
    lines.iter().map(|line| crate::model::untrusted::clean_line(line)).collect()
}

/// The lines about the runs on an issue, or about its undelivered steps where it has no run.
fn runs_on(fleet: &Fleet, key: &IssueKey) -> Vec<String> {
    let runs = fleet.runs.values().filter(|run| run.work.issue() == Some(key));
    let mut lines = Vec::new();
    for id in runs.map(|run| run.id) {
        lines.push(String::new());
        lines.extend(run(fleet, id));
    }
    if lines.is_empty() { crate::query::outbox::of_issue(fleet, key) } else { lines }
}

/// A line for each outage that holds runs back.
#[must_use]
pub fn outages(fleet: &Fleet) -> Vec<String> {
    let line = |outage: &Outage| {
        let held = |run: &&std::sync::Arc<Run>| matches!(&run.progress.activity, Activity::Held { cause, .. } if *cause == outage.cause);
        let runs = match fleet.live_runs().filter(held).count() {
            0 => String::new(),
            1 => "1 run waits; ".into(),
            count => format!("{count} runs wait; "),
        };
        let (summary, why) = (outage.cause.summary(), outage.why.clean_line());
        let instead = fleet.works_in_place(&outage.cause).map(|instead| format!("{instead}; "));
        format!("{summary}: {why}; {runs}{}afk tries again by itself", instead.unwrap_or_default())
    };
    fleet.outages.holding().map(line).collect()
}

/// The lines about a run: its phases, proof, agent, spend and places.
#[must_use]
pub fn run(fleet: &Fleet, id: RunId) -> Vec<String> {
    let Some(run) = fleet.runs.get(&id) else {
        return vec![format!("there is no run {id}")];
    };
    let mut lines = vec![headline(run)];
    let began = run.progress.reached.first().map_or(run.progress.claimed, |(_, at)| *at);
    for (phase, at) in &run.progress.reached {
        lines.push(format!("  {:>9}  {}", elapsed(began, *at), phase.as_str()));
    }
    if let Activity::Held { cause, since, then } = &run.progress.activity {
        lines.push(format!("  waits since {}: {}", elapsed(began, *since), cause.summary()));
        lines.push(format!("  then continues: {}; it loses no attempt", then.as_str()));
        if let Some(outage) = fleet.outages.of(cause) {
            let attempts = plural(outage.failures, "failed attempt");
            lines.push(format!("  {attempts} so far: {}", outage.why.clean_line()));
        }
    }
    lines.extend(proof(run));
    for place in &run.progress.leaks {
        lines.push(format!("  must not be pushed: {}", place.clean_line()));
    }
    if run.progress.attempts > 0 {
        lines.push(format!("  {}", plural(run.progress.attempts, "fix-forward attempt")));
    }
    if let Some(agent) = &run.agent.equipment {
        let optional = |text: &Option<crate::model::untrusted::Untrusted>| {
            text.as_ref().map_or_else(String::new, |text| format!(" {}", text.clean_line()))
        };
        lines.push(format!(
            "  agent: {}{}{}",
            agent.agent,
            optional(&agent.version),
            optional(&agent.model)
        ));
    }
    lines.extend(run.agent.remarks().into_iter().map(|remark| format!("  {remark}")));
    let turns = plural(run.agent.turns, "turn");
    for (name, spend) in [(&*turns, run.spend.total), ("latest turn", run.spend.turn)] {
        lines.push(format!(
            "  {name}: {} tokens in, {} out, {}",
            spend.tokens_in,
            spend.tokens_out,
            spend.summary()
        ));
    }
    if let Some(why) = &run.issue.withdrawn {
        lines.push(format!("  taken back by its tracker: {why}"));
    }
    lines.extend(crate::query::outbox::of_run(fleet, id));
    let places = [
        ("branch", &run.workspace.branch),
        ("worktree", &run.workspace.worktree),
        ("evidence", &run.progress.capsule),
    ];
    for (name, value) in places {
        if let Some(value) = value {
            lines.push(format!("  {name}: {}", crate::model::untrusted::clean_line(value)));
        }
    }
    lines
}

/// The proof chain, each link with its facts.
#[must_use]
pub fn proof(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, link) in run.proof.chain() {
        let Some(link) = link else { continue };
        let verdict = match (name, link.verdict) {
            (ProofLink::TestsRed | ProofLink::TestsGreen, Verdict::Green) => "proved on",
            (_, verdict) => &format!("{} for", verdict.as_str()),
        };
        let detail = match link.detail.clean_line() {
            detail if detail.is_empty() => detail,
            detail => format!(": {detail}"),
        };
        lines.push(format!("  {}: {verdict} {}{detail}", name.label(), link.sha.short()));
        // The image link has the same facts as the rollout link.
        for fact in link.facts.iter().filter(|_| name != ProofLink::Image) {
            let address = fact.link.as_ref().map(|link| format!("  {}", link.clean_line()));
            let (what, value) = (fact.kind.as_str(), fact.value.clean_line());
            lines.push(format!("      {what} {value}{}", address.unwrap_or_default()));
        }
    }
    lines
}

fn headline(run: &Run) -> String {
    if let Some(outcome) = run.progress.outcome {
        format!("{} ended as {}: {}", run.id, outcome.as_str(), run.progress.why.clean_line())
    } else {
        let (phase, activity) = (run.progress.phase.as_str(), run.progress.activity.as_str());
        let activity = (activity != phase).then(|| format!(", {activity}"));
        format!("{}: {phase}{}", run.id, activity.unwrap_or_default())
    }
}

fn elapsed(began: Timestamp, at: Timestamp) -> String {
    let ms = at.since(began);
    format!("+{}.{:01}s", ms / 1000, ms % 1000 / 100)
}
