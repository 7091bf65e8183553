//! One governor a token: how many calls at once, writes one after the other, and the waits that
//! GitHub asks for (table T9, and its page on best practices for the REST API).

use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::ApiError;
use crate::core::tables::answer::ApiAction;
use crate::lock::LockExt;

/// Calls under way at once; GitHub takes 100.
const AT_ONCE: usize = 8;
/// Between two writes: 80 a minute are allowed.
const BETWEEN_WRITES: Duration = Duration::from_millis(800);
/// The first wait where GitHub tells none, in seconds.
const FIRST: u64 = 60;
/// The longest wait before it is asked again.
const LONGEST: u64 = 3600;
/// A wait that a caller sits out; for a longer one it is told and comes again.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Governor {
    state: Mutex<State>,
    room: Semaphore,
    writes: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    until: Option<Instant>,
    /// Waits in a row without a time of GitHub's.
    doubled: u32,
}

impl Default for Governor {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            room: Semaphore::new(AT_ONCE),
            writes: tokio::sync::Mutex::default(),
        }
    }
}

impl Governor {
    /// Waits out a short limit; a longer one is told at once, and nothing is sent.
    pub(super) async fn pass(&self) -> Result<(), ApiError> {
        loop {
            let until = self.state().until;
            let Some(left) = until.map(|until| until.saturating_duration_since(Instant::now()))
            else {
                return Ok(());
            };
            if left.is_zero() {
                self.state().until = None;
            } else if left > PATIENCE {
                return Err(ApiError::Limited { seconds: left.as_secs().max(1) });
            } else {
                tokio::time::sleep(left).await;
            }
        }
    }

    /// A place among the calls under way.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.room.acquire().await.ok()
    }

    /// A writer's turn: one at a time, with a pause between.
    pub(super) async fn write(&self) -> MutexGuard<'_, Option<Instant>> {
        let mut last = self.writes.lock().await;
        if let Some(at) = *last {
            tokio::time::sleep_until(at + BETWEEN_WRITES).await;
        }
        *last = Some(Instant::now());
        last
    }

    /// Everybody waits.
    pub(super) fn wait(&self, action: ApiAction) -> ApiError {
        let mut state = self.state();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let seconds = match action {
            ApiAction::Wait(seconds) => u64::try_from(seconds).unwrap_or(FIRST),
            // A little longer than told, so that not everybody comes at the same second.
            ApiAction::WaitUntil(at) => {
                u64::try_from(at).unwrap_or(now).saturating_sub(now)
                    + 1
                    + u64::from(std::process::id()) % 5
            }
            _ => {
                let seconds = FIRST << state.doubled.min(6);
                state.doubled += 1;
                seconds
            }
        };
        let seconds = seconds.clamp(1, LONGEST);
        let until = Instant::now() + Duration::from_secs(seconds);
        state.until = Some(state.until.map_or(until, |known| known.max(until)));
        ApiError::Limited { seconds }
    }

    /// An answer came as it should.
    pub(super) fn good(&self) {
        self.state().doubled = 0;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.locked()
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
    async fn a_limit_holds_everybody_and_doubles() {
        let governor = Governor::default();
        assert!(governor.pass().await.is_ok());
        assert_eq!(seconds(&governor.wait(ApiAction::WaitDoubling)), 60);
        assert_eq!(seconds(&governor.wait(ApiAction::WaitDoubling)), 120);
        governor.good();
        assert_eq!(seconds(&governor.wait(ApiAction::WaitDoubling)), 60);
        let left = seconds(&governor.pass().await.unwrap_err());
        assert!((115..=120).contains(&left), "the longest of them counts: {left}");
    }
}
