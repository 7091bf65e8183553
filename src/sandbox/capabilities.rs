//! The capabilities of a program behind the wall: none.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::WallError;

/// Lets this process's next program keep the capabilities of the user namespace, which an ordinary
/// user loses when it starts a program.
pub(super) fn keep_for_next_program() -> Result<(), WallError> {
    let keep = || {
        let held = capabilities(None)?;
        set_capabilities(None, CapabilitySets { inheritable: held.permitted, ..held })?;
        for capability in held.permitted.iter() {
            match configure_capability_in_ambient_set(capability, true) {
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    };
    keep().map_err(WallError::step::<Errno>("keep capabilities"))
}

/// Gives up every capability, also for programs to come.
pub(super) fn give_up() -> Result<(), WallError> {
    let give_up = || {
        let held = capabilities(None)?;
        // Without this capability nothing can be removed, and a program gains none either.
        if held.effective.contains(CapabilitySet::SETPCAP) {
            for capability in CapabilitySet::all().iter() {
                match remove_capability_from_bounding_set(capability) {
                    // A capability that this kernel doesn't know.
                    Ok(()) | Err(Errno::INVAL) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let none = CapabilitySet::empty();
        set_capabilities(
            None,
            CapabilitySets { effective: none, permitted: none, inheritable: none },
        )?;
        set_no_new_privs(true)
    };
    give_up().map_err(WallError::step::<Errno>("give up capabilities"))
}
