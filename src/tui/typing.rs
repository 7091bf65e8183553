//! Keys that are typed into an overlay: a text, or the palette.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::keymap::Context;
use super::overlays::palette;
use super::panes::breakglass;
use super::update::Request;
use super::view::{Overlay, Purpose, View};
use crate::runtime::Snapshot;
use crate::term::key::Key;

pub(super) fn text(view: &mut View, event: KeyEvent) -> Vec<Request> {
    let Some(Overlay::Input(input)) = view.overlays.last_mut() else { return Vec::new() };
    let new_line = event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SHIFT);
    match event.code {
        KeyCode::Esc => {
            view.overlays.pop();
        }
        KeyCode::Enter if !new_line => {
            let Some(Overlay::Input(input)) = view.overlays.pop() else { return Vec::new() };
            if matches!(input.purpose, Purpose::Search) {
                let text = input.area.lines().first().cloned().filter(|text| !text.is_empty());
                if view.context() == Context::Terminal {
                    breakglass::keys::search(view, text, true);
                    return Vec::new();
                }
                view.search = text;
                return super::update::search(view, false);
            }
            let request = input.request();
            if request.is_none() {
                view.message = Some("that is not its name: nothing was done".into());
            }
            return request.into_iter().collect();
        }
        KeyCode::Enter => input.area.insert_newline(),
        _ => {
            input.area.input(event);
        }
    }
    Vec::new()
}

pub(super) fn palette(
    view: &mut View,
    snapshot: &Snapshot,
    event: KeyEvent,
    key: Key,
) -> Vec<Request> {
    let Some(Overlay::Palette(palette)) = view.overlays.last_mut() else { return Vec::new() };
    match event.code {
        KeyCode::Esc => {
            view.overlays.pop();
        }
        KeyCode::Enter => {
            let Some(Overlay::Palette(palette)) = view.overlays.pop() else { return Vec::new() };
            let found = palette::matches(&palette.text, view);
            if let Some((act, _)) = found.get(palette.selected.min(found.len().saturating_sub(1))) {
                return super::update::act(view, snapshot, *act);
            }
        }
        KeyCode::Down => palette.selected = (palette.selected + 1).min(super::act::ALL.len() - 1),
        KeyCode::Up => palette.selected = palette.selected.saturating_sub(1),
        KeyCode::Backspace => {
            palette.text.pop();
            palette.selected = 0;
        }
        _ => {
            if let Some(c) = key.typed() {
                palette.text.push(c);
                palette.selected = 0;
            }
        }
    }
    Vec::new()
}
