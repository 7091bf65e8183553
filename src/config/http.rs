//! The HTTP API; off by default.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

use crate::core::model::command::Role;

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Listen at all.
    pub enabled: bool,
    /// Where.
    pub listen: SocketAddr,
    /// Who may call, by the name that their actions are recorded under.
    pub tokens: BTreeMap<String, Token>,
}

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Where it is: `env:NAME`, `file:/path` or `vault:…`.
    pub secret: String,
    /// What it may do.
    #[serde(default = "viewer")]
    pub role: Role,
}

const fn viewer() -> Role {
    Role::Viewer
}

impl Default for Http {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8420));
        Self { enabled: false, listen, tokens: BTreeMap::new() }
    }
}
