//! A fleet in the middle of its work, made by the core from inputs at fixed times.

use std::collections::BTreeSet;

use crate::core::fleet::Fleet;
use crate::core::fleet::volatile::Volatile;
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::breakglass::{
    BreakglassReport, BreakglassRequest, BreakglassRules, Verb, VerbEnd, VerbId, VerbResult,
};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::command::{Command, CommandEnvelope, Role};
use crate::core::model::effect::Effect;
use crate::core::model::event::Event;
use crate::core::model::gate_report::{
    ChangeClass, GateReport, GateRules, GateRun, TestExit, TestRun,
};
use crate::core::model::id::{Actor, IssueKey, Repo, RunId, Sha};
use crate::core::model::input::{Input, RunFact};
use crate::core::model::issue::{Arming, Blocker, BlockerState, Issue, Priority};
use crate::core::model::permission;
use crate::core::model::policy::Policy;
use crate::core::model::stage::Stages;
use crate::core::model::time::Timestamp;
use crate::core::model::verdict::{ProbeSample, Verdict};
use crate::core::model::worktree::PreparedWorktree;
use crate::core::step::step;
use crate::journal::transcript::{Store, TranscriptEntry};

const START: i64 = 1_793_530_800_000;

struct Director {
    fleet: Fleet,
    volatile: Volatile,
    now: Timestamp,
    /// The events so far, as a journal has them.
    events: Vec<(Timestamp, Event)>,
}

impl Director {
    fn new() -> Self {
        let (fleet, volatile) = (Fleet::default(), Volatile::default());
        Self { fleet, volatile, now: Timestamp(START), events: Vec::new() }
    }

    fn send(&mut self, input: Input) {
        self.now = self.now.plus(20_000);
        let done = step(&mut self.fleet, &mut self.volatile, self.now, input);
        self.events.extend(done.events.into_iter().map(|event| (self.now, event)));
        for effect in done.effects {
            if let Effect::Deliver { entry, .. } = effect {
                self.send(Input::Delivered { entry });
            }
        }
    }

    fn report(&mut self, run: u64, fact: RunFact) {
        let run = RunId(run);
        let epoch = self.fleet.runs[&run].progress.epoch;
        self.send(Input::Run { run, epoch, fact });
    }

    fn breakglass(&mut self, request: BreakglassRequest) {
        let (id, actor, origin) = (1, Actor("ana".into()), "tty".to_owned());
        let (role, command) = (Role::Operator, Command::Breakglass { request });
        self.send(Input::Command(CommandEnvelope { id, actor, role, origin, command }));
    }

    /// Arms breakglass and reads the state of the VM.
    fn reads_the_vm(&mut self) {
        self.breakglass(BreakglassRequest::Arm {
            reason: "ssh connects and hangs".into(),
            take_over: false,
        });
        self.breakglass(BreakglassRequest::Verb { verb: Verb::Status, confirm: None });
        let result = VerbResult::Exited { code: 0 };
        let reads = Some("running".into());
        let end = VerbEnd { reads, ..VerbEnd::of(result) };
        self.send(Input::Breakglass(BreakglassReport::Ended { verb: VerbId(1), end }));
    }

    fn reach_push(&mut self, run: u64, branch: &str, head: &str) {
        let base = Sha("b5ed8091b5ed8091".into());
        let stages = Stages::all();
        let path = format!("/state/workspaces/{run}/wt-1");
        let branch = branch.to_owned();
        self.report(
            run,
            RunFact::WorktreeReady(PreparedWorktree {
                path,
                branch,
                base: base.clone(),
                stages,
                permissions: Box::default(),
            }),
        );
        let usd = MicroUsd(310_000);
        let spend = Spend { tokens_in: 5_200, tokens_out: 640, usd, ..Spend::default() };
        self.report(run, RunFact::Agent(AgentEvent::Usage(spend)));
        self.report(run, RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::Done)));
        self.gate(run, head);
    }

    fn gate(&mut self, run: u64, head: &str) {
        let base = Sha("b5ed8091b5ed8091".into());
        let mut report = GateReport::new(base, Sha(head.into()), GateRules::default());
        report.change.tests = vec!["tests/moon.sh".into()];
        report.record(GateRun::Baseline, TestRun::new(TestExit::Passed));
        let failed = TestExit::Failed { code: 1, log: "FAIL".into() };
        report.record(GateRun::Red, TestRun::new(failed));
        report.record(GateRun::Green, TestRun::new(TestExit::Passed));
        report.record(GateRun::OldTests, TestRun::new(TestExit::Passed));
        self.report(run, RunFact::Gated(Box::new(report)));
        self.report(run, RunFact::Pushed { head: Sha(head.into()) });
    }

    fn judged(&mut self, run: u64, head: &str, verdict: Verdict, detail: &str, log: &str) {
        let sha = Sha(head.into());
        let (detail, log) = (detail.into(), log.into());
        self.report(run, RunFact::Judged { sha, verdict, detail, log, facts: vec![] });
    }
}

/// Three repositories: one healthy, one frozen, one in the middle of a deploy.
pub(super) fn fleet() -> Fleet {
    directed().fleet
}

/// The events that led to that fleet, in the order of a journal.
pub(super) fn events() -> Vec<(Timestamp, Event)> {
    directed().events
}

fn directed() -> Director {
    let repo = |name: &str| Repo::parse(&format!("acme/{name}")).unwrap();
    let mut director = Director::new();
    let allowlist: BTreeSet<Repo> = ["greeter", "ledger", "pulse"].map(repo).into();
    let policy = Policy {
        kill_switch: false,
        capacity: 2,
        allowlist,
        fix_forward_attempts: 1,
        breakglass: Some(BreakglassRules {
            vm: "devvm".into(),
            hypervisor: "hypervisor".into(),
            hosts: ["devvm".to_owned()].into(),
            arm_ms: 30 * 60_000,
            mutations: 3,
            drill_ms: None,
            drill_red_ms: 0,
            diagnoses: false,
            agent: None,
        }),
        ..Policy::default()
    };
    director.send(Input::Started { policy: Box::new(policy) });
    let trusted = || Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) };
    let issue = |name: &str, number: u64, title: &str, priority: Option<u8>, arming| Issue {
        key: IssueKey { repo: repo(name), number },
        title: title.into(),
        link: None,
        body: "The route `hello-ada` should answer `Hello, ada!`.".into(),
        priority: priority.map(Priority),
        created: Timestamp(START - 3_600_000 * i64::try_from(number).unwrap()),
        arming,
        blockers: vec![],
        open: true,
        class: ChangeClass::default(),
        needs_human: false,
        in_progress: false,
        labels: vec![],
    };
    let mallory = Arming::Untrusted { by: Actor("mallory".into()) };
    let mut goodbye = issue("greeter", 2, "Say goodbye", None, trusted());
    goodbye.blockers = vec![Blocker { reference: "#1".into(), state: BlockerState::Open }];
    director.send(Input::Issues(vec![
        issue("ledger", 4, "Sum the amounts", Some(0), trusted()),
        issue("pulse", 9, "Show the phase of the moon", Some(1), trusted()),
        issue("greeter", 1, "Greet by name", Some(2), trusted()),
        goodbye,
        issue("greeter", 3, "Greet in capitals", None, mallory),
        issue("pulse", 10, "Count the beats", None, trusted()),
        issue("ledger", 7, "Think about currencies", None, Arming::NotReady),
        issue("vault", 11, "Rotate the keys", None, trusted()),
    ]));
    let (sum, moon, moon2) = ("0c416284aaaaaaaa", "a66e4fe8aaaaaaaa", "5d39f7a9aaaaaaaa");
    director.reach_push(1, "afk/4-sum-the-amounts", sum);
    director.judged(1, sum, Verdict::Green, "exit code 0", "");
    director.judged(1, sum, Verdict::Green, "exit code 0", "");
    director.judged(1, sum, Verdict::Green, "5 good probes over 60 s", "");
    director.reach_push(2, "afk/9-show-the-phase-of-the-moon", moon);
    let log = "500 Internal Server Error\nMOON_KEY is not set";
    director.judged(2, moon, Verdict::Green, "exit code 0", "");
    director.judged(2, moon, Verdict::Green, "exit code 0", "");
    director.judged(2, moon, Verdict::Red, "no good probe in 120 s", log);
    director.report(2, RunFact::Agent(AgentEvent::TurnEnd(TurnEnd::Done)));
    director.gate(2, moon2);
    director.judged(2, moon2, Verdict::Green, "exit code 0", "");
    director.judged(2, moon2, Verdict::Green, "exit code 0", "");
    director.judged(2, moon2, Verdict::Red, "no good probe in 120 s", log);
    let greet = "cacec26aaaaaaaaa";
    director.reach_push(3, "afk/1-greet-by-name", greet);
    director.judged(3, greet, Verdict::Green, "exit code 0", "");
    director.judged(3, greet, Verdict::Green, "exit code 0", "");
    for n in 0..12 {
        let sample = ProbeSample { at: director.now, ok: n != 3, latency_ms: 2 + n * 7 % 9 };
        director.send(Input::Probe { repo: repo("greeter"), sample });
    }
    director.reads_the_vm();
    director
}

/// Writes the transcript of the run that works.
pub(super) fn transcript(store: &Store) {
    let at = Timestamp(START);
    let entry = |event| TranscriptEntry { at, turn: 1, event };
    let plan = |done: usize| {
        let items = ["a test that fails", "the route", "all tests"];
        let item = |(n, text): (usize, &&str)| PlanItem { text: (*text).into(), done: n < done };
        AgentEvent::Plan { items: items.iter().enumerate().map(item).collect() }
    };
    let tool = |title: &str, ok, code, output: &str| AgentEvent::ToolEnd {
        id: "t".into(),
        title: title.into(),
        ok,
        code: Some(code),
        output: output.into(),
    };
    let notice = |text: &str| AgentEvent::Notice { text: text.into() };
    let events = vec![
        notice("branch afk/1-greet-by-name starts at b5ed8091"),
        AgentEvent::Prompt {
            text: "You implement one issue in this repository, alone.\n\n# Issue acme/greeter#1: Greet by name\n\nThe route `hello-ada` should answer `Hello, ada!`.\n".into(),
        },
        AgentEvent::Thought { text: "The routes are a case in app.sh. A name can be taken from the route itself.".into() },
        plan(0),
        AgentEvent::Diff {
            path: "tests/hello_name.sh".into(),
            diff: "--- /dev/null\n+++ b/tests/hello_name.sh\n@@ -0,0 +1 @@\n+[ \"$(sh app.sh hello-ada)\" = \"Hello, ada!\" ]\n".into(),
        },
        tool("./test.sh", false, 1, "FAIL tests/hello_name.sh\n"),
        tool("git commit -q -m \"Test that a name is greeted\"", true, 0, ""),
        AgentEvent::Text { text: "The test fails, as it should. Now the route.".into() },
        AgentEvent::Diff {
            path: "app.sh".into(),
            diff: "--- a/app.sh\n+++ b/app.sh\n@@ -6,2 +6,3 @@\n     hello) echo \"Hello!\" ;;\n+    hello-*) echo \"Hello, ${1#hello-}!\" ;;\n".into(),
        },
        tool("./test.sh", true, 0, "ok   tests/hello.sh\nok   tests/hello_name.sh\n"),
        tool("git commit -q -m \"Greet by name\"", true, 0, ""),
        plan(3),
        AgentEvent::Usage(Spend { tokens_in: 5_200, tokens_out: 640, usd: MicroUsd(310_000), ..Spend::default() }),
        AgentEvent::TurnEnd(TurnEnd::Done),
        notice("gate: the new tests fail on b5ed8091, exit code 1"),
        notice("gate: the tests pass on cacec26a"),
        notice("pushed cacec26a: confirmed on the remote"),
        notice("CI of cacec26a: green (exit code 0)"),
        notice("deploy of cacec26a: green (exit code 0)"),
    ];
    let entries: Vec<TranscriptEntry> = events.into_iter().map(entry).collect();
    store.append(RunId(3), &entries).unwrap();
}

/// One issue whose agent asks for permission to run a command.
pub(super) fn asking() -> Fleet {
    asking_for(permission::PermissionRequest {
        tool: permission::Tool::Shell,
        title: "rm -rf build".into(),
        detail: "rm -rf build".into(),
        targets: vec!["rm -rf build".into()],
        editable: true,
    })
}

/// One issue whose agent asks for a permission.
pub(super) fn asking_for(ask: permission::PermissionRequest) -> Fleet {
    let repo = Repo::parse("acme/greeter").unwrap();
    let mut director = Director::new();
    let allowlist = [repo.clone()].into();
    let policy = Policy { kill_switch: false, capacity: 2, allowlist, ..Policy::default() };
    director.send(Input::Started { policy: Box::new(policy) });
    director.send(Input::Issues(vec![Issue {
        key: IssueKey { repo, number: 1 },
        title: "Greet by name".into(),
        link: None,
        body: "Greet.".into(),
        priority: None,
        created: Timestamp(START),
        arming: Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) },
        blockers: vec![],
        open: true,
        class: ChangeClass::default(),
        needs_human: false,
        in_progress: false,
        labels: vec![],
    }]));
    let asks_for_everything = permission::Permissions {
        default: Some(permission::Decision::Ask),
        ..permission::Permissions::default()
    };
    director.report(
        1,
        RunFact::WorktreeReady(PreparedWorktree {
            path: "/state/workspaces/1/wt-1".into(),
            branch: "afk/1-greet-by-name".into(),
            base: Sha("b5ed8091b5ed8091".into()),
            stages: Stages::all(),
            permissions: Box::new(asks_for_everything),
        }),
    );
    let ask = AgentEvent::PermissionRequest { id: "p".into(), request: Box::new(ask) };
    director.report(1, RunFact::Agent(ask));
    director.fleet
}

/// Many issues of three repositories with labels, every fifth one blocked by the first.
pub(super) fn many(count: u64) -> Fleet {
    let names = ["api", "web", "billing"];
    let repo = |name: &str| Repo::parse(&format!("acme/{name}")).unwrap();
    let mut director = Director::new();
    let allowlist = names.iter().map(|name| repo(name)).collect();
    let policy = Policy { kill_switch: true, capacity: 2, allowlist, ..Policy::default() };
    director.send(Input::Started { policy: Box::new(policy) });
    let issue = |at: u64| {
        let name = names[usize::try_from(at % 3).unwrap()];
        let trusted = Arming::Trusted { by: Actor("ana".into()), at: Timestamp(0) };
        let reference = if name == "api" { "#1" } else { "acme/api#1" };
        let blocker = Blocker { reference: reference.into(), state: BlockerState::Open };
        let blocked = at % 5 == 1;
        Issue {
            key: IssueKey { repo: repo(name), number: at / 3 + 1 },
            title: format!("Task {at}").as_str().into(),
            link: None,
            body: "Do it.".into(),
            priority: None,
            created: Timestamp(START - 60_000 * i64::try_from(at).unwrap()),
            arming: if at % 5 < 2 { trusted } else { Arming::NotReady },
            blockers: if blocked { vec![blocker] } else { vec![] },
            open: true,
            class: ChangeClass::default(),
            needs_human: false,
            in_progress: false,
            labels: vec![if at.is_multiple_of(3) { "bug".into() } else { "feature".into() }],
        }
    };
    director.send(Input::Issues((0..count).map(issue).collect()));
    director.fleet
}
