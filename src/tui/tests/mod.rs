//! Tests of the cockpit without a terminal: typed keys on a snapshot give requests, and every
//! component is held against its picture.

mod breakglass_agent;
mod counts;
mod fixture;
mod inbox;
mod keymaps;
mod looks;
mod overlays;
mod panes;
mod past;
mod pictures;
mod queue;
mod reading;
mod routing;
mod script;
mod views;
