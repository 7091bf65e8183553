//! Where keys and clicks go: focus, zoom, overlays, the fleet.

use crossterm::event::{Event, KeyModifiers, MouseEvent, MouseEventKind};

use super::script::Script;
use crate::core::model::command;
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
    script.shows("│>◐ p2 acme/greeter#1");
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
    script.click(5, 4);
    script.shows("│>❄ p1 acme/pulse#9");
    script.click(79, 1);
    script.shows(">5 Breakglass");
    script.keys("1gg");
    let (kind, modifiers) = (MouseEventKind::ScrollDown, KeyModifiers::NONE);
    script.event(&Event::Mouse(MouseEvent { kind, column: 5, row: 4, modifiers }));
    script.shows("│>· -- acme/pulse#10");
}

#[test]
fn footer_offers_the_keys_of_the_component_on_top() {
    let mut script = Script::new();
    script
        .shows(" ? Show help  i Show inbox  <Enter> Open  s Steer run  r Retry run  x Cancel run");
    script.keys("3");
    script.shows(" ? Show help  f Follow end  <Space> Toggle details  s Steer run  i Show inbox");
    script.keys("5");
    script.shows(" ? Show help  a Arm breakglass  <Enter> Open");
    script.keys("i");
    script.shows(" a Approve  <Enter> Answer  L Look again  J Scroll detail  <Esc> Go back");
    script.keys("?");
    script.shows("\n <Esc> Go back ");
}
