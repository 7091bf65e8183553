//! The clock of the core. It starts with wall time and then never goes back, so that setting the
//! system's clock back neither delays a deadline nor reorders the journal.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::core::model::time::Timestamp;

/// A clock that never goes back. The event loop owns one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    at: Timestamp,
}

impl Clock {
    /// Starts at wall time, or at `least`, the time of the last journal record, if that is later.
    pub(super) fn start(least: Timestamp) -> Self {
        Self { began: Instant::now(), at: wall().max(least) }
    }

    pub(super) fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        // After a laptop slept, wall time is ahead of the monotonic clock.
        self.at.plus(passed).max(wall())
    }

    /// The time that is left until `at`, or zero.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(at.since(self.now())).unwrap_or(0))
    }
}

/// Wall time, in milliseconds of the Unix epoch.
#[must_use]
pub fn wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_continues_from_a_journal_that_is_ahead() {
        let ahead = wall().plus(86_400_000);
        let clock = Clock::start(ahead);
        let first = clock.now();
        assert!(first >= ahead);
        assert!(clock.now() >= first);
        assert!(clock.until(ahead.plus(3_600_000)) <= Duration::from_secs(3600));
    }
}
