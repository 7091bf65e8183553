//! Runs and jobs whose agent has others that can take its turns: who waits for what, who goes on, and
//! what reaches a human.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::EscalationState;
use crate::model::capability::{Capabilities, Equipment};
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::id::{RunId, Sha};
use crate::model::input::{Input, RunFact, TryFailure};
use crate::model::job::{JobKind, JobStatus};
use crate::model::outage::{OutageCause, OutageKind};
use crate::model::policy::Policy;
use crate::model::stage::Stages;
use crate::model::time::MINUTE;
use crate::model::worktree::PreparedWorktree;
use crate::query::condition::{Urgency, condition};
use crate::query::explain;
use crate::step::tests::scenario::{self, FleetScenario, RUN, repo};

const HOUR: i64 = 60 * MINUTE;

fn limit_of(agent: &str) -> OutageCause {
    OutageCause::new(OutageKind::UsageLimit, agent)
}

fn login_of(agent: &str) -> OutageCause {
    OutageCause::new(OutageKind::AgentLogin, agent)
}

fn refused() -> TurnEnd {
    TurnEnd::ApiError { status: Some(401), why: "invalid key".into() }
}

impl FleetScenario {
    /// Reports the agent of a run, with the agents that take its place.
    fn equip(&mut self, run: RunId, agent: &str, fallback: &[&str]) {
        let equipment = Equipment {
            agent: agent.into(),
            can: Capabilities::default(),
            model: None,
            version: None,
            place: None,
            folder: None,
            fallback: fallback.iter().map(|name| (*name).to_owned()).collect(),
            unasked: Vec::new(),
        };
        let event = AgentEvent::Equipped(Box::new(equipment));
        self.report_about(run, RunFact::Agent(event));
        let session = format!("of {agent}");
        let started = AgentEvent::SessionStarted { session, model: None, version: None };
        self.report_about(run, RunFact::Agent(started));
    }

    fn end_turn_of(&mut self, run: RunId, end: TurnEnd) {
        self.report_about(run, RunFact::Agent(AgentEvent::TurnEnd(end)));
    }

    /// Ends the turn of a run at a usage limit that lasts for so many milliseconds.
    fn limited(&mut self, run: RunId, ms: i64) {
        let until = self.now.plus(ms);
        self.end_turn_of(run, TurnEnd::UsageLimit { until, why: "limit".into() });
    }

    fn tries_well(&mut self, cause: &OutageCause) {
        self.input(Input::OutageTried { cause: cause.clone(), failure: None });
    }

    fn waits(&self, run: RunId) -> bool {
        matches!(self.fleet.runs[&run].progress.activity, Activity::Held { .. })
    }

    /// The agent that takes the present turn of a run.
    fn at_work(&self, run: RunId) -> Option<String> {
        let agent = &self.fleet.runs[&run].agent;
        let first = agent.preferred.as_ref().map(|first| first.agent.clone());
        let known = agent.equipment.as_ref().map(|equipment| equipment.agent.clone());
        agent.instead.clone().or(first).or(known)
    }

    fn folds(&self) {
        let mut folded = crate::fleet::Fleet::default();
        for (at, event) in &self.events {
            folded.apply(*at, event);
        }
        assert_eq!(folded, self.fleet);
    }

    /// A job with a time limit of ten minutes that is in its turn, with an agent that has a fallback.
    fn job_in_turn(&mut self, n: u8, kind: JobKind, fallback: &[&str]) -> RunId {
        let clone = matches!(kind, JobKind::Execute { clone: true });
        let run = self.submit(scenario::job(n, kind));
        if clone {
            let ready = RunFact::WorktreeReady(PreparedWorktree {
                path: "/j".into(),
                branch: "HEAD".into(),
                base: Sha("b".into()),
                stages: Stages::default(),
                permissions: Box::default(),
            });
            self.report_about(run, ready);
        }
        self.equip(run, "claude", fallback);
        run
    }
}

#[test]
fn limit_of_a_fallback_holds_the_fallback_alone() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.equip(RUN, "claude", &["codex"]);
    scenario.limited(RUN, HOUR);
    scenario.equip(RUN, "codex", &[]);
    scenario.limited(RUN, 5 * HOUR);
    assert!(scenario.waits(RUN), "both are at their limits");
    for agent in ["claude", "codex"] {
        let outage = scenario.fleet.outages.of(&limit_of(agent)).unwrap();
        assert!(outage.repos.is_empty(), "{agent} holds {:?}", outage.repos);
    }
    assert_eq!(scenario.fleet.outage_of(&repo(1)), None, "the repository goes on");
    assert!(scenario.fleet.inbox().is_empty());
    // The first preset is back four hours before its fallback.
    scenario.now = scenario.now.plus(HOUR + MINUTE);
    scenario.input(Input::Tick);
    scenario.tries_well(&limit_of("claude"));
    assert!(!scenario.waits(RUN));
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("claude"));
    let run = scenario.run();
    assert_eq!((&run.agent.instead, &run.agent.session), (&None, &None));
    assert_eq!((run.progress.failures, run.progress.attempts), (0, 0));
    assert!(scenario.fleet.outages.holds(&limit_of("codex")), "the fallback waits on");
    scenario.folds();
}

#[test]
fn run_of_a_first_preset_goes_on_with_the_fallback_that_is_back_first() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.equip(RUN, "claude", &["codex"]);
    scenario.limited(RUN, 5 * HOUR);
    scenario.equip(RUN, "codex", &[]);
    scenario.limited(RUN, HOUR);
    assert!(scenario.waits(RUN));
    scenario.now = scenario.now.plus(HOUR + MINUTE);
    scenario.input(Input::Tick);
    scenario.tries_well(&limit_of("codex"));
    assert!(!scenario.waits(RUN));
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("codex"));
    assert_eq!(scenario.run().agent.session.as_deref(), Some("of codex"), "in its conversation");
}

#[test]
fn new_turn_uses_the_first_preset_again_once_it_is_back() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.equip(RUN, "claude", &["codex"]);
    scenario.limited(RUN, HOUR);
    scenario.equip(RUN, "codex", &[]);
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h1", true, false);
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("codex"), "claude is still away");
    assert_eq!(scenario.run().agent.session.as_deref(), Some("of codex"));
    scenario.equip(RUN, "codex", &[]);
    scenario.now = scenario.now.plus(HOUR + MINUTE);
    scenario.input(Input::Tick);
    scenario.tries_well(&limit_of("claude"));
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("codex"), "a turn keeps its agent");
    let failures = scenario.run().progress.failures;
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h2", true, false);
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("claude"));
    assert_eq!(scenario.run().agent.session, None, "in a conversation of its own");
    assert!(scenario.run().progress.failures <= failures);
    scenario.folds();
}

#[test]
fn refused_login_is_one_question_until_it_works_while_the_fallback_goes_on() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.equip(RUN, "claude", &["codex"]);
    scenario.end_turn(refused());
    scenario.equip(RUN, "codex", &[]);
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("codex"));
    let (mut asked, mut tries) = (0, 0);
    for _ in 0..60 {
        scenario.now = scenario.now.plus(MINUTE);
        scenario.input(Input::Tick);
        let probes = |effect: &Effect| matches!(effect, Effect::ProbeOutage { cause, .. } if *cause == login_of("claude"));
        if scenario.effects.iter().any(probes) {
            tries += 1;
            let failure = TryFailure { why: "invalid key".into(), wait_ms: 0 };
            let cause = login_of("claude");
            scenario.input(Input::OutageTried { cause, failure: Some(failure) });
        }
        let raised = |(_, event): &&(_, Event)| matches!(event, Event::Escalated { .. });
        asked = scenario.events.iter().filter(raised).count();
    }
    assert!(tries > 5, "{tries}");
    assert_eq!((asked, scenario.fleet.inbox().len()), (1, 1), "asked once, and still open");
    let question = scenario.fleet.inbox()[0].clone();
    assert!(question.title.clean_line().contains("claude"), "{}", question.title.clean_line());
    assert!(question.detail.as_received().contains("codex"), "{}", question.detail.as_received());
    assert!(scenario.run().live() && !scenario.waits(RUN));
    // The first line and the row say who works.
    let now = condition(&scenario.fleet, scenario.now);
    assert!(now.text.contains("codex") && now.urgency == Urgency::Attention, "{now:?}");
    let row = scenario.run().doing(scenario.now);
    assert!(row.contains("codex in place of claude"), "{row}");
    let lines = explain::run(&scenario.fleet, RUN).join("\n");
    assert!(lines.contains("in place of claude"), "{lines}");
    scenario.tries_well(&login_of("claude"));
    let state = &scenario.fleet.escalations[&question.id].state;
    assert!(matches!(state, EscalationState::Withdrawn { .. }), "{state:?}");
    assert!(scenario.fleet.outages.is_empty());
}

#[test]
fn job_at_a_limit_falls_back_as_a_run_does() {
    for kind in [JobKind::Execute { clone: true }, JobKind::Chat] {
        let mut scenario = FleetScenario::with_policy(Policy::default());
        let run = scenario.job_in_turn(1, kind.clone(), &["codex"]);
        scenario.limited(run, HOUR);
        assert_eq!(scenario.at_work(run).as_deref(), Some("codex"), "{kind:?}");
        let job = &scenario.fleet.runs[&run];
        assert_eq!((job.job_status(), &job.agent.session), (JobStatus::Running, &None));
        let Activity::Turn { prompt } = &job.progress.activity else { panic!("{kind:?}") };
        // The question itself is asked again; work goes on where it stopped.
        assert_eq!(*prompt == TurnPrompt::Adhoc, kind == JobKind::Chat, "{prompt:?}");
        scenario.equip(run, "codex", &[]);
        scenario.end_turn_of(run, TurnEnd::Done);
        if kind != JobKind::Chat {
            scenario.report_about(run, RunFact::Collected { commits: None });
        }
        let job = &scenario.fleet.runs[&run];
        assert_eq!(job.job_status(), JobStatus::Completed);
        let remarks = job.agent.remarks().join("\n");
        assert!(remarks.contains("codex") && remarks.contains("claude has reached"), "{remarks}");
        assert!(scenario.fleet.inbox().is_empty());
        scenario.folds();
    }
}

#[test]
fn job_waits_for_a_limit_within_its_own_time() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let run = scenario.job_in_turn(1, JobKind::Chat, &[]);
    scenario.limited(run, 3 * MINUTE);
    assert!(scenario.waits(run), "{:?}", scenario.fleet.runs[&run].progress.activity);
    assert_eq!(scenario.fleet.runs[&run].job_status(), JobStatus::Running);
    assert!(scenario.fleet.outages.holds(&limit_of("claude")), "one cause for the fleet");
    scenario.now = scenario.now.plus(4 * MINUTE);
    scenario.input(Input::Tick);
    scenario.tries_well(&limit_of("claude"));
    let job = &scenario.fleet.runs[&run];
    assert!(matches!(job.progress.activity, Activity::Turn { .. }), "{job:?}");
    scenario.end_turn_of(run, TurnEnd::Done);
    assert_eq!(scenario.fleet.runs[&run].job_status(), JobStatus::Completed);
}

#[test]
fn job_whose_time_ends_before_the_limit_does_fails_at_once_and_says_why() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let run = scenario.job_in_turn(1, JobKind::Execute { clone: true }, &[]);
    scenario.limited(run, HOUR);
    let collects =
        |effect: &Effect| matches!(effect, Effect::Begin { task: Task::Collect { .. }, .. });
    assert!(scenario.effects.iter().any(collects), "its commits stay: {:?}", scenario.effects);
    scenario.report_about(run, RunFact::Collected { commits: None });
    let job = &scenario.fleet.runs[&run];
    assert_eq!(job.job_status(), JobStatus::Failed);
    let why = job.progress.why.clean_line();
    assert!(why.contains("usage limit") && why.contains("job's time"), "{why}");
    assert!(scenario.fleet.inbox().is_empty(), "its caller decides");
    assert!(scenario.fleet.outages.holds(&limit_of("claude")), "others know it");
}

#[test]
fn job_that_waited_in_vain_keeps_its_commits() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let run = scenario.job_in_turn(1, JobKind::Execute { clone: true }, &[]);
    scenario.end_turn_of(run, refused());
    assert!(scenario.waits(run));
    let mut collected = false;
    for _ in 0..12 {
        scenario.now = scenario.now.plus(MINUTE);
        scenario.input(Input::Tick);
        let collects =
            |effect: &Effect| matches!(effect, Effect::Begin { task: Task::Collect { .. }, .. });
        collected |= scenario.effects.iter().any(collects);
    }
    assert!(collected, "{:?}", scenario.fleet.runs[&run].progress.activity);
    scenario.report_about(run, RunFact::Collected { commits: None });
    let why = scenario.fleet.runs[&run].progress.why.clean_line();
    assert!(why.contains("401") && why.contains("job's time"), "{why}");
}

#[test]
fn conversation_of_a_fallback_returns_to_the_first_preset() {
    let mut scenario = FleetScenario::with_policy(Policy::default());
    let converse = || JobKind::Converse { session: "s".into() };
    let first = scenario.job_in_turn(1, converse(), &["codex"]);
    scenario.limited(first, HOUR);
    scenario.equip(first, "codex", &[]);
    scenario.end_turn_of(first, TurnEnd::Done);
    // The fallback's conversation goes on while the first preset is away.
    let second = scenario.job_in_turn(2, converse(), &["codex"]);
    let job = &scenario.fleet.runs[&second];
    assert_eq!(job.agent.instead.as_deref(), Some("codex"));
    scenario.equip(second, "codex", &[]);
    scenario.end_turn_of(second, TurnEnd::Done);
    scenario.now = scenario.now.plus(2 * HOUR);
    scenario.input(Input::Tick);
    scenario.tries_well(&limit_of("claude"));
    let run = scenario.submit(scenario::job(3, converse()));
    let job = &scenario.fleet.runs[&run];
    assert_eq!((&job.agent.instead, &job.agent.session), (&None, &None));
    let known = scenario.fleet.jobs.conversation("s").unwrap();
    assert_eq!(known.runs, [first, second], "its handover reads these");
    scenario.folds();
}

#[test]
fn run_whose_agent_ran_a_refused_command_says_so() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    for command in ["git push --force", "git push -f", "make"] {
        scenario.report(RunFact::CommandRan { command: command.into() });
    }
    let unasked = scenario.run().agent.unasked.clone().unwrap();
    assert_eq!((unasked.count, unasked.latest.clean_line().as_str()), (2, "git push -f"));
    let lines = explain::run(&scenario.fleet, RUN).join("\n");
    assert!(lines.contains("ran 2 refused commands without asking"), "{lines}");
    let row = scenario.run().doing(scenario.now);
    assert!(row.contains("ran 2 refused commands without asking"), "{row}");
    scenario.folds();
}

#[test]
fn run_waits_on_for_an_agent_that_two_outages_hold() {
    let mut scenario = FleetScenario::in_turn(Policy::default());
    scenario.equip(RUN, "claude", &["codex"]);
    scenario.end_turn(refused());
    scenario.equip(RUN, "codex", &[]);
    scenario.limited(RUN, HOUR);
    assert!(scenario.waits(RUN));
    let failure = TryFailure { why: "limit".into(), wait_ms: 9 * HOUR };
    let input =
        Input::Unavailable { cause: limit_of("claude"), repo: None, failure: failure.clone() };
    scenario.input(input);
    let input = Input::Unavailable { cause: login_of("codex"), repo: None, failure };
    scenario.input(input);
    scenario.tries_well(&limit_of("codex"));
    assert!(scenario.waits(RUN), "its login is refused");
    scenario.tries_well(&login_of("codex"));
    assert!(!scenario.waits(RUN));
    assert_eq!(scenario.at_work(RUN).as_deref(), Some("codex"));
    scenario.folds();
}
