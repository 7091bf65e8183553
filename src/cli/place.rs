//! Which afk a command is about: its configuration file and its state folder.

use std::path::PathBuf;

use clap::Args;

use crate::config::Config;
use crate::config::paths::Paths;
use crate::error::{Failure, FailureKind};

/// Flags of every command that looks at an afk.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceArgs {
    /// The configuration file [default: `$AFK_CONFIG`, or afk/afk.toml in the configuration folder]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The state folder [default: `$AFK_STATE_DIR`, or afk in the state folder]
    #[arg(long, value_name = "DIR", global = true)]
    state: Option<PathBuf>,
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl PlaceArgs {
    /// The places, by flags, environment and defaults.
    ///
    /// # Errors
    /// Where neither a flag nor a home folder tells them.
    pub fn paths(&self) -> Result<Paths, Failure> {
        let found = Paths::find(&env);
        // Children work in folders of their own: a relative path would be another there.
        let both = |config: &PathBuf, state: &PathBuf| {
            let (config, state) = (std::path::absolute(config)?, std::path::absolute(state)?);
            Ok(Paths { config, state })
        };
        match (&self.config, &self.state, found) {
            (Some(config), Some(state), _) => both(config, state),
            (config, state, Some(found)) => {
                let config = config.as_ref().unwrap_or(&found.config);
                both(config, state.as_ref().unwrap_or(&found.state))
            }
            _ => Err(Failure::new(FailureKind::Usage, "there is no home folder")
                .hint("set HOME, or give --config and --state")),
        }
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Failure`], with a hint where there is none.
    pub fn load(&self) -> Result<(Config, Paths), Failure> {
        let paths = self.paths()?;
        if !paths.config.exists() {
            let path = paths.config.display();
            return Err(Failure::new(FailureKind::Configuration, format!("there is no {path}"))
                .hint(
                    "`afk init` writes one for the repository you are in; `afk demo` needs none",
                ));
        }
        Ok((Config::load(&paths.config, &env)?, paths))
    }

    /// Neither flag was given.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.config.is_none() && self.state.is_none()
    }
}
