//! Secrets by reference: `env:NAME`, `file:/path` or `vault:MOUNT/PATH#KEY`. A value is never
//! printed; it is handed to the one that is configured to have it.

pub mod vault;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use secrecy::SecretString;

use vault::Vault;

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither kind.
    #[error("{0:?} names no secret: write env:NAME, file:/path or vault:MOUNT/PATH#KEY")]
    Reference(String),
    /// Not set.
    #[error("the environment has no {0}")]
    Unset(String),
    /// Can't be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Others can read it.
    #[error("{path} can be read by others (mode {mode:03o}): chmod 600 {path}")]
    Exposed {
        /// Which file.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// Vault says no, or is away and was never there.
    #[error("vault: {0}")]
    Vault(String),
    /// There is no Vault to ask.
    #[error("{0:?} needs [vault] with its address")]
    NoVault(String),
}

/// All places that secrets come from.
#[derive(Debug)]
pub struct Secrets {
    vault: Option<Arc<Vault>>,
    keeper: Option<tokio::task::JoinHandle<()>>,
}

impl Secrets {
    /// As configured; the token of a Vault is kept alive from now on.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn new(vault: Option<&crate::config::services::VaultConfig>) -> Result<Self, SecretError> {
        let vault = vault.map(|config| Vault::new(config.clone()).map(Arc::new)).transpose()?;
        let keeper = vault.clone().map(|vault| tokio::spawn(async move { vault.keep().await }));
        Ok(Self { vault, keeper })
    }

    /// A secret's value.
    ///
    /// # Errors
    /// [`SecretError`].
    pub async fn get(&self, reference: &str) -> Result<SecretString, SecretError> {
        match &self.vault {
            _ if !reference.starts_with("vault:") => {
                resolve(reference, &|name| std::env::var(name).ok())
            }
            Some(vault) => vault.get(reference).await,
            None => Err(SecretError::NoVault(reference.chars().take(80).collect())),
        }
    }
}

impl Drop for Secrets {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
    }
}

/// Resolves a reference.
///
/// # Errors
/// [`SecretError`].
pub fn resolve(
    reference: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<SecretString, SecretError> {
    if let Some(name) = reference.strip_prefix("env:") {
        return env(name).map(SecretString::from).ok_or_else(|| SecretError::Unset(name.into()));
    }
    let path = reference
        .strip_prefix("file:")
        .ok_or_else(|| SecretError::Reference(reference.chars().take(40).collect()))?;
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let mode = std::fs::metadata(path).map_err(unreadable)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let reference = format!("file:{}", path.display());
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        let said = resolve(&reference, &|_| None).unwrap_err().to_string();
        assert!(said.contains("mode 640"), "{said}");
        mode(0o600);
        assert_eq!(resolve(&reference, &|_| None).unwrap().expose_secret(), "s3cret");
    }

    #[test]
    fn names_are_looked_up_and_nothing_is_guessed() {
        let env = |name: &str| (name == "KEY").then(|| "v".to_owned());
        let secret = resolve("env:KEY", &env).unwrap();
        assert_eq!(secret.expose_secret(), "v");
        assert!(!format!("{secret:?}").contains("\"v\""));
        assert!(matches!(resolve("env:NO", &env), Err(SecretError::Unset(_))));
        assert!(matches!(resolve("KEY", &env), Err(SecretError::Reference(_))));
    }
}
