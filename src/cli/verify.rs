//! `afk verify`: walks the journal's hash chain and names the first broken link.

use super::place::PlaceArgs;
use crate::error::{Failure, FailureKind};
use crate::journal::{Journal, chain};

/// Runs the command; afk may run meanwhile.
///
/// # Errors
/// [`Failure`] where a link is broken.
pub fn run(place: &PlaceArgs) -> Result<(), Failure> {
    let journal = Journal::open_read_only(&place.paths()?.state)?;
    match chain::verify(&journal)? {
        Ok(count) => {
            super::say(&format!("{count} records, every link holds"));
            Ok(())
        }
        Err(broken) => Err(Failure::new(FailureKind::Negative, broken).hint(
            "records before it are as they were written; what comes from it on is not proved",
        )),
    }
}
