//! Time travel: what the past shows, and that nothing acts in it.

use std::sync::Arc;

use super::fixture;
use super::script::Script;
use crate::journal::Journal;
use crate::journal::history::{History, Moment};
use crate::runtime::breakglass::console::FromShell;
use crate::tui::component::PaneMessage;
use crate::tui::request::Request;

/// A cockpit in the past of the pictures' fleet, at its last record.
pub(super) struct Traveller {
    pub(super) script: Script,
    history: Arc<History>,
    _state: tempfile::TempDir,
}

impl Traveller {
    pub(super) fn new(size: (u16, u16)) -> Self {
        let state = tempfile::tempdir().unwrap();
        Journal::open(state.path()).unwrap().append(&fixture::events()).unwrap();
        let history = Arc::new(History::read(state.path()).unwrap());
        let mut script = Script::sized(size);
        assert_eq!(script.keys("t"), [Request::TimeTravel]);
        let last = history.at(Moment::Record(history.last.0)).unwrap();
        script.app.enter_past(history.clone(), last);
        script.frame();
        Self { script, history, _state: state }
    }

    /// Types keys and answers the requests for moments as the session does.
    pub(super) fn keys(&mut self, keys: &str) -> Vec<Request> {
        let mut rest = Vec::new();
        let mut requests = self.script.keys(keys);
        while let Some(request) = requests.pop() {
            let Request::Past(moment) = request else {
                rest.push(request);
                continue;
            };
            let past = self.history.at(moment).unwrap();
            requests.extend(self.script.app.show_past(moment, Some(Box::new(past))));
        }
        self.script.frame();
        rest
    }

    fn seq(&self) -> i64 {
        self.script.app.past_snapshot().unwrap().seq
    }
}

#[test]
fn past_shows_every_pane_as_it_was_and_returns_to_now() {
    let mut traveller = Traveller::new((120, 30));
    let last = traveller.seq();
    traveller.script.shows(" THE PAST ");
    traveller.script.shows(&format!("{last} of {last}"));
    // Back to the first push: the run of ledger#4 is not done, and nothing is frozen.
    while !traveller.script.text().contains("pushed 0c416284") {
        let before = traveller.seq();
        traveller.keys("(");
        assert!(traveller.seq() < before, "{}", traveller.script.text());
    }
    traveller.script.shows("now: acme/ledger#4 (r1) pushed 0c416284");
    traveller.script.lacks("DONE");
    traveller.keys("<Right>");
    traveller.script.shows("last: acme/ledger#4 (r1) pushed");
    traveller.keys("<Left><Left>");
    traveller.script.lacks("r1) pushed");
    traveller.keys("G");
    traveller.script.shows("ledger#");
    assert!(traveller.keys("<Esc>").is_empty());
    traveller.script.lacks("THE PAST");
    assert!(traveller.script.app.past_snapshot().is_none());
}

#[test]
fn no_key_acts_in_the_past() {
    for keys in [
        "x",
        "r",
        "s",
        "o",
        "!",
        "L",
        "X",
        "p",
        "+",
        "-",
        "b",
        "H",
        "w",
        "c",
        "W",
        "ia",
        "id",
        "i<Enter>",
        "iv",
        ":cancel<Enter>",
        ":kill-switch<Enter>",
        "5a",
        "5D",
        "5e",
        "5jjj<Enter>",
    ] {
        let mut traveller = Traveller::new((80, 24));
        assert_eq!(traveller.keys(keys), [], "{keys}");
        assert!(traveller.script.app.past_snapshot().is_some(), "{keys}");
        assert!(traveller.script.later(std::time::Duration::from_secs(9)).is_empty(), "{keys}");
        // Neither a confirmation nor a box to type into has come up.
        for box_ in ["y Yes", "<Esc> Leave"] {
            traveller.script.lacks(box_);
        }
    }
}

#[test]
fn looking_works_in_the_past() {
    let mut traveller = Traveller::new((80, 24));
    traveller.keys("<Enter>");
    traveller.script.shows("┌ acme/pulse#9 ");
    traveller.keys("<Esc>$");
    traveller.script.shows("┌ Spend ");
    traveller.keys("q3");
    traveller.script.shows(">3 Transcript");
    traveller.keys("i");
    traveller.script.shows("Inbox");
    // The keys of the past are the past's alone: here they belong to the inbox.
    let before = traveller.seq();
    traveller.keys("(<Left>");
    assert_eq!(traveller.seq(), before);
    assert_eq!(traveller.keys("<Esc>y").len(), 1);
}

#[test]
fn steps_stop_at_both_ends_and_skip_what_was_overtaken() {
    let mut traveller = Traveller::new((80, 24));
    let last = traveller.seq();
    assert!(traveller.keys(")<Right>").is_empty());
    traveller.script.shows("the journal goes no further");
    assert_eq!(traveller.seq(), last);
    traveller.keys("{");
    assert_eq!(
        traveller.seq(),
        traveller.history.at(Moment::Time(traveller.history.first.1)).unwrap().seq
    );
    // While a fold is under way, further steps only move its goal.
    let mut requests = traveller.script.keys("<Right><Right><Right>");
    assert_eq!(requests.len(), 1);
    let Some(Request::Past(first)) = requests.pop() else { panic!("no step") };
    let folded = traveller.history.at(first).unwrap();
    let next = traveller.script.app.show_past(first, Some(Box::new(folded)));
    let Moment::Record(seq) = first else { panic!("{first:?}") };
    assert_eq!(next, Some(Request::Past(Moment::Record(seq + 2))));
}

#[test]
fn present_takes_its_messages_while_the_past_is_shown() {
    let mut traveller = Traveller::new((80, 24));
    let (to, _from) = tokio::sync::mpsc::channel(4);
    let id = crate::core::model::breakglass::ShellId(1);
    let host = "devvm".to_owned();
    traveller.script.receive(PaneMessage::ShellOpened { host, id, to, size: (80, 24) });
    traveller
        .script
        .receive(PaneMessage::ShellOutput(id, FromShell::Bytes(b"root@devvm".to_vec())));
    traveller.script.shows("THE PAST");
    traveller.script.lacks("root@devvm");
    traveller.keys("<Esc>5");
    traveller.script.shows("root@devvm");
}

#[test]
fn past_fits_every_screen() {
    for size in [(40, 12), (80, 24), (200, 50)] {
        let traveller = Traveller::new(size);
        traveller.script.shows("THE PAST");
        assert!(traveller.script.text().lines().last().unwrap().contains("<Esc> Return to now"));
    }
}
