//! Breakglass in the core: who, when, how often, and what follows.

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

struct Play {
    fleet: Fleet,
    volatile: Volatile,
    at: Timestamp,
    /// Every event so far.
    events: Vec<(Timestamp, Event)>,
}

fn rules(drill: bool) -> BreakglassRules {
    BreakglassRules {
        vm: "devvm".into(),
        hypervisor: "pve".into(),
        hosts: ["devvm".to_owned()].into(),
        arm_ms: 30 * MINUTE,
        mutations: 3,
        drill_ms: drill.then_some(7 * DAY),
        drill_red_ms: 8 * DAY,
        diagnoses: true,
    }
}

impl Play {
    fn new(drill: bool) -> Self {
        let mut play = Self {
            fleet: Fleet::default(),
            volatile: Volatile::default(),
            at: Timestamp(1_000),
            events: vec![],
        };
        let policy = Policy { breakglass: Some(rules(drill)), ..Policy::default() };
        play.tell(Input::Started { policy: Box::new(policy) });
        play
    }

    fn tell(&mut self, input: Input) -> Step {
        let out = step(&mut self.fleet, &mut self.volatile, self.at, input);
        self.events.extend(out.events.iter().map(|event| (self.at, event.clone())));
        out
    }

    fn pass(&mut self, ms: i64) -> Step {
        self.at = self.at.plus(ms);
        self.tell(Input::Tick)
    }

    fn ask_as(&mut self, who: &str, role: Role, ask: BreakglassRequest) -> (Reply, Vec<Effect>) {
        let command = CommandEnvelope {
            id: 1,
            actor: Actor(who.into()),
            role,
            origin: "tty".into(),
            command: Command::Breakglass { request: ask },
        };
        let out = self.tell(Input::Command(command));
        (out.reply.unwrap().1, out.effects)
    }

    fn ask(&mut self, who: &str, ask: BreakglassRequest) -> Reply {
        self.ask_as(who, Role::Operator, ask).0
    }

    fn arm(&mut self, who: &str) {
        let ask = BreakglassRequest::Arm { reason: "it hangs".into(), take_over: false };
        assert_eq!(self.ask(who, ask), Ok(Accepted::Ok));
    }

    fn confirm(&self, verb: Verb) -> Confirmation {
        let seen = self.fleet.breakglass.seen(verb, "devvm");
        Confirmation { name: "devvm".into(), seen, again: None }
    }

    fn mutate(&mut self, who: &str, verb: Verb) -> Reply {
        let confirm = Some(self.confirm(verb));
        self.ask(who, BreakglassRequest::Verb { verb, confirm })
    }

    fn end(&mut self, verb: VerbId, result: VerbResult) -> Step {
        let reads = Some("running".into());
        let end = VerbEnd { result, reads, request: None, capture: None };
        self.tell(Input::Breakglass(BreakglassReport::Ended { verb, end }))
    }

    /// The fleet as a client, or the next life, has it.
    fn folded(&self) -> Fleet {
        let mut fleet = Fleet::default();
        for (at, event) in &self.events {
            fleet.apply(*at, event);
        }
        fleet
    }
}

fn no(reply: &Reply) -> BreakglassRefusal {
    match reply {
        Err(Refusal::Breakglass { reason }) => reason.clone(),
        other => panic!("{other:?} is no refusal of breakglass"),
    }
}

fn verb(reply: &Reply) -> VerbId {
    match reply {
        Ok(Accepted::Verb { verb }) => *verb,
        other => panic!("{other:?} is no verb"),
    }
}

const READ: BreakglassRequest = BreakglassRequest::Verb { verb: Verb::Status, confirm: None };
const GOOD: VerbResult = VerbResult::Exited { code: 0 };

#[test]
fn it_is_off_until_somebody_arms_it_with_a_reason_and_for_a_while() {
    let mut play = Play::new(false);
    assert_eq!(no(&play.ask("ana", READ)), BreakglassRefusal::NotArmed);
    assert_eq!(
        no(&play.ask("ana", BreakglassRequest::Shell { host: "devvm".into() })),
        BreakglassRefusal::NotArmed
    );
    assert_eq!(no(&play.mutate("ana", Verb::Cycle)), BreakglassRefusal::NotArmed);
    let empty = BreakglassRequest::Arm { reason: " ".into(), take_over: false };
    assert_eq!(no(&play.ask("ana", empty)), BreakglassRefusal::NoReason);
    play.arm("ana");
    verb(&play.ask("ana", READ));
    let out = play.pass(30 * MINUTE);
    assert!(out.effects.iter().any(|e| matches!(
        e,
        Effect::Breakglass(BreakglassTask::CloseShells { why }) if why == "its time was over"
    )));
    assert_eq!(no(&play.ask("ana", READ)), BreakglassRefusal::NotArmed);
    // Armed again before its end it lasts longer.
    play.arm("ana");
    play.pass(20 * MINUTE);
    play.arm("ana");
    play.pass(20 * MINUTE);
    verb(&play.ask("ana", READ));
    assert_eq!(play.folded().breakglass, play.fleet.breakglass);
}

#[test]
fn one_is_armed_and_taking_over_is_explicit() {
    let mut play = Play::new(false);
    play.arm("ana");
    let reason = || "I am nearer".into();
    let polite = BreakglassRequest::Arm { reason: reason(), take_over: false };
    let by = Actor("ana".into());
    assert_eq!(
        no(&play.ask("bob", polite)),
        BreakglassRefusal::ArmedBy { by: by.clone(), minutes: 30 }
    );
    assert_eq!(no(&play.ask("bob", READ)), BreakglassRefusal::ArmedBy { by, minutes: 30 });
    let (reply, effects) = play.ask_as(
        "bob",
        Role::Operator,
        BreakglassRequest::Arm { reason: reason(), take_over: true },
    );
    assert_eq!(reply, Ok(Accepted::Ok));
    let closes = |e: &Effect| matches!(e, Effect::Breakglass(BreakglassTask::CloseShells { why }) if why == "bob took over");
    assert!(effects.iter().any(closes), "{effects:?}");
    assert!(matches!(no(&play.ask("ana", READ)), BreakglassRefusal::ArmedBy { .. }));
    verb(&play.ask("bob", READ));
}

#[test]
fn a_viewer_can_do_nothing() {
    let mut play = Play::new(false);
    play.arm("ana");
    for ask in [
        BreakglassRequest::Arm { reason: "x".into(), take_over: true },
        BreakglassRequest::Disarm,
        READ,
        BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(play.confirm(Verb::Cycle)) },
        BreakglassRequest::Shell { host: "devvm".into() },
        BreakglassRequest::Trust {
            host: "devvm".into(),
            key: "k".into(),
            old: None,
            new: "n".into(),
        },
        BreakglassRequest::Diagnose,
    ] {
        let (reply, effects) = play.ask_as("ana", Role::Viewer, ask.clone());
        assert_eq!(reply, Err(Refusal::Viewer), "{ask:?}");
        assert!(!effects.iter().any(|e| matches!(e, Effect::Breakglass(_))), "{ask:?}");
    }
}

#[test]
fn a_mutation_is_bound_to_what_was_seen_and_is_the_only_one() {
    let mut play = Play::new(false);
    play.arm("ana");
    let bare = BreakglassRequest::Verb { verb: Verb::Cycle, confirm: None };
    assert_eq!(no(&play.ask("ana", bare)), BreakglassRefusal::Unconfirmed { verb: Verb::Cycle });
    let wrong = Confirmation { name: "devvm2".into(), ..play.confirm(Verb::Cycle) };
    let wrong = BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(wrong) };
    assert_eq!(no(&play.ask("ana", wrong)), BreakglassRefusal::WrongName { vm: "devvm".into() });
    // Confirmed for another verb.
    let other =
        BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(play.confirm(Verb::Reset)) };
    assert_eq!(no(&play.ask("ana", other)), BreakglassRefusal::Stale);
    // What the VM reads changed since.
    let old =
        BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(play.confirm(Verb::Cycle)) };
    let read = verb(&play.ask("ana", READ));
    play.end(read, GOOD);
    assert_eq!(play.fleet.breakglass.reads.as_ref().unwrap().1, "running".into());
    assert_eq!(no(&play.ask("ana", old)), BreakglassRefusal::Stale);
    let cycle = verb(&play.mutate("ana", Verb::Cycle));
    let busy = BreakglassRefusal::UnderWay { verb: Verb::Cycle, by: Actor("ana".into()) };
    assert_eq!(no(&play.mutate("ana", Verb::Start)), busy);
    // Reading goes on meanwhile.
    verb(&play.ask("ana", READ));
    play.end(cycle, GOOD);
    verb(&play.mutate("ana", Verb::Start));
    assert_eq!(play.folded().breakglass, play.fleet.breakglass);
}

#[test]
fn the_fourth_mutation_in_ten_minutes_needs_the_name_again() {
    let mut play = Play::new(false);
    play.arm("ana");
    for _ in 0..3 {
        let id = verb(&play.mutate("ana", Verb::Cycle));
        play.end(id, GOOD);
        play.pass(MINUTE);
    }
    let refused = no(&play.mutate("ana", Verb::Cycle));
    assert_eq!(refused, BreakglassRefusal::TooMany { count: 3, minutes: 7, vm: "devvm".into() });
    let again = Confirmation { again: Some("devvm".into()), ..play.confirm(Verb::Cycle) };
    let id =
        verb(&play.ask("ana", BreakglassRequest::Verb { verb: Verb::Cycle, confirm: Some(again) }));
    // One that never began does not count.
    play.end(id, VerbResult::NotBegun { why: "refused".into() });
    play.pass(7 * MINUTE);
    verb(&play.mutate("ana", Verb::Cycle));
}

#[test]
fn unknown_is_read_back_and_never_tried_again() {
    let mut play = Play::new(false);
    play.arm("ana");
    let id = verb(&play.mutate("ana", Verb::Cycle));
    let out = play.end(id, VerbResult::Unknown { why: "no answer in 300 s".into() });
    let begun: Vec<Verb> = out
        .effects
        .iter()
        .filter_map(|e| match e {
            Effect::Breakglass(BreakglassTask::Verb { verb, .. }) => Some(*verb),
            _ => None,
        })
        .collect();
    assert_eq!(begun, [Verb::Status]);
    // Also when afk itself went away meanwhile.
    let id = verb(&play.mutate("ana", Verb::Reset));
    let policy = Box::new(play.fleet.policy.clone());
    let out = play.tell(Input::Started { policy });
    let ended = |e: &Event| {
        matches!(e, Event::Breakglass { what }
        if matches!(what.as_ref(), BreakglassEvent::Ended { verb, end: VerbEnd { result: VerbResult::Unknown { .. }, .. } } if *verb == id))
    };
    assert!(out.events.iter().any(ended));
    let verbs: Vec<Verb> = play.fleet.breakglass.under_way.values().map(|run| run.verb).collect();
    assert_eq!(verbs, [Verb::Status]);
}

#[test]
fn every_use_is_told() {
    let mut play = Play::new(false);
    let told = |play: &Play| {
        let texts = play.events.iter().filter_map(|(_, event)| match event {
            Event::Posted {
                step: OutboxStep::Notify { what: Notice::Breakglass { text }, .. },
                ..
            } => Some(text.clone()),
            _ => None,
        });
        texts.collect::<Vec<_>>().join("; ")
    };
    play.arm("ana");
    play.ask("ana", READ).unwrap();
    play.ask("ana", BreakglassRequest::Shell { host: "devvm".into() }).unwrap();
    let id = verb(&play.mutate("ana", Verb::Stop));
    play.end(id, VerbResult::Exited { code: 1 });
    assert_eq!(
        told(&play),
        "armed by ana: it hangs; status by ana; ana opens a shell on devvm; stop by ana; \
         stop by ana: failed, exit 1"
    );
}

#[test]
fn the_hypervisors_key_is_never_taken_by_key() {
    let mut play = Play::new(false);
    play.arm("ana");
    let trust = |host: &str| BreakglassRequest::Trust {
        host: host.into(),
        key: "ssh-ed25519 A".into(),
        old: Some("SHA256:a".into()),
        new: "SHA256:b".into(),
    };
    assert_eq!(no(&play.ask("ana", trust("pve"))), BreakglassRefusal::Pinned);
    assert_eq!(no(&play.ask("ana", trust("x"))), BreakglassRefusal::NoHost { host: "x".into() });
    assert_eq!(play.ask("ana", trust("devvm")), Ok(Accepted::Ok));
    assert_eq!(
        no(&play.ask("ana", BreakglassRequest::Shell { host: "pve".into() })),
        BreakglassRefusal::NoHost { host: "pve".into() }
    );
}

#[test]
fn the_drill_runs_by_itself_and_is_an_alarm_after_eight_days() {
    let mut play = Play::new(true);
    let drilled = |play: &mut Play, good: bool| {
        let run = play.fleet.breakglass.under_way.values().next().cloned().unwrap();
        assert_eq!((run.by.0.as_str(), run.drill), ("afk", true));
        let code = u32::from(!good);
        play.end(run.id, VerbResult::Exited { code });
        run.verb
    };
    play.pass(1);
    assert_eq!(drilled(&mut play, true), Verb::Status);
    assert_eq!(drilled(&mut play, true), Verb::Forensics);
    assert_eq!(play.fleet.breakglass.drill.good, Some(play.at));
    assert!(play.fleet.breakglass.under_way.is_empty());
    // A week later it is tried each hour, and red a day after that.
    assert_eq!(play.fleet.next_deadline(&play.volatile), Some(play.at.plus(7 * DAY)));
    play.pass(7 * DAY);
    assert_eq!(drilled(&mut play, false), Verb::Status);
    play.pass(59 * MINUTE);
    assert!(play.fleet.breakglass.under_way.is_empty() && play.fleet.inbox().is_empty());
    play.pass(DAY);
    drilled(&mut play, false);
    let inbox = play.fleet.inbox();
    let asked = inbox.first().unwrap();
    assert_eq!((asked.kind.as_str(), asked.run), ("drill-due", None));
    assert!(asked.detail.as_received().contains("failed, exit 1"));
    // Approved, it runs now; once it is good nobody is asked any more.
    let (escalation, digest) = (asked.id, asked.digest);
    let action = Command::Answer { escalation, digest, answer: Answer::Approve };
    let (id, actor, origin) = (1, Actor("ana".into()), "tty".into());
    play.tell(Input::Command(CommandEnvelope {
        id,
        actor,
        role: Role::Operator,
        origin,
        command: action,
    }));
    drilled(&mut play, true);
    drilled(&mut play, true);
    play.pass(1);
    assert!(play.fleet.inbox().is_empty());
    assert_eq!(play.folded().breakglass, play.fleet.breakglass);
}

#[test]
fn a_diagnosis_proposes_and_runs_nothing() {
    let mut play = Play::new(false);
    play.arm("ana");
    let (reply, effects) = play.ask_as("ana", Role::Operator, BreakglassRequest::Diagnose);
    assert_eq!(reply, Ok(Accepted::Ok));
    assert!(effects.contains(&Effect::Breakglass(BreakglassTask::Diagnose)));
    assert_eq!(no(&play.ask("ana", BreakglassRequest::Diagnose)), BreakglassRefusal::Diagnosing);
    let text = "stalled I/O; cycle".into();
    play.tell(Input::Breakglass(BreakglassReport::Diagnosed { text, proposes: Some(Verb::Cycle) }));
    let inbox = play.fleet.inbox();
    let asked = inbox.first().unwrap();
    assert_eq!(asked.kind.as_str(), "proposal");
    let (escalation, digest) = (asked.id, asked.digest);
    let action = Command::Answer { escalation, digest, answer: Answer::Approve };
    let (id, actor, origin) = (1, Actor("ana".into()), "tty".into());
    let out = play.tell(Input::Command(CommandEnvelope {
        id,
        actor,
        role: Role::Operator,
        origin,
        command: action,
    }));
    assert!(!out.effects.iter().any(|e| matches!(e, Effect::Breakglass(_))), "{:?}", out.effects);
    assert!(play.fleet.breakglass.under_way.is_empty() && play.fleet.inbox().is_empty());
}
