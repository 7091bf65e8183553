//! The messages of the event loop, and the sizes of its queues.
//!
//! Two queues lead to the loop. The loop reads the ordinary one only while the journal can be
//! written; it reads the urgent one, which carries breakglass, at any time.

use tokio::sync::oneshot;

use super::rights::Rights;
use crate::core::model::command::{CommandEnvelope, Reply};
use crate::core::model::input::Input;

/// Messages that may wait in the ordinary queue; a sender beyond them waits as well.
pub(super) const INPUT_QUEUE: usize = 4096;
/// Messages that may wait in the urgent queue.
pub(super) const URGENT_QUEUE: usize = 256;

/// What a probe learns of the loop that answered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LoopState {
    /// Whether the journal can be written.
    pub writes_journal: bool,
}

/// One message to the [event loop](super::event_loop).
#[derive(Debug)]
pub(crate) enum LoopMessage {
    /// A fact for the core to step through.
    Input(Box<Input>),
    /// A command of a client, whose rights count when it is applied; the loop replies once the events it
    /// led to are durable.
    Command(CommandEnvelope, Rights, oneshot::Sender<Reply>),
    /// A probe asks whether the loop works.
    Probe(oneshot::Sender<LoopState>),
    /// The [side state](super::side_state) changed, and the next snapshot must include it.
    SideStateChanged,
}
