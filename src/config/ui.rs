//! The sections `[ui]` and `[ssh]`: how the cockpit looks, and its way in over SSH.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[ui]`: the looks of the cockpit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UiConfig {
    /// The name of a shipped theme, `auto` (dark or light, by the terminal's background), or the path of a
    /// theme file.
    pub theme: String,
    /// `default`, `vim`, `emacs`, or the path of a keymap file.
    pub keymap: String,
    /// Captures the mouse, at the cost of the terminal's own selection.
    pub mouse: bool,
    /// Draws marks and frames in ASCII only.
    pub ascii: bool,
}

impl Default for UiConfig {
    fn default() -> Self {
        Self { theme: "auto".into(), keymap: "default".into(), mouse: false, ascii: false }
    }
}

/// `[ssh]`: the cockpit over SSH; off by default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SshConfig {
    /// Whether afk listens for SSH connections.
    pub enabled: bool,
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The file of admitted keys (docs/commands.md), relative to the configuration.
    pub authorized_keys: PathBuf,
}

impl Default for SshConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 2222));
        Self { enabled: false, listen, authorized_keys: "authorized_keys".into() }
    }
}
