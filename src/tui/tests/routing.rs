//! Where keys and clicks go: focus, zoom, overlays, the fleet.

use crossterm::event::{Event, KeyModifiers, MouseEvent, MouseEventKind};

use super::fixture;
use super::script::Script;
use crate::core::model::command::{self, Role};
use crate::core::model::id::RunId;
use crate::tui::request::Request;

#[test]
fn pane_keys_move_the_focus_and_close_overlays() {
    let mut script = Script::new();
    for (key, tab) in [
        ("2", ">2 Worktrees"),
        ("<Tab>", ">3 Transcript"),
        ("<Tab><Tab><Tab>", ">1 Queue"),
        ("<S-Tab>", ">5 Breakglass"),
    ] {
        script.keys(key);
        script.shows(tab);
    }
    script.keys("?4");
    script.shows(">4 Deploy health");
    script.lacks("┌ Help ");
}

#[test]
fn zoom_gives_the_screen_to_the_focused_pane() {
    let mut script = Script::sized((200, 50));
    script.shows("5 Breakglass ─");
    script.keys("z");
    script.lacks("5 Breakglass ─");
    script.keys("<Esc>");
    script.shows("5 Breakglass ─");
}

#[test]
fn chord_shows_what_can_follow_and_moves() {
    let mut script = Script::new();
    script.keys("jjjg");
    script.shows(" g   g Go to top");
    script.keys("g");
    script.shows("│>❄ p1 pulse#9");
}

#[test]
fn kill_switch_and_permits_are_commands() {
    let mut script = Script::new();
    script.keys("p");
    script.shows("Throw the kill switch?");
    let set = command::Command::SetKillSwitch { on: true };
    assert_eq!(script.keys("y"), [Request::Command(set)]);
    let permits = |permits| [Request::Command(command::Command::SetCapacity { permits })];
    assert_eq!(script.keys("+"), permits(3));
    assert_eq!(script.keys("-"), permits(1));
}

#[test]
fn quit_closes_overlays_first_and_confirms_while_runs_work() {
    let mut script = Script::new();
    assert!(script.keys("?q").is_empty());
    script.lacks("┌ Help ");
    script.keys("q");
    script.shows("┌ Quit? ");
    script.shows("r3 stops now and resumes at the next start of afk.");
    assert_eq!(script.keys("y"), [Request::Quit]);
}

#[test]
fn screen_actions_ask_the_session() {
    let mut script = Script::new();
    assert_eq!(script.keys("M"), [Request::Mouse(true)]);
    script.shows("mouse on");
    assert_eq!(script.keys("<C-l>"), [Request::Redraw]);
    let dark = script.picture();
    assert!(script.keys("T").is_empty());
    assert_ne!(script.picture(), dark);
}

#[test]
fn clicks_focus_and_select_and_the_wheel_moves() {
    let mut script = Script::new();
    script.click(5, 9);
    script.shows("│>◐ p2 greeter#1");
    // The tabs end where their text ends.
    script.click(79, 2);
    script.shows(">1 Queue");
    script.click(60, 2);
    script.shows(">5 Breakglass");
    script.click(12, 2);
    script.shows(">2 Worktrees");
    script.keys("1gg");
    let (kind, modifiers) = (MouseEventKind::ScrollDown, KeyModifiers::NONE);
    script.event(&Event::Mouse(MouseEvent { kind, column: 5, row: 4, modifiers }));
    script.shows("│>· -- pulse#10");
    // The wheel turns what is under the pointer, and leaves the focus and its selection.
    let mut wide = Script::sized((200, 50));
    wide.keys("j");
    wide.shows("following");
    wide.event(&Event::Mouse(MouseEvent {
        kind: MouseEventKind::ScrollUp,
        column: 150,
        row: 10,
        modifiers,
    }));
    wide.lacks("following");
    wide.shows("│>◐ p2 acme/greeter#1");
}

#[test]
fn footer_offers_the_keys_of_the_component_on_top() {
    let mut script = Script::new();
    script.shows(" ? Show help  <Enter> Open pulse#9  r Retry pulse#9  L Look again at pulse#9 ");
    script.keys("3");
    script.shows(" ? Show help  r Retry pulse#9  L Look again at pulse#9  f Follow end");
    script.keys("5");
    script.shows(" ? Show help  a Arm breakglass  <Enter> Open");
    script.keys("i");
    script.shows(" a Approve  <Enter> Answer  L Look again at pulse#9");
    script.keys("?");
    script.shows("\n <Esc> Go back ");
}

#[test]
fn no_key_reaches_through_an_overlay() {
    for overlay in ["?", "$", "W"] {
        for key in ["x", "r", "s", "o", "!", "L", "X", "+", "a", "/", "z"] {
            let mut script = Script::new();
            script.keys(overlay);
            assert!(script.keys(key).is_empty(), "{overlay}{key}");
            let before = script.text();
            let help: Vec<&str> = before.lines().rev().take(1).collect();
            assert!(
                before.contains("not from here") || overlay == "?" || key == "a",
                "{overlay}{key}: {help:?}"
            );
        }
    }
    // The inbox's keys act on its card, and not on the row beneath.
    let mut script = Script::new();
    assert_eq!(script.keys("jio"), [Request::Diff(RunId(2))]);
    assert!(script.keys("x").is_empty());
    script.shows("pulse#9: its run has ended already");
    // An explanation is about its issue.
    assert_eq!(script.keys("<Esc>k<Enter>o"), [Request::Diff(RunId(2))]);
}

#[test]
fn viewer_is_offered_nothing_that_changes_the_fleet() {
    let mut script = Script::as_role(fixture::fleet(), (80, 24), Role::Viewer);
    script.shows("VIEWER");
    script.lacks("Retry");
    for key in ["s", "r", "x", "X", "L", "!", "p", "+"] {
        assert!(script.keys(key).is_empty());
        script.shows("viewers are read-only");
        script.lacks("<Esc> Leave");
    }
    for key in ["a", "d", "<Enter>", "v"] {
        script.keys("i");
        assert!(script.answered(key).is_empty());
        script.shows("viewers are read-only");
        script.keys("<Esc>");
    }
    script.keys("5a");
    script.shows("viewers are read-only");
    assert_eq!(script.keys("1o"), [Request::Diff(RunId(2))]);
}

#[test]
fn paste_without_a_box_is_ignored_and_said() {
    let mut script = Script::new();
    for keys in ["", "i", "<Esc>?", "<Esc>x"] {
        script.keys(keys);
        assert!(script.event(&Event::Paste("xyq\ny\na\n".repeat(10_000))).is_empty());
        assert!(script.text().contains("past"), "{}", script.text());
    }
}
