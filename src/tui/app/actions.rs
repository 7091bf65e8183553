//! The route of an action, and the actions that are the cockpit's own.

use super::{App, Standing};
use crate::core::fleet::Fleet;
use crate::core::model::command::{self, Role};
use crate::core::model::id::RunId;
use crate::core::model::plural::plural;
use crate::core::model::run::Run;
use crate::runtime::Snapshot;
use crate::tui::action::{
    Action, BACK, BRIEF, CLIENTS, COMPARE, COPY, GRID, HELP, INBOX, INTERRUPT, KILL_SWITCH, MOUSE,
    NEXT_PANE, OPEN, PALETTE, PERMIT_LESS, PERMIT_MORE, PREVIOUS_PANE, QUIT, REDRAW, SPEND,
    SPLIT_LEFT, SPLIT_RIGHT, SUSPEND, THEME, TIME_TRAVEL, TIMELINE, TOUR, UNDO, ZOOM,
};
use crate::tui::request::Request;
use crate::tui::response::{Dialog, Reaction, Response};
use crate::tui::subject::Subject;
use crate::tui::{overlays, panes, run_actions};

/// The actions that are carried out also while an overlay is open: they concern no selection.
const ABOVE: [Action; 17] = [
    HELP,
    PALETTE,
    INBOX,
    BRIEF,
    TIMELINE,
    GRID,
    TIME_TRAVEL,
    SPEND,
    CLIENTS,
    KILL_SWITCH,
    THEME,
    TOUR,
    MOUSE,
    REDRAW,
    SUSPEND,
    NEXT_PANE,
    PREVIOUS_PANE,
];

impl App {
    /// Carries out an action.
    pub(crate) fn act(&mut self, action: Action, snapshot: &Snapshot) -> Vec<Request> {
        if let Some(motion) = action.motion() {
            return self.go(motion, snapshot);
        }
        let response = self.route(action, snapshot);
        self.apply(response, snapshot)
    }

    fn route(&mut self, action: Action, snapshot: &Snapshot) -> Response {
        if let Some(response) = self.route_in_past(action) {
            return response;
        }
        // Before the roles: in the past this client is a viewer, and may still take its answer back.
        if action == UNDO {
            return self.undo(snapshot);
        }
        if action.changes() && self.desk.role == Role::Viewer {
            return Response::refusal(format!("{}: viewers are read-only", action.label()));
        }
        if !self.overlays.is_empty() {
            return self.route_in_overlay(action, snapshot);
        }
        let front = self.front(snapshot);
        let scene = self.desk.scene(snapshot, front);
        if let Some(response) = self.panes[self.focus].act(action, &scene) {
            return response;
        }
        let owner = panes::ALL.iter().position(|known| known.actions.contains(&action));
        if let Some(owner) = owner {
            let scene =
                self.desk.scene(snapshot, Standing { focused: owner == self.focus, ..front });
            if let Some(response) = self.panes[owner].act(action, &scene) {
                return response;
            }
        }
        let scene = self.desk.scene(snapshot, front);
        let subject = self.panes[self.focus].subject(&scene);
        run_actions::act(action, subject.as_ref(), &scene)
            .or_else(|| (action == COMPARE).then(|| self.compare(subject.as_ref(), snapshot)))
            .or_else(|| overlays::act_from_outside(action))
            .or_else(|| self.fleet_action(action, snapshot))
            .unwrap_or_else(|| self.screen_action(action, snapshot))
    }

    /// The overlay on top takes the action, or it is one on the overlay's subject, or one that
    /// concerns nothing beneath. No other action reaches through.
    fn route_in_overlay(&mut self, action: Action, snapshot: &Snapshot) -> Response {
        let scene = self.desk.scene(snapshot, self.front(snapshot));
        let Some(top) = self.overlays.last_mut() else { return Response::none() };
        if let Some(response) = top.act(action, &scene) {
            return response;
        }
        match action {
            _ if top.opener() == Some(action) => return Reaction::Close.into(),
            BACK | QUIT => return Reaction::Close.into(),
            OPEN => return Response::none(),
            COPY if let Some(text) = top.copy(&scene) => return copy(text),
            _ => {}
        }
        if let Some(subject) = top.subject(&scene)
            && let Some(response) = run_actions::act(action, Some(&subject), &scene)
        {
            return response;
        }
        // A text without a subject covers the pane, whose own agent may work.
        if action == INTERRUPT
            && let Some(response) = self.panes[self.focus].act(action, &scene)
        {
            return response;
        }
        if ABOVE.contains(&action) || self.ids.iter().any(|id| id.focus == action) {
            return self
                .fleet_action(action, snapshot)
                .unwrap_or_else(|| self.screen_action(action, snapshot));
        }
        let back = self.desk.keymap.key_of(self.context(), BACK);
        Response::refusal(format!("{}: not from here, {back} goes back first", action.label()))
    }

    /// Takes back the answer to the question whose card is shown, if it was not sent yet, and otherwise
    /// the newest such answer.
    fn undo(&mut self, snapshot: &Snapshot) -> Response {
        let shown = self.overlays.last().and_then(|overlay| overlay.escalation(snapshot));
        let Some((escalation, command)) = self.desk.held.undo(shown) else {
            return Response::message("nothing to undo: an answer can be taken back for 5 s");
        };
        self.desk.drafts.refused(&command);
        Response::message(format!("the answer to {escalation} was not sent; it is open again"))
    }

    /// Actions on the fleet, and the texts about it.
    fn fleet_action(&self, action: Action, snapshot: &Snapshot) -> Option<Response> {
        let fleet = &snapshot.fleet;
        let set_permits = |permits| {
            Response::request(Request::Command(command::Command::SetCapacity { permits }))
        };
        Some(match action {
            SPEND => Response::open(Dialog::Spend),
            GRID => Response::open(Dialog::Grid),
            BRIEF => Response::request(Request::Brief),
            TIMELINE => Response::request(Request::Timeline),
            TIME_TRAVEL => Response::request(Request::TimeTravel),
            CLIENTS => Response::open(Dialog::Clients),
            PERMIT_MORE => set_permits(fleet.capacity().saturating_add(1)),
            PERMIT_LESS => set_permits(fleet.capacity().saturating_sub(1)),
            KILL_SWITCH => {
                let on = !fleet.kill_switch();
                let (question, means) = if on {
                    ("Throw the kill switch?", "This stops pickup; live runs go on.")
                } else {
                    ("Lift the kill switch?", "This picks up eligible issues at once.")
                };
                let yes = Request::Command(command::Command::SetKillSwitch { on });
                Response::confirm(question.into(), means, yes)
            }
            QUIT => self.quit(snapshot),
            _ => return None,
        })
    }

    /// Marks the subject's run, or compares it with the one that was marked before. The same run again is
    /// compared with the one before it.
    fn compare(&mut self, subject: Option<&Subject>, snapshot: &Snapshot) -> Response {
        let fleet = &snapshot.fleet;
        let Some(run) = subject.and_then(|subject| subject.run(fleet)) else {
            return Response::message("compare: no run is selected");
        };
        let marked = self.marked.take().filter(|known| fleet.runs.contains_key(known));
        let before = run_before(run, fleet);
        let other = match marked {
            Some(marked) if marked != run.id => Some(marked),
            Some(_) => match before {
                Some(before) => Some(before),
                None => return Response::message(format!("{} is not marked any more", run.id)),
            },
            None => None,
        };
        if let Some(other) = other {
            return Response::message(format!("reading the diffs of {other} and {}", run.id))
                .then(Reaction::Request(Request::Compare(other, run.id)));
        }
        self.marked = Some(run.id);
        let key = self.desk.keymap.key_of(self.context(), COMPARE);
        let name = Subject::Run(run.id).name(fleet);
        let again =
            before.map_or_else(String::new, |before| format!(", or {key} again for {before}"));
        Response::message(format!("{name} is marked: {key} on another run compares them{again}"))
    }

    fn quit(&self, snapshot: &Snapshot) -> Response {
        let live = snapshot.fleet.live_runs().filter(|run| run.busy());
        let working: Vec<String> = live.map(|run| run.id.to_string()).collect();
        if self.detaches || working.is_empty() {
            return Response::request(Request::Quit);
        }
        let verbs =
            if working.len() == 1 { "stops now and resumes" } else { "stop now and resume" };
        let means = format!("{} {verbs} at the next start of afk.", working.join(", "));
        Response::confirm("Quit?".into(), means, Request::Quit)
    }

    /// Actions on the screen itself.
    fn screen_action(&mut self, action: Action, snapshot: &Snapshot) -> Response {
        let count = self.ids.len();
        match action {
            NEXT_PANE => self.focus(self.ids[(self.focus + 1) % count]),
            PREVIOUS_PANE => self.focus(self.ids[(self.focus + count - 1) % count]),
            ZOOM => self.layout.zoomed = !self.layout.zoomed,
            SPLIT_LEFT | SPLIT_RIGHT => {
                let moved = self.layout.moved(action == SPLIT_RIGHT);
                if self.layout.zoomed || self.places(snapshot.problems.len()).panes.len() < 2 {
                    return Response::refusal(
                        "there is one pane on the screen, and no split to move",
                    );
                }
                self.layout = moved;
            }
            TOUR => self.tour.advance(),
            INBOX => return Response::open(Dialog::Inbox),
            HELP => return Response::open(Dialog::Help(self.context())),
            PALETTE => return Response::open(Dialog::Palette),
            // First out of the tour, then out of a zoomed pane.
            BACK if self.tour.end() => {}
            BACK => {
                self.layout.zoomed = false;
                for pane in &mut self.panes {
                    pane.clear_marks();
                }
            }
            COPY => {
                let scene = self.desk.scene(snapshot, self.front(snapshot));
                let text = self.panes[self.focus].copy(&scene);
                return text.map_or_else(Response::none, copy);
            }
            THEME => match self.desk.theme.next() {
                Ok(theme) => {
                    let message = format!("theme: {}", theme.name());
                    self.desk.theme = theme;
                    return Response::message(message);
                }
                Err(error) => return Response::refusal(error.to_string()),
            },
            MOUSE => {
                self.mouse = !self.mouse;
                let message = if self.mouse { "mouse on" } else { "mouse off" };
                let request = Reaction::Request(Request::Mouse(self.mouse));
                return Response::message(message).then(request);
            }
            REDRAW => return Response::request(Request::Redraw),
            SUSPEND => return Response::request(Request::Suspend),
            _ => {
                if let Some(pane) = self.ids.iter().find(|id| id.focus == action) {
                    self.focus(*pane);
                }
            }
        }
        Response::none()
    }
}

fn copy(text: String) -> Response {
    let message = format!("copied {}", plural(text.chars().count(), "character"));
    Response::message(message).then(Reaction::Request(Request::Copy(text)))
}

/// The run that an operator most likely compares a run with: the one before it of the same issue, else of the
/// same repository.
fn run_before(run: &Run, fleet: &Fleet) -> Option<RunId> {
    let before = || fleet.runs.values().filter(|other| other.id < run.id);
    let of_issue = before()
        .filter(|other| other.work.issue().is_some() && other.work.issue() == run.work.issue());
    let of_repository = before().filter(|other| other.work.repo() == run.work.repo());
    of_issue.map(|other| other.id).max().or_else(|| of_repository.map(|other| other.id).max())
}
