//! The clock of the core. It counts the time since the machine booted, which no setting of the
//! system's clock moves and which a sleeping laptop adds to, and follows wall time in two ways: at
//! once where both differ by little, and after ten minutes where somebody set the clock.
//!
//! ```text
//!   look(): every 30 s, and before each input
//!     └─ later than that by a minute: the machine slept, or afk was stopped ──▶ TimeSkipped(+)
//!     └─ wall time differs for ten minutes: the clock was set ────────────────▶ TimeSkipped(±)
//! ```
//!
//! A clock that is ahead for a minute therefore changes nothing, and a stamp that an earlier life
//! wrote with such a clock is set back at the start.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::core::model::time::Timestamp;

/// How often the event loop looks at the clock at least.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// The shortest gap between two looks, beyond their interval, in which afk was stopped.
const GAP: Duration = Duration::from_secs(60);
/// The smallest difference from wall time, in milliseconds, that only a clock that was set explains.
const SET_MS: i64 = 60_000;
/// How long a clock must stay set before the core follows it.
const CONFIRM: Duration = Duration::from_secs(600);

/// The clock of an event loop; see the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    /// The time since boot at which the core's time was `at`.
    began: Duration,
    at: Timestamp,
    /// The time since boot of the last look.
    looked: Duration,
    /// A large difference from wall time, and the time since boot at which it has lasted for long.
    differs: Option<(Duration, i64)>,
}

impl Clock {
    /// Starts at wall time, or at `least`, the time of the last journal record, if that is later.
    pub(super) fn start(least: Timestamp) -> Self {
        Self::start_at(least, since_boot(), wall())
    }

    fn start_at(least: Timestamp, boot: Duration, wall: Timestamp) -> Self {
        let ahead = least.since(wall);
        // A record from the future is the work of a clock that was ahead: the first look sets it back.
        let differs = (ahead >= SET_MS).then_some((boot, -ahead));
        Self { began: boot, at: wall.max(least), looked: boot, differs }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now_at(since_boot())
    }

    fn now_at(&self, boot: Duration) -> Timestamp {
        self.at.plus(millis(boot.saturating_sub(self.began)))
    }

    /// The time that is left until `at`, or zero.
    pub(super) fn until(&self, at: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(at.since(self.now())).unwrap_or(0))
    }

    /// Compares the clock with wall time. Returns the milliseconds of [`TimeSkipped`] that the core
    /// must learn of; none usually.
    ///
    /// [`TimeSkipped`]: crate::core::model::input::Input::TimeSkipped
    pub(super) fn look(&mut self) -> Option<i64> {
        self.look_at(since_boot(), wall())
    }

    fn look_at(&mut self, boot: Duration, wall: Timestamp) -> Option<i64> {
        let late = boot.saturating_sub(self.looked).saturating_sub(LOOK_INTERVAL);
        self.looked = boot;
        let difference = wall.0.saturating_sub(self.now_at(boot).0);
        let skipped = if difference.abs() < SET_MS {
            self.differs = None;
            if difference > 0 {
                self.at = self.at.plus(difference);
            }
            None
        } else {
            self.confirmed(boot, difference)
        };
        if skipped.is_some() {
            return skipped;
        }
        (late >= GAP).then(|| millis(late))
    }

    /// Follows a clock that was set, once it has stayed so.
    fn confirmed(&mut self, boot: Duration, difference: i64) -> Option<i64> {
        match self.differs {
            Some((due, known)) if known.abs_diff(difference) < SET_MS.unsigned_abs() => {
                if boot < due {
                    return None;
                }
                self.differs = None;
                self.at = self.at.plus(difference);
                Some(difference)
            }
            _ => {
                self.differs = Some((boot + CONFIRM, difference));
                None
            }
        }
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
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

    const DAY: i64 = 86_400_000;

    fn boot(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn wall_at(seconds: i64) -> Timestamp {
        Timestamp(1_000 * DAY + seconds * 1000)
    }

    /// Looks every 30 s from `from` to `to` while wall time is off by `ms`, and returns what the core
    /// learns.
    fn looks(clock: &mut Clock, from: u64, to: u64, ms: i64) -> Vec<i64> {
        let times = (from..=to).step_by(30);
        let look = |at: u64| clock.look_at(boot(at), wall_at(at.cast_signed()).plus(ms));
        times.filter_map(look).collect()
    }

    #[test]
    fn clock_never_goes_back_by_itself() {
        let clock = Clock::start(Timestamp(0));
        let first = clock.now();
        assert!(clock.now() >= first);
        assert!(clock.until(first.plus(3_600_000)) <= Duration::from_secs(3600));
    }

    #[test]
    fn sleep_and_stop_are_gaps_and_short_delays_are_none() {
        let mut clock = Clock::start_at(Timestamp(0), boot(0), wall_at(0));
        assert_eq!(looks(&mut clock, 0, 600, 0), [0; 0]);
        assert_eq!(clock.look_at(boot(650), wall_at(650)), None);
        let asleep = 9 * 3600;
        let skipped = clock.look_at(boot(680 + asleep), wall_at(680 + asleep.cast_signed()));
        assert_eq!(skipped, Some(i64::try_from(asleep).unwrap() * 1000));
        assert_eq!(clock.now_at(boot(680 + asleep)), wall_at(680 + asleep.cast_signed()));
    }

    #[test]
    fn clock_that_is_ahead_for_a_minute_changes_nothing() {
        let mut clock = Clock::start_at(Timestamp(0), boot(0), wall_at(0));
        assert_eq!(looks(&mut clock, 30, 90, 40 * DAY), [0; 0]);
        assert_eq!(looks(&mut clock, 120, 3600, 0), [0; 0]);
        assert_eq!(clock.now_at(boot(3600)), wall_at(3600));
    }

    #[test]
    fn clock_that_stays_set_is_followed_in_both_directions() {
        let mut clock = Clock::start_at(Timestamp(0), boot(0), wall_at(0));
        assert_eq!(looks(&mut clock, 30, 1200, 40 * DAY), [40 * DAY]);
        assert_eq!(clock.now_at(boot(1200)), wall_at(1200).plus(40 * DAY));
        assert_eq!(looks(&mut clock, 1230, 3000, 0), [-40 * DAY]);
        assert_eq!(clock.now_at(boot(3000)), wall_at(3000));
    }

    #[test]
    fn stamps_of_a_clock_that_was_ahead_are_set_back_at_the_start() {
        let ahead = wall_at(0).plus(40 * DAY);
        let mut clock = Clock::start_at(ahead, boot(0), wall_at(0));
        assert_eq!(clock.now_at(boot(0)), ahead, "the journal's order stays");
        assert_eq!(clock.look_at(boot(1), wall_at(1)), Some(-40 * DAY));
        assert_eq!(clock.now_at(boot(1)), wall_at(1));
    }

    #[test]
    fn drift_is_followed_forward() {
        let mut clock = Clock::start_at(Timestamp(0), boot(0), wall_at(0));
        assert_eq!(looks(&mut clock, 30, 90, 5_000), [0; 0]);
        assert_eq!(clock.now_at(boot(90)), wall_at(95));
    }
}
