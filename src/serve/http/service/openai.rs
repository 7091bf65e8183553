//! The parts of `OpenAI`'s API beside the answer itself: the shape of errors, the list of models, and
//! the parameters of a chat. A parameter that an agent can't honour is refused by its name; one that
//! only tunes the model is accepted.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::super::ApiState;
use super::super::refusal::openai_type;
use super::{ServiceCaller, ServiceRefusal, service};
use crate::core::model::untrusted::clean_line;

/// An error in the shape that clients of `OpenAI`'s API show, with the keys of the replaced service
/// beside it.
#[derive(Debug)]
pub(in super::super) struct OpenAiRefusal {
    status: StatusCode,
    body: Value,
}

impl OpenAiRefusal {
    /// An error about a parameter, or about none, with further keys beside it.
    fn new(
        status: StatusCode,
        code: &str,
        message: &str,
        param: Option<&str>,
        beside: Value,
    ) -> Self {
        let mut body = beside;
        body["error"] = json!({
            "message": message,
            "type": openai_type(status),
            "code": code,
            "param": param,
        });
        Self { status, body }
    }

    /// A parameter that can't be honoured.
    pub(super) fn unsupported(param: &str, message: &str) -> Self {
        let status = StatusCode::BAD_REQUEST;
        Self::new(status, "unsupported_parameter", message, Some(param), json!({}))
    }

    /// A model that isn't one of those that are known.
    pub(super) fn unknown_model(status: StatusCode, name: &str, known: &[&String]) -> Self {
        let name: String = clean_line(name).chars().take(80).collect();
        let message = format!("unsupported model {name:?}; GET /v1/models lists those that answer");
        let beside = json!({"supported": known});
        Self::new(status, "model_not_found", &message, Some("model"), beside)
    }

    /// The body, which is also an event in a stream whose status has already gone out.
    pub(super) const fn body(&self) -> &Value {
        &self.body
    }
}

impl From<ServiceRefusal> for OpenAiRefusal {
    fn from(refusal: ServiceRefusal) -> Self {
        let ServiceRefusal { status, mut body } = refusal;
        let field = &body["detail"][0];
        let path = field["loc"].as_array().map(|path| {
            let words = path.iter().skip(1).filter_map(Value::as_str);
            words.collect::<Vec<_>>().join(".")
        });
        let message = match (&path, field["msg"].as_str(), body["detail"].as_str()) {
            (Some(path), Some(message), _) => format!("{path}: {message}"),
            (_, _, Some(detail)) => detail.to_owned(),
            _ => "the request was refused".to_owned(),
        };
        let code = match status.as_u16() {
            401 => "invalid_api_key",
            403 => "forbidden",
            413 => "request_too_large",
            422 => "invalid_value",
            429 => "queue_full",
            _ => "execution_failed",
        };
        if let Some(keys) = body.as_object_mut() {
            keys.remove("error");
        }
        Self::new(status, code, &message, path.as_deref(), body)
    }
}

impl IntoResponse for OpenAiRefusal {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

fn described(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": 0, "owned_by": "afk"})
}

/// `GET /v1/models`: the models that a question may name.
pub(in super::super) async fn models(
    State(state): State<ApiState>,
    caller: Result<ServiceCaller, ServiceRefusal>,
) -> Result<Json<Value>, OpenAiRefusal> {
    caller?;
    let (config, _) = service(&state)?;
    let models: Vec<Value> = config.known_models().iter().map(|name| described(name)).collect();
    Ok(Json(json!({"object": "list", "data": models})))
}

/// `GET /v1/models/{model}`: one of them.
pub(in super::super) async fn model(
    State(state): State<ApiState>,
    caller: Result<ServiceCaller, ServiceRefusal>,
    Path(name): Path<String>,
) -> Result<Json<Value>, OpenAiRefusal> {
    caller?;
    let (config, _) = service(&state)?;
    let known = config.known_models();
    if known.contains(&&name) {
        return Ok(Json(described(&name)));
    }
    Err(OpenAiRefusal::unknown_model(StatusCode::NOT_FOUND, &name, &known))
}

/// Whether a parameter has the value that it has by default.
fn is_default(name: &str, value: &Value) -> bool {
    let is_empty = match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    is_empty
        || match name {
            "n" => value.as_f64() == Some(1.0),
            "response_format" => value["type"] == "text",
            "tool_choice" => matches!(value.as_str(), Some("none" | "auto")),
            "function_call" => matches!(value.as_str(), Some("none" | "auto")),
            "logprobs" => value == &json!(false),
            "top_logprobs" => value.as_f64() == Some(0.0),
            "modalities" => value == &json!(["text"]),
            "stop" => value == &json!(""),
            _ => false,
        }
}

/// The parameters that an agent can't honour unless they have their default values, and why.
const REFUSED: [(&str, &str); 12] = [
    ("n", "an agent gives one answer"),
    ("response_format", "an agent answers in text; ask for the format in a message"),
    ("tool_choice", "an agent has no tools of its caller"),
    ("tools", "an agent has no tools of its caller"),
    ("function_call", "an agent has no functions of its caller"),
    ("functions", "an agent has no functions of its caller"),
    ("logprobs", "an agent reports no probabilities"),
    ("top_logprobs", "an agent reports no probabilities"),
    ("logit_bias", "an agent's model takes no bias"),
    ("modalities", "an agent answers in text"),
    ("audio", "an agent answers in text"),
    ("stop", "an agent's answer can't be stopped at a sequence"),
];

/// Refuses the first parameter of a chat that can't be honoured.
pub(super) fn check_parameters(body: &Value) -> Result<(), OpenAiRefusal> {
    // A caller that forbids its own tools loses nothing.
    let forbids_tools = body["tool_choice"] == "none" || body["function_call"] == "none";
    for (name, why) in REFUSED {
        let Some(value) = body.get(name) else { continue };
        if is_default(name, value) || (forbids_tools && matches!(name, "tools" | "functions")) {
            continue;
        }
        let message = format!("`{name}` can't be honoured: {why}");
        return Err(OpenAiRefusal::unsupported(name, &message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &Value) -> Option<String> {
        let refusal = check_parameters(body).err()?;
        refusal.body()["error"]["param"].as_str().map(str::to_owned)
    }

    #[test]
    fn parameter_that_cannot_be_honoured_is_refused_by_its_name() {
        for (body, name) in [
            (json!({"n": 2}), "n"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"tool_choice": "required"}), "tool_choice"),
            (json!({"tool_choice": {"type": "function"}}), "tool_choice"),
            (json!({"tools": [{"type": "function"}]}), "tools"),
            (json!({"tools": [{}], "tool_choice": "auto"}), "tools"),
            (json!({"functions": [{}]}), "functions"),
            (json!({"logprobs": true}), "logprobs"),
            (json!({"logit_bias": {"50256": -100}}), "logit_bias"),
            (json!({"modalities": ["text", "audio"]}), "modalities"),
            (json!({"audio": {"voice": "x"}}), "audio"),
            (json!({"stop": ["\n"]}), "stop"),
        ] {
            assert_eq!(refused(&body).as_deref(), Some(name), "{body}");
        }
    }

    #[test]
    fn harmless_parameters_are_accepted() {
        for body in [
            json!({"temperature": 0.2, "top_p": 1, "max_tokens": 100, "seed": 7, "user": "u"}),
            json!({"n": 1, "n_": 2, "stop": null, "logprobs": false, "top_logprobs": 0}),
            json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true}),
            json!({"tools": [{}], "tool_choice": "none"}),
            json!({"response_format": {"type": "text"}, "modalities": ["text"], "logit_bias": {}}),
            json!({"metadata": {"a": "b"}, "store": false, "reasoning_effort": "low", "extra": 1}),
        ] {
            assert_eq!(refused(&body), None, "{body}");
        }
    }

    #[test]
    fn refusal_of_the_replaced_service_keeps_its_keys_beside_the_error() {
        let field = OpenAiRefusal::from(ServiceRefusal::field("messages", "Field required"));
        let field = field.body();
        assert_eq!(field["error"]["message"], "messages: Field required");
        assert_eq!(
            (&field["error"]["param"], &field["detail"][0]["loc"][1]),
            (&json!("messages"), &json!("messages"))
        );
        let failed = OpenAiRefusal::from(ServiceRefusal::failed("it broke"));
        let failed = failed.body();
        assert_eq!(
            (&failed["error"]["message"], &failed["error"]["type"]),
            (&json!("it broke"), &json!("server_error"))
        );
        assert_eq!(
            (&failed["error"]["code"], &failed["detail"]),
            (&json!("execution_failed"), &json!("it broke"))
        );
    }
}
