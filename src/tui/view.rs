//! The state of one client: focus, places, overlays, theme. Nobody else sees it.

use tui_textarea::TextArea;

use super::keymap::{Context, Keymap};
use super::panes::transcript::Transcript;
use super::panes::{Pane, breakglass, queue};
use super::theme::Theme;
use super::update::Request;
use super::widgets::list::Cursor;
use crate::breakglass::ssh::KeyChange;
use crate::core::model::approval::Answer;
use crate::core::model::breakglass::{BreakglassRequest, Confirmation, Verb};
use crate::core::model::digest::Digest;
use crate::core::model::id::{Actor, EscalationId, Repo, RunId};
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;
use crate::term::key::Key;

/// What lies over the panes; the last one is on top and has the keys.
#[derive(Debug)]
pub enum Overlay {
    /// The escalations.
    Inbox(Inbox),
    /// The keys that are active.
    Help {
        /// First line shown.
        scroll: usize,
        /// Where the keys would be pressed.
        context: Context,
    },
    /// Every action, by fuzzy search.
    Palette(Palette),
    /// A question before something that can't be taken back.
    Confirm {
        /// What will happen.
        question: String,
        /// What yes asks for.
        yes: Box<Request>,
    },
    /// A line or more of text.
    Input(Box<Input>),
    /// Text to read.
    Pager(Pager),
}

/// The inbox's own state.
#[derive(Debug, Default)]
pub struct Inbox {
    /// Which escalation.
    pub cursor: Cursor<EscalationId>,
    /// First line of its detail.
    pub scroll: usize,
    /// Whether its end was on the screen: only then it can be answered.
    pub read: Option<EscalationId>,
}

/// The palette's own state.
#[derive(Debug, Default)]
pub struct Palette {
    /// What was typed.
    pub text: String,
    /// Which of the matches.
    pub selected: usize,
}

/// What a typed text is for.
#[derive(Debug, Clone)]
pub enum Purpose {
    /// A message to an agent.
    Steer(RunId),
    /// Guidance for a retry.
    Retry(RunId),
    /// An answer in words.
    Answer(EscalationId, Digest),
    /// The reason of a refusal.
    Deny(EscalationId, Digest),
    /// Another command than the one that was asked for.
    Edit(EscalationId, Digest),
    /// Search in the transcript, or in a terminal.
    Search,
    /// The reason of an arming.
    Arm {
        /// From somebody else.
        take_over: bool,
    },
    /// The VM's name, for a verb as it was shown.
    Verb(Verb, Digest),
    /// The host's name, for its new key.
    Trust(Box<KeyChange>),
}

/// A text being typed.
#[derive(Debug)]
pub struct Input {
    /// What it is.
    pub title: String,
    /// What is to be known before it is sent.
    pub about: Vec<String>,
    /// For what.
    pub purpose: Purpose,
    /// The editor.
    pub area: TextArea<'static>,
}

impl Input {
    /// An empty one.
    #[must_use]
    pub fn new(title: String, purpose: Purpose) -> Self {
        let mut area = TextArea::default();
        area.set_cursor_line_style(ratatui::style::Style::default());
        Self { title, about: Vec::new(), purpose, area }
    }

    /// One that begins with a text, its end under the cursor.
    #[must_use]
    pub fn with(title: String, purpose: Purpose, text: &str) -> Self {
        let mut input = Self::new(title, purpose);
        input.area.insert_str(text);
        input
    }

    /// What asks for when it is done.
    #[must_use]
    pub fn request(&self) -> Option<Request> {
        use crate::core::model::command::Command;
        let text = self.area.lines().join("\n");
        Some(Request::Act(match self.purpose.clone() {
            Purpose::Steer(run) => Command::Steer { run, text: text.into() },
            Purpose::Retry(run) => Command::Retry { run, guidance: text.into() },
            Purpose::Answer(escalation, digest) => {
                Command::Answer { escalation, digest, answer: Answer::Text { text: text.into() } }
            }
            Purpose::Deny(escalation, digest) => {
                Command::Answer { escalation, digest, answer: Answer::Deny { reason: text.into() } }
            }
            Purpose::Edit(escalation, digest) => Command::Answer {
                escalation,
                digest,
                answer: Answer::Edit { command: text.into() },
            },
            Purpose::Arm { take_over } => Command::Breakglass {
                request: BreakglassRequest::Arm { reason: text.into(), take_over },
            },
            Purpose::Verb(verb, seen) => {
                let mut words = text.split_whitespace().map(str::to_owned);
                let name = words.next().unwrap_or_default();
                let confirm = Some(Confirmation { name, seen, again: words.next() });
                Command::Breakglass { request: BreakglassRequest::Verb { verb, confirm } }
            }
            Purpose::Trust(change) if text.trim() == change.host => {
                let KeyChange { host, key, old, new } = *change;
                Command::Breakglass { request: BreakglassRequest::Trust { host, key, old, new } }
            }
            Purpose::Trust(_) | Purpose::Search => return None,
        }))
    }
}

/// Text to read, a line each; cleaned when it was put in.
#[derive(Debug, Clone, Default)]
pub struct Pager {
    /// What it is.
    pub title: String,
    /// The lines.
    pub lines: Vec<String>,
    /// First line shown.
    pub scroll: usize,
    /// Where the lines come from anew with each frame.
    pub live: Option<Lines>,
}

/// Lines that follow what they tell of.
pub type Lines = fn(&Snapshot, &View) -> Vec<String>;

/// See the module.
#[derive(Debug)]
pub struct View {
    /// Which pane has the keys.
    pub focus: Pane,
    /// Whether it has the whole screen.
    pub zoomed: bool,
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// The time to show; told before each frame.
    pub now: Timestamp,
    /// This machine's name.
    pub host: String,
    /// The queue's place.
    pub queue: Cursor<queue::RowId>,
    /// The worktrees' place.
    pub worktrees: Cursor<RunId>,
    /// The deploy pane's place.
    pub deploy: Cursor<Repo>,
    /// Breakglass: its rows and its terminals.
    pub breakglass: breakglass::State,
    /// Who looks.
    pub actor: Actor,
    /// What is typed where no cockpit is at hand.
    pub cold: Option<String>,
    /// Which run's transcript is shown; none follows the newest that works.
    pub chosen: Option<RunId>,
    /// The window onto it.
    pub transcript: Transcript,
    /// What lies over the panes.
    pub overlays: Vec<Overlay>,
    /// The last answer, until the next key.
    pub message: Option<String>,
    /// Keys of a chord that is not finished.
    pub pending: Vec<Key>,
    /// What was searched for last.
    pub search: Option<String>,
    /// The keys.
    pub keymap: Keymap,
    /// The looks.
    pub theme: Theme,
    /// Which of the shipped themes; an index.
    pub theme_at: usize,
    /// Marks in ASCII only.
    pub ascii: bool,
    /// Colours are wanted.
    pub colour: bool,
    /// The mouse is taken.
    pub mouse: bool,
    /// Leaving stops nothing.
    pub detaches: bool,
    /// The link takes frames slowly: some are skipped.
    pub slow: bool,
    /// Since when what is shown is old, and why.
    pub lost: Option<(Timestamp, String)>,
}

impl View {
    /// A fresh one.
    #[must_use]
    pub fn new(keymap: Keymap, theme: Theme, width: u16, height: u16) -> Self {
        Self {
            focus: Pane::Queue,
            zoomed: false,
            width,
            height,
            now: Timestamp::default(),
            host: String::new(),
            queue: Cursor::default(),
            worktrees: Cursor::default(),
            deploy: Cursor::default(),
            breakglass: breakglass::State::default(),
            actor: Actor(String::new()),
            cold: None,
            chosen: None,
            transcript: Transcript::default(),
            overlays: Vec::new(),
            message: None,
            pending: Vec::new(),
            search: None,
            keymap,
            theme,
            theme_at: 0,
            ascii: false,
            colour: true,
            mouse: false,
            detaches: false,
            slow: false,
            lost: None,
        }
    }

    /// The run whose transcript is shown: the chosen one, else the newest that works, else the
    /// newest.
    #[must_use]
    pub fn run(&self, snapshot: &Snapshot) -> Option<RunId> {
        let fleet = &snapshot.fleet;
        self.chosen.filter(|run| fleet.runs.contains_key(run)).or_else(|| {
            let working = fleet.live_runs().filter(|run| run.has_permit()).map(|run| run.id);
            working.max().or_else(|| fleet.runs.keys().next_back().copied())
        })
    }

    /// Where keys are pressed now.
    #[must_use]
    pub fn context(&self) -> Context {
        match (self.overlays.last(), self.focus) {
            (Some(Overlay::Inbox(_)), _) => Context::Inbox,
            (None, Pane::Transcript) => Context::Transcript,
            (None, Pane::Breakglass) => match self.breakglass.front() {
                Some(shown) if shown.typing() => Context::Console,
                Some(_) => Context::Terminal,
                None => Context::Breakglass,
            },
            _ => Context::Global,
        }
    }
}
