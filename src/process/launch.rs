//! The launcher: afk itself under a hidden word. It begins a session and becomes the program.
//!
//! `posix_spawn` knows no session, and a `pre_exec` would fork our whole memory on the hot path,
//! so a small program in between does it: about a millisecond.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// First argument of the launcher.
pub const WORD: &str = "__launch";

/// Becomes the program; returns only when that fails, with the exit code that a shell would give.
#[must_use]
pub fn become_program(mut args: impl Iterator<Item = OsString>) -> i32 {
    let Some(program) = args.next() else { return 2 };
    // Fails only for a group's leader, which a fresh child is not.
    let session = rustix::process::setsid();
    let leader = rustix::process::getpid().as_raw_nonzero().to_string();
    let error = Command::new(&program).args(args).env(super::LEADER_NAME, leader).exec();
    let name = program.to_string_lossy().into_owned();
    let name = crate::core::untrusted::clean_line(&name);
    let mut stderr = std::io::stderr();
    let _ = std::io::Write::write_fmt(
        &mut stderr,
        format_args!("afk: {name} can't be started: {error}\n"),
    );
    match (session, error.kind()) {
        (_, std::io::ErrorKind::NotFound) => 127,
        _ => 126,
    }
}
