//! `[http]`: the HTTP API and the tokens of its callers; off by default.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::model::command::Role;

/// The least number of characters of a token, wherever it comes from.
pub(crate) const SHORTEST_TOKEN: usize = 16;

/// `[http]`: the address of the API, and its callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Whether afk listens for HTTP requests.
    pub enabled: bool,
    /// The address and port to listen on.
    pub listen: SocketAddr,
    /// The callers, by the name that their actions are recorded under.
    pub tokens: BTreeMap<String, TokenConfig>,
}

/// `[http.tokens.NAME]`: the bearer token of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenConfig {
    /// The token, as a reference to a secret: `env:NAME`, `file:/path` or `vault:…`.
    pub secret: String,
    /// The role of the caller; a viewer by default.
    #[serde(default = "viewer")]
    #[schemars(with = "super::schema::RoleName")]
    pub role: Role,
}

const fn viewer() -> Role {
    Role::Viewer
}

impl Default for HttpConfig {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 8420));
        Self { enabled: false, listen, tokens: BTreeMap::new() }
    }
}
