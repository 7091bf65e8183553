//! The pace at which the events of one turn reach the core.
//!
//! Each of them is a record of the journal, and all runs share the loop and the disk. A turn may send
//! as much at once as a busy agent does; after that its own pipe fills, and the agent waits.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// What a turn may send at once, in events of up to [`UNIT`] bytes.
const BURST: u32 = 512;
/// What it may send in each second after that. A journal grows by less than 100 KiB a second from it.
const PER_SECOND: u32 = 20;
/// The bytes that count as one event.
const UNIT: usize = 4096;

/// The allowance of one turn.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    /// When `left` was last refilled.
    since: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { left: BURST, since: Instant::now() }
    }

    /// Waits until an event with so many bytes of text may be sent.
    pub(super) async fn wait(&mut self, bytes: usize) {
        let cost = u32::try_from(bytes / UNIT).unwrap_or(BURST).saturating_add(1).min(BURST);
        while !self.take(cost, Instant::now()) {
            sleep(Duration::from_secs(1) / PER_SECOND).await;
        }
    }

    fn take(&mut self, cost: u32, now: Instant) -> bool {
        let unit = Duration::from_secs(1) / PER_SECOND;
        let passed = now.saturating_duration_since(self.since).as_millis() / unit.as_millis();
        let gained = u32::try_from(passed).unwrap_or(BURST);
        self.since += unit * gained;
        self.left = self.left.saturating_add(gained).min(BURST);
        let fits = cost <= self.left;
        if fits {
            self.left -= cost;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_passes_and_a_flood_is_slowed_down() {
        let mut pace = Pace::new();
        let begun = pace.since;
        let at = |seconds| begun + Duration::from_secs(seconds);
        let sent = |pace: &mut Pace, now| (0..10_000).filter(|_| pace.take(1, now)).count();
        assert_eq!(sent(&mut pace, begun), BURST as usize);
        assert_eq!(sent(&mut pace, at(3)), 3 * PER_SECOND as usize);
        // A long pause saves up one burst and no more.
        assert_eq!(sent(&mut pace, at(100_000)), BURST as usize);
        // An event of any size passes after a while.
        assert!(!pace.take(BURST, at(100_001)));
        assert!(pace.take(BURST, at(100_100)));
    }
}
