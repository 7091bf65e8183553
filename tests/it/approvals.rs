//! Permissions, questions and messages by key in a real terminal, against a double that writes
//! Claude Code's protocol.

use crate::support::pty::Terminal;
use crate::support::world::World;
use crate::support::{journal_id, log, processes_with};

/// An agent that requests permission for two commands, runs the approved ones, and does its work.
const ASKS: &str = "\
init; taken
ask a Bash '{\"command\":\"echo first >> asked\",\"description\":\"Leave a trace\"}'
eval \"$(allowed)\"
case $ANSWER in *'\"deny\"'*) say \"I was told: $(printf %s \"$ANSWER\" | sed 's/.*\"message\":\"\\([^\"]*\\)\".*/\\1/')\" ;; *) tool_result a ran ;; esac
ask b Bash '{\"command\":\"echo first >> asked\",\"description\":\"Leave a trace\"}'
eval \"$(allowed)\"
tool_result b ran
git $US add asked 2>/dev/null; work; result";

const ASK_ALL: &str = "[permissions]\nask = ['shell']";

fn opened(world: &World) -> Terminal {
    let mut terminal = world.cockpit();
    terminal.shows("inbox 1");
    terminal.keys("i");
    // The whole command and every possible answer are shown.
    terminal.shows("echo first >> asked");
    terminal.shows("answers this version only");
    terminal.takes_answers();
    terminal
}

fn done(mut terminal: Terminal) {
    terminal.shows("done: ");
    terminal.until("nothing at work", |s| s.contains("permits 0/3"));
    terminal.keys("qqq");
    assert_eq!(terminal.end(), 0);
}

/// The files that the agent's commands left in the commit.
fn trace(world: &World) -> String {
    crate::support::git(&world.remote(), &["show", "master:asked"])
}

#[test]
fn permission_shows_the_whole_command_and_allows_it_once() {
    let world = World::claude(ASKS).rules(ASK_ALL);
    let mut terminal = opened(&world);
    terminal.shows("allow exactly this for the rest of the run");
    terminal.shows("edit the command, then allow it");
    terminal.keys("a");
    // The approval counts once: the same command is requested again.
    terminal.shows("e2 · permission");
    terminal.takes_answers();
    terminal.keys("a");
    terminal.keys("\u{1b}");
    done(terminal);
    assert_eq!(trace(&world), "first\nfirst");
}

#[test]
fn run_grant_allows_the_same_command_again() {
    let world = World::claude(ASKS).rules(ASK_ALL);
    let mut terminal = opened(&world);
    terminal.keys("A");
    terminal.shows("This will allow exactly this for the rest of the run.");
    terminal.keys("y\u{1b}");
    done(terminal);
    assert_eq!(trace(&world), "first\nfirst");
    assert!(world.transcript(1).contains("granted for this run"));
}

#[test]
fn agent_receives_the_reason_of_a_denial() {
    let world = World::claude(ASKS).rules(ASK_ALL);
    let mut terminal = opened(&world);
    terminal.keys("d");
    terminal.shows("Deny e1 (");
    terminal.keys("leave no traces\r");
    terminal.shows("e2 · permission");
    terminal.takes_answers();
    terminal.keys("a\u{1b}");
    done(terminal);
    assert_eq!(trace(&world), "first");
    assert!(world.transcript(1).contains("I was told: leave no traces"));
}

#[test]
fn operator_edits_a_command_before_approving_it() {
    let world = World::claude(ASKS).rules(ASK_ALL);
    let mut terminal = opened(&world);
    // An edited command that a guardrail forbids is refused.
    terminal.keys("e");
    terminal.shows("Edit e1");
    terminal.keys("; git push --force\r");
    terminal.shows("never allowed");
    // What was typed is offered again: its end is deleted.
    terminal.keys("e");
    terminal.shows("Edit e1");
    terminal.shows("; git push --force");
    terminal.keys(&"\u{7f}".repeat("; git push --force".len()));
    terminal.keys("; echo second >> asked\r");
    terminal.shows("e2 · permission");
    terminal.takes_answers();
    terminal.keys("a\u{1b}");
    done(terminal);
    assert_eq!(trace(&world), "first\nsecond\nfirst");
}

#[test]
fn unanswered_request_expires_and_denies_the_agent() {
    let world = World::claude(ASKS).rules(ASK_ALL).with("[limits]\nanswer_hours = 0");
    let terminal = world.cockpit();
    done(terminal);
    assert!(world.transcript(1).contains("nobody answered in time"));
}

#[test]
fn policy_and_guardrails_answer_without_a_human() {
    let script = "\
init; taken
ask a Bash '{\"command\":\"echo first >> asked\"}'
eval \"$(allowed)\"; tool_result a ran
ask b Bash '{\"command\":\"curl http://127.0.0.1:1\"}'
case $ANSWER in *'the policy of this repository refuses it'*) echo refused >> asked ;; esac
ask c Bash '{\"command\":\"git push --force origin HEAD\"}'
case $ANSWER in *'forced or deleting push is never allowed'*) echo guarded >> asked ;; esac
ask d Write '{\"file_path\":\"/etc/afk-was-here\",\"content\":\"x\"}'
case $ANSWER in *'outside the worktree is never allowed'*) echo stayed >> asked ;; esac
git $US add asked; work; result";
    let world = World::claude(script).rules("[permissions]\ndeny = ['shell(curl*)']");
    let mut terminal = world.cockpit();
    terminal.shows("done: ");
    // Both guardrails escalated; nothing waits for an answer.
    terminal.shows("inbox 2");
    terminal.keys("i");
    terminal.shows("Inbox · 2 open");
    terminal.shows("guardrail");
    terminal.keys("\u{1b}");
    done(terminal);
    assert_eq!(trace(&world), "first\nrefused\nguarded\nstayed");
}

#[test]
fn option_number_answers_a_question() {
    let script = "\
init; taken
ask q AskUserQuestion '{\"questions\":[{\"question\":\"Which colour?\",\"header\":\"Colour\",\"options\":[{\"label\":\"Red\",\"description\":\"warm\"},{\"label\":\"Green\",\"description\":\"calm\"}]}]}'
case $ANSWER in *'\"Which colour?\":\"Green\"'*) work ;; esac
result";
    let world = World::claude(script);
    let mut terminal = world.cockpit();
    terminal.shows("inbox 1");
    terminal.keys("i");
    terminal.shows("Which colour?");
    terminal.shows("2. Green: calm");
    terminal.shows("answers this version only");
    terminal.takes_answers();
    terminal.keys("\r");
    terminal.shows("Answer e1");
    terminal.keys("2\r");
    terminal.keys("\u{1b}");
    done(terminal);
}

#[test]
fn message_reaches_the_agent_in_the_middle_of_its_turn() {
    let script = "\
init; taken; say ready
taken
case $MESSAGE in *'the other way'*) work ;; esac
say understood; result";
    let world = World::claude(script);
    let mut terminal = world.cockpit();
    terminal.keys("3");
    terminal.shows("ready");
    terminal.keys("s");
    terminal.shows("the message at the next step");
    terminal.keys("go the other way\r");
    terminal.shows("go the other way");
    terminal.shows("message taken");
    done(terminal);
}

#[test]
fn interrupt_keeps_the_conversation_and_ends_child_processes() {
    // The child has its own session, like the shells of real agents.
    let script = "\
init; taken
if [ -z \"$RESUMED\" ]; then
    setsid sleep 1000 &
    say working
    read -r CONTROL
    case $CONTROL in *'\"subtype\":\"interrupt\"'*) ;; *) exit 9 ;; esac
    line '{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":false,\"terminal_reason\":\"aborted_tools\",\"total_cost_usd\":0.01,\"usage\":{}}'
    exit 0
fi
case $MESSAGE in *'do it slowly'*) work ;; esac
say \"resumed $RESUMED\"; result 0.02";
    let world = World::claude(script);
    let mut terminal = world.cockpit();
    terminal.keys("3");
    terminal.shows("working");
    terminal.keys("X");
    terminal.shows("┌ Interrupt ");
    terminal.keys("y");
    terminal.shows("an operator interrupted the turn");
    terminal.until("the run waits", |s| s.contains("permits 0/3"));
    // Its child processes have ended before the run is reopened.
    let mark = journal_id(&world.state());
    terminal.read_until("the tree is gone", || processes_with("AFK_STATE", &mark).is_empty());
    terminal.keys("s");
    terminal.shows("in the same conversation");
    terminal.keys("do it slowly\r");
    terminal.shows("resumed session-1");
    done(terminal);
    let subjects = log(&world.remote(), "master", "%s").join("\n");
    assert!(subjects.contains("Do it"), "{subjects}");
}
