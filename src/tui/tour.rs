//! The tour: seven steps through the cockpit, in lines of their own above the footer. It takes no key but
//! its own, so that each step can be tried at once.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use super::action::{
    Action, CANCEL, HELP, INBOX, KILL_SWITCH, NEXT, OPEN, PALETTE, PREVIOUS, QUIT, SEARCH, STEER,
    TOUR, UNDO, ZOOM,
};
use super::keymap::{KeyContext, Keymap};
use super::theme::{Theme, Tone};
use super::widgets::span::piece;
use super::widgets::text::wrap;
use crate::tui::widgets::lines;

/// Lines of a step at most.
const LINES: usize = 4;

/// A step: its text, in which each `{}` is the key of an action.
type TourStep = (&'static str, &'static [Action]);

const STEPS: [TourStep; 7] = [
    ("The first line says how the fleet stands, and names the key that helps.", &[]),
    (
        "Queue: {} and {} move, {} explains the row, {} filters (state:held, label:bug).",
        &[NEXT, PREVIOUS, OPEN, SEARCH],
    ),
    (
        "Inbox: {} opens the questions. A card says what each key does; {} takes an answer back for 5 s.",
        &[INBOX, UNDO],
    ),
    (
        "Transcript: 3 shows it, ] and [ jump between turns and failures, {} gives it the whole screen.",
        &[ZOOM],
    ),
    (
        "{} sends the agent a message, {} cancels its run. The footer names what a key acts on.",
        &[STEER, CANCEL],
    ),
    (
        "Deploy health: 4 shows it, {} opens the proof: tests failed before the change and pass after it.",
        &[OPEN],
    ),
    (
        "{} is the kill switch: nothing new starts. {} shows all keys, {} finds an action, {} leaves.",
        &[KILL_SWITCH, HELP, PALETTE, QUIT],
    ),
];

/// The place in the tour, from 0; none where it isn't under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tour(Option<usize>);

impl Tour {
    /// Begins the tour, or goes on to its next step; the last one leads out.
    pub(crate) fn advance(&mut self) {
        self.0 = Some(self.0.map_or(0, |at| at + 1)).filter(|at| *at < STEPS.len());
    }

    /// Ends the tour; true where it was under way.
    pub(crate) const fn end(&mut self) -> bool {
        self.0.take().is_some()
    }

    /// The lines of the step.
    fn lines(self, width: u16, keymap: &Keymap) -> Vec<String> {
        let Some((at, (text, actions))) = self.0.and_then(|at| Some((at, STEPS.get(at)?))) else {
            return Vec::new();
        };
        let key = |action| keymap.key_of(KeyContext::GLOBAL, action);
        let mut shown = format!("Tour {}/{}: ", at + 1, STEPS.len());
        let mut keys = actions.iter();
        for (nth, part) in text.split("{}").enumerate() {
            if nth > 0 {
                shown.push_str(&keys.next().map(|action| key(*action)).unwrap_or_default());
            }
            shown.push_str(part);
        }
        let on = if at + 1 < STEPS.len() { "next" } else { "end" };
        shown.push_str(&format!(" [{} {on}]", key(TOUR)));
        let mut lines = wrap(&shown, usize::from(width).saturating_sub(2));
        lines.truncate(LINES);
        lines
    }

    /// The rows that the step takes.
    pub(crate) fn rows(self, width: u16, keymap: &Keymap) -> u16 {
        u16::try_from(self.lines(width, keymap).len()).unwrap_or(0)
    }

    pub(crate) fn draw(self, frame: &mut Frame<'_>, area: Rect, keymap: &Keymap, theme: &Theme) {
        let lines = self.lines(area.width, keymap).into_iter();
        let line = |text| Line::from(piece(format!(" {text}"), theme, Tone::Accent));
        lines::draw(frame, area, lines.map(line));
    }
}
