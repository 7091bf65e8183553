//! The pace of all calls with one token: how many are under way at once, writes one after the
//! other, and the waits that GitHub asks for (table T9, and its page on best practices for the REST
//! API). [`Api`](super::Api) passes through it before each call and reports each limit to it.

use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::ApiError;
use crate::core::tables::answer::ApiAction;
use crate::lock::LockExt;

/// The calls under way at once; GitHub takes 100.
const AT_ONCE: usize = 8;
/// The pause between two writes: GitHub allows 80 a minute.
const BETWEEN_WRITES: Duration = Duration::from_millis(800);
/// The first wait, in seconds, where GitHub names none.
const FIRST: u64 = 60;
/// The longest wait before the next request, in seconds.
const LONGEST: u64 = 3600;
/// The longest wait that a call sits out; a longer one is an error, and the caller comes again.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Governor {
    limit: Mutex<RateLimit>,
    room: Semaphore,
    writes: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct RateLimit {
    /// When the next request may be sent.
    until: Option<Instant>,
    /// How many waits in a row GitHub named no time for; each doubles the next.
    doubled: u32,
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            limit: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            writes: tokio::sync::Mutex::default(),
        }
    }
}

impl Governor {
    /// Waits out a short limit; a longer one is an error at once, and the caller sends nothing.
    pub(super) async fn pass(&self) -> Result<(), ApiError> {
        loop {
            let until = self.limit().until;
            let Some(left) = until.map(|until| until.saturating_duration_since(Instant::now()))
            else {
                return Ok(());
            };
            if left.is_zero() {
                self.limit().until = None;
            } else if left > PATIENCE {
                return Err(ApiError::Limited { seconds: left.as_secs().max(1) });
            } else {
                tokio::time::sleep(left).await;
            }
        }
    }

    /// Takes a place among the calls under way; dropping the permit frees it.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.room.acquire().await.ok()
    }

    /// Takes the turn to write: one writer at a time, with a pause between two.
    pub(super) async fn write(&self) -> MutexGuard<'_, Option<Instant>> {
        let mut last = self.writes.lock().await;
        if let Some(at) = *last {
            tokio::time::sleep_until(at + BETWEEN_WRITES).await;
        }
        *last = Some(Instant::now());
        last
    }

    /// Makes every caller wait, and gives the error for the one that met the limit. `now` is the time
    /// on GitHub's own clock, in seconds: a reset is on that clock.
    pub(super) fn wait(&self, action: ApiAction, now: u64) -> ApiError {
        let mut limit = self.limit();
        let seconds = match action {
            ApiAction::Wait(seconds) => u64::try_from(seconds).unwrap_or(FIRST),
            // A little longer than asked, so that not every afk comes back in the same second.
            ApiAction::WaitUntil(at) => {
                u64::try_from(at).unwrap_or(now).saturating_sub(now)
                    + 1
                    + u64::from(std::process::id()) % 5
            }
            _ => {
                let seconds = FIRST << limit.doubled.min(6);
                limit.doubled += 1;
                seconds
            }
        };
        let seconds = seconds.clamp(1, LONGEST);
        let until = Instant::now() + Duration::from_secs(seconds);
        limit.until = Some(limit.until.map_or(until, |known| known.max(until)));
        ApiError::Limited { seconds }
    }

    /// Ends the doubling of waits: GitHub answered as it should.
    pub(super) fn answered(&self) {
        self.limit().doubled = 0;
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, RateLimit> {
        self.limit.locked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(error: &ApiError) -> u64 {
        match error {
            ApiError::Limited { seconds } => *seconds,
            other => panic!("{other}"),
        }
    }

    #[tokio::test]
    async fn limit_holds_every_caller_and_doubles() {
        let governor = Governor::default();
        assert!(governor.pass().await.is_ok());
        assert_eq!(seconds(&governor.wait(ApiAction::WaitDoubling, 0)), 60);
        assert_eq!(seconds(&governor.wait(ApiAction::WaitDoubling, 0)), 120);
        governor.answered();
        assert_eq!(seconds(&governor.wait(ApiAction::WaitDoubling, 0)), 60);
        let left = seconds(&governor.pass().await.unwrap_err());
        assert!((115..=120).contains(&left), "the longest wait counts: {left}");
        let reset = seconds(&Governor::default().wait(ApiAction::WaitUntil(1_090), 1_000));
        assert!((90..=96).contains(&reset), "it counts on the clock of the reset: {reset}");
    }
}
