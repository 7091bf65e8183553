//! A T3 Code server on loopback: it keeps threads, works in their worktrees by a script and reports
//! over a websocket. Its commands and events are checked against a recording of version 0.0.27
//! (`tests/facts/t3.json`).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use base64::Engine;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::json_kind;

pub const TOKEN: &str = "t3-token-0123456789";

/// One action of the agent in a turn.
#[derive(Debug, Clone)]
pub enum Act {
    /// The agent writes a message.
    Say(&'static str),
    /// The agent runs a command in the worktree.
    Run(&'static str),
    /// The agent writes a file, after a permission request where one is required.
    Write(&'static str, &'static str),
    /// The agent asks a question with two options.
    Ask(&'static str),
    /// The agent does nothing until it is interrupted.
    Hang,
    /// The provider fails with this message.
    Fail(&'static str),
    /// The agent waits until the test releases it.
    Hold,
}

type Script = dyn Fn(usize, &str) -> Vec<Act> + Send + Sync;

#[derive(Default)]
struct State {
    sequence: u64,
    answers: BTreeMap<String, (u16, Value)>,
    commands: Vec<Value>,
    projects: BTreeMap<String, String>,
    threads: BTreeMap<String, Value>,
    events: Vec<Value>,
    /// Interrupted threads, and the answers to requests.
    interrupted: Vec<String>,
    answered: BTreeMap<String, Value>,
    tokens: Vec<String>,
    tickets: Vec<String>,
    links: Vec<TcpStream>,
    version: Option<&'static str>,
    asked: usize,
    held: usize,
    /// Whether the server answers nothing at all.
    away: bool,
}

/// A running T3 Code double; it ends with the test's process.
#[derive(Clone)]
pub struct T3 {
    /// `http://127.0.0.1:PORT`.
    pub address: String,
    state: Arc<(Mutex<State>, Condvar)>,
    script: Arc<Script>,
    facts: Arc<Value>,
}

/// Whether a value has the recorded fields, each of its kind; fields with a `?` may be missing.
pub fn fits(recorded: &Value, reported: &Value) -> Result<(), String> {
    match (recorded, reported) {
        (Value::Object(fields), Value::Object(reported)) => {
            if fields.is_empty() {
                return Ok(());
            }
            for (name, value) in reported {
                let known = fields.get(name).or_else(|| fields.get(&format!("{name}?")));
                let known = known.ok_or_else(|| format!("{name} is not known"))?;
                fits(known, value).map_err(|why| format!("{name}: {why}"))?;
            }
            let needed = |name: &&String| !name.ends_with('?') && !reported.contains_key(*name);
            let missing = fields.keys().find(needed);
            missing.map_or(Ok(()), |name| Err(format!("{name} is missing")))
        }
        // The recording has an object here, which may still be null.
        (Value::Object(_), Value::Null) => Ok(()),
        (Value::Array(one), Value::Array(all)) => {
            let Some(one) = one.first() else { return Ok(()) };
            all.iter().try_for_each(|value| fits(one, value))
        }
        (Value::String(kinds), reported) => {
            let kind = json_kind(reported);
            // The recording has neither a turn in progress nor a failed session.
            let late = kind == "null" || kinds == "null";
            let known = kinds.split('|').any(|known| known == kind) || late;
            if known { Ok(()) } else { Err(format!("is {kind}, not {kinds}")) }
        }
        _ => Err(format!("{reported} is not {recorded}")),
    }
}

fn uuid() -> String {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("00000000-0000-4000-8000-{next:012}")
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

impl T3 {
    /// Starts a server whose agent works by a script: it maps the number of a turn, from 0, and the
    /// prompt to actions.
    pub fn start(script: impl Fn(usize, &str) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let facts = serde_json::from_str(include_str!("../facts/t3.json")).unwrap();
        let state =
            State { tokens: vec![TOKEN.into()], version: Some("0.0.27"), ..State::default() };
        let server = Self {
            address,
            state: Arc::new((Mutex::new(state), Condvar::new())),
            script: Arc::new(script),
            facts: Arc::new(facts),
        };
        let serves = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = serves.clone();
                std::thread::spawn(move || drop(server.serve(stream)));
            }
        });
        server
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.state.1.notify_all();
        changed
    }

    fn wait(&self, until: impl Fn(&State) -> bool) {
        let mut state = self.lock();
        while !until(&state) {
            state = self.state.1.wait(state).unwrap();
        }
    }

    /// Sets the version that the server reports.
    pub fn version(&self, version: Option<&'static str>) {
        self.change(|state| state.version = version);
    }

    /// Sets the tokens that the server accepts.
    pub fn tokens(&self, tokens: &[&str]) {
        self.change(|state| state.tokens = tokens.iter().map(|&token| token.to_owned()).collect());
    }

    /// The accepted commands of a kind, in order.
    pub fn commands(&self, kind: &str) -> Vec<Value> {
        let all = self.lock().commands.clone();
        all.into_iter().filter(|command| command["type"] == kind).collect()
    }

    /// Ends all websockets; while `away`, the server answers nothing.
    pub fn cut(&self, away: bool) {
        self.change(|state| {
            state.away = away;
            for link in state.links.drain(..) {
                let _ = link.shutdown(Shutdown::Both);
            }
        });
    }

    /// The number of open websockets.
    pub fn links(&self) -> usize {
        self.lock().links.len()
    }

    /// The number of turns begun so far.
    pub fn turns(&self) -> usize {
        self.lock().asked
    }

    /// Releases one [`Act::Hold`].
    pub fn release(&self) {
        self.change(|state| state.held += 1);
    }

    /// Acts as a person in the server's own window, who answers a request or deletes the thread.
    pub fn act_as_person(&self, command: &Value) {
        self.take(command);
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut headers = BTreeMap::new();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line)?;
                let Some((name, value)) = line.trim().split_once(": ") else { break };
                headers.insert(name.to_lowercase(), value.to_owned());
            }
            let length = headers.get("content-length").and_then(|length| length.parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            reader.read_exact(&mut body)?;
            if self.lock().away {
                return Ok(());
            }
            let mut words = first.split_whitespace();
            let (method, path) =
                (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if let Some(ticket) = path.strip_prefix("/ws?wsTicket=") {
                let known = self.change(|state| {
                    let at = state.tickets.iter().position(|known| known == ticket)?;
                    Some(state.tickets.remove(at))
                });
                if known.is_none() {
                    return write!(stream, "HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n");
                }
                let key = derive_accept_key(headers["sec-websocket-key"].as_bytes());
                write!(
                    stream,
                    "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                     sec-websocket-accept: {key}\r\n\r\n"
                )?;
                return self.follow(stream);
            }
            let token =
                headers.get("authorization").and_then(|value| value.strip_prefix("Bearer "));
            let known = token.is_some_and(|token| self.lock().tokens.iter().any(|t| t == token));
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            let (status, answer) = match (method, path) {
                ("GET", "/.well-known/t3/environment") => match self.lock().version {
                    Some(version) => (200, json!({"serverVersion": version})),
                    None => (404, Value::Null),
                },
                _ if !known => {
                    let reason =
                        if token.is_some() { "invalid_credential" } else { "missing_credential" };
                    let tag = "EnvironmentAuthInvalidError";
                    (
                        401,
                        json!({"_tag": tag, "code": "auth_invalid", "reason": reason, "traceId": "t"}),
                    )
                }
                ("POST", "/api/auth/websocket-ticket") => {
                    let ticket = uuid();
                    self.change(|state| state.tickets.push(ticket.clone()));
                    (200, json!({"ticket": ticket, "expiresAt": now()}))
                }
                ("POST", "/api/orchestration/dispatch") => self.take(&body),
                _ => (404, Value::Null),
            };
            let text = if answer.is_null() { String::new() } else { answer.to_string() };
            write!(
                stream,
                "HTTP/1.1 {status} Answer\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            )?;
        }
    }

    fn take(&self, command: &Value) -> (u16, Value) {
        let kind = command["type"].as_str().unwrap_or_default().to_owned();
        let known = &self.facts["commands"][&kind];
        if known.is_null() || fits(known, command).is_err() {
            return (400, Value::Null);
        }
        let id = command["commandId"].as_str().unwrap().to_owned();
        if let Some(answer) = self.lock().answers.get(&id) {
            return answer.clone();
        }
        let text = |key: &str| command[key].as_str().unwrap_or_default().to_owned();
        let thread = text("threadId");
        let exists = self.lock().threads.contains_key(&thread);
        let refused = match kind.as_str() {
            "project.create" => false,
            "thread.create" => exists || !self.lock().projects.contains_key(&text("projectId")),
            _ => !exists,
        };
        if refused {
            let answer = json!({"_tag": "EnvironmentInternalError", "code": "internal_error",
                "reason": "orchestration_dispatch_failed", "traceId": "t"});
            return (500, answer);
        }
        let answer = self.change(|state| {
            state.sequence += 1;
            let answer = (200, json!({"sequence": state.sequence}));
            state.answers.insert(id, answer.clone());
            state.commands.push(command.clone());
            answer
        });
        match kind.as_str() {
            "project.create" => {
                self.change(|s| s.projects.insert(text("projectId"), text("workspaceRoot")));
            }
            "thread.create" => {
                let at = command["createdAt"].clone();
                let made = json!({
                    "id": thread, "projectId": command["projectId"], "title": command["title"],
                    "modelSelection": command["modelSelection"], "runtimeMode": command["runtimeMode"],
                    "interactionMode": "default", "branch": null, "worktreePath": null,
                    "latestTurn": null, "createdAt": at, "updatedAt": at, "archivedAt": null,
                    "deletedAt": null, "messages": [], "proposedPlans": [], "activities": [],
                    "checkpoints": [], "session": null,
                });
                self.change(|state| state.threads.insert(thread, made));
            }
            "thread.turn.start" => {
                let message = &command["message"];
                let (id, printed) = (message["messageId"].clone(), message["text"].clone());
                self.message(
                    &thread,
                    "user",
                    &id,
                    &printed,
                    false,
                    &Value::Null,
                    &command["createdAt"],
                );
                let (server, asked) = (self.clone(), command["createdAt"].clone());
                let turn = self.change(|state| {
                    state.asked += 1;
                    state.asked - 1
                });
                std::thread::spawn(move || {
                    server.work(&thread, turn, printed.as_str().unwrap_or_default(), &asked);
                });
            }
            "thread.turn.interrupt" => self.change(|state| state.interrupted.push(thread)),
            "thread.session.stop" => {
                self.change(|state| state.interrupted.push(thread.clone()));
                self.session(&thread, "stopped", &Value::Null, &Value::Null);
            }
            "thread.delete" => {
                self.change(|state| {
                    state.threads.get_mut(&thread).unwrap()["deletedAt"] = json!(now());
                });
                self.cut(false);
            }
            _ => {
                let (request, turn) = (text("requestId"), self.turn_of(&thread));
                let payload = if kind.contains("approval") {
                    json!({"requestId": request, "requestKind": "file-change",
                        "requestType": "file_change_approval", "decision": command["decision"]})
                } else {
                    json!({"requestId": request, "answers": command["answers"]})
                };
                let kind = kind.trim_start_matches("thread.").replace(".respond", ".resolved");
                self.activity(&thread, &kind, &payload, &turn);
                self.change(|state| state.answered.insert(request, command.clone()));
            }
        }
        answer
    }

    fn turn_of(&self, thread: &str) -> Value {
        self.lock().threads[thread]["latestTurn"]["turnId"].clone()
    }

    /// Sends an event of a thread to all its followers.
    fn event(&self, thread: &str, kind: &str, payload: &Value) {
        self.change(|state| {
            state.sequence += 1;
            let event = json!({
                "sequence": state.sequence, "eventId": uuid(), "aggregateKind": "thread",
                "aggregateId": thread, "occurredAt": now(), "commandId": uuid(),
                "causationEventId": null, "correlationId": uuid(), "metadata": {},
                "type": kind, "payload": payload,
            });
            state.events.push(event);
        });
    }

    #[allow(clippy::too_many_arguments, reason = "each is a field of the protocol")]
    fn message(
        &self,
        thread: &str,
        role: &str,
        id: &Value,
        printed: &Value,
        streaming: bool,
        turn: &Value,
        at: &Value,
    ) {
        self.change(|state| {
            let messages =
                state.threads.get_mut(thread).unwrap()["messages"].as_array_mut().unwrap();
            if let Some(known) = messages.iter_mut().find(|message| message["id"] == *id) {
                known["streaming"] = json!(streaming);
                return;
            }
            messages.push(json!({"id": id, "role": role, "text": printed, "attachments": [],
                "turnId": turn, "streaming": streaming, "createdAt": at, "updatedAt": at}));
        });
        let payload = json!({"threadId": thread, "messageId": id, "role": role, "text": printed,
            "attachments": [], "turnId": turn, "streaming": streaming, "createdAt": at, "updatedAt": at});
        self.event(thread, "thread.message-sent", &payload);
    }

    fn activity(&self, thread: &str, kind: &str, payload: &Value, turn: &Value) {
        let tone = if kind.starts_with("tool") { "tool" } else { "info" };
        let activity = json!({"id": uuid(), "tone": tone, "kind": kind, "summary": kind,
            "payload": payload, "turnId": turn, "createdAt": now()});
        let recorded = &self.facts["activities"][kind];
        fits(recorded, &activity).unwrap_or_else(|why| panic!("{kind}: {why}"));
        self.change(|state| {
            let thread = state.threads.get_mut(thread).unwrap();
            thread["activities"].as_array_mut().unwrap().push(activity.clone());
        });
        let payload = json!({"threadId": thread, "activity": activity});
        self.event(thread, "thread.activity-appended", &payload);
    }

    fn session(&self, thread: &str, status: &str, turn: &Value, error: &Value) {
        let session = json!({"threadId": thread, "status": status, "providerName": "claudeAgent",
            "providerInstanceId": "claudeAgent", "runtimeMode": "full-access", "activeTurnId": turn,
            "lastError": error, "updatedAt": now()});
        self.change(|state| state.threads.get_mut(thread).unwrap()["session"] = session.clone());
        let payload = json!({"threadId": thread, "session": session});
        self.event(thread, "thread.session-set", &payload);
    }

    /// Performs one turn, in the order recorded from a real server.
    fn work(&self, thread: &str, number: usize, printed: &str, asked: &Value) {
        let turn = json!(uuid());
        let latest = |state: &str| {
            self.change(|all| {
                all.threads.get_mut(thread).unwrap()["latestTurn"] = json!({"turnId": turn,
                    "state": state, "requestedAt": asked, "startedAt": asked,
                    "completedAt": if state == "running" { Value::Null } else { json!(now()) },
                    "assistantMessageId": Value::Null});
            });
        };
        self.session(thread, "ready", &Value::Null, &Value::Null);
        latest("running");
        self.session(thread, "running", &turn, &Value::Null);
        let cwd = {
            let state = self.lock();
            state.projects[state.threads[thread]["projectId"].as_str().unwrap()].clone()
        };
        let mut failed = Value::Null;
        for act in (self.script)(number, printed) {
            match act {
                Act::Say(words) => {
                    let id = json!(format!("assistant:{}", uuid()));
                    self.message(
                        thread,
                        "assistant",
                        &id,
                        &json!(words),
                        true,
                        &turn,
                        &json!(now()),
                    );
                    self.message(thread, "assistant", &id, &json!(""), false, &turn, &json!(now()));
                    // The real server, too, reports "completed" while the session runs.
                    latest("completed");
                }
                Act::Run(command) => {
                    let input = json!({"command": command, "description": "scripted"});
                    let run = || {
                        let mut shell = Command::new("sh");
                        let done = shell.args(["-c", command]).current_dir(&cwd).output().unwrap();
                        let text = [done.stdout, done.stderr].concat();
                        (done.status.success(), String::from_utf8_lossy(&text).into_owned())
                    };
                    let detail = format!("Bash: {command}");
                    self.tool(thread, &turn, "command_execution", "Bash", &detail, &input, run);
                }
                Act::Write(path, content) => {
                    let whole = format!("{cwd}/{path}");
                    let input = json!({"file_path": whole, "content": content});
                    let asks = self.lock().threads[thread]["runtimeMode"] == "approval-required";
                    let detail = format!("Write: {input}");
                    let write = || {
                        if asks && self.approval(thread, &turn, &detail) != "accept" {
                            return (false, "User declined tool execution.".into());
                        }
                        std::fs::write(&whole, content).unwrap();
                        (true, "File created".to_owned())
                    };
                    self.tool(thread, &turn, "file_change", "Write", &detail, &input, write);
                }
                Act::Ask(words) => {
                    let request = uuid();
                    let option = |label: &str| json!({"label": label, "description": label});
                    let question = json!({"id": words, "header": "Choice", "question": words,
                        "options": [option("red"), option("blue")], "multiSelect": false});
                    let payload = json!({"requestId": request, "questions": [question]});
                    self.activity(thread, "user-input.requested", &payload, &turn);
                    self.wait(|state| state.answered.contains_key(&request));
                }
                Act::Hold => {
                    self.wait(|state| state.held > 0);
                    self.change(|state| state.held -= 1);
                }
                Act::Hang => {
                    let here =
                        |state: &State| state.interrupted.iter().any(|known| known == thread);
                    self.wait(here);
                    self.change(|state| state.interrupted.clear());
                    failed = json!("[ede_diagnostic] result_type=user");
                    self.session(thread, "error", &turn, &failed);
                    self.activity(thread, "runtime.error", &json!({"message": failed}), &turn);
                }
                Act::Fail(why) => failed = json!(why),
            }
        }
        if self.lock().threads[thread]["session"]["status"] == "stopped" {
            return;
        }
        let used = json!({"usedTokens": 1500, "lastUsedTokens": 1500, "inputTokens": 1400,
            "outputTokens": 100, "maxTokens": 200_000});
        self.activity(thread, "context-window.updated", &used, &turn);
        latest("completed");
        let status = if failed.is_null() { "ready" } else { "error" };
        self.session(thread, status, &Value::Null, &failed);
        let part = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(thread);
        let reference = format!("refs/t3/checkpoints/{part}/turn/{}", number + 1);
        let mut git = Command::new("git");
        git.args(["update-ref", &reference, "HEAD"]).current_dir(&cwd).status().unwrap();
        let captured = json!({"turnCount": number + 1, "status": "ready"});
        self.activity(thread, "checkpoint.captured", &captured, &turn);
    }

    fn approval(&self, thread: &str, turn: &Value, detail: &str) -> String {
        let request = uuid();
        let payload = json!({"requestId": request, "requestKind": "file-change",
            "requestType": "file_change_approval", "detail": detail});
        self.activity(thread, "approval.requested", &payload, turn);
        self.wait(|state| state.answered.contains_key(&request));
        self.lock().answered[&request]["decision"].as_str().unwrap().to_owned()
    }

    #[allow(clippy::too_many_arguments, reason = "each is a field of the protocol")]
    fn tool(
        &self,
        thread: &str,
        turn: &Value,
        item: &str,
        name: &str,
        detail: &str,
        input: &Value,
        work: impl FnOnce() -> (bool, String),
    ) {
        let started = json!({"itemType": item, "detail": format!("{name}: {{}}")});
        self.activity(thread, "tool.started", &started, turn);
        let data = json!({"toolName": name, "input": input});
        let updated =
            json!({"itemType": item, "status": "inProgress", "detail": detail, "data": data});
        self.activity(thread, "tool.updated", &updated, turn);
        let (ok, output) = work();
        let result = json!({"tool_use_id": uuid(), "type": "tool_result", "content": output,
            "is_error": !ok});
        let data = json!({"toolName": name, "input": input, "result": result});
        let ended = json!({"itemType": item, "detail": detail, "data": data});
        self.activity(thread, "tool.completed", &ended, turn);
    }

    /// Sends a thread over a websocket, one chunk at a time after each acknowledgement.
    fn follow(&self, stream: TcpStream) -> std::io::Result<()> {
        let link = stream.try_clone()?;
        self.change(|state| state.links.push(link));
        let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
        let Ok(Message::Text(text)) = socket.read() else { return Ok(()) };
        let request: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(request["tag"], "orchestration.subscribeThread");
        let thread = request["payload"]["threadId"].as_str().unwrap().to_owned();
        let (mut sent, snapshot) = {
            let state = self.lock();
            let Some(whole) = state.threads.get(&thread) else {
                let exit = json!({"_tag": "Exit", "requestId": "1", "exit": {"_tag": "Failure"}});
                let _ = socket.send(Message::text(exit.to_string()));
                return Ok(());
            };
            fits(&self.facts["thread"], whole).unwrap_or_else(|why| panic!("snapshot: {why}"));
            let snapshot = json!({"snapshotSequence": state.sequence, "thread": whole});
            (state.events.len(), json!({"kind": "snapshot", "snapshot": snapshot}))
        };
        let mut values = vec![snapshot];
        loop {
            let chunk = json!({"_tag": "Chunk", "requestId": "1", "values": values});
            let ended = |_| std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            socket.send(Message::text(chunk.to_string())).map_err(ended)?;
            loop {
                match socket.read().map_err(ended)? {
                    Message::Text(text) if text.contains("\"Ack\"") => break,
                    Message::Ping(_) => socket.flush().map_err(ended)?,
                    _ => {}
                }
            }
            let state = self.lock();
            let none = |state: &mut State| state.events.len() == sent;
            let state = self.state.1.wait_while(state, none).unwrap();
            values.clear();
            for event in &state.events[sent..] {
                if event["aggregateId"] == json!(thread) {
                    let kind = event["type"].as_str().unwrap();
                    fits(&self.facts["events"][kind], event)
                        .unwrap_or_else(|why| panic!("{kind}: {why}"));
                    values.push(json!({"kind": "event", "event": event}));
                }
            }
            sent = state.events.len();
            drop(state);
        }
    }
}
