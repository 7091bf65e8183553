//! How the fleet stands, in one sentence: the first line of the screen, and of `afk status`.
//!
//! The most urgent condition is stated alone. An operator who reads it knows whether to act, and
//! [`Remedy`] names the act; the screen adds the key.

use std::collections::BTreeSet;

use crate::fleet::Fleet;
use crate::fleet::outages::Outage;
use crate::model::id::{IssueKey, RunId};
use crate::model::ledger::Reason;
use crate::model::plural::plural;
use crate::model::time::Timestamp;

/// How urgent a condition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Nothing needs a human.
    Well,
    /// Somebody should look soon.
    Attention,
    /// Work stands still, or nothing starts.
    Alarm,
}

/// The act of an operator that changes a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Answer what the inbox asks.
    Answer,
    /// Lift the kill switch.
    LiftKillSwitch,
    /// Add a permit to those there are.
    AddPermit,
}

/// How the fleet stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetCondition {
    /// How urgent it is.
    pub urgency: Urgency,
    /// The condition in a word or two, such as `STANDING STILL`.
    pub word: &'static str,
    /// The reason in half a sentence.
    pub text: String,
    /// The act that changes it, where one does.
    pub remedy: Option<Remedy>,
}

/// The open questions and the issues that can't start before they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Questions {
    /// How many questions are open.
    pub open: usize,
    /// How many issues wait behind them.
    pub blocked: usize,
    /// When the oldest one was raised.
    pub oldest: Timestamp,
}

impl Questions {
    /// The questions in half a sentence: `4 questions block 7 issues`.
    #[must_use]
    pub fn summary(&self) -> String {
        let open = plural(self.open, "question");
        match (self.open, self.blocked) {
            (1, 0) => format!("{open} is open"),
            (_, 0) => format!("{open} are open"),
            (1, blocked) => format!("{open} blocks {}", plural(blocked, "issue")),
            (_, blocked) => format!("{open} block {}", plural(blocked, "issue")),
        }
    }
}

/// The open questions of a fleet; none where nothing is asked.
#[must_use]
pub fn questions(fleet: &Fleet) -> Option<Questions> {
    let open = fleet.inbox();
    let oldest = open.iter().map(|asked| asked.raised).min()?;
    let runs: BTreeSet<RunId> = open.iter().filter_map(|asked| asked.run).collect();
    let behind = |reason: &Reason| match reason {
        Reason::RepoBusy { run } | Reason::RepoFrozen { run } => runs.contains(run),
        _ => false,
    };
    let blocked: Vec<&IssueKey> = fleet
        .ledger
        .iter()
        .filter(|(_, entry)| behind(&entry.reason))
        .map(|(key, _)| key)
        .collect();
    Some(Questions { open: open.len(), blocked: blocked.len(), oldest })
}

/// How a fleet stands, with the most urgent condition first.
#[must_use]
pub fn condition(fleet: &Fleet, now: Timestamp) -> FleetCondition {
    let waiting = fleet.waiting_for_human();
    let (at_work, asks) = (fleet.count_at_work(), waiting.len());
    let permits = fleet.capacity() as usize;
    let held = waiting
        .keys()
        .filter(|run| fleet.runs.get(*run).is_some_and(|run| run.has_permit()))
        .count();
    let questions = questions(fleet).map_or(0, |questions| questions.open);
    let work = match at_work {
        0 => "nothing at work".to_owned(),
        count => format!("{count} at work"),
    };
    let new = |urgency, word, text: String, remedy| FleetCondition { urgency, word, text, remedy };
    if fleet.draining {
        return new(Urgency::Attention, "DRAINING", format!("nothing new starts; {work}"), None);
    }
    if fleet.kill_switch() {
        let live: Vec<String> = fleet
            .live_runs()
            .filter(|run| run.has_permit())
            .map(|run| run.id.to_string())
            .collect();
        let on = match live.as_slice() {
            [] => "nothing is at work".to_owned(),
            [one] => format!("{one} goes on"),
            [first, second] => format!("{first} and {second} go on"),
            all => format!("{} runs go on", all.len()),
        };
        let text = format!("nothing new starts; {on}");
        return new(Urgency::Alarm, "KILL SWITCH ON", text, Some(Remedy::LiftKillSwitch));
    }
    if held > 0 && at_work == 0 && held >= permits {
        let text = match held {
            1 => "the only permit waits for you".to_owned(),
            2 => "both permits wait for you".to_owned(),
            count => format!("all {count} permits wait for you"),
        };
        return new(Urgency::Alarm, "STANDING STILL", text, Some(Remedy::Answer));
    }
    if let Some((cause, since)) = fleet.breaker.open() {
        let cause = crate::model::untrusted::clean_line(&cause.0);
        let text = format!("nothing new starts for {}: {cause}", for_how_long(now, *since));
        return new(Urgency::Alarm, "PAUSED", text, Some(Remedy::Answer));
    }
    let works = |outage: &&Outage| fleet.goes_on_without(outage);
    let worst = fleet.outages.holding().find(|outage| !works(outage));
    if let Some(outage) = worst.or_else(|| fleet.outages.holding().next()) {
        let more = match fleet.outages.holding().count() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        let (summary, long) = (outage.cause.summary(), for_how_long(now, outage.since));
        let remedy = outage.question.map(|_| Remedy::Answer);
        if works(&outage) {
            let instead = fleet.works_in_place(&outage.cause);
            let instead = instead.unwrap_or_else(|| "nothing waits for it".to_owned());
            let text = format!("{summary} for {long}; {instead}{more}");
            return new(Urgency::Attention, "DEGRADED", text, remedy);
        }
        return new(Urgency::Alarm, "DEGRADED", format!("{summary} for {long}{more}"), None);
    }
    if permits == 0 {
        let text = "there are no permits, so nothing starts".to_owned();
        return new(Urgency::Alarm, "NO PERMITS", text, Some(Remedy::AddPermit));
    }
    if asks > 0 {
        let verb = if asks == 1 { "waits" } else { "wait" };
        let text = format!("{work}, {asks} {verb} for you");
        return new(Urgency::Attention, "WAITS FOR YOU", text, Some(Remedy::Answer));
    }
    if questions > 0 {
        let text = format!("{work}, {} open", plural(questions, "question"));
        return new(Urgency::Attention, "ASKS YOU", text, Some(Remedy::Answer));
    }
    let over_budget = fleet.ledger.values().any(|entry| entry.reason == Reason::OverBudget);
    if over_budget {
        let text = format!("the day's budget is spent, nothing new starts; {work}");
        return new(Urgency::Attention, "BUDGET SPENT", text, None);
    }
    let text = match fleet.queue.len() {
        0 => format!("{work}, nothing waits"),
        count => format!("{work}, {} queued", plural(count, "run")),
    };
    new(Urgency::Well, "All well", text, None)
}

/// A duration in one unit.
fn for_how_long(now: Timestamp, since: Timestamp) -> String {
    let minutes = now.since(since).max(0) / 60_000;
    match minutes {
        0..60 => format!("{minutes} min"),
        60..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}
