//! The answer of a component to a key, a click or a message: reactions for `app` to apply.
//!
//! A reaction can open an overlay. It describes the overlay as a [`Dialog`], so that panes need not
//! know overlays; a [`Prompt`] carries the function that turns the typed text into a response.

use std::fmt;

use super::action::Action;
use super::keymap::KeyContext;
use super::pane_id::PaneId;
use super::request::Request;
use super::review::ReviewChange;
use super::subject::Subject;
use crate::core::model::command::Command;
use crate::core::model::id::RunId;
use crate::core::model::time::Timestamp;
use crate::core::query::brief::FleetBrief;
use crate::core::query::span::Timeline;
use crate::runtime::Snapshot;

/// One thing that the cockpit does for a component.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// Ask the session for something outside.
    Request(Request),
    /// Show a message until the next key.
    Message(String),
    /// Say until the next key why a wish can't be carried out.
    Refusal(String),
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
    /// Change the comments on a run's diff that wait to be sent.
    Review(RunId, ReviewChange),
    /// Keep the text of a prompt that was left, for the next time that it is opened.
    KeepDraft {
        /// The title of the prompt.
        title: String,
        text: String,
    },
    /// Keep the text of a prompt until the fleet has accepted the command that was made of it.
    SendDraft {
        /// The title of the prompt.
        title: String,
        /// The text, where it isn't the one that the prompt began with.
        text: Option<String>,
        command: Command,
    },
    /// Forget the draft of the prompt with this title: its text was used, or emptied.
    DropDraft(String),
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

    /// The reason why a wish can't be carried out.
    pub(crate) fn refusal(text: impl Into<String>) -> Self {
        Self::from(Reaction::Refusal(text.into()))
    }

    pub(crate) fn open(dialog: Dialog) -> Self {
        Self::from(Reaction::Open(dialog))
    }

    /// The prompt as an overlay.
    pub(crate) fn prompt(prompt: Prompt) -> Self {
        Self::open(Dialog::Prompt(Box::new(prompt)))
    }

    /// A question before something that can't be taken back; `means` is the effect of yes.
    pub(crate) fn confirm(
        question: String,
        means: impl Into<String>,
        yes: impl Into<Self>,
    ) -> Self {
        Self::open(Dialog::Confirm { question, means: means.into(), yes: yes.into() })
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

    /// The command that it sends, if there is one.
    pub(crate) fn command(&self) -> Option<&Command> {
        self.0.iter().find_map(|reaction| match reaction {
            Reaction::Request(Request::Command(command)) => Some(command),
            _ => None,
        })
    }

    pub(crate) fn into_reactions(self) -> Vec<Reaction> {
        self.0
    }
}

impl From<Request> for Response {
    fn from(request: Request) -> Self {
        Self::request(request)
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
    /// What happened since the operator last looked.
    Brief(Box<FleetBrief>),
    /// What each run did over the last hours.
    Timeline(Box<Timeline>),
    /// Two runs side by side.
    Compare(Box<ComparedRuns>),
    /// The tails of all live transcripts.
    Grid,
    /// The changes of a run, to comment on.
    Review(Box<ReviewedDiff>),
    /// The clients that are attached to this fleet.
    Clients,
    /// A question before something that can't be taken back.
    Confirm {
        question: String,
        /// The effect of yes.
        means: String,
        yes: Response,
    },
    /// A text to be typed.
    Prompt(Box<Prompt>),
    /// A text to read.
    Text(TextView),
}

/// Two runs to compare, each with its diff or the reason why there is none.
#[derive(Debug)]
pub(crate) struct ComparedRuns {
    pub(crate) runs: [RunId; 2],
    pub(crate) diffs: [Result<String, String>; 2],
}

/// The diff of a run, clean and in lines.
#[derive(Debug)]
pub(crate) struct ReviewedDiff {
    pub(crate) run: RunId,
    pub(crate) lines: Vec<String>,
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

    /// The same prompt with a line above the text.
    pub(crate) fn about(mut self, line: impl Into<String>) -> Self {
        self.about.push(line.into());
        self
    }

    /// A prompt for the text to search for in the focused pane.
    pub(crate) fn search() -> Self {
        Self::filter("Search", "")
    }

    /// A prompt for the words that the focused pane shall look for; it begins with the ones in force.
    pub(crate) fn filter(title: &'static str, text: &str) -> Self {
        let prompt = Self::line(title.into(), "Search", |text| {
            let first = text.lines().next().filter(|line| !line.is_empty());
            Reaction::Search(first.map(str::to_owned)).into()
        });
        Self { text: text.to_owned(), ..prompt }
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
    /// The thing that the text is about, on which keys then act.
    pub(crate) subject: Option<Subject>,
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
        Self { title: title.into(), content: TextSource::Fixed(lines), ..Self::empty() }
    }

    pub(crate) fn live(
        title: impl Into<String>,
        lines: impl Fn(&Snapshot, Timestamp) -> Vec<String> + 'static,
    ) -> Self {
        Self { title: title.into(), content: TextSource::Live(Box::new(lines)), ..Self::empty() }
    }

    const fn empty() -> Self {
        let content = TextSource::Fixed(Vec::new());
        Self { title: String::new(), content, at_end: false, subject: None }
    }

    /// The same text as one about a subject.
    pub(crate) fn about(self, subject: Subject) -> Self {
        Self { subject: Some(subject), ..self }
    }
}

impl fmt::Debug for TextView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextView").field("title", &self.title).finish_non_exhaustive()
    }
}
