//! The grid: the tails of up to 16 live transcripts. The subject has the bright frame.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders};

use crate::core::fleet::Fleet;
use crate::core::model::id::RunId;
use crate::journal::transcript::Store;
use crate::tui::action::{Action, BACK, GRID, HELP, NEXT, OPEN};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::motion::Motion;
use crate::tui::panes::transcript::window::Window;
use crate::tui::response::{Reaction, Response};
use crate::tui::run_actions::offered_on;
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::lines;
use crate::tui::widgets::marks::run_mark;
use crate::tui::widgets::span::empty;
use crate::tui::widgets::text::fit;

/// The runs that are shown.
const MOST: usize = 16;
/// The fewest columns and rows of a tile with its frame.
const LEAST: (u16, u16) = (38, 5);

/// A run with the end of its transcript.
struct Tile {
    run: RunId,
    window: Window,
    area: Rect,
    /// Why its transcript can't be read.
    error: Option<String>,
}

/// The tiles, and the run that keys act on.
#[derive(Default)]
pub(super) struct Grid {
    tiles: Vec<Tile>,
    selected: Option<RunId>,
    columns: usize,
    /// Runs that have no room.
    hidden: usize,
}

/// The runs to show: those that wait for a human or work, oldest first.
fn runs(fleet: &Fleet) -> Vec<RunId> {
    let shown = fleet.live_runs().filter(|run| run.has_permit() || fleet.waits_for_human(run));
    shown.map(|run| run.id).take(MOST).collect()
}

/// The places of tiles in an area, and the tiles of a row.
fn places(area: Rect, count: usize) -> (Vec<Rect>, usize) {
    let count = u16::try_from(count.clamp(1, MOST)).unwrap_or(1);
    let most = (area.width / LEAST.0).clamp(1, 4);
    // As square as a grid of this many tiles can be.
    let columns = (1..=most).find(|columns| columns * columns >= count).unwrap_or(most);
    let rows = count.div_ceil(columns).min((area.height / LEAST.1).max(1));
    let mut places = Vec::new();
    for row in 0..rows {
        for at in 0..columns {
            if places.len() < usize::from(count) {
                let edge = |whole: u16, at: u16, of: u16| whole * at / of;
                let (x, y) = (edge(area.width, at, columns), edge(area.height, row, rows));
                places.push(Rect {
                    x: area.x + x,
                    y: area.y + y,
                    width: edge(area.width, at + 1, columns) - x,
                    height: edge(area.height, row + 1, rows) - y,
                });
            }
        }
    }
    (places, usize::from(columns))
}

impl Grid {
    fn at(&self) -> usize {
        let at = self.tiles.iter().position(|tile| Some(tile.run) == self.selected);
        at.unwrap_or(0)
    }
}

impl Component for Grid {
    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let subject = self.subject(scene);
        let mut actions = vec![BACK];
        if subject.is_some() {
            actions.extend([OPEN, NEXT]);
        }
        actions.extend(offered_on(subject.as_ref(), scene.snapshot));
        actions.push(HELP);
        actions
    }

    fn subject(&self, scene: &Scene<'_>) -> Option<Subject> {
        let run = self.selected.filter(|run| scene.snapshot.fleet.runs.contains_key(run));
        run.map(Subject::Run)
    }

    fn act(&mut self, action: Action, _: &Scene<'_>) -> Option<Response> {
        let run = self.selected.filter(|_| action == OPEN)?;
        Some(Response::from(Reaction::Close).then(Reaction::OpenTranscript(run)))
    }

    /// Moves through the runs; a page is a row of tiles. A run that ended keeps its place until then.
    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        let runs = runs(&scene.snapshot.fleet);
        let last = runs.len().saturating_sub(1);
        let at = self.selected.and_then(|run| runs.iter().position(|known| *known == run));
        let to = at.map_or(0, |at| motion.from(at, last, self.columns.max(1)));
        self.selected = runs.get(to).copied();
        Response::none()
    }
}

impl Overlay for Grid {
    fn opener(&self) -> Option<Action> {
        Some(GRID)
    }

    fn read(&mut self, area: Rect, store: &Store, scene: &Scene<'_>) {
        let inside = Block::bordered().inner(area);
        let mut runs = runs(&scene.snapshot.fleet);
        if self.selected.is_none() {
            self.selected = runs.first().copied();
        }
        // The subject stays on the screen when its run ends: keys act on it.
        let kept = self
            .selected
            .filter(|run| !runs.contains(run) && scene.snapshot.fleet.runs.contains_key(run));
        runs.extend(kept);
        let (places, columns) = places(inside, runs.len());
        self.columns = columns;
        // The page with the subject.
        let at = runs.iter().position(|run| Some(*run) == self.selected).unwrap_or(0);
        let first = at / places.len().max(1) * places.len().max(1);
        let page: Vec<RunId> = runs.iter().skip(first).take(places.len()).copied().collect();
        self.hidden = runs.len() - page.len();
        let mut known = std::mem::take(&mut self.tiles);
        for (run, area) in page.into_iter().zip(places) {
            let old = known.iter().position(|tile| tile.run == run);
            let window = old.map(|at| known.swap_remove(at).window).unwrap_or_default();
            let mut tile = Tile { run, window, area, error: None };
            let inner = Block::bordered().inner(area);
            let (width, height) = (usize::from(inner.width), usize::from(inner.height));
            let read = tile.window.prepare(store, Some(run), width, height, scene.theme);
            tile.error = read.err().map(|error| format!("can't read its transcript: {error}"));
            self.tiles.push(tile);
        }
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let (theme, fleet) = (scene.theme, &scene.snapshot.fleet);
        let more = match self.hidden {
            0 => String::new(),
            hidden => format!(" · {hidden} more"),
        };
        let inner = framed(frame, area, &format!("Grid{more}"), theme);
        if self.tiles.is_empty() {
            let lines = empty("no run is at work: their transcripts appear here", theme);
            lines::draw(frame, inner, lines);
            return;
        }
        let selected = self.at();
        for (at, tile) in self.tiles.iter().enumerate() {
            let Some(run) = fleet.runs.get(&tile.run) else { continue };
            let (mark, tone) = run_mark(run, fleet.waits_for_human(run), &theme.marks);
            let name = Subject::Run(run.id).name(fleet);
            let doing = match run.progress.outcome {
                Some(outcome) => outcome.as_str().to_owned(),
                None if fleet.waits_for_human(run) => "waits for you".to_owned(),
                None => scene.snapshot.standing(run, scene.now),
            };
            let room = usize::from(tile.area.width).saturating_sub(7);
            // The frame of the subject has a sign too, for screens without colours.
            let (border, sign) =
                if at == selected { (Tone::BorderFocus, ">") } else { (Tone::Border, " ") };
            let title = fit(&format!("{name} {} · {doing}", run.id), room, theme.marks.cut);
            let block = Block::new().borders(Borders::ALL).border_style(theme.style(border)).title(
                Line::from(vec![
                    ratatui::text::Span::styled(format!("{sign}{mark} "), theme.style(tone)),
                    ratatui::text::Span::styled(format!("{title} "), theme.style(Tone::Title)),
                ]),
            );
            let inside = block.inner(tile.area);
            frame.render_widget(block, tile.area);
            let lines = match (&tile.error, tile.window.lines()) {
                (Some(error), _) => empty(error, theme),
                (None, []) => empty("nothing written yet", theme),
                (None, lines) => lines.to_vec(),
            };
            lines::draw(frame, inside, lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_fill_the_area_without_overlapping() {
        for (width, height) in [(38, 8), (78, 20), (198, 46), (398, 116)] {
            for count in 1..=MOST {
                let area = Rect { x: 1, y: 2, width, height };
                let (places, columns) = places(area, count);
                assert!(!places.is_empty() && columns <= 4, "{width}x{height} {count}");
                let cells: u32 = places.iter().map(|place| place.area()).sum();
                for (at, place) in places.iter().enumerate() {
                    assert!(place.width >= LEAST.0 && place.height >= LEAST.1.min(height));
                    assert_eq!(place.intersection(area), *place);
                    assert!(places.iter().skip(at + 1).all(|other| !other.intersects(*place)));
                }
                let is_full = places.len().is_multiple_of(columns);
                assert!(!is_full || cells == area.area(), "{width}x{height} {count}");
            }
        }
    }
}
