//! Spans: what each run did when, as one fold of the journal. The timeline of the cockpit draws them.

use std::collections::{BTreeMap, BTreeSet};

use crate::fleet::Fleet;
use crate::model::activity::Activity;
use crate::model::event::Event;
use crate::model::id::{IssueKey, Repo, RunId};
use crate::model::run::Run;
use crate::model::stage::Stage;
use crate::model::time::Timestamp;

/// The spans that a timeline keeps at most; the oldest go first.
const MOST_SPANS: usize = 20_000;

/// What a run did, as coarse as a person asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpanKind {
    /// It waited for a permit.
    Queued,
    /// Its worktree was prepared.
    Worktree,
    /// The agent of the run worked.
    Agent,
    /// The gate proved its commits, and they were pushed.
    Gate,
    /// The repository's CI decided.
    Ci,
    /// The deploy or its probes decided.
    Deploy,
    /// It waited for a human.
    Human,
    /// It waited for a part of the environment.
    Outage,
}

impl SpanKind {
    /// Every kind, in the order of a run.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Worktree,
        Self::Agent,
        Self::Gate,
        Self::Ci,
        Self::Deploy,
        Self::Human,
        Self::Outage,
    ];

    /// The kind in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Worktree => "worktree",
            Self::Agent => "agent",
            Self::Gate => "gate",
            Self::Ci => "CI",
            Self::Deploy => "deploy",
            Self::Human => "waiting for you",
            Self::Outage => "outage",
        }
    }

    /// The sign of the kind, which differs from all others also without a colour.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Queued => '.',
            Self::Worktree => 'w',
            Self::Agent => 'a',
            Self::Gate => 'g',
            Self::Ci => 'c',
            Self::Deploy => 'd',
            Self::Human => '?',
            Self::Outage => '~',
        }
    }

    fn of(activity: &Activity) -> Option<Self> {
        Some(match activity {
            Activity::Waiting => Self::Queued,
            Activity::Worktree => Self::Worktree,
            Activity::Turn { .. } => Self::Agent,
            Activity::Gate | Activity::Rebase | Activity::Push | Activity::Collect => Self::Gate,
            Activity::Stage { stage: Stage::Ci } => Self::Ci,
            Activity::Stage { .. } => Self::Deploy,
            Activity::Backoff { then, .. } => return Self::of(then),
            Activity::Held { .. } => Self::Outage,
            Activity::Ended => return None,
        })
    }
}

/// A stretch of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// What the run did.
    pub kind: SpanKind,
    /// Its begin; no earlier than that of the timeline.
    pub from: Timestamp,
    /// Its end, or that of the timeline.
    pub to: Timestamp,
}

/// The spans of one run, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpans {
    /// The number of the run.
    pub run: RunId,
    /// The repository that it worked in.
    pub repo: Repo,
    /// Its issue; none for a prompt.
    pub issue: Option<IssueKey>,
    /// Its spans, without gaps while it was live.
    pub spans: Vec<Span>,
}

/// What each run did in a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    /// The begin of the time.
    pub since: Timestamp,
    /// The end of the time.
    pub until: Timestamp,
    /// The runs with a span in it, by repository and then by number.
    pub runs: Vec<RunSpans>,
}

impl Timeline {
    /// The time of each kind between two moments, over all runs.
    #[must_use]
    pub fn totals(&self, from: Timestamp, to: Timestamp) -> BTreeMap<SpanKind, i64> {
        let mut totals = BTreeMap::new();
        for span in self.runs.iter().flat_map(|run| &run.spans) {
            let ms = span.to.min(to).since(span.from.max(from));
            if ms > 0 {
                *totals.entry(span.kind).or_default() += ms;
            }
        }
        totals
    }
}

/// Folds the journal from its first record on into the spans since a moment.
#[derive(Debug)]
pub struct SpanFold {
    fleet: Fleet,
    since: Timestamp,
    begun: bool,
    /// The open span of each run that has one.
    open: BTreeMap<RunId, (SpanKind, Timestamp)>,
    runs: BTreeMap<RunId, RunSpans>,
    count: usize,
}

impl SpanFold {
    /// A fold whose timeline begins at `since`.
    #[must_use]
    pub fn new(since: Timestamp) -> Self {
        let (open, runs) = (BTreeMap::new(), BTreeMap::new());
        Self { fleet: Fleet::default(), since, begun: false, open, runs, count: 0 }
    }

    /// Takes the next event of the journal.
    pub fn take(&mut self, at: Timestamp, event: &Event) {
        if at > self.since && !self.begun {
            self.begun = true;
            self.note(self.since);
        }
        self.fleet.apply(at, event);
        if self.begun && can_change_span(event) {
            self.note(at);
        }
    }

    /// The timeline of everything that was taken, as of `until`.
    #[must_use]
    pub fn finish(mut self, until: Timestamp) -> Timeline {
        if !self.begun {
            self.note(self.since);
        }
        let open: Vec<RunId> = self.open.keys().copied().collect();
        for run in open {
            self.close(run, until);
        }
        let mut runs: Vec<RunSpans> = self.runs.into_values().collect();
        runs.sort_by(|a, b| (&a.repo, a.run).cmp(&(&b.repo, b.run)));
        Timeline { since: self.since, until, runs }
    }

    /// Begins and ends the spans of all runs that can have one.
    fn note(&mut self, at: Timestamp) {
        let waiting: BTreeSet<RunId> = self.fleet.waiting_for_human().into_keys().collect();
        let asked: BTreeSet<RunId> =
            self.fleet.inbox().iter().filter_map(|asked| asked.run).collect();
        let known = self.fleet.live.iter().chain(self.open.keys()).chain(&asked);
        let known: BTreeSet<RunId> = known.copied().collect();
        for id in known {
            let run = self.fleet.runs.get(&id);
            let now = run.and_then(|run| kind(run, &waiting, &asked));
            if self.open.get(&id).map(|(kind, _)| *kind) == now {
                continue;
            }
            self.close(id, at);
            if let Some(now) = now {
                self.open.insert(id, (now, at));
            }
        }
    }

    fn close(&mut self, id: RunId, to: Timestamp) {
        let Some((kind, from)) = self.open.remove(&id) else { return };
        let Some(run) = self.fleet.runs.get(&id) else { return };
        if to <= from {
            return;
        }
        let spans = self.runs.entry(id).or_insert_with(|| RunSpans {
            run: id,
            repo: run.work.repo().clone(),
            issue: run.work.issue().cloned(),
            spans: Vec::new(),
        });
        spans.spans.push(Span { kind, from, to });
        self.count += 1;
        while self.count > MOST_SPANS {
            let Some((_, oldest)) = self.runs.pop_first() else { break };
            self.count -= oldest.spans.len();
        }
    }
}

/// What a run does now; none where it has ended and nobody is asked about it.
fn kind(run: &Run, waiting: &BTreeSet<RunId>, asked: &BTreeSet<RunId>) -> Option<SpanKind> {
    let human = if run.live() { waiting } else { asked };
    if human.contains(&run.id) {
        return Some(SpanKind::Human);
    }
    if run.live() { SpanKind::of(&run.progress.activity) } else { None }
}

/// Whether an event can begin or end a span; the many others aren't looked at.
const fn can_change_span(event: &Event) -> bool {
    matches!(
        event,
        Event::Claimed { .. }
            | Event::Admitted { .. }
            | Event::Began { .. }
            | Event::Held { .. }
            | Event::Resumed { .. }
            | Event::PermitReturned { .. }
            | Event::Escalated { .. }
            | Event::Answered { .. }
            | Event::Expired { .. }
            | Event::Withdrawn { .. }
            | Event::Ended { .. }
            | Event::Reopened { .. }
            | Event::LookedAgain { .. }
            | Event::Forgotten { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::activity::TurnPrompt;
    use crate::model::run::{Outcome, Work};

    fn claimed(run: u64, key: &str) -> Event {
        let key = IssueKey::parse(key).unwrap();
        let work = Work::Issue { key, title: "Moon".into() };
        Event::Claimed { run: RunId(run), work, priority: None, term: 0 }
    }

    fn began(run: u64, activity: Activity) -> Event {
        Event::Began { run: RunId(run), activity }
    }

    fn seen(timeline: &Timeline, run: u64) -> Vec<(SpanKind, i64, i64)> {
        let found = timeline.runs.iter().find(|known| known.run == RunId(run)).unwrap();
        found.spans.iter().map(|span| (span.kind, span.from.0, span.to.0)).collect()
    }

    #[test]
    fn spans_follow_the_activities_of_a_run_and_begin_with_the_timeline() {
        let turn = Activity::Turn { prompt: TurnPrompt::Implement };
        let backoff = Activity::Backoff { until: Timestamp(70), then: Box::new(Activity::Gate) };
        let events = [
            (1, claimed(1, "acme/b#1")),
            (5, claimed(2, "acme/a#2")),
            (20, began(1, turn)),
            (40, began(1, Activity::Gate)),
            (50, began(1, backoff)),
            (60, began(1, Activity::Stage { stage: Stage::Ci })),
            (80, Event::Ended { run: RunId(1), outcome: Outcome::Done, why: "".into() }),
        ];
        let mut fold = SpanFold::new(Timestamp(10));
        for (at, event) in &events {
            fold.take(Timestamp(*at), event);
        }
        let timeline = fold.finish(Timestamp(100));
        let order: Vec<u64> = timeline.runs.iter().map(|run| run.run.0).collect();
        assert_eq!(order, [2, 1], "by repository");
        assert_eq!(
            seen(&timeline, 1),
            [
                (SpanKind::Queued, 10, 20),
                (SpanKind::Agent, 20, 40),
                (SpanKind::Gate, 40, 60),
                (SpanKind::Ci, 60, 80),
            ]
        );
        assert_eq!(seen(&timeline, 2), [(SpanKind::Queued, 10, 100)]);
        let totals = timeline.totals(Timestamp(30), Timestamp(70));
        assert_eq!(totals[&SpanKind::Queued], 40);
        assert_eq!(totals[&SpanKind::Ci], 10);
    }

    #[test]
    fn signs_differ() {
        let signs: BTreeSet<char> = SpanKind::ALL.iter().map(|kind| kind.sign()).collect();
        assert_eq!(signs.len(), SpanKind::ALL.len());
    }
}
