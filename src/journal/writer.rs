//! The journal's own thread: batches in, one sync each, an answer when it is on the disk.

use std::sync::Arc;
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::{Journal, JournalError};
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;

type Batch = (Arc<[(Timestamp, Event)]>, oneshot::Sender<Result<(), JournalError>>);

/// A handle to the thread; the thread ends, and the lock is freed, when it is dropped.
#[derive(Debug)]
pub struct Writer {
    batches: Option<mpsc::Sender<Batch>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    /// Gives the journal a thread.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub fn start(mut journal: Journal) -> std::io::Result<Self> {
        let (batches, mut queue) = mpsc::channel::<Batch>(1);
        let thread = thread::Builder::new().name("journal".into()).spawn(move || {
            while let Some((batch, done)) = queue.blocking_recv() {
                // A caller that went away has nothing to be told.
                let _ = done.send(journal.append(&batch));
            }
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Appends a batch; on the disk when this returns.
    ///
    /// # Errors
    /// [`JournalError`].
    pub async fn append(&self, batch: Arc<[(Timestamp, Event)]>) -> Result<(), JournalError> {
        let gone = || JournalError::Unreadable { seq: 0, why: "its thread has ended".into() };
        let (done, answer) = oneshot::channel();
        let batches = self.batches.as_ref().ok_or_else(gone)?;
        batches.send((batch, done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.batches.take();
        if let Some(thread) = self.thread.take() {
            // A panic in the thread was reported by its hook.
            let _ = thread.join();
        }
    }
}
