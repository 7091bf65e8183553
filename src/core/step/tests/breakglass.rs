//! Breakglass: who may use it, when and how often, and what each report leads to.

use crate::fleet::Fleet;
use crate::fleet::volatile::Volatile;
use crate::model::approval::Answer;
use crate::model::breakglass::{
    BreakglassEvent, BreakglassRefusal, BreakglassReport, BreakglassRequest, BreakglassRules,
    BreakglassTask, Confirmation, Verb, VerbEnd, VerbId, VerbResult,
};
use crate::model::command::{Accepted, Command, CommandEnvelope, Refusal, Reply, Role};
use crate::model::effect::Effect;
use crate::model::event::Event;
use crate::model::id::Actor;
use crate::model::input::Input;
use crate::model::notice::Notice;
use crate::model::outbox::OutboxStep;
use crate::model::policy::Policy;
use crate::model::time::{MINUTE, Timestamp};
use crate::step::step;
use crate::step::stepper::Step;

const DAY: i64 = 24 * 60 * MINUTE;

pub(super) struct BreakglassScenario {
    pub(super) fleet: Fleet,
    volatile: Volatile,
    pub(super) at: Timestamp,
    /// Every event so far, with its time.
    pub(super) events: Vec<(Timestamp, Event)>,
}

pub(super) fn rules(drill: bool) -> BreakglassRules {
    BreakglassRules {
        vm: "devvm".into(),
        hypervisor: "pve".into(),
        hosts: ["devvm".to_owned()].into(),
        arm_ms: 30 * MINUTE,
        mutations: 3,
        drill_ms: drill.then_some(7 * DAY),
        drill_red_ms: 8 * DAY,
        diagnoses: true,
        agent: None,
    }
}

impl BreakglassScenario {
    pub(super) fn new(drill: bool) -> Self {
        let mut scenario = Self {
            fleet: Fleet::default(),
            volatile: Volatile::default(),
            at: Timestamp(1_000),
            events: vec![],
        };
        scenario.use_rules(rules(drill));
        scenario
    }

    /// Starts afk with these rules.
    pub(super) fn use_rules(&mut self, rules: BreakglassRules) -> Step {
        let policy = Policy { breakglass: Some(rules), ..Policy::default() };
        self.input(Input::Started { policy: Box::new(policy) })
    }

    pub(super) fn input(&mut self, input: Input) -> Step {
        let out = step(&mut self.fleet, &mut self.volatile, self.at, input);
        self.events.extend(out.events.iter().map(|event| (self.at, event.clone())));
        out
    }

    pub(super) fn pass(&mut self, ms: i64) -> Step {
        self.at = self.at.plus(ms);
        self.input(Input::Tick)
    }

    pub(super) fn request_as(
        &mut self,
        who: &str,
        role: Role,
        request: BreakglassRequest,
    ) -> (Reply, Vec<Effect>) {
        let command = CommandEnvelope {
            id: 1,
            actor: Actor(who.into()),
            role,
            origin: "tty".into(),
            command: Command::Breakglass { request },
        };
        let out = self.input(Input::Command(command));
        (out.reply.unwrap().1, out.effects)
    }

    pub(super) fn request(&mut self, who: &str, request: BreakglassRequest) -> Reply {
        self.request_as(who, Role::Operator, request).0
    }

    pub(super) fn arm(&mut self, who: &str) {
        let request = BreakglassRequest::Arm { reason: "it hangs".into(), take_over: false };
        assert_eq!(self.request(who, request), Ok(Accepted::Ok));
    }

    pub(super) fn confirm(&self, verb: Verb) -> Confirmation {
        let seen = self.fleet.breakglass.seen(verb, "devvm");
        Confirmation { name: "devvm".into(), seen, again: None }
    }

    pub(super) fn mutate(&mut self, who: &str, verb: Verb) -> Reply {
        let confirm = Some(self.confirm(verb));
        self.request(who, BreakglassRequest::Verb { verb, confirm })
    }

    pub(super) fn end(&mut self, verb: VerbId, result: VerbResult) -> Step {
        let reads = Some("running".into());
        let end = VerbEnd { reads, ..VerbEnd::of(result) };
        self.input(Input::Breakglass(BreakglassReport::Ended { verb, end }))
    }

    /// The fleet as a fold of the events, as a client or the next life of afk gets it.
    pub(super) fn folded(&self) -> Fleet {
        let mut fleet = Fleet::default();
        for (at, event) in &self.events {
            fleet.apply(*at, event);
        }
        fleet
    }
}

pub(super) fn refusal(reply: &Reply) -> BreakglassRefusal {
    match reply {
        Err(Refusal::Breakglass { reason }) => reason.clone(),
        other => panic!("{other:?} is not a refusal of breakglass"),
    }
}

pub(super) fn begun_verb(reply: &Reply) -> VerbId {
    match reply {
        Ok(Accepted::Verb { verb }) => *verb,
        other => panic!("{other:?} is not a verb"),
    }
}

#[test]
fn revoked_operator_loses_the_arming_and_the_shells_at_once() {
    let mut scenario = BreakglassScenario::new(false);
    let arm = BreakglassRequest::Arm { reason: "it hangs".into(), take_over: false };
    scenario.request("ana", arm).unwrap();
    scenario.request("ana", BreakglassRequest::Shell { host: "devvm".into() }).unwrap();
    let revoke =
        |name: &str| Input::Breakglass(BreakglassReport::Revoked { actor: Actor(name.into()) });
    assert!(scenario.input(revoke("bo")).events.is_empty());
    assert!(scenario.fleet.breakglass.armed.is_some());
    let out = scenario.input(revoke("ana"));
    let why = "ana is not an operator any more".to_owned();
    let closes = Effect::Breakglass(BreakglassTask::CloseShells { why });
    assert!(out.effects.contains(&closes), "{:?}", out.effects);
    assert_eq!(scenario.fleet.breakglass.armed, None);
    assert_eq!(refusal(&scenario.request("ana", READ)), BreakglassRefusal::NotArmed);
    assert_eq!(scenario.folded().breakglass, scenario.fleet.breakglass);
}

const READ: BreakglassRequest = BreakglassRequest::Verb { verb: Verb::Status, confirm: None };
const GOOD: VerbResult = VerbResult::Exited { code: 0 };

#[test]
fn breakglass_needs_an_arming_with_a_reason_that_expires() {
    let mut scenario = BreakglassScenario::new(false);
    assert_eq!(refusal(&scenario.request("ana", READ)), BreakglassRefusal::NotArmed);
    assert_eq!(
        refusal(&scenario.request("ana", BreakglassRequest::Shell { host: "devvm".into() })),
        BreakglassRefusal::NotArmed
    );
    assert_eq!(refusal(&scenario.mutate("ana", Verb::Cycle)), BreakglassRefusal::NotArmed);
    let empty = BreakglassRequest::Arm { reason: " ".into(), take_over: false };
    assert_eq!(refusal(&scenario.request("ana", empty)), BreakglassRefusal::NoReason);
    scenario.arm("ana");
    begun_verb(&scenario.request("ana", READ));
    let out = scenario.pass(30 * MINUTE);
    assert!(out.effects.iter().any(|e| matches!(
        e,
        Effect::Breakglass(BreakglassTask::CloseShells { why }) if why == "the arming expired"
    )));
    assert_eq!(refusal(&scenario.request("ana", READ)), BreakglassRefusal::NotArmed);
    // Its end counts before afk has noticed it.
    scenario.arm("ana");
    scenario.at = scenario.at.plus(30 * MINUTE);
    assert_eq!(refusal(&scenario.request("ana", READ)), BreakglassRefusal::NotArmed);
    // Arming again before the end prolongs the arming.
    scenario.arm("ana");
    scenario.pass(20 * MINUTE);
    scenario.arm("ana");
    scenario.pass(20 * MINUTE);
    begun_verb(&scenario.request("ana", READ));
    assert_eq!(scenario.folded().breakglass, scenario.fleet.breakglass);
}

#[test]
fn one_actor_is_armed_and_a_take_over_is_explicit() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    let reason = || "I am nearer".into();
    let polite = BreakglassRequest::Arm { reason: reason(), take_over: false };
    let by = Actor("ana".into());
    assert_eq!(
        refusal(&scenario.request("bob", polite)),
        BreakglassRefusal::ArmedBy { by: by.clone(), minutes: 30 }
    );
    assert_eq!(
        refusal(&scenario.request("bob", READ)),
        BreakglassRefusal::ArmedBy { by, minutes: 30 }
    );
    let (reply, effects) = scenario.request_as(
        "bob",
        Role::Operator,
        BreakglassRequest::Arm { reason: reason(), take_over: true },
    );
    assert_eq!(reply, Ok(Accepted::Ok));
    let closes = |e: &Effect| matches!(e, Effect::Breakglass(BreakglassTask::CloseShells { why }) if why == "bob took over");
    assert!(effects.iter().any(closes), "{effects:?}");
    assert!(matches!(refusal(&scenario.request("ana", READ)), BreakglassRefusal::ArmedBy { .. }));
    begun_verb(&scenario.request("bob", READ));
}

#[test]
fn viewer_requests_are_refused() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    for request in [
        BreakglassRequest::Arm { reason: "x".into(), take_over: true },
        BreakglassRequest::Disarm,
        READ,
        BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(scenario.confirm(Verb::Cycle)) },
        BreakglassRequest::Shell { host: "devvm".into() },
        BreakglassRequest::Trust {
            host: "devvm".into(),
            key: "k".into(),
            old: None,
            new: "n".into(),
        },
        BreakglassRequest::Diagnose,
    ] {
        let (reply, effects) = scenario.request_as("ana", Role::Viewer, request.clone());
        assert_eq!(reply, Err(Refusal::Viewer), "{request:?}");
        assert!(!effects.iter().any(|e| matches!(e, Effect::Breakglass(_))), "{request:?}");
    }
}

#[test]
fn mutation_is_bound_to_its_confirmation_and_exclusive() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    let bare = BreakglassRequest::Verb { verb: Verb::Cycle, confirm: None };
    assert_eq!(
        refusal(&scenario.request("ana", bare)),
        BreakglassRefusal::Unconfirmed { verb: Verb::Cycle }
    );
    let wrong = Confirmation { name: "devvm2".into(), ..scenario.confirm(Verb::Cycle) };
    let wrong = BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(wrong) };
    assert_eq!(
        refusal(&scenario.request("ana", wrong)),
        BreakglassRefusal::WrongName { vm: "devvm".into() }
    );
    // Confirmed for another verb.
    let other =
        BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(scenario.confirm(Verb::Reset)) };
    assert_eq!(refusal(&scenario.request("ana", other)), BreakglassRefusal::Stale);
    // The VM's reading has changed since the confirmation.
    let old =
        BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(scenario.confirm(Verb::Cycle)) };
    let read = begun_verb(&scenario.request("ana", READ));
    scenario.end(read, GOOD);
    assert_eq!(scenario.fleet.breakglass.reads.as_ref().unwrap().1, "running".into());
    assert_eq!(refusal(&scenario.request("ana", old)), BreakglassRefusal::Stale);
    let cycle = begun_verb(&scenario.mutate("ana", Verb::Cycle));
    let busy = BreakglassRefusal::UnderWay { verb: Verb::Cycle, by: Actor("ana".into()) };
    assert_eq!(refusal(&scenario.mutate("ana", Verb::Start)), busy);
    // Reading verbs are allowed meanwhile.
    begun_verb(&scenario.request("ana", READ));
    scenario.end(cycle, GOOD);
    begun_verb(&scenario.mutate("ana", Verb::Start));
    assert_eq!(scenario.folded().breakglass, scenario.fleet.breakglass);
}

#[test]
fn fourth_mutation_in_ten_minutes_needs_the_name_again() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    for _ in 0..3 {
        let id = begun_verb(&scenario.mutate("ana", Verb::Cycle));
        scenario.end(id, GOOD);
        scenario.pass(MINUTE);
    }
    let refused = refusal(&scenario.mutate("ana", Verb::Cycle));
    assert_eq!(refused, BreakglassRefusal::TooMany { count: 3, minutes: 7, vm: "devvm".into() });
    let again = Confirmation { again: Some("devvm".into()), ..scenario.confirm(Verb::Cycle) };
    let id = begun_verb(
        &scenario
            .request("ana", BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(again) }),
    );
    // A verb that never began does not count.
    scenario.end(id, VerbResult::NotBegun { why: "refused".into() });
    scenario.pass(7 * MINUTE);
    begun_verb(&scenario.mutate("ana", Verb::Cycle));
}

#[test]
fn unknown_result_is_read_back_and_never_retried() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    let id = begun_verb(&scenario.mutate("ana", Verb::Cycle));
    let out = scenario.end(id, VerbResult::Unknown { why: "no answer in 300 s".into() });
    let begun: Vec<Verb> = out
        .effects
        .iter()
        .filter_map(|e| match e {
            Effect::Breakglass(BreakglassTask::Verb { verb, .. }) => Some(*verb),
            _ => None,
        })
        .collect();
    assert_eq!(begun, [Verb::Status]);
    // A restart of afk meanwhile leaves the result unknown, too.
    let id = begun_verb(&scenario.mutate("ana", Verb::Reset));
    let policy = Box::new(scenario.fleet.policy.clone());
    let out = scenario.input(Input::Started { policy });
    let ended = |e: &Event| {
        matches!(e, Event::Breakglass { what }
        if matches!(what.as_ref(), BreakglassEvent::Ended { verb, end: VerbEnd { result: VerbResult::Unknown { .. }, .. } } if *verb == id))
    };
    assert!(out.events.iter().any(ended));
    let verbs: Vec<Verb> =
        scenario.fleet.breakglass.under_way.values().map(|run| run.verb).collect();
    assert_eq!(verbs, [Verb::Status]);
}

#[test]
fn every_use_sends_a_notice() {
    let mut scenario = BreakglassScenario::new(false);
    let notices = |scenario: &BreakglassScenario| {
        let texts = scenario.events.iter().filter_map(|(_, event)| match event {
            Event::Posted {
                step: OutboxStep::Notify { what: Notice::Breakglass { text }, .. },
                ..
            } => Some(text.clone()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("; ")
    };
    scenario.arm("ana");
    scenario.request("ana", READ).unwrap();
    scenario.request("ana", BreakglassRequest::Shell { host: "devvm".into() }).unwrap();
    let id = begun_verb(&scenario.mutate("ana", Verb::Stop));
    scenario.end(id, VerbResult::Exited { code: 1 });
    assert_eq!(
        notices(&scenario),
        "armed by ana: it hangs; status by ana; ana opens a shell on devvm; stop by ana; \
         stop by ana: failed, exit code 1"
    );
}

#[test]
fn hypervisor_key_cannot_be_trusted_by_request() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    let trust = |host: &str| BreakglassRequest::Trust {
        host: host.into(),
        key: "ssh-ed25519 A".into(),
        old: Some("SHA256:a".into()),
        new: "SHA256:b".into(),
    };
    assert_eq!(refusal(&scenario.request("ana", trust("pve"))), BreakglassRefusal::Pinned);
    assert_eq!(
        refusal(&scenario.request("ana", trust("x"))),
        BreakglassRefusal::NoHost { host: "x".into() }
    );
    assert_eq!(scenario.request("ana", trust("devvm")), Ok(Accepted::Ok));
    assert_eq!(
        refusal(&scenario.request("ana", BreakglassRequest::Shell { host: "pve".into() })),
        BreakglassRefusal::NoHost { host: "pve".into() }
    );
}

#[test]
fn drill_runs_by_itself_and_escalates_after_eight_days() {
    let mut scenario = BreakglassScenario::new(true);
    let drilled = |scenario: &mut BreakglassScenario, good: bool| {
        let run = scenario.fleet.breakglass.under_way.values().next().cloned().unwrap();
        assert_eq!((run.by.0.as_str(), run.drill), ("afk", true));
        let code = u32::from(!good);
        scenario.end(run.id, VerbResult::Exited { code });
        run.verb
    };
    scenario.pass(1);
    assert_eq!(drilled(&mut scenario, true), Verb::Status);
    assert_eq!(drilled(&mut scenario, true), Verb::Forensics);
    assert_eq!(scenario.fleet.breakglass.drill.good, Some(scenario.at));
    assert!(scenario.fleet.breakglass.under_way.is_empty());
    // A week later the drill is due: it is retried each hour, and overdue after another day.
    assert_eq!(scenario.fleet.next_deadline(&scenario.volatile), Some(scenario.at.plus(7 * DAY)));
    scenario.pass(7 * DAY);
    assert_eq!(drilled(&mut scenario, false), Verb::Status);
    scenario.pass(59 * MINUTE);
    assert!(scenario.fleet.breakglass.under_way.is_empty() && scenario.fleet.inbox().is_empty());
    scenario.pass(DAY);
    drilled(&mut scenario, false);
    let inbox = scenario.fleet.inbox();
    let asked = inbox.first().unwrap();
    assert_eq!((asked.kind.as_str(), asked.run), ("drill-due", None));
    assert!(asked.detail.as_received().contains("failed, exit code 1"));
    // Approval begins a drill at once; its success withdraws the escalation.
    let (escalation, digest) = (asked.id, asked.digest);
    let action = Command::Answer { escalation, digest, answer: Answer::Approve };
    let (id, actor, origin) = (1, Actor("ana".into()), "tty".into());
    scenario.input(Input::Command(CommandEnvelope {
        id,
        actor,
        role: Role::Operator,
        origin,
        command: action,
    }));
    drilled(&mut scenario, true);
    drilled(&mut scenario, true);
    scenario.pass(1);
    assert!(scenario.fleet.inbox().is_empty());
    assert_eq!(scenario.folded().breakglass, scenario.fleet.breakglass);
}

#[test]
fn diagnosis_proposes_and_runs_nothing() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    let (reply, effects) = scenario.request_as("ana", Role::Operator, BreakglassRequest::Diagnose);
    assert_eq!(reply, Ok(Accepted::Ok));
    assert!(effects.contains(&Effect::Breakglass(BreakglassTask::Diagnose)));
    assert_eq!(
        refusal(&scenario.request("ana", BreakglassRequest::Diagnose)),
        BreakglassRefusal::Diagnosing
    );
    let text = "stalled I/O; cycle".into();
    scenario.input(Input::Breakglass(BreakglassReport::Diagnosed {
        text,
        proposes: Some(Verb::Cycle),
    }));
    let inbox = scenario.fleet.inbox();
    let asked = inbox.first().unwrap();
    assert_eq!(asked.kind.as_str(), "proposal");
    let (escalation, digest) = (asked.id, asked.digest);
    let action = Command::Answer { escalation, digest, answer: Answer::Approve };
    let (id, actor, origin) = (1, Actor("ana".into()), "tty".into());
    let out = scenario.input(Input::Command(CommandEnvelope {
        id,
        actor,
        role: Role::Operator,
        origin,
        command: action,
    }));
    assert!(!out.effects.iter().any(|e| matches!(e, Effect::Breakglass(_))), "{:?}", out.effects);
    assert!(scenario.fleet.breakglass.under_way.is_empty() && scenario.fleet.inbox().is_empty());
}
