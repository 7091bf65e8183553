//! A batch before and while the journal writes it, with everything that waits for its end.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::core::model::command::Reply;
use crate::core::model::effect::Effect;
use crate::core::model::event::Event;
use crate::core::model::time::Timestamp;
use crate::runtime::prepared_effect::PreparedEffect;
use crate::runtime::{Batch, Snapshot};

/// The results of every step since the last batch.
#[derive(Default)]
pub(super) struct NextBatch {
    pub events: Vec<(Timestamp, Event)>,
    pub effects: Vec<Effect>,
    pub replies: Vec<PendingReply>,
}

impl NextBatch {
    pub(super) const fn is_empty(&self) -> bool {
        self.events.is_empty() && self.effects.is_empty() && self.replies.is_empty()
    }
}

/// A batch that the journal is writing. Its effects were prepared when it was complete, because the
/// fleet steps on meanwhile.
pub(super) struct BatchInFlight {
    pub batch: Batch,
    pub effects: Vec<PreparedEffect>,
    pub replies: Vec<PendingReply>,
    /// The state after this batch, if a snapshot was due.
    pub snapshot: Option<Arc<Snapshot>>,
}

/// A reply to a command that waits until its events are durable.
pub(super) struct PendingReply {
    pub to: oneshot::Sender<Reply>,
    pub reply: Reply,
    /// The reply does not wait for a journal that can't be written.
    pub is_breakglass: bool,
}

impl PendingReply {
    pub(super) fn send(self) {
        // The client may have gone away.
        let _ = self.to.send(self.reply);
    }
}
