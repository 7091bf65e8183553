//! Whether the journal is idle, writing, or failing, and when that changes.

use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep_until};

use crate::journal::JournalError;

/// The time between two attempts to write a batch that failed.
pub(super) const JOURNAL_RETRY: Duration = Duration::from_secs(2);
/// How long a write may take before breakglass goes on without the journal. It is longer than
/// SQLite waits for a lock.
pub(super) const JOURNAL_SILENCE: Duration = Duration::from_secs(8);

/// The state of the journal as the loop sees it.
pub(super) enum JournalState {
    /// Nothing waits to be written.
    Idle,
    /// The writer has a batch.
    Writing {
        append: BoxFuture<'static, Result<(), JournalError>>,
        /// When the loop reports the journal as silent; none once it has.
        silence_ends: Option<Instant>,
    },
    /// The last write failed.
    Failed { retry_at: Instant },
}

impl JournalState {
    /// The clients know that the journal can't be written, and only breakglass goes on.
    pub(super) const fn degraded(&self) -> bool {
        matches!(self, Self::Writing { silence_ends: None, .. } | Self::Failed { .. })
    }

    /// Waits for the next change. Cancelling it loses nothing.
    pub(super) async fn next_event(&mut self) -> JournalEvent {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Writing { append, silence_ends: None } => JournalEvent::Written(append.await),
            Self::Writing { append, silence_ends: Some(silence_ends) } => tokio::select! {
                done = append => JournalEvent::Written(done),
                () = sleep_until(*silence_ends) => JournalEvent::Silent,
            },
            Self::Failed { retry_at } => {
                sleep_until(*retry_at).await;
                JournalEvent::RetryDue
            }
        }
    }
}

/// A change of the [`JournalState`].
pub(super) enum JournalEvent {
    /// The write ended.
    Written(Result<(), JournalError>),
    /// The write has taken longer than [`JOURNAL_SILENCE`].
    Silent,
    /// [`JOURNAL_RETRY`] has elapsed since the failed write.
    RetryDue,
}
