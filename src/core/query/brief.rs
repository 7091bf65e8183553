//! The brief: what happened to a fleet since an operator last looked, as one fold of the journal. The
//! overlay of the cockpit and `afk brief` show the same one.
//!
//! ```text
//! journal ─▶ BriefFold::take, an event at a time ─▶ BriefFold::finish ─▶ FleetBrief ─▶ lines, JSON
//! ```

use std::collections::BTreeMap;

use crate::fleet::Fleet;
use crate::model::approval::EscalationKind;
use crate::model::budget::Spend;
use crate::model::event::Event;
use crate::model::id::{EscalationId, IssueKey, Repo, RunId, Sha};
use crate::model::plural::plural;
use crate::model::run::{Outcome, Run};
use crate::model::time::{MINUTE, Timestamp};
use crate::query::condition::{Urgency, condition};

/// The standstills that a brief keeps at most: the longest ones.
const MOST_STANDSTILLS: usize = 100;
/// The shortest standstill that a brief names.
const SHORTEST: i64 = MINUTE;

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// The number of the run.
    pub run: RunId,
    /// Its issue; none for a prompt.
    pub issue: Option<IssueKey>,
    /// The repository that it worked in.
    pub repo: Repo,
    /// The title of its issue or the first line of its prompt, clean.
    pub title: String,
    /// The time at which it ended.
    pub at: Timestamp,
    /// The outcome that it ended with.
    pub outcome: Outcome,
    /// The reason, clean and in one line.
    pub why: String,
    /// The commit that the remote has.
    pub commit: Option<Sha>,
    /// What it has cost so far.
    pub spend: Spend,
}

impl EndedRun {
    fn of(run: &Run, at: Timestamp) -> Self {
        Self {
            run: run.id,
            issue: run.work.issue().cloned(),
            repo: run.work.repo().clone(),
            title: run.work.title().clean_line(),
            at,
            outcome: run.progress.outcome.unwrap_or(Outcome::Failed),
            why: run.progress.why.clean_line(),
            commit: run.workspace.pushed.clone(),
            spend: run.spend.total,
        }
    }

    /// The issue and the run: `acme/pulse#9 (r7)`.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.issue {
            Some(key) => format!("{key} ({})", self.run),
            None => format!("{} ({})", self.repo, self.run),
        }
    }
}

/// A question that is open at the end of a brief.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenQuestion {
    /// The number of the question.
    pub escalation: EscalationId,
    /// The run, the issue or the part of afk that it is about.
    pub subject: String,
    /// The reason why afk asks.
    pub kind: EscalationKind,
    /// The question, clean and in one line.
    pub title: String,
    /// When it was asked.
    pub raised: Timestamp,
    /// Whether a permit waits with it.
    pub holds_permit: bool,
}

/// A stretch of time in which nothing could go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standstill {
    /// Its begin; no earlier than that of the brief.
    pub from: Timestamp,
    /// Its end, or that of the brief.
    pub to: Timestamp,
    /// Whether it has not ended.
    pub ongoing: bool,
    /// The condition, as the first line of the screen names it.
    pub word: &'static str,
    /// The reason at its begin.
    pub why: String,
}

/// Everything that happened from one moment to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetBrief {
    /// The begin: nothing at or before it is part of the brief.
    pub since: Timestamp,
    /// The end of the time.
    pub until: Timestamp,
    /// The runs that were done, oldest first.
    pub landed: Vec<EndedRun>,
    /// The runs that froze.
    pub frozen: Vec<EndedRun>,
    /// The runs that ended otherwise: they need a human, failed or were cancelled.
    pub stopped: Vec<EndedRun>,
    /// The questions that are open, those that hold a permit first.
    pub waiting: Vec<OpenQuestion>,
    /// The number of runs that were claimed.
    pub claimed: usize,
    /// The number of questions that were asked.
    pub asked: usize,
    /// The number of questions that a human answered.
    pub answered: usize,
    /// What was spent in it.
    pub spent: Spend,
    /// The same by repository, the dearest first.
    pub spent_by_repo: Vec<(Repo, Spend)>,
    /// When nothing could go on, oldest first.
    pub stood_still: Vec<Standstill>,
}

/// The tone of a line of a brief.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BriefTone {
    /// The title of a section.
    Heading,
    /// Something that went well.
    Good,
    /// Something that needs a human.
    Attention,
    /// Something that went wrong.
    Bad,
    /// Every line that is none of these.
    Plain,
}

impl FleetBrief {
    /// The brief in lines, clean of control characters. Sections without an entry are left out.
    #[must_use]
    pub fn lines(&self) -> Vec<(BriefTone, String)> {
        let mut lines = vec![(BriefTone::Heading, self.headline())];
        let mut section = |title: String, tone, entries: Vec<String>| {
            if !entries.is_empty() {
                lines.push((BriefTone::Plain, String::new()));
                lines.push((BriefTone::Heading, format!("{title} {}", entries.len())));
                lines.extend(entries.into_iter().map(|entry| (tone, format!("  {entry}"))));
            }
        };
        let ago = |at| long(self.until.since(at));
        let ended = |run: &EndedRun| {
            let commit =
                run.commit.as_ref().map_or_else(String::new, |sha| format!(" · {}", sha.short()));
            let why =
                if run.outcome == Outcome::Done { String::new() } else { format!(": {}", run.why) };
            let outcome = match run.outcome {
                Outcome::Done | Outcome::Frozen => "",
                outcome => outcome.as_str(),
            };
            let outcome = if outcome.is_empty() { String::new() } else { format!(" · {outcome}") };
            let (name, title) = (run.name(), &run.title);
            format!(
                "{name} {title}{outcome}{why} · {} ago · {}{commit}",
                ago(run.at),
                run.spend.summary()
            )
        };
        let waits = |asked: &OpenQuestion| {
            let permit = if asked.holds_permit { " · holds a permit" } else { "" };
            let (id, subject, kind) = (asked.escalation, &asked.subject, asked.kind.as_str());
            format!("{id} {subject} {kind}: {} · {} ago{permit}", asked.title, ago(asked.raised))
        };
        let still = |stop: &Standstill| {
            let end = if stop.ongoing {
                "since then".to_owned()
            } else {
                format!("for {}", long(stop.to.since(stop.from)))
            };
            format!("{} · {} ago, {end}: {}", stop.word, ago(stop.from), stop.why)
        };
        let spent = |(repo, spend): &(Repo, Spend)| format!("{repo} {}", spend.summary());
        section(
            "WAITS FOR YOU".into(),
            BriefTone::Attention,
            self.waiting.iter().map(waits).collect(),
        );
        section("FROZEN".into(), BriefTone::Bad, self.frozen.iter().map(ended).collect());
        section("STOPPED".into(), BriefTone::Attention, self.stopped.iter().map(ended).collect());
        section("LANDED".into(), BriefTone::Good, self.landed.iter().map(ended).collect());
        section(
            "STOOD STILL".into(),
            BriefTone::Attention,
            self.stood_still.iter().map(still).collect(),
        );
        section(
            "SPENT, BY REPOSITORY".into(),
            BriefTone::Plain,
            self.spent_by_repo.iter().map(spent).collect(),
        );
        lines
    }

    /// The numbers in one line.
    #[must_use]
    pub fn headline(&self) -> String {
        let counts = [
            (self.landed.len(), "landed"),
            (self.frozen.len(), "frozen"),
            (self.stopped.len(), "stopped"),
        ];
        let mut parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, word)| format!("{count} {word}"))
            .collect();
        if parts.is_empty() {
            parts.push("no run ended".into());
        }
        parts.push(format!("{} waiting for you", self.waiting.len()));
        parts.push(format!("{} started", plural(self.claimed, "run")));
        parts.push(format!("{} asked, {} answered", self.asked, self.answered));
        parts.push(format!("{} spent", self.spent.summary()));
        format!("In {}: {}", long(self.until.since(self.since)), parts.join(" · "))
    }
}

/// A duration in its two largest units: `3 h 20 min`.
#[must_use]
pub fn long(ms: i64) -> String {
    let minutes = ms.max(0) / MINUTE;
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, rest) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Folds the journal from its first record on into the brief of its end.
#[derive(Debug)]
pub struct BriefFold {
    fleet: Fleet,
    since: Timestamp,
    /// The events after `since` have begun.
    begun: bool,
    ended: BTreeMap<RunId, EndedRun>,
    claimed: usize,
    asked: usize,
    answered: usize,
    spent: BTreeMap<Repo, Spend>,
    standstill: Option<Standstill>,
    stood_still: Vec<Standstill>,
}

impl BriefFold {
    /// A fold whose brief begins at `since`.
    #[must_use]
    pub fn new(since: Timestamp) -> Self {
        Self {
            fleet: Fleet::default(),
            since,
            begun: false,
            ended: BTreeMap::new(),
            claimed: 0,
            asked: 0,
            answered: 0,
            spent: BTreeMap::new(),
            standstill: None,
            stood_still: Vec::new(),
        }
    }

    /// Takes the next event of the journal.
    pub fn take(&mut self, at: Timestamp, event: &Event) {
        if at <= self.since && !self.begun {
            self.fleet.apply(at, event);
            return;
        }
        if !self.begun {
            self.begun = true;
            self.note_condition(self.since);
        }
        self.fleet.apply(at, event);
        match event {
            Event::Claimed { .. } => self.claimed += 1,
            Event::Escalated { .. } => self.asked += 1,
            Event::Answered { .. } => self.answered += 1,
            Event::Ended { run, .. } => {
                if let Some(run) = self.fleet.runs.get(run) {
                    self.ended.insert(run.id, EndedRun::of(run, at));
                }
            }
            Event::Reopened { run, .. } | Event::LookedAgain { run, .. } => {
                self.ended.remove(run);
            }
            Event::Spent { run, spend } => {
                if let Some(run) = self.fleet.runs.get(run) {
                    self.spent.entry(run.work.repo().clone()).or_default().add(*spend);
                }
            }
            Event::TimeSkipped { ms } if *ms > 0 => {
                let from = at.plus(-*ms).max(self.since);
                let why = "the machine slept, or afk did not run".to_owned();
                self.keep(Standstill { from, to: at, ongoing: false, word: "NOT RUNNING", why });
            }
            _ => {}
        }
        if can_change_condition(event) {
            self.note_condition(at);
        }
    }

    /// Begins or ends a standstill.
    fn note_condition(&mut self, at: Timestamp) {
        // Before the first record there is no afk that could stand still.
        if self.fleet.last_event == Timestamp::default() {
            return;
        }
        let now = alarm(&self.fleet, at);
        if self.standstill.as_ref().map(|stop| stop.word) == now.as_ref().map(|(word, _)| *word) {
            return;
        }
        if let Some(stop) = self.standstill.take() {
            self.keep(Standstill { to: at, ..stop });
        }
        self.standstill =
            now.map(|(word, why)| Standstill { from: at, to: at, ongoing: true, word, why });
    }

    fn keep(&mut self, stop: Standstill) {
        if stop.to.since(stop.from) < SHORTEST {
            return;
        }
        self.stood_still.push(Standstill { ongoing: false, ..stop });
        if self.stood_still.len() > MOST_STANDSTILLS {
            let long = |stop: &Standstill| stop.to.since(stop.from);
            let shortest = self.stood_still.iter().enumerate().min_by_key(|(_, stop)| long(stop));
            if let Some((at, _)) = shortest {
                self.stood_still.remove(at);
            }
        }
    }

    /// The brief of everything that was taken, as of `until`.
    #[must_use]
    pub fn finish(mut self, until: Timestamp) -> FleetBrief {
        if !self.begun {
            self.note_condition(self.since);
        }
        let ongoing = self.standstill.take().filter(|stop| until.since(stop.from) >= SHORTEST);
        let ongoing = ongoing.map(|stop| Standstill { to: until, ..stop });
        let mut stood_still = self.stood_still;
        stood_still.extend(ongoing);
        stood_still.sort_by_key(|stop| stop.from);
        let mut spent_by_repo: Vec<(Repo, Spend)> = self.spent.into_iter().collect();
        spent_by_repo.sort_by_key(|(_, spend)| std::cmp::Reverse(spend.usd));
        let mut spent = Spend::default();
        for (_, more) in &spent_by_repo {
            spent.add(*more);
        }
        let mut ended: Vec<EndedRun> = self.ended.into_values().collect();
        ended.sort_by_key(|run| run.at);
        let of = |wanted: &dyn Fn(Outcome) -> bool| -> Vec<EndedRun> {
            ended.iter().filter(|run| wanted(run.outcome)).cloned().collect()
        };
        let question = |asked: &std::sync::Arc<crate::model::approval::Escalation>| OpenQuestion {
            escalation: asked.id,
            subject: asked.issue.as_ref().map_or_else(|| asked.subject(), ToString::to_string),
            kind: asked.kind,
            title: asked.title.clean_line(),
            raised: asked.raised,
            holds_permit: self.fleet.holds_permit(asked),
        };
        FleetBrief {
            since: self.since,
            until,
            landed: of(&|outcome| outcome == Outcome::Done),
            frozen: of(&|outcome| outcome == Outcome::Frozen),
            stopped: of(&|outcome| !matches!(outcome, Outcome::Done | Outcome::Frozen)),
            waiting: self.fleet.inbox().into_iter().map(question).collect(),
            claimed: self.claimed,
            asked: self.asked,
            answered: self.answered,
            spent,
            spent_by_repo,
            stood_still,
        }
    }
}

/// The condition under which nothing goes on, with its reason; none where work can go on.
fn alarm(fleet: &Fleet, at: Timestamp) -> Option<(&'static str, String)> {
    let now = condition(fleet, at);
    if now.urgency != Urgency::Alarm {
        return None;
    }
    // The texts of these two count the minutes since their begin.
    let why = match now.word {
        "PAUSED" => {
            let open = fleet.breaker.open();
            open.map(|(cause, _)| crate::model::untrusted::clean_line(&cause.0))
        }
        "DEGRADED" => fleet.outages.holding().next().map(|outage| outage.cause.summary()),
        _ => None,
    };
    Some((now.word, why.unwrap_or(now.text)))
}

/// Whether an event can begin or end a standstill; the many others aren't looked at.
const fn can_change_condition(event: &Event) -> bool {
    !matches!(
        event,
        Event::Spent { .. }
            | Event::ContextUsed { .. }
            | Event::AgentActive { .. }
            | Event::ToolRunning { .. }
            | Event::Quiet { .. }
            | Event::Probed { .. }
            | Event::IssueSeen { .. }
            | Event::IssueGone { .. }
            | Event::Considered { .. }
            | Event::Posted { .. }
            | Event::Attempted { .. }
            | Event::Delivered { .. }
            | Event::TurnEnded { .. }
            | Event::Accepted { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Actor;
    use crate::model::policy::Policy;
    use crate::model::run::Work;

    const HOUR: i64 = 60 * MINUTE;

    fn claimed(run: u64, number: u64) -> Event {
        let key = IssueKey::parse(&format!("acme/pulse#{number}")).unwrap();
        let work = Work::Issue { key, title: "Show\u{1b}[2J the moon".into() };
        Event::Claimed { run: RunId(run), work, priority: None, term: 0 }
    }

    /// A configuration under which afk picks up.
    fn picks_up() -> Event {
        let policy = Policy { kill_switch: false, capacity: 2, ..Policy::default() };
        Event::PolicySet { policy: Box::new(policy) }
    }

    fn ended(run: u64, outcome: Outcome) -> Event {
        Event::Ended { run: RunId(run), outcome, why: "no good probe".into() }
    }

    fn fold(since: i64, events: &[(i64, Event)]) -> BriefFold {
        let mut fold = BriefFold::new(Timestamp(since));
        for (at, event) in events {
            fold.take(Timestamp(*at), event);
        }
        fold
    }

    #[test]
    fn brief_counts_only_later_events_and_the_last_end_of_a_run() {
        let spend = Spend { usd: crate::model::budget::MicroUsd(1_500_000), ..Spend::default() };
        let by = Actor("ana".into());
        let events = [
            (HOUR, claimed(1, 9)),
            (HOUR, ended(1, Outcome::Done)),
            (2 * HOUR, claimed(2, 10)),
            (3 * HOUR, claimed(3, 11)),
            (3 * HOUR, Event::Spent { run: RunId(3), spend }),
            (3 * HOUR, ended(3, Outcome::Frozen)),
            (4 * HOUR, Event::Reopened { run: RunId(3), by, guidance: "again".into() }),
            (4 * HOUR, ended(3, Outcome::Done)),
            (4 * HOUR, ended(2, Outcome::Frozen)),
        ];
        let brief = fold(2 * HOUR, &events).finish(Timestamp(5 * HOUR));
        let ids = |runs: &[EndedRun]| runs.iter().map(|run| run.run.0).collect::<Vec<_>>();
        assert_eq!((ids(&brief.landed), ids(&brief.frozen)), (vec![3], vec![2]));
        assert_eq!((brief.claimed, brief.spent), (1, spend));
        let text: Vec<String> = brief.lines().into_iter().map(|(_, line)| line).collect();
        let text = text.join("\n");
        assert!(text.starts_with("In 3 h: 1 landed · 1 frozen · 0 waiting for you · "), "{text}");
        assert!(
            text.contains("acme/pulse#10 (r2) Show the moon: no good probe · 1 h ago"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn standstill_is_named_with_its_length_also_where_it_began_earlier_or_goes_on() {
        let kill = |on| Event::KillSwitch { on, by: Actor("ana".into()) };
        let capacity = |permits| Event::Capacity { permits, by: Actor("ana".into()) };
        let events = [
            (0, picks_up()),
            (HOUR, kill(true)),
            (3 * HOUR, kill(false)),
            (4 * HOUR, kill(true)),
            // Too short to be told.
            (4 * HOUR + 10_000, kill(false)),
            (5 * HOUR, capacity(0)),
        ];
        let brief = fold(2 * HOUR, &events).finish(Timestamp(6 * HOUR));
        let seen: Vec<(i64, i64, bool, &str)> = brief
            .stood_still
            .iter()
            .map(|stop| (stop.from.0 / HOUR, stop.to.0 / HOUR, stop.ongoing, stop.word))
            .collect();
        assert_eq!(seen, [(2, 3, false, "KILL SWITCH ON"), (5, 6, true, "NO PERMITS")]);
    }

    #[test]
    fn quiet_night_is_said_in_one_line() {
        let brief = fold(HOUR, &[(0, picks_up())]).finish(Timestamp(HOUR + 90 * MINUTE));
        assert_eq!(
            brief.headline(),
            "In 1 h 30 min: no run ended · 0 waiting for you · 0 runs started · 0 asked, 0 answered · $0.00 spent"
        );
        assert_eq!(brief.lines().len(), 1);
    }

    #[test]
    fn flapping_keeps_the_longest_standstills() {
        let kill = |on| Event::KillSwitch { on, by: Actor("ana".into()) };
        let mut events = vec![(0, picks_up())];
        for n in 1..500 {
            events.push((n * HOUR, kill(true)));
            events.push((n * HOUR + (n % 50 + 1) * MINUTE, kill(false)));
        }
        let brief = fold(1, &events).finish(Timestamp(600 * HOUR));
        assert_eq!(brief.stood_still.len(), MOST_STANDSTILLS);
        assert!(brief.stood_still.iter().all(|stop| stop.to.since(stop.from) > 35 * MINUTE));
    }
}
