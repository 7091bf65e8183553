//! The first process of a sandbox's PID namespace: it builds the wall, starts the program behind
//! it, and reaps what the program leaves behind. Its end ends every process of the namespace.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::Command;

use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};

use super::outer::{close_standard_streams, restrict};
use super::relay::{self, RelayLimits};
use super::{Sandbox, WallError, root};

/// Becomes init and returns the exit code for it: that of the program, 128 and its signal, or the
/// code that a shell gives for a program that can't be started.
#[must_use]
pub fn become_init(mut args: impl Iterator<Item = OsString>) -> i32 {
    let (Some(parent), Some(plan), Some(program)) = (args.next(), args.next(), args.next()) else {
        return 2;
    };
    let args: Vec<OsString> = args.collect();
    let started = set_up(&parent, &plan).and_then(|proxied| {
        let mut command = Command::new(&program);
        command.args(&args);
        if proxied {
            let address = format!("http://127.0.0.1:{}", relay::PORT);
            command.envs(PROXY_VARIABLES.iter().map(|name| (name, &address)));
            command.envs(["NO_PROXY", "no_proxy"].map(|name| (name, OWN_LOOPBACK)));
        }
        command.spawn().map_err(|error| (start_failure(&program, &error), code_of(&error)))
    });
    let child = match started {
        Ok(child) => child,
        Err((why, code)) => {
            let _ = writeln!(io::stderr(), "afk: {why}");
            return code;
        }
    };
    close_standard_streams();
    let program = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if Some(pid) == program => {
                let signal = status.terminating_signal().map(|signal| 128 + signal);
                return status.exit_status().or(signal).unwrap_or(1);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 1,
        }
    }
}

/// The names under which programs look for a proxy.
const PROXY_VARIABLES: &[&str] =
    &["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// What a program behind the wall reaches without the proxy: servers of its own on the loopback device
/// of its own, such as that of opencode.
const OWN_LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// Builds the wall around this process, and says whether the program needs the egress proxy.
fn set_up(parent: &OsString, plan: &OsString) -> Result<bool, (String, i32)> {
    let failed = |error: WallError| (crate::error::chain(&error), 125);
    let refused = |why: &str| (why.to_owned(), 125);
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| failed(WallError::step("follow the launcher's end")(error)))?;
    // A launcher that ended before that call sends no signal any more.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let field = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1));
    if field.map(OsString::from).as_ref() != Some(parent) {
        return Err(refused("the launcher of this sandbox has ended"));
    }
    let plan = plan.to_str().ok_or_else(|| refused("the sandbox isn't described in UTF-8"))?;
    let sandbox: Sandbox =
        serde_json::from_str(plan).map_err(|error| refused(&error.to_string()))?;
    let writable = root::enter(&sandbox).map_err(failed)?;
    restrict(&sandbox, &writable).map_err(failed)?;
    // Otherwise `/proc/1/exe` would lead the program to afk's own file, whose mode it could change.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|error| failed(WallError::step("close this process to others")(error)))?;
    let Some(socket) = sandbox.proxy else { return Ok(false) };
    let listener =
        relay::listen().map_err(WallError::step("listen for the egress proxy")).map_err(failed)?;
    std::thread::spawn(move || relay::serve(&listener, &socket, RelayLimits::default()));
    Ok(true)
}

fn start_failure(program: &OsString, error: &io::Error) -> String {
    let name = crate::core::model::untrusted::clean_line(&program.to_string_lossy());
    format!("{name} can't be started: {error}")
}

fn code_of(error: &io::Error) -> i32 {
    if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 }
}
