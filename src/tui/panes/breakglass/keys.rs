//! What keys do in the pane.

use std::time::Instant;

use crossterm::event::KeyEvent;

use super::terminal::{Behind, Terminal};
use super::{Item, reading, rows};
use crate::core::model::breakglass::{BreakglassRequest, Verb};
use crate::core::model::command::Command;
use crate::runtime::Snapshot;
use crate::term::encode;
use crate::tui::act::Act;
use crate::tui::update::Request;
use crate::tui::view::{Input, Overlay, Pager, Purpose, View};

/// Milliseconds that one step goes in a recording.
const SEEK: i64 = 5_000;

/// A key for the shell that has the keys.
pub fn typed(view: &mut View, event: &KeyEvent) {
    let Some(terminal) = view.breakglass.front_mut() else { return };
    let bytes = encode::key(event, terminal.emulator.mode());
    if !bytes.is_empty() && !terminal.send(bytes) {
        view.message = Some("the link takes nothing now: that key was not sent".into());
    }
}

/// Pasted text for it.
pub fn pasted(view: &mut View, text: &str) {
    let Some(terminal) = view.breakglass.front_mut() else { return };
    for piece in encode::paste(text, terminal.emulator.mode()).chunks(16 * 1024) {
        if !terminal.send(piece.to_vec()) {
            view.message = Some("the link takes nothing now: not all of it was pasted".into());
            return;
        }
    }
}

/// Opens the chosen row.
pub fn open(view: &mut View, snapshot: &Snapshot) -> Vec<Request> {
    let items = rows(snapshot);
    let Some(item) = items.get(view.breakglass.cursor.place(&items)) else { return Vec::new() };
    match item {
        Item::Verb(verb) if verb.mutates() => confirm(view, snapshot, *verb),
        Item::Verb(verb) => {
            let ask = BreakglassRequest::Verb { verb: *verb, confirm: None };
            return vec![Request::Act(Command::Breakglass { request: ask })];
        }
        Item::Host(host) => {
            let here = view.breakglass.terminals.iter().position(|terminal| terminal.name == *host);
            if let Some(at) = here {
                view.breakglass.shown = Some(at);
                return type_into(view);
            }
            return vec![Request::OpenShell(host.clone())];
        }
        Item::Run(id) => {
            view.breakglass.reading = Some(*id);
            let kept = super::run(snapshot.breakglass(), *id)
                .and_then(|run| run.end.as_ref())
                .and_then(|(_, end)| end.capture.clone());
            match kept.filter(|capture| capture.stored) {
                Some(capture) => return vec![Request::Capture(capture.digest)],
                None => read_live(view, snapshot),
            }
        }
        Item::Recording(shell) => {
            let kept = snapshot.breakglass().recordings.iter().find(|kept| kept.shell == *shell);
            return kept.map(|kept| Request::Replay(kept.file.clone())).into_iter().collect();
        }
    }
    Vec::new()
}

/// Shows what a verb writes, as it comes.
pub fn read_live(view: &mut View, snapshot: &Snapshot) {
    view.overlays.push(Overlay::Pager(Pager {
        title: "What it writes; it goes on without you".into(),
        lines: reading(snapshot, view),
        // Its end.
        scroll: usize::MAX / 2,
        live: Some(reading),
    }));
}

fn confirm(view: &mut View, snapshot: &Snapshot, verb: Verb) {
    let Some(rules) = &snapshot.fleet.policy.breakglass else { return };
    let state = snapshot.breakglass();
    let seen = state.seen(verb, &rules.vm);
    let count = state.recent(view.now);
    let reads = state.reads.as_ref().map_or_else(
        || format!("{} was not asked how it stands.", rules.vm),
        |(_, word)| format!("{} read {}.", rules.vm, word.clean_line()),
    );
    let ask = if count >= rules.mutations {
        format!("{count} mutations in ten minutes: type {0} {0} to do it all the same.", rules.vm)
    } else {
        format!("Type {} to do it. Nothing takes it back.", rules.vm)
    };
    let about = vec![format!("{}: {}.", verb.as_str(), verb.explains()), reads, ask];
    let title = format!("{} {}", verb.as_str(), rules.vm);
    let input = Input { about, ..Input::new(title, Purpose::Verb(verb, seen)) };
    view.overlays.push(Overlay::Input(Box::new(input)));
}

/// Carries out an action that is the pane's own.
pub fn act(view: &mut View, snapshot: &Snapshot, act: Act) -> Vec<Request> {
    let now = Instant::now();
    match act {
        Act::Arm => arm(view, snapshot),
        Act::Disarm => {
            return vec![Request::Act(Command::Breakglass { request: BreakglassRequest::Disarm })];
        }
        Act::Diagnose => {
            return vec![Request::Act(Command::Breakglass {
                request: BreakglassRequest::Diagnose,
            })];
        }
        Act::CaptureDiff => return differs(view, snapshot),
        Act::ConsoleLeave => {
            if let Some(Terminal { behind: Behind::Shell { typing, .. }, emulator, row, .. }) =
                view.breakglass.front_mut()
            {
                *typing = false;
                *row = emulator.size().1.saturating_sub(1);
            }
        }
        Act::ConsoleType => return type_into(view),
        Act::ConsoleClose => view.breakglass.close(),
        Act::Mark => {
            if let Some(terminal) = view.breakglass.front_mut() {
                terminal.mark = if terminal.mark.is_some() { None } else { Some(terminal.row) };
            }
        }
        Act::ReplayPause | Act::ReplayFaster | Act::ReplaySlower => {
            if let Some(Terminal { behind: Behind::Replay(replay), emulator, .. }) =
                view.breakglass.front_mut()
            {
                match act {
                    Act::ReplayPause => replay.pause(now, emulator),
                    _ => replay.hasten(act == Act::ReplayFaster),
                }
            }
        }
        _ => {}
    }
    Vec::new()
}

/// Gives the keys to the shell that is shown; one that is over is opened again.
fn type_into(view: &mut View) -> Vec<Request> {
    let Some(terminal) = view.breakglass.front_mut() else { return Vec::new() };
    match &mut terminal.behind {
        Behind::Shell { ended: Some(_), .. } => vec![Request::OpenShell(terminal.name.clone())],
        Behind::Shell { typing, .. } => {
            *typing = true;
            terminal.mark = None;
            terminal.emulator.bottom();
            Vec::new()
        }
        Behind::Replay(replay) => {
            replay.pause(Instant::now(), &mut terminal.emulator);
            Vec::new()
        }
    }
}

fn arm(view: &mut View, snapshot: &Snapshot) {
    let other = snapshot.breakglass().armed.as_ref().filter(|arming| arming.by != view.actor);
    let minutes = snapshot.fleet.policy.breakglass.as_ref().map_or(0, |r| r.arm_ms / 60_000);
    let mut about =
        vec![format!("For {minutes} min you may act. Every use is told and recorded. Say why.")];
    if let Some(arming) = other {
        about.insert(
            0,
            format!("{} is armed: this takes it over, and ends their shells.", arming.by),
        );
    }
    let purpose = Purpose::Arm { take_over: other.is_some() };
    let input = Input { about, ..Input::new("Arm breakglass".into(), purpose) };
    view.overlays.push(Overlay::Input(Box::new(input)));
}

/// The chosen capture against the forensics before it.
fn differs(view: &mut View, snapshot: &Snapshot) -> Vec<Request> {
    let items = rows(snapshot);
    let state = snapshot.breakglass();
    let Some(Item::Run(id)) = items.get(view.breakglass.cursor.place(&items)) else {
        view.message = Some("choose something that was done".into());
        return Vec::new();
    };
    let at = state.captures.iter().position(|(of, ..)| of == id);
    let pair =
        at.and_then(|at| Some((state.captures.get(at.checked_sub(1)?)?, &state.captures[at])));
    if let Some(((_, _, old), (_, _, new))) = pair {
        vec![Request::CaptureDiff(old.digest, new.digest)]
    } else {
        view.message = Some(format!("{id} kept no forensics, or there are none before it"));
        Vec::new()
    }
}

/// Moves by rows: through the list, or through what a terminal wrote.
pub fn step(view: &mut View, snapshot: &Snapshot, by: isize) {
    if view.breakglass.shown.is_none() {
        return view.breakglass.cursor.step(&rows(snapshot), by);
    }
    let Some(terminal) = view.breakglass.front_mut() else { return };
    if let Behind::Replay(replay) = &mut terminal.behind {
        let by = i64::try_from(by).unwrap_or(0).saturating_mul(SEEK);
        let to = replay.position.saturating_add_signed(by);
        return replay.seek(to, &mut terminal.emulator);
    }
    let last = isize::try_from(terminal.emulator.size().1.saturating_sub(1)).unwrap_or(0);
    let to = isize::try_from(terminal.row).unwrap_or(0).saturating_add(by);
    let over = to - to.clamp(0, last);
    terminal.row = u16::try_from(to.clamp(0, last)).unwrap_or(0);
    if over != 0 {
        let before = terminal.emulator.behind();
        terminal.emulator.scroll(i32::try_from(-over).unwrap_or(0));
        // The mark stays with its text.
        let moved = i64::try_from(terminal.emulator.behind()).unwrap_or(0)
            - i64::try_from(before).unwrap_or(0);
        terminal.mark = terminal.mark.map(|mark| {
            u16::try_from((i64::from(mark) + moved).clamp(0, i64::try_from(last).unwrap_or(0)))
                .unwrap_or(0)
        });
    }
}

/// Moves by pages, or to an end.
pub fn page(view: &mut View, snapshot: &Snapshot, by: isize, height: isize) {
    let Some(terminal) = view.breakglass.front_mut() else {
        return step(view, snapshot, by.saturating_mul(height));
    };
    match (&mut terminal.behind, by) {
        (Behind::Replay(replay), ..=-1024) => replay.seek(0, &mut terminal.emulator),
        (Behind::Replay(replay), 1024..) => replay.seek(u64::MAX, &mut terminal.emulator),
        (Behind::Shell { .. }, ..=-1024) => terminal.emulator.top(),
        (Behind::Shell { .. }, 1024..) => terminal.emulator.bottom(),
        (Behind::Replay(_), _) => step(view, snapshot, by.saturating_mul(6)),
        (Behind::Shell { .. }, _) => {
            terminal.emulator.scroll(i32::try_from(-by.saturating_mul(height)).unwrap_or(0));
        }
    }
}

/// Goes to the next place of what was searched for, or of something else.
pub fn search(view: &mut View, text: Option<String>, up: bool) {
    let Some(terminal) = view.breakglass.front_mut() else { return };
    if text.is_some() {
        terminal.needle = text;
    }
    let Some(needle) = terminal.needle.clone() else {
        view.message = Some("nothing was searched for yet".into());
        return;
    };
    if !terminal.emulator.search(&needle, up) {
        view.message = Some(format!("no more {needle:?} that way"));
    }
}

/// The marked rows, or the chosen one.
#[must_use]
pub fn copied(terminal: &Terminal) -> String {
    terminal.emulator.text(terminal.mark.unwrap_or(terminal.row), terminal.row)
}
