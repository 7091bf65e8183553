//! Keys in each overlay.

use crossterm::event::Event;

use super::fixture;
use super::script::Script;
use crate::core::model::approval::{Answer, Escalation};
use crate::core::model::command;
use crate::core::model::event::Event as Recorded;
use crate::core::model::id::{IssueKey, OutboxId, RunId};
use crate::core::model::outbox::OutboxStep;
use crate::core::model::permission::{PermissionRequest, Tool};
use crate::tui::drafts::Drafts;
use crate::tui::request::Request;
use crate::tui::response::{Dialog, TextView};

fn asking() -> Script {
    Script::on(fixture::asking(), (80, 24))
}

/// The request that an answer to the only open escalation is.
fn answer(script: &Script, answer: Answer) -> Vec<Request> {
    let inbox = script.snapshot.fleet.inbox();
    let Escalation { id, digest, .. } = inbox.first().unwrap().as_ref();
    let (escalation, digest) = (*id, *digest);
    vec![Request::Command(command::Command::Answer { escalation, digest, answer })]
}

#[test]
fn inbox_answers_a_permission() {
    let mut script = asking();
    assert_eq!(script.answered("ia"), answer(&script, Answer::Approve));
    assert!(script.keys("A").is_empty());
    script.shows("┌ Approve e1 (greeter#1) for the run? ");
    script.shows("This will allow exactly this for the rest of the run.");
    assert_eq!(script.answered("y"), answer(&script, Answer::ApproveRun));
    let deny = Answer::Deny { reason: "no".into() };
    assert_eq!(script.answered("dno<Enter>"), answer(&script, deny));
    let edit = Answer::Edit { command: "rm -rf build/x".into() };
    assert_eq!(script.answered("e/x<Enter>"), answer(&script, edit));
    let escalation = script.snapshot.fleet.inbox()[0].id;
    let acknowledge = command::Command::Acknowledge { escalation };
    assert_eq!(script.keys("v"), [Request::Command(acknowledge)]);
}

#[test]
fn inbox_lists_failed_steps_and_retries_skips_and_edits_them() {
    let mut fleet = fixture::asking();
    let (entry, at) = (OutboxId(900), fleet.last_event);
    let (issue, run) = (IssueKey::parse("acme/greeter#1").unwrap(), RunId(1));
    let step = OutboxStep::Comment { issue, run, text: "It is done".into() };
    fleet.apply(at, &Recorded::Posted { entry, step, after: None });
    let why = "GitHub answered 410".into();
    fleet.apply(at, &Recorded::DeliveryHeld { entry, why });
    let mut script = Script::on(fleet, (100, 30));
    script.keys("ij");
    script.shows("o900 comment on acme/greeter#1: can't be done: GitHub answered 410");
    script.shows("It is done");
    let request = |command| [Request::Command(command)];
    assert_eq!(script.keys("a"), request(command::Command::RetryStep { entry }));
    assert!(script.keys("d").is_empty());
    script.shows("afk will not comment on acme/greeter#1.");
    assert_eq!(script.keys("y"), request(command::Command::SkipStep { entry }));
    let text = "It is done!".into();
    assert_eq!(script.keys("e!<Enter>"), request(command::Command::EditStep { entry, text }));
    assert!(script.keys("A").is_empty());
    script.shows("o900 can be retried and skipped");
}

#[test]
fn inbox_confirms_what_an_answer_means_and_refuses_others() {
    let mut script = Script::new();
    script.keys("ia");
    script.shows("┌ Approve e1 (pulse#9)? ");
    script.shows("This will release the repository's lock: you repair master.");
    assert_eq!(script.answered("y"), answer(&script, Answer::Approve));
    assert!(script.keys("d").is_empty());
    script.shows("a frozen escalation has no such answer");
    let guidance = Answer::Text { text: "try".into() };
    assert_eq!(script.answered("<Enter>try<Enter>"), answer(&script, guidance));
}

#[test]
fn inbox_must_be_read_to_its_end_before_an_answer() {
    let mut script = Script::sized((40, 12));
    assert!(script.keys("ia").is_empty());
    script.shows("read it to its end first");
    assert_eq!(
        script.answered("<PageDown><PageDown><PageDown><PageDown>ay"),
        answer(&script, Answer::Approve)
    );
}

/// An edit of many files, whose detail names none of them.
fn edits(count: usize) -> PermissionRequest {
    let long = "deep/".repeat(20);
    PermissionRequest {
        tool: Tool::Edit,
        title: "change many files".into(),
        detail: "@@ -1 +1 @@\n-a\n+b".into(),
        targets: (0..count).map(|n| format!("src/{long}{n}.rs").into()).collect(),
        editable: false,
    }
}

#[test]
fn inbox_shows_every_target_before_it_can_be_approved() {
    let mut script = Script::on(fixture::asking_for(edits(40)), (80, 24));
    assert!(script.keys("ia").is_empty());
    script.shows("read it to its end first");
    // A jump to the end skips the targets between.
    assert!(script.keys("Ga").is_empty());
    script.shows("read the lines that you skipped first");
    script.shows("39.rs");
    script.lacks("20.rs");
    script.keys("gg");
    let mut seen = script.text();
    let mut pages = 0;
    loop {
        let sent = script.answered("<PageDown>a");
        seen.push_str(&script.text());
        if !sent.is_empty() {
            assert_eq!(sent, answer(&script, Answer::Approve));
            break;
        }
        pages += 1;
        assert!(pages < 40, "{}", script.text());
    }
    for n in 0..40 {
        assert!(seen.contains(&format!("{n}.rs")), "target {n} was not shown");
    }
    // At once in a terminal that holds all of it.
    let mut large = Script::on(fixture::asking_for(edits(10)), (200, 50));
    assert_eq!(large.answered("ia"), answer(&large, Answer::Approve));
}

#[test]
fn inbox_reveals_what_a_terminal_would_hide() {
    let hidden = "echo hi \u{1b}]0;x; rm -rf ~\u{7}\u{202e}";
    let request = PermissionRequest {
        tool: Tool::Shell,
        detail: hidden.into(),
        targets: vec![hidden.into()],
        ..edits(0)
    };
    let mut script = Script::on(fixture::asking_for(request), (80, 24));
    script.keys("i");
    script.shows("echo hi \\u{1b}]0;x; rm -rf ~\\u{7}\\u{202e}");
}

#[test]
fn inbox_must_be_read_again_in_a_narrower_terminal() {
    let mut script = Script::on(fixture::asking_for(edits(12)), (200, 50));
    script.keys("i");
    // What was read stays read, and another width begins anew for what was not.
    script.event(&Event::Resize(80, 24));
    assert_eq!(script.answered("a"), answer(&script, Answer::Approve));
    let mut script = Script::on(fixture::asking_for(edits(40)), (80, 24));
    script.keys("i<PageDown><PageDown>");
    script.event(&Event::Resize(60, 24));
    assert!(script.keys("a").is_empty());
}

#[test]
fn inbox_key_closes_it_again() {
    let mut script = Script::new();
    script.keys("i");
    script.shows("Inbox · 1 open");
    script.keys("i");
    script.lacks("Inbox · 1 open");
}

#[test]
fn answers_outside_of_the_inbox_open_it() {
    let mut script = Script::new();
    assert!(script.keys(":approve-run<Enter>").is_empty());
    script.shows("Inbox · 1 open");
    script.keys("<Esc>:acknowledge<Enter>");
    script.lacks("Inbox · 1 open");
    script.shows("open the inbox to acknowledge");
}

#[test]
fn confirm_takes_y_alone_for_yes() {
    let mut script = Script::new();
    script.keys("j");
    for key in ["n", "Y", "<Enter>", "<Esc>"] {
        script.keys("x");
        script.shows("┌ Cancel greeter#1 \"Greet by name\" (r3)? ");
        assert!(script.keys(key).is_empty(), "{key}");
        script.lacks("(r3)?");
        script.shows("nothing was changed");
    }
    let cancel = command::Command::Cancel { run: RunId(3) };
    assert_eq!(script.keys("xy"), [Request::Command(cancel)]);
}

#[test]
fn input_edits_pastes_and_keeps_a_draft() {
    let mut script = Script::new();
    script.keys("rone<A-Enter>two<Backspace>");
    script.event(&Event::Paste("\u{1b}[2J!".into()));
    let guidance = "one\ntw!".into();
    let retry = command::Command::Retry { run: RunId(2), guidance };
    assert_eq!(script.keys("<Enter>"), [Request::Command(retry.clone())]);
    script.app.accepted(&retry);
    assert!(script.keys("rmore<Esc>").is_empty());
    script.shows("the draft is kept");
    // Another prompt has no draft, and the same one has it once.
    script.keys("r");
    script.shows("This is your draft from before.");
    let guidance = "more!".into();
    let retry = command::Command::Retry { run: RunId(2), guidance };
    assert_eq!(script.keys("!<Enter>"), [Request::Command(retry.clone())]);
    script.app.accepted(&retry);
    script.keys("r");
    script.lacks("This is your draft");
    script.lacks("more");
}

#[test]
fn text_is_kept_until_its_command_is_accepted() {
    let mut script = Script::new();
    let retry =
        |guidance: &str| command::Command::Retry { run: RunId(2), guidance: guidance.into() };
    assert_eq!(script.keys("rslowly<Enter>"), [Request::Command(retry("slowly"))]);
    // The link is away: no answer has come yet.
    script.keys("r");
    script.shows("You have sent this text, and afk has not accepted it yet.");
    script.keys("<Esc>");
    script.app.refused(&retry("slowly"), "retry refused: no answer");
    script.frame();
    script.shows("retry refused: no answer; its prompt keeps your text");
    script.keys("r");
    script.shows("This is your draft from before.");
    // Sent as it is, it is still a draft, also for the next cockpit.
    assert_eq!(script.keys("<Enter>"), [Request::Command(retry("slowly"))]);
    assert_ne!(script.app.drafts(), Drafts::default());
    script.app.accepted(&retry("slowly"));
    assert_eq!(script.app.drafts(), Drafts::default());
    // Another command's refusal names no text.
    script.app.refused(&retry("other"), "retry refused: it has ended");
    script.frame();
    script.lacks("keeps your text");
    // Nothing was typed, so nothing is kept.
    assert_eq!(script.keys("r<Enter>"), [Request::Command(retry(""))]);
    assert_eq!(script.app.drafts(), Drafts::default());
}

#[test]
fn answer_that_is_taken_back_leaves_its_text() {
    let mut script = asking();
    script.keys("idnot in build<Enter>");
    script.keys("u");
    script.shows("was not sent; it is open again");
    script.keys("d");
    script.shows("This is your draft from before.");
    script.shows("not in build");
}

#[test]
fn draft_of_an_answer_stays_until_it_is_sent_or_emptied() {
    let mut script = asking();
    script.keys("idnot in build<Esc>");
    script.shows("the draft is kept");
    // Looking at it once more loses nothing.
    script.keys("d<Esc><Esc>id");
    script.shows("not in build");
    let deny = Answer::Deny { reason: "not in build!".into() };
    let sent = script.answered("!<Enter>");
    assert_eq!(sent, answer(&script, deny));
    let [Request::Command(sent)] = &sent[..] else { panic!("{sent:?}") };
    script.app.accepted(sent);
    script.keys("d");
    script.lacks("not in build");
    // An edited command, too; an emptied text is no draft.
    script.keys("<Esc>e/x<Esc>e");
    script.shows("rm -rf build/x");
    script.keys(&"<Backspace>".repeat(20));
    script.keys("<Esc>e");
    script.shows("rm -rf build");
    script.lacks("build/x");
}

#[test]
fn palette_finds_and_runs_an_action() {
    let mut script = Script::new();
    script.keys(":xyz");
    script.shows("no action has these letters");
    script.keys("<Backspace><Backspace><Backspace>spend");
    script.shows(">Show spend");
    script.keys("<Enter>");
    script.lacks("Find action");
    script.shows("┌ Spend ");
    script.keys("<Esc>:pane<Down><Enter>");
    script.shows(">2 Worktrees");
}

#[test]
fn help_lists_the_keys_of_the_place_it_was_opened_in() {
    let mut script = Script::new();
    script.keys("?");
    script.shows("┌ Help ");
    script.shows("Next pane");
    script.keys("<End>");
    script.shows("continues the line above");
    let mut script = Script::sized((200, 50));
    script.keys("i?");
    script.shows("Approve for run");
    script.shows("Quit");
}

#[test]
fn pager_scrolls_to_the_end_of_wrapped_lines_and_copies() {
    let mut script = Script::new();
    let lines: Vec<String> = (0..30).map(|n| format!("{n} {}", "long ".repeat(40))).collect();
    let text = lines.join("\n");
    script.open(Dialog::Text(TextView::fixed("Words", lines)));
    script.shows("lines below");
    script.keys("G");
    script.shows("│29 long");
    script.lacks("below");
    script.keys("k");
    script.shows(" 1 line below ");
    assert_eq!(script.keys("y"), [Request::Copy(text)]);
    script.keys("q");
    script.lacks("Words");
}

#[test]
fn documents_follow_the_fleet() {
    let mut script = Script::new();
    script.keys("W");
    script.shows("┌ Clients ");
    script.lacks("ana");
    script.snapshot.clients = vec![crate::runtime::client::Attached {
        actor: crate::core::model::id::Actor("ana".into()),
        role: command::Role::Operator,
        origin: "tty".into(),
        size: (80, 24),
        since: script.snapshot.fleet.last_event,
    }];
    script.keys("j");
    script.shows("ana              operator  tty");
}

#[test]
fn wrapped_line_of_a_diff_looks_like_no_deletion() {
    let context = format!(" {} - this word is context - and so is this", "a".repeat(30));
    let diff = vec!["@@ -1 +1 @@".to_owned(), context, "-gone".to_owned()];
    for size in [(40, 12), (43, 12), (80, 24)] {
        let mut script = Script::sized(size);
        script.open(Dialog::Text(TextView::fixed("Diff of r3", diff.clone())));
        let text = script.text();
        let deletions: Vec<&str> = text.lines().filter(|line| line.starts_with("│-")).collect();
        assert!(deletions.len() == 1 && deletions[0].starts_with("│-gone"), "{text}");
    }
    let mut script = Script::sized((40, 12));
    script.open(Dialog::Text(TextView::fixed("Diff of r3", diff)));
    script.shows("│↪ ");
}
