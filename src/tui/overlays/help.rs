//! Help: the keys that are active where it was opened, read from the keymap in force and grouped by what
//! they do, and a legend of the marks.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::tui::action_group::ActionGroup;
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::response::Response;
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::{centred, framed};
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{column, width as columns};

/// Columns of a column of keys.
const WIDTH: usize = 48;
/// Lines that a page key scrolls.
const PAGE: usize = 8;

/// The place in the list of keys.
#[derive(Debug)]
pub(super) struct Help {
    /// Where the keys would be pressed.
    context: KeyContext,
    scroll: Scroll,
}

impl Help {
    pub(super) fn new(context: KeyContext) -> Self {
        Self { context, scroll: Scroll::default() }
    }

    /// The groups with their head, a line an action with all of its keys, and the legend.
    fn blocks(&self, scene: &Scene<'_>, width: usize) -> Vec<Vec<Line<'static>>> {
        let mut found: Vec<(ActionGroup, &str, String)> = Vec::new();
        for binding in scene.keymap.active(self.context) {
            let known = found.iter_mut().find(|(_, label, _)| *label == binding.label());
            if let Some((.., keys)) = known {
                keys.push_str(&format!("  {}", binding.keys()));
            } else {
                let group = ActionGroup::of(binding.action);
                found.push((group, binding.label(), binding.keys()));
            }
        }
        let theme = scene.theme;
        let keys = found.iter().map(|(.., keys)| columns(keys)).max().unwrap_or(0);
        let label = width.saturating_sub(keys + 2).max(12);
        let line = |(_, text, keys): &(ActionGroup, &str, String)| {
            Line::from(vec![
                piece(format!(" {} ", column(text, label, theme.marks.cut)), theme, Tone::Text),
                piece(keys.clone(), theme, Tone::Accent),
            ])
        };
        let head = |text: &str, tone| Line::from(piece(format!(" {text}"), theme, tone));
        let mut blocks: Vec<Vec<Line<'static>>> = Vec::new();
        for group in ActionGroup::ALL {
            let of_group = found.iter().filter(|(known, ..)| *known == group);
            let lines: Vec<Line<'static>> = of_group.map(line).collect();
            let tone = if group == ActionGroup::Danger { Tone::Bad } else { Tone::Title };
            if !lines.is_empty() {
                blocks.push(std::iter::once(head(group.title(), tone)).chain(lines).collect());
            }
        }
        let legend = legend(scene).into_iter().map(|(mark, tone, means)| {
            Line::from(vec![
                piece(format!(" {mark} "), theme, tone),
                piece(means, theme, Tone::Text),
            ])
        });
        blocks.push(std::iter::once(head("Marks", Tone::Title)).chain(legend).collect());
        blocks
    }

    /// The lines in the columns that fit.
    fn lines(&self, scene: &Scene<'_>, area: Rect) -> Vec<Line<'static>> {
        let (count, width) = columns_of(area);
        let blocks = self.blocks(scene, width);
        let all: usize = blocks.iter().map(|block| block.len() + 1).sum();
        let mut filled: Vec<Vec<Line<'static>>> = vec![Vec::new()];
        for block in blocks {
            let last = filled.len();
            if let Some(lines) = filled.last_mut()
                && !lines.is_empty()
            {
                // The next column once this one has its share.
                if lines.len() + block.len() / 2 > all / count && last < count {
                    filled.push(block);
                    continue;
                }
                lines.push(Line::default());
                lines.extend(block);
            } else {
                filled.pop();
                filled.push(block);
            }
        }
        let height = filled.iter().map(Vec::len).max().unwrap_or(0);
        let row = |at: usize| {
            let mut spans: Vec<Span<'static>> = Vec::new();
            let mut used = 0;
            for (place, lines) in filled.iter().enumerate() {
                let Some(line) = lines.get(at) else { continue };
                let gap = (place * width).saturating_sub(used);
                spans.push(Span::raw(" ".repeat(gap)));
                used += gap + line.width();
                spans.extend(line.spans.clone());
            }
            Line::from(spans)
        };
        (0..height).map(row).collect()
    }
}

/// The columns of keys that an area has room for, and the width of one.
fn columns_of(area: Rect) -> (usize, usize) {
    let room = usize::from(area.width.saturating_sub(2));
    let count = (room / WIDTH).clamp(1, 3);
    (count, (room / count).min(WIDTH + 12))
}

/// The marks of states, with their meaning.
fn legend(scene: &Scene<'_>) -> [(&'static str, Tone, &'static str); 10] {
    let marks = &scene.theme.marks;
    [
        (marks.asks, Tone::Warn, "waits for your answer"),
        (marks.human, Tone::Warn, "goes on only with a human"),
        (marks.busy, Tone::Busy, "at work, or not known yet"),
        (marks.waiting, Tone::Dim, "waits for its turn"),
        (marks.frozen, Tone::Bad, "frozen: holds its repository"),
        (marks.done, Tone::Good, "done, passed, healthy"),
        (marks.bad, Tone::Bad, "failed"),
        (marks.open, Tone::Dim, "not reached yet"),
        (marks.stopped, Tone::Dim, "cancelled"),
        (marks.wrap, Tone::Dim, "continues the line above"),
    ]
}

/// The box in the middle of an area.
fn place(area: Rect, lines: usize) -> Rect {
    let (count, width) = columns_of(area);
    let width = u16::try_from(count * width + 2).unwrap_or(u16::MAX);
    centred(area, width, u16::try_from(lines + 2).unwrap_or(u16::MAX))
}

impl Component for Help {
    fn go(&mut self, motion: Motion, _: &Scene<'_>) -> Response {
        self.scroll.go(motion, PAGE);
        Response::none()
    }
}

impl Overlay for Help {
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let lines = self.lines(scene, area).len();
        let height = place(area, lines).height.saturating_sub(2);
        self.scroll.fit(lines, usize::from(height));
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let lines = self.lines(scene, area);
        let inner = framed(frame, place(area, lines.len()), "Help", scene.theme);
        self.scroll.draw(frame, inner, &lines, scene.theme);
    }
}
