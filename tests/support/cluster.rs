//! A cluster on loopback: it lists, watches and returns the objects that a test puts there, in the
//! way of a kube-apiserver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::watch;

/// A planned fault of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An HTTP status without the answer.
    Status(u16),
    /// A watch that stays open and sends nothing.
    Mute,
    /// A watch that ends at once with an ERROR event of code 410.
    Expired,
    /// A connection that ends in the middle of an object.
    Cut,
}

struct Store {
    version: u64,
    /// Objects by plural and name.
    objects: BTreeMap<(String, String), Value>,
    /// Every change in order, for the watches.
    changes: Vec<(u64, String, &'static str, Value)>,
    logs: BTreeMap<String, String>,
    faults: Vec<(bool, String, Fault, usize)>,
    seen: Vec<String>,
    /// The seconds that the clocks of the cluster are ahead of ours.
    skew: i64,
    /// Jobs run as local processes, with the program under test instead of the image's.
    kubelet: bool,
}

/// The running double; it ends with the test.
pub struct Cluster {
    pub address: String,
    store: Arc<Mutex<Store>>,
    changed: watch::Sender<u64>,
    _server: super::server::Server,
}

#[derive(Clone)]
struct Shared {
    store: Arc<Mutex<Store>>,
    changed: watch::Receiver<u64>,
}

impl Cluster {
    pub fn start() -> Self {
        let store = Arc::new(Mutex::new(Store {
            version: 100,
            objects: BTreeMap::new(),
            changes: Vec::new(),
            logs: BTreeMap::new(),
            faults: Vec::new(),
            seen: Vec::new(),
            skew: 0,
            kubelet: false,
        }));
        let (changed, receiver) = watch::channel(0);
        let shared = Shared { store: store.clone(), changed: receiver };
        let app = axum::Router::new().fallback(serve).with_state(shared);
        let server = super::server::Server::start(app);
        Self { address: server.address.clone(), store, changed, _server: server }
    }

    /// A kubeconfig that points to this cluster.
    pub fn kubeconfig(&self, folder: &Path) -> PathBuf {
        let path = folder.join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.address}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {}}],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        path
    }

    /// Creates or changes an object.
    pub fn put(&self, plural: &str, object: Value) {
        let version = self.store.lock().unwrap().put(plural, object);
        self.changed.send_replace(version);
    }

    /// Returns an object by plural and name.
    pub fn get(&self, plural: &str, name: &str) -> Option<Value> {
        self.store.lock().unwrap().objects.get(&(plural.to_owned(), name.to_owned())).cloned()
    }

    /// The names of all objects of one plural.
    pub fn names(&self, plural: &str) -> Vec<String> {
        let store = self.store.lock().unwrap();
        let of = store.objects.keys().filter(|(of, _)| of == plural);
        of.map(|(_, name)| name.clone()).collect()
    }

    /// From now on a Job's command runs as a local process, and its end sets the Job's condition.
    pub fn run_jobs(&self) {
        self.store.lock().unwrap().kubelet = true;
    }

    /// Changes an object without an event, as in a gap between watches.
    pub fn put_silently(&self, plural: &str, mut object: Value) {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        object["metadata"]["resourceVersion"] = json!(store.version.to_string());
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        store.objects.insert((plural.to_owned(), name), object);
    }

    pub fn remove(&self, plural: &str, name: &str) {
        let mut store = self.store.lock().unwrap();
        store.version += 1;
        let version = store.version;
        let gone = store.objects.remove(&(plural.to_owned(), name.to_owned())).unwrap();
        store.changes.push((version, plural.to_owned(), "DELETED", gone));
        drop(store);
        self.changed.send_replace(version);
    }

    pub fn log(&self, pod: &str, text: &str) {
        self.store.lock().unwrap().logs.insert(pod.into(), text.into());
    }

    /// Plans a fault for the next lists, or watches, of a plural.
    pub fn fault(&self, watches: bool, plural: &str, fault: Fault, times: usize) {
        self.store.lock().unwrap().faults.push((watches, plural.into(), fault, times));
    }

    /// Ends all planned faults.
    pub fn heal(&self) {
        self.store.lock().unwrap().faults.clear();
    }

    /// Sets the clocks of the cluster, which the times in its objects show.
    pub fn clock(&self, skew: i64) {
        self.store.lock().unwrap().skew = skew;
    }

    /// The requests received so far.
    pub fn requests(&self) -> Vec<String> {
        self.store.lock().unwrap().seen.clone()
    }

    /// A Deployment of one pod with its `ReplicaSet`, rolled out with an image.
    pub fn deployed(&self, generation: u64, image: &str, status: &Value) {
        let template = json!({
            "metadata": {"labels": {"app": "app"}, "annotations": {"keel.sh/update-time": "now"}},
            "spec": {"containers": [{"name": "app", "image": image}]},
        });
        let mut state = json!({
            "observedGeneration": generation, "replicas": 1, "updatedReplicas": 1,
            "availableReplicas": 1, "readyReplicas": 1,
        });
        for (name, value) in status.as_object().unwrap() {
            state[name] = value.clone();
        }
        self.put("deployments", json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "app", "uid": "u1", "generation": generation},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "app"}}, "template": template},
            "status": state,
        }));
        let revision = generation.to_string();
        self.put(
            "replicasets",
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {
                    "name": format!("app-{revision}"),
                    "labels": {"app": "app", "pod-template-hash": revision},
                    "annotations": {"deployment.kubernetes.io/revision": revision},
                    "ownerReferences": [{"uid": "u1", "kind": "Deployment", "name": "app"}],
                },
            }),
        );
    }

    /// Adds a pod of a generation of the Deployment.
    pub fn pod(&self, generation: u64, image: &str, restarts: u64, state: &Value) {
        let now = jiff::Timestamp::now().as_second() + self.store.lock().unwrap().skew;
        self.pod_at(generation, image, restarts, state, now, state["running"].is_object());
    }

    /// Adds a pod whose containers run and that isn't ready, created so many seconds ago.
    pub fn unready_pod(&self, generation: u64, image: &str, age: i64) {
        let now = jiff::Timestamp::now().as_second() + self.store.lock().unwrap().skew;
        let state = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        self.pod_at(generation, image, 0, &state, now - age, false);
    }

    /// Adds a pod that was created at `created`, in seconds of the epoch.
    fn pod_at(
        &self,
        generation: u64,
        image: &str,
        restarts: u64,
        state: &Value,
        created: i64,
        ready: bool,
    ) {
        self.put("pods", json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": format!("app-{generation}-x"),
                "labels": {"app": "app", "pod-template-hash": generation.to_string()},
                "creationTimestamp": jiff::Timestamp::from_second(created).unwrap().to_string(),
            },
            "spec": {"containers": [{"name": "app", "image": image}]},
            "status": {
                "phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                "containerStatuses": [{
                    "name": "app", "restartCount": restarts, "state": state, "ready": ready,
                    "image": image, "imageID": format!("registry/app@sha256:{:064x}", generation),
                }],
            },
        }));
    }
}

impl Store {
    fn put(&mut self, plural: &str, mut object: Value) -> u64 {
        self.version += 1;
        let version = self.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        object["metadata"]["namespace"] = json!("web");
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let place = (plural.to_owned(), name);
        let kind = if self.objects.contains_key(&place) { "MODIFIED" } else { "ADDED" };
        self.objects.insert(place, object.clone());
        self.changes.push((version, plural.to_owned(), kind, object));
        version
    }

    fn fault(&mut self, watches: bool, plural: &str) -> Option<Fault> {
        let planned = self
            .faults
            .iter_mut()
            .find(|(w, p, _, times)| *w == watches && p == plural && *times > 0)?;
        planned.3 -= 1;
        Some(planned.2)
    }
}

fn fits(object: &Value, fields: &str, labels: &str) -> bool {
    let name = fields.strip_prefix("metadata.name=");
    name.is_none_or(|name| object["metadata"]["name"] == name)
        && labels.split(',').filter(|pair| !pair.is_empty()).all(|pair| {
            let (label, value) = pair.split_once('=').unwrap();
            object["metadata"]["labels"][label] == value
        })
}

fn status(code: u16, reason: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason, "metadata": {}})
}

fn response(code: u16, body: impl Into<Body>) -> Response {
    let mut made = Response::new(body.into());
    *made.status_mut() = StatusCode::from_u16(code).unwrap();
    let json = axum::http::HeaderValue::from_static("application/json");
    made.headers_mut().insert("content-type", json);
    made
}

/// Like a kube-apiserver: an existing name is a conflict.
fn create(store: &Arc<Mutex<Store>>, plural: &str, body: &[u8]) -> Response {
    let object: Value = serde_json::from_slice(body).unwrap();
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let place = (plural.to_owned(), name);
    let mut all = store.lock().unwrap();
    if all.objects.contains_key(&place) {
        return response(409, status(409, "AlreadyExists").to_string());
    }
    all.put(plural, object);
    let made = all.objects[&place].clone();
    if all.kubelet && plural == "jobs" {
        let (store, job) = (store.clone(), made.clone());
        std::thread::spawn(move || run_job(&store, job));
    }
    response(201, made.to_string())
}

/// Like a kube-apiserver: an outdated resource version is a conflict.
fn replace(store: &Arc<Mutex<Store>>, plural: &str, name: &str, body: &[u8]) -> Response {
    let object: Value = serde_json::from_slice(body).unwrap();
    let place = (plural.to_owned(), name.to_owned());
    let mut all = store.lock().unwrap();
    let Some(known) = all.objects.get(&place) else {
        return response(404, status(404, "NotFound").to_string());
    };
    let version = &object["metadata"]["resourceVersion"];
    if !version.is_null() && *version != known["metadata"]["resourceVersion"] {
        return response(409, status(409, "Conflict").to_string());
    }
    all.put(plural, object);
    response(200, all.objects[&place].to_string())
}

/// Acts as the kubelet: runs the container's command and sets the Job's condition at its end.
fn run_job(store: &Arc<Mutex<Store>>, mut job: Value) {
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    let words = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let command = words(&container["command"]);
    let done = std::process::Command::new(&command[0])
        .args(&command[1..])
        .stdin(std::process::Stdio::null())
        .env("FROM_SECRET", "the-agents-own-key")
        .status();
    let ok = done.is_ok_and(|status| status.success());
    let kind = if ok { "Complete" } else { "Failed" };
    job["status"] = json!({"conditions": [
        {"type": kind, "status": "True", "reason": if ok { "" } else { "BackoffLimitExceeded" }}
    ]});
    let mut all = store.lock().unwrap();
    let place = ("jobs".to_owned(), job["metadata"]["name"].as_str().unwrap().to_owned());
    if all.objects.contains_key(&place) {
        all.put("jobs", job);
    }
}

async fn serve(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let method = parts.method.to_string();
    let request = Request::from_parts(parts, Body::empty());
    let path = request.uri().path().to_owned();
    let query: BTreeMap<String, String> = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            (name.to_owned(), value.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/"))
        })
        .collect();
    let get = |name: &str| query.get(name).cloned().unwrap_or_default();
    let watches = matches!(get("watch").as_str(), "1" | "true");
    let parts: Vec<&str> = path.split('/').collect();
    shared.store.lock().unwrap().seen.push(match method.as_str() {
        "GET" => format!("{path}?{}", request.uri().query().unwrap_or_default()),
        other => format!("{other} {path}"),
    });
    let after = parts.iter().position(|part| *part == "namespaces").map_or(0, |at| at + 2);
    let (plural, rest) = parts[after..].split_first().unwrap();
    if let [pod, "log"] = rest {
        let logs = shared.store.lock().unwrap().logs.clone();
        return response(200, logs.get(*pod).cloned().unwrap_or_default());
    }
    let fault = shared.store.lock().unwrap().fault(watches, plural);
    match fault {
        Some(Fault::Status(code)) => return response(code, status(code, "Fault").to_string()),
        Some(Fault::Mute) => {
            return response(
                200,
                Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>()),
            );
        }
        Some(Fault::Expired) => {
            let event = json!({"type": "ERROR", "object": status(410, "Expired")});
            return response(200, format!("{event}\n"));
        }
        Some(Fault::Cut) => return response(200, "{\"kind\": \"List\", \"items\": ["),
        None => {}
    }
    match (method.as_str(), rest) {
        ("POST", []) => return create(&shared.store, plural, &body),
        ("PUT", [name]) => return replace(&shared.store, plural, name, &body),
        ("GET", [name]) => {
            let found = shared.store.lock().unwrap();
            let found = found.objects.get(&((*plural).to_owned(), (*name).to_owned()));
            return found.map_or_else(
                || response(404, status(404, "NotFound").to_string()),
                |object| response(200, object.to_string()),
            );
        }
        ("DELETE", [name]) => {
            let place = ((*plural).to_owned(), (*name).to_owned());
            let gone = shared.store.lock().unwrap().objects.remove(&place);
            return match gone {
                Some(object) => response(200, object.to_string()),
                None => response(404, status(404, "NotFound").to_string()),
            };
        }
        _ => {}
    }
    let (fields, labels) = (get("fieldSelector"), get("labelSelector"));
    if !watches {
        let store = shared.store.lock().unwrap();
        let of = store.objects.iter().filter(|((of, _), _)| of == plural);
        let items: Vec<&Value> =
            of.map(|(_, object)| object).filter(|o| fits(o, &fields, &labels)).collect();
        let list = json!({
            "apiVersion": "v1", "kind": "List",
            "metadata": {"resourceVersion": store.version.to_string()}, "items": items,
        });
        return response(200, list.to_string());
    }
    let from = get("resourceVersion").parse::<u64>().unwrap_or_default();
    let plural = (*plural).to_owned();
    let stream = futures::stream::unfold((shared, from), move |(mut shared, from)| {
        let (plural, fields, labels) = (plural.clone(), fields.clone(), labels.clone());
        async move {
            loop {
                let (lines, last) = {
                    let store = shared.store.lock().unwrap();
                    let new = store.changes.iter().filter(|(version, ..)| *version > from);
                    let ours = new.clone().filter(|(_, of, _, object)| {
                        *of == plural && fits(object, &fields, &labels)
                    });
                    let lines: Vec<String> = ours
                        .map(|(_, _, kind, object)| {
                            format!("{}\n", json!({"type": kind, "object": object}))
                        })
                        .collect();
                    (lines, new.map(|(version, ..)| *version).max().unwrap_or(from))
                };
                if !lines.is_empty() {
                    let bytes = Bytes::from(lines.concat());
                    return Some((Ok::<_, std::io::Error>(bytes), (shared, last)));
                }
                if shared.changed.changed().await.is_err() {
                    return None;
                }
            }
        }
    });
    response(200, Body::from_stream(stream))
}
