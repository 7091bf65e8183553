//! The simulated world around the core: remotes, agents, a tracker, operators, and crashes.
//! `tests/simulation` plays one world for each seed.

use std::collections::{BTreeMap, BTreeSet};

use afk_core::fleet::Fleet;
use afk_core::fleet::volatile::Volatile;
use afk_core::model::activity::Activity;
use afk_core::model::agent_event::{AgentEvent, TurnEnd};
use afk_core::model::approval::{Answer, EscalationKind};
use afk_core::model::breakglass::{self, VerbEnd, VerbResult};
use afk_core::model::budget::{MicroUsd, Spend};
use afk_core::model::command::{Command, CommandEnvelope, Role};
use afk_core::model::effect::{Effect, Task};
use afk_core::model::event::Event;
use afk_core::model::gate_report::{
    ChangeClass, GateReport, GateRules, GateRun, TestExit, TestRun,
};
use afk_core::model::id::{Actor, IssueKey, OutboxId, Repo, RunId, Sha};
use afk_core::model::input::{CloneEnd, Input, RunFact, TryFailure};
use afk_core::model::issue::{Arming, Blocker, BlockerState, Issue, Priority};
use afk_core::model::job::{Job, JobId, JobKind, QuestionEquipment};
use afk_core::model::outage::{OutageCause, OutageKind, OutageReport};
use afk_core::model::outbox::{FailedDelivery, OutboxStep};
use afk_core::model::permission::{PermissionRequest, Tool};
use afk_core::model::policy::Policy;
use afk_core::model::run::Outcome;
use afk_core::model::stage::Stage;
use afk_core::model::time::Timestamp;
use afk_core::model::verdict::Verdict;
use afk_core::model::worktree::PreparedWorktree;
use afk_core::query::invariant;
use afk_core::step::step;
use afk_core::tables::gate::GateVerdict;

/// The report of a gate whose new test fails on the base where `red`, and passes on the head where
/// `green`.
fn gate_report(base: Sha, head: Sha, red: bool, green: bool) -> GateReport {
    let run = |passes: bool| {
        let failed = TestExit::Failed { code: 1, log: "no".into() };
        TestRun::new(if passes { TestExit::Passed } else { failed })
    };
    let mut report = GateReport::new(base, head, GateRules::default());
    report.change.tests = vec!["t".into()];
    report.record(GateRun::Baseline, run(true));
    report.record(GateRun::Red, run(!red));
    report.record(GateRun::OldTests, run(true));
    while matches!(report.verdict(), GateVerdict::Run(GateRun::Green)) {
        report.record(GateRun::Green, run(green));
    }
    report
}

/// Whether the commit changes a protected file: every eighth one does.
fn is_protected(head: &Sha) -> bool {
    head.0.ends_with(['7', 'f'])
}

fn rules() -> breakglass::BreakglassRules {
    breakglass::BreakglassRules {
        vm: "devvm".into(),
        hypervisor: "hypervisor".into(),
        hosts: ["devvm".to_owned()].into(),
        arm_ms: 120_000,
        mutations: 2,
        drill_ms: Some(600_000),
        drill_red_ms: 700_000,
        diagnoses: false,
        agent: None,
    }
}

/// Splitmix64: the schedule is a function of the seed alone.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let n = self.below(of.len() as u64);
        &of[usize::try_from(n).unwrap()]
    }
}

fn away() -> TryFailure {
    TryFailure { why: "connection refused".into(), wait_ms: 0 }
}

/// Whether a run without a permit waits for the end of an outage.
fn waits_for_outage(fleet: &Fleet, run: &afk_core::model::run::Run) -> bool {
    match &run.progress.activity {
        Activity::Held { cause, .. } => fleet.outages.holds(cause),
        _ => fleet.outage_of(run.work.repo()).is_some(),
    }
}

#[derive(Default)]
pub struct Tally {
    pub done: usize,
    pub frozen: usize,
    pub crashes: usize,
    pub pushes: usize,
    pub held: usize,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.frozen += other.frozen;
        self.crashes += other.crashes;
        self.pushes += other.pushes;
        self.held += other.held;
    }
}

pub struct World {
    rng: Rng,
    now: Timestamp,
    fleet: Fleet,
    volatile: Volatile,
    policy: Policy,
    journal: Vec<(Timestamp, Event)>,
    under_way: Vec<Effect>,
    issues: Vec<Issue>,
    /// The commits on each repository's remote, in order.
    remote: BTreeMap<Repo, Vec<Sha>>,
    /// The heads for which this world's gate really reported red and then green.
    proved: BTreeSet<Sha>,
    /// The head of each run's worktree.
    head: BTreeMap<RunId, Sha>,
    comments: BTreeMap<OutboxId, OutboxStep>,
    ended: BTreeMap<RunId, Outcome>,
    reopened: BTreeSet<RunId>,
    next_sha: u64,
    next_command: u64,
    crashes: usize,
    pushes: usize,
    calm: bool,
    /// The parts of the world that are away, each until a time.
    away: BTreeMap<OutageCause, Timestamp>,
    /// The outages that a human was asked about and that have not ended.
    asked: BTreeSet<OutageCause>,
    /// How far the clock is ahead, in milliseconds.
    ahead: i64,
    held: usize,
    /// The repositories without a clone.
    uncloned: BTreeSet<Repo>,
    /// Those whose first clone failed, until a run of theirs is admitted.
    failed_clones: BTreeSet<Repo>,
}

/// The parts of the world that a task of a repository needs.
fn needed(task: &Task, repo: &Repo) -> Vec<OutageCause> {
    let remote = OutageCause::new(OutageKind::Remote, host(repo));
    let disk = OutageCause::new(OutageKind::Disk, "/state");
    match task {
        Task::Worktree | Task::Gate | Task::Collect { .. } => vec![disk, remote],
        Task::Rebase => vec![remote],
        Task::Push { .. } => vec![remote, OutageCause::new(OutageKind::Credential, host(repo))],
        Task::Turn { .. } => vec![OutageCause::new(OutageKind::Descriptors, "here")],
        Task::Stage { .. } => vec![OutageCause::new(OutageKind::Ci, "https://ci.acme.com")],
    }
}

/// Two repositories share a host.
fn host(repo: &Repo) -> String {
    if repo.to_string() == "acme/r2" { "git.two.com".into() } else { "git.one.com".into() }
}

fn repo(n: u64) -> Repo {
    Repo::parse(&format!("acme/r{n}")).unwrap()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let capacity = u32::try_from(1 + rng.below(3)).unwrap();
        let policy = Policy {
            kill_switch: rng.chance(5),
            allowlist: (0..3).map(repo).collect(),
            capacity,
            job_ttl_ms: 120_000,
            max_queue_depth: u32::try_from(1 + rng.below(4)).unwrap(),
            day_limit: rng.chance(20).then_some(MicroUsd(3_000)),
            run_limit: rng.chance(20).then_some(MicroUsd(1_500)),
            turn_reserve: MicroUsd(100),
            answer_ms: 60_000,
            breakglass: rng.chance(50).then(rules),
            remote: (0..3).map(repo).filter(|_| rng.chance(40)).collect(),
            remote_names: (0..3).map(|n| (repo(n), host(&repo(n)))).collect(),
            ..Policy::default()
        };
        let mut world = Self {
            rng,
            now: Timestamp(1_000_000),
            fleet: Fleet::default(),
            volatile: Volatile::default(),
            policy,
            journal: vec![],
            under_way: vec![],
            issues: vec![],
            remote: BTreeMap::new(),
            proved: BTreeSet::new(),
            head: BTreeMap::new(),
            comments: BTreeMap::new(),
            ended: BTreeMap::new(),
            reopened: BTreeSet::new(),
            next_sha: 0,
            next_command: 0,
            crashes: 0,
            pushes: 0,
            calm: false,
            away: BTreeMap::new(),
            asked: BTreeSet::new(),
            ahead: 0,
            held: 0,
            uncloned: BTreeSet::new(),
            failed_clones: BTreeSet::new(),
        };
        for n in 1..=2 + world.rng.below(7) {
            let issue = world.issue(n);
            world.issues.push(issue);
        }
        world
    }

    fn issue(&mut self, n: u64) -> Issue {
        let by = |name: &str| Actor(name.into());
        let arming = match self.rng.below(10) {
            0 => Arming::NotReady,
            1 => Arming::Untrusted { by: by("mallory") },
            2 => Arming::Unknown { why: "no event".into() },
            3 => Arming::Hold { why: "edited".into() },
            _ => Arming::Trusted { by: by("ana"), at: Timestamp(0) },
        };
        let blockers = match self.rng.below(8) {
            0 => vec![BlockerState::Open],
            1 => vec![BlockerState::Closed, BlockerState::Unreadable],
            2 => vec![BlockerState::Cycle],
            3 => vec![BlockerState::Closed],
            _ => vec![],
        };
        let blocker = |state| Blocker { reference: "#99".into(), state };
        let priority = self.rng.below(6);
        Issue {
            // The fourth repository is not on the allowlist.
            key: IssueKey { repo: repo(self.rng.below(4)), number: n },
            title: "a title".into(),
            link: None,
            body: format!("body {}", self.rng.below(3)).into(),
            priority: (priority < 4).then(|| Priority(u8::try_from(priority).unwrap())),
            created: Timestamp(n.cast_signed()),
            arming,
            blockers: blockers.into_iter().map(blocker).collect(),
            open: !self.rng.chance(5),
            class: ChangeClass::default(),
            needs_human: self.rng.chance(5),
            in_progress: self.rng.chance(3),
            labels: vec![],
        }
    }

    fn sha(&mut self) -> Sha {
        self.next_sha += 1;
        Sha(format!("{:040x}", self.next_sha))
    }

    /// Steps one input and checks everything that must hold afterwards. A crash can come before the
    /// events are durable, or after them and before any number of the effects.
    fn input(&mut self, input: Input) {
        let before = self.fleet.clone();
        let out = step(&mut self.fleet, &mut self.volatile, self.now, input);
        if let Err(broken) = invariant::check(&self.fleet) {
            panic!("{broken}");
        }
        if !self.calm && self.rng.chance(2) {
            self.fleet = before;
            self.crash();
            return;
        }
        self.assert_events(&before, out.at, &out.events);
        let at = out.at;
        self.journal.extend(out.events.into_iter().map(|event| (at, event)));
        for effect in out.effects {
            if !self.calm && self.rng.chance(1) {
                self.crash();
                return;
            }
            self.begin(effect);
        }
    }

    fn begin(&mut self, effect: Effect) {
        match &effect {
            Effect::Stop { run } | Effect::Begin { run, .. } => {
                let run = *run;
                self.under_way.retain(|e| !matches!(e, Effect::Begin { run: r, .. } if *r == run));
                if matches!(effect, Effect::Begin { .. }) {
                    self.under_way.push(effect);
                }
            }
            Effect::Deliver { .. }
            | Effect::ReadIssue { .. }
            | Effect::Clone { .. }
            | Effect::ProbeOutage { .. }
            | Effect::Breakglass(breakglass::BreakglassTask::Verb { .. }) => {
                self.under_way.push(effect);
            }
            _ => {}
        }
        // Invariant 10, as far as the core can keep it: one effect for each run.
        let mut seen = BTreeSet::new();
        let mut tries = BTreeSet::new();
        for effect in &self.under_way {
            match effect {
                Effect::Begin { run, .. } => {
                    assert!(seen.insert(*run), "two effects of {run} are under way");
                }
                Effect::ProbeOutage { cause, .. } => {
                    assert!(tries.insert(cause), "two tries of {cause:?} are under way");
                }
                _ => {}
            }
        }
    }

    fn assert_events(&mut self, before: &Fleet, at: Timestamp, events: &[Event]) {
        // Each event was decided on the fleet after the events before it.
        let mut then = before.clone();
        for event in events {
            match event {
                Event::Claimed { work, .. } => {
                    if let Some(key) = work.issue() {
                        self.assert_may_start(&then, at, key);
                        let now = self.issues.iter().find(|issue| issue.key == *key);
                        assert!(
                            !then.policy.remote.contains(&key.repo)
                                || now == then.issues.get(key).map(AsRef::as_ref),
                            "3: an older version of a remote issue was claimed"
                        );
                    }
                    assert!(!then.kill_switch(), "3: claimed under the kill switch");
                    assert!(then.policy.allowlist.contains(work.repo()), "3: off the allowlist");
                }
                Event::Briefed { run, .. } => {
                    let key = then.runs[run].work.issue().expect("only an issue has a text");
                    let armed = matches!(then.issues[key].arming, Arming::Trusted { .. });
                    assert!(armed, "3: {run} works on a text that nobody trusted armed");
                }
                Event::Pushed { run, .. } => {
                    let pushed = then.runs[run].workspace.pushed.is_some();
                    let taken = then.runs[run].issue.withdrawn.is_some();
                    let under_way = matches!(then.runs[run].progress.activity, Activity::Push);
                    assert!(pushed || !taken || under_way, "3: {run} was taken back");
                }
                Event::Admitted { run } => {
                    assert!(then.permits_used() < then.capacity() as usize, "1: over capacity");
                    // An open breaker delays issues, and jobs overtake them.
                    let job = then.runs[run].work.job().is_some();
                    let past = job && then.breaker.open().is_some();
                    let first = then
                        .waiting(at)
                        .filter(|r| {
                            let clones = r.work.job().is_none_or(Job::has_clone);
                            !clones || !self.uncloned.contains(r.work.repo())
                        })
                        .filter(|r| !past || r.work.job().is_some())
                        .filter(|r| r.work.job().is_some() || !waits_for_outage(&then, r))
                        .find(|r| then.policy.allowlist.contains(r.work.repo()));
                    assert_eq!(first.map(|r| r.id), Some(*run), "1: out of order");
                }
                Event::Attempt { number, run, .. } => {
                    let run = &then.runs[run];
                    assert!(*number <= then.policy.fix_forward_attempts, "6: too many attempts");
                    let since =
                        run.progress.first_red.expect("6: an attempt without a red verdict");
                    assert!(at.since(since) < then.policy.fix_forward_ms, "6: too late");
                }
                Event::Ended { run, outcome, .. } => {
                    let was = self.ended.insert(*run, *outcome);
                    let again = self.reopened.remove(run);
                    assert!(was.is_none() || again, "7: {run} ended twice");
                    let pushed = then.runs[run].workspace.pushed.is_some();
                    match outcome {
                        Outcome::Frozen => assert!(pushed, "nothing to freeze"),
                        Outcome::NeedsHuman => assert!(!pushed, "pushed, and not frozen"),
                        _ => {}
                    }
                }
                Event::Reopened { run, guidance, .. } => {
                    // A done run is reopened only with an operator's guidance.
                    let done = self.ended.get(run) == Some(&Outcome::Done);
                    let asked = events.iter().any(|event| matches!(event, Event::Accepted { .. }));
                    assert!(!done || (asked && !guidance.is_empty()), "7: done is final");
                    self.reopened.insert(*run);
                }
                Event::OutageReported(OutageReport { causes, question: Some(_) }) => {
                    for cause in causes {
                        assert!(self.asked.insert(cause.clone()), "12: asked twice: {cause:?}");
                    }
                }
                Event::OutageEnded { cause } => {
                    self.asked.remove(cause);
                }
                Event::Held { .. } => self.held += 1,
                Event::LookedAgain { run, .. } => {
                    let was = &then.runs[run];
                    assert_eq!(
                        was.progress.outcome,
                        Some(Outcome::Frozen),
                        "7: {run} wasn't frozen"
                    );
                    self.reopened.insert(*run);
                }
                Event::Began { run, activity } if then.runs[run].progress.looks_again.is_some() => {
                    let reads = |activity: &Activity| matches!(activity, Activity::Stage { .. });
                    let waits = |activity: &Activity| match activity {
                        Activity::Backoff { then, .. } => reads(then),
                        other => reads(other),
                    };
                    assert!(waits(activity), "6: {run} works while it is looked at: {activity:?}");
                }
                Event::Accepted { command } => {
                    assert_eq!(command.role, Role::Operator, "9: a viewer acted");
                }
                _ => {}
            }
            then.apply(at, event);
        }
        // After a failed clone, one step admits runs of the repository.
        for event in events {
            if let Event::Admitted { run } = event
                && let Some(repo) = self.failed_clones.take(then.runs[run].work.repo())
            {
                self.uncloned.insert(repo);
            }
        }
    }

    fn assert_may_start(&self, fleet: &Fleet, at: Timestamp, key: &IssueKey) {
        let issue = &fleet.issues[key];
        assert!(matches!(issue.arming, Arming::Trusted { .. }), "3: armed by nobody trusted");
        assert!(
            issue.blockers.iter().all(|b| b.state == BlockerState::Closed),
            "3: an open or unreadable blocker"
        );
        assert!(issue.open && !issue.needs_human, "3: closed or for a human");
        let ours = fleet.outbox.values().any(|entry| entry.step.issue() == Some(key));
        assert!(ours || !issue.in_progress, "2: claimed by another afk");
        assert!(!fleet.locks.contains_key(&key.repo), "2: the repository is taken");
        assert!(fleet.outage_of(&key.repo).is_none(), "12: started during an outage");
        if let Some(limit) = fleet.policy.day_limit {
            assert!(fleet.books.day(at).usd < limit, "3: over budget");
        }
        let last = fleet.last_run.get(key).map(|id| &fleet.runs[id]);
        assert!(last.is_none_or(|run| !run.live()), "7: claimed twice");
    }

    /// Crashes afk: every effect in progress is lost, and only the journal remains.
    fn crash(&mut self) {
        self.crashes += 1;
        self.under_way.clear();
        let mut folded = Fleet::default();
        for (at, event) in &self.journal {
            folded.apply(*at, event);
        }
        // If the crash lost a step, `fleet` is the state before that step.
        assert_eq!(folded, self.fleet, "a fold of the journal is another fleet");
        self.fleet = folded;
        self.volatile = Volatile::default();
        let calm = std::mem::replace(&mut self.calm, true);
        // As the runtime's clock does where the journal is ahead of it.
        let ahead = self.fleet.last_event.since(self.now);
        if ahead >= 60_000 {
            self.ahead = 0;
            self.input(Input::TimeSkipped { ms: -ahead });
        }
        self.start();
        self.calm = calm;
    }

    /// Starts a life of afk, as the runtime does: some repositories may have no clone.
    fn start(&mut self) {
        let uncloned = self.policy.allowlist.iter().filter(|_| self.rng.chance(20)).cloned();
        self.uncloned = uncloned.collect();
        self.failed_clones.clear();
        self.input(Input::Uncloned(self.uncloned.clone()));
        self.input(Input::Started { policy: Box::new(self.policy.clone()) });
    }

    pub fn play(&mut self) {
        self.start();
        self.input(Input::Issues(self.issues.clone()));
        for _ in 0..120 {
            self.now = self.now.plus(self.rng.below(20_000).cast_signed());
            match self.rng.below(20) {
                0 => self.clock_back(),
                1 | 2 => self.command(),
                3 => self.change_issue(),
                4 => self.input(Input::Tick),
                5 => self.others_push(),
                6 if self.rng.chance(40) => self.outage(),
                7 if self.rng.chance(10) => self.skip_time(),
                _ => self.complete_effect(),
            }
        }
        self.quiesce();
    }

    fn clock_back(&mut self) {
        self.now = Timestamp(self.now.0 - 5_000);
        self.input(Input::Tick);
    }

    fn change_issue(&mut self) {
        let n = usize::try_from(self.rng.below(self.issues.len() as u64)).unwrap();
        let number = self.issues[n].key.number;
        let repo = self.issues[n].key.repo.clone();
        let mut issue = self.issue(number);
        issue.key.repo = repo;
        self.issues[n] = issue;
        // The list that the watcher has can be older than the issue.
        if self.rng.chance(70) {
            self.input(Input::Issues(self.issues.clone()));
        }
    }

    /// A part of the world goes away for up to three hours.
    fn outage(&mut self) {
        let parts = [
            OutageCause::new(OutageKind::Remote, "git.one.com"),
            OutageCause::new(OutageKind::Remote, "git.two.com"),
            OutageCause::new(OutageKind::Credential, "git.one.com"),
            OutageCause::new(OutageKind::Disk, "/state"),
            OutageCause::new(OutageKind::Descriptors, "here"),
            OutageCause::new(OutageKind::Ci, "https://ci.acme.com"),
        ];
        let part = self.rng.pick(&parts).clone();
        let until = self.now.plus(self.rng.below(3 * 3_600_000).cast_signed());
        self.away.insert(part, until);
    }

    fn is_away(&self, cause: &OutageCause) -> bool {
        !self.calm && self.away.get(cause).is_some_and(|until| self.now < *until)
    }

    /// The machine sleeps, or its clock is ahead for a while.
    fn skip_time(&mut self) {
        const AHEAD: i64 = 40 * 24 * 3_600_000;
        let ms = match self.ahead {
            0 if self.rng.chance(50) => 9 * 3_600_000,
            0 => std::mem::replace(&mut self.ahead, AHEAD) + AHEAD,
            _ => -std::mem::take(&mut self.ahead),
        };
        self.now = self.now.plus(ms);
        for until in self.away.values_mut() {
            *until = until.plus(ms);
        }
        self.input(Input::TimeSkipped { ms });
    }

    /// Checks that an outage has spent nothing of the run that met it.
    fn assert_unspent(&self, run: RunId, before: &Fleet) {
        let (Some(was), Some(is)) = (before.runs.get(&run), self.fleet.runs.get(&run)) else {
            return;
        };
        let Activity::Held { then, .. } = &is.progress.activity else { return };
        let counters = |run: &afk_core::model::run::Run| {
            let progress = &run.progress;
            (progress.attempts, progress.failures, progress.gate_closed, progress.push_rejections)
        };
        assert_eq!(counters(was), counters(is), "12: an outage has cost {run} an attempt");
        assert_eq!(**then, was.progress.activity, "12: {run} loses its place");
        let turn = u32::from(matches!(**then, Activity::Turn { .. }));
        assert_eq!(is.agent.turns, was.agent.turns - turn, "12: an outage has cost {run} a turn");
    }

    fn others_push(&mut self) {
        let sha = self.sha();
        let at = repo(self.rng.below(3));
        self.remote.entry(at).or_default().push(sha);
    }

    fn command(&mut self) {
        let runs: Vec<RunId> = self.fleet.runs.keys().copied().chain([RunId(999)]).collect();
        let run = *self.rng.pick(&runs);
        let action = match self.rng.below(13) {
            0 if self.rng.chance(50) && !self.fleet.outbox.is_empty() => {
                let all: Vec<OutboxId> = self.fleet.outbox.keys().copied().collect();
                let entry = *self.rng.pick(&all);
                if self.rng.chance(50) {
                    Command::RetryStep { entry }
                } else {
                    Command::SkipStep { entry }
                }
            }
            0 => Command::SetKillSwitch { on: self.rng.chance(40) },
            1 => Command::SetCapacity { permits: u32::try_from(self.rng.below(4)).unwrap() },
            2 => Command::Cancel { run },
            3 => Command::Retry { run, guidance: "try".into() },
            4 => Command::Release { run },
            5 => Command::Steer { run, text: "look".into() },
            6 => Command::Submit {
                repo: repo(self.rng.below(4)),
                prompt: "do".into(),
                priority: None,
                job: self.rng.chance(60).then(|| Box::new(self.job())),
            },
            7 => Command::LookAgain { run },
            8..=10 => Command::Breakglass { request: self.breakglass_request() },
            _ => {
                let all: Vec<_> = self.fleet.escalations.values().cloned().collect();
                if all.is_empty() {
                    return;
                }
                let one = self.rng.pick(&all).clone();
                let answer = match self.rng.below(3) {
                    0 => Answer::Approve,
                    1 => Answer::Deny { reason: "no".into() },
                    _ => Answer::Text { text: "this way".into() },
                };
                Command::Answer { escalation: one.id, digest: one.digest, answer }
            }
        };
        self.next_command += 1;
        let role = if self.rng.chance(15) { Role::Viewer } else { Role::Operator };
        let actor = Actor("ana".into());
        let command = CommandEnvelope {
            id: self.next_command,
            actor,
            role,
            origin: "sim".into(),
            command: action,
        };
        self.input(Input::Command(command));
    }

    /// A job from a caller of the service.
    fn job(&mut self) -> Job {
        let kind = match self.rng.below(3) {
            0 => JobKind::Execute { clone: self.rng.chance(80) },
            1 => JobKind::Chat,
            _ => JobKind::Converse { session: format!("s{}", self.rng.below(3)) },
        };
        let byte = u8::try_from(self.rng.below(256)).unwrap();
        Job {
            id: JobId::new([byte, 0, 0, 0, 0, u8::try_from(self.rng.below(256)).unwrap()]),
            kind,
            agent: None,
            model: None,
            budget: self.rng.chance(30).then_some(MicroUsd(5_000_000)),
            limit_ms: 60_000,
            metadata: None,
            equipment: QuestionEquipment::default(),
        }
    }

    /// An operator's breakglass request, with a right or wrong confirmation.
    fn breakglass_request(&mut self) -> breakglass::BreakglassRequest {
        let verb = *self.rng.pick(&breakglass::Verb::ALL);
        match self.rng.below(6) {
            0 | 1 => {
                breakglass::BreakglassRequest::Arm { reason: "it hangs".into(), take_over: true }
            }
            2 => breakglass::BreakglassRequest::Disarm,
            3 => breakglass::BreakglassRequest::Shell { host: "devvm".into() },
            _ => {
                let seen = self.fleet.breakglass.seen(verb, "devvm");
                let name = if self.rng.chance(80) { "devvm" } else { "other" }.to_owned();
                let again = self.rng.chance(50).then(|| name.clone());
                let confirm = Some(breakglass::Confirmation { name, seen, again });
                breakglass::BreakglassRequest::Verb { verb, confirm }
            }
        }
    }

    /// Completes one of the effects in progress.
    fn complete_effect(&mut self) {
        if self.under_way.is_empty() {
            self.input(Input::Tick);
            return;
        }
        let n = usize::try_from(self.rng.below(self.under_way.len() as u64)).unwrap();
        let effect = self.under_way[n].clone();
        match effect {
            Effect::Deliver { entry, step } => {
                self.under_way.remove(n);
                let lands = self.calm || !self.rng.chance(20);
                if lands {
                    let known = self.comments.insert(entry, step.clone());
                    assert!(known.is_none_or(|k| k == step), "5: an entry changed");
                }
                if self.calm || (lands && !self.rng.chance(10)) {
                    self.input(Input::Delivered { entry });
                } else if self.rng.chance(20) {
                    self.input(Input::GivenUp { entry, why: "410".into() });
                } else {
                    let doubtful = self.rng.chance(50);
                    let error = "502".into();
                    self.input(Input::NotDelivered(FailedDelivery {
                        entry,
                        error,
                        wait: 0,
                        doubtful,
                    }));
                }
            }
            Effect::Clone { repo, .. } => {
                self.under_way.remove(n);
                let end = match self.rng.below(4) {
                    0 if !self.calm => CloneEnd::Failed,
                    1 if !self.calm => CloneEnd::Abandoned,
                    _ => CloneEnd::Done,
                };
                if end != CloneEnd::Abandoned {
                    self.uncloned.remove(&repo);
                }
                if end == CloneEnd::Failed {
                    self.failed_clones.insert(repo.clone());
                }
                self.input(Input::Cloned { repo, end });
            }
            Effect::ReadIssue { issue: key } => {
                self.under_way.remove(n);
                let now = self.issues.iter().find(|issue| issue.key == key).cloned();
                let read = if self.calm || self.rng.chance(80) {
                    Ok(now.map(Box::new))
                } else {
                    Err("502".into())
                };
                self.input(Input::IssueRead { key, read });
            }
            Effect::Breakglass(breakglass::BreakglassTask::Verb { id, .. }) => {
                self.under_way.remove(n);
                let result = match self.rng.below(4) {
                    0 if !self.calm => VerbResult::Unknown { why: "link lost".into() },
                    1 => VerbResult::NotBegun { why: "no answer".into() },
                    _ => VerbResult::Exited { code: u32::try_from(self.rng.below(2)).unwrap() },
                };
                let end = VerbEnd::of(result);
                self.input(Input::Breakglass(breakglass::BreakglassReport::Ended {
                    verb: id,
                    end,
                }));
            }
            Effect::Begin { run, epoch, ref task } => {
                if let Some((fact, ends)) = self.fact(run, task.clone()) {
                    if ends {
                        self.under_way.remove(n);
                    }
                    // A late report of an older epoch must change nothing.
                    let epoch = if self.rng.chance(2) { epoch.wrapping_sub(1) } else { epoch };
                    let ignored = epoch != self.fleet.runs[&run].progress.epoch;
                    if ignored && ends {
                        self.under_way.push(effect);
                    }
                    let (before, crashes) = (self.fleet.clone(), self.crashes);
                    self.input(Input::Run { run, epoch, fact });
                    if crashes == self.crashes {
                        self.assert_unspent(run, &before);
                    }
                }
            }
            Effect::ProbeOutage { cause, .. } => {
                self.under_way.remove(n);
                let failure = self.is_away(&cause).then(away);
                self.input(Input::OutageTried { cause, failure });
            }
            _ => unreachable!("only tasks, tries and deliveries are under way"),
        }
    }

    fn fact(&mut self, run: RunId, task: Task) -> Option<(RunFact, bool)> {
        let trouble = !self.calm && self.rng.chance(8);
        if trouble {
            return Some((RunFact::Failed { why: "the disk is full".into() }, true));
        }
        let repo = self.fleet.runs[&run].work.repo().clone();
        let missing = needed(&task, &repo).into_iter().find(|cause| self.is_away(cause));
        if let Some(cause) = missing {
            return Some((RunFact::Unavailable { cause, failure: away() }, true));
        }
        let remote = self.remote.entry(repo).or_default();
        Some(match task {
            Task::Worktree if !self.calm && self.rng.chance(5) => {
                (RunFact::BaseUnfit { why: "the base is red. It stays so.".into() }, true)
            }
            Task::Worktree if !self.calm && self.rng.chance(3) => {
                (RunFact::SetupFailed { why: "exit code 1".into(), log: "no".into() }, true)
            }
            Task::Worktree => {
                let base = remote.last().cloned().unwrap_or(Sha("0".repeat(40)));
                self.head.insert(run, base.clone());
                let stages = Stage::all().filter(|_| self.rng.chance(80)).collect();
                let branch = format!("afk/{run}");
                (
                    RunFact::WorktreeReady(PreparedWorktree {
                        path: "/w".into(),
                        branch,
                        base,
                        stages,
                        permissions: Box::default(),
                    }),
                    true,
                )
            }
            Task::Turn { turn, .. } => return Some(self.turn(run, turn)),
            Task::Gate => {
                let head = self.head[&run].clone();
                let base =
                    self.fleet.runs[&run].workspace.base.clone().expect("a base before the gate");
                let (red, green) =
                    (self.calm || self.rng.chance(85), self.calm || self.rng.chance(85));
                let mut report = gate_report(base, head.clone(), red, green);
                if is_protected(&head) {
                    report.change.protected = vec!["ci".into()];
                    report.change.diff = head.0.as_str().into();
                }
                report.rules.approved = self.fleet.runs[&run].progress.approved;
                if report.verdict() == GateVerdict::Open {
                    self.proved.insert(head);
                }
                (RunFact::Gated(Box::new(report)), true)
            }
            Task::Rebase => {
                if self.rng.chance(20) {
                    (RunFact::Conflict { why: "both changed it".into() }, true)
                } else if self.rng.chance(3) {
                    let line = "somebody rewrote master".into();
                    (RunFact::NeedsHuman { line, detail: "abc".into() }, true)
                } else {
                    let base = remote.last().cloned().unwrap_or(Sha("0".repeat(40)));
                    let head = self.sha();
                    self.head.insert(run, head);
                    (RunFact::Rebased { base }, true)
                }
            }
            Task::Push { head } => {
                assert!(self.proved.contains(&head), "4: {run} pushes what no gate saw");
                let approved = self.fleet.runs[&run].progress.approved.is_some();
                assert!(
                    approved || !is_protected(&head) || remote.contains(&head),
                    "4: {run} pushes a protected change that nobody approved"
                );
                if remote.contains(&head) {
                    (RunFact::Pushed { head }, true)
                } else if remote.last().is_some_and(|h| {
                    self.fleet.runs[&run].workspace.base.as_ref() != Some(h)
                        && self.fleet.runs[&run].workspace.pushed.as_ref() != Some(h)
                }) {
                    (RunFact::PushRejected { why: "fetch first".into() }, true)
                } else {
                    remote.push(head.clone());
                    self.pushes += 1;
                    // The push took effect, whether or not its report arrives.
                    if !self.calm && self.rng.chance(20) {
                        self.crash();
                        return None;
                    }
                    (RunFact::Pushed { head }, true)
                }
            }
            Task::Collect { .. } => (RunFact::Collected { commits: None }, true),
            Task::Stage { sha, .. } => {
                let verdict = match self.rng.below(20) {
                    _ if self.calm => Verdict::Green,
                    0..4 => Verdict::Red,
                    4 => Verdict::Unknown,
                    5 => Verdict::Pending,
                    // CI lags behind the push; a later look finds it.
                    6 => Verdict::NoCi,
                    _ => Verdict::Green,
                };
                let ends = verdict != Verdict::Pending;
                let detail = "it says so".into();
                (RunFact::Judged { sha, verdict, detail, log: "log".into(), facts: vec![] }, ends)
            }
        })
    }

    fn turn(&mut self, run: RunId, turn: u32) -> (RunFact, bool) {
        let event = match self.rng.below(12) {
            _ if self.calm => AgentEvent::TurnEnd(TurnEnd::Done),
            0 => AgentEvent::SessionStarted {
                session: format!("s{run}-{turn}"),
                model: None,
                version: None,
            },
            1 => {
                let usd = MicroUsd(self.rng.below(900).cast_signed());
                AgentEvent::Usage(Spend { usd, ..Spend::default() })
            }
            2 => {
                // One request for a human, one that the policy allows, and one that a guardrail
                // refuses.
                let (tool, target) = match self.rng.below(3) {
                    0 => (Tool::Other, "deploy"),
                    1 => (Tool::Shell, "rm -r build"),
                    _ => (Tool::Shell, "git push --force"),
                };
                let ask = PermissionRequest {
                    tool,
                    title: target.into(),
                    detail: target.into(),
                    targets: vec![target.into()],
                    editable: true,
                };
                AgentEvent::PermissionRequest { id: "p1".into(), request: Box::new(ask) }
            }
            3 => AgentEvent::Question { id: "q1".into(), text: "which?".into(), options: vec![] },
            4 => AgentEvent::TurnEnd(TurnEnd::Crashed { why: "signal 9".into() }),
            5 => AgentEvent::TurnEnd(TurnEnd::Blocked { why: "no key".into() }),
            6 => AgentEvent::TurnEnd(match self.rng.below(4) {
                0 => TurnEnd::Silent,
                1 => TurnEnd::ApiError { status: Some(529), why: "busy".into() },
                2 => TurnEnd::NoSession { why: "gone".into() },
                _ => TurnEnd::Nudged,
            }),
            _ => AgentEvent::TurnEnd(TurnEnd::Done),
        };
        let ends = matches!(event, AgentEvent::TurnEnd(_));
        if event == AgentEvent::TurnEnd(TurnEnd::Done) {
            let head = self.sha();
            self.head.insert(run, head);
        }
        (RunFact::Agent(event), ends)
    }

    /// Sends a command of an operator.
    fn operate(&mut self, action: Command) {
        self.next_command += 1;
        let (id, actor, origin) = (self.next_command, Actor("ana".into()), "sim".into());
        let (role, command) = (Role::Operator, action);
        self.input(Input::Command(CommandEnvelope { id, actor, role, origin, command }));
    }

    /// Without further faults every run ends and every outbox entry is delivered.
    fn quiesce(&mut self) {
        self.calm = true;
        self.policy.kill_switch = false;
        self.policy.day_limit = None;
        // A start without a crash loses the tries that are under way, too.
        self.under_way.retain(|effect| !matches!(effect, Effect::ProbeOutage { .. }));
        self.uncloned.append(&mut self.failed_clones);
        self.input(Input::Started { policy: Box::new(self.policy.clone()) });
        for action in [Command::SetKillSwitch { on: false }, Command::SetCapacity { permits: 2 }] {
            self.operate(action);
        }
        for _ in 0..3_000 {
            if self.under_way.is_empty()
                && self.fleet.live.is_empty()
                && self.fleet.outbox.is_empty()
                && self.fleet.outages.is_empty()
            {
                break;
            }
            self.now = self.now.plus(10_000);
            self.input(Input::Tick);
            self.complete_effect();
            let held = self.fleet.outbox.values().find(|entry| entry.held).map(|entry| entry.id);
            if let Some(entry) = held {
                self.operate(Command::RetryStep { entry });
            }
        }
        assert!(self.fleet.outages.is_empty(), "12: an outage never ends");
        let asks = self.fleet.inbox().into_iter().find(|e| e.kind == EscalationKind::Outage);
        assert!(asks.is_none(), "12: a question outlives its outage: {asks:?}");
        assert!(self.fleet.outbox.is_empty(), "5: a completion step was lost");
        let waits =
            self.fleet.live_runs().find(|r| !matches!(r.progress.activity, Activity::Ended));
        assert!(waits.is_none(), "1: a run starves: {waits:?}");
        for run in self.fleet.runs.values() {
            if run.progress.outcome == Some(Outcome::Done)
                && let Some(sha) = &run.workspace.pushed
            {
                let remote = &self.remote[run.work.repo()];
                let times = remote.iter().filter(|s| *s == sha).count();
                assert_eq!(times, 1, "4: {} is in the remote {times} times", run.id);
            }
        }
    }

    pub fn tally(&self) -> Tally {
        let count = |outcome| self.ended.values().filter(|o| **o == outcome).count();
        Tally {
            done: count(Outcome::Done),
            frozen: count(Outcome::Frozen),
            crashes: self.crashes,
            pushes: self.pushes,
            held: self.held,
        }
    }
}
