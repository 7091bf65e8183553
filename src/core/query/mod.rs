//! Read-only questions about a fleet: whether an issue may start, why an issue or a run is in its
//! state, what the progress comment says, and whether the invariants hold. The step, the runtime, the
//! screen and the command line ask them. `brief`, `landmark` and `span` are questions about a stretch of
//! the journal, which they fold.

pub mod brief;
pub mod condition;
pub mod dispatch;
pub mod explain;
pub mod invariant;
pub mod landmark;
pub mod outbox;
pub mod progress;
pub mod span;
