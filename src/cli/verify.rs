//! `afk verify`: checks the journal's hash chain and names the first broken link. afk may run meanwhile.

use super::instance::InstanceArgs;
use super::terminal::print_line;
use crate::core::model::plural::plural;
use crate::error::{Failure, FailureKind};
use crate::journal::{Journal, chain};

pub(super) fn run(instance: &InstanceArgs) -> Result<(), Failure> {
    let journal = Journal::open_read_only(&instance.paths()?.state)?;
    match chain::verify(&journal)? {
        Ok(count) => {
            print_line(&format!("{}, every link holds", plural(count, "record")));
            Ok(())
        }
        Err(broken) => Err(Failure::new(FailureKind::Negative, broken).hint(
            "the records before it are as they were written; those from it on are not proved",
        )),
    }
}
