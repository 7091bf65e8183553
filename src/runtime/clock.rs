//! The clock that the core is told: the wall's at the start, then monotonic, so that a clock that
//! is set back neither stops a deadline nor rewrites an order.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::model::time::Timestamp;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: Instant,
    at: Timestamp,
}

impl Clock {
    /// A clock that is never behind `least`, the last time that was journalled.
    #[must_use]
    pub fn start(least: Timestamp) -> Self {
        Self { began: Instant::now(), at: wall().max(least) }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        // The wall may run ahead (a laptop slept); it is followed forwards only.
        self.at.plus(passed).max(wall())
    }

    /// How long until `at`.
    #[must_use]
    pub fn until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(at.since(self.now())).unwrap_or(0))
    }
}

/// The wall clock.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_a_journal_that_is_ahead() {
        let ahead = wall().plus(86_400_000);
        let clock = Clock::start(ahead);
        let first = clock.now();
        assert!(first >= ahead);
        assert!(clock.now() >= first);
        assert!(clock.until(ahead.plus(3_600_000)) <= Duration::from_secs(3600));
    }
}
