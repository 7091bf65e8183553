//! The check of the wall: it tries forbidden things from behind it, and reports what got through.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{CHECK, CheckResult, Problem, failed, problem};
use crate::config::Config;
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::process::launch;
use crate::process::level::strongest;
use crate::sandbox::cgroup::{CgroupChoice, survey};
use crate::sandbox::{Level, Sandbox};

const HINT: &str = "see \"The wall\" in docs/security.md";

/// The attempt that is judged by the file that it makes: behind a root of its own a program may
/// write at the same path, and nothing outside changes.
const WRITE: &str = "write a file that nothing grants";

/// What the check tries: the words for the report, and a command that prints a line if it works.
/// `$CANARY` is a file that nothing grants, `$CHECKER` the process of the check.
const ATTEMPTS: &[(&str, &str)] = &[
    ("read a file that nothing grants", "cat \"$CANARY\" >/dev/null"),
    ("read a file through another process", "cat \"/proc/$CHECKER/root$CANARY\" >/dev/null"),
    ("read another process's environment", "test -n \"$(tr -d '\\0' < /proc/$CHECKER/environ)\""),
    ("signal another process", "kill -0 \"$CHECKER\""),
    (WRITE, "mkdir -p \"${CANARY%/*}\"; echo x > \"$CANARY.new\""),
    ("write to a folder of the system", "touch /usr/.afk-doctor && rm /usr/.afk-doctor"),
    ("enter another user namespace", "unshare -U true"),
    ("mount a file system", "mount -t tmpfs afk-doctor /mnt"),
];

/// Tries the level in force.
pub(super) async fn check(config: &Config) -> CheckResult {
    if config.sandbox.level == Some(Level::None) {
        return Ok("none, as written in the configuration: programs have every right of this user"
            .to_owned());
    }
    let launcher = crate::cli::own_program().map_err(|failure| problem(chain(&failure), HINT))?;
    let found = strongest(&launcher);
    let level = found.in_force(config.sandbox.level).map_err(|why| problem(why, HINT))?;
    let refused = found.refused.join("; ");
    let through = attempt(&launcher, level).await?;
    if !through.is_empty() {
        return Err(problem(format!("{level}, but a program can {}", through.join(", ")), HINT));
    }
    let weaker = if level < found.level || refused.is_empty() {
        String::new()
    } else {
        format!("; {refused}")
    };
    Ok(format!("{level}: {} forbidden things were tried and refused{weaker}", ATTEMPTS.len()))
}

/// Says which control groups the runtime of a state folder uses, or one that is started here would
/// use. Only a folder that the configuration names must work.
pub(super) fn control_groups(config: &Config, state: &Path) -> CheckResult {
    let choice = &config.sandbox.cgroup;
    let pid = crate::journal::lock::owner(state).and_then(|pid| pid.parse().ok());
    let who = if pid.is_some() { "in use" } else { "for an afk that is started here" };
    match survey(choice, pid) {
        Ok(found) => Ok(format!("{found}, {who}")),
        Err(error) if matches!(choice, CgroupChoice::Folder(_)) => Err(failed(
            &error,
            "make the folder and give it to the user of afk, or remove sandbox.cgroup",
        )),
        Err(error) => Ok(format!("none, {who}: {}", chain(&error))),
    }
}

/// Runs every attempt at a level, and returns those that worked.
async fn attempt(launcher: &Path, level: Level) -> Result<Vec<&'static str>, Problem> {
    let io = |error: std::io::Error| failed(&error, HINT);
    let folder = std::env::temp_dir().join(format!("afk-doctor-{}", std::process::id()));
    let cleared = |folder: &Path| match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    cleared(&folder).map_err(io)?;
    for name in ["work", "home", "tmp", "beside"] {
        std::fs::create_dir_all(folder.join(name)).map_err(io)?;
    }
    let canary = folder.join("beside/canary");
    std::fs::write(&canary, "canary\n").map_err(io)?;
    let sandbox = Sandbox {
        write: vec![folder.join("work")],
        home: Some(folder.join("home")),
        temporary: Some(folder.join("tmp")),
        ..Sandbox::granting_nothing(level)
    };
    let plan = serde_json::to_string(&sandbox).map_err(|error| failed(&error, HINT))?;
    let lines = ATTEMPTS.iter().enumerate().map(|(index, (_, command))| {
        format!("if {{ {command}; }} 2>/dev/null; then echo through {index}; fi")
    });
    let script = lines.chain(["echo tried".to_owned()]).collect::<Vec<_>>().join("\n");
    let mut command = Command::new(launcher);
    command
        .args([launch::WORD, launch::SANDBOX, &plan, "sh", "-c", &script])
        .current_dir(folder.join("work"))
        .env("CANARY", &canary)
        .env("CHECKER", std::process::id().to_string())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(CHECK, command.output()).await;
    let written = folder.join("beside/canary.new").exists();
    cleared(&folder).map_err(io)?;
    let output = match output {
        Ok(output) => output.map_err(io)?,
        Err(_) => return Err(problem(super::no_answer(), HINT)),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains("tried") {
        let why = clean_line(&String::from_utf8_lossy(&output.stderr));
        return Err(problem(format!("{level}: {why}"), HINT));
    }
    let through = said.lines().filter_map(|line| line.strip_prefix("through ")?.parse().ok());
    let through = through.filter_map(|index: usize| ATTEMPTS.get(index)).map(|(name, _)| *name);
    Ok(through.filter(|name| *name != WRITE || written).collect())
}
