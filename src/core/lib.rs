//! The pure core of afk: it decides what happens next, and records why.
//!
//! ```text
//! runtime → Input + Timestamp → step → Events  → journal → Fleet::apply → snapshot
//!                                    → Effects → runtime → Input (the report)
//! ```
//!
//! The runtime calls [`step::step`] with the fleet, a time and one [`model::input::Input`]. It
//! journals the returned events and then carries out the returned effects. The fleet changes only
//! through [`fleet::Fleet::apply`], so that folding a journal rebuilds the same fleet.
//!
//! The core reads no clock, draws no random number, waits for nothing and touches no file. Its few
//! dependencies and `tests/structure/purity.rs` keep it so, and the simulation in `tests/simulation` can therefore
//! run months of fleets in seconds. The rooms, each using only those above it:
//!
//! - [`model`]: the vocabulary, as data
//! - [`tables`]: decision tables that map facts from outside to a meaning
//! - [`fleet`]: the state, and the only code that changes it
//! - [`query`]: questions about a fleet
//! - [`step`]: the events and effects that each input leads to
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod fleet;
pub mod model;
pub mod query;
pub mod step;
pub mod tables;
