//! The protocol of `codex app-server`: JSON-RPC lines without the `jsonrpc` key (tested with
//! 0.169.0).
//!
//! ```text
//!  afk                                  codex
//!   ── initialize ────────────────────>
//!   ── thread/start or /resume ───────>
//!   ── turn/start, turn/steer ────────>
//!   <──── item/started, /completed ────   messages, commands, file changes
//!   <──── item/*/requestApproval ──────   afk responds with a decision
//!   <──── turn/completed ──────────────   the turn has ended
//! ```
//!
//! Codex has a sandbox of its own, which can't start behind the wall: bubblewrap, its default, may
//! make no namespace there ("No permissions to create a new namespace", at the levels `strong` and
//! `landlock`), and Codex refuses its older one of Landlock alone ("requires bubblewrap to isolate
//! app-server sockets"). Behind the wall afk therefore names the wall as the external sandbox that
//! it is. Until a turn says so, the thread may only read, and so nothing of it can run.

mod items;

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::fields::text;
use super::prose::{Prose, ProseKind};
use super::{AgentProtocol, ProtocolOutput, TOOL_SERVER, TurnSpec, bounded, json_line, raw_event};
use crate::config::agent::capabilities;
use crate::core::model::agent_event::{AgentEvent, ContextUse, PlanItem, TurnEnd};
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::budget::Spend;
use crate::core::model::capability::Capabilities;
use crate::core::model::untrusted::Untrusted;
use crate::sandbox::NetworkPolicy;

/// The purpose of a request that afk sent, kept until its response arrives.
#[derive(Debug, Clone)]
enum CodexCall {
    Initialize,
    Thread { resumed: bool },
    Account,
    Turn,
    Steer,
    Interrupt,
}

/// The state of one conversation; see the module.
#[derive(Debug, Default)]
pub(crate) struct CodexProtocol {
    cwd: String,
    prompt: String,
    resume: Option<String>,
    model: Option<String>,
    /// The turn ends before its prompt.
    dry: bool,
    version: Option<Untrusted>,
    /// The network policy of the wall around this agent; none without a wall.
    wall: Option<NetworkPolicy>,
    /// The JSON-RPC id of the last request.
    last_id: u64,
    /// Requests without a response, by id.
    calls: BTreeMap<u64, CodexCall>,
    /// The thread's id at codex.
    thread: String,
    /// The running turn's id at codex; empty until codex has sent it.
    turn: String,
    prose: Prose,
    /// The current message arrives in pieces.
    streamed: bool,
    /// The last message broke off and comes again.
    breaks_off: bool,
    /// File changes by item id; a request for approval contains only the item's id.
    changes: BTreeMap<String, Value>,
    /// The JSON-RPC ids of open permission requests, by afk's id.
    requests: BTreeMap<String, Value>,
    /// Operators' messages that arrived before the turn had an id.
    queued_steers: VecDeque<String>,
    /// The last error that codex does not retry.
    last_error: Option<TurnEnd>,
    interrupted: bool,
}

/// Builds the turn's end from an error; the API's status is in its info or in its message.
fn api_error(error: &Value) -> TurnEnd {
    let info = &error["codexErrorInfo"];
    let details = info.as_object().and_then(|all| all.values().next());
    let status = details.and_then(|details| details["httpStatusCode"].as_u64());
    let message = text(error, "message");
    let in_message = message.split_whitespace().find_map(|word| {
        let digits = word.trim_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|n| (400..600).contains(n) && digits.len() == 3)
    });
    if text(error, "codexErrorInfo") == "contextWindowExceeded" {
        return TurnEnd::ContextOverflow { why: bounded(message) };
    }
    let status = status.or(in_message).and_then(|status| u16::try_from(status).ok());
    TurnEnd::ApiError { status, why: bounded(message) }
}

impl CodexProtocol {
    fn call(&mut self, method: &str, params: &Value, purpose: CodexCall, out: &mut ProtocolOutput) {
        self.last_id += 1;
        self.calls.insert(self.last_id, purpose);
        out.write_json(&json!({"id": self.last_id, "method": method, "params": params}));
    }

    fn turn_input(text: &str) -> Value {
        json!([{"type": "text", "text": text, "text_elements": []}])
    }

    fn start_turn(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.turn.clear();
        self.last_error = None;
        let mut params = json!({"threadId": self.thread, "input": Self::turn_input(text)});
        if let Some(network) = self.wall {
            let access = if network == NetworkPolicy::None { "restricted" } else { "enabled" };
            params["sandboxPolicy"] = json!({"type": "externalSandbox", "networkAccess": access});
        }
        self.call("turn/start", &params, CodexCall::Turn, out);
    }

    fn on_response(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let Some(purpose) = line["id"].as_u64().and_then(|id| self.calls.remove(&id)) else {
            return;
        };
        let result = &line["result"];
        if let Some(error) = line.get("error").filter(|error| !error.is_null()) {
            return Self::on_error(&purpose, error, out);
        }
        match purpose {
            CodexCall::Initialize => {
                let product = text(result, "userAgent").split_whitespace().next();
                let version = product.and_then(|product| product.split('/').nth(1));
                self.version = version.map(bounded);
                out.write_json(&json!({"method": "initialized"}));
                let mode = self.wall.map_or("danger-full-access", |_| "read-only");
                let mut params = json!({
                    "cwd": self.cwd, "approvalPolicy": "untrusted", "sandbox": mode,
                });
                if let Some(model) = &self.model {
                    params["model"] = json!(model);
                }
                let resumed = self.resume.is_some();
                if let Some(thread) = &self.resume {
                    params["threadId"] = json!(thread);
                }
                let method = if resumed { "thread/resume" } else { "thread/start" };
                self.call(method, &params, CodexCall::Thread { resumed }, out);
            }
            CodexCall::Thread { .. } => {
                let thread = &result["thread"];
                text(thread, "id").clone_into(&mut self.thread);
                let model = [text(result, "model"), text(thread, "model")];
                out.emit(AgentEvent::SessionStarted {
                    session: self.thread.clone(),
                    model: model.into_iter().find(|m| !m.is_empty()).map(bounded),
                    version: self.version.clone(),
                });
                if self.dry {
                    return self.call("account/read", &json!({}), CodexCall::Account, out);
                }
                let prompt = std::mem::take(&mut self.prompt);
                self.start_turn(&prompt, out);
            }
            CodexCall::Account => {
                let lacks =
                    result["requiresOpenaiAuth"] == json!(true) && result["account"].is_null();
                out.end = Some(if lacks {
                    TurnEnd::NotStarted { why: "codex is not logged in: run `codex login`".into() }
                } else {
                    TurnEnd::Done
                });
            }
            CodexCall::Turn => {
                text(&result["turn"], "id").clone_into(&mut self.turn);
                for text in std::mem::take(&mut self.queued_steers) {
                    self.steer(&text, out);
                }
                if self.interrupted {
                    self.interrupt(out);
                }
            }
            CodexCall::Steer => out.emit(AgentEvent::SteerTaken),
            CodexCall::Interrupt => {}
        }
    }

    fn on_error(purpose: &CodexCall, error: &Value, out: &mut ProtocolOutput) {
        let why = text(error, "message").to_owned();
        match purpose {
            CodexCall::Thread { resumed: true } => {
                out.end = Some(TurnEnd::NoSession { why: bounded(why) });
            }
            CodexCall::Steer => {
                out.notice(format!("the agent rejected the message: {why}"));
            }
            CodexCall::Interrupt => {}
            CodexCall::Initialize
            | CodexCall::Thread { .. }
            | CodexCall::Account
            | CodexCall::Turn => {
                out.end = Some(TurnEnd::ApiError { status: None, why: bounded(why) });
            }
        }
    }

    fn on_notification(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let params = &line["params"];
        match text(line, "method") {
            "item/agentMessage/delta" => {
                self.streamed = true;
                self.prose.push(ProseKind::Text, text(params, "delta"), &mut out.events);
            }
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                self.prose.push(ProseKind::Thought, text(params, "delta"), &mut out.events);
            }
            "item/started" => self.on_item(&params["item"], false, out),
            "item/completed" => self.on_item(&params["item"], true, out),
            "turn/started" => text(&params["turn"], "id").clone_into(&mut self.turn),
            "turn/plan/updated" => {
                let steps = params["plan"].as_array().into_iter().flatten().take(200);
                let items = steps.map(|step| PlanItem {
                    text: bounded(text(step, "step")),
                    done: text(step, "status") == "completed",
                });
                out.emit(AgentEvent::Plan { items: items.collect() });
            }
            // A resumed thread first repeats the last figure of the turn before.
            "thread/tokenUsage/updated" if self.turn.is_empty() => {}
            "thread/tokenUsage/updated" => {
                let usage = &params["tokenUsage"];
                let count = |key: &str| usage["last"][key].as_u64().unwrap_or(0);
                out.emit(AgentEvent::Context(ContextUse {
                    used: count("inputTokens").saturating_add(count("outputTokens")),
                    size: usage["modelContextWindow"].as_u64(),
                }));
                out.emit(AgentEvent::Usage(Spend {
                    tokens_in: count("inputTokens"),
                    tokens_out: count("outputTokens"),
                    ..Spend::default()
                }));
            }
            "serverRequest/resolved" => {
                let id = format!("codex-{}", params["requestId"]);
                if self.requests.remove(&id).is_some() {
                    out.emit(AgentEvent::RequestWithdrawn { id });
                }
            }
            "error" => {
                let end = api_error(&params["error"]);
                if params["willRetry"] == json!(true)
                    && let TurnEnd::ApiError { status, .. } = end
                {
                    let message = text(&params["error"], "message");
                    let attempt = message
                        .split(|c: char| !c.is_ascii_digit())
                        .find_map(|digits| digits.parse().ok());
                    let attempt = attempt.unwrap_or(1);
                    self.prose.flush(&mut out.events);
                    self.prose.begin_message(true);
                    self.breaks_off = true;
                    out.emit(AgentEvent::Retry { attempt, delay_ms: 0, status });
                } else {
                    self.last_error = Some(end);
                }
            }
            "turn/completed" => self.on_turn_completed(&params["turn"], out),
            _ => {}
        }
    }

    fn on_turn_completed(&mut self, turn: &Value, out: &mut ProtocolOutput) {
        self.prose.flush(&mut out.events);
        out.end = Some(match text(turn, "status") {
            "completed" => self.last_error.take().unwrap_or(TurnEnd::Done),
            "interrupted" => TurnEnd::Interrupted,
            _ => {
                let error = &turn["error"];
                let last_error = self.last_error.take();
                if error.is_null() {
                    let why =
                        format!("codex ended the turn with the status {:?}", text(turn, "status"));
                    last_error.unwrap_or(TurnEnd::ApiError { status: None, why: bounded(why) })
                } else {
                    api_error(error)
                }
            }
        });
    }
}

impl AgentProtocol for CodexProtocol {
    fn capabilities(&self) -> Capabilities {
        capabilities("codex")
    }

    fn arguments(&self, spec: &TurnSpec) -> Vec<String> {
        let Some(server) = &spec.tool_server else { return Vec::new() };
        let key = format!("mcp_servers.{TOOL_SERVER}");
        // The values are TOML, of which JSON's strings and lists are a part.
        let settings = [
            format!("{key}.command={}", json!(server.program)),
            format!("{key}.args={}", json!(server.args)),
            // Without it, codex asks its model before the tools are there.
            format!("{key}.required=true"),
            // A call may wait for a person.
            format!("{key}.tool_timeout_sec={}", spec.limits.turn.as_secs()),
            // afk itself decides about each call.
            format!("{key}.default_tools_approval_mode=\"approve\""),
        ];
        settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]).collect()
    }

    fn begin(&mut self, spec: &TurnSpec, out: &mut ProtocolOutput) {
        self.prose.stream_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.resume.clone_from(&spec.resume);
        self.wall = spec.sandbox.as_ref().map(|sandbox| sandbox.network);
        self.model.clone_from(&spec.model);
        self.dry = spec.dry;
        let client = json!({"name": "afk", "title": "afk", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"clientInfo": client, "capabilities": {"experimentalApi": true}});
        self.call("initialize", &params, CodexCall::Initialize, out);
    }

    fn receive_line(&mut self, line: &[u8], cut: bool, out: &mut ProtocolOutput) {
        let parsed = if cut { None } else { json_line::parse::<Value>(line) };
        let Some(line) = parsed.as_ref().filter(|line| line.is_object()) else {
            return out.emit(raw_event(line));
        };
        match (line.get("method").is_some(), line.get("id").is_some()) {
            (true, true) => self.on_request(line, out),
            (true, false) => self.on_notification(line, out),
            (false, true) => self.on_response(line, out),
            (false, false) => out.emit(raw_event(line.to_string().as_bytes())),
        }
    }

    fn steer(&mut self, text: &str, out: &mut ProtocolOutput) {
        if self.turn.is_empty() {
            self.queued_steers.push_back(text.to_owned());
            return;
        }
        let params = json!({
            "threadId": self.thread, "expectedTurnId": self.turn, "input": Self::turn_input(text),
        });
        self.call("turn/steer", &params, CodexCall::Steer, out);
    }

    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.start_turn(text, out);
    }

    fn answer(
        &mut self,
        request: &str,
        answer: &Answer,
        _by: &DecidedBy,
        out: &mut ProtocolOutput,
    ) {
        let Some(id) = self.requests.remove(request) else {
            return out.notice("the agent no longer waits for this answer");
        };
        let decision = match answer {
            Answer::Approve | Answer::ApproveRun => "accept",
            Answer::Deny { .. } | Answer::Edit { .. } | Answer::Text { .. } => "decline",
        };
        out.write_json(&json!({"id": id, "result": {"decision": decision}}));
        if let Answer::Deny { reason } = answer
            && !reason.is_empty()
        {
            // The response has no field for a reason, therefore a message carries it.
            let text = format!("That was refused: {}", reason.as_received());
            self.steer(&text, out);
        }
    }

    fn flush(&mut self, events: &mut Vec<AgentEvent>) {
        self.prose.flush(events);
    }

    fn interrupt(&mut self, out: &mut ProtocolOutput) {
        self.interrupted = true;
        if !self.turn.is_empty() {
            let params = json!({"threadId": self.thread, "turnId": self.turn});
            self.call("turn/interrupt", &params, CodexCall::Interrupt, out);
        }
    }
}

#[cfg(test)]
mod tests;
