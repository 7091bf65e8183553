//! The cockpit over SSH. Off by default; a key's line says its role; nothing but a terminal with
//! the cockpit in it is given: no command, no forwarding, no agent, no subsystem, no environment.

pub mod keys;
pub mod server;

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};

/// The host key of a state folder.
#[must_use]
pub fn host_key_path(state: &Path) -> PathBuf {
    state.join("ssh_host_ed25519_key")
}

/// Reads the host key, and makes one at the first start, readable by its owner alone.
///
/// # Errors
/// A line for a person.
pub fn host_key(state: &Path) -> Result<PrivateKey, String> {
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let path = host_key_path(state);
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match std::fs::read_to_string(&path) {
        Ok(text) => PrivateKey::from_openssh(&text).map_err(|error| wrong(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut seed = [0; 32];
            std::fs::File::open("/dev/urandom")
                .and_then(|mut random| random.read_exact(&mut seed))
                .map_err(|error| wrong(&error))?;
            let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
            let text = key.to_openssh(LineEnding::LF).map_err(|error| wrong(&error))?;
            let mut file = std::fs::File::options()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .map_err(|error| wrong(&error))?;
            file.write_all(text.as_bytes()).map_err(|error| wrong(&error))?;
            Ok(key)
        }
        Err(error) => Err(wrong(&error)),
    }
}

/// The fingerprint of a state folder's host key, as `ssh` shows it; none before the first start.
#[must_use]
pub fn fingerprint(state: &Path) -> Option<String> {
    let text = std::fs::read_to_string(host_key_path(state)).ok()?;
    let key = PrivateKey::from_openssh(text).ok()?;
    Some(key.public_key().fingerprint(HashAlg::Sha256).to_string())
}
