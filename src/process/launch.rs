//! The launcher: afk itself under a hidden first argument. It enters the program's
//! control group, hides paths or builds a sandbox, starts a session and replaces itself by the program.
//!
//! `posix_spawn` can't start a session, and a `pre_exec` closure would fork our whole memory on the
//! hot path. The small program `afk-launch` beside afk takes its place where it is there: it loads
//! faster. `main` calls [`become_launcher_or_init`] before it does anything else; `afk doctor` starts
//! the launcher to test what it can do here.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{descriptors, hide, marks};
use crate::error::chain;
use crate::sandbox::cgroup::ProgramGroup;
use crate::sandbox::{self, Level, Sandbox};

/// The first argument that makes afk the launcher.
pub const WORD: &str = "__launch";

/// The option in front of each path that the program must not reach.
pub(crate) const HIDE: &str = "--hide";
/// The option in front of the soft limit of file descriptors.
pub(super) const DESCRIPTORS: &str = "--descriptors";
/// The option in front of the folder of the program's control group.
pub(super) const GROUP: &str = "--group";
/// The option in front of a [`Sandbox`] in JSON.
pub(crate) const SANDBOX: &str = "--sandbox";

/// The version of the launcher; a launcher of another one is never used.
pub const VERSION: &str = concat!("afk-launch ", env!("CARGO_PKG_VERSION"));
/// The name of the small program that does nothing else than launch.
const PROGRAM: &str = "afk-launch";

/// Becomes what the first argument asks for: the launcher, or the init of a sandbox. None if it asks
/// for neither.
#[must_use]
pub fn become_launcher_or_init(
    word: Option<&OsStr>,
    args: impl Iterator<Item = OsString>,
) -> Option<i32> {
    match word {
        Some(word) if word == WORD => Some(become_program(args)),
        Some(word) if word == sandbox::INIT_WORD => Some(sandbox::become_init(args)),
        _ => None,
    }
}

/// The program that launches for the afk program `afk`: `afk-launch` beside it, if that has the same
/// owner and the same version, and otherwise afk itself. The small program loads in a fraction of the
/// time.
pub(super) fn launcher_of(afk: &Path) -> PathBuf {
    let small = afk.with_file_name(PROGRAM);
    let owner = |path: &Path| {
        let meta = path.symlink_metadata().ok()?;
        meta.is_file().then(|| meta.uid())
    };
    let writable = |path: &Path| path.metadata().is_ok_and(|meta| meta.mode() & 0o022 != 0);
    if owner(&small).is_none() || owner(&small) != owner(afk) || writable(&small) {
        return afk.to_owned();
    }
    let version = Command::new(&small).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let fits = version.is_ok_and(|output| output.stdout.trim_ascii_end() == VERSION.as_bytes());
    if fits { small } else { afk.to_owned() }
}

/// Becomes the program, or runs it behind the wall and returns its exit code. Where it can't be
/// started, the exit code is one that a shell would give: 127 for a missing program, 126 for one
/// that can't be executed, 125 where a path can't be hidden or the wall can't be built.
#[must_use]
pub fn become_program(mut args: impl Iterator<Item = OsString>) -> i32 {
    let mut hidden = Vec::new();
    let mut plan = None;
    let program = loop {
        match args.next() {
            None => return 2,
            Some(word) if word == HIDE => hidden.extend(args.next().map(PathBuf::from)),
            Some(word) if word == SANDBOX && plan.is_none() => plan = args.next(),
            Some(word) if word == GROUP => {
                // A program outside of its group would have no limits.
                let entered = args.next().map(|folder| ProgramGroup::enter(Path::new(&folder)));
                if let Some(Err(error)) = entered {
                    complain(&format!("enter the control group: {}", chain(&error)));
                    return 125;
                }
            }
            Some(word) if word == DESCRIPTORS => {
                let soft = args.next().and_then(|soft| soft.to_str()?.parse().ok());
                soft.into_iter().for_each(descriptors::lower_limit);
            }
            Some(program) => break program,
        }
    };
    let sandbox = match plan.map(|plan| read(&plan)).transpose() {
        Ok(sandbox) => sandbox.filter(|sandbox| sandbox.level != Level::None),
        Err(why) => {
            complain(&why);
            return 125;
        }
    };
    // Fails only for the leader of a process group, and a fresh child is none.
    let session = rustix::process::setsid();
    if let Some(sandbox) = sandbox {
        if let Err(error) = close_inherited() {
            complain(&format!("can't close inherited files: {error}; the program was not started"));
            return 125;
        }
        let args: Vec<OsString> = args.collect();
        return sandbox::become_program(&sandbox, &program, &args).unwrap_or_else(|error| {
            complain(&format!("{}; the program was not started", chain(&error)));
            125
        });
    }
    if let Err(why) = hide::hide(&hidden) {
        complain(&format!(
            "breakglass keys can't be hidden from this program ({why}), so it was not started; see \
             docs/breakglass.md"
        ));
        return 125;
    }
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

/// Closes every file beside the three standard streams. The program that started afk may have left
/// some open, and each of them would lead through the wall. This process has just begun, and has none
/// of its own.
fn close_inherited() -> std::io::Result<()> {
    let mut numbers: Vec<i32> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    for number in numbers.into_iter().filter(|number| *number > 2) {
        match nix::unistd::close(number) {
            // The list itself was open while it was read, and isn't any more.
            Ok(()) | Err(nix::errno::Errno::EBADF | nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads the description of a sandbox.
fn read(plan: &std::ffi::OsStr) -> Result<Sandbox, String> {
    let plan = plan.to_str().ok_or("the sandbox isn't described in UTF-8")?;
    serde_json::from_str(plan).map_err(|error| format!("the sandbox can't be read: {error}"))
}

fn complain(line: &str) {
    let mut stderr = std::io::stderr();
    // The pipe may be closed already; the exit code then still reports the failure.
    let _ = std::io::Write::write_fmt(&mut stderr, format_args!("afk: {line}\n"));
}
