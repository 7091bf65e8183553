//! Every route once: what is served and what `/openapi.json` tells are made of the same table.

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};
use serde_json::{Map, Value, json};

use super::{Shared, commands, events, metrics, runs, service};

/// The largest body of our own routes, in bytes.
const BODY: usize = 1024 * 1024;
/// The same of the service: a whole dialogue.
const DIALOGUE: usize = 8 * 1024 * 1024;

/// One route.
pub(super) struct Route {
    /// As axum and `OpenAPI` both write it.
    pub path: &'static str,
    pub method: &'static str,
    about: &'static str,
    /// Named in the query, with what they are.
    query: &'static [(&'static str, &'static str)],
    /// What the body has: name, type, whether it must be there.
    body: &'static [(&'static str, &'static str, bool)],
    /// The status of success and of each refusal.
    answers: &'static [(u16, &'static str)],
    /// Whether a token is needed.
    token: bool,
    serve: fn() -> MethodRouter<Shared>,
}

const OURS: &[(u16, &str)] = &[(200, "As told"), (401, "No known token")];
const FOUND: &[(u16, &str)] = &[(200, "As told"), (401, "No known token"), (404, "No such run")];
const COMMAND: &[(u16, &str)] = &[
    (200, "Accepted, and durable"),
    (401, "No known token"),
    (403, "A viewer"),
    (409, "Refused by the core"),
    (422, "No such action"),
    (429, "The queue is full"),
    (503, "afk is ending"),
];
const EXECUTE: &[(u16, &str)] = &[
    (202, "Queued, and durable"),
    (401, "No known token"),
    (403, "A viewer"),
    (422, "A field is no good"),
    (429, "Queue full"),
    (503, "Nothing is picked up"),
];
const JOB: &[(u16, &str)] = &[(200, "As told"), (401, "No known token"), (404, "Job not found")];
const ANSWER: &[(u16, &str)] = &[
    (200, "The answer"),
    (400, "Unsupported model"),
    (401, "No known token"),
    (403, "A viewer"),
    (422, "A field is no good"),
    (503, "No answer could be had"),
];

/// All of them. Our own stand below `/v1`, and at the root for callers that know no version.
pub(super) const ALL: &[Route] = &[
    Route {
        path: "/v1/fleet",
        method: "get",
        about: "All that a cockpit shows",
        query: &[],
        body: &[],
        answers: OURS,
        token: true,
        serve: || get(commands::fleet),
    },
    Route {
        path: "/v1/events",
        method: "get",
        about: "The journal as server-sent events: all after `since` or Last-Event-ID, then each",
        query: &[("since", "integer")],
        body: &[],
        answers: OURS,
        token: true,
        serve: || get(events::events),
    },
    Route {
        path: "/v1/runs/{id}",
        method: "get",
        about: "One run",
        query: &[],
        body: &[],
        answers: FOUND,
        token: true,
        serve: || get(runs::run),
    },
    Route {
        path: "/v1/runs/{id}/transcript",
        method: "get",
        about: "A window of a run's transcript: `count` records from `from` on",
        query: &[("from", "integer"), ("count", "integer")],
        body: &[],
        answers: FOUND,
        token: true,
        serve: || get(runs::transcript),
    },
    Route {
        path: "/v1/breakglass",
        method: "get",
        about: "How breakglass stands, and what a confirmation of each verb is bound to",
        query: &[],
        body: &[],
        answers: OURS,
        token: true,
        serve: || get(commands::breakglass),
    },
    Route {
        path: "/v1/commands",
        method: "post",
        about: "An action, with the checks and the record of a key",
        query: &[],
        body: &[("action", "string", true)],
        answers: COMMAND,
        token: true,
        serve: || post(commands::command),
    },
    Route {
        path: "/metrics",
        method: "get",
        about: "Figures, as OpenMetrics",
        query: &[],
        body: &[],
        answers: OURS,
        token: true,
        serve: || get(metrics::metrics),
    },
    Route {
        path: "/openapi.json",
        method: "get",
        about: "This",
        query: &[],
        body: &[],
        answers: &[(200, "This")],
        token: false,
        serve: || get(document),
    },
    Route {
        path: "/health",
        method: "get",
        about: "How busy it is",
        query: &[],
        body: &[],
        answers: &[(200, "As told")],
        token: false,
        serve: || get(service::health),
    },
    Route {
        path: "/execute",
        method: "post",
        about: "Queues a job",
        query: &[],
        body: &[
            ("prompt", "string", true),
            ("agent", "string", true),
            ("max_budget_usd", "number", false),
            ("timeout_seconds", "integer", false),
            ("metadata", "object", false),
        ],
        answers: EXECUTE,
        token: true,
        serve: || post(service::execute),
    },
    Route {
        path: "/jobs/{id}",
        method: "get",
        about: "How a job stands",
        query: &[],
        body: &[],
        answers: JOB,
        token: true,
        serve: || get(service::job),
    },
    Route {
        path: "/v1/chat/completions",
        method: "post",
        about: "An answer to a dialogue, whole or as a stream",
        query: &[],
        body: &[
            ("messages", "array", true),
            ("model", "string", false),
            ("stream", "boolean", false),
        ],
        answers: ANSWER,
        token: true,
        serve: || post(service::completions),
    },
    Route {
        path: "/v1/conversational",
        method: "post",
        about: "An answer in a session",
        query: &[],
        body: &[
            ("session_id", "string", true),
            ("message", "string", true),
            ("model", "string", false),
        ],
        answers: ANSWER,
        token: true,
        serve: || post(service::conversational),
    },
];

/// What is served.
pub(super) fn router(shared: Shared) -> Router {
    let mut router = Router::new();
    for route in ALL {
        let ours = route.path.starts_with("/v1/") && route.answers != ANSWER;
        let limit = DefaultBodyLimit::max(if route.answers == ANSWER { DIALOGUE } else { BODY });
        router = router.route(route.path, (route.serve)().layer(limit));
        if ours && let Some(bare) = route.path.strip_prefix("/v1") {
            router = router.route(bare, (route.serve)().layer(limit));
        }
    }
    router.with_state(shared)
}

async fn document() -> Json<Value> {
    Json(openapi())
}

/// `OpenAPI` 3.1 of all routes.
pub(super) fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ALL {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "afk", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    })
}

fn operation(route: &Route) -> Value {
    let in_path = route.path.split(['{', '}']).skip(1).step_by(2);
    let in_path = in_path.map(
        |name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
    );
    let in_query = route.query.iter().map(|(name, kind)| {
        json!({"name": name, "in": "query", "required": false, "schema": {"type": kind}})
    });
    let answers: Map<String, Value> = route
        .answers
        .iter()
        .map(|(status, about)| (status.to_string(), json!({ "description": about })))
        .collect();
    let mut told = json!({
        "summary": route.about,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": answers,
    });
    if route.token {
        told["security"] = json!([{"bearer": []}]);
    }
    if !route.body.is_empty() {
        let fields: Map<String, Value> = route
            .body
            .iter()
            .map(|(name, kind, _)| ((*name).to_owned(), json!({ "type": kind })))
            .collect();
        let needed: Vec<&str> =
            route.body.iter().filter(|(_, _, needed)| *needed).map(|(name, ..)| *name).collect();
        let schema = json!({"type": "object", "properties": fields, "required": needed});
        told["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    told
}
