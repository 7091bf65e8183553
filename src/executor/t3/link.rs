//! The way to a T3 Code server: commands over HTTP, events over its websocket (Effect-RPC frames).

use std::process::Stdio;
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

use std::sync::Arc;

use super::told::Told;
use crate::agent::fields::text;
use crate::config::executor::T3Config;
use crate::core::model::untrusted::clean_line;
use crate::process::inherited;
use crate::secrets::Secrets;

/// Longest time of one call.
const CALL: Duration = Duration::from_secs(20);
/// Between a ping and the next; one that is not answered until then is the end of a connection.
const PING: Duration = Duration::from_secs(30);
/// For how long a refused token is tried again: a new one may be on its way.
const REFUSED: Duration = Duration::from_secs(60);
/// The longest frame that is read: a thread's snapshot is one.
const FRAME: usize = 64 * 1024 * 1024;
/// The longest answer that is read.
const BODY: usize = 4 * 1024 * 1024;

/// A server and how one is known to it.
#[derive(Debug)]
pub struct Server {
    config: T3Config,
    secrets: Arc<Secrets>,
    client: reqwest::Client,
    /// Made by `issue`, until it is refused.
    issued: Mutex<Option<SecretString>>,
}

/// No answer came, or none that could be used.
#[derive(Debug)]
pub struct Away(String);

impl Server {
    /// As configured.
    ///
    /// # Errors
    /// A line for a person.
    pub fn new(config: T3Config, secrets: Arc<Secrets>) -> Result<Self, String> {
        // An upgrade to a websocket is HTTP/1.1's.
        let client = reqwest::Client::builder()
            .connect_timeout(CALL)
            .redirect(Policy::none())
            .http1_only()
            .build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { config, secrets, client, issued: Mutex::new(None) })
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.config.address.trim_end_matches('/'))
    }

    /// The token as it is now: it is read or issued anew once it was refused.
    async fn token(&self) -> Result<SecretString, Away> {
        if let Some(reference) = &self.config.token {
            return self.secrets.get(reference).await.map_err(|error| Away(error.to_string()));
        }
        let mut issued = self.issued.lock().await;
        if let Some(token) = &*issued {
            return Ok(token.clone());
        }
        let token = issue(&self.config.issue).await.map_err(Away)?;
        *issued = Some(token.clone());
        Ok(token)
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), Away> {
        let token = self.token().await?;
        let request = request.bearer_auth(token.expose_secret());
        let call = async {
            let mut answer = request.send().await.map_err(away)?;
            let status = answer.status().as_u16();
            let mut body = Vec::new();
            while let Some(piece) = answer.chunk().await.map_err(away)? {
                body.extend_from_slice(&piece);
                if body.len() > BODY {
                    return Err(Away(format!("its answer is over {BODY} bytes")));
                }
            }
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        let answer = timeout(CALL, call).await;
        let answer = answer.map_err(|_| Away(format!("no answer in {} s", CALL.as_secs())))??;
        if answer.0 == 401 {
            *self.issued.lock().await = None;
        }
        Ok(answer)
    }

    /// The server's version, where it tells one.
    async fn version(&self) -> Result<Option<String>, Away> {
        let path = self.address("/.well-known/t3/environment");
        let (_, answer) = self.call(self.client.get(path)).await?;
        Ok(answer["serverVersion"].as_str().map(str::to_owned))
    }

    /// Sends a command once; the server takes each id once.
    async fn dispatch(&self, command: &Value) -> Result<(u16, Value), Away> {
        let path = self.address("/api/orchestration/dispatch");
        self.call(self.client.post(path).json(command)).await
    }

    /// Ends what an agent does in a thread, and the agent.
    ///
    /// # Errors
    /// Why that can't be told.
    pub async fn stop(&self, name: &str, thread: &str) -> Result<(), String> {
        let command = json!({
            "type": "thread.session.stop", "threadId": thread, "createdAt": now(),
            "commandId": super::command_id(&[name, "thread.session.stop"]),
        });
        match self.dispatch(&command).await {
            Ok((200, _)) => Ok(()),
            Ok((status, _)) => Err(format!("the T3 server answers {status}")),
            Err(Away(why)) => Err(why),
        }
    }

    /// Whether it is there and takes the token; its version.
    ///
    /// # Errors
    /// Why not.
    pub async fn check(&self) -> Result<String, String> {
        let asked = async {
            let version = self.version().await?;
            let ticket = self.ticket().await?;
            Ok::<_, Away>((version, ticket))
        };
        let (version, _) = asked.await.map_err(|Away(why)| why)?;
        let version = version.map_or("an unknown version".into(), |v| clean_line(&v));
        Ok(format!("{} is T3 Code {version} and takes the token", self.config.address))
    }

    /// Opens one websocket.
    async fn ticket(&self) -> Result<String, Away> {
        let path = self.address("/api/auth/websocket-ticket");
        match self.call(self.client.post(path)).await? {
            (200, answer) if !text(&answer, "ticket").is_empty() => {
                Ok(text(&answer, "ticket").to_owned())
            }
            (401, _) => Err(Away("it refuses the token".into())),
            (status, _) => Err(Away(format!("it answers {status} instead of a ticket"))),
        }
    }

    async fn socket(&self) -> Result<WebSocketStream<reqwest::Upgraded>, Away> {
        let ticket = self.ticket().await?;
        let url = reqwest::Url::parse_with_params(&self.address("/ws"), [("wsTicket", &ticket)]);
        let url = url.map_err(|error| Away(error.to_string()))?;
        let key = generate_key();
        let request = self
            .client
            .get(url)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, &key);
        let open = async {
            let answer = request.send().await.map_err(away)?;
            let accepted = answer.headers().get(header::SEC_WEBSOCKET_ACCEPT);
            let accepted =
                accepted.is_some_and(|said| said == derive_accept_key(key.as_bytes()).as_str());
            let status = answer.status();
            if status != reqwest::StatusCode::SWITCHING_PROTOCOLS || !accepted {
                return Err(Away(format!("it answers {status} instead of a websocket")));
            }
            answer.upgrade().await.map_err(away)
        };
        let stream = timeout(CALL, open).await;
        let stream = stream.map_err(|_| Away("no websocket in time".into()))??;
        let limits =
            WebSocketConfig::default().max_message_size(Some(FRAME)).max_frame_size(Some(FRAME));
        Ok(WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await)
    }
}

/// A token that a command prints.
async fn issue(command: &[String]) -> Result<SecretString, String> {
    let Some((program, args)) = command.split_first() else {
        return Err("there is no token: set `token` or `issue`".into());
    };
    let mut child = Command::new(program);
    child.args(args).env_clear().envs(inherited()).kill_on_drop(true);
    child.stdin(Stdio::null()).stderr(Stdio::null());
    let output = timeout(CALL, child.output()).await;
    let output = output.map_err(|_| format!("{program} issued no token in time"))?;
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let token = printed.split_whitespace().last().unwrap_or_default();
    if !output.status.success() || token.is_empty() {
        return Err(format!("{program} issued no token ({})", output.status));
    }
    Ok(SecretString::from(token.to_owned()))
}

fn away(error: reqwest::Error) -> Away {
    Away(clean_line(&error.without_url().to_string()))
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

/// Who hears what the server says: whole lines.
type Tell = mpsc::Sender<(Vec<u8>, bool)>;

/// Nobody hears it any more.
struct Deaf;

async fn tell(to: &Tell, line: &Value) -> Result<(), Deaf> {
    to.send((line.to_string().into_bytes(), false)).await.map_err(|_| Deaf)
}

/// Carries a turn's commands to the server and what happens in its thread back. Ends when nobody
/// sends or hears any more.
pub async fn carry(server: &Server, mut commands: mpsc::Receiver<Vec<u8>>, to: Tell, told: Told) {
    let greet = async {
        let version = again(&to, || server.version(), |_| None).await?;
        tell(&to, &json!({"server": version})).await
    };
    if greet.await.is_err() {
        return;
    }
    let (subscribe, mut subscribed) = mpsc::channel::<String>(1);
    let dispatch = async {
        while let Some(line) = commands.recv().await {
            let Ok(mut command) = serde_json::from_slice::<Value>(&line) else { continue };
            let kind = text(&command, "type").to_owned();
            if kind == "subscribe" {
                // It is said once; nobody follows any more where that fails.
                let _ = subscribe.send(text(&command, "threadId").to_owned()).await;
                continue;
            }
            command["createdAt"] = json!(now());
            let since = Instant::now();
            let later = |answer: &(u16, Value)| match answer.0 {
                401 if since.elapsed() < REFUSED => Some("it refuses the token"),
                429 | 502 | 503 | 504 => Some("it is busy"),
                _ => None,
            };
            let (status, body) = again(&to, || server.dispatch(&command), later).await?;
            let answer = json!({"answer": {"type": kind, "status": status, "body": body}});
            tell(&to, &answer).await?;
        }
        Ok::<(), Deaf>(())
    };
    let follow = async {
        let Some(thread) = subscribed.recv().await else { return };
        let _deaf = follow(server, &thread, &to, told).await;
    };
    tokio::pin!(dispatch);
    tokio::select! {
        // Nobody sends any more, so that nobody hears either.
        _ = &mut dispatch => {}
        () = follow => {}
    }
}

/// Asks until there is an answer that settles it; `later` says why one does not.
async fn again<T, F: Future<Output = Result<T, Away>>>(
    to: &Tell,
    ask: impl Fn() -> F,
    later: impl Fn(&T) -> Option<&'static str>,
) -> Result<T, Deaf> {
    let mut pause = Duration::from_millis(500);
    let mut lost = false;
    loop {
        let why = match ask().await {
            Ok(answer) => {
                let Some(why) = later(&answer) else {
                    if lost {
                        tell(to, &json!({"back": true})).await?;
                    }
                    return Ok(answer);
                };
                why.to_owned()
            }
            Err(Away(why)) => why,
        };
        tell(to, &json!({"lost": why})).await?;
        lost = true;
        tokio::select! {
            () = sleep(pause) => {}
            () = to.closed() => return Err(Deaf),
        }
        pause = (pause * 2).min(Duration::from_secs(15));
    }
}

/// Follows a thread over as many connections as it takes.
async fn follow(server: &Server, thread: &str, to: &Tell, mut told: Told) -> Result<(), Deaf> {
    loop {
        let mut socket = again(to, || server.socket(), |_| None).await?;
        let why = match follow_on(&mut socket, thread, to, &mut told).await {
            Ok(why) => why,
            Err(deaf) => {
                // A server that heard of it forgets its subscriber sooner.
                let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
                return Err(deaf);
            }
        };
        tell(to, &json!({"lost": why})).await?;
        sleep(Duration::from_millis(500)).await;
    }
}

/// Follows a thread until the connection ends; why it did.
async fn follow_on(
    socket: &mut WebSocketStream<reqwest::Upgraded>,
    thread: &str,
    to: &Tell,
    told: &mut Told,
) -> Result<String, Deaf> {
    let request = json!({
        "_tag": "Request", "id": "1", "tag": "orchestration.subscribeThread",
        "payload": {"threadId": thread}, "headers": [],
    });
    let send = |message: Value| Message::text(message.to_string());
    if let Err(error) = socket.send(send(request)).await {
        return Ok(error.to_string());
    }
    let mut ping = tokio::time::interval_at(Instant::now() + PING, PING);
    let (mut heard, mut first) = (true, true);
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = to.closed() => return Err(Deaf),
            _ = ping.tick() => {
                if !std::mem::take(&mut heard) {
                    return Ok("it says nothing any more".into());
                }
                match timeout(CALL, socket.send(Message::Ping(Vec::new().into()))).await {
                    Ok(Ok(())) => continue,
                    _ => return Ok("it reads nothing any more".into()),
                }
            }
        };
        heard = true;
        let words = match message {
            None | Some(Ok(Message::Close(_))) => return Ok("it ended the connection".into()),
            Some(Err(error)) => return Ok(clean_line(&error.to_string())),
            Some(Ok(Message::Text(words))) => words,
            Some(Ok(_)) => continue,
        };
        // Effect sends one frame or a list of them.
        let frames = match serde_json::from_str::<Value>(&words) {
            Ok(Value::Array(frames)) => frames,
            Ok(frame) => vec![frame],
            Err(error) => return Ok(format!("it sent what is no JSON: {error}")),
        };
        for frame in frames {
            match text(&frame, "_tag") {
                "Chunk" if text(&frame, "requestId") == "1" => {
                    if std::mem::take(&mut first) {
                        tell(to, &json!({"back": true})).await?;
                    }
                    for value in frame["values"].as_array().into_iter().flatten() {
                        tell(to, value).await?;
                        told.add(value);
                    }
                    // The server sends no more before this: its back-pressure.
                    let ack = send(json!({"_tag": "Ack", "requestId": "1"}));
                    if !matches!(timeout(CALL, socket.send(ack)).await, Ok(Ok(()))) {
                        return Ok("it reads nothing any more".into());
                    }
                }
                "Exit" | "Defect" => {
                    let why: String = clean_line(&frame.to_string()).chars().take(300).collect();
                    tell(to, &json!({"refused": why})).await?;
                    return Ok("it ended the subscription".into());
                }
                "Ping" => {
                    let pong = send(json!({"_tag": "Pong"}));
                    if !matches!(timeout(CALL, socket.send(pong)).await, Ok(Ok(()))) {
                        return Ok("it reads nothing any more".into());
                    }
                }
                _ => {}
            }
        }
    }
}
