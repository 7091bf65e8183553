//! Writes the journal on a thread of its own, so that a sync never blocks the runtime's event loop.
//!
//! The runtime sends a batch, the thread appends it with one sync, and the result comes back when
//! the batch is durable.

use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::anchor::{Anchor, Anchoring};
use super::{Journal, JournalError};
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;

type WriteRequest = (Arc<[(Timestamp, Event)]>, oneshot::Sender<Result<(), JournalError>>);

/// A handle to the thread. Dropping it ends the thread and releases the journal's lock.
#[derive(Debug)]
pub struct Writer {
    requests: Option<mpsc::Sender<WriteRequest>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Moves the journal to a new thread.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(journal: Journal) -> std::io::Result<Self> {
        Self::start_anchored(journal, None)
    }

    /// The same, with an anchor for the head after each batch.
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start_anchored(
        mut journal: Journal,
        anchor: Option<Anchor>,
    ) -> std::io::Result<Self> {
        let anchoring = anchor.map(Anchoring::start).transpose()?;
        let (requests, mut queue) = mpsc::channel::<WriteRequest>(1);
        let thread = thread::Builder::new().name("journal".into()).spawn(move || {
            while let Some((batch, done)) = queue.blocking_recv() {
                let appended = journal.append(&batch);
                let is_durable = appended.is_ok();
                // The caller may have stopped waiting.
                let _ = done.send(appended);
                if let Some(anchoring) = anchoring.as_ref().filter(|_| is_durable) {
                    anchoring.anchor(&journal);
                }
            }
        })?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// Appends a batch; on the disk when this returns.
    pub async fn append(&self, batch: Arc<[(Timestamp, Event)]>) -> Result<(), JournalError> {
        let (done, result) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(JournalError::WriterEnded)?;
        requests.send((batch, done)).await.map_err(|_| JournalError::WriterEnded)?;
        result.await.map_err(|_| JournalError::WriterEnded)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests.take();
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic of the thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::id::Actor;

    fn batch() -> Arc<[(Timestamp, Event)]> {
        [(Timestamp(1), Event::Capacity { permits: 1, by: Actor("ana".into()) })].into()
    }

    #[tokio::test]
    async fn batch_is_acknowledged_once_the_journal_has_it_and_never_without() {
        let state = tempfile::tempdir().unwrap();
        let writer = Writer::start(Journal::open(state.path()).unwrap()).unwrap();
        writer.append(batch()).await.unwrap();
        assert_eq!(Journal::open_read_only(state.path()).unwrap().last(), 1);
        drop(writer);
        let journal = Journal::open(state.path()).unwrap();
        journal.db.execute_batch("PRAGMA query_only = ON").unwrap();
        let writer = Writer::start(journal).unwrap();
        writer.append(batch()).await.unwrap_err();
        drop(writer);
        assert_eq!(Journal::open_read_only(state.path()).unwrap().last(), 1);
    }
}
