//! The pure core: what the fleet is, what may happen next, and why.
//!
//! The runtime calls [`step::step`] with the fleet, a time and one [`model::input::Input`]; it
//! journals the events and carries out the effects that come back. The fleet changes only through
//! [`fleet::Fleet::apply`], so folding a journal gives the same fleet.
//!
//! Nothing in here reads a clock, draws a random number, waits, or touches a file. The package's
//! few dependencies and `tests/it/purity.rs` keep it so. The rooms, from the bottom to the top:
//!
//! - [`model`]: the vocabulary, as data
//! - [`tables`]: what a fact from outside means, one decision table a file
//! - [`fleet`]: the state, and the only code that changes it
//! - [`query`]: questions about a fleet
//! - [`step`]: what each input leads to
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod fleet;
pub mod model;
pub mod query;
pub mod step;
pub mod tables;
