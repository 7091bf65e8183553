//! A fleet under test: it starts with a policy, takes inputs at a time of its own, and keeps the
//! events and the latest effects.

use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::Answer;
use crate::model::command::{Accepted, Command, CommandEnvelope, Reply, Role};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::gate_report::{GateReport, GateRules, GateRun, TestExit, TestRun};
use crate::model::id::{Actor, IssueKey, Repo, RunId, Sha};
use crate::model::input::{Input, RunFact};
use crate::model::issue::{Arming, Issue, Priority};
use crate::model::job::{Job, JobId, JobKind, QuestionEquipment};
use crate::model::permission::{PermissionRequest, Tool};
use crate::model::policy::Policy;
use crate::model::run::Outcome;
use crate::model::stage::Stages;
use crate::model::time::{MINUTE, Timestamp};
use crate::model::verdict::Verdict;
use crate::model::worktree::PreparedWorktree;
use crate::step::{Step, step};

/// A fleet with its time and what the steps so far produced.
pub(super) struct FleetScenario {
    pub(super) fleet: Fleet,
    pub(super) volatile: Volatile,
    pub(super) now: Timestamp,
    /// Every event so far, with its time.
    pub(super) events: Vec<(Timestamp, Event)>,
    /// The effects of the latest input.
    pub(super) effects: Vec<Effect>,
}

pub(super) const RUN: RunId = RunId(1);

pub(super) fn repo(n: u64) -> Repo {
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
        class: crate::model::gate_report::ChangeClass::default(),
        needs_human: false,
        in_progress: false,
        labels: vec![],
    }
}

impl FleetScenario {
    #[allow(clippy::needless_pass_by_value, reason = "callers build the policy on the spot")]
    pub(super) fn with_policy(policy: Policy) -> Self {
        let mut scenario = Self {
            fleet: Fleet::default(),
            volatile: Volatile::default(),
            now: Timestamp(1),
            events: vec![],
            effects: vec![],
        };
        let allowlist = (0..20).map(repo).collect();
        let policy = Policy { kill_switch: false, allowlist, ..policy };
        scenario.input(Input::Started { policy: Box::new(policy) });
        scenario
    }

    /// One issue in its first turn, in a repository that has every stage.
    pub(super) fn in_turn(policy: Policy) -> Self {
        Self::in_turn_with_stages(policy, Stages::all())
    }

    /// One issue in its first turn, in a repository that has `stages`.
    pub(super) fn in_turn_with_stages(policy: Policy, stages: Stages) -> Self {
        let mut scenario = Self::with_policy(policy);
        scenario.input(Input::Issues(vec![issue(1, None)]));
        let (path, branch) = ("/w".to_owned(), "afk/1-t".to_owned());
        scenario.report(RunFact::WorktreeReady(PreparedWorktree {
            path,
            branch,
            base: sha("b"),
            stages,
            permissions: Box::default(),
        }));
        scenario
    }

    /// One issue whose pushed head `h1` waits for CI.
    pub(super) fn in_ci(policy: Policy) -> Self {
        let mut scenario = Self::in_turn(policy);
        scenario.reach_ci("h1");
        scenario
    }

    /// Takes the run from its turn through the gate and the push.
    pub(super) fn reach_ci(&mut self, head: &str) {
        self.end_turn(TurnEnd::Done);
        self.report_gate(head, true, true);
        self.report(RunFact::Pushed { head: sha(head) });
    }

    /// Steps the fleet by one input at the scenario's time.
    pub(super) fn input(&mut self, input: Input) -> Step {
        let mut out = step(&mut self.fleet, &mut self.volatile, self.now, input);
        let at = out.at;
        self.events.extend(out.events.iter().cloned().map(|event| (at, event)));
        self.effects = std::mem::take(&mut out.effects);
        out
    }

    /// Reports something about the first run.
    pub(super) fn report(&mut self, fact: RunFact) {
        let epoch = self.run().progress.epoch;
        self.input(Input::Run { run: RUN, epoch, fact });
    }

    /// Reports something about any run.
    pub(super) fn report_about(&mut self, run: RunId, fact: RunFact) {
        let epoch = self.fleet.runs[&run].progress.epoch;
        self.input(Input::Run { run, epoch, fact });
    }

    pub(super) fn end_turn(&mut self, end: TurnEnd) {
        self.agent_event(AgentEvent::TurnEnd(end));
    }

    pub(super) fn agent_event(&mut self, event: AgentEvent) {
        self.report(RunFact::Agent(event));
    }

    /// The agent requests permission to use `tool` on `target`, under the request id `p`.
    pub(super) fn request_permission(&mut self, tool: Tool, target: &str) {
        let request = PermissionRequest {
            tool,
            title: target.into(),
            detail: target.into(),
            targets: vec![target.into()],
            editable: tool == Tool::Shell,
        };
        self.agent_event(AgentEvent::PermissionRequest {
            id: "p".into(),
            request: Box::new(request),
        });
    }

    /// Reports a gate whose new tests fail on the base where `red`, and pass on `head` where `green`.
    pub(super) fn report_gate(&mut self, head: &str, red: bool, green: bool) {
        let report = gate_report(head, red, green);
        self.report(RunFact::Gated(Box::new(report)));
    }

    /// A report on a change whose protected files a human must approve.
    pub(super) fn report_gate_that_asks(&mut self, head: &str) {
        let mut report = gate_report(head, true, true);
        report.change.protected = vec!["Makefile".into()];
        report.rules.approved = self.run().progress.approved;
        self.report(RunFact::Gated(Box::new(report)));
    }

    pub(super) fn report_verdict(&mut self, head: &str, verdict: Verdict) {
        let (detail, log) = ("said".into(), "the log".into());
        self.report(RunFact::Judged { sha: sha(head), verdict, detail, log, facts: vec![] });
    }

    pub(super) fn command(&mut self, role: Role, action: Command) -> Reply {
        let (actor, origin) = (Actor("ana".into()), "test".into());
        let command = CommandEnvelope { id: 1, actor, role, origin, command: action };
        self.input(Input::Command(command)).reply.unwrap().1
    }

    pub(super) fn operate(&mut self, action: Command) -> Reply {
        self.command(Role::Operator, action)
    }

    /// Submits a job, which a scenario of these tests never refuses.
    pub(super) fn submit(&mut self, job: Job) -> RunId {
        let job = Some(Box::new(job));
        let submit = Command::Submit { repo: repo(1), prompt: "do".into(), priority: None, job };
        let Ok(Accepted::Queued { run, .. }) = self.operate(submit) else { panic!("refused") };
        run
    }

    pub(super) fn run(&self) -> &crate::model::run::Run {
        &self.fleet.runs[&RUN]
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.run().progress.outcome
    }

    /// Answers the newest escalation.
    pub(super) fn answer_newest(&mut self, answer: Answer) -> Reply {
        let newest = self.fleet.escalations.values().next_back().unwrap();
        let (escalation, digest) = (newest.id, newest.digest);
        self.operate(Command::Answer { escalation, digest, answer })
    }
}

/// A caller's job with a time limit of ten minutes; `n` tells it from others.
pub(super) fn job(n: u8, kind: JobKind) -> Job {
    Job {
        id: JobId::new([n; 6]),
        kind,
        agent: None,
        model: None,
        budget: None,
        limit_ms: 10 * MINUTE,
        metadata: None,
        equipment: QuestionEquipment::default(),
    }
}

pub(super) fn sha(name: &str) -> Sha {
    Sha(name.into())
}

/// A report on new tests that fail on the base where `red`, and pass on `head` where `green`.
fn gate_report(head: &str, red: bool, green: bool) -> GateReport {
    let mut report = GateReport::new(sha("b"), sha(head), GateRules::default());
    report.change.tests = vec!["t".into()];
    report.record(GateRun::Baseline, TestRun::new(TestExit::Passed));
    let run = |passes: bool| {
        let failed = TestExit::Failed { code: 1, log: "log".into() };
        TestRun::new(if passes { TestExit::Passed } else { failed })
    };
    report.record(GateRun::Red, run(!red));
    report.record(GateRun::OldTests, TestRun::new(TestExit::Passed));
    let repeated = if green { 1 } else { 3 };
    (0..repeated).for_each(|_| report.record(GateRun::Green, run(green)));
    report
}
