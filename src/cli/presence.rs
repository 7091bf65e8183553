//! `afk presence`: the people and agents that work on this instance, as JSON. The runtime writes the
//! file; this command only prints it.

use super::instance::InstanceArgs;
use super::terminal::print_json_text;
use crate::error::{Failure, FailureKind};
use crate::runtime::presence;

pub(super) fn run(instance: &InstanceArgs) -> Result<(), Failure> {
    let path = presence::path(&instance.paths()?.state);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::new(FailureKind::Busy, path.display())
            .because(error)
            .hint("start afk with `afk` or `afk up`")
    })?;
    // Its titles come from outside.
    print_json_text(text.trim_end());
    Ok(())
}
