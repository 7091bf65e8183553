//! Time travel: the cockpit shows the fleet as it was at a record of the journal, in panes of its own.
//!
//! ```text
//! TIME_TRAVEL ─▶ Request::TimeTravel ─▶ the journal is read ─▶ App::enter_past
//! a step ─▶ Request::Past(moment) ─▶ the fleet is folded ─▶ App::show_past ─▶ the next frame
//! ```
//!
//! Two walls keep the past from acting: `route_in_past` lets only actions through that look, and `apply`
//! drops every request that does not concern the screen.

use std::sync::Arc;

use super::App;
use crate::core::model::command::Role;
use crate::journal::history::{History, Moment, PastFleet};
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::tui::action::{Action, BACK, QUIT, TIME_TRAVEL};
use crate::tui::bars::past::PastBar;
use crate::tui::component::Pane;
use crate::tui::keymap::Match;
use crate::tui::panes;
use crate::tui::past::Past;
use crate::tui::past_keys::{self, is_allowed};
use crate::tui::request::Request;
use crate::tui::response::{Reaction, Response};

impl App {
    /// The snapshot that is shown in place of the present one.
    pub(crate) fn past_snapshot(&self) -> Option<Arc<Snapshot>> {
        self.past.as_ref().map(|past| past.snapshot.clone())
    }

    /// Shows the past, from its end on. A box that somebody types into is not taken away.
    pub(crate) fn enter_past(&mut self, history: Arc<History>, last: PastFleet) {
        if self.past.is_some() || self.overlays.last().is_some_and(|top| top.is_input()) {
            return;
        }
        if last.seq == 0 {
            self.say("the journal has no record yet");
            return;
        }
        let present: Vec<Box<dyn Pane>> =
            panes::ALL.iter().map(|known| (known.new)(&self.pane_setup)).collect();
        let present = std::mem::replace(&mut self.panes, present);
        self.overlays.clear();
        self.pending.clear();
        let (wanted, at) = (Moment::Record(last.seq), last.at);
        let snapshot = Arc::new(snapshot(last));
        let subject = self.desk.subject.clone();
        let role = std::mem::replace(&mut self.desk.role, Role::Viewer);
        let is_folding = false;
        self.past =
            Some(Past { history, snapshot, at, wanted, is_folding, panes: present, subject, role });
    }

    /// Shows a moment that was folded, and returns the request for the one that was asked for meanwhile.
    pub(crate) fn show_past(
        &mut self,
        moment: Moment,
        folded: Option<Box<PastFleet>>,
    ) -> Option<Request> {
        let past = self.past.as_mut()?;
        past.is_folding = false;
        let Some(folded) = folded.filter(|folded| folded.seq > 0) else {
            past.wanted = Moment::Record(past.seq());
            return None;
        };
        past.at = folded.at;
        past.snapshot = Arc::new(snapshot(*folded));
        self.renew_transcript();
        let past = self.past.as_mut()?;
        if past.wanted == moment {
            return None;
        }
        past.is_folding = true;
        Some(Request::Past(past.wanted))
    }

    /// The transcript's window is made anew: it indexed the records of another moment.
    fn renew_transcript(&mut self) {
        let at = self.ids.iter().position(|id| *id == panes::transcript::ID);
        if let Some(at) = at {
            self.panes[at] = (panes::ALL[at].new)(&self.pane_setup);
        }
    }

    /// Returns to the present, as it was left.
    pub(super) fn leave_past(&mut self) {
        if let Some(past) = self.past.take() {
            self.panes = past.panes;
            self.desk.subject = past.subject;
            self.desk.role = past.role;
            self.overlays.clear();
            self.pending.clear();
        }
    }

    /// Puts the past aside while the present takes a message.
    pub(super) fn leave_past_for_now(&mut self) -> Option<Past> {
        let mut past = self.past.take()?;
        std::mem::swap(&mut self.panes, &mut past.panes);
        std::mem::swap(&mut self.desk.role, &mut past.role);
        Some(past)
    }

    /// Shows the past again that was put aside.
    pub(super) fn return_to_past(&mut self, past: Option<Past>) {
        if let Some(mut past) = past {
            std::mem::swap(&mut self.panes, &mut past.panes);
            std::mem::swap(&mut self.desk.role, &mut past.role);
            self.past = Some(past);
        }
    }

    /// The action of the pressed keys in the past, unless an overlay has the keys.
    pub(super) fn past_key(&mut self) -> Option<Action> {
        if self.past.is_none() || !self.overlays.is_empty() {
            return None;
        }
        match self.desk.keymap.find(past_keys::CONTEXT, &self.pending) {
            Match::Found(action) => {
                self.pending.clear();
                Some(action)
            }
            Match::Pending | Match::None => None,
        }
    }

    /// Carries out a step, leaves the past, or refuses an action that is none of looking. None: the action
    /// is carried out as in the present.
    pub(super) fn route_in_past(&mut self, action: Action) -> Option<Response> {
        if self.past.is_none() {
            let is_step = past_keys::ACTIONS.contains(&action);
            return is_step.then(|| {
                let key = self.desk.keymap.key_of(self.context(), TIME_TRAVEL);
                Response::message(format!("{}: only in the past, {key} goes there", action.label()))
            });
        }
        let leaves = [past_keys::LEAVE, TIME_TRAVEL].contains(&action)
            || ([BACK, QUIT].contains(&action) && self.overlays.is_empty());
        if leaves {
            self.leave_past();
            return Some(Response::message("this is now"));
        }
        if past_keys::ACTIONS.contains(&action) {
            return Some(self.step(action));
        }
        (!is_allowed(action)).then(|| Response::message(self.past_refusal()))
    }

    fn step(&mut self, action: Action) -> Response {
        let Some(past) = &mut self.past else { return Response::none() };
        let Some(moment) = past.step(action) else {
            return Response::message("the journal goes no further");
        };
        past.wanted = moment;
        if past.is_folding {
            return Response::none();
        }
        past.is_folding = true;
        Reaction::Request(Request::Past(moment)).into()
    }

    /// Why nothing is done in the past.
    pub(super) fn past_refusal(&self) -> String {
        let key = self.desk.keymap.key_of(past_keys::CONTEXT, past_keys::LEAVE);
        format!("this is the past, where nothing can be done: {key} returns to now")
    }

    /// The transcripts as they were.
    pub(super) fn past_store(&self, store: &Store) -> Option<Store> {
        self.past.as_ref().map(|past| store.as_of(past.at))
    }

    /// The lines in the header's place.
    pub(super) fn past_bar(&self) -> Option<PastBar<'_>> {
        let past = self.past.as_ref()?;
        Some(PastBar {
            theme: &self.desk.theme,
            at: past.at,
            seq: past.seq(),
            last: past.history.last.0,
            landmark: past.landmark(),
            landmarks: &past.history.landmarks,
        })
    }
}

/// A past fleet as the screen takes it: with nothing that only a live runtime measures.
fn snapshot(past: PastFleet) -> Snapshot {
    Snapshot { fleet: past.fleet, seq: past.seq, ..Snapshot::default() }
}
