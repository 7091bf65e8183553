//! Landlock: the kernel's own list of what a program may read and write, by path.

use std::path::Path;

use ::landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use super::WallError;

/// The rights that are asked for: the first version that keeps abstract sockets and signals out.
const NEWEST: ABI = ABI::V6;

/// Restricts this thread and all that it starts to reading and executing below `read`, and to
/// everything below `write`. Abstract sockets and processes outside are out of reach. Where nothing
/// else stands, every right is `required`; otherwise an older kernel enforces those that it knows.
///
/// # Errors
/// The kernel has no Landlock, or not all that is required, or a rule can't be added.
pub(super) fn restrict<'a>(
    required: bool,
    read: impl IntoIterator<Item = &'a Path>,
    write: impl IntoIterator<Item = &'a Path>,
) -> Result<(), WallError> {
    let every = AccessFs::from_all(NEWEST);
    let mut rules = Ruleset::default()
        .set_compatibility(if required {
            CompatLevel::HardRequirement
        } else {
            CompatLevel::BestEffort
        })
        .handle_access(every)?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let read = read.into_iter().map(|path| (path, AccessFs::from_read(NEWEST)));
    for (path, access) in read.chain(write.into_iter().map(|path| (path, every))) {
        // A path that can't be opened can't be reached either.
        let Ok(opened) = PathFd::new(path) else { continue };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
        rules = rules.add_rule(PathBeneath::new(opened, access))?;
    }
    let status = rules.restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(WallError::NoLandlock);
    }
    Ok(())
}
