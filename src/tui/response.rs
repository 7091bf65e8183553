//! The answer of a component to a key, a click or a message: reactions for `app` to apply.
//!
//! A reaction can open an overlay. It describes the overlay as a [`Dialog`], so that panes need not
//! know overlays; a [`Prompt`] carries the function that turns the typed text into a response.

use std::fmt;

use super::action::Action;
use super::keymap::KeyContext;
use super::pane_id::PaneId;
use super::request::Request;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::runtime::Snapshot;

/// One thing that the cockpit does for a component.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Ask the session for something outside.
    Request(Request),
    /// Show a message in the footer until the next key.
    Message(String),
    /// Show a run's transcript where transcripts are shown.
    ShowRun(RunId),
    /// Show a run's transcript and give it the focus.
    OpenTranscript(RunId),
    /// Give the focus to a pane; overlays are closed.
    Focus(PaneId),
    /// Open an overlay on top of the others.
    Open(Dialog),
    /// Close the overlay on top.
    Close,
    /// Carry out an action as if its key had been pressed.
    Act(Action),
    /// Search in the focused pane.
    Search(Option<String>),
}

/// The answer of a component that handled something: reactions of the cockpit, in order.
#[derive(Debug, Default)]
pub(crate) struct Response(Vec<Reaction>);

impl Response {
    /// Nothing beyond the component's own change.
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn request(request: Request) -> Self {
        Self::from(Reaction::Request(request))
    }

    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self::from(Reaction::Message(text.into()))
    }

    pub(crate) fn open(dialog: Dialog) -> Self {
        Self::from(Reaction::Open(dialog))
    }

    /// The prompt as an overlay.
    pub(crate) fn prompt(prompt: Prompt) -> Self {
        Self::open(Dialog::Prompt(Box::new(prompt)))
    }

    /// A question before a request that can't be taken back; `means` is the effect of yes.
    pub(crate) fn confirm(question: String, means: impl Into<String>, yes: Request) -> Self {
        Self::open(Dialog::Confirm { question, means: means.into(), yes })
    }

    /// This response with a further reaction at its end.
    pub(crate) fn then(mut self, reaction: Reaction) -> Self {
        self.0.push(reaction);
        self
    }

    /// This response followed by another.
    pub(crate) fn followed_by(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    pub(crate) fn into_reactions(self) -> Vec<Reaction> {
        self.0
    }
}

impl From<Reaction> for Response {
    fn from(reaction: Reaction) -> Self {
        Self(vec![reaction])
    }
}

/// An overlay to open, described so that its opener needn't know it.
#[derive(Debug)]
pub(crate) enum Dialog {
    Inbox,
    /// The keys that are active in a context.
    Help(KeyContext),
    /// Every action, by fuzzy search.
    Palette,
    /// The cost of runs, by day, repository and run.
    Spend,
    /// The clients that are attached to this fleet.
    Clients,
    /// A question before a request that can't be taken back.
    Confirm {
        question: String,
        /// The effect of yes.
        means: String,
        yes: Request,
    },
    /// A text to be typed.
    Prompt(Box<Prompt>),
    /// A text to read.
    Text(TextView),
}

/// A text to be typed, and the function that takes it.
pub(crate) struct Prompt {
    pub(crate) title: String,
    /// Lines above the text: the facts to know before it is sent.
    pub(crate) about: Vec<String>,
    /// The text to begin with.
    pub(crate) text: String,
    pub(crate) size: PromptSize,
    pub(crate) submit: Submit,
}

/// Turns a typed text into a response.
pub(crate) type Submit = Box<dyn FnOnce(String) -> Response>;

/// How much room a prompt gives to its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PromptSize {
    /// One line, with the verb of the Enter key.
    Line {
        enter: &'static str,
    },
    Text,
}

impl Prompt {
    /// A prompt for several lines that begins empty.
    pub(crate) fn text(title: String, submit: impl FnOnce(String) -> Response + 'static) -> Self {
        let (about, text) = (Vec::new(), String::new());
        Self { title, about, text, size: PromptSize::Text, submit: Box::new(submit) }
    }

    /// A prompt for one line; `enter` is the verb of the Enter key.
    pub(crate) fn line(
        title: String,
        enter: &'static str,
        submit: impl FnOnce(String) -> Response + 'static,
    ) -> Self {
        Self { size: PromptSize::Line { enter }, ..Self::text(title, submit) }
    }

    /// A prompt for the text to search for in the focused pane.
    pub(crate) fn search() -> Self {
        Self::line("Search".into(), "Search", |text| {
            let first = text.lines().next().filter(|line| !line.is_empty());
            Reaction::Search(first.map(str::to_owned)).into()
        })
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prompt").field("title", &self.title).finish_non_exhaustive()
    }
}

/// A text to read, a line each; the lines are clean of control characters.
pub(crate) struct TextView {
    pub(crate) title: String,
    pub(crate) content: TextSource,
    /// Opens at the end and stays there as the text grows.
    pub(crate) at_end: bool,
}

/// Where the lines of a document come from.
pub(crate) enum TextSource {
    Fixed(Vec<String>),
    /// Computed for each frame.
    Live(LiveLines),
}

/// Lines that follow the snapshot.
pub(crate) type LiveLines = Box<dyn Fn(&Snapshot, Timestamp) -> Vec<String>>;

impl TextView {
    pub(crate) fn fixed(title: impl Into<String>, lines: Vec<String>) -> Self {
        Self { title: title.into(), content: TextSource::Fixed(lines), at_end: false }
    }

    pub(crate) fn live(
        title: impl Into<String>,
        lines: impl Fn(&Snapshot, Timestamp) -> Vec<String> + 'static,
    ) -> Self {
        Self { title: title.into(), content: TextSource::Live(Box::new(lines)), at_end: false }
    }
}

impl fmt::Debug for TextView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextView").field("title", &self.title).finish_non_exhaustive()
    }
}
