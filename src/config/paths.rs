//! The paths of the configuration file and of the state folder, by the XDG base directory
//! specification. Every subcommand begins with [`Paths::find`].

use std::path::{Path, PathBuf};

use super::Env;

/// The two paths that belong to one afk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The configuration file, `afk.toml`.
    pub config: PathBuf,
    /// The folder of the journal, transcripts, worktrees and logs.
    pub state: PathBuf,
}

impl Paths {
    /// Looks at `AFK_CONFIG` and `AFK_STATE_DIR`, else `afk/afk.toml` under `XDG_CONFIG_HOME` and `afk`
    /// under `XDG_STATE_HOME`, else under the home folder. `None` if there is no home folder.
    #[must_use]
    pub fn find(env: Env<'_>) -> Option<Self> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = set("HOME");
        let under = |own: Option<PathBuf>, xdg: &str, default: &str, rest: &str| {
            own.or_else(|| set(xdg).map(|folder| folder.join(rest)))
                .or_else(|| home.as_ref().map(|home| home.join(default).join(rest)))
        };
        Some(Self {
            config: under(set("AFK_CONFIG"), "XDG_CONFIG_HOME", ".config", "afk/afk.toml")?,
            state: under(set("AFK_STATE_DIR"), "XDG_STATE_HOME", ".local/state", "afk")?,
        })
    }

    /// The path of the journal's database.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        journal_in(&self.state)
    }
}

/// The path of the journal's database in a state folder.
#[must_use]
pub fn journal_in(state: &Path) -> PathBuf {
    state.join("journal.sqlite")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn afk_variables_override_xdg_and_home() {
        let home = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        let paths = Paths::find(&home).unwrap();
        assert_eq!(paths.config, Path::new("/h/.config/afk/afk.toml"));
        assert_eq!(paths.state, Path::new("/h/.local/state/afk"));
        let own = |name: &str| match name {
            "AFK_STATE_DIR" => Some("/s".to_owned()),
            "XDG_CONFIG_HOME" => Some("/c".to_owned()),
            _ => None,
        };
        let paths = Paths::find(&own).unwrap();
        assert_eq!(paths.config, Path::new("/c/afk/afk.toml"));
        assert_eq!(paths.state, Path::new("/s"));
        assert_eq!(Paths::find(&|_| None), None);
    }
}
