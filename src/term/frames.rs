//! When the next frame is due: a pure limiter. A key is answered at once; what streams in is
//! shown at most 60 times a second; nothing is drawn while nothing changed.

use std::time::{Duration, Instant};

/// Time between two frames that nobody typed for.
pub const INTERVAL: Duration = Duration::from_micros(16_667);

/// See the module.
#[derive(Debug, Default)]
pub struct Frames {
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Frames {
    /// Something changed by itself.
    pub fn changed(&mut self, now: Instant) {
        let earliest = self.last.map_or(now, |last| (last + INTERVAL).max(now));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Somebody did something and looks for the answer.
    pub fn typed(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// When to draw; none while nothing changed.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A frame was drawn.
    pub fn drawn(&mut self, now: Instant) {
        self.last = Some(now);
        self.due = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_changes_are_one_frame_and_a_key_is_at_once() {
        let start = Instant::now();
        let mut frames = Frames::default();
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
