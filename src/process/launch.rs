//! The launcher: afk itself under a hidden first argument. It hides paths, starts a session and
//! replaces itself by the program.
//!
//! `posix_spawn` can't start a session, and a `pre_exec` closure would fork our whole memory on the
//! hot path. This small step in between costs about a millisecond. `main` calls [`become_program`]
//! before it does anything else; `afk doctor` starts it to test that paths can be hidden.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use super::{hide, marks};

/// The first argument that makes afk the launcher.
pub const WORD: &str = "__launch";

/// The option in front of each path that the program must not reach.
pub(crate) const HIDE: &str = "--hide";

/// Becomes the program. Returns only where that fails, with the exit code that a shell would give:
/// 127 for a missing program, 126 for one that can't be executed, 125 where a path can't be hidden.
#[must_use]
pub fn become_program(mut args: impl Iterator<Item = OsString>) -> i32 {
    let mut hidden = Vec::new();
    let program = loop {
        match args.next() {
            None => return 2,
            Some(word) if word == HIDE => hidden.extend(args.next().map(PathBuf::from)),
            Some(program) => break program,
        }
    };
    if let Err(why) = hide::hide(&hidden) {
        complain(&format!(
            "breakglass keys can't be hidden from this program ({why}), so it was not started; see \
             docs/breakglass.md"
        ));
        return 125;
    }
    // Fails only for the leader of a process group, and a fresh child is none.
    let session = rustix::process::setsid();
    let leader = super::procfs::own_pid().to_string();
    let error = Command::new(&program).args(args).env(marks::LEADER, leader).exec();
    let name = program.to_string_lossy().into_owned();
    let name = crate::core::model::untrusted::clean_line(&name);
    complain(&format!("{name} can't be started: {error}"));
    match (session, error.kind()) {
        (_, std::io::ErrorKind::NotFound) => 127,
        _ => 126,
    }
}

fn complain(line: &str) {
    let mut stderr = std::io::stderr();
    // The pipe may be closed already; the exit code then still reports the failure.
    let _ = std::io::Write::write_fmt(&mut stderr, format_args!("afk: {line}\n"));
}
