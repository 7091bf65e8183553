//! Shared pieces of drawing: panes and overlays are made of them and own none of them.

pub(crate) mod boxes;
pub(crate) mod lines;
pub(crate) mod list;
pub(crate) mod marks;
pub(crate) mod scroll;
pub(crate) mod scrollbar;
pub(crate) mod span;
pub(crate) mod text;
