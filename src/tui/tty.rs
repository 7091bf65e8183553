//! The terminal of a session: its input, and whether it keeps up with the frames.

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::Event;
use futures::StreamExt;

use super::clock::reached;
use super::theme::Rgb;
use crate::error::{Failure, FailureKind};
use crate::term::event;
use crate::term::guard::{self, Guard};

/// The terminal of a session.
pub(super) enum Tty {
    /// The terminal of this process.
    Local { guard: Guard, keys: event::TerminalEvents },
    /// A terminal at the other end of a socket or of SSH.
    Remote { events: event::TerminalEvents, flow: Flow },
}

/// Frames on their way to a remote terminal. The link buffers much, so that a finished write proves
/// nothing: each frame ends with a query, whose answer shows that the frame has arrived.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// When the open query was sent.
    asked: Option<Instant>,
    /// Whether the terminal answers queries; a mute one is waited for only once.
    answers: Option<bool>,
}

/// How long the session waits for the first answer of a terminal.
const MUTE: Duration = Duration::from_secs(10);

/// Input of a terminal.
pub(super) enum TerminalInput {
    Event(Event),
    /// The last frame went over the whole link in this time.
    FrameShown(Duration),
    /// The terminal's background, which was asked for.
    Background(Rgb),
}

/// Whether this terminal answers questions, or drops them silently: the Linux console shows them.
pub(super) fn answers() -> bool {
    std::env::var("TERM").is_ok_and(|term| term != "linux")
}

/// Refuses a terminal that can't show a screen, and says what can be read there.
///
/// # Errors
/// [`Failure`], for a terminal without cursor movement.
pub(crate) fn check() -> Result<(), Failure> {
    guard::check_terminal().map_err(|error| {
        Failure::from_error(FailureKind::Usage, error).hint(
            "`afk watch` prints a line for each event; where the terminal can do more, set TERM, for \
             example to xterm-256color",
        )
    })
}

impl Tty {
    pub(super) const fn local(guard: Guard, keys: event::TerminalEvents) -> Self {
        Self::Local { guard, keys }
    }

    pub(super) fn remote(events: event::TerminalEvents) -> Self {
        Self::Remote { events, flow: Flow::default() }
    }

    /// Whether this is the terminal of this process.
    pub(super) const fn is_local(&self) -> bool {
        matches!(self, Self::Local { .. })
    }

    /// Starts or stops taking mouse events; the bytes are for the other end of the link.
    pub(super) fn set_mouse(&mut self, on: bool) -> io::Result<Vec<u8>> {
        match self {
            Self::Local { guard, .. } => guard.set_mouse(on).map(|()| Vec::new()),
            Self::Remote { .. } => guard::mouse_sequence(on),
        }
    }

    /// The next input; none once the terminal is gone.
    pub(super) async fn next(&mut self) -> Option<TerminalInput> {
        match self {
            Self::Local { keys, .. } => loop {
                match keys.next().await? {
                    event::TerminalEvent::Input(event) => return Some(TerminalInput::Event(event)),
                    event::TerminalEvent::Background(r, g, b) => {
                        return Some(TerminalInput::Background((r, g, b)));
                    }
                    // No probe is sent to the terminal of this process.
                    event::TerminalEvent::ProbeAnswered => {}
                }
            },
            Self::Remote { events, flow } => loop {
                let limit = flow.asked.filter(|_| flow.answers.is_none()).map(|at| at + MUTE);
                let sent = tokio::select! {
                    sent = events.next() => sent?,
                    () = reached(limit), if limit.is_some() => {
                        let took = MUTE;
                        (flow.asked, flow.answers) = (None, Some(false));
                        return Some(TerminalInput::FrameShown(took));
                    }
                };
                match sent {
                    event::TerminalEvent::Input(event) => return Some(TerminalInput::Event(event)),
                    event::TerminalEvent::Background(r, g, b) => {
                        return Some(TerminalInput::Background((r, g, b)));
                    }
                    event::TerminalEvent::ProbeAnswered => {
                        flow.answers = Some(true);
                        if let Some(asked) = flow.asked.take() {
                            return Some(TerminalInput::FrameShown(asked.elapsed()));
                        }
                    }
                }
            },
        }
    }

    /// Whether the last frame has arrived.
    pub(super) const fn ready(&self) -> bool {
        match self {
            Self::Local { .. } => true,
            Self::Remote { flow, .. } => flow.asked.is_none(),
        }
    }

    /// Ends a frame with the query, where the terminal is remote and answers.
    pub(super) fn finish(&mut self, frame: &mut Vec<u8>) {
        if let Self::Remote { flow, .. } = self
            && flow.answers != Some(false)
            && !frame.is_empty()
        {
            frame.extend_from_slice(event::PROBE);
            flow.asked = Some(Instant::now());
        }
    }
}
