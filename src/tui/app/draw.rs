//! From a snapshot and the cockpit's state to a frame.

use ratatui::Frame;
use ratatui::layout::{Margin, Rect};
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Block, Borders};

use super::{App, Standing};
use crate::core::model::command::Role;
use crate::journal::transcript::Store;
use crate::runtime::Snapshot;
use crate::tui::bars::footer::Footer;
use crate::tui::bars::{header, tabs};
use crate::tui::ground;
use crate::tui::layout::LEAST;
use crate::tui::pane_id::PaneId;
use crate::tui::past_keys;
use crate::tui::plain_cells;
use crate::tui::theme::Tone;
use crate::tui::widgets::lines;
use crate::tui::widgets::text::fit;

impl App {
    /// Fits the state of all components to the size, and reads the records that the next frame shows.
    pub fn prepare(&mut self, snapshot: &Snapshot, store: &Store) {
        let bounded = self.past_store(store);
        let store = bounded.as_ref().unwrap_or(store);
        let unneeded = self.panes.iter().filter(|pane| !pane.is_needed(snapshot));
        self.unneeded = unneeded.map(|pane| pane.id()).collect();
        let places = self.places(snapshot.problems.len());
        let front = self.front(snapshot);
        for at in 0..self.panes.len() {
            let Some(inside) = places.inside(self.ids[at]) else { continue };
            let scene = self.desk.scene(snapshot, Standing { focused: at == self.focus, ..front });
            let response = self.panes[at].prepare(inside, store, &scene);
            let _ = self.apply(response, snapshot);
        }
        self.follow(snapshot);
        let scene = self.desk.scene(snapshot, front);
        if let Some((top, covered)) = self.overlays.split_last_mut() {
            top.read(places.body, store, &scene);
            for overlay in covered {
                overlay.prepare_covered(places.body, &scene);
            }
            top.prepare(places.body, &scene);
        }
    }

    /// Draws everything: a function of the snapshot and of the state as it was prepared.
    pub fn draw(&self, frame: &mut Frame<'_>, snapshot: &Snapshot) {
        let area = frame.area();
        if area.width < LEAST.0 || area.height < LEAST.1 {
            let (width, height) = (area.width, area.height);
            let text = format!("afk needs {}x{}, this is {width}x{height}", LEAST.0, LEAST.1);
            lines::draw(frame, area, [Line::from(text)]);
            return;
        }
        let places = self.places(snapshot.problems.len());
        let theme = &self.desk.theme;
        let header = header::Header {
            snapshot,
            theme,
            keymap: &self.desk.keymap,
            role: self.desk.role,
            now: self.desk.now,
            host: &self.host,
            lost: self.lost,
            slow: self.slow,
        };
        match self.past_bar() {
            Some(bar) => bar.draw(frame, places.header),
            None => header::draw(frame, places.header, &header),
        }
        header::draw_problems(frame, places.problems, &snapshot.problems, theme);
        if let Some(area) = places.tabs {
            tabs::draw(frame, area, &self.ids, self.ids[self.focus], theme);
        }
        let front = self.front(snapshot);
        for (pane, area) in &places.panes {
            self.draw_pane(frame, *area, *pane, front, snapshot);
        }
        let scene = self.desk.scene(snapshot, front);
        for overlay in &self.overlays {
            ground::shade(frame.buffer_mut(), places.body, theme);
            overlay.draw(frame, places.body, &scene);
        }
        let mut actions = match self.overlays.last() {
            Some(top) => top.actions(&scene),
            None => self.panes[self.focus].actions(&scene),
        };
        let mut context = self.context();
        if self.past.is_some() {
            actions.retain(|action| past_keys::is_allowed(*action));
            if self.overlays.is_empty() {
                (context, actions) = (past_keys::CONTEXT, past_keys::ACTIONS.to_vec());
            }
        }
        if self.desk.role == Role::Viewer {
            actions.retain(|action| !action.changes());
        }
        let subject = self.subject(snapshot).map(|subject| subject.name(&snapshot.fleet));
        let shown = self.overlays.last().and_then(|overlay| overlay.escalation(snapshot));
        let held = self.desk.held.undoable(shown);
        let undo = held.map(|(id, summary)| format!("Undo: {id} {summary}"));
        let footer = Footer {
            theme,
            keymap: &self.desk.keymap,
            context,
            pending: &self.pending,
            actions: &actions,
            subject: subject.as_deref(),
            undo: undo.as_deref(),
        };
        footer.draw(frame, places.footer);
        self.tour.draw(frame, places.tour, &self.desk.keymap, theme);
        if let Some(notice) = &self.message {
            notice.draw(frame, places.body, theme);
        }
        ground::paint(frame.buffer_mut(), theme);
        plain_cells::settle(frame.buffer_mut(), self.desk.theme.is_ascii());
    }

    fn draw_pane(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        pane: PaneId,
        front: Standing,
        snapshot: &Snapshot,
    ) {
        let Some(at) = self.ids.iter().position(|id| *id == pane) else { return };
        let focused = at == self.focus;
        let scene = self.desk.scene(snapshot, Standing { focused, ..front });
        let theme = &self.desk.theme;
        let room = usize::from(area.width).saturating_sub(4);
        let title = format!(" {} {} ", at + 1, self.panes[at].title(&scene));
        let (border, name) =
            if focused { (Tone::BorderFocus, Tone::Title) } else { (Tone::Border, Tone::Dim) };
        let name = Line::styled(fit(&title, room, theme.marks.cut), theme.style(name));
        draw_frame(frame, area, theme.style(border), name);
        let inner = area.inner(Margin::new(1, 1));
        self.panes[at].draw(frame, inner, &scene);
    }
}

/// Draws the borders of a pane, edge by edge: a block that has an inside styles each of its cells.
fn draw_frame(frame: &mut Frame<'_>, area: Rect, style: Style, title: Line<'_>) {
    let sides = Borders::LEFT | Borders::RIGHT;
    let row = |y| Rect { y, height: area.height.min(1), ..area };
    let column = |x| Rect { x, width: area.width.min(1), ..area };
    let last = (area.right().saturating_sub(1), area.bottom().saturating_sub(1));
    let edges = [
        (Borders::LEFT, column(area.x)),
        (Borders::RIGHT, column(last.0)),
        (Borders::BOTTOM | sides, row(last.1)),
    ];
    for (borders, edge) in edges {
        frame.render_widget(Block::new().borders(borders).border_style(style), edge);
    }
    let top = Block::new().borders(Borders::TOP | sides).border_style(style).title(title);
    frame.render_widget(top, row(area.y));
}
