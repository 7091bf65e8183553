//! The inbox: every question to a human, readable in full before it can be answered, and below them
//! the steps of the outbox that failed (`outbox_row`).

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph};

use super::inbox_keys::{ACKNOWLEDGE, ANSWER, APPROVE, APPROVE_RUN, CONTEXT, DENY, EDIT};
use super::outbox_row;
use crate::core::model::approval::{Answer, Escalation, EscalationKind};
use crate::core::model::command;
use crate::core::model::digest::Digest;
use crate::core::model::id::{EscalationId, OutboxId};
use crate::core::model::outbox::OutboxEntry;
use crate::core::model::permission::Grant;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::core::query::outbox;
use crate::runtime::Snapshot;
use crate::tui::action::{Action, BACK, HELP, INBOX, LOOK_AGAIN, PAGE_DOWN, PAGE_UP};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::request::Request;
use crate::tui::response::{Dialog, Prompt, Reaction, Response};
use crate::tui::run_actions::{is_frozen, look_again};
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::list::{Cursor, List};
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, column, fit, wrap};

/// Lines that a page key scrolls the detail by.
const PAGE: usize = 8;

/// A row of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InboxRow {
    Question(EscalationId),
    /// A step of the outbox that failed.
    Step(OutboxId),
}

/// The selected row, and the place in its detail.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    cursor: Cursor<InboxRow>,
    scroll: Scroll,
    read: ReadPart,
    /// The rows of the detail in the last frame.
    height: usize,
}

/// The part of a card that was on the screen. Only a card that was there as a whole can be answered, so
/// that a jump to its end is not enough.
#[derive(Debug, Default)]
struct ReadPart {
    /// The card in the version that was shown.
    of: Option<(EscalationId, Digest)>,
    /// The width that its lines were wrapped to.
    width: u16,
    /// The lines from the first one on that were shown without a gap.
    lines: usize,
    whole: bool,
}

impl ReadPart {
    /// Notes a frame that shows `height` of `total` lines.
    fn shown(&mut self, card: &Escalation, area: Rect, first: usize, total: usize) {
        let of = Some((card.id, card.digest));
        if self.of != of || (self.width != area.width && !self.whole) {
            *self = Self { of, width: area.width, ..Self::default() };
        }
        if first <= self.lines {
            self.lines = self.lines.max(first + usize::from(area.height));
        }
        self.whole |= area.height > 0 && self.lines >= total;
    }

    fn is_whole(&self, card: &Escalation) -> bool {
        self.whole && self.of == Some((card.id, card.digest))
    }
}

/// The open escalations, most severe and newest first, then the steps that failed.
fn rows(snapshot: &Snapshot) -> Vec<InboxRow> {
    let questions = snapshot.fleet.inbox().into_iter().map(|e| InboxRow::Question(e.id));
    questions.chain(outbox::troubled(&snapshot.fleet).map(|e| InboxRow::Step(e.id))).collect()
}

/// The answers that an escalation takes, each with its effect.
fn answers(escalation: &Escalation) -> impl Iterator<Item = (Action, &'static str)> {
    let kind = escalation.kind;
    [
        (APPROVE, kind.approve_means()),
        (APPROVE_RUN, escalation.grant().as_ref().map(Grant::means)),
        (EDIT, escalation.editable().map(|_| "edit the command, then allow it")),
        (DENY, kind.deny_means()),
        (ANSWER, kind.text_means()),
    ]
    .into_iter()
    .filter_map(|(action, means)| Some((action, means?)))
}

/// The answers need the card: they open the inbox.
pub(super) fn act_from_outside(action: Action) -> Response {
    if action == ACKNOWLEDGE {
        return Response::message("open the inbox to acknowledge");
    }
    Response::open(Dialog::Inbox)
}

impl Inbox {
    fn selected<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Escalation> {
        let rows = rows(snapshot);
        let InboxRow::Question(id) = self.cursor.row(&rows)? else { return None };
        snapshot.fleet.escalations.get(id).map(AsRef::as_ref)
    }

    /// The selected step of the outbox, if no question is selected.
    fn step<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a OutboxEntry> {
        let rows = rows(snapshot);
        let InboxRow::Step(id) = self.cursor.row(&rows)? else { return None };
        snapshot.fleet.outbox.get(id)
    }

    /// Answers the selected escalation, exactly as it was read.
    fn answer(&self, action: Action, scene: &Scene<'_>) -> Response {
        if let Some(step) = self.step(scene.snapshot) {
            return outbox_row::act(action, step);
        }
        let Some(escalation) = self.selected(scene.snapshot) else { return Response::none() };
        let (id, digest, kind) = (escalation.id, escalation.digest, escalation.kind);
        if !self.read.is_whole(escalation) {
            let key = |action| scene.keymap.key_of(CONTEXT, action);
            return Response::message(if self.scroll.first() > self.read.lines {
                format!("read the lines that you skipped first: {}", key(PAGE_UP))
            } else {
                format!("read it to its end first: {}", key(PAGE_DOWN))
            });
        }
        let Some((_, means)) = answers(escalation).find(|(known, _)| *known == action) else {
            return Response::message(format!("a {} escalation has no such answer", kind.as_str()));
        };
        let request = move |answer| {
            Request::Command(command::Command::Answer { escalation: id, digest, answer })
        };
        let reply = move |answer| Response::request(request(answer));
        let effect = format!("This will {means}.");
        match action {
            APPROVE if kind == EscalationKind::Permission => reply(Answer::Approve),
            APPROVE => {
                Response::confirm(format!("Approve {id}?"), effect, request(Answer::Approve))
            }
            APPROVE_RUN => {
                let question = format!("Approve {id} for the run?");
                Response::confirm(question, effect, request(Answer::ApproveRun))
            }
            EDIT => {
                let title = format!("Edit {id}: the command that the agent runs");
                let text = escalation.editable().map(Untrusted::clean).unwrap_or_default();
                let edit = move |text: String| reply(Answer::Edit { command: text.into() });
                Response::prompt(Prompt { text, ..Prompt::text(title, edit) })
            }
            DENY => {
                let deny = move |text: String| reply(Answer::Deny { reason: text.into() });
                Response::prompt(Prompt::text(format!("Deny {id}: why"), deny))
            }
            _ => {
                let answer = move |text: String| reply(Answer::Text { text: text.into() });
                Response::prompt(Prompt::text(format!("Answer {id}: {means}"), answer))
            }
        }
    }
}

impl Component for Inbox {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let selected = self.selected(scene.snapshot);
        let taken = selected.into_iter().flat_map(answers);
        let of_step = self.step(scene.snapshot).into_iter().flat_map(outbox_row::actions);
        let offered = |action: &Action| [APPROVE, DENY, ANSWER].contains(action);
        let offered = taken.chain(of_step).map(|(action, _)| action).filter(offered);
        let frozen =
            selected.and_then(|known| known.run).filter(|run| is_frozen(*run, scene.snapshot));
        offered.chain(frozen.map(|_| LOOK_AGAIN)).chain([PAGE_DOWN, BACK, HELP]).collect()
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        match action {
            APPROVE | APPROVE_RUN | EDIT | DENY | ANSWER => Some(self.answer(action, scene)),
            ACKNOWLEDGE => {
                Some(self.selected(scene.snapshot).map_or_else(Response::none, |known| {
                    let escalation = known.id;
                    Response::request(Request::Command(command::Command::Acknowledge {
                        escalation,
                    }))
                }))
            }
            LOOK_AGAIN => {
                let run = self.selected(scene.snapshot).and_then(|known| known.run);
                Some(run.map_or_else(Response::none, look_again))
            }
            // The key that opened it.
            INBOX => Some(Reaction::Close.into()),
            _ => None,
        }
    }

    /// Rows are stepped through; page keys scroll the detail.
    fn go(&mut self, motion: Motion, scene: &Scene<'_>) -> Response {
        if matches!(motion, Motion::Next | Motion::Previous) {
            self.cursor.go(motion, &rows(scene.snapshot), 1);
            self.scroll = Scroll::default();
        } else {
            // A page of more lines than are shown would skip some.
            self.scroll.go(motion, PAGE.min(self.height).max(1));
        }
        Response::none()
    }

    fn copy(&self, scene: &Scene<'_>) -> Option<String> {
        self.selected(scene.snapshot).map(|escalation| escalation.detail.clean())
    }
}

impl Overlay for Inbox {
    /// Notes which part of the detail is on the screen, which depends on the size.
    fn prepare(&mut self, area: Rect, scene: &Scene<'_>) {
        let room = Areas::of(area, rows(scene.snapshot).len()).detail;
        if let Some(step) = self.step(scene.snapshot) {
            let lines = outbox_row::detail(step, scene, usize::from(room.width)).len();
            self.height = usize::from(room.height);
            self.scroll.fit(lines, self.height);
            return;
        }
        let Some(escalation) = self.selected(scene.snapshot) else { return };
        let lines = detail(escalation, scene, usize::from(room.width)).len();
        self.height = usize::from(room.height);
        self.scroll.fit(lines, self.height);
        self.read.shown(escalation, room, self.scroll.first(), lines);
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let rows = rows(scene.snapshot);
        let areas = Areas::of(area, rows.len());
        let open = rows.iter().filter(|row| matches!(row, InboxRow::Question(_))).count();
        framed(frame, areas.whole, &format!("Inbox · {open} open"), theme);
        let list = List {
            theme,
            focused: true,
            height: usize::from(areas.list.height),
            empty: "no open questions",
        };
        let width = usize::from(areas.list.width);
        let lines = list.lines(&rows, self.cursor.place(&rows), |row| match row {
            InboxRow::Question(id) => spans(*id, width, scene),
            InboxRow::Step(id) => outbox_row::spans(*id, width, scene),
        });
        frame.render_widget(Paragraph::new(lines), areas.list);
        let width = usize::from(areas.detail.width);
        let lines = match (self.selected(scene.snapshot), self.step(scene.snapshot)) {
            (Some(escalation), _) => detail(escalation, scene, width),
            (None, Some(step)) => outbox_row::detail(step, scene, width),
            (None, None) => return,
        };
        let rule = Rect {
            y: areas.list.bottom(),
            height: 1.min(areas.detail.y.saturating_sub(areas.list.bottom())),
            ..areas.list
        };
        let line = theme.marks.link.repeat(usize::from(rule.width));
        frame.render_widget(Paragraph::new(Line::styled(line, theme.style(Tone::Border))), rule);
        self.scroll.draw(frame, areas.detail, &lines, theme);
    }
}

/// The inbox on the body of a screen.
struct Areas {
    whole: Rect,
    list: Rect,
    detail: Rect,
}

impl Areas {
    fn of(area: Rect, rows: usize) -> Self {
        let width = if area.width >= 120 { area.width * 3 / 5 } else { area.width };
        let whole = Rect { x: area.right() - width, width, ..area };
        let inner = Block::bordered().inner(whole);
        let list = u16::try_from(rows).unwrap_or(u16::MAX).clamp(1, (inner.height / 4).max(1));
        let list = Rect { height: list.min(inner.height), ..inner };
        let rest = inner.height.saturating_sub(list.height + 1);
        let detail = Rect { y: list.bottom() + 1, height: rest, ..inner };
        Self { whole, list, detail }
    }
}

fn spans(id: EscalationId, width: usize, scene: &Scene<'_>) -> Vec<Span<'static>> {
    let theme = scene.theme;
    let cut = theme.marks.cut;
    let Some(escalation) = scene.snapshot.fleet.escalations.get(&id) else { return Vec::new() };
    let issue = escalation.issue.as_ref();
    let subject = issue.map_or_else(|| escalation.subject(), ToString::to_string);
    let room = width.saturating_sub(1 + 12 + 17 + 5);
    vec![
        piece(format!("{:<12}", escalation.kind.as_str()), theme, Tone::Warn),
        piece(format!("{} ", column(&subject, 16, cut)), theme, Tone::Text),
        piece(format!("{:>3}  ", age(scene.now, escalation.raised)), theme, Tone::Dim),
        piece(fit(&escalation.title.clean_line(), room, cut), theme, Tone::Text),
    ]
}

/// The detail as lines: all that an answer is bound to, and the effect of each answer.
fn detail(escalation: &Escalation, scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let mut lines = Vec::new();
    let mut add = |text: &str, role| {
        for part in text.lines().flat_map(|line| wrap(line, width)) {
            lines.push(Line::from(piece(part, theme, role)));
        }
    };
    let issue = escalation.issue.as_ref().map_or_else(String::new, |key| format!(" · {key}"));
    let (id, kind) = (escalation.id, escalation.kind.as_str());
    add(&format!("{id} · {kind} · {}{issue}", escalation.subject()), Tone::Title);
    let text = escalation.detail.revealed();
    for line in text.lines() {
        let line = if line.is_empty() { " " } else { line };
        add(line, diff_role(line, Tone::Text));
    }
    if let Some(asked) = &escalation.permission {
        let targets: Vec<String> = asked.targets.iter().map(Untrusted::revealed).collect();
        // An adapter's detail is mostly the one target.
        if targets.iter().any(|target| *target != text) {
            let count = plural(targets.len(), "target");
            add(&format!("{} · {count}:", asked.tool.as_str()), Tone::Dim);
            for target in &targets {
                add(&format!("  {}", target.replace('\n', "\n  ")), Tone::Text);
            }
        }
        if !asked.is_whole() {
            add("a part of it is missing, so it can only be denied", Tone::Warn);
        }
    }
    for (at, option) in escalation.options.iter().enumerate() {
        add(&format!("  {}. {}", at + 1, option.clean_line()), Tone::Text);
    }
    add(" ", Tone::Text);
    let key = |action| scene.keymap.key_of(CONTEXT, action);
    for (action, means) in answers(escalation) {
        add(&format!("{:<8} {means}", key(action)), Tone::Accent);
    }
    if escalation.run.is_some_and(|run| is_frozen(run, scene.snapshot)) {
        let means = "look again: read CI and deploy once more; no turn, push or attempt";
        add(&format!("{:<8} {means}", key(LOOK_AGAIN)), Tone::Accent);
    }
    if escalation.acknowledged.is_none() {
        let means = "acknowledge: no more reminders; it stays open";
        add(&format!("{:<8} {means}", key(ACKNOWLEDGE)), Tone::Accent);
    }
    let run = escalation.run.and_then(|run| scene.snapshot.fleet.runs.get(&run));
    if let Some(capsule) = run.and_then(|run| run.progress.capsule.as_ref()) {
        let (capsule, subject) = (clean_line(capsule), escalation.subject());
        add(&format!("evidence: {capsule} (afk capsule {subject})"), Tone::Dim);
    }
    match (&escalation.acknowledged, escalation.reminded) {
        (Some((by, at)), _) => {
            add(&format!("acknowledged by {by} {} ago", age(scene.now, *at)), Tone::Dim);
        }
        (None, 0) => {}
        (None, times) => {
            let times = usize::try_from(times).unwrap_or(usize::MAX);
            add(&format!("{} sent", plural(times, "reminder")), Tone::Dim);
        }
    }
    add(
        &format!("the answer applies only to what is shown ({})", escalation.digest.short()),
        Tone::Dim,
    );
    lines
}
