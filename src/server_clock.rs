//! The clock of a service, by the `Date` header of its answers.
//!
//! The ages of what a service reports (a check, a pipeline) count on the service's own clock: ours may
//! be minutes or hours off. afk's deadlines count on afk's clock. `github` and `ci` use it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use http::HeaderMap;

use crate::core::model::time::Timestamp;

/// The value of the offset before the first answer.
const UNKNOWN: i64 = i64::MIN;

/// The clock of one service.
#[derive(Debug)]
pub struct ServerClock {
    /// The zero of our own clock here, which never jumps.
    began: Instant,
    /// The service's time at that moment, in milliseconds of the epoch.
    offset: AtomicI64,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self { began: Instant::now(), offset: AtomicI64::new(UNKNOWN) }
    }
}

impl ServerClock {
    /// Takes the time from the headers of an answer that has just come. Without a `Date`, the clock goes
    /// on as it was.
    pub fn set(&self, headers: &HeaderMap) {
        if let Some(date) = date(headers) {
            self.offset.store(date.0 - self.elapsed(), Ordering::Relaxed);
        }
    }

    /// The service's time now; none before the first answer.
    #[must_use]
    pub fn now(&self) -> Option<Timestamp> {
        let offset = self.offset.load(Ordering::Relaxed);
        (offset != UNKNOWN).then(|| Timestamp(offset + self.elapsed()))
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The time in the `Date` header (RFC 9110), if there is one.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(http::header::DATE)?.to_str().ok()?;
    let zoned = jiff::fmt::rfc2822::DateTimeParser::new().parse_zoned(text).ok()?;
    Some(Timestamp(zoned.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(date: &'static str) -> HeaderMap {
        let value = http::HeaderValue::from_static(date);
        [(http::header::DATE, value)].into_iter().collect()
    }

    #[test]
    fn clock_follows_the_last_date() {
        let clock = ServerClock::default();
        assert_eq!(clock.now(), None);
        clock.set(&HeaderMap::new());
        clock.set(&headers("yesterday"));
        assert_eq!(clock.now(), None);
        clock.set(&headers("Sun, 06 Nov 1994 08:49:37 GMT"));
        let at = Timestamp(784_111_777_000);
        assert!((0..60_000).contains(&clock.now().unwrap().since(at)), "{:?}", clock.now());
        clock.set(&HeaderMap::new());
        assert!(clock.now().is_some());
        // Nine hours back: the service set its clock.
        clock.set(&headers("Sat, 05 Nov 1994 23:49:37 GMT"));
        assert!(clock.now().unwrap() < at);
    }
}
