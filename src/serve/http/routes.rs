//! The table of all routes. Both the router and `/openapi.json` are built from it, so that the
//! description can't differ from the server.

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};
use serde_json::{Map, Value, json};

use super::{ApiState, commands, events, metrics, runs, service};

/// The largest body of most routes, in bytes.
const BODY: usize = 1024 * 1024;
/// The largest body of a route that takes a whole dialogue, in bytes.
const DIALOGUE: usize = 8 * 1024 * 1024;

struct Route {
    /// The path, in the syntax that axum and `OpenAPI` share.
    path: &'static str,
    /// The method, in the lower case of `OpenAPI`.
    method: &'static str,
    summary: &'static str,
    /// The parameters of the query, with their types.
    query: &'static [(&'static str, &'static str)],
    /// The fields of the body: name, type, and whether the field is required.
    body: &'static [(&'static str, &'static str, bool)],
    /// The status of success and of each refusal, with descriptions.
    answers: &'static [(u16, &'static str)],
    /// Whether the route requires a bearer token.
    token: bool,
    serve: fn() -> MethodRouter<ApiState>,
}

const QUERY: &[(u16, &str)] = &[(200, "As described"), (401, "The token is missing or unknown")];
const RUN: &[(u16, &str)] = &[
    (200, "As described"),
    (401, "The token is missing or unknown"),
    (404, "There is no such run"),
];
const COMMAND: &[(u16, &str)] = &[
    (200, "Accepted, and durable"),
    (401, "The token is missing or unknown"),
    (403, "The caller is a viewer"),
    (409, "The core refused the command"),
    (422, "The body is not a command"),
    (429, "The queue is full"),
    (503, "afk is ending, or follows another afk"),
];
const EXECUTE: &[(u16, &str)] = &[
    (202, "Queued, and durable"),
    (401, "The token is missing or unknown"),
    (403, "The caller is a viewer"),
    (422, "A field is missing or invalid"),
    (429, "The queue is full"),
    (503, "Pickup is stopped"),
];
const JOB: &[(u16, &str)] =
    &[(200, "As described"), (401, "The token is missing or unknown"), (404, "Job not found")];
const ANSWER: &[(u16, &str)] = &[
    (200, "The answer"),
    (400, "The model is not supported"),
    (401, "The token is missing or unknown"),
    (403, "The caller is a viewer"),
    (422, "A field is missing or invalid"),
    (503, "The agent gave no answer"),
];

/// All routes. Those below `/v1` are also served at the root, except for the answers of models.
const ROUTES: &[Route] = &[
    Route {
        path: "/v1/fleet",
        method: "get",
        summary: "Everything that a cockpit shows",
        query: &[],
        body: &[],
        answers: QUERY,
        token: true,
        serve: || get(commands::fleet),
    },
    Route {
        path: "/v1/events",
        method: "get",
        summary: "The journal as server-sent events: all records after `since` or Last-Event-ID, then each new one",
        query: &[("since", "integer")],
        body: &[],
        answers: QUERY,
        token: true,
        serve: || get(events::events),
    },
    Route {
        path: "/v1/runs/{id}",
        method: "get",
        summary: "One run",
        query: &[],
        body: &[],
        answers: RUN,
        token: true,
        serve: || get(runs::run),
    },
    Route {
        path: "/v1/runs/{id}/transcript",
        method: "get",
        summary: "A window of a run's transcript: `count` records from `from` on",
        query: &[("from", "integer"), ("count", "integer")],
        body: &[],
        answers: RUN,
        token: true,
        serve: || get(runs::transcript),
    },
    Route {
        path: "/v1/breakglass",
        method: "get",
        summary: "The state of breakglass, and the state that a confirmation of each verb must name",
        query: &[],
        body: &[],
        answers: QUERY,
        token: true,
        serve: || get(commands::breakglass),
    },
    Route {
        path: "/v1/commands",
        method: "post",
        summary: "Executes a command, with the checks and the record of a key press",
        query: &[],
        body: &[("action", "string", true)],
        answers: COMMAND,
        token: true,
        serve: || post(commands::command),
    },
    Route {
        path: "/metrics",
        method: "get",
        summary: "Gauges in the OpenMetrics format",
        query: &[],
        body: &[],
        answers: QUERY,
        token: true,
        serve: || get(metrics::metrics),
    },
    Route {
        path: "/openapi.json",
        method: "get",
        summary: "This document",
        query: &[],
        body: &[],
        answers: &[(200, "This document")],
        token: false,
        serve: || get(document),
    },
    Route {
        path: "/health",
        method: "get",
        summary: "The load: runs at work, queued, and the capacity",
        query: &[],
        body: &[],
        answers: &[(200, "As described")],
        token: false,
        serve: || get(service::health),
    },
    Route {
        path: "/execute",
        method: "post",
        summary: "Queues a job",
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
        summary: "The status and the output of a job",
        query: &[],
        body: &[],
        answers: JOB,
        token: true,
        serve: || get(service::job),
    },
    Route {
        path: "/v1/chat/completions",
        method: "post",
        summary: "Answers a dialogue, at once or as a stream",
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
        summary: "Answers a message in a session",
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

/// Builds the router of all routes.
pub(super) fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let has_bare_path = route.path.starts_with("/v1/") && route.answers != ANSWER;
        let limit = DefaultBodyLimit::max(if route.answers == ANSWER { DIALOGUE } else { BODY });
        router = router.route(route.path, (route.serve)().layer(limit));
        if has_bare_path && let Some(bare) = route.path.strip_prefix("/v1") {
            router = router.route(bare, (route.serve)().layer(limit));
        }
    }
    router.with_state(state)
}

async fn document() -> Json<Value> {
    Json(openapi())
}

/// The `OpenAPI` 3.1 description of all routes.
fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
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
    let mut operation = json!({
        "summary": route.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": answers,
    });
    if route.token {
        operation["security"] = json!([{"bearer": []}]);
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
        operation["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    operation
}
