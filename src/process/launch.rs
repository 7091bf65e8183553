//! The launcher: afk itself under a hidden word. It begins a session and becomes the program.
//!
//! `posix_spawn` knows no session, and a `pre_exec` would fork our whole memory on the hot path,
//! so a small program in between does it: about a millisecond.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// First argument of the launcher.
pub const WORD: &str = "__launch";

/// Before each path that the program must not reach.
pub const HIDE: &str = "--hide";

/// Becomes the program; returns only when that fails, with the exit code that a shell would give.
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
    if let Err(why) = super::hide::hide(&hidden) {
        complain(&format!(
            "breakglass keys can't be hidden from this program ({why}), so it was not started; see \
             docs/breakglass.md"
        ));
        return 125;
    }
    // Fails only for a group's leader, which a fresh child is not.
    let session = rustix::process::setsid();
    let leader = rustix::process::getpid().as_raw_nonzero().to_string();
    let error = Command::new(&program).args(args).env(super::LEADER_NAME, leader).exec();
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
    // Nobody may be reading.
    let _ = std::io::Write::write_fmt(&mut stderr, format_args!("afk: {line}\n"));
}
