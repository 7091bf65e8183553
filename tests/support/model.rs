//! A model on loopback that answers by a script, in the wire formats that real agent programs use
//! (`wire.rs`), as far as they need them. It uses no network and no real key.

mod wire;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use wire::Wire;

/// One request, reduced to what scripts look at.
#[derive(Debug, Clone)]
pub struct ModelRequest {
    /// How many answers of the model the conversation already has.
    pub spoken: usize,
    /// The newest user message.
    pub user: String,
    /// The whole request body.
    pub whole: String,
    /// The header with the key, in lower case.
    pub login: String,
    /// The model that the request names; empty where the path names it.
    pub model: String,
    /// The tools that the request offers, with the JSON schemas of their inputs.
    pub tools: BTreeMap<String, Value>,
}

/// The model's answer to a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A text that ends the turn.
    Say(String),
    /// A command for the agent's shell tool.
    Run(String),
    /// A call of a tool that the request offers, with its input.
    Call(String, Value),
    /// An API error with its status and message.
    Refuse(u16, String),
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
    side_calls: Arc<AtomicU64>,
}

impl Model {
    pub fn start(script: impl Fn(&ModelRequest) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<Script> = Arc::new(script);
        let log = seen.clone();
        let side_calls = Arc::new(AtomicU64::new(0));
        let side = side_calls.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log, side) = (script.clone(), log.clone(), side.clone());
                std::thread::spawn(move || drop(serve(stream, &*script, &log, &side)));
            }
        });
        Self { address, seen, side_calls }
    }

    /// A model at an address that leads nowhere.
    pub fn nowhere(address: &str) -> Self {
        Self { address: address.to_owned(), seen: Arc::default(), side_calls: Arc::default() }
    }

    /// The number of side calls so far, such as for a title.
    pub fn side_calls(&self) -> u64 {
        self.side_calls.load(Ordering::SeqCst)
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
    side_calls: &AtomicU64,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (login, body) = read_request(&mut reader)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let path = first.split_whitespace().nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    if path.ends_with("/count_tokens") {
        return answer(stream, 200, "application/json", r#"{"input_tokens":10}"#);
    }
    if path.ends_with(":countTokens") {
        return answer(stream, 200, "application/json", r#"{"totalTokens":10}"#);
    }
    let Some((wire, streams)) = Wire::of(path, &body) else {
        return answer(stream, 404, "application/json", "{}");
    };
    let tool = wire.shell(&body);
    let mut asked = wire.request(&body, login);
    // An agent without a shell of its own has a tool of afk.
    let has_ours = asked.tools.keys().any(|name| name.ends_with("run_on_devvm"));
    let reply = if tool.is_some() || has_ours {
        // Google's format names the model in the path.
        if let Some((_, rest)) = path.split_once("/models/").filter(|_| asked.model.is_empty()) {
            rest.split(':').next().unwrap_or_default().clone_into(&mut asked.model);
        }
        let reply = script(&asked);
        log.lock().unwrap().push(asked);
        reply
    } else {
        // A side call, such as for a title or a summary.
        side_calls.fetch_add(1, Ordering::SeqCst);
        Reply::Say("ok".into())
    };
    match reply {
        Reply::Hang => {
            // Wait until the client disconnects.
            let mut rest = [0; 1];
            let _ = reader.read(&mut rest);
            Ok(())
        }
        Reply::Status(status) => refuse(stream, status, "scripted"),
        Reply::Refuse(status, message) => refuse(stream, status, &message),
        reply => {
            let n = log.lock().unwrap().len();
            if streams {
                let text = wire.stream(&reply, tool.as_ref(), n);
                answer(stream, 200, "text/event-stream", &text)
            } else {
                let message = wire.message(&reply, tool.as_ref(), n);
                answer(stream, 200, "application/json", &message.to_string())
            }
        }
    }
}

/// Reads the headers and the body of a request, also one in chunks. Returns the header with the key,
/// and the body.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<(String, Vec<u8>)> {
    let (mut length, mut chunked, mut login) = (0, false, String::new());
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
        chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        if ["authorization:", "x-api-key:", "x-goog-api-key:"].iter().any(|n| header.starts_with(n))
        {
            login = header;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    while chunked {
        let mut size = String::new();
        reader.read_line(&mut size)?;
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; size];
        reader.read_exact(&mut chunk)?;
        reader.read_line(&mut String::new())?;
        chunked = size > 0;
        body.append(&mut chunk);
    }
    Ok((login, body))
}

fn refuse(stream: TcpStream, status: u16, message: &str) -> std::io::Result<()> {
    let error = json!({"type": "error", "error": {"type": "scripted_error", "message": message}});
    answer(stream, status, "application/json", &error.to_string())
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
