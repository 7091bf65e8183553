//! An afk under test, as its HTTP callers see it.

use serde_json::Value;

use super::world::{Up, World};

pub const OPERATOR: &str = "operator-token-0123456789";
pub const VIEWER: &str = "viewer-token-0123456789";

/// A running afk that serves HTTP.
pub struct Api {
    pub up: Up,
    pub address: String,
    pub client: reqwest::Client,
}

impl Api {
    pub fn start(world: &World) -> Self {
        Self::start_with(world, &[])
    }

    /// Like `start`, with more variables in its environment.
    pub fn start_with(world: &World, env: &[(&str, &str)]) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (up, lines) = world.up_with_env(env, 2);
        let bound = lines[0].strip_prefix("http on ").unwrap_or_else(|| panic!("{lines:?}"));
        Self { up, address: format!("http://{bound}"), client: reqwest::Client::new() }
    }

    pub async fn get(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let request = self.client.get(format!("{}{path}", self.address));
        let request = token.iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.address)).bearer_auth(token);
        let answer = request.json(&body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    pub async fn act(&self, token: &str, action: Value) -> (u16, Value) {
        self.post("/v1/commands", token, action).await
    }
}

/// An `[http]` section on a free port with an operator's and a viewer's token.
pub fn section(world: &World) -> String {
    let file = |name: &str, token: &str| {
        let path = world.path(name);
        std::fs::write(&path, format!("{token}\n")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        path.display().to_string()
    };
    format!(
        "[http]\nenabled = true\nlisten = '127.0.0.1:0'\n\
         [http.tokens.deployer]\nsecret = 'file:{}'\nrole = 'operator'\n\
         [http.tokens.wall]\nsecret = 'file:{}'",
        file("operator-token", OPERATOR),
        file("viewer-token", VIEWER)
    )
}
