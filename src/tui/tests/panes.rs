//! Keys in each pane.

use tokio::sync::mpsc;

use super::script::{Script, lines};
use crate::breakglass::shell::ToShell;
use crate::breakglass::ssh::KeyChange;
use crate::core::model::breakglass::{BreakglassRequest, ShellId, Verb, VerbId};
use crate::core::model::command;
use crate::core::model::id::RunId;
use crate::runtime::breakglass::console::{FromShell, ShellEnd};
use crate::tui::component::PaneMessage;
use crate::tui::request::Request;

fn command(action: command::Command) -> Vec<Request> {
    vec![Request::Command(action)]
}

fn breakglass(request: BreakglassRequest) -> Vec<Request> {
    command(command::Command::Breakglass { request })
}

#[test]
fn queue_acts_on_the_selected_run() {
    let mut script = Script::new();
    assert_eq!(script.keys("xy"), command(command::Command::Cancel { run: RunId(3) }));
    assert_eq!(script.keys("jXy"), command(command::Command::Interrupt { run: RunId(2) }));
    let retry = command::Command::Retry { run: RunId(2), guidance: "again".into() };
    assert_eq!(script.keys("ragain<Enter>"), command(retry));
    assert_eq!(script.keys("o"), [Request::Diff(RunId(2))]);
    assert_eq!(script.keys("!"), [Request::Shell("/state/workspaces/2/wt-1".into())]);
    assert_eq!(script.keys("y"), [Request::Copy("acme/pulse#9".into())]);
    script.shows("copied 12 characters");
}

#[test]
fn frozen_run_offers_to_look_again() {
    let mut script = Script::new();
    script.lacks("Look again");
    script.keys("j");
    script.shows("r Retry run  L Look again");
    let look = || command(command::Command::LookAgain { run: RunId(2) });
    assert_eq!(script.keys("L"), look());
    assert_eq!(script.keys(":look-again<Enter>"), look());
    // The card of the same run offers it too, and asks for no reading first.
    assert_eq!(script.keys("iL"), look());
}

#[test]
fn queue_needs_a_run_for_actions_on_runs() {
    let mut script = Script::new();
    assert!(script.keys("jjr").is_empty());
    script.shows("no run is selected");
    assert!(script.keys("!").is_empty());
    script.shows("the selected run has no worktree");
}

#[test]
fn queue_opens_an_explanation_and_the_transcript_follows() {
    let mut script = Script::new();
    script.keys("j<Enter>");
    script.shows("┌ acme/pulse#9 ");
    script.keys("<Esc>3");
    script.shows("3 Transcript · r2 acme/pulse#9");
}

#[test]
fn steer_continues_an_ended_run() {
    let mut script = Script::new();
    script.keys("Gs");
    script.shows("Continue r1 in the same conversation");
    let retry = command::Command::Retry { run: RunId(1), guidance: "more".into() };
    assert_eq!(script.keys("more<Enter>"), command(retry));
    script.keys("ggs");
    script.shows("Steer r3: taken at the next step");
    let steer = command::Command::Steer { run: RunId(3), text: "look".into() };
    assert_eq!(script.keys("look<Enter>"), command(steer));
}

#[test]
fn worktrees_open_the_transcript_of_their_run() {
    let mut script = Script::new();
    script.keys("2j<Enter>");
    script.shows(">3 Transcript");
    script.shows("· r3 acme/greeter#1");
}

#[test]
fn transcript_searches_and_folds() {
    let mut script = Script::new();
    script.keys("/fails, as<Enter>");
    script.shows(">3 Transcript");
    script.shows(">The test fails, as it should.");
    script.keys("n");
    script.shows("no further match of \"fails, as\" that way");
    script.keys("<Esc>");
    script.lacks(">The test fails");
    script.lacks("│ FAIL tests/hello_name.sh");
    script.keys("<Space>");
    script.shows("│ FAIL tests/hello_name.sh");
    script.keys("f");
    script.shows("following");
    script.keys("k");
    script.shows(" of 19 ");
}

#[test]
fn search_needs_a_text_to_repeat() {
    let mut script = Script::new();
    script.keys("n");
    script.shows("nothing to repeat: search for a text first");
}

#[test]
fn deploy_opens_the_proof_of_its_repository() {
    let mut script = Script::new();
    script.keys("4j<Enter>");
    script.shows("┌ Proof ");
    script.shows("acme/ledger");
    script.keys("<Esc>ggy");
    script.shows(">4 Deploy health");
}

#[test]
fn breakglass_runs_reading_verbs_at_once_and_asks_before_the_others() {
    let mut script = Script::new();
    let status = BreakglassRequest::Verb { verb: Verb::Status, confirm: None };
    assert_eq!(script.keys("5<Enter>"), breakglass(status));
    let mutating = Verb::ALL.iter().position(|verb| verb.mutates()).unwrap();
    script.keys(&"j".repeat(mutating));
    assert!(script.keys("<Enter>").is_empty());
    script.shows("Type devvm to go ahead. This can't be undone.");
    let requests = script.keys("devvm<Enter>");
    let [
        Request::Command(command::Command::Breakglass {
            request: BreakglassRequest::Verb { verb, confirm },
        }),
    ] = requests.as_slice()
    else {
        panic!("{requests:?}")
    };
    assert_eq!(*verb, Verb::ALL[mutating]);
    assert_eq!(confirm.as_ref().map(|confirm| confirm.name.as_str()), Some("devvm"));
}

#[test]
fn breakglass_arms_with_a_reason_from_any_pane() {
    let mut script = Script::new();
    script.keys("5a");
    script.shows("You may act for 30 min.");
    let arm = BreakglassRequest::Arm { reason: "it hangs".into(), take_over: false };
    assert_eq!(script.keys("it hangs<Enter>"), breakglass(arm));
    assert_eq!(script.keys("1:disarm<Enter>"), breakglass(BreakglassRequest::Disarm));
    assert_eq!(script.keys("5d"), []);
    script.shows("select a verb that ran");
}

#[test]
fn breakglass_shows_the_output_of_a_started_verb() {
    let mut script = Script::new();
    script.receive(PaneMessage::VerbStarted(VerbId(1)));
    script.shows("Live output; the verb goes on without you");
    script.shows("status v1 by ana");
}

#[test]
fn breakglass_gives_the_keys_to_a_shell_until_its_own_key() {
    let mut script = Script::new();
    let (to, mut typed) = mpsc::channel(8);
    let (host, id) = ("devvm".to_owned(), ShellId(1));
    script.receive(PaneMessage::ShellOpened { host, id, to, size: (80, 24) });
    assert_eq!(typed.try_recv(), Ok(ToShell::Size(80, 24)));
    // The pane is smaller than the screen.
    assert_eq!(typed.try_recv(), Ok(ToShell::Size(78, 19)));
    assert!(script.keys("q").is_empty());
    assert_eq!(typed.try_recv(), Ok(ToShell::Bytes(b"q".to_vec())));
    script.receive(PaneMessage::ShellOutput(id, FromShell::Bytes(b"one\r\ntwo\r\n".to_vec())));
    script.shows("│two");
    script.keys("<C-]>");
    script.shows("it goes on");
    script.keys("/one<Enter>");
    assert!(typed.try_recv().is_err(), "the search was typed into the shell");
    assert_eq!(lines(&script.keys("<Esc>5gg")), [""; 0]);
    script.lacks("it goes on");
    let end = ShellEnd { why: "link lost".into(), key: None };
    script.receive(PaneMessage::ShellOutput(id, FromShell::Ended(end)));
    script.shows("devvm");
}

#[test]
fn breakglass_trusts_a_new_key_by_the_name_of_its_host() {
    let change = || KeyChange {
        host: "devvm".into(),
        key: "ssh-ed25519 AAAA".into(),
        old: Some("SHA256:old".into()),
        new: "SHA256:new".into(),
    };
    let mut script = Script::new();
    let (to, _typed) = mpsc::channel(8);
    let (host, id) = ("devvm".to_owned(), ShellId(1));
    script.receive(PaneMessage::ShellOpened { host, id, to, size: (80, 24) });
    let end = || ShellEnd { why: "another key".into(), key: Some(change()) };
    script.receive(PaneMessage::ShellOutput(id, FromShell::Ended(end())));
    script.shows("devvm has another key");
    assert!(script.keys("pve<Enter>").is_empty());
    script.shows("that is not its name: nothing was done");
    script.receive(PaneMessage::ShellOutput(id, FromShell::Ended(end())));
    let KeyChange { host, key, old, new } = change();
    assert_eq!(
        script.keys("devvm<Enter>"),
        breakglass(BreakglassRequest::Trust { host, key, old, new })
    );
}
