//! Limits the frame rate: decides when the next frame is due. It is pure; callers pass the time.
//!
//! A frame that answers a key is due at once. Changes that stream in share at most 60 frames a
//! second, and without a change no frame is due.

use std::time::{Duration, Instant};

/// The shortest time between two frames that answer no key.
const INTERVAL: Duration = Duration::from_micros(16_667);

/// The frame limiter of one client's session.
#[derive(Debug, Default)]
pub(crate) struct FrameLimiter {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl FrameLimiter {
    /// Asks for a frame after a change that the user did not cause.
    pub fn changed(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| (last + INTERVAL).max(now));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Asks for a frame at once, after input of the user.
    pub fn typed(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// When to draw the next frame; `None` while nothing has changed.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Records that a frame was drawn.
    pub fn drawn(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limiter_merges_changes_and_answers_a_key_at_once() {
        let start = Instant::now();
        let mut frames = FrameLimiter::default();
        assert_eq!(frames.due(), None);
        frames.changed(start);
        assert_eq!(frames.due(), Some(start));
        frames.drawn(start);
        assert_eq!(frames.due(), None);
        for ms in 1..10 {
            frames.changed(start + Duration::from_millis(ms));
        }
        assert_eq!(frames.due(), Some(start + INTERVAL));
        let typed = start + Duration::from_millis(3);
        frames.typed(typed);
        assert_eq!(frames.due(), Some(typed));
        frames.drawn(typed);
        frames.changed(start + Duration::from_secs(1));
        assert_eq!(frames.due(), Some(start + Duration::from_secs(1)));
    }
}
