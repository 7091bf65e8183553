//! The views over the journal and over runs: brief, timeline, spend, compare, grid, review.

use super::fixture;
use super::script::Script;
use crate::core::fleet::Fleet;
use crate::core::model::activity::{Activity, TurnPrompt};
use crate::core::model::command;
use crate::core::model::event::Event as Recorded;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::core::query::brief::{BriefFold, FleetBrief};
use crate::core::query::span::{SpanFold, Timeline};
use crate::tui::request::Request;
use crate::tui::response::{ComparedRuns, Dialog, ReviewedDiff};

const SIZES: [(u16, u16); 3] = [(40, 12), (80, 24), (200, 50)];

const DIFF: &str = "diff --git a/app.sh b/app.sh
--- a/app.sh
+++ b/app.sh
@@ -6,2 +6,3 @@
     hello) echo \"Hello!\" ;;
-    bye) echo \"Bye\" ;;
+    hello-*) echo \"Hello, ${1#hello-}!\" ;;
+    bye) echo \"Bye!\" ;;
diff --git a/tests/hello.sh b/tests/hello.sh
--- /dev/null
+++ b/tests/hello.sh
@@ -0,0 +1 @@
+[ \"$(sh app.sh hello-ada)\" = \"Hello, ada!\" ]";

pub(super) fn brief() -> FleetBrief {
    let events = fixture::events();
    let mut fold = BriefFold::new(events[0].0.plus(-60_000));
    for (at, event) in &events {
        fold.take(*at, event);
    }
    fold.finish(events.last().unwrap().0.plus(3_600_000))
}

pub(super) fn timeline() -> Timeline {
    let events = fixture::events();
    let mut fold = SpanFold::new(events[0].0.plus(-3_600_000));
    for (at, event) in &events {
        fold.take(*at, event);
    }
    fold.finish(events.last().unwrap().0.plus(600_000))
}

pub(super) fn compared() -> Dialog {
    let diffs = [Ok(DIFF.to_owned()), Err("r2 has no worktree".to_owned())];
    Dialog::Compare(Box::new(ComparedRuns { runs: [RunId(3), RunId(2)], diffs }))
}

pub(super) fn review() -> Dialog {
    let lines = DIFF.lines().map(str::to_owned).collect();
    Dialog::Review(Box::new(ReviewedDiff { run: RunId(3), lines }))
}

/// The fleet of the pictures, with r3 in a turn, in which its agent takes messages.
fn in_turn() -> Fleet {
    let mut fleet = fixture::fleet();
    let at = fleet.last_event;
    let activity = Activity::Turn { prompt: TurnPrompt::Implement };
    fleet.apply(at, &Recorded::Began { run: RunId(3), activity });
    fleet
}

#[test]
fn brief_names_what_happened_and_what_waits() {
    let mut script = Script::new();
    assert_eq!(script.keys("b"), [Request::Brief]);
    script.open(Dialog::Brief(Box::new(brief())));
    script.shows("1 landed · 1 frozen · 1 waiting for you");
    script.shows("WAITS FOR YOU 1");
    // Its key closes it again, as that of the inbox does.
    assert!(script.keys("b").is_empty());
    script.lacks("┌ Brief");
    script.open(Dialog::Brief(Box::new(brief())));
    script.shows("acme/pulse#9 (r2)");
    script.keys("G");
    script.shows("acme/ledger");
    let copied = script.keys("y");
    assert!(
        matches!(&copied[..], [Request::Copy(text)] if text.contains("LANDED 1")),
        "{copied:?}"
    );
}

#[test]
fn absence_is_named_with_the_key_of_the_brief() {
    let mut script = Script::new();
    script.app.note_absence(3 * 3_600_000);
    script.shows("nobody was here for 3 h: b shows what happened");
}

#[test]
fn timeline_shows_who_had_the_time_in_as_many_hours_as_wanted() {
    let mut script = Script::sized((120, 30));
    assert_eq!(script.keys("H"), [Request::Timeline]);
    script.open(Dialog::Timeline(Box::new(timeline())));
    // Its axis begins with the first run.
    script.shows("Timeline: 28 min of 4 h until");
    script.shows("waiting for you");
    script.shows(" acme/pulse");
    script.shows("r2 pulse#9");
    assert!(script.keys("<lt><lt><lt><lt>").is_empty());
    script.shows("Timeline: 28 min of 1 h until");
    let row = script.text().lines().find(|line| line.contains("r2 pulse#9")).unwrap().to_owned();
    assert!(row.contains('?'), "the frozen run waits for a human: {row}");
    script.keys(">>>>>>>>");
    script.shows("Timeline: 28 min of 24 h until");
}

#[test]
fn spend_has_bars_limits_and_a_forecast() {
    let mut fleet = fixture::fleet();
    fleet.policy.day_soft_limit = Some(crate::core::model::budget::MicroUsd(500_000));
    fleet.policy.day_limit = Some(crate::core::model::budget::MicroUsd(5_000_000));
    let noon = Timestamp(fleet.last_event.day() * 86_400_000 + 43_200_000);
    fleet.last_event = noon;
    let mut script = Script::on(fleet, (100, 30));
    script.app.set_now(noon);
    script.keys("$");
    script.shows("Limits: soft $0.50, hard $5.00; $4.07 left today");
    script.shows("At this pace the day ends at $1.86: over the soft limit");
    script.shows("By repository, the dearest first");
    script.shows("█");
}

#[test]
fn compare_takes_a_marked_run_and_another() {
    let mut script = Script::new();
    assert!(script.keys("jc").is_empty());
    script.shows("greeter#1 is marked: c on another run compares them");
    assert_eq!(script.keys("kc"), [Request::Compare(RunId(3), RunId(2))]);
    // The mark is used up, and without a run before it the same run takes it back.
    assert!(script.keys("c").is_empty());
    assert!(script.keys("c").is_empty());
    script.shows("r2 is not marked any more");
    // With one, the same run is compared with it.
    let mut fleet = in_turn();
    let mut before = (*fleet.runs[&RunId(3)]).clone();
    before.id = RunId(1);
    fleet.runs.insert(RunId(1), before.into());
    let mut script = Script::on(fleet, (80, 24));
    assert!(script.keys("jjc").is_empty());
    script.shows("or c again for r1");
    assert_eq!(script.keys("c"), [Request::Compare(RunId(1), RunId(3))]);
    for size in [(80, 24), (40, 12)] {
        let mut script = Script::sized(size);
        script.open(compared());
        script.shows("Compare r3 with r2");
        let all = match &script.keys("y")[..] {
            [Request::Copy(text)] => text.clone(),
            other => panic!("{other:?}"),
        };
        for part in
            ["2 files, +3 -1", "r2 has no worktree", "app.sh +2 -1", "frozen", "tests-green"]
        {
            assert!(all.contains(part), "{part}: {all}");
        }
    }
}

#[test]
fn grid_shows_live_transcripts_and_acts_on_the_framed_one() {
    let mut script = Script::on(in_turn(), (80, 24));
    script.keys("w");
    script.shows("┌ Grid ");
    script.shows(">◐ greeter#1 r3");
    script.shows("deploy of cacec26a: green");
    // The footer and the keys name the framed run, and not the row beneath.
    script.shows("<Enter> Open greeter#1");
    assert!(script.keys("s").is_empty());
    script.shows("Steer greeter#1");
    script.keys("<Esc><Enter>");
    script.shows("3 Transcript · r3 acme/greeter#1");
    script.lacks("┌ Grid ");
    let mut idle = Script::on(Fleet::default(), (80, 24));
    idle.keys("w");
    idle.shows("no run is at work");
}

#[test]
fn comments_of_a_review_are_one_message() {
    let mut script = Script::on(in_turn(), (80, 24));
    script.open(review());
    script.shows("┌ Diff of r3 ");
    script.keys("c");
    script.shows("a comment belongs to a line of a file");
    assert!(script.keys("S").is_empty());
    script.shows("there are no comments to send");
    // The second hunk first, then back to a removed line of the first.
    assert!(script.keys("]]jcname the test<Enter>").is_empty());
    script.shows("! name the test");
    script.shows("1 comment not sent · tests/hello.sh:1");
    script.keys("[[jjcwhy?<Enter>");
    script.shows("2 comments not sent · app.sh:7 (removed)");
    // Leaving the review keeps them, also without an answer.
    script.keys("<Esc>");
    script.open(review());
    script.shows("2 comments not sent");
    assert!(script.keys("S").is_empty());
    script.shows("Send 2 comments to greeter#1 \"Greet by name\" (r3)?");
    let text = "This is a review of your changes so far. Take up each comment.\n\
        \n1. app.sh:7 (removed)\n   > -    bye) echo \"Bye\" ;;\n   why?\n\
        \n2. tests/hello.sh:1\n   > +[ \"$(sh app.sh hello-ada)\" = \"Hello, ada!\" ]\n   name the test\n";
    let steer = command::Command::Steer { run: RunId(3), text: text.into() };
    let sent = script.app.drafts().reviews.of(RunId(3)).to_vec();
    assert_eq!(script.keys("y"), [Request::Review(RunId(3), sent.clone(), steer)]);
    // They are kept until the fleet has them. Meanwhile one is changed and another is written.
    script.shows("2 comments not sent");
    script.keys("]jjc And why here?<Enter>jcthis too<Enter>");
    script.shows("3 comments not sent");
    script.app.review_sent(RunId(3), sent);
    script.frame();
    script.shows("2 comments not sent");
    let left = script.app.drafts();
    let left: Vec<&str> =
        left.reviews.of(RunId(3)).iter().map(|comment| comment.text.as_str()).collect();
    assert_eq!(left, ["why? And why here?", "this too"]);
}

#[test]
fn comment_is_changed_and_removed_on_its_line() {
    let mut script = Script::on(in_turn(), (80, 24));
    script.open(review());
    script.keys("]jcone<Enter>c two<Enter>");
    script.shows("! one two");
    script.keys("D");
    script.lacks("! one two");
    script.keys("cthree<Esc>");
    script.lacks("not sent");
    // The draft of the box that was left comes back.
    script.keys("c<Enter>");
    script.shows("! three");
}

#[test]
fn comment_stays_on_its_line_when_the_diff_changes() {
    let mut script = Script::on(in_turn(), (80, 24));
    script.open(review());
    script.keys("]]jcname the test<Enter>[[jjcwhy?<Enter><Esc>");
    // The agent took the first hunk back and wrote a file before the other one.
    let second = DIFF.rfind("diff --git").unwrap();
    let new = "diff --git a/a b/a\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+first\n";
    let lines = [new, &DIFF[second..]].concat().lines().map(str::to_owned).collect();
    script.open(Dialog::Review(Box::new(ReviewedDiff { run: RunId(3), lines })));
    script.shows("2 comments not sent");
    let screen = script.text();
    let below = |line: &str| {
        let mut lines = screen.lines().skip_while(|shown| !shown.contains(line)).skip(1);
        lines.next().unwrap_or_default().to_owned()
    };
    assert!(below("hello-ada").contains("! name the test"), "{screen}");
    // The other one is at the head, with its line.
    assert!(
        below("diff --git a/a").contains("app.sh:7 (removed) is no longer in the diff"),
        "{screen}"
    );
    script.shows("! why?");
    script.keys("D");
    script.lacks("! why?");
    script.shows("1 comment not sent");
}

#[test]
fn text_of_an_open_prompt_is_kept_when_the_link_breaks() {
    let mut script = Script::on(in_turn(), (80, 24));
    script.open(review());
    script.keys("]jcone<Enter>ctwo");
    let drafts = script.app.drafts();
    assert_eq!(drafts.reviews.of(RunId(3)).len(), 1);
    assert_eq!(drafts.of("Comment on app.sh:6 of r3"), Some("onetwo"));
}

#[test]
fn review_of_a_run_that_takes_no_message_keeps_its_comments() {
    let mut script = Script::new();
    script.open(review());
    script.keys("]jcone<Enter>S");
    script.shows("no turn is under way");
    script.shows("1 comment not sent");
}

#[test]
fn cursor_of_a_review_stays_on_the_screen() {
    for size in SIZES {
        let mut script = Script::sized(size);
        let mut lines = vec!["diff --git a/x b/x".to_owned(), "@@ -1 +1,500 @@".to_owned()];
        lines.extend((0..500).map(|n| format!("+{n} {}", "long ".repeat(n % 40))));
        script.open(Dialog::Review(Box::new(ReviewedDiff { run: RunId(3), lines })));
        for keys in [
            "",
            "jjjjjjjjjjjjjjj",
            "<PageDown><PageDown>",
            "G",
            "kkkkkkkkkkkkkkkk",
            "<PageUp>",
            "gg",
        ] {
            script.keys(keys);
            assert!(script.text().contains("│>"), "{size:?} {keys}: {}", script.text());
        }
    }
}

#[test]
fn views_draw_at_odd_sizes() {
    for size in [(1, 1), (39, 9), (40, 10), (41, 11), (61, 16), (140, 31), (500, 60)] {
        for dialog in [compared(), review(), Dialog::Grid, Dialog::Spend] {
            let mut script = Script::sized(size);
            script.open(dialog);
            script.keys("jG");
            assert_eq!(script.picture().area.width, size.0);
        }
    }
}

#[test]
fn views_fit_every_screen_and_let_no_key_through() {
    type Make = fn() -> Dialog;
    let open: [(&str, Make); 5] = [
        ("Brief", || Dialog::Brief(Box::new(brief()))),
        ("Timeline", || Dialog::Timeline(Box::new(timeline()))),
        ("Compare", compared),
        ("Grid", || Dialog::Grid),
        ("Diff of r3", review),
    ];
    for (title, dialog) in open {
        for size in SIZES {
            let mut script = Script::sized(size);
            script.open(dialog());
            script.shows(title);
            for key in ["r", "+", "z", "/", "a"] {
                assert!(script.keys(key).is_empty(), "{title} {key}");
            }
            // Every line ends within the frame.
            let text = script.text();
            let framed = text.lines().filter(|line| line.starts_with('│')).count();
            let closed =
                text.lines().filter(|line| line.starts_with('│') && line.ends_with(['│', '┃']));
            assert_eq!(framed, closed.count(), "{text}");
            script.keys("<Esc><Esc>");
            script.lacks(&format!("┌ {title}"));
        }
    }
}
