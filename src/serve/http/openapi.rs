//! `GET /openapi.json`: the description of all routes with the shape of every answer. It is built from the
//! table that serves the routes (`routes`), and a test compares it with the answers.

use serde_json::{Map, Value, json};

use super::routes::Route;
use crate::version::VERSION;

/// The shape of a successful answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerShape {
    /// JSON of a schema below, by its name.
    Json(&'static str),
    /// Server-sent events.
    Events,
    /// The text formats of Prometheus.
    Metrics,
    /// JSON of a schema, or server-sent events where the request asks for a stream.
    JsonOrEvents(&'static str),
}

/// The `OpenAPI` 3.1 description of all routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let entry = paths.entry(route.path).or_insert_with(|| json!({}));
        entry[route.method] = operation(route);
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "afk", "version": VERSION},
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
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
    let mut operation = json!({
        "summary": route.summary,
        "parameters": in_path.chain(in_query).collect::<Vec<_>>(),
        "responses": responses(route),
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

/// The answers of a route: its own, and those that every route may give.
fn responses(route: &Route) -> Map<String, Value> {
    let mut all: Vec<(u16, &str)> = route.answers.to_vec();
    let mut also = |status: u16, about: &'static str| {
        if !all.iter().any(|(known, _)| *known == status) {
            all.push((status, about));
        }
    };
    also(403, "afk serves no process that it has started itself");
    if !route.body.is_empty() {
        also(413, "The body is too large");
    }
    all.sort_unstable_by_key(|(status, _)| *status);
    let response = |(status, about): (u16, &str)| {
        let content = if status < 400 {
            success(route.shape)
        } else {
            let schema = match (status, route.shape) {
                // The probes answer in their own shape.
                (503, AnswerShape::Json(name @ ("Livez" | "Readyz" | "Health"))) => name,
                _ => error_shape(route.path),
            };
            json_content(schema)
        };
        (status.to_string(), json!({"description": about, "content": content}))
    };
    all.into_iter().map(response).collect()
}

fn success(shape: AnswerShape) -> Value {
    let events = json!({"schema": {"type": "string", "description": "Server-sent events"}});
    match shape {
        AnswerShape::Json(name) => json_content(name),
        AnswerShape::Events => json!({"text/event-stream": events}),
        AnswerShape::JsonOrEvents(name) => {
            let mut content = json_content(name);
            content["text/event-stream"] = events;
            content
        }
        AnswerShape::Metrics => json!({
            "text/plain": {"schema": {"type": "string"}},
            "application/openmetrics-text": {"schema": {"type": "string"}},
        }),
    }
}

fn json_content(schema: &str) -> Value {
    let name = format!("#/components/schemas/{schema}");
    json!({"application/json": {"schema": {"$ref": name}}})
}

/// The shape of a route's errors.
fn error_shape(path: &str) -> &'static str {
    match path {
        "/execute" | "/jobs/{id}" | "/v1/conversational" => "ServiceError",
        "/v1/chat/completions" | "/v1/models" | "/v1/models/{model}" => "OpenAiError",
        _ => "Error",
    }
}

/// An object with fields that are always there, and those that may be.
fn object(always: &[(&str, Value)], maybe: &[(&str, Value)]) -> Value {
    let all = always.iter().chain(maybe);
    let fields: Map<String, Value> =
        all.map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    let required: Vec<&str> = always.iter().map(|(name, _)| *name).collect();
    json!({"type": "object", "properties": fields, "required": required})
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let number = || json!({"type": "integer"});
    let flag = || json!({"type": "boolean"});
    let any = || json!({});
    let maybe = |kind: &str| json!({"type": [kind, "null"]});
    let list = |of: Value| json!({"type": "array", "items": of});
    let map = || json!({"type": "object"});
    let dollars = || json!({"type": ["number", "null"], "description": "US dollars; null if the agent reports none"});
    let usage = object(
        &[("prompt_tokens", number()), ("completion_tokens", number()), ("total_tokens", number())],
        &[],
    );
    let usage = json!({"anyOf": [usage, {"type": "null"}]});
    let commits = object(
        &[
            ("head", text()),
            ("count", number()),
            ("pushed", flag()),
            ("kept", list(text())),
            ("repository", maybe("string")),
            ("problem", maybe("string")),
        ],
        &[],
    );
    let error = object(
        &[("kind", text()), ("message", text())],
        &[("type", text()), ("code", text()), ("param", maybe("string"))],
    );
    let openai_error = object(
        &[("message", text()), ("type", text()), ("code", maybe("string"))],
        &[("param", maybe("string")), ("kind", text())],
    );
    let model = object(
        &[("id", text()), ("object", text()), ("created", number()), ("owned_by", text())],
        &[],
    );
    let status = json!({
        "type": "string",
        "enum": ["queued", "running", "completed", "failed", "timeout", "error"],
    });
    let job = object(
        &[
            ("job_id", text()),
            ("status", status.clone()),
            ("prompt", text()),
            ("agent", any()),
            ("metadata", any()),
            ("created_at", text()),
            ("started_at", maybe("string")),
            ("finished_at", maybe("string")),
            ("exit_code", maybe("integer")),
            ("output", list(text())),
            ("result", maybe("string")),
            ("cost_usd", dollars()),
            ("usage", usage.clone()),
            ("base", maybe("string")),
            ("commits", json!({"anyOf": [commits, {"type": "null"}]})),
            ("warnings", list(text())),
            ("stderr", any()),
            ("error", maybe("string")),
        ],
        &[],
    );
    json!({
        "Error": object(&[("error", error)], &[("detail", any())]),
        "ServiceError": object(&[("detail", any())], &[("error", any())]),
        "OpenAiError": object(&[("error", openai_error)], &[("detail", any())]),
        "Fleet": object(
            &[
                ("seq", number()),
                ("fleet", map()),
                ("problems", list(text())),
                ("attached", list(map())),
            ],
            &[],
        ),
        "Run": object(&[("run", map()), ("worktree", any()), ("seq", number())], &[]),
        "Transcript": object(
            &[
                ("run", any()),
                ("from", number()),
                ("records", number()),
                ("entries", list(map())),
            ],
            &[],
        ),
        "Breakglass": object(
            &[("vm", maybe("string")), ("state", map()), ("live", map()), ("seen", map())],
            &[],
        ),
        "Accepted": object(&[("accepted", text())], &[("run", number())]),
        "Document": object(&[("openapi", text()), ("info", map()), ("paths", map()), ("components", map())], &[]),
        "Livez": object(&[("live", flag())], &[("reasons", list(text()))]),
        "Readyz": object(
            &[
                ("ready", flag()),
                ("leads", flag()),
                ("tracker_age_seconds", maybe("integer")),
                ("reasons", list(text())),
            ],
            &[],
        ),
        "Health": object(
            &[("status", text())],
            &[
                ("busy", flag()),
                ("active", number()),
                ("queued", number()),
                ("capacity", number()),
                ("leader", text()),
            ],
        ),
        "Queued": object(&[("job_id", text()), ("status", status)], &[]),
        "Job": job,
        "Models": object(&[("object", text()), ("data", list(model.clone()))], &[]),
        "Model": model,
        "Completion": object(
            &[("id", text()), ("object", text()), ("model", text()), ("choices", list(map()))],
            &[("created", number()), ("usage", usage)],
        ),
        "Reply": object(&[("reply", text())], &[("session_id", text())]),
    })
}
