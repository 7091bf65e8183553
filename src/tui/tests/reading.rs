//! What a reader sees of a transcript.

use super::script::Script;
use crate::core::fleet::Fleet;
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::budget::{MicroUsd, Spend};
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::journal::transcript::TranscriptEntry;

/// The asking fleet's run, whose transcript has these events, a minute apart.
fn reading(size: (u16, u16), events: Vec<AgentEvent>) -> Script {
    let fleet: Fleet = super::fixture::asking();
    let start = fleet.last_event.0 - 60_000 * i64::try_from(events.len()).unwrap();
    let entry = |(at, event): (usize, AgentEvent)| {
        let minutes = i64::try_from(at).unwrap();
        TranscriptEntry { at: Timestamp(start + minutes * 60_000), turn: 1, event }
    };
    let entries: Vec<TranscriptEntry> = events.into_iter().enumerate().map(entry).collect();
    let mut script = Script::on(fleet, size);
    script.write(RunId(1), &entries);
    script.keys("3");
    script
}

fn text(text: &str) -> AgentEvent {
    AgentEvent::Text { text: text.into() }
}

fn started(id: &str, title: &str, parent: Option<&str>) -> AgentEvent {
    let (id, parent) = (id.to_owned(), parent.map(str::to_owned));
    AgentEvent::ToolStart { id, kind: "shell".into(), title: title.into(), parent }
}

fn ended(id: &str, title: &str, ok: bool, output: &str) -> AgentEvent {
    let code = Some(i32::from(!ok));
    AgentEvent::ToolEnd { id: id.into(), title: title.into(), ok, code, output: output.into() }
}

#[test]
fn markdown_of_an_agent_is_rendered() {
    let script = reading(
        (80, 24),
        vec![text(
            "## What I found\n\n- the **route**\n- a `test`\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        )],
    );
    script.shows("What I found");
    script.lacks("##");
    script.shows("• the route");
    script.lacks("**");
    script.shows("a │ b");
    script.lacks("|---|");
}

#[test]
fn code_goes_on_in_the_next_record() {
    let script = reading(
        (80, 24),
        vec![text("So:\n\n```rust\nfn one() {}"), text("fn two() {}"), text("```\n\nThen *more*.")],
    );
    script.shows("│ fn one() {}");
    script.shows("│ fn two() {}");
    script.shows("Then more.");
    script.lacks("```");
}

#[test]
fn failed_tool_shows_its_end_and_a_good_one_is_folded() {
    let lines: Vec<String> = (1..=9).map(|n| format!("line {n} of it")).collect();
    let script = reading(
        (80, 24),
        vec![
            ended("a", "make lint", true, "all well here"),
            started("b", "make test", None),
            ended("b", "make test", false, &lines.join("\n")),
        ],
    );
    script.lacks("all well here");
    script.shows("make test  exit code 1 · 1m · 9 lines");
    script.shows("… 3 lines before");
    script.shows("line 9 of it");
    script.lacks("line 3 of it");
}

#[test]
fn turn_head_has_time_and_cost() {
    let spend = Spend { usd: MicroUsd(1_230_000), ..Spend::default() };
    let script = reading(
        (80, 24),
        vec![
            AgentEvent::Prompt { text: "go".into() },
            text("one"),
            AgentEvent::Usage(spend),
            AgentEvent::TurnEnd(TurnEnd::Done),
        ],
    );
    script.shows("» turn 1 · ");
    script.shows(" · 3m · $1.23");
}

#[test]
fn plan_is_pinned_while_the_run_goes_on() {
    let items = ["read", "write", "test", "push"].iter().enumerate();
    let items = items.map(|(at, text)| PlanItem { text: (*text).into(), done: at < 2 }).collect();
    let mut events = vec![AgentEvent::Plan { items }];
    events.extend((0..40).map(|n| text(&format!("word {n}"))));
    let mut script = reading((80, 24), events);
    script.shows(" Plan 2/4 ─");
    script.shows(" ◐ test");
    script.shows("word 39");
    script.keys("gg");
    script.shows(" Plan 2/4 ─");
    script.shows("word 0");
    // A small pane has no room for it.
    let script = reading((40, 12), vec![AgentEvent::Plan { items: vec![] }, text("a")]);
    script.lacks("Plan");
}

#[test]
fn subagents_are_indented_and_named_and_running_tools_have_a_time() {
    let script = reading(
        (80, 24),
        vec![
            started("t", "explore the code", None),
            started("g", "grep -rn route", Some("t")),
            ended("g", "grep -rn route", true, ""),
            started("m", "make all", None),
        ],
    );
    script.shows("  ✓ explore the code ▸ grep -rn route  exit code 0 · 1m");
    // The newest one is in the text, the other one stays below it.
    script.shows("◐ make all · 1m");
    script.shows("◐ explore the code · 4m");
}

#[test]
fn keys_jump_between_turns_failures_and_tools() {
    let mut events = Vec::new();
    for n in 0..3 {
        events.push(AgentEvent::Prompt { text: format!("prompt {n}").as_str().into() });
        events.extend((0..30).map(|at| text(&format!("word {n}.{at}"))));
        events.push(ended("x", &format!("tool {n}"), n != 1, "out"));
        events.extend((0..30).map(|at| text(&format!("after {n}.{at}"))));
    }
    let mut script = reading((80, 24), events);
    let first = |script: &Script| {
        let text = script.text();
        text.lines().nth(4).unwrap().trim_matches(['│', ' ', '┃']).to_owned()
    };
    script.keys("gg]");
    let mut stops = Vec::new();
    for _ in 0..3 {
        stops.push(first(&script));
        script.keys("]");
    }
    let begins = ["» turn 1", "✗ tool 1", "» turn 1"];
    assert!(stops.iter().zip(begins).all(|(stop, begin)| stop.starts_with(begin)), "{stops:?}");
    assert!(script.text().contains("no turn, failure or question below"), "{}", script.text());
    script.keys("gg}");
    assert!(first(&script).starts_with("✓ tool 0"), "{}", script.text());
    script.keys("}}{");
    assert!(first(&script).starts_with("✗ tool 1"), "{}", script.text());
}
