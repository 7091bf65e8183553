//! Questions about a fleet that change nothing: whether an issue may start, why something stands
//! where it stands, what the progress comment says, and whether the invariants hold.

pub mod dispatch;
pub mod explain;
pub mod invariant;
pub mod progress;
