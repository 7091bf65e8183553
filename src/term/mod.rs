//! Everything that knows bytes: keys, the terminal's modes, frames and the wire that carries them.

pub mod emulator;
pub mod encode;
pub mod far;
pub mod frames;
pub mod gate;
pub mod guard;
pub mod key;
pub mod near;
pub mod screen;
pub mod wire;
