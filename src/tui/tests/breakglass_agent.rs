//! The breakglass agent in its pane: its start, its calls, its end, and the warnings of a host.

use super::fixture;
use super::script::Script;
use crate::core::fleet::Fleet;
use crate::core::model::breakglass::{
    AgentCallId, AgentDecision, AgentLevel, AgentRules, AgentTerms, AgentTool, BreakglassEvent,
    BreakglassRequest, ShellId,
};
use crate::core::model::command;
use crate::core::model::event::Event;
use crate::core::model::id::Actor;
use crate::tui::request::Request;

const SIZE: (u16, u16) = (120, 40);

fn breakglass(request: BreakglassRequest) -> Vec<Request> {
    vec![Request::Command(command::Command::Breakglass { request })]
}

fn with_agent(level: AgentLevel) -> Fleet {
    let mut fleet = fixture::fleet();
    let rules = AgentRules {
        agent: "claude".into(),
        level,
        host: Some("devvm".into()),
        mutations: 2,
        calls_a_minute: 20,
    };
    fleet.policy.breakglass.as_mut().unwrap().agent = Some(rules);
    fleet
}

fn apply(fleet: &mut Fleet, what: BreakglassEvent) {
    let at = fleet.last_event;
    fleet.apply(at, &Event::Breakglass { what: Box::new(what) });
}

#[test]
fn agent_starts_as_its_level_is() {
    let mut script = Script::on(with_agent(AgentLevel::Read), SIZE);
    assert_eq!(script.keys("5e"), breakglass(BreakglassRequest::Diagnose));
    let mut script = Script::on(with_agent(AgentLevel::Ask), SIZE);
    assert!(script.keys("5e").is_empty());
    script.shows("Each command on devvm and each verb becomes a question in the inbox.");
    let start = |task: &str, mutations| {
        breakglass(BreakglassRequest::StartAgent { task: task.into(), mutations })
    };
    assert_eq!(script.keys("look at nfs<Enter>"), start("look at nfs", 0));
    let mut script = Script::on(with_agent(AgentLevel::Act), SIZE);
    script.keys("5e");
    script.shows("BY ITSELF");
    assert_eq!(script.keys("1 cycle it if it must be<Enter>"), start("cycle it if it must be", 1));
    script.keys("5e");
    assert!(script.keys("go<Enter>").is_empty());
    script.shows("nothing was started");
}

#[test]
fn working_agent_is_on_the_screen_and_stops_by_one_key() {
    let mut fleet = with_agent(AgentLevel::Act);
    let terms = AgentTerms {
        id: ShellId(1),
        agent: "claude".into(),
        by: Actor("ana".into()),
        level: AgentLevel::Act,
        host: "devvm".into(),
        mutations: 1,
    };
    apply(&mut fleet, BreakglassEvent::AgentStarted { terms });
    let tool = AgentTool::Command { command: "dmesg | tail".into() };
    let (call, decision) = (AgentCallId(1), AgentDecision::Allowed);
    apply(&mut fleet, BreakglassEvent::AgentCalled { call, tool, decision });
    let mut script = Script::on(fleet, SIZE);
    script.keys("5z");
    script.shows("AGENT claude works at the level act; X stops it.");
    script.shows("X Stop agent");
    script.shows("1 mutating verb left");
    let at = 7;
    script.keys(&"j".repeat(at));
    script.keys("<Enter>");
    script.shows("c1 $ dmesg | tail (allowed");
    script.shows("under way");
    // Also while a text covers the pane, such as its calls or the output of a verb.
    assert_eq!(script.keys("X"), breakglass(BreakglassRequest::StopAgent));
    assert_eq!(script.keys("<Esc>X"), breakglass(BreakglassRequest::StopAgent));
    // The end stays on the row.
    let why = "ana stopped it".into();
    apply(&mut script.snapshot.fleet, BreakglassEvent::AgentEnded { why });
    script.frame();
    script.lacks("X stops it");
    script.shows("act by ana, 1 call: ana stopped it");
}

#[test]
fn warning_of_a_host_is_shown_before_the_name_is_typed() {
    let mut fleet = fixture::fleet();
    fleet.breakglass.warnings = vec!["the VM is locked (backup): a task works on it".into()];
    let mut script = Script::on(fleet, SIZE);
    script.keys("5z");
    script.shows("warning: the VM is locked (backup)");
    script.keys("jj<Enter>");
    script.shows("WARNING: the VM is locked (backup): a task works on it.");
    script.shows("Type devvm to go ahead.");
}
