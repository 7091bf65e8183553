//! The wire formats of models: Anthropic's Messages, `OpenAI`'s Responses and Chat Completions, and
//! Google's `generateContent`.

use serde_json::{Value, json};

use super::{ModelRequest, Reply};

/// How a program asks the model, and how it reads the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Messages,
    Responses,
    Chat,
    Generate,
}

/// The agent's shell tool: its name and what its input needs.
#[derive(Debug, Clone)]
pub(super) struct Shell {
    name: String,
    properties: Value,
    /// The request tells the model to ask for rights outside of the agent's own sandbox.
    escalates: bool,
}

/// The names that agents give their shell tool.
const SHELLS: &[&str] =
    &["Bash", "bash", "exec_command", "shell_command", "shell", "local_shell", "run_shell_command"];

impl Shell {
    fn input(&self, command: &str) -> Value {
        let has = |name: &str| !self.properties[name].is_null();
        let key = if has("cmd") { "cmd" } else { "command" };
        let list = self.properties[key]["type"] == "array";
        let mut input = json!({});
        input[key] = if list { json!(["bash", "-lc", command]) } else { json!(command) };
        if has("description") {
            input["description"] = json!("scripted");
        }
        if has("sandbox_permissions") && self.escalates {
            // As Codex's instructions ask for, where its own sandbox can't run a command.
            input["sandbox_permissions"] = json!("require_escalated");
            input["justification"] = json!("scripted");
        }
        if has("is_background") {
            input["is_background"] = json!(false);
        }
        input
    }
}

/// The JSON schema of a tool's input; null for a tool that takes plain text.
fn schema(tool: &Value) -> &Value {
    ["input_schema", "parametersJsonSchema", "parameters"]
        .into_iter()
        .map(|key| &tool[key])
        .find(|schema| !schema.is_null())
        .unwrap_or(&Value::Null)
}

/// The tool that an answer calls, and its input.
fn call(reply: &Reply, tool: Option<&Shell>) -> Option<(String, Value)> {
    match (reply, tool) {
        (Reply::Run(command), Some(tool)) => Some((tool.name.clone(), tool.input(command))),
        (Reply::Call(name, input), _) => Some((name.clone(), input.clone())),
        _ => None,
    }
}

/// The text of an answer without a call.
fn said(reply: &Reply) -> &str {
    let Reply::Say(text) = reply else { unreachable!() };
    text
}

impl Wire {
    /// The format of a request by its path, and whether the answer must be a stream.
    pub(super) fn of(path: &str, body: &Value) -> Option<(Self, bool)> {
        let streams = body["stream"] == json!(true);
        match path.rsplit('/').next()? {
            "messages" => Some((Self::Messages, streams)),
            "responses" => Some((Self::Responses, streams)),
            "completions" => Some((Self::Chat, streams)),
            last if last.ends_with(":streamGenerateContent") => Some((Self::Generate, true)),
            last if last.ends_with(":generateContent") => Some((Self::Generate, false)),
            _ => None,
        }
    }

    /// The tools that the request offers.
    fn tools(self, body: &Value) -> Vec<&Value> {
        let tools = body["tools"].as_array().into_iter().flatten();
        match self {
            Self::Messages | Self::Responses => tools.collect(),
            Self::Chat => tools.map(|tool| &tool["function"]).collect(),
            Self::Generate => {
                tools.filter_map(|tool| tool["functionDeclarations"].as_array()).flatten().collect()
            }
        }
    }

    /// The shell tool among those that the request offers.
    pub(super) fn shell(self, body: &Value) -> Option<Shell> {
        let tools = self.tools(body);
        let named = |tool: &&&Value| tool["name"].as_str().is_some_and(|n| SHELLS.contains(&n));
        let tool = tools.iter().find(named)?;
        let properties = schema(tool)["properties"].clone();
        let escalates = body.to_string().contains("sandbox_permissions=require_escalated");
        Some(Shell { name: tool["name"].as_str()?.to_owned(), properties, escalates })
    }

    pub(super) fn request(self, body: &Value, login: String) -> ModelRequest {
        let items = match self {
            Self::Responses => &body["input"],
            Self::Messages | Self::Chat => &body["messages"],
            Self::Generate => &body["contents"],
        };
        let items = items.as_array().cloned().unwrap_or_default();
        let is_answer = |item: &&Value| {
            matches!(item["role"].as_str(), Some("assistant" | "model"))
                || matches!(item["type"].as_str(), Some("function_call" | "local_shell_call"))
        };
        let text = |item: &Value| match (&item["content"], &item["parts"]) {
            (Value::String(text), _) => text.clone(),
            (Value::Array(parts), _) | (_, Value::Array(parts)) => {
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        };
        let mut users = items.iter().filter(|item| item["role"] == "user").map(text);
        let user = users.rfind(|text| !text.is_empty()).unwrap_or_default();
        let spoken = items.iter().filter(is_answer).count();
        let named = |tool: &&Value| Some((tool["name"].as_str()?.to_owned(), schema(tool).clone()));
        // Codex groups the tools of a server in a namespace; such a tool is `namespace:name` here.
        let spaced = self.tools(body).into_iter().flat_map(|group| {
            let space = group["name"].as_str().unwrap_or_default();
            let inner = group["tools"].as_array().into_iter().flatten();
            inner.filter_map(move |tool| {
                Some((format!("{space}:{}", tool["name"].as_str()?), schema(tool).clone()))
            })
        });
        let tools = self.tools(body).iter().filter_map(named).chain(spaced).collect();
        let model = body["model"].as_str().unwrap_or_default().to_owned();
        ModelRequest { spoken, user, whole: body.to_string(), login, model, tools }
    }

    /// The whole answer to a request that wants no stream.
    pub(super) fn message(self, reply: &Reply, tool: Option<&Shell>, n: usize) -> Value {
        let text = match reply {
            Reply::Say(text) => text,
            _ => "ok",
        };
        match self {
            Self::Messages => json!({"id": "msg_1", "type": "message", "role": "assistant",
                "model": "m", "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn", "usage": {"input_tokens": 10, "output_tokens": 5}}),
            Self::Responses => response("completed", &[responses_item(reply, tool, n)], n),
            Self::Chat => json!({"id": format!("chatcmpl-{n:08}"), "object": "chat.completion",
                "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason": "stop",
                "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}}),
            Self::Generate => generated(&json!([{"text": text}]), Some("STOP")),
        }
    }

    /// The answer as server-sent events.
    pub(super) fn stream(self, reply: &Reply, tool: Option<&Shell>, n: usize) -> String {
        let events = match self {
            Self::Messages => messages(reply, tool, n),
            Self::Responses => responses(reply, tool, n),
            Self::Chat => chat(reply, tool, n),
            Self::Generate => generate(reply, tool, n),
        };
        let mut text = String::new();
        for event in &events {
            if let Some(kind) = event["type"].as_str() {
                text.push_str(&format!("event: {kind}\n"));
            }
            text.push_str(&format!("data: {event}\n\n"));
        }
        if self == Self::Chat {
            text.push_str("data: [DONE]\n\n");
        }
        text
    }
}

fn messages(reply: &Reply, tool: Option<&Shell>, n: usize) -> Vec<Value> {
    let (block, delta, reason) = match call(reply, tool) {
        Some((name, input)) => (
            json!({"type": "tool_use", "id": format!("toolu_{n:08}"), "name": name, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": input.to_string()}),
            "tool_use",
        ),
        None => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": said(reply)}),
            "end_turn",
        ),
    };
    vec![
        json!({"type": "message_start", "message": {"id": format!("msg_{n:08}"), "type": "message",
            "role": "assistant", "model": "claude-x", "content": [], "stop_reason": null,
            "stop_sequence": null, "usage": {"input_tokens": 1000, "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": block}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": null},
            "usage": {"output_tokens": 50}}),
        json!({"type": "message_stop"}),
    ]
}

fn responses_item(reply: &Reply, tool: Option<&Shell>, n: usize) -> Value {
    match call(reply, tool) {
        Some((name, Value::String(input))) => json!({"type": "custom_tool_call",
            "id": format!("ctc_{n:08}"), "call_id": format!("call_{n:08}"), "name": name,
            "input": input, "status": "completed"}),
        Some((name, input)) => {
            let mut call = json!({"type": "function_call",
                "id": format!("fc_{n:08}"), "call_id": format!("call_{n:08}"), "name": name,
                "arguments": input.to_string(), "status": "completed"});
            if let Some((space, inner)) = name.split_once(':') {
                call["namespace"] = json!(space);
                call["name"] = json!(inner);
            }
            call
        }
        None => json!({"type": "message", "id": format!("msg_{n:08}"),
            "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": said(reply), "annotations": []}]}),
    }
}

fn response(status: &str, output: &[Value], n: usize) -> Value {
    json!({"id": format!("resp_{n:08}"), "object": "response", "created_at": 1, "status": status,
        "model": "gpt-x", "output": output, "usage": {"input_tokens": 1000,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1050}})
}

fn responses(reply: &Reply, tool: Option<&Shell>, n: usize) -> Vec<Value> {
    let item = responses_item(reply, tool, n);
    let done = response("completed", std::slice::from_ref(&item), n);
    vec![
        json!({"type": "response.created", "sequence_number": 1, "response": response("in_progress", &[], n)}),
        json!({"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "sequence_number": 3, "output_index": 0, "item": item}),
        json!({"type": "response.completed", "sequence_number": 4, "response": done}),
    ]
}

fn chat(reply: &Reply, tool: Option<&Shell>, n: usize) -> Vec<Value> {
    let (delta, reason) = match call(reply, tool) {
        Some((name, input)) => (
            json!({"role": "assistant", "content": null, "tool_calls": [{"index": 0,
                "id": format!("call_{n:08}"), "type": "function", "function": {
                "name": name, "arguments": input.to_string()}}]}),
            "tool_calls",
        ),
        None => (json!({"role": "assistant", "content": said(reply)}), "stop"),
    };
    let chunk = |choices: Value, usage: Value| {
        json!({"id": format!("chatcmpl-{n:08}"), "object": "chat.completion.chunk", "created": 1,
            "model": "m", "choices": choices, "usage": usage})
    };
    let choice = |delta: Value, reason: Option<&str>| json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
    vec![
        chunk(choice(delta, None), Value::Null),
        chunk(choice(json!({}), Some(reason)), Value::Null),
        chunk(
            json!([]),
            json!({"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1050}),
        ),
    ]
}

fn generated(parts: &Value, reason: Option<&str>) -> Value {
    let mut candidate = json!({"content": {"role": "model", "parts": parts}, "index": 0});
    if let Some(reason) = reason {
        candidate["finishReason"] = json!(reason);
    }
    json!({"candidates": [candidate], "modelVersion": "m", "responseId": "r", "usageMetadata": {
        "promptTokenCount": 1000, "candidatesTokenCount": 50, "totalTokenCount": 1050}})
}

fn generate(reply: &Reply, tool: Option<&Shell>, n: usize) -> Vec<Value> {
    let part = match call(reply, tool) {
        Some((name, input)) => json!({"functionCall": {
            "id": format!("call_{n:08}"), "name": name, "args": input}}),
        None => json!({"text": said(reply)}),
    };
    vec![generated(&json!([part]), None), generated(&json!([{"text": ""}]), Some("STOP"))]
}
