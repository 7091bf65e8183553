//! Review: the changes of a run, with comments on lines. The comments wait until they are sent to its
//! agent as one message.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Block;

use crate::core::model::plural::plural;
use crate::tui::action::{Action, BACK, COPY, HELP, PAGE_DOWN};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::request::Request;
use crate::tui::response::{Prompt, Reaction, Response, ReviewedDiff};
use crate::tui::review::{ReviewChange, ReviewComment, ReviewedLine, message};
use crate::tui::run_actions::{self, offered_on};
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::lines;
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::span::{empty, piece};
use crate::tui::widgets::text::{fit, wrap_marked};

pub(crate) const CONTEXT: KeyContext = KeyContext::new("review");

const COMMENT: Action = Action::new("review-comment", "Comment line").for_operators();
const REMOVE: Action = Action::new("review-remove", "Remove comment").for_operators();
const SEND: Action = Action::new("review-send", "Send comments").for_operators();
const NEXT_HUNK: Action = Action::new("review-next", "Next hunk");
const PREVIOUS_HUNK: Action = Action::new("review-previous", "Previous hunk");

pub(crate) const ACTIONS: &[Action] = &[COMMENT, REMOVE, SEND, NEXT_HUNK, PREVIOUS_HUNK];

/// The longest quote of a line in a message, in characters.
const QUOTE: usize = 200;

/// A diff with the cursor on one of its lines.
pub(super) struct ReviewView {
    diff: ReviewedDiff,
    /// The place of each line: its file and its number there; none for heads.
    places: Vec<Option<String>>,
    cursor: usize,
    /// The first line on the screen.
    first: usize,
    /// The lines that the last frame showed.
    height: usize,
    shown: Vec<Line<'static>>,
}

impl ReviewView {
    pub(super) fn new(diff: ReviewedDiff) -> Self {
        let places = places(&diff.lines);
        Self { diff, places, cursor: 0, first: 0, height: 1, shown: Vec::new() }
    }

    fn last(&self) -> usize {
        self.diff.lines.len().saturating_sub(1)
    }

    /// The next hunk after the cursor, or the one before it.
    fn hunk(&self, forward: bool) -> Option<usize> {
        let is_hunk = |at: &usize| self.diff.lines[*at].starts_with("@@ ");
        if forward {
            (self.cursor + 1..self.diff.lines.len()).find(is_hunk)
        } else {
            (0..self.cursor).rev().find(is_hunk)
        }
    }

    /// The line of a file at a row of the diff; none for heads.
    fn reviewed(&self, row: usize) -> Option<ReviewedLine> {
        let place = self.places.get(row)?.clone()?;
        Some(ReviewedLine { place, quote: self.diff.lines[row].chars().take(QUOTE).collect() })
    }

    /// The comments that stand at a row: the one on its line, and at the first row those on lines that the
    /// diff no longer has, since the agent went on.
    fn comments_at<'a>(&self, row: usize, scene: &Scene<'a>) -> Vec<&'a ReviewComment> {
        let comments = scene.reviews.of(self.diff.run);
        if comments.is_empty() {
            return Vec::new();
        }
        if row == 0 {
            let gone = |comment: &&ReviewComment| !self.has(&comment.line);
            return comments.iter().filter(gone).collect();
        }
        let line = self.reviewed(row);
        comments.iter().filter(|comment| Some(&comment.line) == line.as_ref()).collect()
    }

    /// Whether the diff has a line.
    fn has(&self, line: &ReviewedLine) -> bool {
        let rows = self.places.iter().enumerate();
        let mut same = rows.filter(|(_, place)| place.as_ref() == Some(&line.place));
        same.any(|(row, _)| self.reviewed(row).as_ref() == Some(line))
    }

    /// Asks for the comment on the line of the cursor.
    fn ask(&self, scene: &Scene<'_>) -> Response {
        let (run, row) = (self.diff.run, self.cursor);
        let Some(line) = self.reviewed(row) else {
            return Response::message("a comment belongs to a line of a file: move to one");
        };
        let known = self.comments_at(row, scene).first().map(|comment| comment.text.clone());
        let (place, about) = (line.place.clone(), line.quote.clone());
        let prompt = Prompt::text(format!("Comment on {place} of {run}"), move |text| {
            let text = text.trim().to_owned();
            let change = if text.is_empty() {
                ReviewChange::Remove(line)
            } else {
                ReviewChange::Put(ReviewComment { row, line, text })
            };
            Reaction::Review(run, change).into()
        });
        let prompt = prompt.about(about).about("It waits until you send all comments.");
        Response::prompt(Prompt { text: known.unwrap_or_default(), ..prompt })
    }

    /// Sends all comments as one message, after a question.
    fn send(&self, scene: &Scene<'_>) -> Response {
        let run = self.diff.run;
        let comments = scene.reviews.of(run);
        if comments.is_empty() {
            return Response::message("there are no comments to send");
        }
        let Some(known) = scene.snapshot.fleet.runs.get(&run) else {
            return Response::message(format!("{run} is forgotten"));
        };
        let long = Subject::Run(run).long(&scene.snapshot.fleet);
        match run_actions::guide(known, message(comments)) {
            Ok((command, means)) => {
                let count = plural(comments.len(), "comment");
                let yes = Request::Review(run, comments.to_vec(), command);
                Response::confirm(format!("Send {count} to {long}?"), means, yes)
            }
            Err(why) => Response::message(format!("{long}: {why}; the comments stay here")),
        }
    }

    /// The lines on the screen for a line of the diff: its pieces, and the comment below it.
    fn cells(&self, at: usize, columns: usize, scene: &Scene<'_>) -> Vec<Line<'static>> {
        let theme = scene.theme;
        let line = &self.diff.lines[at];
        let tone = if at == self.cursor { Tone::Selection } else { diff_role(line, Tone::Text) };
        let sign = if at == self.cursor { ">" } else { " " };
        let parts = wrap_marked(line, columns.saturating_sub(1), theme.marks.wrap);
        let mut cells: Vec<Line<'static>> = parts
            .into_iter()
            .map(|part| {
                let part = if at == self.cursor {
                    format!("{part:<width$}", width = columns.saturating_sub(1))
                } else {
                    part
                };
                Line::from(vec![piece(sign, theme, Tone::Accent), piece(part, theme, tone)])
            })
            .collect();
        for comment in self.comments_at(at, scene) {
            let gone = if at == 0 {
                format!("{} is no longer in the diff: {}", comment.line.place, comment.line.quote)
            } else {
                String::new()
            };
            for line in gone.lines().chain(comment.text.lines()) {
                let text =
                    fit(&format!("   {} {line}", theme.marks.human), columns, theme.marks.cut);
                cells.push(Line::from(piece(text, theme, Tone::Warn)));
            }
        }
        cells
    }

    /// Fills the screen from `first` on; true where the line of the cursor is wholly on it.
    fn fill(&mut self, columns: usize, scene: &Scene<'_>) -> bool {
        let mut shown = Vec::new();
        let mut has_cursor = false;
        for at in self.first..self.diff.lines.len() {
            let cells = self.cells(at, columns, scene);
            let fits = shown.len() + cells.len() <= self.height;
            has_cursor |= at == self.cursor && (fits || shown.is_empty());
            shown.extend(cells);
            if shown.len() >= self.height {
                break;
            }
        }
        shown.truncate(self.height);
        self.shown = shown;
        has_cursor
    }
}

/// The place of each line of a unified diff: `src/app.sh:7` by the new file, and for a removed line by the
/// old one.
fn places(lines: &[String]) -> Vec<Option<String>> {
    let (mut old_file, mut new_file) = (String::new(), String::new());
    let (mut old, mut new) = (0_usize, 0_usize);
    let mut in_hunk = false;
    let mut places = Vec::with_capacity(lines.len());
    for line in lines {
        if line.starts_with("diff --git ") {
            in_hunk = false;
        } else if let Some((from, to)) = hunk_starts(line) {
            (old, new, in_hunk) = (from, to, true);
        } else if !in_hunk {
            if let Some(path) = line.strip_prefix("--- ") {
                path.strip_prefix("a/").unwrap_or(path).clone_into(&mut old_file);
            } else if let Some(path) = line.strip_prefix("+++ ") {
                path.strip_prefix("b/").unwrap_or(path).clone_into(&mut new_file);
            }
        } else {
            let place = match line.as_bytes().first() {
                Some(b'-') => {
                    old += 1;
                    Some(format!("{old_file}:{} (removed)", old - 1))
                }
                Some(b'\\') => None,
                first => {
                    new += 1;
                    old += usize::from(first != Some(&b'+'));
                    Some(format!("{new_file}:{}", new - 1))
                }
            };
            places.push(place);
            continue;
        }
        places.push(None);
    }
    places
}

/// The first lines of a hunk in the old and the new file, from its head `@@ -1,2 +3,4 @@`.
fn hunk_starts(line: &str) -> Option<(usize, usize)> {
    let (old, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let new = rest.split_once(" @@")?.0;
    let start = |text: &str| text.split(',').next()?.parse().ok();
    Some((start(old)?, start(new)?))
}

impl Component for ReviewView {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let mut actions = vec![BACK, COMMENT];
        if !self.comments_at(self.cursor, scene).is_empty() {
            actions.push(REMOVE);
        }
        if !scene.reviews.of(self.diff.run).is_empty() {
            actions.insert(0, SEND);
        }
        actions.extend([NEXT_HUNK, PAGE_DOWN]);
        actions.extend(offered_on(self.subject(scene).as_ref(), scene.snapshot));
        actions.extend([COPY, HELP]);
        actions
    }

    fn subject(&self, _: &Scene<'_>) -> Option<Subject> {
        Some(Subject::Run(self.diff.run))
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        match action {
            COMMENT => return Some(self.ask(scene)),
            REMOVE => {
                let comments = self.comments_at(self.cursor, scene);
                let Some(comment) = comments.first() else {
                    return Some(Response::message("there is no comment on this line"));
                };
                let change = ReviewChange::Remove(comment.line.clone());
                return Some(Reaction::Review(self.diff.run, change).into());
            }
            SEND => return Some(self.send(scene)),
            NEXT_HUNK | PREVIOUS_HUNK => match self.hunk(action == NEXT_HUNK) {
                Some(at) => self.cursor = at,
                None => return Some(Response::message("there is no further hunk")),
            },
            _ => return None,
        }
        Some(Response::none())
    }

    fn go(&mut self, motion: Motion, _: &Scene<'_>) -> Response {
        let page = self.height.saturating_sub(1).max(1);
        self.cursor = motion.from(self.cursor, self.last(), page);
        Response::none()
    }

    fn copy(&self, _: &Scene<'_>) -> Option<String> {
        Some(self.diff.lines.join("\n"))
    }
}

impl Overlay for ReviewView {
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let inside = Block::bordered().inner(area);
        let columns = usize::from(inside.width);
        self.height = usize::from(inside.height).max(1);
        if self.diff.lines.is_empty() {
            self.shown = empty("the run has no changes", scene.theme);
            return;
        }
        // A cursor far away from the screen is fetched at once, and a near one line by line.
        self.first = self.first.clamp(self.cursor.saturating_sub(self.height), self.cursor);
        while !self.fill(columns, scene) && self.first < self.cursor {
            self.first += 1;
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let run = self.diff.run;
        let waiting = match scene.reviews.of(run).len() {
            0 => String::new(),
            count => format!(" · {} not sent", plural(count, "comment")),
        };
        let place = self.places.get(self.cursor).cloned().flatten();
        let place = place.map_or_else(String::new, |place| format!(" · {place}"));
        let room = usize::from(area.width).saturating_sub(4);
        let title = fit(&format!("Diff of {run}{waiting}{place}"), room, scene.theme.marks.cut);
        let inner = framed(frame, area, &title, scene.theme);
        lines::draw(frame, inner, &self.shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_place_of_their_file() {
        let diff = "diff --git a/x b/x\nindex 1..2\n--- a/x\n+++ b/x\n@@ -4,3 +4,3 @@ fn\n a\n-b\n+++c\n d\n\\ No newline\n\
                    diff --git a/new b/new\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+--- not a head";
        let lines: Vec<String> = diff.lines().map(str::to_owned).collect();
        let seen: Vec<String> = places(&lines).into_iter().flatten().collect();
        assert_eq!(seen, ["x:4", "x:5 (removed)", "x:5", "x:6", "new:1"]);
        assert_eq!(places(&lines).len(), lines.len());
    }
}
