//! The bar of the past, in the header's place: a banner that can't be missed, and the journal as a line
//! with its landmarks.

use std::collections::VecDeque;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::core::model::time::Timestamp;
use crate::core::query::landmark::LandmarkKind;
use crate::journal::history::Landmark;
use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::lines;
use crate::tui::widgets::span::piece;
use crate::tui::widgets::text::{column, fit, width};

/// The most columns of the line with the landmarks.
const TRACK: usize = 60;

/// The moment that is shown, and the journal around it.
pub(crate) struct PastBar<'a> {
    pub(crate) theme: &'a Theme,
    pub(crate) at: Timestamp,
    /// The number of the shown record, and of the last one.
    pub(crate) seq: i64,
    pub(crate) last: i64,
    /// The landmark at the record or the last one before it.
    pub(crate) landmark: Option<&'a Landmark>,
    pub(crate) landmarks: &'a VecDeque<Landmark>,
}

impl PastBar<'_> {
    pub(crate) fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let (theme, columns) = (self.theme, usize::from(area.width));
        let (dot, cut) = (theme.marks.dot, theme.marks.cut);
        let (seq, last) = (self.seq, self.last);
        let at = moment(self.at);
        let forms = [
            format!(" THE PAST  {at} {dot} record {seq} of {last} {dot} nothing can be done here "),
            format!(" THE PAST  {at} {dot} record {seq} of {last} "),
            format!(" THE PAST  {at} {dot} {seq}/{last} "),
            format!(" THE PAST {at} "),
        ];
        let fits = forms.iter().find(|form| width(form) <= columns);
        let banner = column(fits.unwrap_or(&forms[3]), columns, cut);
        let mut lines = vec![Line::from(piece(banner, theme, Tone::Alarm))];
        if area.height > 1 {
            lines.push(self.track(columns));
        }
        lines::draw(frame, area, lines);
    }

    /// The journal as a line: the landmarks, the shown record, and the landmark there in words.
    fn track(&self, columns: usize) -> Line<'static> {
        let marks = &self.theme.marks;
        let cells = (columns / 2).clamp(10, TRACK);
        let cell = |seq: i64| {
            let last = i64::try_from(cells - 1).unwrap_or(0);
            usize::try_from(seq.saturating_mul(last) / self.last.max(1)).unwrap_or(0).min(cells - 1)
        };
        let mut signs = vec![(marks.link, Tone::Border); cells];
        for landmark in self.landmarks {
            let sign = &mut signs[cell(landmark.seq)];
            let (mark, tone) = match landmark.kind {
                LandmarkKind::Question => (marks.asks, Tone::Warn),
                LandmarkKind::Freeze => (marks.frozen, Tone::Bad),
                LandmarkKind::KillSwitch => (marks.human, Tone::Warn),
                LandmarkKind::Landed => (marks.done, Tone::Good),
                LandmarkKind::Push => (marks.waiting, Tone::Accent),
            };
            // A freeze is not hidden by what came after it in the same cell.
            if sign.1 != Tone::Bad {
                *sign = (mark, tone);
            }
        }
        signs[cell(self.seq)] = (marks.bars[7], Tone::Title);
        let mut spans = vec![piece(" ", self.theme, Tone::Dim)];
        spans.extend(signs.into_iter().map(|(sign, tone)| piece(sign, self.theme, tone)));
        let text = self.landmark.map_or_else(String::new, |landmark| {
            let when = if landmark.seq == self.seq { "now" } else { "last" };
            format!("  {when}: {}", landmark.text)
        });
        let room = columns.saturating_sub(cells + 1);
        spans.push(piece(fit(&text, room, marks.cut), self.theme, Tone::Text));
        Line::from(spans)
    }
}

/// A moment to the second, in this machine's time zone.
fn moment(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%F %T").to_string(),
    )
}
