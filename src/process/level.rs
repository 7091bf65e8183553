//! Finds out which level of the wall this machine allows, by trying it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::launch;
use crate::sandbox::{Level, Sandbox};

/// The level that works here, and why those above it don't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The strongest level that works.
    pub level: Level,
    /// A line for each stronger level, with its cause.
    pub refused: Vec<String>,
}

impl Probe {
    /// The level in force, if `wanted` is the configured one.
    ///
    /// # Errors
    /// A line that says why that level doesn't work here, or that none does.
    pub(crate) fn in_force(&self, wanted: Option<Level>) -> Result<Level, String> {
        let (found, causes) = (self.level, self.refused.join("; "));
        match wanted {
            None if found == Level::None => Err(format!(
                "no level of the sandbox works here ({causes}): see docs/security.md, or write \
                 sandbox.level = \"none\" to let programs have every right of this user"
            )),
            Some(wanted) if found < wanted => {
                Err(format!("sandbox.level is {wanted}, and this machine allows {found}: {causes}"))
            }
            wanted => Ok(wanted.unwrap_or(found)),
        }
    }
}

/// Tries each level with a program that only ends, from the strongest down.
#[must_use]
pub fn strongest(launcher: &Path) -> Probe {
    let mut refused = Vec::new();
    for level in [Level::Strong, Level::Landlock] {
        match attempt(launcher, level) {
            Ok(()) => return Probe { level, refused },
            Err(why) => refused.push(format!("{level}: {why}")),
        }
    }
    Probe { level: Level::None, refused }
}

/// Runs `/bin/true` at a level.
fn attempt(launcher: &Path, level: Level) -> Result<(), String> {
    let sandbox = Sandbox::granting_nothing(level);
    let plan = serde_json::to_string(&sandbox).map_err(|error| error.to_string())?;
    let output = Command::new(launcher)
        .args([launch::WORD, launch::SANDBOX, &plan, "/bin/true"])
        .current_dir("/")
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().next().unwrap_or_default();
    Err(crate::core::model::untrusted::clean_line(line.trim_start_matches("afk: ")))
}
