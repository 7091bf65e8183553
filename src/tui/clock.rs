//! Waiting for a point in time.

use std::time::{Duration, Instant};

use crate::runtime::clock;

/// Waits until a point in time; forever where there is none. A point in the past doesn't go through
/// the timer, whose ticks are a millisecond.
pub(super) async fn reached(due: Option<Instant>) {
    match due {
        None => std::future::pending().await,
        Some(due) if due <= Instant::now() => {}
        Some(due) => tokio::time::sleep_until(due.into()).await,
    }
}

/// The time until the minute of the wall clock changes.
pub(super) fn until_next_minute() -> Duration {
    Duration::from_millis(60_000 - clock::wall().0.rem_euclid(60_000).cast_unsigned())
}
