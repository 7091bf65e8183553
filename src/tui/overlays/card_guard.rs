//! When a card of the inbox may be answered: once all of it was on the screen, and not in the first
//! moment after it came there.
//!
//! A key that was meant for the card before must not answer this one, so answer keys are ignored for
//! a moment after the card changed; the inbox shows so.

use std::time::{Duration, Instant};

use ratatui::layout::Rect;

use super::inbox_order::InboxRow;
use crate::core::model::digest::Digest;

/// How long answer keys are ignored after the card changed.
pub(super) const PAUSE: Duration = Duration::from_millis(700);

/// Why a card can't be answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotYet {
    /// It came to the screen a moment ago.
    JustChanged,
    /// Lines above were skipped.
    Skipped,
    /// Its end was not on the screen.
    NotRead,
}

/// The part of a card that was on the screen. Only a card that was there as a whole can be answered, so
/// that a jump to its end is not enough.
#[derive(Debug, Default)]
pub(super) struct CardGuard {
    /// The card in the version that was shown.
    of: Option<(InboxRow, Digest)>,
    /// The moment of its first frame.
    since: Option<Instant>,
    /// The width that its lines were wrapped to.
    width: u16,
    /// The lines from the first one on that were shown without a gap.
    lines: usize,
    whole: bool,
}

impl CardGuard {
    /// Notes a frame that shows the card from line `first` of `total` on.
    pub(super) fn shown(
        &mut self,
        card: (InboxRow, Digest),
        area: Rect,
        first: usize,
        total: usize,
        now: Instant,
    ) {
        if self.of != Some(card) {
            *self = Self { of: Some(card), since: Some(now), width: area.width, ..Self::default() };
        } else if self.width != area.width && !self.whole {
            (self.width, self.lines) = (area.width, 0);
        }
        if first <= self.lines {
            self.lines = self.lines.max(first + usize::from(area.height));
        }
        self.whole |= area.height > 0 && self.lines >= total;
    }

    /// Why the card can't be answered yet; none where it can. `first` is the first line on the screen.
    pub(super) fn refusal(
        &self,
        card: (InboxRow, Digest),
        first: usize,
        now: Instant,
    ) -> Option<NotYet> {
        if self.of != Some(card) || self.opens().is_some_and(|opens| now < opens) {
            return Some(NotYet::JustChanged);
        }
        if self.whole {
            return None;
        }
        Some(if first > self.lines { NotYet::Skipped } else { NotYet::NotRead })
    }

    /// When answer keys count again.
    pub(super) fn opens(&self) -> Option<Instant> {
        self.since.map(|since| since + PAUSE)
    }
}
