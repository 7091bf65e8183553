//! The breakglass agent: what its calls lead to, and what ends them.

use super::breakglass::{BreakglassScenario, refusal, rules};
use crate::model::approval::{Answer, Escalation, EscalationKind};
use crate::model::breakglass::{
    AgentCallId, AgentLevel, AgentRules, AgentTool, BreakglassRefusal, BreakglassReport,
    BreakglassRequest, BreakglassTask, REFUSED_TEXT, ShellId, Verb, VerbId, VerbResult,
};
use crate::model::command::{Accepted, Command, CommandEnvelope, Refusal, Reply, Role};
use crate::model::effect::Effect;
use crate::model::id::Actor;
use crate::model::input::Input;
use crate::model::time::MINUTE;
use crate::step::stepper::Step;

const GOOD: VerbResult = VerbResult::Exited { code: 0 };
const STOP: BreakglassRequest = BreakglassRequest::StopAgent;

fn start(mutations: usize) -> BreakglassRequest {
    BreakglassRequest::StartAgent { task: "it hangs".into(), mutations }
}

fn command(text: &str) -> AgentTool {
    AgentTool::Command { command: text.into() }
}

const fn verb(verb: Verb) -> AgentTool {
    AgentTool::Verb { verb }
}

/// A session of the agent that `ana` started.
struct AgentScenario {
    base: BreakglassScenario,
    session: ShellId,
    calls: u64,
}

impl AgentScenario {
    fn new(level: AgentLevel, mutations: usize) -> Self {
        let mut base = BreakglassScenario::new(false);
        let agent = AgentRules {
            agent: "claude".into(),
            level,
            host: Some("devvm".into()),
            mutations: 2,
            calls_a_minute: 20,
        };
        let agent = Some(agent);
        base.use_rules(crate::model::breakglass::BreakglassRules { agent, ..rules(false) });
        base.arm("ana");
        assert_eq!(base.request("ana", start(mutations)), Ok(Accepted::Ok));
        let session = base.fleet.breakglass.agent.as_ref().unwrap().terms.id;
        Self { base, session, calls: 0 }
    }

    fn call(&mut self, tool: AgentTool) -> (AgentCallId, Step) {
        self.calls += 1;
        let (session, call) = (self.session, AgentCallId(self.calls));
        let report = BreakglassReport::AgentCalled { session, call, tool };
        (call, self.base.input(Input::Breakglass(report)))
    }

    fn asked(&self) -> Option<Escalation> {
        let mut open = self.base.fleet.escalations.values().filter(|e| e.open());
        open.find(|e| e.kind == EscalationKind::Permission).map(|e| e.as_ref().clone())
    }

    fn answer(&mut self, who: &str, answer: Answer) -> (Reply, Step) {
        let asked = self.asked().unwrap();
        let command = Command::Answer { escalation: asked.id, digest: asked.digest, answer };
        let step = self.base.input(Input::Command(CommandEnvelope {
            id: 1,
            actor: Actor(who.into()),
            role: Role::Operator,
            origin: "tty".into(),
            command,
        }));
        (step.reply.clone().unwrap().1, step)
    }

    /// Lets the session see the forensics.
    fn look(&mut self) {
        let (_, step) = self.call(verb(Verb::Forensics));
        let id = begun(&step).unwrap_or_else(|| {
            let (_, step) = self.answer("ana", Answer::Approve);
            begun(&step).unwrap()
        });
        self.base.end(id, GOOD);
    }
}

/// The verb that a step begins.
fn begun(step: &Step) -> Option<VerbId> {
    step.effects.iter().find_map(|effect| match effect {
        Effect::Breakglass(BreakglassTask::Verb { id, .. }) => Some(*id),
        _ => None,
    })
}

/// The command that a step runs.
fn run(step: &Step) -> Option<String> {
    step.effects.iter().find_map(|effect| match effect {
        Effect::Breakglass(BreakglassTask::AgentCommand { command, .. }) => Some(command.clean()),
        _ => None,
    })
}

/// The answer of a step to the agent.
fn reply(step: &Step) -> Option<(bool, String)> {
    step.effects.iter().find_map(|effect| match effect {
        Effect::Breakglass(BreakglassTask::AgentReply { ok, text, .. }) => {
            Some((*ok, text.clone()))
        }
        _ => None,
    })
}

#[test]
fn session_needs_an_arming_a_level_and_an_allowed_count() {
    let mut scenario = BreakglassScenario::new(false);
    scenario.arm("ana");
    assert_eq!(refusal(&scenario.request("ana", start(0))), BreakglassRefusal::NoAgent);
    let mut scenario = AgentScenario::new(AgentLevel::Act, 1);
    let base = &mut scenario.base;
    assert_eq!(refusal(&base.request("ana", start(0))), BreakglassRefusal::AgentWorks);
    base.request("ana", STOP).unwrap();
    assert_eq!(refusal(&base.request("ana", STOP)), BreakglassRefusal::NoAgentWorks);
    assert_eq!(
        refusal(&base.request("ana", start(3))),
        BreakglassRefusal::TooManyForAgent { most: 2 }
    );
    base.request("ana", BreakglassRequest::Disarm).unwrap();
    assert_eq!(refusal(&base.request("ana", start(1))), BreakglassRefusal::NotArmed);
    assert_eq!(base.request_as("eve", Role::Viewer, start(1)).0, Err(Refusal::Viewer));
}

#[test]
fn ask_shows_the_whole_command_and_runs_only_what_the_armed_operator_allows() {
    let mut scenario = AgentScenario::new(AgentLevel::Ask, 0);
    let whole = "sudo systemctl restart nfs-client\n# and nothing else";
    let (_, step) = scenario.call(command(whole));
    assert_eq!((run(&step), reply(&step)), (None, None));
    let asked = scenario.asked().unwrap();
    let detail = asked.detail.clean();
    for part in [whole, "on devvm", "exactly this command"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert_eq!(asked.permission.as_ref().unwrap().targets, [whole.into()]);
    let (refused, step) = scenario.answer("bob", Answer::Approve);
    assert!(matches!(refused, Err(Refusal::Breakglass { .. })), "{refused:?}");
    assert_eq!(run(&step), None);
    let (_, step) = scenario.answer("ana", Answer::Approve);
    assert_eq!(run(&step).as_deref(), Some(whole));
    // An answer holds once.
    assert_eq!(run(&scenario.call(command(whole)).1), None);
    let (_, step) = scenario.answer("ana", Answer::Deny { reason: "not now".into() });
    assert_eq!(reply(&step), Some((false, "an operator denied it: not now".into())));
    assert_eq!(run(&step), None);
    // Each verb is a question, too, and says what it changes.
    let (_, step) = scenario.call(verb(Verb::Status));
    assert_eq!(begun(&step), None);
    assert!(scenario.asked().unwrap().detail.clean().contains("never proves health"));
    assert_eq!(scenario.base.folded().breakglass, scenario.base.fleet.breakglass);
}

#[test]
fn approval_for_the_session_allows_the_kind_alone() {
    let mut scenario = AgentScenario::new(AgentLevel::Ask, 0);
    scenario.call(command("tail /var/log/syslog"));
    assert!(scenario.asked().unwrap().detail.clean().contains("tail with any arguments"));
    let (_, step) = scenario.answer("ana", Answer::ApproveRun);
    assert!(run(&step).is_some());
    assert!(run(&scenario.call(command("tail /etc/hosts")).1).is_some());
    assert_eq!(run(&scenario.call(command("tail x; reboot")).1), None);
    assert!(scenario.asked().is_some());
    // The next session begins without it.
    scenario.base.request("ana", STOP).unwrap();
    assert!(scenario.asked().is_none(), "the question outlives the session");
    scenario.base.request("ana", start(0)).unwrap();
    scenario.session = scenario.base.fleet.breakglass.agent.as_ref().unwrap().terms.id;
    assert_eq!(run(&scenario.call(command("tail /etc/hosts")).1), None);
}

#[test]
fn act_needs_forensics_and_begins_no_more_verbs_than_allowed() {
    let mut scenario = AgentScenario::new(AgentLevel::Act, 1);
    assert_eq!(run(&scenario.call(command("dmesg")).1).as_deref(), Some("dmesg"));
    let (_, step) = scenario.call(verb(Verb::Cycle));
    assert!(reply(&step).unwrap().1.contains("forensics first"));
    scenario.look();
    let (_, step) = scenario.call(verb(Verb::Cycle));
    let cycle = begun(&step).expect("the cycle");
    let of = &scenario.base.fleet.breakglass.under_way[&cycle];
    assert_eq!((of.by.0.as_str(), of.origin.as_str()), ("ana's agent", "agent s1"));
    // A person and the agent share the one mutation.
    let busy = refusal(&scenario.base.mutate("ana", Verb::Stop));
    assert!(matches!(busy, BreakglassRefusal::UnderWay { .. }));
    let (_, step) = scenario.call(verb(Verb::Stop));
    assert!(reply(&step).unwrap().1.contains("busy: cycle by ana's agent"));
    let step = scenario.base.end(cycle, GOOD);
    let (ok, text) = reply(&step).unwrap();
    assert!(ok && text.contains("cycle: exit code 0; the VM reads running"), "{text}");
    for again in [Verb::Cycle, Verb::Stop, Verb::Start, Verb::Reset] {
        let (_, step) = scenario.call(verb(again));
        assert_eq!(begun(&step), None);
        assert!(reply(&step).unwrap().1.contains("no mutating verb is left"));
    }
    assert_eq!(scenario.base.folded().breakglass, scenario.base.fleet.breakglass);
}

#[test]
fn verb_on_a_vm_with_a_warning_is_asked_for_also_at_act() {
    let mut scenario = AgentScenario::new(AgentLevel::Act, 2);
    scenario.look();
    let (_, step) = scenario.call(verb(Verb::Status));
    let end = crate::model::breakglass::VerbEnd {
        reads: Some("running".into()),
        warnings: vec!["the VM is locked (backup)".into()],
        ..crate::model::breakglass::VerbEnd::of(GOOD)
    };
    let verb_id = begun(&step).unwrap();
    scenario.base.input(Input::Breakglass(BreakglassReport::Ended { verb: verb_id, end }));
    let (_, step) = scenario.call(verb(Verb::Cycle));
    assert_eq!((begun(&step), reply(&step)), (None, None));
    assert!(scenario.asked().unwrap().detail.clean().contains("WARNING: the VM is locked"));
    let (_, step) = scenario.answer("ana", Answer::Approve);
    assert!(begun(&step).is_some());
}

#[test]
fn flood_of_calls_is_refused_and_recorded() {
    let mut scenario = AgentScenario::new(AgentLevel::Act, 0);
    for n in 0..30 {
        let (call, step) = scenario.call(command("uptime"));
        assert_eq!(run(&step).is_some(), n < 20, "{n}");
        let (session, said) = (scenario.session, "exit code 0".into());
        let end = BreakglassReport::AgentCommandEnded { session, call, ok: true, said };
        scenario.base.input(Input::Breakglass(end));
    }
    let session = scenario.base.fleet.breakglass.agent.clone().unwrap();
    assert_eq!(
        session.past.iter().filter(|call| call.end.as_ref().is_some_and(|e| e.0)).count(),
        20
    );
    assert_eq!((session.past.len(), session.open.len()), (30, 0));
}

#[test]
fn verb_of_the_agent_carries_its_session_and_that_of_a_person_none() {
    let agent_of = |step: &[Effect]| {
        step.iter().find_map(|effect| match effect {
            Effect::Breakglass(BreakglassTask::Verb { agent, .. }) => Some(*agent),
            _ => None,
        })
    };
    let mut scenario = AgentScenario::new(AgentLevel::Act, 1);
    let (_, step) = scenario.call(verb(Verb::Status));
    assert_eq!(agent_of(&step.effects), Some(Some(scenario.session)));
    let status = BreakglassRequest::Verb { verb: Verb::Status, confirm: None };
    let (_, effects) = scenario.base.request_as("ana", Role::Operator, status);
    assert_eq!(agent_of(&effects), Some(None));
}

#[test]
fn refused_call_is_recorded_with_the_beginning_of_its_text() {
    let mut scenario = AgentScenario::new(AgentLevel::Act, 0);
    let long = "x".repeat(100 * 1024);
    let (_, step) = scenario.call(command(&long));
    assert!(reply(&step).unwrap().1.contains("longer than a person can judge"));
    let (_, step) = scenario.call(AgentTool::Note { text: long.as_str().into() });
    assert!(reply(&step).is_some_and(|(ok, _)| !ok));
    let session = scenario.base.fleet.breakglass.agent.clone().unwrap();
    for call in &session.past {
        let kept = call.tool.summary();
        assert!(kept.len() < 2 * REFUSED_TEXT && kept.contains("xxx…"), "{kept}");
    }
    assert_eq!(session.past.len(), 2);
    // A command that may be judged is carried out and recorded whole.
    let whole = "y".repeat(2 * REFUSED_TEXT);
    assert_eq!(run(&scenario.call(command(&whole)).1).as_deref(), Some(whole.as_str()));
    let session = scenario.base.fleet.breakglass.agent.as_ref().unwrap();
    assert_eq!(session.open.values().next().unwrap().tool, command(&whole));
    assert_eq!(scenario.base.folded().breakglass, scenario.base.fleet.breakglass);
}

#[test]
fn stop_disarm_expiry_takeover_and_restart_end_the_session() {
    let stops = |step: &[Effect]| {
        step.iter().any(|e| matches!(e, Effect::Breakglass(BreakglassTask::StopAgent { .. })))
    };
    for end in 0..5 {
        let mut scenario = AgentScenario::new(AgentLevel::Ask, 0);
        scenario.call(command("reboot"));
        let base = &mut scenario.base;
        match end {
            // Anybody may stop it, armed or not.
            0 => assert!(stops(&base.request_as("bob", Role::Operator, STOP).1)),
            1 => {
                let disarm = BreakglassRequest::Disarm;
                assert!(stops(&base.request_as("ana", Role::Operator, disarm).1));
            }
            2 => assert!(stops(&base.pass(30 * MINUTE).effects)),
            3 => {
                let arm = BreakglassRequest::Arm { reason: "mine".into(), take_over: true };
                assert!(stops(&base.request_as("bob", Role::Operator, arm).1));
            }
            _ => {
                let policy = Box::new(base.fleet.policy.clone());
                base.input(Input::Started { policy });
            }
        }
        assert_eq!(base.fleet.breakglass.agent, None, "{end}");
        assert!(scenario.asked().is_none(), "{end}");
        // A call that was on its way has no effect any more.
        let (_, step) = scenario.call(command("reboot"));
        assert_eq!((run(&step), scenario.asked()), (None, None), "{end}");
        assert_eq!(scenario.base.folded().breakglass, scenario.base.fleet.breakglass);
    }
}

#[test]
fn question_is_withdrawn_once_the_agent_no_longer_waits() {
    let mut scenario = AgentScenario::new(AgentLevel::Ask, 0);
    let (call, _) = scenario.call(command("reboot"));
    let session = scenario.session;
    let withdrew = BreakglassReport::AgentWithdrew { session, call };
    scenario.base.input(Input::Breakglass(withdrew));
    assert!(scenario.asked().is_none());
    let session = scenario.base.fleet.breakglass.agent.as_ref().unwrap();
    assert!(session.open.is_empty() && session.past.len() == 1);
}
