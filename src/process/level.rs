//! Finds out which level of the wall this machine allows, by trying it.

use std::path::Path;
use std::process::{Command, Stdio};

use super::launch;
use crate::sandbox::{Level, NetworkPolicy, Sandbox};

/// The level that works here, and why those above it don't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The strongest level that works.
    pub level: Level,
    /// A line for each stronger level, with its cause.
    pub refused: Vec<String>,
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
    let sandbox = Sandbox {
        level,
        network: NetworkPolicy::Full,
        read: Vec::new(),
        write: Vec::new(),
        hidden: Vec::new(),
        home: None,
        temporary: None,
        proxy: None,
        leaves_children: false,
    };
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
