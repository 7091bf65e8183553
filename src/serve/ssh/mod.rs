//! The cockpit over SSH; off by default. A client receives a terminal with the cockpit in it and nothing
//! else: no command, forwarding, ssh-agent, subsystem or environment.
//!
//! ```text
//! ssh client ─▶ server: limits, public key ─▶ keys: the line of authorized_keys, its role
//!            ─▶ a channel with a terminal   ─▶ a thread with a cockpit of its own
//! authorized_keys ─▶ key_file ─▶ each connection: its present role, or its end
//! ```

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod key_file;
pub mod keys;
mod login;
pub mod server;

use std::path::{Path, PathBuf};

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{HashAlg, PrivateKey};

use crate::{error, redact, trusted_file};

/// The path of the host key in a state folder.
fn host_key_path(state: &Path) -> PathBuf {
    state.join("ssh_host_ed25519_key")
}

/// Reads the host key, or creates one at the first start that only its owner can read.
///
/// # Errors
/// Returns a line for a person that names the file.
fn host_key(state: &Path) -> Result<PrivateKey, String> {
    use std::io::{Read, Write};
    use std::os::unix::fs::OpenOptionsExt;
    let path = host_key_path(state);
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    match trusted_file::read(&path) {
        Ok(text) => {
            redact::remember(&text);
            PrivateKey::from_openssh(&text).map_err(|error| wrong(&error))
        }
        Err(error) if error.is_missing() => {
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
            redact::remember(&text);
            file.write_all(text.as_bytes()).map_err(|error| wrong(&error))?;
            Ok(key)
        }
        Err(error) => Err(error::chain(&error)),
    }
}

/// The fingerprint of the host key in the form that `ssh` shows; `None` before the first start.
#[must_use]
pub fn fingerprint(state: &Path) -> Option<String> {
    let text = trusted_file::read(&host_key_path(state)).ok()?;
    let key = PrivateKey::from_openssh(text).ok()?;
    Some(key.public_key().fingerprint(HashAlg::Sha256).to_string())
}
