//! A model on loopback that answers by a script: Anthropic's Messages and `OpenAI`'s Responses, as
//! far as real agent programs need them. It uses no network and no real key.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

/// One request, reduced to what scripts look at.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// How many answers of the model the conversation already has.
    pub spoken: usize,
    /// The newest user message.
    pub user: String,
    /// The whole request body.
    pub whole: String,
}

/// The model's answer to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A text that ends the turn.
    Say(String),
    /// A command for the agent's shell tool.
    Run(String),
    /// An API error with its status.
    Status(u16),
    /// An open connection without any answer.
    Hang,
}

type Script = dyn Fn(&ModelRequest) -> Reply + Send + Sync;

/// A running model double; it ends with the test's process.
pub struct Model {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    seen: Arc<Mutex<Vec<ModelRequest>>>,
}

impl Model {
    pub fn start(script: impl Fn(&ModelRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (script.clone(), log.clone());
                std::thread::spawn(move || drop(serve(stream, &*script, &log)));
            }
        });
        Self { address, seen }
    }

    /// The requests received so far, without side calls.
    pub fn requests(&self) -> Vec<ModelRequest> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(
    stream: TcpStream,
    script: &Script,
    log: &Mutex<Vec<ModelRequest>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let header = header.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = first.split_whitespace().nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let responses = path.ends_with("/responses");
    if path.ends_with("/count_tokens") {
        return answer(stream, 200, "application/json", r#"{"input_tokens":10}"#);
    }
    if !responses && !path.ends_with("/messages") {
        return answer(stream, 404, "application/json", "{}");
    }
    let tool = shell_tool(&body);
    let reply = if tool.is_some() {
        let asked = parse_request(&body, responses);
        let reply = script(&asked);
        log.lock().unwrap().push(asked);
        reply
    } else {
        // A side call, such as for a title or a summary.
        Reply::Say("ok".into())
    };
    match reply {
        Reply::Hang => {
            // Wait until the client disconnects.
            let mut rest = [0; 1];
            let _ = reader.read(&mut rest);
            Ok(())
        }
        Reply::Status(status) => {
            let error = json!({"type": "error", "error": {"type": "scripted_error", "message": "scripted"}});
            answer(stream, status, "application/json", &error.to_string())
        }
        reply if body["stream"] != json!(true) => {
            let text = match reply {
                Reply::Say(text) => text,
                _ => "ok".into(),
            };
            let message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 10, "output_tokens": 5}});
            answer(stream, 200, "application/json", &message.to_string())
        }
        reply => {
            let n = log.lock().unwrap().len();
            let events = if responses {
                as_responses(&reply, tool.as_ref(), n)
            } else {
                as_messages(&reply, tool.as_ref(), n)
            };
            let mut text = String::new();
            for event in &events {
                let kind = event["type"].as_str().unwrap_or_default();
                text.push_str(&format!("event: {kind}\ndata: {event}\n\n"));
            }
            answer(stream, 200, "text/event-stream", &text)
        }
    }
}

fn answer(mut stream: TcpStream, status: u16, kind: &str, body: &str) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// The agent's shell tool: its name and the input that runs a command.
#[derive(Debug, Clone)]
struct Shell {
    name: String,
    key: String,
    list: bool,
}

fn shell_tool(body: &Value) -> Option<Shell> {
    let known = ["Bash", "bash", "exec_command", "shell_command", "shell", "local_shell"];
    let tools = body["tools"].as_array()?;
    let named = |tool: &&Value| tool["name"].as_str().is_some_and(|name| known.contains(&name));
    let tool = tools.iter().find(named)?;
    let properties = match &tool["input_schema"] {
        Value::Null => &tool["parameters"]["properties"],
        schema => &schema["properties"],
    };
    let key = if properties["cmd"].is_null() { "command" } else { "cmd" };
    let list = properties[key]["type"] == "array";
    Some(Shell { name: tool["name"].as_str()?.to_owned(), key: key.to_owned(), list })
}

impl Shell {
    fn input(&self, command: &str) -> Value {
        let command = if self.list { json!(["bash", "-lc", command]) } else { json!(command) };
        let mut input = json!({"description": "scripted"});
        if self.key == "cmd" || self.list {
            input = json!({});
        }
        input[&self.key] = command;
        input
    }
}

fn parse_request(body: &Value, responses: bool) -> ModelRequest {
    let items = if responses { &body["input"] } else { &body["messages"] };
    let items = items.as_array().cloned().unwrap_or_default();
    let speaks = |item: &&Value| {
        item["role"] == "assistant"
            || matches!(item["type"].as_str(), Some("function_call" | "local_shell_call"))
    };
    let text = |item: &Value| match &item["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    let mut users = items.iter().filter(|item| item["role"] == "user").map(text);
    let user = users.rfind(|text| !text.is_empty()).unwrap_or_default();
    ModelRequest { spoken: items.iter().filter(speaks).count(), user, whole: body.to_string() }
}

fn as_messages(reply: &Reply, tool: Option<&Shell>, n: usize) -> Vec<Value> {
    let (block, delta, reason) = match (reply, tool) {
        (Reply::Run(command), Some(tool)) => (
            json!({"type": "tool_use", "id": format!("toolu_{n:08}"), "name": tool.name, "input": {}}),
            json!({"type": "input_json_delta", "partial_json": tool.input(command).to_string()}),
            "tool_use",
        ),
        (Reply::Say(text), _) => (
            json!({"type": "text", "text": ""}),
            json!({"type": "text_delta", "text": text}),
            "end_turn",
        ),
        _ => unreachable!(),
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

fn as_responses(reply: &Reply, tool: Option<&Shell>, n: usize) -> Vec<Value> {
    let item = match (reply, tool) {
        (Reply::Run(command), Some(tool)) => json!({"type": "function_call",
            "id": format!("fc_{n:08}"), "call_id": format!("call_{n:08}"), "name": tool.name,
            "arguments": tool.input(command).to_string(), "status": "completed"}),
        (Reply::Say(text), _) => json!({"type": "message", "id": format!("msg_{n:08}"),
            "role": "assistant", "status": "completed",
            "content": [{"type": "output_text", "text": text, "annotations": []}]}),
        _ => unreachable!(),
    };
    let response = |status: &str, output: &[Value]| {
        json!({"id": format!("resp_{n:08}"), "object": "response", "created_at": 1, "status": status,
            "model": "gpt-x", "output": output, "usage": {"input_tokens": 1000,
            "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1050}})
    };
    vec![
        json!({"type": "response.created", "sequence_number": 1, "response": response("in_progress", &[])}),
        json!({"type": "response.output_item.added", "sequence_number": 2, "output_index": 0, "item": item}),
        json!({"type": "response.output_item.done", "sequence_number": 3, "output_index": 0, "item": item}),
        json!({"type": "response.completed", "sequence_number": 4, "response": response("completed", std::slice::from_ref(&item))}),
    ]
}
