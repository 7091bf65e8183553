//! Outages: whom they hold, what they cost, who is asked, and how everything goes on.

use crate::model::activity::{Activity, TurnPrompt};
use crate::model::agent_event::{AgentEvent, TurnEnd};
use crate::model::approval::{Answer, EscalationKind, EscalationState};
use crate::model::capability::{Capabilities, Equipment};
use crate::model::effect::{Effect, Task};
use crate::model::event::Event;
use crate::model::id::RunId;
use crate::model::input::{Input, RunFact, TryFailure};
use crate::model::job::{JobKind, JobStatus};
use crate::model::ledger::Reason;
use crate::model::notice::Notice;
use crate::model::outage::{OutageCause, OutageKind};
use crate::model::outbox::{FailedDelivery, OutboxStep};
use crate::model::policy::Policy;
use crate::model::run::Outcome;
use crate::model::time::{MINUTE, Timestamp};
use crate::model::verdict::Verdict;
use crate::query::explain;
use crate::step::tests::scenario::{FleetScenario, RUN, issue, job, repo};

fn host() -> OutageCause {
    OutageCause::new(OutageKind::Remote, "git.acme.com")
}

fn failure() -> TryFailure {
    TryFailure { why: "connection refused".into(), wait_ms: 0 }
}

fn unavailable(cause: OutageCause) -> RunFact {
    RunFact::Unavailable { cause, failure: failure() }
}

/// A policy in which every repository has its remote at one host.
fn policy() -> Policy {
    let remote_names = (0..20).map(|n| (repo(n), host().subject)).collect();
    Policy { remote_names, capacity: 3, ..Policy::default() }
}

impl FleetScenario {
    /// Ticks at each deadline until an outage is tried. Returns the outages that are tried then.
    fn tick_next(&mut self) -> Vec<OutageCause> {
        for _ in 0..2000 {
            let next = self.fleet.next_deadline(&self.volatile).expect("a deadline");
            self.now = next.max(self.now.plus(500));
            self.input(Input::Tick);
            let tried = self.effects.iter().filter_map(|effect| match effect {
                Effect::ProbeOutage { cause, .. } => Some(cause.clone()),
                _ => None,
            });
            let tried: Vec<OutageCause> = tried.collect();
            if !tried.is_empty() {
                return tried;
            }
        }
        panic!("nothing is tried");
    }

    fn tried(&mut self, cause: &OutageCause, failure: Option<TryFailure>) {
        self.input(Input::OutageTried { cause: cause.clone(), failure });
    }

    /// Lets every try fail until `until`, and returns how many there were.
    fn stays_away(&mut self, cause: &OutageCause, until: Timestamp) -> usize {
        let mut tries = 0;
        while self.now < until {
            for tried in self.tick_next() {
                assert_eq!(tried, *cause);
                tries += 1;
                self.tried(cause, Some(failure()));
            }
        }
        tries
    }

    fn questions(&self) -> usize {
        let raised = |event: &&(Timestamp, Event)| {
            matches!(&event.1, Event::Escalated { escalation }
            if escalation.kind == EscalationKind::Outage)
        };
        self.events.iter().filter(raised).count()
    }

    fn outage_notices(&self) -> usize {
        let posted = |event: &&(Timestamp, Event)| {
            matches!(
                &event.1,
                Event::Posted { step: OutboxStep::Notify { what: Notice::Outage { .. }, .. }, .. }
            )
        };
        self.events.iter().filter(posted).count()
    }

    fn held(&self, run: RunId) -> bool {
        matches!(self.fleet.runs[&run].progress.activity, Activity::Held { .. })
    }
}

#[test]
fn unreachable_remote_holds_runs_and_pickup_and_both_go_on_by_themselves() {
    let mut scenario = FleetScenario::with_policy(policy());
    scenario.input(Input::Issues((1..=9).map(|n| issue(n, None)).collect()));
    for run in 1..=3 {
        scenario.report_about(RunId(run), unavailable(host()));
        assert!(scenario.held(RunId(run)), "r{run}");
    }
    scenario.input(Input::Issues((1..=10).map(|n| issue(n, None)).collect()));
    let reason = &scenario.fleet.ledger[&issue(10, None).key].reason;
    assert!(matches!(reason, Reason::Outage { .. }), "{reason:?}");
    let lines = explain::run(&scenario.fleet, RunId(1)).join("\n");
    assert!(lines.contains("the remote git.acme.com can't be reached"), "{lines}");
    assert!(lines.contains("connection refused"), "{lines}");

    let tried = scenario.tick_next();
    assert_eq!(tried, [host()], "one try for all of them");
    scenario.tried(&host(), None);
    for run in 1..=3 {
        let run = &scenario.fleet.runs[&RunId(run)];
        assert_eq!((&run.progress.activity, run.progress.failures), (&Activity::Worktree, 0));
    }
    let reason = &scenario.fleet.ledger[&issue(10, None).key].reason;
    assert!(!matches!(reason, Reason::Outage { .. }), "{reason:?}");
    assert_eq!((scenario.questions(), scenario.outage_notices()), (0, 0), "a blip tells nobody");
}

#[test]
fn outage_of_two_hours_asks_once_and_notifies_once() {
    let mut scenario = FleetScenario::in_turn(policy());
    scenario.end_turn(TurnEnd::Done);
    scenario.report(unavailable(host()));
    let began = scenario.now;
    let tries = scenario.stays_away(&host(), began.plus(120 * MINUTE));
    assert!((20..60).contains(&tries), "the pauses grow to a bound: {tries}");
    assert_eq!((scenario.questions(), scenario.outage_notices()), (1, 1));
    let question = scenario.fleet.inbox()[0].clone();
    assert_eq!(question.kind, EscalationKind::Outage);
    let asked = question.raised.since(began);
    assert!((30 * MINUTE..31 * MINUTE).contains(&asked), "{asked}");
    assert!(question.detail.as_received().contains("r1"), "{:?}", question.detail);
    let run = scenario.run();
    assert!(run.live() && !run.has_permit(), "others may work meanwhile");
    assert_eq!((run.progress.failures, run.progress.attempts, run.agent.turns), (0, 0, 1));

    scenario.tick_next();
    scenario.tried(&host(), None);
    assert_eq!(scenario.run().progress.activity, Activity::Gate);
    assert!(scenario.run().has_permit());
    scenario.report_gate("h1", true, true);
    assert!(scenario.fleet.outages.is_empty());
    let state = &scenario.fleet.escalations[&question.id].state;
    assert!(matches!(state, EscalationState::Withdrawn { .. }), "{state:?}");
}

#[test]
fn each_phase_waits_without_spending_anything() {
    for phase in ["worktree", "turn", "gate", "push", "stage"] {
        let mut scenario = FleetScenario::with_policy(policy());
        scenario.input(Input::Issues(vec![issue(1, None)]));
        if phase != "worktree" {
            scenario = FleetScenario::in_turn(policy());
        }
        if matches!(phase, "gate" | "push" | "stage") {
            scenario.end_turn(TurnEnd::Done);
        }
        if matches!(phase, "push" | "stage") {
            scenario.report_gate("h1", true, true);
        }
        if phase == "stage" {
            scenario.report(RunFact::Pushed { head: super::scenario::sha("h1") });
        }
        let before = scenario.run().clone();
        scenario.report(unavailable(host()));
        let until = scenario.now.plus(121 * MINUTE);
        scenario.stays_away(&host(), until);
        assert_eq!(scenario.questions(), 1, "{phase}");
        scenario.tick_next();
        scenario.tried(&host(), None);
        let after = scenario.run();
        assert_eq!(after.progress.activity, before.progress.activity, "{phase}");
        assert_eq!(after.agent.turns, before.agent.turns, "{phase}");
        let counters = |run: &crate::model::run::Run| {
            let progress = &run.progress;
            (progress.attempts, progress.failures, progress.gate_closed, progress.push_rejections)
        };
        assert_eq!(counters(after), counters(&before), "{phase}");
        let begun = scenario.effects.iter().filter(|e| matches!(e, Effect::Begin { .. })).count();
        assert_eq!(begun, 1, "{phase}");
    }
}

#[test]
fn three_remotes_that_are_away_ask_one_question() {
    let mut scenario = FleetScenario::with_policy(Policy { capacity: 3, ..Policy::default() });
    scenario.input(Input::Issues((1..=3).map(|n| issue(n, None)).collect()));
    let cause = |n: u64| OutageCause::new(OutageKind::Remote, format!("/srv/{n}.git"));
    for n in 1..=3 {
        scenario.report_about(RunId(n), unavailable(cause(n)));
        scenario.now = scenario.now.plus(1000);
    }
    let until = scenario.now.plus(60 * MINUTE);
    while scenario.now < until {
        for tried in scenario.tick_next() {
            scenario.tried(&tried, Some(failure()));
        }
    }
    assert_eq!(scenario.questions(), 1);
    assert!(scenario.outage_notices() <= 3);
    for n in 1..=3 {
        scenario.tried(&cause(n), None);
    }
    scenario.now = scenario.now.plus(60 * MINUTE);
    scenario.input(Input::Tick);
    assert!(scenario.fleet.outages.is_empty() && scenario.fleet.inbox().is_empty());
}

#[test]
fn try_that_succeeds_while_the_task_still_fails_continues_the_outage() {
    let mut scenario = FleetScenario::in_turn(policy());
    scenario.end_turn(TurnEnd::Done);
    scenario.report_gate("h1", true, true);
    let login = OutageCause::new(OutageKind::Credential, "git.acme.com");
    let (began, mut pushes) = (scenario.now, 0);
    scenario.report(unavailable(login.clone()));
    while scenario.now.since(began) < 90 * MINUTE {
        for tried in scenario.tick_next() {
            scenario.tried(&tried, None);
        }
        if scenario.run().progress.activity == Activity::Push {
            pushes += 1;
            scenario.report(unavailable(login.clone()));
        }
    }
    assert!(pushes < 60, "{pushes} pushes in 90 minutes");
    assert_eq!(scenario.questions(), 1);
    assert_eq!(scenario.fleet.inbox().len(), 1, "the question stays");
    // An operator may have it tried at once.
    assert!(scenario.answer_newest(Answer::Approve).is_ok());
    assert!(scenario.effects.iter().any(|e| matches!(e, Effect::ProbeOutage { .. })));
    scenario.tried(&login, None);
    scenario.report(RunFact::Pushed { head: super::scenario::sha("h1") });
    assert!(scenario.fleet.outages.is_empty());
}

#[test]
fn outage_survives_a_restart() {
    let mut scenario = FleetScenario::in_turn(policy());
    scenario.end_turn(TurnEnd::Done);
    scenario.report(unavailable(host()));
    assert_eq!(scenario.tick_next(), [host()]);
    scenario.volatile = crate::fleet::volatile::Volatile::default();
    scenario.now = scenario.now.plus(10 * MINUTE);
    scenario.input(Input::Started { policy: Box::new(scenario.fleet.policy.clone()) });
    assert!(scenario.held(RUN));
    assert_eq!(scenario.tick_next(), [host()], "the lost try is made again");
    scenario.tried(&host(), None);
    assert_eq!(scenario.run().progress.activity, Activity::Gate);
}

#[test]
fn time_of_an_outage_counts_for_no_limit() {
    let mut scenario = FleetScenario::in_ci(policy());
    scenario.report_verdict("h1", Verdict::Red);
    let first = scenario.run().progress.first_red.unwrap();
    scenario.end_turn(TurnEnd::Done);
    scenario.report(unavailable(host()));
    let until = scenario.now.plus(120 * MINUTE);
    scenario.stays_away(&host(), until);
    scenario.tick_next();
    scenario.tried(&host(), None);
    let held = scenario.now.since(first);
    let counted = scenario.now.since(scenario.run().progress.first_red.unwrap());
    assert!(counted < MINUTE && held >= 120 * MINUTE, "{counted} of {held}");
    scenario.report_gate("h2", true, true);
    scenario.report(RunFact::Pushed { head: super::scenario::sha("h2") });
    scenario.report_verdict("h2", Verdict::Red);
    assert!(scenario.run().live(), "the fix-forward time was not spent by the outage");
    assert_eq!(scenario.run().progress.attempts, 2);
    scenario.report(unavailable(host()));
    assert_eq!(scenario.run().agent.turns, 2);
}

#[test]
fn ci_that_is_away_freezes_nothing_and_its_time_is_given_back() {
    let mut scenario = FleetScenario::in_ci(policy());
    let ci = OutageCause::new(OutageKind::Ci, "https://ci.acme.com");
    scenario.report(unavailable(ci.clone()));
    let until = scenario.now.plus(120 * MINUTE);
    scenario.stays_away(&ci, until);
    scenario.tick_next();
    scenario.tried(&ci, None);
    assert!(scenario.run().progress.unseen_ms >= 120 * MINUTE);
    let begun = scenario
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Begin { task: Task::Stage { .. }, .. }));
    assert!(begun && scenario.run().live());
}

#[test]
fn full_disk_holds_every_repository() {
    let mut scenario = FleetScenario::with_policy(policy());
    scenario.input(Input::Issues(vec![issue(1, None)]));
    let disk = OutageCause::new(OutageKind::Disk, "/state");
    scenario.report(unavailable(disk.clone()));
    scenario.input(Input::Issues(vec![issue(1, None), issue(2, None)]));
    let reason = &scenario.fleet.ledger[&issue(2, None).key].reason;
    assert_eq!(*reason, Reason::Outage { cause: disk.clone() });
    scenario.tick_next();
    scenario.tried(&disk, None);
    assert_eq!(scenario.fleet.live.len(), 2);
}

#[test]
fn cancelled_run_leaves_no_outage_behind() {
    let mut scenario = FleetScenario::in_turn(policy());
    scenario.end_turn(TurnEnd::Done);
    scenario.report(unavailable(host()));
    let cancel = crate::model::command::Command::Cancel { run: RUN };
    assert!(scenario.operate(cancel).is_ok());
    assert_eq!(scenario.outcome(), Some(Outcome::Cancelled));
    scenario.tick_next();
    scenario.tried(&host(), None);
    assert!(scenario.fleet.outages.is_empty());
}

#[test]
fn sleep_gives_an_open_question_the_time_that_it_had_left() {
    let mut scenario = FleetScenario::in_turn(Policy { answer_ms: 60 * MINUTE, ..policy() });
    scenario.agent_event(crate::model::agent_event::AgentEvent::Question {
        id: "q".into(),
        text: "which?".into(),
        options: vec![],
    });
    scenario.now = scenario.now.plus(9 * 60 * MINUTE);
    scenario.input(Input::TimeSkipped { ms: 9 * 60 * MINUTE });
    scenario.input(Input::Tick);
    assert_eq!(scenario.fleet.inbox().len(), 1, "nobody had a chance to answer");
    scenario.now = scenario.now.plus(61 * MINUTE);
    scenario.input(Input::Tick);
    assert!(scenario.fleet.inbox().is_empty(), "nobody answered in time");
}

#[test]
fn clock_that_was_ahead_is_set_back_with_every_stamp() {
    const AHEAD: i64 = 40 * 24 * 60 * MINUTE;
    let mut scenario = FleetScenario::in_turn(Policy { answer_ms: 60 * MINUTE, ..policy() });
    let before = scenario.now;
    scenario.now = before.plus(AHEAD);
    scenario.input(Input::TimeSkipped { ms: AHEAD });
    scenario.agent_event(crate::model::agent_event::AgentEvent::Question {
        id: "q".into(),
        text: "which?".into(),
        options: vec![],
    });
    scenario.input(Input::Issues(vec![issue(1, None), issue(2, None)]));
    scenario.now = before.plus(MINUTE);
    scenario.input(Input::TimeSkipped { ms: -AHEAD });
    assert_eq!(scenario.fleet.last_event, before.plus(MINUTE));
    let expires = scenario.fleet.inbox()[0].expires.unwrap();
    assert!(expires.since(scenario.now) <= 60 * MINUTE, "{expires:?}");
    let ahead = scenario.fleet.live_runs().find(|run| run.progress.claimed > scenario.now);
    assert!(ahead.is_none(), "{ahead:?}");
    scenario.now = before.plus(2 * MINUTE);
    assert_eq!(scenario.input(Input::Tick).at, before.plus(2 * MINUTE), "stamps recover");
    // A fold of the journal gives the same fleet.
    let mut folded = crate::fleet::Fleet::default();
    for (at, event) in &scenario.events {
        folded.apply(*at, event);
    }
    assert_eq!(folded, scenario.fleet);
}

/// Ends the turn of the first run, and returns whether the run is held.
fn held_after(scenario: &mut FleetScenario, end: TurnEnd) -> bool {
    scenario.end_turn(end);
    matches!(scenario.run().progress.activity, Activity::Held { .. })
}

#[test]
fn usage_limit_is_waited_out_without_a_question() {
    let mut scenario = FleetScenario::in_turn(policy());
    let until = scenario.now.plus(90 * MINUTE);
    assert!(held_after(&mut scenario, TurnEnd::UsageLimit { until, why: "limit".into() }));
    let turns = scenario.run().agent.turns;
    scenario.now = until.plus(-MINUTE);
    scenario.input(Input::Tick);
    assert!(!scenario.effects.iter().any(|e| matches!(e, Effect::ProbeOutage { .. })));
    assert!(scenario.fleet.inbox().is_empty(), "nobody is asked");
    scenario.now = until.plus(MINUTE);
    scenario.input(Input::Tick);
    let cause = OutageCause::new(OutageKind::UsageLimit, "the agent");
    scenario.input(Input::OutageTried { cause, failure: None });
    // A run that returned its permit waits for one, and goes on with the conversation.
    let Activity::Turn { prompt } = &scenario.run().progress.activity else {
        panic!("{:?}", scenario.run().progress.activity)
    };
    assert!(matches!(prompt, TurnPrompt::Continue { .. }), "{prompt:?}");
    assert_eq!(scenario.run().agent.turns, turns + 1);
    assert_eq!((scenario.run().progress.failures, scenario.run().progress.attempts), (0, 0));
}

#[test]
fn refused_login_is_tried_again_and_asked_about_once() {
    let refused = || TurnEnd::ApiError { status: Some(401), why: "invalid key".into() };
    let mut scenario = FleetScenario::in_turn(policy());
    assert!(held_after(&mut scenario, refused()));
    let cause = OutageCause::new(OutageKind::AgentLogin, "the agent");
    let mut asked = 0;
    for _ in 0..12 {
        scenario.now = scenario.now.plus(MINUTE);
        scenario.input(Input::Tick);
        if scenario.effects.iter().any(|e| matches!(e, Effect::ProbeOutage { .. })) {
            scenario.input(Input::OutageTried { cause: cause.clone(), failure: None });
            assert!(held_after(&mut scenario, refused()));
        }
        asked = asked.max(scenario.fleet.inbox().len());
    }
    assert_eq!(asked, 1);
    assert_eq!(scenario.outcome(), None);
    let question = scenario.fleet.inbox()[0].title.clean_line();
    assert!(question.contains("login"), "{question}");
}

#[test]
fn step_behind_a_failed_one_of_its_issue_is_no_deadline() {
    let remote = [repo(1)].into();
    let mut scenario = FleetScenario::with_policy(Policy { remote, ..policy() });
    let armed = issue(1, None);
    scenario.input(Input::Issues(vec![armed.clone()]));
    let read = Ok(Some(Box::new(armed.clone())));
    scenario.input(Input::IssueRead { key: armed.key, read });
    let entries: Vec<_> = scenario.fleet.outbox.keys().copied().collect();
    assert!(entries.len() > 1, "{entries:?}");
    let in_flight = scenario.fleet.next_deadline(&scenario.volatile);
    assert!(in_flight.is_none_or(|at| at > scenario.now), "{in_flight:?}");
    let error = "connection refused".into();
    scenario.input(Input::NotDelivered(FailedDelivery {
        entry: entries[0],
        error,
        wait: 0,
        doubtful: false,
    }));
    let next = scenario.fleet.next_deadline(&scenario.volatile).unwrap();
    assert!(next > scenario.now, "a tick at {next:?} would do nothing");
}

/// A job in a clone, with a time limit of ten minutes, whose clone can't be made.
fn held_job() -> (FleetScenario, RunId) {
    let mut scenario = FleetScenario::with_policy(policy());
    let run = scenario.submit(job(1, JobKind::Execute { clone: true }));
    scenario.report_about(run, unavailable(host()));
    assert!(scenario.held(run));
    (scenario, run)
}

#[test]
fn job_waits_for_its_remote_and_goes_on() {
    let (mut scenario, run) = held_job();
    let until = scenario.now.plus(2 * MINUTE);
    scenario.stays_away(&host(), until);
    assert!(scenario.held(run) && !scenario.fleet.runs[&run].has_permit());
    assert_eq!(scenario.fleet.runs[&run].job_status(), JobStatus::Running);
    scenario.tick_next();
    scenario.tried(&host(), None);
    assert_eq!(scenario.fleet.runs[&run].progress.activity, Activity::Worktree);
}

#[test]
fn job_waits_for_its_remote_no_longer_than_its_own_time() {
    let (mut scenario, run) = held_job();
    let until = scenario.now.plus(11 * MINUTE);
    while scenario.now < until {
        let next = scenario.fleet.next_deadline(&scenario.volatile).expect("a deadline");
        scenario.now = next.max(scenario.now.plus(500));
        scenario.input(Input::Tick);
        scenario.tried(&host(), Some(failure()));
    }
    let ended = &scenario.fleet.runs[&run];
    assert_eq!(ended.progress.outcome, Some(Outcome::Failed));
    let (why, at) = (ended.progress.why.clean_line(), ended.progress.ended.unwrap());
    assert!(why.contains("can't be reached") && why.contains("connection refused"), "{why}");
    assert!(at.since(until.plus(-MINUTE)).abs() < 1000, "{at:?}");
    assert!(scenario.fleet.inbox().is_empty(), "its caller decides");
}

#[test]
fn steps_on_a_tracker_wait_for_the_end_of_its_outage() {
    let remote = [repo(1)].into();
    let mut scenario = FleetScenario::with_policy(Policy { remote, ..policy() });
    let armed = issue(1, None);
    scenario.input(Input::Issues(vec![armed.clone()]));
    let read = Ok(Some(Box::new(armed.clone())));
    scenario.input(Input::IssueRead { key: armed.key, read });
    let forge = OutageCause::new(OutageKind::Forge, "https://api.github.com");
    let away = failure();
    scenario.input(Input::Unavailable { cause: forge.clone(), repo: None, failure: away });
    let entry = *scenario.fleet.outbox.keys().next().unwrap();
    let error = "502".into();
    scenario.input(Input::NotDelivered(FailedDelivery { entry, error, wait: 0, doubtful: false }));
    let until = scenario.now.plus(120 * MINUTE);
    while scenario.now < until {
        for tried in scenario.tick_next() {
            scenario.tried(&tried, Some(failure()));
            let delivers = |effect: &Effect| matches!(effect, Effect::Deliver { .. });
            assert!(!scenario.effects.iter().any(delivers), "{:?}", scenario.effects);
        }
    }
    assert_eq!(scenario.fleet.outbox[&entry].failures, 1, "nothing is tried in vain");
    assert_eq!(scenario.questions(), 1);
    scenario.tick_next();
    scenario.tried(&forge, None);
    let due =
        |effect: &Effect| matches!(effect, Effect::Deliver { entry: due, .. } if *due == entry);
    assert!(scenario.effects.iter().any(due), "{:?}", scenario.effects);
}

#[test]
fn rights_that_a_cluster_refuses_are_asked_about_early() {
    let mut scenario = FleetScenario::in_ci(policy());
    let cause = OutageCause::new(OutageKind::ClusterLogin, "prod");
    scenario.report(unavailable(cause.clone()));
    let until = scenario.now.plus(4 * MINUTE);
    while scenario.now < until {
        for tried in scenario.tick_next() {
            // Only another rollout shows that the rights are there.
            scenario.tried(&tried, None);
            scenario.report(unavailable(cause.clone()));
        }
    }
    assert_eq!((scenario.questions(), scenario.outcome()), (1, None));
    let question = scenario.fleet.inbox()[0].title.clean_line();
    assert!(question.contains("prod"), "{question}");
}

/// The agent of the first run, with the agents that take its place.
fn equipped(scenario: &mut FleetScenario, agent: &str, fallback: &[&str]) {
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
    scenario.agent_event(AgentEvent::Equipped(Box::new(equipment)));
}

#[test]
fn another_agent_takes_the_turns_of_one_at_its_limit() {
    let mut scenario = FleetScenario::in_turn(policy());
    let limit = |scenario: &FleetScenario| TurnEnd::UsageLimit {
        until: scenario.now.plus(90 * MINUTE),
        why: "limit".into(),
    };
    let session = |session: &str| AgentEvent::SessionStarted {
        session: session.into(),
        model: None,
        version: None,
    };
    equipped(&mut scenario, "claude", &["codex", "gemini"]);
    scenario.agent_event(session("s1"));
    let end = limit(&scenario);
    assert!(!held_after(&mut scenario, end), "codex takes the turn");
    let run = scenario.run();
    assert_eq!((run.agent.instead.as_deref(), &run.agent.session), (Some("codex"), &None));
    assert_eq!(run.progress.failures, 0);
    assert!(matches!(
        &run.progress.activity,
        Activity::Turn { prompt: TurnPrompt::Continue { .. } }
    ));
    // The limit is known, and holds nothing of the repository.
    let cause = OutageCause::new(OutageKind::UsageLimit, "claude");
    let outage = scenario.fleet.outages.of(&cause).unwrap();
    assert!(outage.repos.is_empty() && scenario.fleet.inbox().is_empty());
    // One that can't log in is passed over; one without another waits.
    equipped(&mut scenario, "codex", &["claude", "gemini"]);
    scenario.agent_event(session("s2"));
    let refused = TurnEnd::ApiError { status: Some(401), why: "invalid key".into() };
    assert!(!held_after(&mut scenario, refused));
    assert_eq!(scenario.run().agent.instead.as_deref(), Some("gemini"));
    equipped(&mut scenario, "gemini", &["claude"]);
    let end = limit(&scenario);
    assert!(held_after(&mut scenario, end), "claude is at its limit");
}

#[test]
fn api_and_git_of_one_forge_ask_one_question() {
    let git = OutageCause::new(OutageKind::Remote, "github.com");
    for (api, questions) in [("https://api.github.com", 1), ("https://ghe.acme.com", 2)] {
        let mut scenario = FleetScenario::in_turn(policy());
        scenario.end_turn(TurnEnd::Done);
        scenario.report(unavailable(git.clone()));
        let forge = OutageCause::new(OutageKind::Forge, api);
        scenario.now = scenario.now.plus(3_000);
        let away = Input::Unavailable { cause: forge, repo: None, failure: failure() };
        scenario.input(away);
        let until = scenario.now.plus(60 * MINUTE);
        while scenario.now < until {
            for tried in scenario.tick_next() {
                scenario.tried(&tried, Some(failure()));
            }
        }
        assert_eq!(scenario.questions(), questions, "{api}");
    }
}
