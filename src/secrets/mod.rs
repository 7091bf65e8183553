//! Secrets by reference: `env:NAME` or `file:/path`. A value is never printed; it is handed to
//! the one child that is configured to have it.

use std::os::unix::fs::MetadataExt;

use secrecy::SecretString;

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither kind.
    #[error("{0:?} names no secret: write env:NAME or file:/path")]
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
