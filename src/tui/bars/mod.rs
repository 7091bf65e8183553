//! The lines around the panes: header and problems above, tabs, footer below.

pub(crate) mod footer;
pub(crate) mod header;
pub(crate) mod notice;
pub(crate) mod past;
pub(crate) mod tabs;
