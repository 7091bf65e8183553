//! The text around the rows of the pane.

use ratatui::text::Line;

use super::actions::{ARM, BREAKGLASS, CAPTURE_DIFF, CONSOLE, CONSOLE_LEAVE, STOP_AGENT};
use super::agent::is_asked;
use super::rows::Item;
use crate::core::model::breakglass::BreakglassRules;
use crate::core::model::plural::plural;
use crate::tui::component::Scene;
use crate::tui::theme::Tone;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{age, fit, wrap};

/// Lines below the rows at most, besides the cold path.
const ABOUT: usize = 4;

/// The lines of the pane where breakglass isn't configured.
pub(super) fn unconfigured(scene: &Scene<'_>) -> Vec<Line<'static>> {
    let line = |text: &str, role| Line::from(piece(format!(" {text}"), scene.theme, role));
    vec![
        line("not configured: this afk has no VM and no hypervisor to reach", Tone::Text),
        line("nothing here can start, stop or reset a machine", Tone::Dim),
    ]
}

/// The lines above the rows: the state of the VM, the arming, the last drill.
pub(super) fn head(rules: &BreakglassRules, scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let (theme, state, now) = (scene.theme, scene.snapshot.breakglass(), scene.now);
    let cut = theme.marks.cut;
    let line =
        |text: String, role| Line::from(piece(fit(&format!(" {text}"), width, cut), theme, role));
    let reads = match &state.reads {
        Some((at, word)) => format!("{}: {} ({} ago)", rules.vm, word.clean_line(), age(now, *at)),
        None => format!("{}: not read yet", rules.vm),
    };
    let mut lines = vec![line(reads, Tone::Text)];
    for warning in &state.warnings {
        lines.push(line(format!("warning: {}", warning.clean_line()), Tone::Warn));
    }
    lines.push(if let Some(arming) = &state.armed {
        let left = arming.until.since(now) / 60_000 + 1;
        let (by, why) = (&arming.by, arming.reason.clean_line());
        line(format!("ARMED by {by}, {left} min left. Reason: {why}"), Tone::Alarm)
    } else {
        let key = scene.keymap.key_of(BREAKGLASS, ARM);
        line(format!("not armed: {key} arms it, with a reason"), Tone::Dim)
    });
    let drill = match (state.drill_red(now, rules), state.drill.good) {
        (Some(_), Some(good)) => {
            (format!("DRILL OVERDUE: the last one passed {} ago", age(now, good)), Tone::Bad)
        }
        (Some(_), None) => ("DRILL OVERDUE: no drill has passed yet".into(), Tone::Bad),
        (None, Some(good)) => (format!("drill passed {} ago", age(now, good)), Tone::Good),
        (None, None) if rules.drill_ms.is_none() => ("no drill configured".into(), Tone::Dim),
        (None, None) => ("no drill has passed yet".into(), Tone::Dim),
    };
    let path = if state.agent.is_some() { "" } else { " · No AI in the path" };
    lines.push(line(format!("{}{path}", drill.0), drill.1));
    if let Some(session) = &state.agent {
        let key = scene.keymap.key_of(BREAKGLASS, STOP_AGENT);
        let (agent, level) = (&session.terms.agent, session.terms.level.as_str());
        let waits = session.open.values().filter(|call| is_asked(call, scene.snapshot)).count();
        let waits = if waits > 0 {
            format!(" {} in the inbox.", plural(waits, "question"))
        } else {
            String::new()
        };
        let text = format!("AGENT {agent} works at the level {level}; {key} stops it.{waits}");
        lines.push(line(text, Tone::Alarm));
    }
    if scene.snapshot.breakglass_ahead.is_some() {
        lines.push(line("AUDIT DEGRADED: kept in memory and at the host".into(), Tone::Alarm));
    }
    lines
}

/// The lines below the rows: the effect of the chosen row, and the cold path to the VM.
pub(super) fn about(
    item: Option<&Item>,
    cold_path: Option<&str>,
    scene: &Scene<'_>,
    width: usize,
) -> Vec<Line<'static>> {
    let state = scene.snapshot.breakglass();
    let text = match item {
        Some(Item::Verb(verb)) => format!("{}: {}", verb.as_str(), verb.explains()),
        Some(Item::Host(host)) => {
            let leave = scene.keymap.keys_of(CONSOLE, CONSOLE_LEAVE).join(" or ");
            format!(
                "a shell on {host}: its output is recorded, your keys are not. {leave} always returns \
                 here"
            )
        }
        Some(Item::Run(id)) if state.captures_to_compare(*id).is_none() => {
            "Enter shows its output".into()
        }
        Some(Item::Run(_)) => {
            let key = scene.keymap.key_of(BREAKGLASS, CAPTURE_DIFF);
            format!("Enter shows its output; {key} compares it with the capture before it")
        }
        Some(Item::Agent) => "Enter shows the agent's calls; its session is recorded".into(),
        Some(Item::Recording(_)) => "Enter plays it".into(),
        None => String::new(),
    };
    let theme = scene.theme;
    let mut parts = wrap(&text, width.saturating_sub(2));
    if parts.len() >= ABOUT {
        parts.truncate(ABOUT - 1);
        if let Some(last) = parts.last_mut() {
            *last = last.trim_end().to_owned() + theme.marks.cut;
        }
    }
    let mut lines: Vec<Line<'static>> = parts
        .into_iter()
        .map(|part| Line::from(piece(format!(" {part}"), theme, Tone::Dim)))
        .collect();
    if let Some(cold) = cold_path {
        let text = fit(&format!(" without afk: {cold}"), width, theme.marks.cut);
        lines.push(Line::from(piece(text, theme, Tone::Dim)));
    }
    lines
}
