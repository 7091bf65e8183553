//! An answer is given to what was read: the pinned order, the guard of a new card, and undo.

use std::sync::Arc;
use std::time::Duration;

use super::fixture;
use super::script::Script;
use crate::core::model::approval::{Answer, Escalation, EscalationState};
use crate::core::model::command::Command;
use crate::core::model::id::EscalationId;
use crate::tui::request::Request;

/// Raises another question, which the fleet sorts first.
fn newcomer(script: &mut Script, number: u64) -> EscalationId {
    let inbox = script.snapshot.fleet.inbox();
    let known: &Escalation = inbox.first().unwrap();
    let mut newcomer = known.clone();
    newcomer.id = EscalationId(number);
    newcomer.title = "wipe the disk".into();
    newcomer.raised = newcomer.raised.plus(1_000);
    let id = newcomer.id;
    script.snapshot.fleet.escalations.insert(id, Arc::new(newcomer));
    assert_eq!(script.snapshot.fleet.inbox()[0].id, id);
    script.frame();
    id
}

fn close(script: &mut Script, id: EscalationId) {
    let mut known = script.snapshot.fleet.escalations[&id].as_ref().clone();
    known.state = EscalationState::Expired { at: known.raised };
    script.snapshot.fleet.escalations.insert(id, Arc::new(known));
    script.frame();
}

/// The escalations that requests answer.
fn answers(requests: &[Request]) -> Vec<EscalationId> {
    let of = |request: &Request| match request {
        Request::Command(Command::Answer { escalation, .. }) => Some(*escalation),
        _ => None,
    };
    requests.iter().filter_map(of).collect()
}

fn asking() -> Script {
    Script::on(fixture::asking(), (80, 24))
}

#[test]
fn newcomer_never_takes_the_cursor() {
    let mut script = asking();
    // Not even right after the first frame of the inbox.
    script.keys("i");
    let newer = newcomer(&mut script, 99);
    script.shows("Inbox · 2 open · 1 newer ↓");
    assert_eq!(answers(&script.answered("a")), [EscalationId(1)]);
    script.keys("j");
    script.lacks("newer");
    assert_eq!(answers(&script.answered("a")), [newer]);
}

#[test]
fn answer_keys_wait_after_the_card_changed() {
    let mut script = asking();
    script.at_once("i");
    script.shows("new card: answer keys wait a moment");
    for key in ["a", "A", "d", "e", "v"] {
        assert!(script.at_once(key).is_empty(), "{key}");
        script.shows("this card has just come up");
    }
    script.later(Duration::from_millis(699));
    assert!(script.at_once("a").is_empty());
    script.later(Duration::from_millis(2));
    script.lacks("answer keys wait");
    assert!(script.at_once("a").is_empty());
    assert_eq!(answers(&script.later(Duration::from_secs(5))), [EscalationId(1)]);
}

#[test]
fn card_beneath_a_help_or_a_palette_is_not_read() {
    let mut script = asking();
    script.keys("i");
    newcomer(&mut script, 99);
    script.keys("?");
    close(&mut script, EscalationId(1));
    script.later(Duration::from_secs(2));
    // Help goes, and the next key comes before a frame of the other card.
    assert!(answers(&script.at_once("qa")).is_empty());
    script.frame();
    script.shows("new card: answer keys wait a moment");
    let _ = script.at_once("a");
    script.shows("this card has just come up");
}

#[test]
fn undo_takes_the_answer_back_whose_card_is_shown() {
    let mut script = asking();
    script.keys("i");
    let newer = newcomer(&mut script, 99);
    script.later(Duration::from_secs(1));
    let _ = script.at_once("a");
    script.later(Duration::from_secs(1));
    let _ = script.at_once("a");
    // Both are held; the cursor goes to the first of them.
    script.keys("kk");
    script.shows("Undo: e1");
    script.at_once("u");
    assert_eq!(answers(&script.later(Duration::from_secs(6))), [newer]);
}

#[test]
fn answer_keys_wait_after_another_card_took_the_place_of_a_closed_one() {
    let mut script = asking();
    script.keys("i");
    let newer = newcomer(&mut script, 99);
    close(&mut script, EscalationId(1));
    // The key was meant for the card that somebody else has just answered.
    assert!(script.at_once("a").is_empty());
    script.shows("this card has just come up");
    assert!(script.later(Duration::from_secs(5)).is_empty());
    assert_eq!(answers(&script.answered("a")), [newer]);
}

#[test]
fn answer_keys_wait_after_the_shown_card_has_other_content() {
    let mut script = asking();
    script.keys("i");
    let mut known = script.snapshot.fleet.escalations[&EscalationId(1)].as_ref().clone();
    known.detail = "rm -rf /".into();
    known.digest = known.digest_of();
    script.snapshot.fleet.escalations.insert(known.id, Arc::new(known));
    script.frame();
    assert!(script.at_once("a").is_empty());
    script.shows("this card has just come up");
}

#[test]
fn answer_can_be_undone_before_it_is_sent() {
    let mut script = asking();
    assert!(script.keys("ia").is_empty());
    script.shows("u Undo: e1 approved");
    script.shows("approved: sent in a moment, u takes it back");
    // It has one answer at a time.
    assert!(script.keys("a").is_empty());
    script.shows("e1 is approved already");
    script.keys("u");
    script.shows("the answer to e1 was not sent; it is open again");
    assert!(script.later(Duration::from_secs(60)).is_empty());
    script.keys("u");
    script.shows("nothing to undo");
    // Outside of the inbox too.
    script.keys("dno<Enter><Esc>");
    script.shows("u Undo: e1 denied: no");
    script.keys("u");
    assert!(script.later(Duration::from_secs(60)).is_empty());
}

#[test]
fn inbox_moves_on_after_an_answer_and_answers_each_card_once() {
    let mut script = asking();
    script.keys("i");
    let newer = newcomer(&mut script, 99);
    script.keys("a");
    // The next card is on the screen: a second key in a hurry answers nothing.
    assert!(script.at_once("a").is_empty());
    script.shows("this card has just come up");
    let sent = script.answered("a");
    assert_eq!(answers(&sent), [EscalationId(1), newer]);
}

#[test]
fn operator_who_leaves_sends_the_held_answers() {
    let mut script = asking();
    script.keys("ia");
    let sent = script.app.take_held();
    let [Command::Answer { escalation, answer: Answer::Approve, .. }] = sent.as_slice() else {
        panic!("{sent:?}")
    };
    assert_eq!(*escalation, EscalationId(1));
}

#[test]
fn question_that_holds_a_permit_comes_first() {
    let mut script = asking();
    let mut frozen = script.snapshot.fleet.escalations[&EscalationId(1)].as_ref().clone();
    frozen.kind = crate::core::model::approval::EscalationKind::Frozen;
    frozen.id = EscalationId(50);
    frozen.run = None;
    script.snapshot.fleet.escalations.insert(frozen.id, Arc::new(frozen));
    let order: Vec<EscalationId> = script.snapshot.fleet.inbox().iter().map(|e| e.id).collect();
    assert_eq!(order, [EscalationId(1), EscalationId(50)]);
}
