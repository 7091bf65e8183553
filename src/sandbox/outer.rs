//! The process between the supervisor and a sandbox: it enters the namespaces, starts init in
//! them, and lives exactly as long as init.
//!
//! It also watches afk: once afk is gone, it ends init, and the kernel ends everything below.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{
    INIT_WORD, Level, Sandbox, WallError, capabilities, landlock, loopback, namespaces, root,
    seccomp,
};

/// Runs a program behind the wall. Returns its exit code, or 128 and the number of the signal that
/// ended it; where the launcher itself becomes the program, it returns only with an error.
pub(crate) fn become_program(
    sandbox: &Sandbox,
    program: &OsStr,
    args: &[OsString],
) -> Result<i32, WallError> {
    match sandbox.level {
        Level::Strong if sandbox.leaves_children => {
            if sandbox.proxy.is_some() {
                // The relay to the proxy lives in init.
                let why = "what outlives its command has no egress proxy; set deploy.network";
                return Err(WallError::step("keep the network policy")(io::Error::other(why)));
            }
            namespaces::enter(sandbox)?;
            let writable = root::enter(sandbox)?;
            restrict(sandbox, &writable)?;
            Err(exec(Command::new(program).args(args)))
        }
        Level::Strong => below_init(sandbox, program, args),
        Level::Landlock if sandbox.network != super::NetworkPolicy::Full => {
            let why = "it needs a network namespace, and so the level strong";
            Err(WallError::step("keep the network policy")(io::Error::other(why)))
        }
        Level::Landlock => {
            capabilities::give_up()?;
            root::restrict_paths(sandbox)?;
            seccomp::restrict()?;
            let mut command = Command::new(program);
            command.args(args);
            for (name, folder) in [("HOME", &sandbox.home), ("TMPDIR", &sandbox.temporary)] {
                // Without a folder of its own, nothing of the user's serves in its place.
                command.env(name, folder.as_deref().unwrap_or(Path::new("/nonexistent")));
            }
            Err(exec(&mut command))
        }
        Level::None => Err(exec(Command::new(program).args(args))),
    }
}

/// The restrictions that come after the new root, in the order in which the kernel permits them.
pub(super) fn restrict(sandbox: &Sandbox, writable: &[PathBuf]) -> Result<(), WallError> {
    if sandbox.network != super::NetworkPolicy::Full {
        loopback::bring_up()?;
    }
    capabilities::give_up()?;
    landlock::restrict(false, [Path::new("/")], writable.iter().map(PathBuf::as_path))?;
    seccomp::restrict()
}

fn exec(command: &mut Command) -> WallError {
    let source = command.exec();
    let name = command.get_program().to_string_lossy();
    let name = crate::core::model::untrusted::clean_line(&name);
    WallError::Step { step: format!("start {name}"), source }
}

/// Starts init and waits until it ends.
fn below_init(sandbox: &Sandbox, program: &OsStr, args: &[OsString]) -> Result<i32, WallError> {
    // Opened first: a parent that ends from now on is noticed.
    let parent = rustix::process::getppid().map(|parent| pidfd_open(parent, PidfdFlags::empty()));
    let afk = match parent {
        Some(Ok(afk)) => Some(afk),
        // afk is gone already.
        Some(Err(rustix::io::Errno::SRCH)) => return Ok(128 + Signal::KILL.as_raw()),
        // Outside of our PID namespace, or on a kernel without descriptors of processes.
        Some(Err(_)) | None => None,
    };
    namespaces::enter(sandbox)?;
    capabilities::keep_for_next_program()?;
    let plan = serde_json::to_string(sandbox)
        .map_err(|error| WallError::step("describe the sandbox")(io::Error::other(error)))?;
    let own = std::process::id().to_string();
    let mut init = Command::new("/proc/self/exe")
        .arg(INIT_WORD)
        .args([own, plan])
        .arg(program)
        .args(args)
        .spawn()
        .map_err(WallError::step("start the sandbox's init"))?;
    // TERM is for the program. This process only ever follows init, which nothing but KILL ends.
    let all = nix::sys::signal::SigSet::all();
    all.thread_block().map_err(WallError::step("block signals"))?;
    // Ours are the pipes of the program: who reads them waits for the program alone.
    close_standard_streams();
    let child = i32::try_from(init.id()).ok().and_then(Pid::from_raw);
    let child = child.and_then(|child| pidfd_open(child, PidfdFlags::empty()).ok());
    if let (Some(afk), Some(child)) = (&afk, &child) {
        loop {
            let mut fds = [PollFd::new(afk, PollFlags::IN), PollFd::new(child, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
                Ok(_) if !fds[1].revents().is_empty() => break,
                Ok(_) => {
                    // An error means that init has ended by itself.
                    let _ = pidfd_send_signal(child, Signal::KILL);
                    break;
                }
            }
        }
    }
    let status = init.wait().map_err(WallError::step("wait for the sandbox's init"))?;
    Ok(status.code().unwrap_or(128 + Signal::KILL.as_raw()))
}

/// Points the three standard streams at `/dev/null`. A failure only leaves the pipes open longer.
pub(super) fn close_standard_streams() {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null");
    if let Ok(null) = null {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
