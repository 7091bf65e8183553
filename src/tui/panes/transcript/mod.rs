//! Transcript: the conversation of one run with its agent, for a reader.

mod cells;
mod index;
mod pinned;
mod search;
pub(crate) mod window;

use std::io;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line;

use self::search::SearchStep;
use self::window::Window;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::run::Run;
use crate::journal::transcript::Store;
use crate::tui::action::{
    Action, DIFF, HELP, INBOX, QUIT, SEARCH, SEARCH_NEXT, SEARCH_PREVIOUS, ZOOM,
};
use crate::tui::component::{Component, Pane, Registration, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::pane_id::{Column, PaneId, Slot};
use crate::tui::response::{Prompt, Reaction, Response};
use crate::tui::run_actions::offered_on;
use crate::tui::subject::Subject;
use crate::tui::widgets::lines;
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
const JUMP_NEXT: Action = Action::new("jump-next", "Next turn or failure");
const JUMP_PREVIOUS: Action = Action::new("jump-previous", "Previous turn or failure");
const JUMP_NEXT_TOOL: Action = Action::new("jump-next-tool", "Next tool");
const JUMP_PREVIOUS_TOOL: Action = Action::new("jump-previous-tool", "Previous tool");

/// The actions that this pane carries out also while another one has the focus.
const ACTIONS: &[Action] = &[
    FOLLOW,
    FOLD,
    JUMP_NEXT,
    JUMP_PREVIOUS,
    JUMP_NEXT_TOOL,
    JUMP_PREVIOUS_TOOL,
    SEARCH,
    SEARCH_NEXT,
    SEARCH_PREVIOUS,
];

/// The records between which a reader jumps: turns, failures, and what a human was asked.
fn is_stop(event: &AgentEvent) -> bool {
    matches!(
        event,
        AgentEvent::Prompt { .. }
            | AgentEvent::ToolEnd { ok: false, .. }
            | AgentEvent::PermissionRequest { .. }
            | AgentEvent::Question { .. }
            | AgentEvent::Steered { .. }
    )
}

fn is_tool(event: &AgentEvent) -> bool {
    matches!(event, AgentEvent::ToolEnd { .. } | AgentEvent::Diff { .. })
}

pub(crate) const PANE: Registration =
    Registration::new(ID, |_| Box::<TranscriptPane>::default()).with(&[CONTEXT], ACTIONS);

/// The pane: a window onto the shown run's transcript, and the last search in it.
#[derive(Debug, Default)]
struct TranscriptPane {
    window: Window,
    needle: Option<String>,
}

impl TranscriptPane {
    fn jump(&mut self, backwards: bool, stops: fn(&AgentEvent) -> bool, what: &str) -> Response {
        match self.window.jump(backwards, stops) {
            Ok(true) => Response::none(),
            Ok(false) => {
                let way = if backwards { "above" } else { "below" };
                Response::refusal(format!("no {what} {way}"))
            }
            Err(error) => unreadable(&error),
        }
    }

    fn find(&mut self, backwards: bool, scene: &Scene<'_>) -> Response {
        let Some(text) = &self.needle else {
            return Response::message("nothing to repeat: search for a text first");
        };
        match self.window.search(text, backwards, scene.theme) {
            Ok(SearchStep::At { wrapped: false, .. }) => Response::none(),
            Ok(SearchStep::At { number, all, .. }) => {
                let end = if backwards { "end" } else { "beginning" };
                Response::message(format!("went on from the {end}: match {number}/{all}"))
            }
            Ok(SearchStep::Nothing) => Response::message(format!("no match of {text:?}")),
            Err(error) => unreadable(&error),
        }
    }
}

/// The run whose transcript is shown.
fn shown<'a>(scene: &Scene<'a>) -> Option<&'a Run> {
    scene.subject.and_then(|subject| subject.run(&scene.snapshot.fleet))
}

/// The sentence in the place of a transcript that isn't there.
fn nothing(scene: &Scene<'_>) -> String {
    let fleet = &scene.snapshot.fleet;
    let Some(subject) = scene.subject else {
        return "no run yet: its transcript appears here".into();
    };
    let reason = subject.issue(fleet).and_then(|key| fleet.ledger.get(key));
    let reason = reason.map(|entry| format!(": {}", entry.reason.summary())).unwrap_or_default();
    match subject.run(fleet) {
        Some(run) => format!("{} has written nothing yet", run.id),
        None => format!("{} has no run yet{reason}", subject.name(fleet)),
    }
}

fn unreadable(error: &io::Error) -> Response {
    Response::message(format!("can't read the transcript: {error}"))
}

impl Component for TranscriptPane {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let mut actions = vec![HELP];
        actions.extend(offered_on(scene.subject, scene.snapshot));
        actions.extend([FOLLOW, FOLD, JUMP_NEXT, INBOX, SEARCH, ZOOM, DIFF, QUIT]);
        actions
    }

    /// The thing that the transcript shows.
    fn subject(&self, scene: &Scene<'_>) -> Option<Subject> {
        scene.subject.cloned()
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        match action {
            FOLLOW => self.window.follow = !self.window.follow,
            FOLD => self.window.unfolded = !self.window.unfolded,
            SEARCH => {
                let focus = Response::from(Reaction::Focus(ID));
                return Some(focus.followed_by(Response::prompt(Prompt::search())));
            }
            JUMP_NEXT => return Some(self.jump(false, is_stop, "turn, failure or question")),
            JUMP_PREVIOUS => return Some(self.jump(true, is_stop, "turn, failure or question")),
            JUMP_NEXT_TOOL => return Some(self.jump(false, is_tool, "use of a tool")),
            JUMP_PREVIOUS_TOOL => return Some(self.jump(true, is_tool, "use of a tool")),
            SEARCH_NEXT => return Some(self.find(false, scene)),
            SEARCH_PREVIOUS => return Some(self.find(true, scene)),
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
        let Some(run) = shown(scene) else {
            let name = scene.subject.map(|subject| subject.name(fleet));
            return match name.filter(|name| !name.is_empty()) {
                Some(name) => format!("{} · {name} · no run yet", ID.title),
                None => ID.title.to_owned(),
            };
        };
        let subject =
            run.work.issue().map_or_else(|| run.work.repo().to_string(), ToString::to_string);
        let state = match run.progress.outcome {
            Some(outcome) => outcome.as_str().to_owned(),
            None if fleet.waits_for_human(run) => "waits for you".to_owned(),
            None => scene.snapshot.standing(run, fleet.last_event),
        };
        let place = if let Some((number, all)) = self.window.hit_number() {
            format!("match {number}/{all}")
        } else if self.window.follow {
            "following".to_owned()
        } else {
            format!("{} of {}", self.window.at() + 1, self.window.records())
        };
        let (title, id, spend) = (ID.title, run.id, run.spend.total.summary());
        format!("{title} · {id} {subject} · {state} · {spend} · {place}")
    }

    fn prepare(&mut self, area: Rect, store: &Store, scene: &Scene<'_>) -> Response {
        let (width, height) = (usize::from(area.width), usize::from(area.height));
        let run = shown(scene);
        self.window.set_live(run.is_some_and(Run::live), scene.now);
        let run = run.map(|run| run.id);
        match self.window.prepare(store, run, width, height, scene.theme) {
            Ok(()) => Response::none(),
            Err(error) => unreadable(&error),
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let (above, below) = self.window.pinned();
        let height = |lines: &[Line<'static>]| u16::try_from(lines.len()).unwrap_or(u16::MAX);
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(height(above)),
            Constraint::Min(0),
            Constraint::Length(height(below)),
        ])
        .areas(area);
        lines::draw(frame, top, above);
        match self.window.lines() {
            [] => lines::draw(frame, middle, empty(&nothing(scene), scene.theme)),
            shown => lines::draw(frame, middle, shown),
        }
        lines::draw(frame, bottom, below);
        self.window.extent().draw(frame, area, scene.theme);
    }

    fn search(&mut self, text: Option<String>, scene: &Scene<'_>) -> Response {
        if text.is_some() {
            self.needle = text;
        }
        self.find(false, scene)
    }

    fn clear_marks(&mut self) {
        self.window.clear_search();
    }
}
