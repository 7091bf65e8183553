//! `codex app-server`: JSON-RPC lines without the `jsonrpc` key (tried with 0.169.0).

use crate::core::model::approval::DecidedBy;
use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::fields::{short, text};
use super::prose::{Kind, Prose};
use super::{Conversation, Said, TurnSpec, bounded, diff, raw};
use crate::core::model::agent_event::{AgentEvent, PlanItem, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::budget::Spend;
use crate::core::model::capability::{Capabilities, Cost, Steer};
use crate::core::model::permission::{PermissionRequest, Tool};
use crate::core::model::untrusted::Untrusted;

/// What a request of ours was for.
#[derive(Debug, Clone)]
enum Sent {
    Initialize,
    Thread { resumed: bool },
    Turn,
    Steer,
    Interrupt,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Codex {
    cwd: String,
    prompt: String,
    resume: Option<String>,
    model: Option<String>,
    version: Option<Untrusted>,
    next: u64,
    sent: BTreeMap<u64, Sent>,
    thread: String,
    turn: String,
    prose: Prose,
    /// The message that is under way came in pieces.
    streamed: bool,
    /// Changes of files by item: their approval names the item alone.
    changes: BTreeMap<String, Value>,
    /// Its requests, as their ids came.
    requests: BTreeMap<String, (Value, String)>,
    /// Messages for when the turn has a name.
    early: VecDeque<String>,
    failed: Option<TurnEnd>,
    interrupted: bool,
}

/// A command without the shell that codex puts around it.
fn command(item: &Value) -> String {
    let whole = text(item, "command");
    let inner = item["commandActions"].as_array().map(Vec::as_slice).unwrap_or_default();
    match inner {
        [one] if !text(one, "command").is_empty() => text(one, "command").to_owned(),
        _ => whole.to_owned(),
    }
}

/// What is known of a failure: the API's status and the words.
fn failure(error: &Value) -> TurnEnd {
    let info = &error["codexErrorInfo"];
    let inner = info.as_object().and_then(|all| all.values().next());
    let status = inner.and_then(|inner| inner["httpStatusCode"].as_u64());
    let message = text(error, "message");
    let spoken = message.split_whitespace().find_map(|word| {
        let digits = word.trim_matches(|c: char| !c.is_ascii_digit());
        digits.parse::<u64>().ok().filter(|n| (400..600).contains(n) && digits.len() == 3)
    });
    let status = status.or(spoken).and_then(|status| u16::try_from(status).ok());
    TurnEnd::ApiError { status, why: bounded(message) }
}

impl Codex {
    fn call(&mut self, method: &str, params: &Value, what: Sent, said: &mut Said) {
        self.next += 1;
        self.sent.insert(self.next, what);
        said.line(&json!({"id": self.next, "method": method, "params": params}));
    }

    fn input(text: &str) -> Value {
        json!([{"type": "text", "text": text, "text_elements": []}])
    }

    fn start_turn(&mut self, text: &str, said: &mut Said) {
        self.turn.clear();
        self.failed = None;
        let params = json!({"threadId": self.thread, "input": Self::input(text)});
        self.call("turn/start", &params, Sent::Turn, said);
    }

    fn answered(&mut self, line: &Value, said: &mut Said) {
        let Some(what) = line["id"].as_u64().and_then(|id| self.sent.remove(&id)) else { return };
        let result = &line["result"];
        if let Some(error) = line.get("error").filter(|error| !error.is_null()) {
            return Self::refused(&what, error, said);
        }
        match what {
            Sent::Initialize => {
                let agent = text(result, "userAgent");
                let version = agent.split_whitespace().next().and_then(|a| a.split('/').nth(1));
                self.version = version.map(bounded);
                said.line(&json!({"method": "initialized"}));
                let mut params = json!({
                    "cwd": self.cwd, "approvalPolicy": "untrusted", "sandbox": "danger-full-access",
                });
                if let Some(model) = &self.model {
                    params["model"] = json!(model);
                }
                let resumed = self.resume.is_some();
                if let Some(thread) = &self.resume {
                    params["threadId"] = json!(thread);
                }
                let method = if resumed { "thread/resume" } else { "thread/start" };
                self.call(method, &params, Sent::Thread { resumed }, said);
            }
            Sent::Thread { .. } => {
                let thread = &result["thread"];
                text(thread, "id").clone_into(&mut self.thread);
                let model = [text(result, "model"), text(thread, "model")];
                said.event(AgentEvent::SessionStarted {
                    session: self.thread.clone(),
                    model: model.into_iter().find(|m| !m.is_empty()).map(bounded),
                    version: self.version.clone(),
                });
                let prompt = std::mem::take(&mut self.prompt);
                self.start_turn(&prompt, said);
            }
            Sent::Turn => {
                text(&result["turn"], "id").clone_into(&mut self.turn);
                for text in std::mem::take(&mut self.early) {
                    self.steer(&text, said);
                }
                if self.interrupted {
                    self.interrupt(said);
                }
            }
            Sent::Steer => said.event(AgentEvent::SteerTaken),
            Sent::Interrupt => {}
        }
    }

    fn refused(what: &Sent, error: &Value, said: &mut Said) {
        let why = text(error, "message").to_owned();
        match what {
            Sent::Thread { resumed: true } => {
                said.end = Some(TurnEnd::NoSession { why: bounded(why) });
            }
            Sent::Steer => {
                said.notice(format!("the message was not taken: {why}"));
            }
            Sent::Interrupt => {}
            Sent::Initialize | Sent::Thread { .. } | Sent::Turn => {
                said.end = Some(TurnEnd::ApiError { status: None, why: bounded(why) });
            }
        }
    }

    fn asked(&mut self, line: &Value, said: &mut Said) {
        let params = &line["params"];
        let item = text(params, "itemId").to_owned();
        let id = format!("codex-{}", line["id"]);
        let ask = match text(line, "method") {
            "item/commandExecution/requestApproval" => {
                let command = command(params);
                let reason = text(params, "reason");
                let lead = if reason.is_empty() { String::new() } else { format!("# {reason}\n") };
                PermissionRequest {
                    tool: Tool::Shell,
                    title: bounded(command.clone()),
                    detail: bounded(format!("{lead}{command}\n\nin {}", text(params, "cwd"))),
                    targets: vec![bounded(command)],
                    editable: false,
                }
            }
            "item/fileChange/requestApproval" => {
                let changes = self.changes.get(&item).cloned().unwrap_or_else(|| json!([]));
                let files = changes.as_array().cloned().unwrap_or_default();
                let paths: Vec<&str> = files.iter().map(|file| text(file, "path")).collect();
                let short: Vec<&str> = paths.iter().map(|path| short(&self.cwd, path)).collect();
                let detail: Vec<String> = files.iter().map(|file| self.change(file)).collect();
                PermissionRequest {
                    tool: Tool::Edit,
                    title: bounded(format!("change {}", short.join(", "))),
                    detail: bounded(detail.join("\n")),
                    targets: paths.into_iter().map(bounded).collect(),
                    editable: false,
                }
            }
            other => {
                let message = format!("{other} is not supported");
                said.line(
                    &json!({"id": line["id"], "error": {"code": -32601, "message": message}}),
                );
                return;
            }
        };
        self.prose.flush(&mut said.events);
        self.requests.insert(id.clone(), (line["id"].clone(), item));
        said.event(AgentEvent::PermissionRequest { id, request: Box::new(ask) });
    }

    /// A change of a file as a unified diff: codex tells a new file as its text.
    fn change(&self, file: &Value) -> String {
        let (path, told) = (short(&self.cwd, text(file, "path")), text(file, "diff"));
        let body = match text(&file["kind"], "type") {
            "add" => diff::unified(path, "", told),
            "delete" => diff::unified(path, told, ""),
            _ => told.to_owned(),
        };
        format!("{path}\n{body}")
    }

    fn item(&mut self, item: &Value, over: bool, said: &mut Said) {
        let id = text(item, "id").to_owned();
        match (text(item, "type"), over) {
            ("agentMessage", true) => {
                // A short message comes whole, without pieces.
                if !std::mem::take(&mut self.streamed) {
                    self.prose.push(Kind::Text, text(item, "text"), &mut said.events);
                }
                self.prose.flush(&mut said.events);
            }
            ("agentMessage", false) => self.streamed = false,
            ("reasoning", true) => self.prose.flush(&mut said.events),
            ("commandExecution", false) => {
                self.prose.flush(&mut said.events);
                let title = bounded(command(item));
                said.event(AgentEvent::ToolStart { id, kind: "shell".into(), title });
            }
            ("commandExecution", true) => {
                let code = item["exitCode"].as_i64().and_then(|code| i32::try_from(code).ok());
                said.event(AgentEvent::ToolEnd {
                    id,
                    title: "".into(),
                    ok: text(item, "status") == "completed" && code.unwrap_or(0) == 0,
                    code,
                    output: bounded(text(item, "aggregatedOutput")),
                });
            }
            ("fileChange", false) => {
                self.prose.flush(&mut said.events);
                self.changes.insert(id.clone(), item["changes"].clone());
                let files = item["changes"].as_array().into_iter().flatten();
                let paths: Vec<&str> =
                    files.map(|file| short(&self.cwd, text(file, "path"))).collect();
                let title = bounded(format!("change {}", paths.join(", ")));
                said.event(AgentEvent::ToolStart { id, kind: "edit".into(), title });
            }
            ("fileChange", true) => {
                self.changes.remove(&id);
                let ok = text(item, "status") == "completed";
                let (title, output) = ("".into(), "".into());
                said.event(AgentEvent::ToolEnd { id, title, ok, code: None, output });
                for file in item["changes"].as_array().into_iter().flatten().filter(|_| ok) {
                    let path = bounded(short(&self.cwd, text(file, "path")));
                    said.event(AgentEvent::Diff { path, diff: bounded(self.change(file)) });
                }
            }
            ("mcpToolCall" | "webSearch" | "dynamicToolCall", over) => {
                let name = [text(item, "tool"), text(item, "query"), text(item, "type")];
                let title = name.into_iter().find(|name| !name.is_empty()).map(bounded);
                let title = title.unwrap_or_default();
                said.event(if over {
                    let ok = text(item, "status") != "failed";
                    AgentEvent::ToolEnd { id, title, ok, code: None, output: "".into() }
                } else {
                    AgentEvent::ToolStart { id, kind: "other".into(), title }
                });
            }
            _ => {}
        }
    }

    fn told(&mut self, line: &Value, said: &mut Said) {
        let params = &line["params"];
        match text(line, "method") {
            "item/agentMessage/delta" => {
                self.streamed = true;
                self.prose.push(Kind::Text, text(params, "delta"), &mut said.events);
            }
            "item/reasoning/summaryTextDelta" | "item/reasoning/textDelta" => {
                self.prose.push(Kind::Thought, text(params, "delta"), &mut said.events);
            }
            "item/started" => self.item(&params["item"], false, said),
            "item/completed" => self.item(&params["item"], true, said),
            "turn/started" => text(&params["turn"], "id").clone_into(&mut self.turn),
            "turn/plan/updated" => {
                let steps = params["plan"].as_array().into_iter().flatten().take(200);
                let items = steps.map(|step| PlanItem {
                    text: bounded(text(step, "step")),
                    done: text(step, "status") == "completed",
                });
                said.event(AgentEvent::Plan { items: items.collect() });
            }
            "thread/tokenUsage/updated" => {
                let last = &params["tokenUsage"]["last"];
                let count = |key: &str| last[key].as_u64().unwrap_or(0);
                said.event(AgentEvent::Usage(Spend {
                    tokens_in: count("inputTokens"),
                    tokens_out: count("outputTokens"),
                    ..Spend::default()
                }));
            }
            "serverRequest/resolved" => {
                let id = format!("codex-{}", params["requestId"]);
                if self.requests.remove(&id).is_some() {
                    said.event(AgentEvent::RequestWithdrawn { id });
                }
            }
            "error" => {
                let end = failure(&params["error"]);
                if params["willRetry"] == json!(true) {
                    let TurnEnd::ApiError { status, .. } = end else { return };
                    let words = text(&params["error"], "message");
                    let attempt = words
                        .split(|c: char| !c.is_ascii_digit())
                        .find_map(|digits| digits.parse().ok());
                    let attempt = attempt.unwrap_or(1);
                    said.event(AgentEvent::Retry { attempt, delay_ms: 0, status });
                } else {
                    self.failed = Some(end);
                }
            }
            "turn/completed" => self.completed(&params["turn"], said),
            _ => {}
        }
    }

    fn completed(&mut self, turn: &Value, said: &mut Said) {
        self.prose.flush(&mut said.events);
        said.end = Some(match text(turn, "status") {
            "completed" => self.failed.take().unwrap_or(TurnEnd::Done),
            "interrupted" => TurnEnd::Interrupted,
            _ => {
                let error = &turn["error"];
                let known = self.failed.take();
                if error.is_null() {
                    let why = format!("codex ended the turn as {}", text(turn, "status"));
                    known.unwrap_or(TurnEnd::ApiError { status: None, why: bounded(why) })
                } else {
                    failure(error)
                }
            }
        });
    }
}

impl Conversation for Codex {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            steer: Steer::MidTurn,
            interrupt: true,
            permissions: true,
            edits: false,
            reads_refusals: true,
            questions: false,
            plan: true,
            diffs: true,
            cost: Cost::Tokens,
            budget: false,
            resume: true,
        }
    }

    fn begin(&mut self, spec: &TurnSpec, said: &mut Said) {
        self.prose.tell_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.resume.clone_from(&spec.resume);
        self.model.clone_from(&spec.model);
        let client = json!({"name": "afk", "title": "afk", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"clientInfo": client, "capabilities": {"experimentalApi": true}});
        self.call("initialize", &params, Sent::Initialize, said);
    }

    fn hear(&mut self, line: &[u8], cut: bool, said: &mut Said) {
        let read = if cut { None } else { serde_json::from_slice::<Value>(line).ok() };
        let Some(line) = read.as_ref().filter(|line| line.is_object()) else {
            return said.event(raw(line));
        };
        match (line.get("method").is_some(), line.get("id").is_some()) {
            (true, true) => self.asked(line, said),
            (true, false) => self.told(line, said),
            (false, true) => self.answered(line, said),
            (false, false) => said.event(raw(line.to_string().as_bytes())),
        }
    }

    fn steer(&mut self, text: &str, said: &mut Said) {
        if self.turn.is_empty() {
            self.early.push_back(text.to_owned());
            return;
        }
        let params = json!({
            "threadId": self.thread, "expectedTurnId": self.turn, "input": Self::input(text),
        });
        self.call("turn/steer", &params, Sent::Steer, said);
    }

    fn follow(&mut self, text: &str, said: &mut Said) {
        self.start_turn(text, said);
    }

    fn answer(&mut self, request: &str, answer: &Answer, _by: &DecidedBy, said: &mut Said) {
        let Some((id, _)) = self.requests.remove(request) else {
            return said.notice("the agent waits for that answer no more");
        };
        let decision = match answer {
            Answer::Approve | Answer::ApproveRun => "accept",
            Answer::Deny { .. } | Answer::Edit { .. } | Answer::Text { .. } => "decline",
        };
        said.line(&json!({"id": id, "result": {"decision": decision}}));
        if let Answer::Deny { reason } = answer
            && !reason.is_empty()
        {
            // Its answer has no room for a reason: it is told as a message.
            let text = format!("That was refused: {}", reason.as_received());
            self.steer(&text, said);
        }
    }

    fn interrupt(&mut self, said: &mut Said) {
        self.interrupted = true;
        if !self.turn.is_empty() {
            let params = json!({"threadId": self.thread, "turnId": self.turn});
            self.call("turn/interrupt", &params, Sent::Interrupt, said);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(codex: &mut Codex, lines: &[Value]) -> Said {
        let mut said = Said::default();
        for line in lines {
            codex.hear(line.to_string().as_bytes(), false, &mut said);
        }
        said
    }

    /// One whose turn runs.
    fn began() -> Codex {
        let mut codex = Codex { prompt: "do it".into(), cwd: "/w/wt".into(), ..Codex::default() };
        codex.call("initialize", &json!({}), Sent::Initialize, &mut Said::default());
        let said = hear(
            &mut codex,
            &[
                json!({"id": 1, "result": {"userAgent": "afk/0.169.0 (Debian)"}}),
                json!({"id": 2, "result": {"thread": {"id": "th", "model": "m"}}}),
                json!({"id": 3, "result": {"turn": {"id": "tu"}}}),
            ],
        );
        let lines: Vec<Value> =
            said.lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(lines[1]["method"], "thread/start");
        assert_eq!(lines[2]["params"]["input"][0]["text"], "do it");
        let version = Some("0.169.0".into());
        let model = Some("m".into());
        assert_eq!(
            said.events,
            [AgentEvent::SessionStarted { session: "th".into(), model, version }]
        );
        codex
    }

    #[test]
    fn a_change_is_asked_with_its_diff_and_answered() {
        let mut codex = began();
        let change = json!({"type": "fileChange", "id": "i1", "changes": [
            {"path": "/w/wt/a.py", "kind": {"type": "update"}, "diff": "@@ -1 +1 @@\n-1\n+2\n"}]});
        let said = hear(
            &mut codex,
            &[
                json!({"method": "item/started", "params": {"item": change}}),
                json!({"method": "item/fileChange/requestApproval", "id": 0, "params": {"itemId": "i1"}}),
            ],
        );
        let Some(AgentEvent::PermissionRequest { id, request: ask }) = said.events.last() else {
            panic!()
        };
        assert_eq!((ask.tool, ask.targets[0].as_received()), (Tool::Edit, "/w/wt/a.py"));
        assert!(ask.detail.as_received().contains("-1\n+2"));
        let mut said = Said::default();
        codex.answer(
            id,
            &Answer::Deny { reason: "no".into() },
            &"ana".to_owned().into(),
            &mut said,
        );
        let lines: Vec<Value> =
            said.lines.iter().map(|l| serde_json::from_slice(l).unwrap()).collect();
        assert_eq!(lines[0], json!({"id": 0, "result": {"decision": "decline"}}));
        assert_eq!(lines[1]["method"], "turn/steer");
    }

    #[test]
    fn a_command_is_shown_without_its_shell() {
        let mut codex = began();
        let said = hear(
            &mut codex,
            &[json!({"id": 4, "method": "item/commandExecution/requestApproval",
            "params": {"command": "/bin/bash -lc 'make x'", "cwd": "/w/wt",
                "commandActions": [{"type": "unknown", "command": "make x"}]}})],
        );
        let Some(AgentEvent::PermissionRequest { request: ask, .. }) = said.events.last() else {
            panic!()
        };
        assert_eq!(ask.targets[0].as_received(), "make x");
    }

    #[test]
    fn ends_are_told_as_what_they_are() {
        let turn = |turn: Value| json!({"method": "turn/completed", "params": {"turn": turn}});
        let failed = json!({"method": "error", "params": {"willRetry": false, "error": {
            "message": "unexpected status 400 Bad Request", "codexErrorInfo": null}}});
        for (lines, end) in [
            (vec![turn(json!({"status": "completed"}))], TurnEnd::Done),
            (vec![turn(json!({"status": "interrupted"}))], TurnEnd::Interrupted),
            (
                vec![turn(json!({"status": "failed", "error": {"message": "x",
                    "codexErrorInfo": {"responseStreamConnectionFailed": {"httpStatusCode": 529}}}}))],
                TurnEnd::ApiError { status: Some(529), why: "x".into() },
            ),
            (
                vec![failed, turn(json!({"status": "completed"}))],
                TurnEnd::ApiError {
                    status: Some(400),
                    why: "unexpected status 400 Bad Request".into(),
                },
            ),
        ] {
            assert_eq!(hear(&mut began(), &lines).end, Some(end));
        }
        let mut codex = Codex { resume: Some("gone".into()), ..Codex::default() };
        codex.call("initialize", &json!({}), Sent::Initialize, &mut Said::default());
        let said = hear(
            &mut codex,
            &[
                json!({"id": 1, "result": {}}),
                json!({"id": 2, "error": {"message": "no rollout found"}}),
            ],
        );
        assert!(matches!(said.end, Some(TurnEnd::NoSession { .. })));
    }
}
