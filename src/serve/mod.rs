//! The ways in for other programs. Each one turns requests into commands of the runtime's
//! [`crate::runtime::Handle`], and snapshots and events into answers; `afk up` starts them.
//!
//! ```text
//! afk, afk attach, dash … ── JSON lines, Unix socket ──▶ attach ──┐
//! scripts, callers of jobs ── HTTP, bearer tokens ─────▶ http   ──┼─▶ Handle ──▶ runtime, core
//! any ssh client ── SSH, one cockpit per channel ──────▶ ssh    ──┘
//! ```
//!
//! Each way in proves who its caller is and which role the caller has. The core alone decides what
//! that role permits. `limits` bounds the connections of each way.

pub mod attach;
pub mod http;
mod limits;
mod own_process;
pub mod ssh;
