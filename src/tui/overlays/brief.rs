//! The brief: what happened since the operator last looked.

use ratatui::text::Line;

use super::sheet::Sheet;
use crate::core::query::brief::{BriefTone, FleetBrief};
use crate::tui::action::BRIEF;
use crate::tui::component::Scene;
use crate::tui::theme::Tone;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{time_of_day, wrap_marked};

pub(super) fn sheet(brief: FleetBrief) -> Sheet {
    let title = format!("Brief since {}", time_of_day(brief.since));
    Sheet::new(title, Some(BRIEF), move |scene, columns| lines(&brief, scene, columns))
}

fn lines(brief: &FleetBrief, scene: &Scene<'_>, columns: usize) -> Vec<Line<'static>> {
    let theme = scene.theme;
    let mut lines = Vec::new();
    for (tone, text) in brief.lines() {
        let tone = match tone {
            BriefTone::Heading => Tone::Title,
            BriefTone::Good => Tone::Good,
            BriefTone::Attention => Tone::Warn,
            BriefTone::Bad => Tone::Bad,
            BriefTone::Plain => Tone::Text,
        };
        let parts = wrap_marked(&text, columns.saturating_sub(1), theme.marks.wrap);
        lines.extend(
            parts.into_iter().map(|part| Line::from(piece(format!(" {part}"), theme, tone))),
        );
    }
    lines
}
