//! The instance of afk that a command addresses, by its configuration file and its state folder.

use std::path::{Path, PathBuf};

use clap::Args;

use super::log::Verbosity;
use crate::config::Config;
use crate::config::paths::Paths;
use crate::core::fleet::Fleet;
use crate::error::{Failure, FailureKind};
use crate::journal::{Journal, completeness};

/// The flags that select an instance; every subcommand accepts them.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct InstanceArgs {
    /// The configuration file [default: `$AFK_CONFIG`, or afk/afk.toml in the configuration folder]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The state folder [default: `$AFK_STATE_DIR`, or afk in the state folder]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
    /// Log more: twice for every detail; `AFK_LOG` overrides it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log less: once for warnings and errors, twice for errors alone
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    quiet: u8,
}

pub(super) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The failure of a command that needs a configuration where there is none.
pub(super) fn no_file(path: &Path) -> Failure {
    let why = format!("there is no {}", path.display());
    Failure::new(FailureKind::Configuration, why).hint(
        "`afk init` writes one for the repository you are in; `afk demo` needs none, and a service needs \
         only its environment (docs/earlier-service.md)",
    )
}

impl InstanceArgs {
    /// How much the log has.
    pub(super) const fn verbosity(&self) -> Verbosity {
        Verbosity { verbose: self.verbose, quiet: self.quiet }
    }

    /// The instance of these flags, as a command line gives them.
    pub(super) const fn of(config: Option<PathBuf>, state: Option<PathBuf>) -> Self {
        Self { config, state, verbose: 0, quiet: 0 }
    }

    /// The paths by flags, environment variables and defaults. They are absolute, since children work
    /// in other folders.
    pub(super) fn paths(&self) -> Result<Paths, Failure> {
        let default = Paths::find(&env);
        let config = self.config.as_ref().or(default.as_ref().map(|paths| &paths.config));
        let state = self.state.as_ref().or(default.as_ref().map(|paths| &paths.state));
        let (Some(config), Some(state)) = (config, state) else {
            return Err(Failure::new(FailureKind::Usage, "there is no home folder")
                .hint("set HOME, or give --config and --state"));
        };
        Ok(Paths { config: std::path::absolute(config)?, state: std::path::absolute(state)? })
    }

    /// Loads the configuration.
    pub(super) fn load(&self) -> Result<(Config, Paths), Failure> {
        let paths = self.paths()?;
        if self.needs_no_file(&paths) {
            return Ok((Config::of_environment(&env)?, paths));
        }
        if !paths.config.exists() {
            return Err(no_file(&paths.config));
        }
        Ok((Config::load(&paths.config, &env)?, paths))
    }

    /// Whether there is no file at the usual place, nobody named one, and the environment describes a
    /// whole service.
    pub(super) fn needs_no_file(&self, paths: &Paths) -> bool {
        let is_named =
            self.config.is_some() || env("AFK_CONFIG").is_some_and(|name| !name.is_empty());
        !is_named && !paths.config.exists() && Config::is_in_environment(&env)
    }

    /// Folds the journal into the fleet that it records; afk may run meanwhile.
    pub(super) fn fleet(&self) -> Result<Fleet, Failure> {
        let state = self.paths()?.state;
        completeness::check(&state)?;
        Ok(Journal::open_read_only(&state)?.fold()?)
    }
}

/// The failure of a state folder that can't be written.
pub(super) fn unwritable(
    state: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Failure {
    Failure::new(FailureKind::System, state.display())
        .because(error)
        .hint("check that the state folder can be written")
}
