//! The route of an action, and the actions that are the cockpit's own.

use super::{App, Standing};
use crate::core::model::command;
use crate::core::model::plural::plural;
use crate::runtime::Snapshot;
use crate::tui::action::{
    Action, BACK, CLIENTS, COPY, HELP, INBOX, KILL_SWITCH, MOUSE, NEXT_PANE, OPEN, PALETTE,
    PERMIT_LESS, PERMIT_MORE, PREVIOUS_PANE, QUIT, REDRAW, SPEND, THEME, ZOOM,
};
use crate::tui::request::Request;
use crate::tui::response::{Dialog, Reaction, Response};
use crate::tui::{overlays, panes, run_actions};

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
        let front = self.front(snapshot);
        let scene = self.desk.scene(snapshot, front);
        if let Some(top) = self.overlays.last_mut() {
            if let Some(response) = top.act(action, &scene) {
                return response;
            }
            match action {
                BACK | QUIT => return Reaction::Close.into(),
                OPEN => return Response::none(),
                COPY if let Some(text) = top.copy(&scene) => return copy(text),
                _ => {}
            }
        }
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
        run_actions::act(action, subject, &scene)
            .or_else(|| overlays::act_from_outside(action))
            .or_else(|| self.fleet_action(action, snapshot))
            .unwrap_or_else(|| self.screen_action(action, snapshot))
    }

    /// Actions on the fleet, and the texts about it.
    fn fleet_action(&self, action: Action, snapshot: &Snapshot) -> Option<Response> {
        let fleet = &snapshot.fleet;
        let set_permits = |permits| {
            Response::request(Request::Command(command::Command::SetCapacity { permits }))
        };
        Some(match action {
            SPEND => Response::open(Dialog::Spend),
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
            ZOOM => self.zoomed = !self.zoomed,
            INBOX => return Response::open(Dialog::Inbox),
            HELP => return Response::open(Dialog::Help(self.context())),
            PALETTE => return Response::open(Dialog::Palette),
            BACK => {
                self.zoomed = false;
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
                Ok(theme) => self.desk.theme = theme,
                Err(error) => return Response::message(error.to_string()),
            },
            MOUSE => {
                self.mouse = !self.mouse;
                let message = if self.mouse { "mouse on" } else { "mouse off" };
                let request = Reaction::Request(Request::Mouse(self.mouse));
                return Response::message(message).then(request);
            }
            REDRAW => return Response::request(Request::Redraw),
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
