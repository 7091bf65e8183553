//! Secrets by reference: `env:NAME`, `file:/path` or `vault:MOUNT/PATH#KEY`. The adapters of GitHub,
//! Woodpecker, Loki, the sinks, the executors and agents read theirs here at each use, so that a
//! rotated secret needs no restart. A value is never printed; it goes only where the configuration
//! sends it, and `redact` removes it from everything else.

mod vault;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::redact;
use vault::VaultClient;
pub use vault::VaultError;

use crate::trusted_file::{self, TrustedFileError};

/// Why a secret can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The reference has none of the three forms.
    #[error("{0:?} names no secret")]
    Reference(String),
    /// The environment of afk has no such name.
    #[error("the environment has no {0}")]
    Unset(String),
    /// The file is missing, or afk may not read it.
    #[error("read {path}")]
    Unreadable {
        /// The file that the reference names.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// Other users can read the file, so afk refuses it.
    #[error("{path} can be read by others (mode {mode:03o})")]
    Exposed {
        /// The file that the reference names.
        path: String,
        /// The permission bits of the file.
        mode: u32,
    },
    /// Another user could change the file, so that its content can't be trusted.
    #[error(transparent)]
    NotTrusted(TrustedFileError),
    /// Vault refuses the secret, or can't be reached and was never read before.
    #[error("read {reference}")]
    Vault {
        /// The reference, as `vault:MOUNT/PATH#KEY`.
        reference: String,
        /// Why Vault gave no value.
        #[source]
        cause: VaultError,
    },
    /// A `vault:` reference without a `[vault]` section.
    #[error("{0:?} needs [vault] with its address")]
    NoVault(String),
    /// There is no TLS client for Vault.
    #[error("no client for Vault")]
    Client(#[source] reqwest::Error),
}

impl From<TrustedFileError> for SecretError {
    fn from(error: TrustedFileError) -> Self {
        match error {
            TrustedFileError::Io { path, source } => {
                Self::Unreadable { path: path.display().to_string(), source }
            }
            other => Self::NotTrusted(other),
        }
    }
}

impl SecretError {
    /// Whether the store of secrets is away, so that a later read may succeed.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Vault { cause: VaultError::Network(_) | VaultError::Unavailable(_), .. }
        )
    }

    /// The operator's next step, which follows from the failure.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Reference(_) => "write env:NAME, file:/path or vault:MOUNT/PATH#KEY".into(),
            Self::Unset(name) => format!("set {name} in the environment that afk starts in"),
            Self::Unreadable { path, .. } => {
                format!("put the secret into {path}, readable by the user of afk alone")
            }
            Self::Exposed { path, .. } => format!("chmod 600 {path}"),
            Self::NotTrusted(_) => "only root and the user of afk may be able to change it".into(),
            Self::Vault { reference, cause } => cause.hint(reference),
            Self::NoVault(_) => "add [vault] with its address to the configuration".into(),
            Self::Client(_) => "see the CA certificates of this machine".into(),
        }
    }
}

/// All places that secrets are read from.
#[derive(Debug)]
pub struct Secrets {
    vault: Option<Arc<VaultClient>>,
    renewal: Option<tokio::task::JoinHandle<()>>,
}

impl Secrets {
    /// The places as configured. With a Vault, a task renews its token from now on, until the
    /// value is dropped.
    ///
    /// # Errors
    /// [`SecretError::Client`].
    pub fn new(vault: Option<&crate::config::services::VaultConfig>) -> Result<Self, SecretError> {
        let vault =
            vault.map(|config| VaultClient::new(config.clone()).map(Arc::new)).transpose()?;
        let renewal =
            vault.clone().map(|vault| tokio::spawn(async move { vault.renew_token().await }));
        Ok(Self { vault, renewal })
    }

    /// Whether the store of secrets answers and is unsealed; without one, it does.
    ///
    /// # Errors
    /// [`SecretError::Vault`].
    pub async fn answers(&self) -> Result<(), SecretError> {
        match &self.vault {
            Some(vault) => vault.answers().await,
            None => Ok(()),
        }
    }

    /// Reads the secret that a reference names.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn get(&self, reference: &str) -> Result<SecretString, SecretError> {
        match &self.vault {
            _ if !reference.starts_with("vault:") => {
                resolve(reference, &|name| std::env::var(name).ok())
            }
            Some(vault) => vault.get(reference).await.inspect(remember),
            None => Err(SecretError::NoVault(reference.chars().take(80).collect())),
        }
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
    }
}

/// Reads an `env:` or `file:` secret; `env` looks a name up in the environment.
///
/// # Errors
/// [`SecretError`].
pub fn resolve(
    reference: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<SecretString, SecretError> {
    read(reference, env).inspect(remember)
}

/// Has the value redacted from now on. The secret of git-crypt may be the path of a key, which is
/// none itself.
fn remember(secret: &SecretString) {
    let value = secret.expose_secret();
    if !std::path::Path::new(value.trim()).is_file() {
        redact::remember(value);
    }
}

fn read(
    reference: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<SecretString, SecretError> {
    if let Some(name) = reference.strip_prefix("env:") {
        return env(name).map(SecretString::from).ok_or_else(|| SecretError::Unset(name.into()));
    }
    let path = reference
        .strip_prefix("file:")
        .ok_or_else(|| SecretError::Reference(reference.chars().take(40).collect()))?;
    let file = trusted_file::open(Path::new(path))?;
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let text = trusted_file::text(&file, Path::new(path))?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let reference = format!("file:{}", path.display());
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        let refused = resolve(&reference, &|_| None).unwrap_err().to_string();
        assert!(refused.contains("mode 640"), "{refused}");
        mode(0o600);
        assert_eq!(resolve(&reference, &|_| None).unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn reference_without_a_scheme_is_refused() {
        let env = |name: &str| (name == "KEY").then(|| "v".to_owned());
        let secret = resolve("env:KEY", &env).unwrap();
        assert_eq!(secret.expose_secret(), "v");
        assert!(!format!("{secret:?}").contains("\"v\""));
        assert!(matches!(resolve("env:NO", &env), Err(SecretError::Unset(_))));
        assert!(matches!(resolve("KEY", &env), Err(SecretError::Reference(_))));
    }
}
