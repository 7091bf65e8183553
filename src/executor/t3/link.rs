//! The link to a T3 Code server: sends commands over HTTP and receives events over a websocket
//! (Effect-RPC frames).
//!
//! [`run`] moves lines between the turn loop and the server. Beside the server's own values it
//! sends the loop one line of JSON for each of these: `server` (its version), `answer` (the
//! response to a command), `lost` and `back` (the connection), `refused` (the subscription). It
//! retries by itself as long as the turn lasts.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::header;
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::seen_ids::SeenIds;
use crate::agent::fields::text;
use crate::agent::turn::AgentLine;
use crate::config::executor::T3Config;
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::executor::BoxError;
use crate::network::{NetworkError, calls, origin};
use crate::process::inherited;
use crate::secrets::Secrets;

/// The timeout of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// The interval between two pings. A connection that was silent for a whole interval counts as
/// lost.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a rejected token is retried, because a new one may arrive.
const REJECTED_RETRY: Duration = Duration::from_secs(60);
/// The longest websocket frame, in bytes; a thread's snapshot is one frame.
const FRAME_LIMIT: usize = 64 * 1024 * 1024;
/// The longest response body, in bytes.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// The client of one T3 Code server.
#[derive(Debug)]
pub(crate) struct Server {
    config: T3Config,
    secrets: Arc<Secrets>,
    client: reqwest::Client,
    /// The token that the command `issue` printed; cleared when the server rejects it.
    issued: Mutex<Option<SecretString>>,
}

/// Why a call got no usable response.
#[derive(Debug)]
pub(crate) struct LinkError(BoxError);

impl Server {
    /// Prepares the HTTP client; connects to nothing.
    pub(crate) fn new(config: T3Config, secrets: Arc<Secrets>) -> Result<Self, String> {
        // Only HTTP/1.1 can upgrade to a websocket.
        let client = reqwest::Client::builder()
            .connect_timeout(CALL_TIMEOUT)
            .redirect(Policy::none())
            .http1_only()
            .build();
        let client = client.map_err(|error| chain(&error))?;
        Ok(Self { config, secrets, client, issued: Mutex::new(None) })
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.config.address.trim_end_matches('/'))
    }

    fn link_error(&self, error: reqwest::Error) -> LinkError {
        LinkError(NetworkError::new(&self.config.address, error).into())
    }

    fn timed_out(&self) -> LinkError {
        LinkError(NetworkError::timed_out(&self.config.address, CALL_TIMEOUT).into())
    }

    /// Returns the current token: the configured secret, or the one that the command `issue`
    /// prints.
    async fn token(&self) -> Result<SecretString, LinkError> {
        if let Some(reference) = &self.config.token {
            return self.secrets.get(reference).await.map_err(|error| LinkError(error.into()));
        }
        let mut issued = self.issued.lock().await;
        if let Some(token) = &*issued {
            return Ok(token.clone());
        }
        let token = issue_token(&self.config.issue).await.map_err(|why| LinkError(why.into()))?;
        *issued = Some(token.clone());
        Ok(token)
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), LinkError> {
        let token = self.token().await?;
        let request = request.bearer_auth(token.expose_secret());
        let call = async {
            let mut response =
                calls::send("t3", request).await.map_err(|error| self.link_error(error))?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while let Some(piece) =
                response.chunk().await.map_err(|error| self.link_error(error))?
            {
                body.extend_from_slice(&piece);
                if body.len() > BODY_LIMIT {
                    return Err(LinkError(
                        format!("its response exceeds {BODY_LIMIT} bytes").into(),
                    ));
                }
            }
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        let response = timeout(CALL_TIMEOUT, call).await.map_err(|_| self.timed_out())??;
        if response.0 == 401 {
            *self.issued.lock().await = None;
        }
        Ok(response)
    }

    /// Returns the server's version, if it reports one.
    async fn version(&self) -> Result<Option<String>, LinkError> {
        let path = self.address("/.well-known/t3/environment");
        let (_, answer) = self.call(self.client.get(path)).await?;
        Ok(answer["serverVersion"].as_str().map(str::to_owned))
    }

    /// Sends a command. The server ignores a command id that it has seen, so that a retry is
    /// harmless.
    async fn dispatch(&self, command: &Value) -> Result<(u16, Value), LinkError> {
        let path = self.address("/api/orchestration/dispatch");
        self.call(self.client.post(path).json(command)).await
    }

    /// Stops the agent of a thread.
    pub(crate) async fn stop(&self, name: &str, thread: &str) -> Result<(), String> {
        let command = json!({
            "type": "thread.session.stop", "threadId": thread, "createdAt": now(),
            "commandId": super::stable_id(&[name, "thread.session.stop"]),
        });
        match self.dispatch(&command).await {
            Ok((200, _)) => Ok(()),
            Ok((status, _)) => Err(format!("the T3 server responded with status {status}")),
            Err(LinkError(error)) => Err(chain(&*error)),
        }
    }

    /// Tests the connection and the token, and returns a line for `afk doctor`.
    pub(crate) async fn check(&self) -> Result<String, BoxError> {
        let probe = async {
            let version = self.version().await?;
            let ticket = self.ticket().await?;
            Ok::<_, LinkError>((version, ticket))
        };
        let (version, _) = probe.await.map_err(|LinkError(error)| error)?;
        let version = version.map_or("of an unknown version".into(), |v| clean_line(&v));
        Ok(format!("{} is T3 Code {version} and accepts the token", origin(&self.config.address)))
    }

    /// Requests a ticket, which opens one websocket.
    async fn ticket(&self) -> Result<String, LinkError> {
        let path = self.address("/api/auth/websocket-ticket");
        match self.call(self.client.post(path)).await? {
            (200, answer) if !text(&answer, "ticket").is_empty() => {
                Ok(text(&answer, "ticket").to_owned())
            }
            (401, _) => Err(LinkError("it rejects the token".into())),
            (status, _) => Err(LinkError(
                format!("it responded with status {status} instead of a ticket").into(),
            )),
        }
    }

    async fn open_socket(&self) -> Result<WebSocketStream<reqwest::Upgraded>, LinkError> {
        let ticket = self.ticket().await?;
        let url = reqwest::Url::parse_with_params(&self.address("/ws"), [("wsTicket", &ticket)]);
        let url = url.map_err(|error| LinkError(error.into()))?;
        let key = generate_key();
        let request = self
            .client
            .get(url)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        let open = async {
            let response =
                calls::send("t3", request).await.map_err(|error| self.link_error(error))?;
            let accepted = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
            let accepted = accepted
                .is_some_and(|key_hash| key_hash == derive_accept_key(key.as_bytes()).as_str());
            let status = response.status();
            if status != reqwest::StatusCode::SWITCHING_PROTOCOLS || !accepted {
                return Err(LinkError(
                    format!("it responded with status {status} instead of a websocket").into(),
                ));
            }
            response.upgrade().await.map_err(|error| self.link_error(error))
        };
        let stream = timeout(CALL_TIMEOUT, open).await;
        let stream = stream.map_err(|_| self.timed_out())??;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(FRAME_LIMIT))
            .max_frame_size(Some(FRAME_LIMIT));
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await)
    }
}

/// Runs the command that issues a token, and returns the last word that it prints.
async fn issue_token(command: &[String]) -> Result<SecretString, String> {
    let Some((program, args)) = command.split_first() else {
        return Err("the executor has no token: set `token` or `issue` in its section".into());
    };
    let mut child = Command::new(program);
    child.args(args).env_clear().envs(inherited()).kill_on_drop(true);
    child.stdin(Stdio::null()).stderr(Stdio::null());
    let output = timeout(CALL_TIMEOUT, child.output()).await;
    let output = output
        .map_err(|_| format!("{program} issued no token within {} s", CALL_TIMEOUT.as_secs()))?;
    let output = output.map_err(|error| format!("start {program}: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let token = printed.split_whitespace().last().unwrap_or_default();
    if !output.status.success() || token.is_empty() {
        return Err(format!("{program} issued no token ({})", output.status));
    }
    Ok(SecretString::from(token.to_owned()))
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Lines of JSON for the turn loop.
type LineSender = mpsc::Sender<AgentLine>;

/// The turn loop has returned: the link closes.
struct ReceiverGone;

async fn send_line(to: &LineSender, line: &Value) -> Result<(), ReceiverGone> {
    let line = AgentLine { bytes: line.to_string().into_bytes(), cut: false };
    to.send(line).await.map_err(|_| ReceiverGone)
}

/// Sends a turn's commands to the server and returns the thread's events, until the turn loop drops
/// its ends of the channels.
pub(crate) async fn run(
    server: &Server,
    mut commands: mpsc::Receiver<Vec<u8>>,
    to: LineSender,
    seen_ids: SeenIds,
) {
    let greeting = async {
        let version = retry(&to, || server.version(), |_| None).await?;
        send_line(&to, &json!({"server": version})).await
    };
    if greeting.await.is_err() {
        return;
    }
    let (subscribe, mut subscribed) = mpsc::channel::<String>(1);
    let dispatch = async {
        while let Some(line) = commands.recv().await {
            let Ok(mut command) = serde_json::from_slice::<Value>(&line) else { continue };
            let kind = text(&command, "type").to_owned();
            if kind == "subscribe" {
                // The thread subscribes once; a failure means that `follow` has ended.
                let _ = subscribe.send(text(&command, "threadId").to_owned()).await;
                continue;
            }
            command["createdAt"] = json!(now());
            let since = Instant::now();
            let temporary = |response: &(u16, Value)| match response.0 {
                401 if since.elapsed() < REJECTED_RETRY => Some("it rejects the token"),
                429 | 502 | 503 | 504 => Some("it is busy"),
                _ => None,
            };
            let (status, body) = retry(&to, || server.dispatch(&command), temporary).await?;
            let answer = json!({"answer": {"type": kind, "status": status, "body": body}});
            send_line(&to, &answer).await?;
        }
        Ok::<(), ReceiverGone>(())
    };
    let follow = async {
        let Some(thread) = subscribed.recv().await else { return };
        let _receiver_gone = follow(server, &thread, &to, seen_ids).await;
    };
    tokio::pin!(dispatch);
    tokio::select! {
        // The turn loop has dropped its sender, and reads nothing more either.
        _ = &mut dispatch => {}
        () = follow => {}
    }
}

/// Repeats a call until it gets a final response; `temporary` returns why a response is not final.
/// Reports the lost and the restored connection.
async fn retry<T, F: Future<Output = Result<T, LinkError>>>(
    to: &LineSender,
    call: impl Fn() -> F,
    temporary: impl Fn(&T) -> Option<&'static str>,
) -> Result<T, ReceiverGone> {
    let mut pause = Duration::from_millis(500);
    let mut lost = false;
    loop {
        let why = match call().await {
            Ok(response) => {
                let Some(why) = temporary(&response) else {
                    if lost {
                        send_line(to, &json!({"back": true})).await?;
                    }
                    return Ok(response);
                };
                why.to_owned()
            }
            Err(LinkError(error)) => chain(&*error),
        };
        send_line(to, &json!({"lost": why})).await?;
        lost = true;
        tokio::select! {
            () = sleep(pause) => {}
            () = to.closed() => return Err(ReceiverGone),
        }
        pause = (pause * 2).min(Duration::from_secs(15));
    }
}

/// Follows a thread's events, and connects again after a connection is lost.
async fn follow(
    server: &Server,
    thread: &str,
    to: &LineSender,
    mut seen_ids: SeenIds,
) -> Result<(), ReceiverGone> {
    loop {
        let mut socket = retry(to, || server.open_socket(), |_| None).await?;
        let why = match follow_connection(&mut socket, thread, to, &mut seen_ids).await {
            Ok(why) => why,
            Err(closed) => {
                // A close frame lets the server drop the subscription at once.
                let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
                return Err(closed);
            }
        };
        send_line(to, &json!({"lost": why})).await?;
        sleep(Duration::from_millis(500)).await;
    }
}

/// Follows a thread's events on one connection, and returns why it was lost.
async fn follow_connection(
    socket: &mut WebSocketStream<reqwest::Upgraded>,
    thread: &str,
    to: &LineSender,
    seen_ids: &mut SeenIds,
) -> Result<String, ReceiverGone> {
    let request = json!({
        "_tag": "Request", "id": "1", "tag": "orchestration.subscribeThread",
        "payload": {"threadId": thread}, "headers": [],
    });
    let text_frame = |message: Value| Message::text(message.to_string());
    if let Err(error) = socket.send(text_frame(request)).await {
        return Ok(error.to_string());
    }
    let mut ping = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    let (mut active, mut first) = (true, true);
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = to.closed() => return Err(ReceiverGone),
            _ = ping.tick() => {
                if !std::mem::take(&mut active) {
                    return Ok("it has stopped sending".into());
                }
                match timeout(CALL_TIMEOUT, socket.send(Message::Ping(Vec::new().into()))).await {
                    Ok(Ok(())) => continue,
                    _ => return Ok("it has stopped reading".into()),
                }
            }
        };
        active = true;
        let payload = match message {
            None | Some(Ok(Message::Close(_))) => return Ok("it closed the connection".into()),
            Some(Err(error)) => return Ok(chain(&error)),
            Some(Ok(Message::Text(payload))) => payload,
            Some(Ok(_)) => continue,
        };
        // An Effect server sends one frame or a list of frames.
        let frames = match serde_json::from_str::<Value>(&payload) {
            Ok(Value::Array(frames)) => frames,
            Ok(frame) => vec![frame],
            Err(error) => return Ok(format!("it sent invalid JSON: {error}")),
        };
        for frame in frames {
            match text(&frame, "_tag") {
                "Chunk" if text(&frame, "requestId") == "1" => {
                    if std::mem::take(&mut first) {
                        send_line(to, &json!({"back": true})).await?;
                    }
                    for value in frame["values"].as_array().into_iter().flatten() {
                        send_line(to, value).await?;
                        seen_ids.add(value);
                    }
                    // Back-pressure: the server sends the next chunk after this acknowledgement.
                    let ack = text_frame(json!({"_tag": "Ack", "requestId": "1"}));
                    if !matches!(timeout(CALL_TIMEOUT, socket.send(ack)).await, Ok(Ok(()))) {
                        return Ok("it has stopped reading".into());
                    }
                }
                "Exit" | "Defect" => {
                    let why: String = clean_line(&frame.to_string()).chars().take(300).collect();
                    send_line(to, &json!({"refused": why})).await?;
                    return Ok("it ended the subscription".into());
                }
                "Ping" => {
                    let pong = text_frame(json!({"_tag": "Pong"}));
                    if !matches!(timeout(CALL_TIMEOUT, socket.send(pong)).await, Ok(Ok(()))) {
                        return Ok("it has stopped reading".into());
                    }
                }
                _ => {}
            }
        }
    }
}
