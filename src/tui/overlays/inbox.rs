//! The inbox: every question to a human, readable in full before it can be answered, and below them
//! the steps of the outbox that failed (`outbox_row`).

use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Block;

use super::card_guard::{CardGuard, NotYet};
use super::inbox_keys::{ACKNOWLEDGE, ANSWER, APPROVE, APPROVE_RUN, CONTEXT, DENY, EDIT};
use super::inbox_order::{InboxRow, PinnedOrder};
use super::outbox_row;
use crate::core::model::approval::{Answer, Escalation, EscalationKind};
use crate::core::model::command;
use crate::core::model::digest::Digest;
use crate::core::model::id::EscalationId;
use crate::core::model::outbox::OutboxEntry;
use crate::core::model::permission::Grant;
use crate::core::model::plural::plural;
use crate::core::model::untrusted::{Untrusted, clean_line};
use crate::runtime::Snapshot;
use crate::tui::action::{
    Action, BACK, CANCEL, DIFF, HELP, INBOX, LOOK_AGAIN, PAGE_DOWN, PAGE_UP, STEER, UNDO,
};
use crate::tui::component::{Component, Overlay, Scene};
use crate::tui::keymap::KeyContext;
use crate::tui::motion::Motion;
use crate::tui::request::Request;
use crate::tui::response::{Dialog, Prompt, Reaction, Response};
use crate::tui::run_actions::{is_frozen, look_again, offered_on};
use crate::tui::subject::Subject;
use crate::tui::theme::Tone;
use crate::tui::widgets::boxes::framed;
use crate::tui::widgets::lines;
use crate::tui::widgets::list::{Cursor, List};
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::scroll::Scroll;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, column, fit, width as columns, wrap_marked};

/// Lines that a page key scrolls the detail by.
const PAGE: usize = 8;

/// The selected row, and the place in its detail.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    order: PinnedOrder,
    cursor: Cursor<InboxRow>,
    scroll: Scroll,
    guard: CardGuard,
    /// The rows that the cursor left by itself, because their answers were given.
    passed: Vec<InboxRow>,
    /// The rows of the detail in the last frame.
    height: usize,
    /// The last frame showed that answer keys don't count yet.
    waits: bool,
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
        return Response::refusal("open the inbox to acknowledge");
    }
    Response::open(Dialog::Inbox)
}

impl Inbox {
    fn selected<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a Escalation> {
        let InboxRow::Question(id) = self.cursor.row(self.order.rows())? else { return None };
        snapshot.fleet.escalations.get(id).map(AsRef::as_ref).filter(|known| known.open())
    }

    /// The selected step of the outbox, if no question is selected.
    fn step<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a OutboxEntry> {
        let InboxRow::Step(id) = self.cursor.row(self.order.rows())? else { return None };
        snapshot.fleet.outbox.get(id)
    }

    /// The selected card in the version that an answer is bound to.
    fn card(&self, snapshot: &Snapshot) -> Option<(InboxRow, Digest)> {
        let row = *self.cursor.row(self.order.rows())?;
        let digest = self.selected(snapshot).map_or(Digest::ZERO, |known| known.digest);
        Some((row, digest))
    }

    /// Why the selected card can't be answered now, for the operator.
    fn refusal(&self, scene: &Scene<'_>) -> Option<String> {
        let key = |action| scene.keymap.key_of(CONTEXT, action);
        if let Some(escalation) = self.selected(scene.snapshot)
            && let Some(summary) = scene.held.answer_to(escalation.id)
        {
            let (id, undo) = (escalation.id, key(UNDO));
            return Some(format!("{id} is {summary} already; {undo} takes that back"));
        }
        let card = self.card(scene.snapshot)?;
        Some(match self.guard.refusal(card, self.scroll.first(), scene.instant)? {
            NotYet::JustChanged => "this card has just come up: read it, then answer".into(),
            NotYet::Skipped => {
                format!("read the lines that you skipped first: {}", key(PAGE_UP))
            }
            NotYet::NotRead => format!("read it to its end first: {}", key(PAGE_DOWN)),
        })
    }

    /// Answers the selected escalation, exactly as it was read.
    fn answer(&self, action: Action, scene: &Scene<'_>) -> Response {
        if let Some(step) = self.step(scene.snapshot) {
            return match self.refusal(scene) {
                Some(why) => Response::refusal(why),
                None => outbox_row::act(action, step),
            };
        }
        let Some(escalation) = self.selected(scene.snapshot) else {
            return Response::refusal("no open question is selected");
        };
        let (id, digest, kind) = (escalation.id, escalation.digest, escalation.kind);
        if let Some(why) = self.refusal(scene) {
            return Response::refusal(why);
        }
        let Some((_, means)) = answers(escalation).find(|(known, _)| *known == action) else {
            return Response::refusal(format!("a {} escalation has no such answer", kind.as_str()));
        };
        // "e3 (pulse#9)": the question and its subject.
        let fleet = &scene.snapshot.fleet;
        let about = match Inbox::subject_of(escalation).map(|subject| subject.name(fleet)) {
            Some(name) if !name.is_empty() => format!("{id} ({name})"),
            _ => id.to_string(),
        };
        let request = move |answer| {
            Request::Command(command::Command::Answer { escalation: id, digest, answer })
        };
        let reply = move |answer| Response::request(request(answer));
        let effect = format!("This will {means}.");
        match action {
            APPROVE if kind == EscalationKind::Permission => reply(Answer::Approve),
            APPROVE => {
                Response::confirm(format!("Approve {about}?"), effect, request(Answer::Approve))
            }
            APPROVE_RUN => {
                let whole = if escalation.run.is_some() { "run" } else { "session" };
                let question = format!("Approve {about} for the {whole}?");
                Response::confirm(question, effect, request(Answer::ApproveRun))
            }
            EDIT => {
                let title = format!("Edit {about}: the command that the agent runs");
                let text = escalation.editable().map(Untrusted::clean).unwrap_or_default();
                let edit = move |text: String| reply(Answer::Edit { command: text.into() });
                Response::prompt(Prompt { text, ..Prompt::text(title, edit) })
            }
            DENY => {
                let deny = move |text: String| reply(Answer::Deny { reason: text.into() });
                Response::prompt(Prompt::text(format!("Deny {about}: why"), deny))
            }
            _ => {
                let answer = move |text: String| reply(Answer::Text { text: text.into() });
                Response::prompt(Prompt::text(format!("Answer {about}: {means}"), answer))
            }
        }
    }
}

impl Inbox {
    fn subject_of(escalation: &Escalation) -> Option<Subject> {
        let run = escalation.run.map(Subject::Run);
        run.or_else(|| escalation.issue.clone().map(Subject::Issue))
    }

    /// Moves on from a row whose answer was given, once, to the next one that has none. Moves off a row
    /// that is gone: `guard` then ignores answer keys for a moment.
    fn settle(&mut self, scene: &Scene<'_>) {
        let rows = self.order.rows();
        self.cursor.bind(rows);
        let is_held = |row: &InboxRow| matches!(row, InboxRow::Question(id) if scene.held.answer_to(*id).is_some());
        self.passed.retain(is_held);
        match self.cursor.found(rows) {
            None if !rows.is_empty() => {
                let at = self.cursor.place(rows);
                self.cursor.select(at, rows);
                self.scroll = Scroll::default();
            }
            Some(at) if is_held(&rows[at]) && !self.passed.contains(&rows[at]) => {
                self.passed.push(rows[at]);
                let below = (at + 1..rows.len()).chain(0..at);
                if let Some(next) = below.into_iter().find(|next| !is_held(&rows[*next])) {
                    self.cursor.select(next, rows);
                    self.scroll = Scroll::default();
                }
            }
            _ => {}
        }
        if let Some(row) = self.cursor.row(self.order.rows()).copied() {
            self.order.selected(row);
        }
    }
}

impl Component for Inbox {
    fn context(&self) -> KeyContext {
        CONTEXT
    }

    /// The run of the selected card: its keys act on that and on nothing beneath.
    fn subject(&self, scene: &Scene<'_>) -> Option<Subject> {
        if let Some(step) = self.step(scene.snapshot) {
            return step.step.issue().cloned().map(Subject::Issue);
        }
        self.selected(scene.snapshot).and_then(Self::subject_of)
    }

    fn actions(&self, scene: &Scene<'_>) -> Vec<Action> {
        let selected = self.selected(scene.snapshot);
        let taken = selected.into_iter().flat_map(answers);
        let of_step = self.step(scene.snapshot).into_iter().flat_map(outbox_row::actions);
        let offered = |action: &Action| [APPROVE, DENY, ANSWER].contains(action);
        let offered = taken.chain(of_step).map(|(action, _)| action).filter(offered);
        let frozen =
            selected.and_then(|known| known.run).filter(|run| is_frozen(*run, scene.snapshot));
        let on_run = [STEER, CANCEL, DIFF].into_iter().filter(|action| {
            *action == DIFF
                || offered_on(self.subject(scene).as_ref(), scene.snapshot).contains(action)
        });
        let on_run = on_run.filter(|_| selected.is_some_and(|known| known.run.is_some()));
        let frozen = frozen.map(|_| LOOK_AGAIN);
        offered.chain(frozen).chain([PAGE_DOWN, BACK, HELP]).chain(on_run).collect()
    }

    fn act(&mut self, action: Action, scene: &Scene<'_>) -> Option<Response> {
        match action {
            APPROVE | APPROVE_RUN | EDIT | DENY | ANSWER => Some(self.answer(action, scene)),
            ACKNOWLEDGE if self.waits => {
                Some(Response::refusal("this card has just come up: read it, then acknowledge"))
            }
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
    fn go(&mut self, motion: Motion, _: &Scene<'_>) -> Response {
        if matches!(motion, Motion::Next | Motion::Previous) {
            let before = self.cursor.row(self.order.rows()).copied();
            let now = self.cursor.go(motion, self.order.rows(), 1).copied();
            if now != before {
                self.scroll = Scroll::default();
            }
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
        self.order.update(scene.snapshot);
        self.settle(scene);
        let room = Areas::of(area, self.order.rows().len()).detail;
        let width = usize::from(room.width);
        let lines = match (self.selected(scene.snapshot), self.step(scene.snapshot)) {
            (Some(escalation), _) => detail(escalation, scene, width).len(),
            (None, Some(step)) => outbox_row::detail(step, scene, width).len(),
            (None, None) => return,
        };
        self.height = usize::from(room.height);
        self.scroll.fit(lines, self.height);
        if let Some(card) = self.card(scene.snapshot) {
            self.guard.shown(card, room, self.scroll.first(), lines, scene.instant);
        }
        self.waits = self.guard.opens().is_some_and(|opens| scene.instant < opens);
    }

    fn escalation(&self, snapshot: &Snapshot) -> Option<EscalationId> {
        self.selected(snapshot).map(|known| known.id)
    }

    /// Nobody reads a covered card, and none takes its place: what a palette does, it does to the card that
    /// it was opened on.
    fn prepare_covered(&mut self, _: Rect, _: &Scene<'_>) {}

    /// When the mark goes that answer keys don't count yet.
    fn due(&self, _: Instant) -> Option<Instant> {
        self.guard.opens().filter(|_| self.waits)
    }

    fn tick(&mut self, now: Instant) {
        self.waits &= self.guard.opens().is_some_and(|opens| now < opens);
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect, scene: &Scene<'_>) {
        let theme = scene.theme;
        let rows = self.order.rows();
        let areas = Areas::of(area, rows.len());
        let open = rows.iter().filter(|row| matches!(row, InboxRow::Question(_))).count();
        let newer = match self.order.newer() {
            0 => String::new(),
            count => format!(" · {count} newer {}", theme.marks.down),
        };
        framed(frame, areas.whole, &format!("Inbox · {open} open{newer}"), theme);
        let list = List {
            theme,
            focused: true,
            width: usize::from(areas.list.width),
            height: usize::from(areas.list.height),
            empty: "no open questions",
        };
        let width = usize::from(areas.list.width);
        let lines = list.around(rows, &self.cursor, |row| match row {
            InboxRow::Question(id) => spans(*id, width, scene),
            InboxRow::Step(id) => outbox_row::spans(*id, width, scene),
        });
        lines::draw(frame, areas.list, lines);
        list.extent(rows, &self.cursor).draw(frame, areas.list, theme);
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
        let answer = self.selected(scene.snapshot).and_then(|known| scene.held.answer_to(known.id));
        let (note, tone) = match answer {
            Some(summary) => {
                let undo = scene.keymap.key_of(CONTEXT, UNDO);
                (format!(" {summary}: sent in a moment, {undo} takes it back "), Tone::Accent)
            }
            None if self.waits => (" new card: answer keys wait a moment ".to_owned(), Tone::Warn),
            None => (String::new(), Tone::Border),
        };
        let note = fit(&note, usize::from(rule.width), theme.marks.cut);
        let rest = usize::from(rule.width).saturating_sub(columns(&note));
        let line = Line::from(vec![
            piece(note, theme, tone),
            piece(theme.marks.link.repeat(rest), theme, Tone::Border),
        ]);
        lines::draw(frame, rule, [line]);
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
        for part in text.lines().flat_map(|line| wrap_marked(line, width, theme.marks.wrap)) {
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
    add(&format!("answers this version only ({})", escalation.digest.short()), Tone::Dim);
    lines
}
