//! Doubles of Slack, ntfy, Loki, Vault and Woodpecker on loopback, as far as afk uses them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine;
use serde_json::{Value, json};

/// One received request.
#[derive(Debug, Clone)]
pub struct SinkRequest {
    pub path: String,
    pub body: Value,
    pub status: u16,
    pub headers: BTreeMap<String, String>,
}

#[derive(Default)]
struct Hub {
    got: Vec<SinkRequest>,
    /// Planned answers, by the prefix of a path.
    answers: VecDeque<(String, u16, Option<u32>, String)>,
    sealed: bool,
    is_away: bool,
    lease: u64,
    token: u64,
    secrets: BTreeMap<String, Value>,
    pipelines: Vec<Value>,
    /// The seconds that the clock is ahead of ours.
    offset: i64,
}

pub struct Sinks {
    pub address: String,
    state: Arc<Mutex<Hub>>,
    _server: super::server::Server,
}

impl Sinks {
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(Hub { lease: 3600, ..Hub::default() }));
        let app = axum::Router::new().fallback(serve).with_state(state.clone());
        let server = super::server::Server::start(app);
        Self { address: server.address.clone(), state, _server: server }
    }

    /// The requests to paths with this prefix.
    pub fn requests(&self, path: &str) -> Vec<SinkRequest> {
        let all = self.state.lock().unwrap();
        all.got.iter().filter(|got| got.path.starts_with(path)).cloned().collect()
    }

    /// Plans the status of the next request to a path with this prefix.
    pub fn answer(&self, path: &str, status: u16, retry_after: Option<u32>, body: &str) {
        let mut all = self.state.lock().unwrap();
        all.answers.push_back((path.into(), status, retry_after, body.into()));
    }

    pub fn seal(&self, sealed: bool) {
        self.state.lock().unwrap().sealed = sealed;
    }

    /// Has every request answered with 503.
    pub fn away(&self, away: bool) {
        self.state.lock().unwrap().is_away = away;
    }

    /// Sets the lifetime of tokens in seconds.
    pub fn lease(&self, seconds: u64) {
        self.state.lock().unwrap().lease = seconds;
    }

    pub fn secret(&self, path: &str, data: &Value) {
        self.state.lock().unwrap().secrets.insert(path.into(), data.clone());
    }

    /// Revokes every token.
    pub fn revoke(&self) {
        self.state.lock().unwrap().token += 1;
    }

    /// Sets the clock, which the `Date` of each answer shows.
    pub fn clock(&self, offset: i64) {
        self.state.lock().unwrap().offset = offset;
    }

    /// Sets the pipelines; one can have `workflows`, which the list leaves out.
    pub fn pipelines(&self, all: &[Value]) {
        self.state.lock().unwrap().pipelines = all.to_vec();
    }
}

fn response(status: u16, body: impl Into<Body>) -> Response {
    let mut made = Response::new(body.into());
    *made.status_mut() = StatusCode::from_u16(status).unwrap();
    made
}

async fn serve(State(state): State<Arc<Mutex<Hub>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 16 * 1024 * 1024).await.unwrap_or_default();
    let path = parts.uri.path().to_owned();
    let headers: BTreeMap<String, String> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
        .collect();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let mut all = state.lock().unwrap();
    let planned = all.answers.iter().position(|(begin, ..)| path.starts_with(begin.as_str()));
    let (status, text, after) =
        if let Some((_, status, after, text)) = planned.and_then(|at| all.answers.remove(at)) {
            (status, text, after)
        } else if all.is_away {
            (503, "away".into(), None)
        } else {
            let (status, text) =
                all.answer_to(&path, parts.uri.query().unwrap_or_default(), &headers, &body);
            (status, text, None)
        };
    all.got.push(SinkRequest { path, body, status, headers });
    let at = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + all.offset).unwrap();
    drop(all);
    let mut made = response(status, text);
    let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    made.headers_mut().insert("date", HeaderValue::from_str(&date).unwrap());
    if let Some(seconds) = after {
        made.headers_mut().insert("retry-after", HeaderValue::from(seconds));
    }
    made
}

impl Hub {
    fn answer_to(
        &mut self,
        path: &str,
        query: &str,
        headers: &BTreeMap<String, String>,
        body: &Value,
    ) -> (u16, String) {
        let errors = |status, text: &str| (status, json!({"errors": [text]}).to_string());
        let good = format!("hvs.{}", self.token);
        match path {
            "/slack" | "/hook" | "/claims" => (200, "ok".into()),
            "/ntfy" | "/ntfy/" => (200, json!({"id": "x", "event": "message"}).to_string()),
            "/loki/api/v1/push" => (204, String::new()),
            _ if path.starts_with("/v1/") && self.sealed => errors(503, "Vault is sealed"),
            "/v1/auth/kubernetes/login" if body["role"] == "afk" && body["jwt"] == "a.b.c" => {
                let auth =
                    json!({"client_token": good, "lease_duration": self.lease, "renewable": true});
                (200, json!({"auth": auth}).to_string())
            }
            "/v1/auth/kubernetes/login" => errors(403, "permission denied"),
            _ if path.starts_with("/v1/") && headers.get("x-vault-token") != Some(&good) => {
                errors(403, "permission denied")
            }
            "/v1/auth/token/renew-self" => (
                200,
                json!({"auth": {"client_token": good, "lease_duration": self.lease}}).to_string(),
            ),
            _ if path.starts_with("/v1/secret/data/") => {
                let name = &path["/v1/secret/data/".len()..];
                match self.secrets.get(name) {
                    Some(Value::Null) => (
                        404,
                        json!({"data": {"data": null, "metadata": {"version": 1}}}).to_string(),
                    ),
                    Some(data) => (
                        200,
                        json!({"data": {"data": data, "metadata": {"version": 1}}}).to_string(),
                    ),
                    None => (404, json!({"errors": []}).to_string()),
                }
            }
            _ if path.starts_with("/wp/api/")
                && headers.get("authorization").map(String::as_str) != Some("Bearer wp-token") =>
            {
                (401, "User not authorized".into())
            }
            "/wp/api/repos/lookup/acme/thing" => (200, json!({"id": 7}).to_string()),
            "/wp/api/repos/7/pipelines" => {
                let event = query.split("event=").nth(1).unwrap_or_default();
                let page = query.split("page=").nth(1).and_then(|rest| rest.split('&').next());
                let page: usize = page.and_then(|page| page.parse().ok()).unwrap_or(1);
                let fits = |p: &&Value| p["event"] == *event;
                let found = self.pipelines.iter().filter(fits).cloned();
                let mut found: Vec<Value> = found.skip(50 * (page - 1)).take(50).collect();
                for pipeline in &mut found {
                    pipeline.as_object_mut().unwrap().remove("workflows");
                }
                // Go serializes an empty list in this way.
                (200, if found.is_empty() { "null".into() } else { json!(found).to_string() })
            }
            _ if path.starts_with("/wp/api/repos/7/pipelines/") => {
                let number = path.rsplit('/').next().and_then(|n| n.parse::<u64>().ok());
                let planned = self.pipelines.iter().find(|p| p["number"].as_u64() == number);
                if let Some(planned) = planned.filter(|p| p["workflows"].is_array()) {
                    return (200, planned.to_string());
                }
                let steps = json!([
                    {"id": 1, "name": "clone", "state": "success"},
                    {"id": 2, "name": "test", "state": "failure", "error": "exit code 1"},
                ]);
                (200, json!({"workflows": [{"children": steps}]}).to_string())
            }
            _ if path.starts_with("/wp/api/repos/7/logs/") => {
                let coded = base64::engine::general_purpose::STANDARD.encode("the widget is blue");
                (200, json!([{"line": 0, "data": coded}]).to_string())
            }
            _ => (404, "no such place".into()),
        }
    }
}
