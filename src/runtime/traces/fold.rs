//! The fold of durable events into traces: what each live run has done so far, and its trace once it ends.
//!
//! ```text
//! run                          from its claim, or from the operator's reopening, to its end
//! ├── phase queued             each phase that it reached
//! │   └── waiting
//! └── phase worktree
//!     ├── worktree             each activity, in the phase in which it began
//!     ├── turn
//!     └── gate
//! ```
//!
//! Ids follow from the journal's id, the run and the times of its events, so that a trace that is sent
//! twice is one trace. A run that was live before this process began has the times of its phases from the
//! fleet; its trace lacks the earlier activities, and is marked as partial.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::core::fleet::Fleet;
use crate::core::model::activity::Activity;
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::budget::Spend;
use crate::core::model::capability::Equipment;
use crate::core::model::event::Event;
use crate::core::model::id::RunId;
use crate::core::model::run::{Outcome, Run, Work};
use crate::core::model::stage::{Phase, Stage};
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::Untrusted;
use crate::core::model::verdict::Verdict;
use crate::notify::otlp::{AttributeValue, RunTrace, SpanId, SpanStatus, TraceId, TraceSpan};
use crate::redact::Redactor;
use crate::runtime::metrics::end_word;

/// The phases of a trace at most; further ones are counted.
const MOST_PHASES: usize = 100;
/// The activities of a trace at most; further ones are counted.
const MOST_ACTIVITIES: usize = 400;
/// The bytes of an outsider's text that are read at most, before secrets are removed from it.
const READ: usize = 4096;
/// The bytes of an outsider's text in a trace.
const SHOWN: usize = 300;
/// The activity of a run without a permit.
const WAITING: &str = "waiting";

/// The traces of the live runs.
#[derive(Debug)]
pub(super) struct TraceFold {
    journal: String,
    runs: BTreeMap<RunId, LiveTrace>,
}

/// The trace of a run that has not ended.
#[derive(Debug)]
struct LiveTrace {
    id: TraceId,
    from: Timestamp,
    about: Vec<(&'static str, AttributeValue)>,
    phase: TraceSpan,
    activity: Option<OpenActivity>,
    phases: Vec<TraceSpan>,
    activities: Vec<TraceSpan>,
    /// The spans that found no room.
    dropped: i64,
    agent: Option<String>,
    model: Option<String>,
    /// The tokens and money of the whole run, from before a reopening as well.
    spend: Spend,
    turns: i64,
    attempts: u32,
    /// Whether this process did not see all events since `from`.
    is_partial: bool,
}

/// An activity that is under way.
#[derive(Debug)]
struct OpenActivity {
    span: TraceSpan,
    spend: Spend,
}

impl TraceFold {
    /// The traces at the start of a runtime, which continue the live runs of the fleet.
    pub(super) fn new(journal: &str, fleet: &Fleet) -> Self {
        let runs = fleet.live_runs();
        let runs = runs.map(|run| (run.id, LiveTrace::resume(journal, run, fleet.last_event)));
        Self { journal: journal.to_owned(), runs: runs.collect() }
    }

    /// The number of live runs that `later` no longer has.
    pub(super) fn missing_in(&self, later: &Self) -> u64 {
        let missing = self.runs.keys().filter(|run| !later.runs.contains_key(run));
        missing.count().try_into().unwrap_or(u64::MAX)
    }

    /// Takes the next durable event; gives the trace of the run that it ends. The fleet has the work of
    /// runs that an operator reopens, and may be older or newer than the event.
    pub(super) fn take(&mut self, at: Timestamp, event: &Event, fleet: &Fleet) -> Option<RunTrace> {
        match event {
            Event::Claimed { run, work, .. } => {
                let trace = LiveTrace::begin(&self.journal, *run, work, at);
                self.runs.insert(*run, trace);
                None
            }
            Event::Reopened { run, .. } | Event::LookedAgain { run, .. } => {
                let known = fleet.runs.get(run)?;
                let mut trace = LiveTrace::begin(&self.journal, *run, &known.work, at);
                trace.copy_from(known);
                self.runs.insert(*run, trace);
                None
            }
            Event::Ended { run, outcome, why } => {
                Some(self.runs.remove(run)?.finish(at, *outcome, why))
            }
            Event::Forgotten { run } => {
                self.runs.remove(run);
                None
            }
            _ => {
                self.runs.get_mut(&subject(event)?)?.take(at, event);
                None
            }
        }
    }
}

/// The run of an event that changes a trace.
const fn subject(event: &Event) -> Option<RunId> {
    match event {
        Event::Admitted { run }
        | Event::Began { run, .. }
        | Event::Held { run, .. }
        | Event::Reached { run, .. }
        | Event::Equipped { run, .. }
        | Event::TurnEnded { run, .. }
        | Event::GateOpened { run, .. }
        | Event::GateClosed { run, .. }
        | Event::ApprovalNeeded { run, .. }
        | Event::Pushed { run, .. }
        | Event::PushRejected { run, .. }
        | Event::Judged { run, .. }
        | Event::Attempt { run, .. }
        | Event::Failed { run, .. }
        | Event::Spent { run, .. } => Some(*run),
        _ => None,
    }
}

impl LiveTrace {
    /// The trace of a run that waits for its permit since now.
    fn begin(journal: &str, run: RunId, work: &Work, at: Timestamp) -> Self {
        let id = trace_id(journal, run, at);
        let phase = span(id, &[], Some(root_id(id)), phase_name(Phase::Queued), at);
        let mut trace = Self {
            id,
            from: at,
            about: about(run, work),
            phase,
            activity: None,
            phases: Vec::new(),
            activities: Vec::new(),
            dropped: 0,
            agent: None,
            model: None,
            spend: Spend::default(),
            turns: 0,
            attempts: 0,
            is_partial: false,
        };
        trace.open_activity(WAITING.into(), at);
        trace
    }

    /// The trace of a run that began before this process: its phases at their times, and its present
    /// activity since the last event of the fleet.
    fn resume(journal: &str, run: &Run, last_event: Timestamp) -> Self {
        let progress = &run.progress;
        let mut trace = Self::begin(journal, run.id, &run.work, progress.claimed);
        trace.activity = None;
        trace.copy_from(run);
        trace.is_partial = true;
        trace.attempts = progress.attempts;
        // A phase that a run reaches again, such as after a reopening, keeps its first time in the fleet.
        let since = progress.reached.iter().filter(|(_, at)| *at >= progress.claimed);
        for (phase, at) in since.filter(|(phase, _)| *phase != Phase::Queued) {
            trace.reach(*phase, *at);
        }
        if trace.phase.name != phase_name(progress.phase) {
            trace.reach(progress.phase, last_event);
        }
        if let Some(name) = activity_name(&progress.activity) {
            trace.open_activity(name, last_event);
        }
        trace
    }

    /// Takes over the run's agent and spend from the fleet.
    fn copy_from(&mut self, run: &Run) {
        self.spend = run.spend.total;
        if let Some(equipment) = &run.agent.equipment {
            self.equip(equipment);
        }
    }

    fn equip(&mut self, equipment: &Equipment) {
        self.agent = Some(equipment.agent.clone());
        self.model = equipment.model.as_ref().map(shown);
    }

    fn take(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::Admitted { .. } if self.is_waiting() => self.close_activity(at),
            Event::Began { activity, .. } => {
                self.close_activity(at);
                if let Some(name) = activity_name(activity) {
                    self.open_activity(name, at);
                }
                if let Activity::Turn { prompt } = activity {
                    self.note("afk.prompt", AttributeValue::Text(prompt.as_str().to_owned()));
                }
            }
            Event::Held { cause, .. } => {
                self.close_activity(at);
                self.open_activity("outage".into(), at);
                self.note("afk.cause", AttributeValue::Text(shown(&cause.summary().into())));
            }
            Event::Reached { phase, .. } => self.reach(*phase, at),
            Event::Equipped { equipment, .. } => {
                self.equip(equipment);
                self.note("afk.agent", AttributeValue::Text(equipment.agent.clone()));
            }
            Event::TurnEnded { end, .. } => {
                self.turns += 1;
                self.note("afk.end", AttributeValue::Text(end_word(end).to_owned()));
                if !matches!(end, TurnEnd::Done | TurnEnd::Interrupted | TurnEnd::Nudged) {
                    self.miss(&end.summary().into());
                }
            }
            Event::GateOpened { head, .. } => {
                self.note("afk.result", AttributeValue::Text("opened".into()));
                self.note("afk.commit", AttributeValue::Text(head.0.clone()));
            }
            Event::GateClosed { why, .. } => {
                self.note("afk.result", AttributeValue::Text("closed".into()));
                self.miss(why);
            }
            Event::ApprovalNeeded { .. } => {
                self.note("afk.result", AttributeValue::Text("approval".into()));
            }
            Event::Pushed { head, .. } => {
                self.note("afk.commit", AttributeValue::Text(head.0.clone()));
            }
            Event::PushRejected { why, .. } | Event::Failed { why, .. } => self.miss(why),
            Event::Judged { link, .. } => {
                let verdict = link.verdict;
                self.note("afk.verdict", AttributeValue::Text(verdict.as_str().to_owned()));
                if !matches!(verdict, Verdict::Green | Verdict::Pending) {
                    self.miss(&link.detail);
                }
            }
            Event::Attempt { number, .. } => self.attempts = *number,
            Event::Spent { spend, .. } => {
                self.spend.add(*spend);
                if let Some(open) = &mut self.activity {
                    open.spend.add(*spend);
                }
            }
            _ => {}
        }
    }

    fn is_waiting(&self) -> bool {
        self.activity.as_ref().is_some_and(|open| open.span.name == WAITING)
    }

    /// Ends the present phase and begins another.
    fn reach(&mut self, phase: Phase, at: Timestamp) {
        let name = phase_name(phase);
        let next = span(self.id, &self.phases, Some(root_id(self.id)), name, at);
        let ended = std::mem::replace(&mut self.phase, next);
        self.keep_phase(ended, at);
    }

    fn keep_phase(&mut self, span: TraceSpan, at: Timestamp) {
        if self.phases.len() < MOST_PHASES {
            self.phases.push(until(span, at));
        } else {
            self.dropped += 1;
        }
    }

    fn open_activity(&mut self, name: Cow<'static, str>, at: Timestamp) {
        let span = span(self.id, &self.activities, Some(self.phase.id), name, at);
        self.activity = Some(OpenActivity { span, spend: Spend::default() });
    }

    fn close_activity(&mut self, at: Timestamp) {
        let Some(OpenActivity { mut span, spend }) = self.activity.take() else { return };
        if self.activities.len() == MOST_ACTIVITIES {
            self.dropped += 1;
            return;
        }
        if spend != Spend::default() {
            span.attributes.extend(spend_attributes(&spend));
        }
        self.activities.push(until(span, at));
    }

    /// Adds an attribute to the present activity, or replaces its value.
    fn note(&mut self, key: &'static str, value: AttributeValue) {
        let Some(open) = &mut self.activity else { return };
        open.span.attributes.retain(|(known, _)| *known != key);
        open.span.attributes.push((key, value));
    }

    /// Records that the present activity missed its goal.
    fn miss(&mut self, why: &Untrusted) {
        if let Some(open) = &mut self.activity {
            open.span.status = SpanStatus::Missed(shown(why));
        }
    }

    fn finish(mut self, at: Timestamp, outcome: Outcome, why: &Untrusted) -> RunTrace {
        self.close_activity(at);
        let phase = self.phase.clone();
        self.keep_phase(phase, at);
        let mut root = TraceSpan {
            id: root_id(self.id),
            parent: None,
            name: "run".into(),
            from: self.from,
            to: self.from.max(at),
            attributes: self.about,
            status: match outcome {
                Outcome::Done => SpanStatus::Reached,
                Outcome::Cancelled => SpanStatus::Unset,
                Outcome::NeedsHuman | Outcome::Frozen | Outcome::Failed => {
                    SpanStatus::Missed(shown(why))
                }
            },
        };
        let outcome = AttributeValue::Text(outcome.as_str().to_owned());
        root.attributes.push(("afk.outcome", outcome));
        let texts = [("afk.agent", self.agent), ("afk.model", self.model)];
        for (key, text) in texts {
            root.attributes.extend(text.map(|text| (key, AttributeValue::Text(text))));
        }
        root.attributes.extend(spend_attributes(&self.spend));
        root.attributes.push(("afk.turns", AttributeValue::Count(self.turns)));
        root.attributes.push(("afk.attempts", AttributeValue::Count(self.attempts.into())));
        if self.is_partial {
            root.attributes.push(("afk.partial", AttributeValue::Flag(true)));
        }
        if self.dropped > 0 {
            root.attributes.push(("afk.dropped_spans", AttributeValue::Count(self.dropped)));
        }
        let spans = std::iter::once(root).chain(self.phases).chain(self.activities);
        RunTrace { id: self.id, spans: spans.collect() }
    }
}

/// The attributes by which a run is found.
fn about(run: RunId, work: &Work) -> Vec<(&'static str, AttributeValue)> {
    let text = AttributeValue::Text;
    let mut about = vec![
        ("afk.run", text(run.to_string())),
        ("afk.repository", text(work.repo().to_string())),
        ("afk.title", text(shown(work.title()))),
    ];
    about.extend(work.issue().map(|issue| ("afk.issue", text(issue.to_string()))));
    about
}

fn spend_attributes(spend: &Spend) -> [(&'static str, AttributeValue); 3] {
    let count = |tokens| AttributeValue::Count(i64::try_from(tokens).unwrap_or(i64::MAX));
    [
        ("afk.spend.usd", AttributeValue::Amount(spend.usd.dollars())),
        ("afk.tokens.in", count(spend.tokens_in)),
        ("afk.tokens.out", count(spend.tokens_out)),
    ]
}

/// The text of an outsider in one line, without secrets, and cut.
fn shown(text: &Untrusted) -> String {
    let line = text.clean_head(READ);
    let line = Redactor::default().clean(&line);
    line[..line.floor_char_boundary(SHOWN)].to_owned()
}

fn phase_name(phase: Phase) -> Cow<'static, str> {
    format!("phase {}", phase.as_str()).into()
}

/// The name of an activity's span; none once a run has ended.
fn activity_name(activity: &Activity) -> Option<Cow<'static, str>> {
    Some(Cow::Borrowed(match activity {
        Activity::Waiting => WAITING,
        Activity::Worktree => "worktree",
        Activity::Turn { .. } => "turn",
        Activity::Gate => "gate",
        Activity::Rebase => "rebase",
        Activity::Push => "push",
        Activity::Collect => "collect",
        Activity::Backoff { .. } => "backoff",
        Activity::Held { .. } => "outage",
        Activity::Stage { stage: Stage::Ci } => "ci",
        Activity::Stage { stage: Stage::Deploy } => "deploy",
        Activity::Stage { stage: Stage::Probe } => "probe",
        Activity::Ended => return None,
    }))
}

/// The trace of a run since its claim or reopening at `from`.
fn trace_id(journal: &str, run: RunId, from: Timestamp) -> TraceId {
    id(&[b"afk trace", journal.as_bytes(), &run.0.to_be_bytes(), &from.0.to_be_bytes()])
}

fn root_id(trace: TraceId) -> SpanId {
    id(&[b"afk run", &trace])
}

/// A span that begins now. Its id differs from those of `others`, which may begin at the same time under
/// the same name.
fn span(
    trace: TraceId,
    others: &[TraceSpan],
    parent: Option<SpanId>,
    name: Cow<'static, str>,
    from: Timestamp,
) -> TraceSpan {
    let same = others.iter().rev().filter(|other| other.from == from && other.name == name);
    let same = same.count().to_be_bytes();
    let id = id(&[b"afk span", &trace, name.as_bytes(), &from.0.to_be_bytes(), &same]);
    TraceSpan {
        id,
        parent,
        name,
        from,
        to: from,
        attributes: Vec::new(),
        status: SpanStatus::default(),
    }
}

/// The span with its end; a clock that was set back does not end it before its begin.
fn until(span: TraceSpan, at: Timestamp) -> TraceSpan {
    TraceSpan { to: span.from.max(at), ..span }
}

/// The first bytes of a digest. Zeros would be no id; a digest has them once in 2^64 times.
fn id<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        digest.update(part);
    }
    let mut id = [0; N];
    for (to, from) in id.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    id
}
