//! The table of all routes. Both the router and `/openapi.json` are built from it, so that the
//! description can't differ from the server.

use axum::Json;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{MethodRouter, get, post};
use serde_json::Value;

use super::openapi::{self, AnswerShape};
use super::{ApiState, commands, drain, events, metrics, peer, probes, refusal, runs, service};

/// The largest body of most routes, in bytes.
const BODY: usize = 1024 * 1024;
/// The largest body of a route that takes a whole dialogue, in bytes.
const DIALOGUE: usize = 8 * 1024 * 1024;

pub(super) struct Route {
    /// The path, in the syntax that axum and `OpenAPI` share.
    pub(super) path: &'static str,
    /// The method, in the lower case of `OpenAPI`.
    pub(super) method: &'static str,
    pub(super) summary: &'static str,
    /// The parameters of the query, with their types.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// The fields of the body: name, type, and whether the field is required.
    pub(super) body: &'static [(&'static str, &'static str, bool)],
    /// The status of success and of each refusal, with descriptions.
    pub(super) answers: &'static [(u16, &'static str)],
    /// The shape of a successful answer.
    pub(super) shape: AnswerShape,
    /// Whether the route requires a bearer token.
    pub(super) token: bool,
    serve: fn() -> MethodRouter<ApiState>,
}

impl Route {
    const fn new(
        path: &'static str,
        method: &'static str,
        serve: fn() -> MethodRouter<ApiState>,
    ) -> Self {
        let (query, body): (&[_], &[_]) = (&[], &[]);
        Self {
            path,
            method,
            summary: "",
            query,
            body,
            answers: QUERY,
            shape: AnswerShape::Events,
            token: true,
            serve,
        }
    }

    const fn get(path: &'static str, serve: fn() -> MethodRouter<ApiState>) -> Self {
        Self::new(path, "get", serve)
    }

    const fn post(path: &'static str, serve: fn() -> MethodRouter<ApiState>) -> Self {
        Self::new(path, "post", serve)
    }

    const fn summary(mut self, summary: &'static str) -> Self {
        self.summary = summary;
        self
    }

    const fn query(mut self, query: &'static [(&'static str, &'static str)]) -> Self {
        self.query = query;
        self
    }

    const fn body(mut self, body: &'static [(&'static str, &'static str, bool)]) -> Self {
        self.body = body;
        self
    }

    const fn answers(mut self, answers: &'static [(u16, &'static str)]) -> Self {
        self.answers = answers;
        self
    }

    const fn gives(mut self, shape: AnswerShape) -> Self {
        self.shape = shape;
        self
    }

    /// Serves the route without a token.
    const fn public(mut self) -> Self {
        self.token = false;
        self
    }
}

const QUERY: &[(u16, &str)] = &[(200, "As described"), (401, "The token is missing or unknown")];
const RUN: &[(u16, &str)] = &[
    (200, "As described"),
    (401, "The token is missing or unknown"),
    (404, "There is no such run"),
];
const TRANSCRIPT: &[(u16, &str)] = &[
    (200, "As described"),
    (401, "The token is missing or unknown"),
    (404, "There is no such run"),
    (422, "A parameter of the query is no number"),
    (500, "The transcript can't be read"),
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
    (400, "The header Idempotency-Key is invalid"),
    (403, "The caller is a viewer"),
    (409, "The key of the request belongs to another job"),
    (422, "A field is missing or invalid"),
    (429, "The queue is full"),
    (503, "Pickup is stopped"),
];
const JOB: &[(u16, &str)] =
    &[(200, "As described"), (401, "The token is missing or unknown"), (404, "Job not found")];
const MODELS: &[(u16, &str)] = &[
    (200, "As described"),
    (401, "The token is missing or unknown"),
    (503, "The configuration has no [service]"),
];
const MODEL: &[(u16, &str)] = &[
    (200, "As described"),
    (401, "The token is missing or unknown"),
    (404, "There is no such model"),
    (503, "The configuration has no [service]"),
];
const ANSWER: &[(u16, &str)] = &[
    (200, "The answer"),
    (400, "The model is not supported, or a parameter can't be honoured"),
    (401, "The token is missing or unknown"),
    (403, "The caller is a viewer"),
    (409, "The key of the request belongs to another question"),
    (422, "A field is missing or invalid"),
    (429, "The queue is full"),
    (503, "The agent gave no answer"),
];

const PROBE: &[(u16, &str)] = &[(200, "Yes"), (503, "No, with the reasons")];

/// All routes. Those below `/v1` are also served at the root, except for models and their answers.
const ROUTES: &[Route] = &[
    Route::get("/v1/fleet", || get(commands::fleet))
        .gives(AnswerShape::Json("Fleet"))
        .summary("Everything that a cockpit shows"),
    Route::get("/v1/events", || get(events::events))
        .gives(AnswerShape::Events)
        .summary("The journal as server-sent events: all records after `since` or Last-Event-ID, then each new one")
        .query(&[("since", "integer")]),
    Route::get("/v1/runs/{id}", || get(runs::run))
        .gives(AnswerShape::Json("Run"))
        .summary("One run")
        .answers(RUN),
    Route::get("/v1/runs/{id}/transcript", || get(runs::transcript))
        .gives(AnswerShape::Json("Transcript"))
        .summary("A window of a run's transcript: `count` records from `from` on")
        .query(&[("from", "integer"), ("count", "integer")])
        .answers(TRANSCRIPT),
    Route::get("/v1/breakglass", || get(commands::breakglass))
        .gives(AnswerShape::Json("Breakglass"))
        .summary("The state of breakglass, and the state that a confirmation of each verb must name"),
    Route::post("/v1/commands", || post(commands::command))
        .gives(AnswerShape::Json("Accepted"))
        .summary("Executes a command, with the checks and the record of a key press")
        .body(&[("action", "string", true)])
        .answers(COMMAND),
    Route::get("/metrics", || get(metrics::metrics))
        .gives(AnswerShape::Metrics)
        .summary("Metrics for Prometheus"),
    Route::get("/openapi.json", || get(document))
        .gives(AnswerShape::Json("Document"))
        .summary("This document")
        .public()
        .answers(&[(200, "This document")]),
    Route::get("/livez", || get(probes::live))
        .gives(AnswerShape::Json("Livez"))
        .summary("Whether the event loop answers")
        .public()
        .answers(PROBE),
    Route::get("/readyz", || get(probes::ready))
        .gives(AnswerShape::Json("Readyz"))
        .summary("Whether this afk leads, writes its journal and reads its trackers")
        .public()
        .answers(PROBE),
    Route::get("/health", || get(service::health))
        .gives(AnswerShape::Json("Health"))
        .summary("The load: runs at work, queued, and the capacity")
        .public()
        .answers(&[(200, "As described"), (503, "This afk follows another one")]),
    Route::post("/execute", || post(service::execute))
        .gives(AnswerShape::Json("Queued"))
        .summary("Queues a job")
        .body(&[
            ("prompt", "string", true),
            ("agent", "string", true),
            ("max_budget_usd", "number", false),
            ("timeout_seconds", "integer", false),
            ("metadata", "object", false),
        ])
        .answers(EXECUTE),
    Route::get("/jobs/{id}", || get(service::job))
        .gives(AnswerShape::Json("Job"))
        .summary("The status and the output of a job")
        .answers(JOB),
    Route::get("/v1/models", || get(service::models))
        .gives(AnswerShape::Json("Models"))
        .summary("The models that a question may name")
        .answers(MODELS),
    Route::get("/v1/models/{model}", || get(service::model))
        .gives(AnswerShape::Json("Model"))
        .summary("One of the models")
        .answers(MODEL),
    Route::post("/v1/chat/completions", || post(service::completions))
        .gives(AnswerShape::JsonOrEvents("Completion"))
        .summary("Answers a dialogue, at once or as a stream")
        .body(&[
            ("messages", "array", true),
            ("model", "string", false),
            ("stream", "boolean", false),
            ("stream_options", "object", false),
        ])
        .answers(ANSWER),
    Route::post("/v1/conversational", || post(service::conversational))
        .gives(AnswerShape::Json("Reply"))
        .summary("Answers a message in a session")
        .body(&[
            ("session_id", "string", true),
            ("message", "string", true),
            ("model", "string", false),
        ])
        .answers(ANSWER),
];

/// Builds the router of all routes.
pub(super) fn router(state: ApiState) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        let is_openai = route.answers == ANSWER || route.path.starts_with("/v1/models");
        let has_bare_path = route.path.starts_with("/v1/") && !is_openai;
        let limit = DefaultBodyLimit::max(if route.answers == ANSWER { DIALOGUE } else { BODY });
        router = router.route(route.path, (route.serve)().layer(limit));
        if has_bare_path && let Some(bare) = route.path.strip_prefix("/v1") {
            router = router.route(bare, (route.serve)().layer(limit));
        }
    }
    let guard = axum::middleware::from_fn_with_state(state.clone(), peer::guard);
    router
        .layer(guard)
        .layer(axum::middleware::from_fn(refusal::with_body))
        .layer(axum::middleware::from_fn(drain::rest_of_body))
        .with_state(state)
}

async fn document() -> Json<Value> {
    Json(description())
}

/// The description of all routes. A function of its own, since the table names `document`.
fn description() -> Value {
    openapi::document(ROUTES)
}
