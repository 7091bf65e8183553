//! Keys in each pane.

use std::time::Duration;

use crossterm::event::Event;
use tokio::sync::mpsc;

use super::fixture;
use super::script::{Script, lines};
use crate::breakglass::link::LinkState;
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
    assert_eq!(script.keys("jxy"), command(command::Command::Cancel { run: RunId(3) }));
    assert!(script.keys("X").is_empty());
    script.shows("greeter#1: no turn is under way");
    script.keys("k");
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
    script.keys("j");
    script.lacks("Look again");
    script.keys("k");
    script.shows("r Retry pulse#9  L Look again at pulse#9");
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
    script.shows("vault#11 has no run yet");
    assert!(script.keys("!").is_empty());
    script.shows("vault#11 has no run yet");
}

#[test]
fn queue_opens_an_explanation_and_the_transcript_follows() {
    let mut script = Script::new();
    script.keys("<Enter>");
    script.shows("┌ acme/pulse#9 ");
    script.keys("<Esc>3");
    script.shows("3 Transcript · r2 acme/pulse#9");
}

#[test]
fn steer_asks_before_it_reopens_a_run_that_is_done() {
    for key in ["s", "r"] {
        let mut script = Script::new();
        script.keys("G");
        assert!(script.keys(key).is_empty());
        script.shows("Reopen ledger#4 \"Sum the amounts\" (r1)?");
        assert!(script.keys("n").is_empty());
        script.shows("nothing was changed");
        script.keys(key);
        script.keys("y");
        script.shows("ledger#4 \"Sum the amounts\" (r1)");
        let retry = command::Command::Retry { run: RunId(1), guidance: "more".into() };
        assert_eq!(script.keys("more<Enter>"), command(retry));
    }
}

#[test]
fn steer_reaches_the_turn_under_way_and_says_so_where_there_is_none() {
    let mut script = Script::new();
    assert!(script.keys("js").is_empty());
    script.shows("greeter#1: no turn is under way");
    let mut script = Script::on(fixture::asking(), (80, 24));
    script.keys("s");
    script.shows("Steer greeter#1 \"Greet by name\" (r1)");
    script.shows("at the next step");
    let steer = command::Command::Steer { run: RunId(1), text: "look".into() };
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
    script.keys("j3/fails, as<Enter>");
    script.shows(">3 Transcript");
    script.shows(">The test fails, as it should.");
    script.shows("match 1/1");
    script.keys("n");
    script.shows("went on from the beginning: match 1/1");
    script.keys("<Esc>");
    script.lacks(">The test fails");
    script.lacks("│ ok   tests/hello.sh");
    script.keys("<Space>");
    script.shows("│ ok   tests/hello.sh");
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
fn queue_is_in_sections_and_opens_the_selected_row() {
    let mut script = Script::new();
    script.shows("WAITS FOR YOU 1");
    script.shows("AT WORK 1");
    script.shows("HELD 5  blocked 1 · not allowed 1 · not labelled 1");
    script.shows("DONE TODAY 1");
    script.lacks("NEXT");
    // The reason is cut in the row, and whole below it.
    script.shows("attempt is reached · blocks pulse#10");
    script.shows("Queue · 1/8");
    script.keys("G");
    script.shows("Queue · 8/8");
}

#[test]
fn queue_filters_by_words_and_fields() {
    let mut script = Script::new();
    script.keys("/repo:greeter<Enter>");
    script.shows("/ repo:greeter · 1/3 of 8");
    script.lacks("pulse#9");
    script.keys("/ capitals<Enter>");
    // The filter is the operator's own move: the first row that it leaves is selected.
    script.shows("/ repo:greeter capitals · 1/1 of 8");
    assert!(script.keys("x").is_empty());
    script.shows("greeter#3 has no run yet");
    script.keys("<Esc>/state:held by:mallory<Enter>");
    script.shows("greeter#3");
    script.lacks("greeter#2");
    script.keys("<Esc>");
    script.shows("pulse#9");
}

#[test]
fn agent_that_asks_waits_for_a_human_and_is_not_at_work() {
    let mut script = Script::on(fixture::asking(), (80, 24));
    script.shows("WAITS FOR YOU 1");
    script.lacks("AT WORK");
    script.shows(">? -- greeter#1");
    script.shows("permission: rm -rf build · holds a permit");
    script.shows(" WAITS FOR YOU  nothing at work, 1 waits for you · i answers");
    script.keys("2");
    script.shows(">? r1");
    script.snapshot.fleet.policy.capacity = 1;
    script.shows(" STANDING STILL  the only permit waits for you · i answers");
    assert_eq!(script.snapshot.fleet.count_at_work(), 0);
}

#[test]
fn first_line_says_how_it_stands() {
    let mut script = Script::new();
    script.shows(" ASKS YOU  1 at work, 1 question open · i answers");
    script.shows("! 1 question blocks 1 issue, the oldest for ");
    script.snapshot.fleet.policy.kill_switch = true;
    script.shows(" KILL SWITCH ON  nothing new starts; r3 goes on · p lifts it");
}

#[test]
fn transcript_shows_the_selected_subject_from_the_first_frame() {
    let mut script = Script::sized((200, 50));
    script.shows("3 Transcript · r2 acme/pulse#9");
    script.keys("j");
    script.shows("3 Transcript · r3 acme/greeter#1");
    script.keys("j");
    script.shows("3 Transcript · vault#11 · no run yet");
    script.shows("acme/vault is not on the allowlist");
    script.keys("4j");
    script.shows("3 Transcript · r1 acme/ledger#4");
}

#[test]
fn deploy_acts_on_its_cursor() {
    let mut script = Script::new();
    assert_eq!(script.keys("4jo"), [Request::Diff(RunId(1))]);
    script.shows("o Diff of ledger#4");
    assert_eq!(script.keys("jL"), command(command::Command::LookAgain { run: RunId(2) }));
    // Breakglass has no run, so that no key of it cancels one.
    assert!(script.keys("5x").is_empty());
    script.shows("no run is selected");
}

#[test]
fn worktree_that_went_back_to_the_pool_opens_no_shell() {
    let mut script = Script::new();
    assert!(script.keys("G!").is_empty());
    script.shows("ledger#4: its run has no worktree of its own now");
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
    assert_eq!(typed.try_recv(), Ok(ToShell::Size(78, 18)));
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

fn open_shell(script: &mut Script) -> (ShellId, mpsc::Receiver<ToShell>) {
    let (to, mut typed) = mpsc::channel(8);
    let (host, id) = ("devvm".to_owned(), ShellId(1));
    script.receive(PaneMessage::ShellOpened { host, id, to, size: (80, 24) });
    while typed.try_recv().is_ok() {}
    (id, typed)
}

#[test]
fn pasted_lines_wait_for_a_yes() {
    let mut script = Script::new();
    let (id, mut typed) = open_shell(&mut script);
    let paste = |script: &mut Script, text: &str| {
        assert!(script.event(&Event::Paste(text.into())).is_empty());
    };
    paste(&mut script, "ls -l");
    assert_eq!(typed.try_recv(), Ok(ToShell::Bytes(b"ls -l".to_vec())));
    // The program's own protection does not replace the question: a host can turn it on and ignore it.
    for mode in ["", "\u{1b}[?2004h"] {
        script.receive(PaneMessage::ShellOutput(id, FromShell::Bytes(mode.into())));
        paste(&mut script, "rm -rf x\nls\n");
        script.shows("Paste 2 lines into the shell on devvm?");
        script.shows("rm -rf x");
        script.keys("n");
        assert!(typed.try_recv().is_err(), "lines were sent without a yes");
        paste(&mut script, "one\rtwo");
        script.shows("Paste 2 lines into the shell on devvm?");
        script.keys("y");
        let Ok(ToShell::Bytes(sent)) = typed.try_recv() else { panic!("nothing was sent") };
        assert!(String::from_utf8(sent).unwrap().contains("one\rtwo"));
        assert!(typed.try_recv().is_err());
    }
    // Keys still go to the shell afterwards.
    script.keys("q");
    assert_eq!(typed.try_recv(), Ok(ToShell::Bytes(b"q".to_vec())));
}

#[test]
fn silent_link_is_marked_with_the_keys_that_leave() {
    let mut script = Script::new();
    let (id, mut typed) = open_shell(&mut script);
    let link = |script: &mut Script, state| {
        script.receive(PaneMessage::ShellOutput(id, FromShell::Link(state)));
    };
    link(&mut script, LinkState::Opening("touch the key".into()));
    script.shows("touch the key; <C-]> or <F12> leaves");
    link(&mut script, LinkState::Live);
    script.lacks("touch the key");
    link(&mut script, LinkState::Silent { seconds: 8 });
    script.later(Duration::from_millis(3_500));
    script.shows("NO ANSWER from devvm for 11 seconds; <C-]> or <F12> leaves");
    link(&mut script, LinkState::Live);
    script.lacks("NO ANSWER");
    // A keyboard without `]` has another way out.
    script.keys("<F12>");
    script.shows("it goes on");
    assert!(typed.try_recv().is_err());
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
