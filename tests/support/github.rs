//! A GitHub on loopback: the REST calls that afk makes, one GraphQL query, and git over smart HTTP
//! by git's own `http-backend`. The shape of its answers is checked against recorded facts
//! (tests/facts/github.json).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use base64::Engine;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::git;
use super::github_ci::Ci;

/// One request with the status of its answer.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub status: u16,
    pub body: String,
}

/// A planned fault instead of an answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// A status with headers and a message.
    Status(u16, Vec<(&'static str, String)>, &'static str),
    /// Half of the JSON, sent as if it were complete.
    Cut,
    /// The request takes effect, then the connection is lost.
    DroppedAfter,
    /// The request takes effect, then a proxy answers 502.
    AppliedThen502,
    /// A proxy answers 502, and the request takes effect so many milliseconds later.
    AppliedLater(u64),
}

struct Planned {
    method: &'static str,
    part: String,
    fault: Fault,
    times: usize,
}

#[derive(Default)]
struct Issue {
    title: String,
    body: String,
    author: String,
    labels: Vec<String>,
    closed: Option<String>,
    events: Vec<Value>,
    comments: Vec<(u64, String, String)>,
    blocked_by: Vec<u64>,
    /// The time and the editor of each edit of the text, newest first.
    edits: Vec<(String, String)>,
    /// The text before the latest edit.
    before: String,
    changed: u64,
    pull_request: bool,
}

struct Hub {
    root: PathBuf,
    issues: BTreeMap<u64, Issue>,
    /// The login of each token.
    tokens: BTreeMap<String, String>,
    roles: BTreeMap<String, String>,
    ci: Ci,
    required: Vec<String>,
    faults: Vec<Planned>,
    log: Vec<Seen>,
    next: u64,
    now: i64,
    /// The number of the repository, and its name where that is no longer `acme/thing`.
    repository: u64,
    renamed: Option<String>,
    /// Where issues were transferred to.
    transferred: BTreeMap<u64, String>,
    /// The newest events that the timelines don't show yet.
    hidden_events: usize,
    /// Whether GraphQL does not show the latest edit yet.
    edits_lag: bool,
    /// Whether every request gets 503, and every write only gets it.
    is_away: bool,
    /// The label that no answer shows yet.
    hidden_label: Option<String>,
    refuses_writes: bool,
    archived: bool,
}

/// The running double; it ends with the test.
pub struct GitHub {
    pub address: String,
    hub: Arc<Mutex<Hub>>,
    /// Ends the server when the test drops it.
    _server: super::server::Server,
}

fn time(at: i64) -> String {
    jiff::Timestamp::from_second(at).unwrap().to_string()
}

impl GitHub {
    /// Starts a server whose repository `acme/thing` is the bare one at `remote`.
    pub fn start(remote: &Path) -> Self {
        let root = remote.parent().unwrap().join("github");
        std::fs::create_dir_all(root.join("acme")).unwrap();
        std::os::unix::fs::symlink(remote, root.join("acme/thing.git")).unwrap();
        git(remote, &["config", "http.receivepack", "true"]);
        let tokens = [("tok-afk", "afk-user"), ("tok-new", "afk-user"), ("tok-app", "afk[bot]")];
        let roles = [("ana", "admin"), ("afk-user", "write"), ("rita", "read")];
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        let hub = Arc::new(Mutex::new(Hub {
            root,
            issues: BTreeMap::new(),
            tokens: owned(&tokens),
            roles: owned(&roles),
            ci: Ci::default(),
            required: Vec::new(),
            faults: Vec::new(),
            log: Vec::new(),
            next: 1000,
            now: jiff::Timestamp::now().as_second() - 3600,
            repository: 77,
            renamed: None,
            transferred: BTreeMap::new(),
            hidden_events: 0,
            edits_lag: false,
            is_away: false,
            hidden_label: None,
            refuses_writes: false,
            archived: false,
        }));
        let app = axum::Router::new().fallback(serve).with_state(hub.clone());
        let server = super::server::Server::start(app);
        Self { address: server.address.clone(), hub, _server: server }
    }

    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap()
    }

    /// Opens an issue that `by` has armed.
    pub fn issue(&self, number: u64, title: &str, body: &str, by: &str) {
        let mut hub = self.hub();
        let issue = Issue {
            title: title.into(),
            body: body.into(),
            author: "rita".into(),
            ..Issue::default()
        };
        hub.issues.insert(number, issue);
        hub.label(number, "ready-for-agent", by, true);
    }

    pub fn pull_request(&self, number: u64, by: &str) {
        self.issue(number, "A pull request", "", by);
        self.hub().issues.get_mut(&number).unwrap().pull_request = true;
    }

    /// Edits the issue's text as `by`.
    pub fn edit(&self, number: u64, body: &str, by: &str) {
        let mut hub = self.hub();
        hub.tick();
        hub.edit(number, body, by);
    }

    /// Edits the issue's text in the second of its latest change.
    pub fn edit_in_the_same_second(&self, number: u64, body: &str, by: &str) {
        self.hub().edit(number, body, by);
    }

    /// Changes the issue's title as `by`.
    pub fn rename_issue(&self, number: u64, title: &str, by: &str) {
        let mut hub = self.hub();
        hub.tick();
        hub.issues.get_mut(&number).unwrap().title = title.into();
        hub.event(number, &json!({"event": "renamed", "actor": user(by)}));
    }

    /// The newest events of every timeline stay hidden, as when GitHub's timeline lags.
    pub fn hide_events(&self, count: usize) {
        self.hub().hidden_events = count;
    }

    /// The latest edit of every text stays hidden from those who ask for its editor.
    pub fn lag_edits(&self, lag: bool) {
        self.hub().edits_lag = lag;
    }

    /// Deletes an issue.
    pub fn delete(&self, number: u64) {
        self.hub().issues.remove(&number);
    }

    /// Transfers an issue to another repository's, such as `acme/other/issues/9`.
    pub fn transfer(&self, number: u64, to: &str) {
        self.hub().transferred.insert(number, to.into());
    }

    /// Gives the repository another name; requests under the old one are redirected.
    pub fn rename(&self, name: &str) {
        self.hub().renamed = Some(name.into());
    }

    /// Puts another repository with the same content under the name.
    pub fn replace_repository(&self) {
        self.hub().repository += 1;
    }

    /// Makes the repository read-only.
    pub fn archive(&self, archived: bool) {
        self.hub().archived = archived;
    }

    pub fn label(&self, number: u64, label: &str, by: &str, on: bool) {
        self.hub().label(number, label, by, on);
    }

    pub fn block(&self, number: u64, by: u64) {
        let mut hub = self.hub();
        hub.tick();
        hub.issues.get_mut(&number).unwrap().blocked_by.push(by);
        hub.event(number, &json!({"event": "blocked_by_added"}));
    }

    pub fn close(&self, number: u64) {
        let mut hub = self.hub();
        hub.tick();
        hub.issues.get_mut(&number).unwrap().closed = Some("completed".into());
        hub.event(number, &json!({"event": "closed", "actor": user("ana")}));
    }

    pub fn reopen(&self, number: u64) {
        let mut hub = self.hub();
        hub.tick();
        hub.issues.get_mut(&number).unwrap().closed = None;
        hub.event(number, &json!({"event": "reopened", "actor": user("ana")}));
    }

    /// Plans the checks of the coming commits, one plan for each.
    pub fn ci(&self, plans: &[&[(&str, &str)]]) {
        let owned = |plan: &&[(&str, &str)]| {
            plan.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
        };
        self.hub().ci.plans = plans.iter().map(owned).collect();
    }

    pub fn require(&self, names: &[&str]) {
        self.hub().required = names.iter().map(|&n| n.to_owned()).collect();
    }

    /// Sets GitHub's clock so many seconds ahead of ours: that of events, checks and answers.
    pub fn clock(&self, offset: i64) {
        let mut hub = self.hub();
        hub.now = jiff::Timestamp::now().as_second() + offset;
        hub.ci.offset = offset;
    }

    /// From now on events carry the present time, and not that of an hour ago.
    pub fn now(&self) {
        self.hub().now = jiff::Timestamp::now().as_second() + 2;
    }

    /// Ends a check of a commit.
    pub fn conclude(&self, sha: &str, name: &str, conclusion: &str) {
        self.hub().ci.conclude(sha, name, conclusion);
    }

    /// Changes the CI.
    pub fn with_ci<T>(&self, change: impl FnOnce(&mut Ci) -> T) -> T {
        change(&mut self.hub().ci)
    }

    /// Denies the token the permission to read checks.
    pub fn forbid_checks(&self) {
        self.hub().ci.forbidden.insert("check".into());
    }

    /// Revokes every token except for the given ones.
    pub fn only_tokens(&self, tokens: &[(&str, &str)]) {
        self.hub().tokens =
            tokens.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    }

    /// Plans a fault for the next requests of a method whose path contains `part`.
    pub fn fault(&self, method: &'static str, part: &str, fault: Fault, times: usize) {
        self.hub().faults.push(Planned { method, part: part.into(), fault, times });
    }

    /// A label that is set stays out of every answer, as when two clients set it at once.
    pub fn hide_label(&self, label: &str) {
        self.hub().hidden_label = Some(label.into());
    }

    /// Takes everything away: git, the API, all of it answers 503.
    pub fn away(&self, away: bool) {
        self.hub().is_away = away;
    }

    /// Has every write of the API answered with 503; git and reads go on.
    pub fn refuse_writes(&self, refuse: bool) {
        self.hub().refuses_writes = refuse;
    }

    pub fn log(&self) -> Vec<Seen> {
        self.hub().log.clone()
    }

    /// Counts the requests of a method whose path contains `part` and whose answer had the status.
    pub fn count(&self, method: &str, part: &str, status: u16) -> usize {
        let fits = |seen: &&Seen| {
            seen.method == method && seen.path.contains(part) && seen.status == status
        };
        self.hub().log.iter().filter(fits).count()
    }

    pub fn labels(&self, number: u64) -> Vec<String> {
        self.hub().issues[&number].labels.clone()
    }

    pub fn closed(&self, number: u64) -> bool {
        self.hub().issues[&number].closed.is_some()
    }

    /// The bodies of an issue's comments.
    pub fn comments(&self, number: u64) -> Vec<String> {
        self.hub().issues[&number].comments.iter().map(|(_, _, body)| body.clone()).collect()
    }

    pub fn comment(&self, number: u64, by: &str, body: &str) {
        let mut hub = self.hub();
        let id = hub.id();
        hub.issues.get_mut(&number).unwrap().comments.push((id, by.into(), body.into()));
    }
}

impl Hub {
    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn tick(&mut self) -> i64 {
        self.now += 1;
        self.now
    }

    fn touch(&mut self, number: u64) {
        self.issues.get_mut(&number).unwrap().changed = self.now.cast_unsigned();
    }

    /// Adds an event of the present second to the timeline of an issue.
    fn event(&mut self, number: u64, event: &Value) {
        let mut event = event.clone();
        event["created_at"] = time(self.now).into();
        self.issues.get_mut(&number).unwrap().events.push(event);
        self.touch(number);
    }

    fn edit(&mut self, number: u64, body: &str, by: &str) {
        let at = time(self.now);
        let issue = self.issues.get_mut(&number).unwrap();
        issue.before = std::mem::replace(&mut issue.body, body.into());
        issue.edits.insert(0, (at, by.into()));
        self.touch(number);
    }

    fn label(&mut self, number: u64, label: &str, by: &str, on: bool) {
        self.tick();
        let issue = self.issues.get_mut(&number).unwrap();
        issue.labels.retain(|known| known != label);
        if on {
            issue.labels.push(label.into());
        }
        let event = if on { "labeled" } else { "unlabeled" };
        let label = json!({"name": label, "color": "ededed"});
        let actor = user(by);
        let event = json!({
            "event": event, "label": label, "actor": actor, "performed_via_github_app": null,
        });
        self.event(number, &event);
    }

    fn dto(&self, number: u64) -> Value {
        let issue = &self.issues[&number];
        let changed = time(issue.changed.cast_signed());
        let mut dto = json!({
            "id": 100_000 + number, "number": number, "title": issue.title, "body": issue.body,
            "user": user(&issue.author), "comments": issue.comments.len(),
            "state": if issue.closed.is_some() { "closed" } else { "open" },
            "state_reason": issue.closed,
            "labels": issue.labels.iter().filter(|l| self.hidden_label.as_ref() != Some(*l)).map(|l| json!({"name": l, "color": "ededed"})).collect::<Vec<_>>(),
            "created_at": time(self.now - 7200), "updated_at": changed,
            "html_url": format!("https://github.com/acme/thing/issues/{number}"),
            "repository_url": "https://api.github.com/repos/acme/thing",
            "issue_dependencies_summary": {
                "blocked_by": issue.blocked_by.len(), "total_blocked_by": issue.blocked_by.len(),
                "blocking": 0, "total_blocking": 0,
            },
        });
        if issue.pull_request {
            dto["pull_request"] = json!({"url": "x"});
        }
        dto
    }

    fn fault(&mut self, method: &str, path: &str) -> Option<Fault> {
        let fits = |f: &&mut Planned| f.times > 0 && f.method == method && path.contains(&f.part);
        let planned = self.faults.iter_mut().find(fits)?;
        planned.times -= 1;
        Some(planned.fault.clone())
    }

    /// Answers a REST request with a status and a body.
    fn rest(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &Value,
        login: &str,
    ) -> (u16, Value) {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let missing = || (404, json!({"message": "Not Found"}));
        let number = |text: &str| text.parse::<u64>().unwrap_or_default();
        match (method.as_str(), parts.as_slice()) {
            ("GET", ["user"]) => (200, user(login)),
            ("GET", ["repos", "acme", "thing"]) => {
                let name = self.renamed.clone().unwrap_or_else(|| "acme/thing".into());
                let archived = self.archived;
                (200, json!({"id": self.repository, "full_name": name, "archived": archived}))
            }
            (method, ["repos", ..]) if self.archived && method != "GET" => {
                (403, json!({"message": "Repository was archived so is read-only."}))
            }
            ("GET", ["app"]) => (200, json!({"slug": "afk", "id": 7})),
            ("POST", ["app", "installations", _, "access_tokens"]) => {
                (201, json!({"token": "tok-app", "expires_at": time(self.now + 3600)}))
            }
            ("GET", ["repos", "acme", "thing", "issues"]) => {
                let wanted = query.contains("labels=ready-for-agent");
                let fits = |(n, issue): &(&u64, &Issue)| {
                    issue.closed.is_none()
                        && !self.transferred.contains_key(n)
                        && (!wanted || issue.labels.iter().any(|l| l == "ready-for-agent"))
                };
                let numbers: Vec<u64> = self.issues.iter().filter(fits).map(|(n, _)| *n).collect();
                (200, numbers.into_iter().map(|n| self.dto(n)).collect())
            }
            ("GET", ["repos", "acme", "thing", "collaborators", who, "permission"]) => {
                let Some(role) = self.roles.get(*who) else { return missing() };
                let permission = match role.as_str() {
                    "admin" => "admin",
                    "maintain" | "write" => "write",
                    _ => "read",
                };
                (200, json!({"permission": permission, "role_name": role, "user": user(who)}))
            }
            ("GET", ["repos", "acme", "thing", "rules", "branches", _]) => {
                let checks: Vec<Value> =
                    self.required.iter().map(|name| json!({"context": name})).collect();
                let rule = json!({"type": "required_status_checks", "parameters": {"required_status_checks": checks}});
                (200, if self.required.is_empty() { json!([]) } else { json!([rule]) })
            }
            ("GET", ["repos", "acme", "thing", "branches", branch]) => {
                (200, json!({"name": branch, "protected": false, "protection": {"enabled": false}}))
            }
            ("GET", ["repos", "acme", "thing", "actions", "runs"]) => {
                let sha = query.split("head_sha=").nth(1).unwrap_or_default();
                let sha = sha.split('&').next().unwrap_or_default().to_owned();
                self.ci.answer("runs", &sha)
            }
            ("GET", ["repos", "acme", "thing", "actions", "runs", _, "jobs"]) => {
                (200, json!({"total_count": 1, "jobs": [{"id": 1, "conclusion": "failure"}]}))
            }
            ("GET", ["repos", "acme", "thing", "contents", name]) => {
                let folder = self.root.join("acme/thing.git");
                let shown = super::try_git(&folder, &["show", &format!("master:{name}")]);
                if !shown.status.success() {
                    return missing();
                }
                let content = base64::engine::general_purpose::STANDARD.encode(shown.stdout);
                (200, json!({"name": name, "encoding": "base64", "content": content}))
            }
            ("GET", ["repos", "acme", "thing", "commits", sha, what]) => self.ci.answer(what, sha),
            ("PATCH", ["repos", "acme", "thing", "issues", "comments", id]) => {
                let (id, text) = (number(id), body["body"].as_str().unwrap_or_default());
                for issue in self.issues.values_mut() {
                    if let Some(comment) = issue.comments.iter_mut().find(|c| c.0 == id) {
                        text.clone_into(&mut comment.2);
                        return (200, json!({"id": id, "body": text, "user": user(login)}));
                    }
                }
                missing()
            }
            ("DELETE", ["repos", "acme", "thing", "issues", "comments", id]) => {
                let id = number(id);
                for issue in self.issues.values_mut() {
                    issue.comments.retain(|comment| comment.0 != id);
                }
                (204, Value::Null)
            }
            ("GET", ["repos", "acme", "other", "issues", n]) => {
                let mut dto = self.dto(1);
                dto["number"] = number(n).into();
                dto["repository_url"] = "https://api.github.com/repos/acme/other".into();
                (200, dto)
            }
            (_, ["repos", "acme", "thing", "issues", n, rest @ ..]) => {
                let n = number(n);
                if !self.issues.contains_key(&n) {
                    return missing();
                }
                self.of_issue(method.as_str(), n, rest, body, login)
            }
            _ => missing(),
        }
    }

    fn of_issue(
        &mut self,
        method: &str,
        n: u64,
        rest: &[&str],
        body: &Value,
        login: &str,
    ) -> (u16, Value) {
        match (method, rest) {
            ("GET", []) => (200, self.dto(n)),
            ("PATCH", []) => {
                if body["state"] == "closed" {
                    let reason = body["state_reason"].as_str().unwrap_or("completed");
                    self.issues.get_mut(&n).unwrap().closed = Some(reason.to_owned());
                }
                self.tick();
                self.event(n, &json!({"event": "closed", "actor": user(login)}));
                (200, self.dto(n))
            }
            ("GET", ["timeline"]) => {
                // Every timeline contains an event of an unknown kind.
                let mut events = vec![json!({"event": "blocked_by_added", "id": 1})];
                let shown = &self.issues[&n].events;
                events.extend_from_slice(&shown[..shown.len().saturating_sub(self.hidden_events)]);
                (200, events.into())
            }
            ("GET", ["comments"]) => {
                let all = self.issues[&n].comments.iter();
                let all =
                    all.map(|(id, by, body)| json!({"id": id, "user": user(by), "body": body}));
                (200, all.collect())
            }
            ("POST", ["comments"]) => {
                let (id, text) = (self.id(), body["body"].as_str().unwrap_or_default().to_owned());
                self.tick();
                let issue = self.issues.get_mut(&n).unwrap();
                issue.comments.push((id, login.to_owned(), text.clone()));
                self.event(n, &json!({"event": "commented", "actor": user(login)}));
                (201, json!({"id": id, "user": user(login), "body": text}))
            }
            ("GET", ["dependencies", "blocked_by"]) => {
                let all = self.issues[&n].blocked_by.clone();
                (200, all.into_iter().map(|n| self.dto(n)).collect())
            }
            ("POST", ["labels"]) => {
                for label in body["labels"].as_array().into_iter().flatten() {
                    self.label(n, label.as_str().unwrap(), login, true);
                }
                (200, self.dto(n)["labels"].clone())
            }
            ("DELETE", ["labels", name]) => {
                let name = name.replace("%20", " ");
                if !self.issues[&n].labels.contains(&name) {
                    return (404, json!({"message": "Label does not exist"}));
                }
                self.label(n, &name, login, false);
                (200, self.dto(n)["labels"].clone())
            }
            _ => (404, json!({"message": "Not Found"})),
        }
    }

    fn graphql(&self, body: &Value) -> (u16, Value) {
        let n = body["variables"]["number"].as_u64().unwrap_or_default();
        let Some(known) = self.issues.get(&n) else {
            return (200, json!({"data": {"repository": {"issue": null}}}));
        };
        let editor = |by: &String| json!({"__typename": "User", "login": by});
        let edit = |(at, by): &(String, String)| json!({"editedAt": at, "editor": editor(by)});
        let lags = self.edits_lag && !known.edits.is_empty();
        let edits = &known.edits[usize::from(lags)..];
        let issue = json!({
            "title": known.title, "body": if lags { &known.before } else { &known.body },
            "lastEditedAt": edits.first().map(|(at, _)| at),
            "editor": edits.first().map(|(_, by)| editor(by)),
            "userContentEdits": {"nodes": edits.iter().map(edit).collect::<Vec<_>>()},
        });
        (200, json!({"data": {"repository": {"issue": issue}}}))
    }
}

fn user(login: &str) -> Value {
    let kind = if login.ends_with("[bot]") { "Bot" } else { "User" };
    json!({"login": login, "id": login.len(), "type": kind})
}

fn token(headers: &HeaderMap) -> String {
    let given = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default();
    match given.split_once(' ') {
        Some(("Basic", coded)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(coded).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            text.split_once(':').map(|(_, password)| password.to_owned()).unwrap_or_default()
        }
        Some((_, token)) => token.to_owned(),
        None => String::new(),
    }
}

/// Whether a JWT has begun, has not ended, and lives for ten minutes at most.
fn is_valid_at(jwt: &str, now: i64) -> bool {
    let claims = jwt.split('.').nth(1).unwrap_or_default();
    let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims);
    let claims: Value = serde_json::from_slice(&decoded.unwrap_or_default()).unwrap_or_default();
    let (begin, end) = (claims["iat"].as_i64(), claims["exp"].as_i64());
    begin.is_some_and(|at| at <= now) && end.is_some_and(|at| at > now && at <= now + 600)
}

fn response(status: u16, body: impl Into<Body>) -> Response {
    let mut made = Response::new(body.into());
    *made.status_mut() = StatusCode::from_u16(status).unwrap();
    made
}

/// An answer whose connection is lost before its end.
fn dropped() -> Response {
    let broken = futures::stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
    response(200, Body::from_stream(broken))
}

async fn serve(State(hub): State<Arc<Mutex<Hub>>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 64 * 1024 * 1024).await.unwrap_or_default();
    let mut path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let token = token(&parts.headers);
    let is_git = path.contains(".git/");
    let (login, fault) = {
        let mut hub = hub.lock().unwrap();
        let login = hub.tokens.get(&token).cloned();
        // git first sends an empty push to test its access.
        let probe = path.ends_with("/git-receive-pack") && bytes.len() <= 4;
        let fault = (!probe).then(|| hub.fault(parts.method.as_str(), &path)).flatten();
        let writes = parts.method != Method::GET && !is_git && path != "/graphql";
        let away = hub.is_away || hub.refuses_writes && writes;
        let away = away.then(|| Fault::Status(503, vec![], "away"));
        (login, away.or(fault))
    };
    // An App's JWT is valid by its times, and not by the table of tokens.
    let now = hub.lock().unwrap().ci.now();
    let is_app = path.starts_with("/app") && is_valid_at(&token, now);
    let moved = {
        let hub = hub.lock().unwrap();
        redirect(&hub, &path)
    };
    let id = hub.lock().unwrap().repository;
    if let Some(rest) = path.strip_prefix(&format!("/repositories/{id}")) {
        path = format!("/repos/acme/thing{rest}");
    }
    if let Some(Fault::AppliedLater(ms)) = fault {
        let (hub, method, path) = (hub.clone(), parts.method.clone(), path.clone());
        let login = login.clone().unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(ms)).await;
            hub.lock().unwrap().rest(&method, &path, "", &body, &login);
        });
    }
    let answer = if let Some(target) = moved {
        let host = parts.headers.get("host").and_then(|v| v.to_str().ok()).unwrap_or_default();
        let status = if parts.method == Method::GET { 301 } else { 307 };
        let mut made = response(status, json!({"message": "Moved Permanently"}).to_string());
        let target = HeaderValue::from_str(&format!(
            "http://{host}{target}{}",
            if query.is_empty() { String::new() } else { format!("?{query}") }
        ))
        .unwrap();
        made.headers_mut().insert("location", target);
        made
    } else if matches!(fault, Some(Fault::AppliedLater(_))) {
        response(502, "<html>bad gateway</html>")
    } else if let Some(Fault::Status(status, headers, message)) = &fault {
        let mut made = response(*status, json!({"message": message}).to_string());
        for (name, value) in headers {
            made.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
        }
        made
    } else if login.is_none() && !is_app {
        let mut made = response(401, json!({"message": "Bad credentials"}).to_string());
        let basic = HeaderValue::from_static("Basic realm=\"GitHub\"");
        made.headers_mut().insert("www-authenticate", basic);
        made
    } else if is_git {
        let root = hub.lock().unwrap().root.clone();
        backend(&root, &parts.method, &path, &query, &parts.headers, &bytes).await
    } else {
        let login = login.unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let (status, printed) = {
            let mut hub = hub.lock().unwrap();
            if path == "/graphql" {
                hub.graphql(&body)
            } else if path.ends_with("/logs") {
                (200, json!("log"))
            } else {
                hub.rest(&parts.method, &path, &query, &body, &login)
            }
        };
        let text = if status == 204 {
            String::new()
        } else if path.ends_with("/logs") {
            "line 1\nassertion failed: the widget is blue\n".to_owned()
        } else {
            printed.to_string()
        };
        let digest = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let etag = format!("W/\"{digest:x}\"");
        let known = parts.headers.get("if-none-match").and_then(|v| v.to_str().ok());
        let mut made = if parts.method == Method::GET && known == Some(&etag) {
            response(304, Body::empty())
        } else if matches!(fault, Some(Fault::Cut)) {
            response(status, text[..text.len() / 2].to_owned())
        } else {
            response(status, text)
        };
        if parts.method == Method::GET && status == 200 {
            made.headers_mut().insert("etag", HeaderValue::from_str(&etag).unwrap());
        }
        made.headers_mut().insert("x-ratelimit-remaining", HeaderValue::from_static("4000"));
        made
    };
    let mut answer = match fault {
        Some(Fault::DroppedAfter) => dropped(),
        Some(Fault::AppliedThen502) => response(502, "<html>bad gateway</html>"),
        _ => answer,
    };
    let date = hub.lock().unwrap().ci.date();
    answer.headers_mut().insert("date", HeaderValue::from_str(&date).unwrap());
    let seen = Seen {
        method: parts.method.to_string(),
        path: if query.is_empty() { path } else { format!("{path}?{query}") },
        status: answer.status().as_u16(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
    };
    hub.lock().unwrap().log.push(seen);
    answer
}

/// Where a request under the old name of a repository or of a transferred issue leads.
fn redirect(hub: &Hub, path: &str) -> Option<String> {
    let rest = path.strip_prefix("/repos/acme/thing")?;
    let number = rest.strip_prefix("/issues/").and_then(|rest| rest.split('/').next());
    let to = number.and_then(|number| hub.transferred.get(&number.parse().ok()?));
    match (to, &hub.renamed) {
        (Some(to), _) => Some(format!("/repos/{to}")),
        (None, Some(_)) => Some(format!("/repositories/{}{rest}", hub.repository)),
        (None, None) => None,
    }
}

/// Serves git by its own `http-backend`, as a CGI program.
async fn backend(
    root: &Path,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let text =
        |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", path)
        .env("REQUEST_METHOD", method.as_str())
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", text("content-type"))
        .env("HTTP_CONTENT_ENCODING", text("content-encoding"))
        .env("GIT_PROTOCOL", text("git-protocol"))
        .env("REMOTE_USER", "afk-user")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let body = body.to_vec();
    tokio::spawn(async move {
        let _ = stdin.write_all(&body).await;
    });
    let out = child.wait_with_output().await.unwrap().stdout;
    let end = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(0);
    let head = String::from_utf8_lossy(&out[..end]).into_owned();
    let mut made = response(200, out[(end + 4).min(out.len())..].to_vec());
    for line in head.lines() {
        let Some((name, value)) = line.split_once(": ") else { continue };
        if name == "Status" {
            let code = value.split(' ').next().unwrap().parse().unwrap();
            *made.status_mut() = StatusCode::from_u16(code).unwrap();
        } else {
            let name = axum::http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            made.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
    }
    made
}
