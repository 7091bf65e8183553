//! Tests of the cockpit without a terminal: typed keys on a snapshot give requests, and every
//! component is held against its picture.

mod fixture;
mod keymaps;
mod overlays;
mod panes;
mod pictures;
mod routing;
mod script;
