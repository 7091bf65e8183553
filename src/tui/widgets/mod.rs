//! Small pieces that several panes are made of.

pub mod list;
pub mod text;
