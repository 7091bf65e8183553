//! Transcript: the conversation of one run with its agent, for a reader.

mod cells;
pub(crate) mod window;

use std::io;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::widgets::Paragraph;

use self::window::Window;
use crate::journal::transcript::Store;
use crate::tui::action::{
    Action, DIFF, HELP, INBOX, QUIT, SEARCH, SEARCH_NEXT, SEARCH_PREVIOUS, STEER, ZOOM,
};
use crate::tui::component::{Component, Pane, Registration, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::response::{Prompt, Reaction, Response};
use crate::tui::widgets::span::empty;

pub(crate) const ID: PaneId = PaneId::new(
    "pane-transcript",
    "Transcript",
    "Script",
    Slot { column: Column::Right, rows: None },
);
const CONTEXT: KeyContext = KeyContext::new("transcript");

const FOLLOW: Action = Action::new("follow", "Follow end");
const FOLD: Action = Action::new("fold", "Toggle details");

/// The actions that this pane carries out also while another one has the focus.
const ACTIONS: &[Action] = &[FOLLOW, FOLD, SEARCH, SEARCH_NEXT, SEARCH_PREVIOUS];

pub(crate) const PANE: Registration =
    Registration::new(ID, |_| Box::<TranscriptPane>::default()).with(&[CONTEXT], ACTIONS);

/// The pane: a window onto the shown run's transcript, and the last search in it.
#[derive(Debug, Default)]
struct TranscriptPane {
    window: Window,
    needle: Option<String>,
}

impl TranscriptPane {
    fn find(&mut self, backwards: bool) -> Response {
        let Some(text) = &self.needle else {
            return Response::message("nothing to repeat: search for a text first");
        };
        match self.window.search(text, backwards) {
            Ok(true) => Response::none(),
            Ok(false) => Response::message(format!("no further match of {text:?} that way")),
            Err(error) => unreadable(&error),
        }
    }
}

fn unreadable(error: &io::Error) -> Response {
    Response::message(format!("can't read the transcript: {error}"))
}

impl Component for TranscriptPane {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    fn actions(&self, _: &Scene<'_>) -> Vec<Action> {
        vec![HELP, FOLLOW, FOLD, STEER, INBOX, SEARCH, ZOOM, DIFF, QUIT]
    }

    fn act(&mut self, action: Action, _: &Scene<'_>) -> Option<Response> {
        match action {
            FOLLOW => self.window.follow = !self.window.follow,
            FOLD => self.window.unfolded = !self.window.unfolded,
            SEARCH => {
                let focus = Response::from(Reaction::Focus(ID));
                return Some(focus.followed_by(Response::prompt(Prompt::search())));
            }
            SEARCH_NEXT => return Some(self.find(false)),
            SEARCH_PREVIOUS => return Some(self.find(true)),
            _ => return None,
        }
        Some(Response::none())
    }

    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        match self.window.go(motion, scene.theme) {
            Ok(()) => Response::none(),
            Err(error) => unreadable(&error),
        }
    }

    fn copy(&self, _: &Scene<'_>) -> Option<String> {
        Some(self.window.text())
    }
}

impl Pane for TranscriptPane {
    fn id(&self) -> PaneId {
        ID
    }

    fn title(&self, scene: &Scene<'_>) -> String {
        let fleet = &scene.snapshot.fleet;
        let Some(run) = scene.run.and_then(|id| fleet.runs.get(&id)) else {
            return ID.title.to_owned();
        };
        let subject =
            run.work.issue().map_or_else(|| run.work.repo().to_string(), ToString::to_string);
        let state = match run.progress.outcome {
            Some(outcome) => outcome.as_str().to_owned(),
            None => scene.snapshot.standing(run, fleet.last_event),
        };
        let place = if self.window.follow {
            "following".to_owned()
        } else {
            format!("{} of {}", self.window.at() + 1, self.window.records())
        };
        let (title, id, spend) = (ID.title, run.id, run.spend.total.summary());
        format!("{title} · {id} {subject} · {state} · {spend} · {place}")
    }

    fn prepare(&mut self, area: Rect, store: &Store, scene: &Scene<'_>) -> Response {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        match self.window.prepare(store, scene.run, width, height, scene.theme) {
            Ok(()) => Response::none(),
            Err(error) => unreadable(&error),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let lines = match self.window.lines() {
            [] => empty("no run yet: its transcript appears here", scene.theme),
            lines => lines.to_vec(),
        };
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn search(&mut self, text: Option<String>, _: &Scene<'_>) -> Response {
        self.needle = text;
        self.find(false)
    }

    fn clear_marks(&mut self) {
        self.window.hit = None;
    }
}
