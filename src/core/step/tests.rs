//! The life of a run, table by table: what each fact leads to, at each bound.

use crate::model::approval::DecidedBy;
use proptest::prelude::*;

use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{Answer, EscalationKind};
use crate::model::budget::{MicroUsd, Spend};
use crate::model::command::{Command, CommandEnvelope, Refusal, Reply, Role};
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::id::{Actor, IssueKey, Repo, RunId, Sha};
use crate::model::input::{Input, RunFact};
use crate::model::issue::{Arming, Issue, Priority};
use crate::model::outbox::OutboxStep;
use crate::model::permission::{PermissionRequest, Tool};
use crate::model::policy::Policy;
use crate::model::run::{Activity, Outcome, TurnPrompt};
use crate::model::stage::Stage;
use crate::model::stage::{Phase, Stages};
use crate::model::time::{MINUTE, Timestamp};
use crate::model::verdict::{GateReport, GateSide, Verdict};
use crate::step::step;
use crate::step::stepper::Step;

pub(super) struct Play {
    pub(super) fleet: Fleet,
    pub(super) volatile: Volatile,
    pub(super) now: Timestamp,
    /// Every event so far.
    events: Vec<(Timestamp, Event)>,
    pub(super) effects: Vec<Effect>,
}

pub(super) const RUN: RunId = RunId(1);

fn repo(n: u64) -> Repo {
    Repo::parse(&format!("acme/r{n}")).unwrap()
}

pub(super) fn issue(number: u64, priority: Option<u8>) -> Issue {
    Issue {
        key: IssueKey { repo: repo(number), number },
        title: "t".into(),
        link: None,
        body: "b".into(),
        priority: priority.map(Priority),
        created: Timestamp(number.cast_signed()),
        arming: Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) },
        blockers: vec![],
        open: true,
        needs_human: false,
    }
}

impl Play {
    #[allow(clippy::needless_pass_by_value)] // Every caller makes it on the spot.
    pub(super) fn with(policy: Policy) -> Self {
        let mut play = Self {
            fleet: Fleet::default(),
            volatile: Volatile::default(),
            now: Timestamp(1),
            events: vec![],
            effects: vec![],
        };
        let allowlist = (0..20).map(repo).collect();
        let policy = Policy { kill_switch: false, allowlist, ..policy };
        play.tell(Input::Started { policy: Box::new(policy) });
        play
    }

    /// One issue in its first turn.
    pub(super) fn turning(policy: Policy) -> Self {
        Self::with_stages(policy, Stages::all())
    }

    /// The same in a repository that has these stages.
    fn with_stages(policy: Policy, stages: Stages) -> Self {
        let mut play = Self::with(policy);
        play.tell(Input::Issues(vec![issue(1, None)]));
        let (path, branch) = ("/w".to_owned(), "afk/1-t".to_owned());
        play.fact(RunFact::WorktreeReady {
            path,
            branch,
            base: sha("b"),
            stages,
            permissions: Box::default(),
        });
        play
    }

    /// One issue whose head `h1` waits for CI.
    pub(super) fn in_ci(policy: Policy) -> Self {
        let mut play = Self::turning(policy);
        play.reach_ci("h1");
        play
    }

    pub(super) fn reach_ci(&mut self, head: &str) {
        self.turn_end(TurnEnd::Done);
        self.gate(head, true, true);
        self.fact(RunFact::Pushed { head: sha(head) });
    }

    pub(super) fn tell(&mut self, input: Input) -> Step {
        let mut out = step(&mut self.fleet, &mut self.volatile, self.now, input);
        let at = out.at;
        self.events.extend(out.events.iter().cloned().map(|event| (at, event)));
        self.effects = std::mem::take(&mut out.effects);
        out
    }

    pub(super) fn fact(&mut self, fact: RunFact) {
        let epoch = self.run().epoch;
        self.tell(Input::Run { run: RUN, epoch, fact });
    }

    /// A fact about another run than the first.
    pub(super) fn about(&mut self, run: RunId, fact: RunFact) {
        let epoch = self.fleet.runs[&run].epoch;
        self.tell(Input::Run { run, epoch, fact });
    }

    pub(super) fn turn_end(&mut self, end: TurnEnd) {
        self.agent(AgentEvent::TurnEnd(end));
    }

    pub(super) fn agent(&mut self, event: AgentEvent) {
        self.fact(RunFact::Agent(event));
    }

    /// The agent asks leave for one thing.
    pub(super) fn asks(&mut self, tool: Tool, target: &str) {
        let ask = PermissionRequest {
            tool,
            title: target.into(),
            detail: target.into(),
            targets: vec![target.into()],
            editable: tool == Tool::Shell,
        };
        self.agent(AgentEvent::PermissionRequest { id: "p".into(), request: Box::new(ask) });
    }

    pub(super) fn gate(&mut self, head: &str, red: bool, green: bool) {
        let failed = || GateSide::Failed { code: 1, log: "log".into() };
        let report = GateReport {
            base: sha("b"),
            head: sha(head),
            tests: vec!["t".into()],
            on_base: if red { failed() } else { GateSide::Passed },
            on_head: if green { GateSide::Passed } else { failed() },
        };
        self.fact(RunFact::Gated(Box::new(report)));
    }

    pub(super) fn judged(&mut self, head: &str, verdict: Verdict) {
        let (detail, log) = ("said".into(), "the log".into());
        self.fact(RunFact::Judged { sha: sha(head), verdict, detail, log, facts: vec![] });
    }

    pub(super) fn command(&mut self, role: Role, action: Command) -> Reply {
        let (actor, origin) = (Actor("ana".into()), "test".into());
        let command = CommandEnvelope { id: 1, actor, role, origin, command: action };
        self.tell(Input::Command(command)).reply.unwrap().1
    }

    pub(super) fn operate(&mut self, action: Command) -> Reply {
        self.command(Role::Operator, action)
    }

    pub(super) fn run(&self) -> &crate::model::run::Run {
        &self.fleet.runs[&RUN]
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.run().outcome
    }

    /// Answers the newest escalation.
    pub(super) fn answer(&mut self, answer: Answer) -> Reply {
        let asked = self.fleet.escalations.values().next_back().unwrap();
        let (escalation, digest) = (asked.id, asked.digest);
        self.operate(Command::Answer { escalation, digest, answer })
    }
}

fn sha(name: &str) -> Sha {
    Sha(name.into())
}

#[test]
fn the_straight_way_goes_through_every_phase_in_order() {
    let mut play = Play::in_ci(Policy::default());
    for _ in 0..3 {
        play.judged("h1", Verdict::Green);
    }
    let reached: Vec<Phase> = play.run().reached.iter().map(|(phase, _)| *phase).collect();
    assert_eq!(reached, Phase::ALL);
    assert_eq!(play.outcome(), Some(Outcome::Done));
    assert!(play.fleet.locks.is_empty());
    let posted: Vec<&OutboxStep> = play.fleet.outbox.values().map(|e| &e.step).collect();
    assert!(posted.iter().any(|step| matches!(step, OutboxStep::Close { .. })));
    assert!(play.effects.contains(&Effect::GiveBack { run: RUN }));
}

#[test]
fn stages_that_a_repository_lacks_are_passed_over() {
    let (ci, deploy, probe) = (Stage::Ci, Stage::Deploy, Stage::Probe);
    for asked in [vec![], vec![ci], vec![deploy, probe], vec![ci, probe]] {
        let stages = asked.iter().copied().collect();
        let mut play = Play::with_stages(Policy::default(), stages);
        play.reach_ci("h1");
        let mut seen = vec![];
        while let Activity::Stage { stage } = play.run().activity {
            seen.push(stage);
            play.judged("h1", Verdict::Green);
        }
        assert_eq!(seen, asked);
        assert_eq!(play.outcome(), Some(Outcome::Done));
    }
}

#[test]
fn only_the_head_that_the_gate_saw_is_pushed() {
    let mut play = Play::turning(Policy::default());
    play.turn_end(TurnEnd::Done);
    assert_eq!(play.run().activity, Activity::Gate);
    play.gate("h1", true, true);
    let push = Task::Push { head: sha("h1") };
    assert!(play.effects.iter().any(|e| matches!(e, Effect::Begin { task, .. } if *task == push)));
}

#[test]
fn a_closed_gate_goes_back_to_the_agent_and_then_to_a_human() {
    for (red, green) in [(false, true), (true, false), (false, false)] {
        let mut play = Play::turning(Policy { gate_retries: 2, ..Policy::default() });
        for round in 0..3 {
            play.turn_end(TurnEnd::Done);
            play.gate("h1", red, green);
            assert_eq!(play.outcome().is_some(), round == 2, "round {round}");
        }
        assert_eq!(play.outcome(), Some(Outcome::NeedsHuman));
        assert!(play.run().pushed.is_none());
        assert!(play.fleet.locks.is_empty(), "nothing was pushed: the lock is free");
    }
}

#[test]
fn attempts_are_capped_by_number_and_by_time() {
    for (attempts, minutes_a_try, granted) in [(2, 1, 2), (5, 25, 3), (0, 1, 0), (5, 0, 5)] {
        let policy = Policy { fix_forward_attempts: attempts, ..Policy::default() };
        let mut play = Play::in_ci(policy);
        let mut head = 1;
        while play.outcome().is_none() {
            play.judged(&format!("h{head}"), Verdict::Red);
            if play.outcome().is_none() {
                let Activity::Turn { prompt: TurnPrompt::FixForward { log, .. } } =
                    &play.run().activity
                else {
                    panic!("{:?}", play.run().activity)
                };
                assert_eq!(log.as_received(), "the log");
                play.now = play.now.plus(minutes_a_try * MINUTE);
                head += 1;
                play.reach_ci(&format!("h{head}"));
            }
        }
        assert_eq!(play.run().attempts, granted, "cap {attempts}, {minutes_a_try} min a try");
        assert_eq!(play.outcome(), Some(Outcome::Frozen));
    }
}

#[test]
fn a_frozen_run_keeps_its_lock_until_an_operator_releases_it() {
    let mut play = Play::in_ci(Policy { fix_forward_attempts: 0, ..Policy::default() });
    play.judged("h1", Verdict::Red);
    assert_eq!(play.fleet.locks.get(&repo(1)), Some(&RUN));
    assert!(play.effects.contains(&Effect::Capsule { run: RUN }));
    // A restart changes nothing of it.
    let policy = play.fleet.policy.clone();
    play.tell(Input::Started { policy: Box::new(policy) });
    assert_eq!((play.outcome(), play.fleet.locks.len()), (Some(Outcome::Frozen), 1));
    assert_eq!(play.command(Role::Viewer, Command::Release { run: RUN }), Err(Refusal::Viewer));
    assert!(play.answer(Answer::Approve).is_ok());
    assert!(play.fleet.locks.is_empty());
    assert_eq!(play.operate(Command::Release { run: RUN }), Err(Refusal::NoLock { run: RUN }));
}

#[test]
fn a_frozen_run_sent_on_has_fresh_caps_and_the_same_conversation() {
    let mut play = Play::turning(Policy { fix_forward_attempts: 0, ..Policy::default() });
    let (model, version) = (None, None);
    let session = "s".to_owned();
    play.fact(RunFact::Agent(AgentEvent::SessionStarted { session, model, version }));
    play.reach_ci("h1");
    play.judged("h1", Verdict::Red);
    assert!(play.answer(Answer::Text { text: "like this".into() }).is_ok());
    let run = play.run();
    assert_eq!((run.attempts, run.first_red, run.outcome), (0, None, None));
    let resumes = play.effects.iter().any(|effect| {
        matches!(effect, Effect::Begin { task: Task::Turn { resume: Some(s), prompt, .. }, .. }
            if s == "s" && *prompt == TurnPrompt::Guidance { text: "like this".into() })
    });
    assert!(resumes, "{:?}", play.effects);
}

#[test]
fn unknown_is_neither_green_nor_red() {
    let mut play = Play::in_ci(Policy { crash_retries: 1, ..Policy::default() });
    play.judged("h1", Verdict::Unknown);
    assert!(matches!(play.run().activity, Activity::Backoff { .. }));
    assert_eq!(play.run().attempts, 0, "nothing is mended for it");
    play.now = play.now.plus(MINUTE);
    play.tell(Input::Tick);
    assert_eq!(play.run().activity, Activity::Stage { stage: Stage::Ci });
    play.judged("h1", Verdict::Unknown);
    assert_eq!(play.outcome(), Some(Outcome::Frozen));
}

#[test]
fn a_verdict_about_another_commit_or_an_older_life_is_ignored() {
    let mut play = Play::in_ci(Policy::default());
    play.judged("h0", Verdict::Green);
    assert_eq!(play.run().activity, Activity::Stage { stage: Stage::Ci });
    let epoch = play.run().epoch - 1;
    let (detail, log) = ("x".into(), "x".into());
    let fact =
        RunFact::Judged { sha: sha("h1"), verdict: Verdict::Red, detail, log, facts: vec![] };
    play.tell(Input::Run { run: RUN, epoch, fact });
    assert_eq!(play.run().activity, Activity::Stage { stage: Stage::Ci });
}

#[test]
fn how_a_turn_ends_decides_what_follows() {
    let why = || "x".into();
    for (end, outcome, again) in [
        (TurnEnd::Blocked { why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::NotStarted { why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::Interrupted, Some(Outcome::NeedsHuman), false),
        (TurnEnd::ApiError { status: None, why: why() }, None, true),
        (TurnEnd::ApiError { status: Some(529), why: why() }, None, true),
        (TurnEnd::ApiError { status: Some(401), why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::Refused { why: why() }, Some(Outcome::NeedsHuman), false),
        (TurnEnd::Budget, Some(Outcome::NeedsHuman), false),
        (TurnEnd::TurnLimit, None, true),
        (TurnEnd::Nudged, None, true),
        (TurnEnd::OutOfMemory { why: why() }, None, true),
        (TurnEnd::Crashed { why: why() }, None, true),
        (TurnEnd::Silent, Some(Outcome::NeedsHuman), false),
        (TurnEnd::TimedOut, None, true),
    ] {
        let mut play = Play::turning(Policy::default());
        play.turn_end(end.clone());
        assert_eq!(play.outcome(), outcome, "{end:?}");
        assert_eq!(matches!(play.run().activity, Activity::Backoff { .. }), again, "{end:?}");
    }
}

#[test]
fn a_turn_that_is_lost_again_and_again_goes_to_a_human() {
    let mut play = Play::turning(Policy { crash_retries: 2, ..Policy::default() });
    for _ in 0..3 {
        assert_eq!(play.outcome(), None);
        play.turn_end(TurnEnd::TimedOut);
        play.now = play.now.plus(10 * MINUTE);
        play.tell(Input::Tick);
    }
    assert_eq!(play.outcome(), Some(Outcome::NeedsHuman));
}

#[test]
fn a_rejected_push_is_rebased_and_tested_again_at_most_so_often() {
    let mut play = Play::turning(Policy { push_rejections: 2, ..Policy::default() });
    play.turn_end(TurnEnd::Done);
    play.gate("h1", true, true);
    for round in 0..3 {
        assert_eq!(play.outcome(), None);
        play.fact(RunFact::PushRejected { why: "fetch first".into() });
        if round < 2 {
            assert_eq!(play.run().activity, Activity::Rebase);
            play.fact(RunFact::Rebased { base: sha("b2") });
            assert_eq!(play.run().activity, Activity::Gate);
            play.gate(&format!("h{round}"), true, true);
        }
    }
    assert_eq!(play.outcome(), Some(Outcome::NeedsHuman));
}

#[test]
fn an_approval_is_bound_single_use_and_expires() {
    let ask = |play: &mut Play| {
        play.asks(Tool::Other, "rm -r x");
        play.fleet.inbox()[0].as_ref().clone()
    };
    // Single use.
    let mut play = Play::turning(Policy::default());
    let asked = ask(&mut play);
    assert_eq!(asked.kind, EscalationKind::Permission);
    assert!(play.answer(Answer::Approve).is_ok());
    assert!(matches!(play.answer(Answer::Approve), Err(Refusal::NotOpen { .. })));
    // Expired at its very time, whether or not a tick came before.
    let mut play = Play::turning(Policy { answer_ms: 1_000, ..Policy::default() });
    ask(&mut play);
    play.now = play.now.plus(1_000);
    assert!(matches!(play.answer(Answer::Approve), Err(Refusal::Stale { .. })));
    play.tell(Input::Tick);
    assert!(play.fleet.inbox().is_empty());
    let told = play.effects.iter().any(
        |e| matches!(e, Effect::Answer { answer: Answer::Deny { .. }, by, .. } if *by == DecidedBy::Afk),
    );
    assert!(told, "the agent still waits");
    // The world changed.
    let mut play = Play::turning(Policy::default());
    ask(&mut play);
    play.turn_end(TurnEnd::Done);
    assert!(matches!(play.answer(Answer::Approve), Err(Refusal::NotOpen { .. })));
}

#[test]
fn a_viewer_changes_nothing_whatever_it_sends() {
    let digest = crate::model::digest::Digest::ZERO;
    let escalation = crate::model::id::EscalationId(1);
    let actions = [
        Command::SetKillSwitch { on: true },
        Command::SetCapacity { permits: 9 },
        Command::Answer { escalation, digest, answer: Answer::Approve },
        Command::Steer { run: RUN, text: "x".into() },
        Command::Cancel { run: RUN },
        Command::Retry { run: RUN, guidance: "".into() },
        Command::Release { run: RUN },
        Command::Submit { repo: repo(1), prompt: "x".into(), priority: None, job: None },
    ];
    for action in actions {
        let mut play = Play::turning(Policy::default());
        let before = play.fleet.clone();
        let events = play.events.len();
        assert_eq!(play.command(Role::Viewer, action.clone()), Err(Refusal::Viewer), "{action:?}");
        assert_eq!(play.fleet, before);
        assert!(matches!(play.events[events..], [(_, Event::Refused { .. })]), "not recorded");
    }
}

#[test]
fn the_configurations_kill_switch_can_not_be_lifted_by_key() {
    let mut play = Play::with(Policy::default());
    let policy = Policy { kill_switch: true, ..play.fleet.policy.clone() };
    play.tell(Input::Policy(Box::new(policy)));
    let lifted = play.operate(Command::SetKillSwitch { on: false });
    assert_eq!(lifted, Err(Refusal::SetInConfiguration));
    play.tell(Input::Issues(vec![issue(1, None)]));
    assert!(play.fleet.runs.is_empty());
}

#[test]
fn the_kill_switch_holds_back_what_waits_and_stops_nothing() {
    let mut play = Play::with(Policy { capacity: 1, ..Policy::default() });
    play.tell(Input::Issues(vec![issue(1, None), issue(2, None)]));
    assert!(play.operate(Command::SetKillSwitch { on: true }).is_ok());
    assert!(play.operate(Command::SetCapacity { permits: 5 }).is_ok());
    assert_eq!(play.fleet.permits_used(), 1);
    assert!(play.operate(Command::SetKillSwitch { on: false }).is_ok());
    assert_eq!(play.fleet.permits_used(), 2);
}

#[test]
fn capacity_changes_live_and_takes_nothing_away() {
    let mut play = Play::with(Policy { capacity: 2, ..Policy::default() });
    play.tell(Input::Issues((1..=5).map(|n| issue(n, None)).collect()));
    assert_eq!((play.fleet.permits_used(), play.fleet.queue.len()), (2, 3));
    assert!(play.operate(Command::SetCapacity { permits: 0 }).is_ok());
    assert_eq!(play.fleet.permits_used(), 2);
    assert!(play.operate(Command::SetCapacity { permits: 4 }).is_ok());
    assert_eq!(play.fleet.permits_used(), 4);
}

#[test]
fn the_queue_is_bounded() {
    let policy = Policy { capacity: 0, max_queue_depth: 3, ..Policy::default() };
    let mut play = Play::with(policy);
    play.tell(Input::Issues((1..=9).map(|n| issue(n, None)).collect()));
    assert_eq!(play.fleet.queue.len(), 3);
    let submit = Command::Submit { repo: repo(1), prompt: "x".into(), priority: None, job: None };
    assert_eq!(play.operate(submit), Err(Refusal::QueueFull));
}

#[test]
fn spend_over_a_runs_limit_stops_it() {
    let mut play = Play::turning(Policy { run_limit: Some(MicroUsd(100)), ..Policy::default() });
    let usd = MicroUsd(101);
    play.fact(RunFact::Agent(AgentEvent::Usage(Spend { usd, ..Spend::default() })));
    assert_eq!(play.outcome(), Some(Outcome::NeedsHuman));
    assert_eq!(play.fleet.inbox()[0].kind, EscalationKind::OverBudget);
    assert!(play.effects.contains(&Effect::Stop { run: RUN }));
}

#[test]
fn a_failing_completion_step_is_tried_again_in_order_and_hides_nothing() {
    let mut play = Play::in_ci(Policy { fix_forward_attempts: 0, ..Policy::default() });
    play.judged("h1", Verdict::Red);
    assert_eq!(play.fleet.inbox().len(), 1, "the escalation is there before any delivery");
    let first = *play.fleet.outbox.keys().next().unwrap();
    for _ in 0..20 {
        play.tell(Input::NotDelivered { entry: first, error: "502".into(), wait: 0 });
        assert_eq!(play.fleet.inbox().len(), 1);
        let due = play.fleet.outbox[&first].not_before;
        play.now = due;
        play.tell(Input::Tick);
        let delivered: Vec<_> = play
            .effects
            .iter()
            .filter_map(|e| match e {
                Effect::Deliver { entry, step } if step.subject().contains('#') => Some(*entry),
                _ => None,
            })
            .collect();
        assert_eq!(delivered, [first], "the next of the same issue waits for it");
    }
    let count = play.fleet.outbox.len();
    play.tell(Input::Delivered { entry: first });
    play.tell(Input::Delivered { entry: first });
    assert_eq!(play.fleet.outbox.len(), count - 1);
}

#[test]
fn a_restart_begins_again_what_was_under_way_and_counts_on() {
    let mut play = Play::in_ci(Policy { fix_forward_attempts: 2, ..Policy::default() });
    play.judged("h1", Verdict::Red);
    let policy = Box::new(play.fleet.policy.clone());
    play.tell(Input::Started { policy });
    assert_eq!(play.run().attempts, 1, "a restart is no new attempt");
    let begun = play.effects.iter().any(|effect| {
        matches!(effect, Effect::Begin { task: Task::Turn { prompt: TurnPrompt::Continue { of, .. }, .. }, .. }
            if matches!(**of, TurnPrompt::FixForward { .. }))
    });
    assert!(begun, "the failing log was lost: {:?}", play.effects);
}

proptest! {
    #[test]
    fn waiting_runs_are_admitted_by_rank_whatever_order_they_came_in(
        priorities in proptest::collection::vec(proptest::option::of(0_u8..5), 1..10)
    ) {
        let mut play = Play::with(Policy { capacity: 0, ..Policy::default() });
        for (n, priority) in (1_u64..).zip(&priorities) {
            let known: Vec<Issue> = (1..n)
                .zip(&priorities)
                .map(|(n, p)| issue(n, *p))
                .chain([issue(n, *priority)])
                .collect();
            play.now = play.now.plus(1);
            play.tell(Input::Issues(known));
        }
        let mut expected: Vec<_> = play.fleet.waiting(play.now).map(|r| (r.priority.map_or(10, |p| p.0), r.id)).collect();
        let mut admitted = vec![];
        for permits in 1..=u32::try_from(priorities.len()).unwrap() {
            play.operate(Command::SetCapacity { permits }).unwrap();
            let new = play.fleet.live_runs().filter(|r| r.has_permit()).map(|r| r.id).find(|id| !admitted.contains(id));
            admitted.push(new.unwrap());
        }
        expected.sort();
        prop_assert_eq!(admitted, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
    }

    #[test]
    fn a_run_without_a_priority_does_not_starve(minutes in 1_i64..30) {
        let policy = Policy { capacity: 0, aging_ms: minutes * MINUTE, ..Policy::default() };
        let mut play = Play::with(policy);
        play.tell(Input::Issues(vec![issue(1, None)]));
        play.now = play.now.plus(11 * minutes * MINUTE);
        play.tell(Input::Issues(vec![issue(1, None), issue(2, Some(0))]));
        prop_assert_eq!(play.fleet.waiting(play.now).next().unwrap().id, RUN);
    }

    #[test]
    fn an_escalations_digest_changes_with_all_that_is_shown(title in "\\PC{0,12}", detail in "\\PC{0,12}", epoch in 0_u32..9) {
        let mut play = Play::turning(Policy::default());
        play.asks(Tool::Other, "x");
        let shown = play.fleet.inbox()[0].as_ref().clone();
        let mut other = shown.clone();
        (other.title, other.detail, other.epoch) = (title.into(), detail.into(), epoch);
        let same = (&other.title, &other.detail, other.epoch) == (&shown.title, &shown.detail, shown.epoch);
        prop_assert_eq!(other.digest_of() == shown.digest, same);
    }
}
