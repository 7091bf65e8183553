//! Ways in for other programs.

pub mod attach;
pub mod http;
pub mod ssh;
