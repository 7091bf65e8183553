//! `afk presence`: who and what is working where, as JSON.

use super::place::PlaceArgs;
use crate::error::{Failure, FailureKind};
use crate::runtime::presence;

/// Prints what the afk that runs has written last.
///
/// # Errors
/// [`Failure`] where none has run here.
pub fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let path = presence::path(&place.paths()?.state);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(FailureKind::Busy, path.display())
            .because(error)
            .hint("start afk: `afk` or `afk up`")
    })?;
    super::say(text.trim_end());
    Ok(())
}
