//! A thread of a T3 Code server as an [`AgentProtocol`]: translates the lines of the link into
//! events (recorded with 0.0.27; docs/executors.md lists the features that afk relies on).
//!
//! The first event is a snapshot of the whole thread, also after each lost connection and after a
//! restart of afk; single events follow. Ids of emitted messages and activities keep the snapshot
//! from repeating them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::stable_id;
use crate::agent::claude::tools;
use crate::agent::fields::text;
use crate::agent::prose::{Prose, ProseKind};
use crate::agent::{AgentProtocol, ProtocolOutput, TurnSpec, bounded, raw_event};
use crate::core::model::agent_event::TurnEnd;
use crate::core::model::approval::{Answer, DecidedBy};
use crate::core::model::capability::{Capabilities, Cost, Steer};
use crate::core::model::untrusted::{Untrusted, clean_line};

/// A request of the agent that waits for an answer.
#[derive(Debug)]
pub(super) enum PendingRequest {
    Approval,
    /// Questions, as received.
    Input(Vec<Value>),
}

/// The settings of a turn's thread.
#[derive(Debug, Clone)]
pub(crate) struct ThreadSetup {
    /// The turn's name, from which the ids of its commands derive.
    pub(crate) name: String,
    /// The name of the agent at the server.
    pub(crate) instance: String,
    pub(crate) model: String,
    /// Whether the agent asks for permission before it uses a tool.
    pub(crate) approvals: bool,
    /// The version that the server must have; `None` accepts any.
    pub(crate) version: Option<String>,
    /// Ids of the messages and activities that were already emitted.
    pub(crate) seen_ids: BTreeSet<String>,
}

/// The state of one turn's thread; see the module.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(super) setup: ThreadSetup,
    pub(super) cwd: String,
    pub(super) prompt: String,
    /// The turn continues the thread of an earlier turn.
    pub(super) resumed: bool,
    pub(super) id: String,
    /// The server's version.
    pub(super) version: Option<Untrusted>,
    pub(super) prose: Prose,
    /// The number of messages to the agent after the prompt.
    pub(super) follow_ups: usize,
    /// The subscription to the thread's events was requested.
    pub(super) subscribed: bool,
    /// The server's id of the running turn, once the server has sent it.
    pub(super) turn: Option<String>,
    /// The server's ids of the turns that have ended.
    pub(super) ended_turns: BTreeSet<String>,
    /// How many bytes of each unfinished message were emitted.
    streamed: BTreeMap<String, usize>,
    /// Running tools. The server gives them no id, therefore their description identifies them.
    pub(super) tools: Vec<RunningTool>,
    /// The number of tools so far, which makes their ids unique.
    pub(super) started_tools: u64,
    pub(super) requests: BTreeMap<String, PendingRequest>,
    /// Ids of the requests that afk has answered.
    pub(super) answered: BTreeSet<String>,
    /// Answers that arrived before the first snapshot, which contains their requests; `None` after
    /// it. This happens after a restart of afk.
    pub(super) early_answers: Option<Vec<(String, Answer, DecidedBy)>>,
    /// Tokens of this turn so far, in and out.
    pub(super) used_tokens: (u64, u64),
    /// The link has reported a lost connection.
    lost: bool,
}

#[derive(Debug)]
pub(super) struct RunningTool {
    pub(super) id: String,
    pub(super) detail: String,
    pub(super) name: String,
    pub(super) input: Value,
}

/// Derives the id of the thread that a new turn creates.
pub(super) fn thread_id(turn: &str) -> String {
    stable_id(&[turn, "thread"])
}

/// The capabilities of every agent at a T3 server.
pub(super) const fn capabilities(approvals: bool) -> Capabilities {
    Capabilities {
        // A message in the middle of a turn would cancel the running tool.
        steer: Steer::AfterTurn,
        interrupt: true,
        permissions: approvals,
        edits: false,
        reads_refusals: true,
        questions: true,
        plan: false,
        diffs: true,
        cost: Cost::Tokens,
        budget: false,
        resume: true,
    }
}

impl Thread {
    /// Prepares a thread; its first command waits until the link reports the server's version.
    pub(crate) fn new(setup: ThreadSetup) -> Self {
        Self {
            setup,
            cwd: String::new(),
            prompt: String::new(),
            resumed: false,
            id: String::new(),
            version: None,
            prose: Prose::default(),
            follow_ups: 0,
            subscribed: false,
            turn: None,
            ended_turns: BTreeSet::new(),
            streamed: BTreeMap::new(),
            tools: Vec::new(),
            started_tools: 0,
            requests: BTreeMap::new(),
            answered: BTreeSet::new(),
            early_answers: Some(Vec::new()),
            used_tokens: (0, 0),
            lost: false,
        }
    }

    /// Handles a snapshot of the whole thread, the first event of each subscription.
    fn on_snapshot(&mut self, thread: &Value, out: &mut ProtocolOutput) {
        if !thread["deletedAt"].is_null() {
            let why = "the thread was deleted at the T3 server".into();
            out.end = Some(TurnEnd::Crashed { why });
            return;
        }
        let list = |key: &str| thread[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let (messages, prompt_id) = (list("messages"), self.message_id());
        let is_prompt = |message: &Value| text(message, "id") == prompt_id;
        let Some(at) = messages.iter().position(is_prompt) else { return };
        let after = &messages[at + 1..];
        let (session, latest) = (&thread["session"], &thread["latestTurn"]);
        // A turn has the time of the message that requested it.
        let requested_at = text(&messages[at], "createdAt");
        let latest = Some(latest).filter(|latest| text(latest, "requestedAt") == requested_at);
        let turns = [Some(text(session, "activeTurnId")), latest.map(|turn| text(turn, "turnId"))];
        let turn = turns.into_iter().flatten().chain(after.iter().map(|m| text(m, "turnId")));
        let turn = { turn }.find(|turn| !turn.is_empty() && !self.ended_turns.contains(*turn));
        let resolved: BTreeSet<&str> = list("activities")
            .iter()
            .filter(|item| text(item, "kind").ends_with(".resolved"))
            .map(|item| text(&item["payload"], "requestId"))
            .collect();
        if let Some(turn) = turn {
            self.turn = Some(turn.to_owned());
            let of_turn = |item: &&Value| text(item, "turnId") == turn;
            let mut all: Vec<(&Value, bool)> =
                after.iter().filter(of_turn).map(|message| (message, true)).collect();
            let unresolved = |item: &&Value| {
                let request = text(&item["payload"], "requestId");
                !text(item, "kind").ends_with(".requested") || !resolved.contains(request)
            };
            let activities = list("activities").iter().filter(of_turn).filter(unresolved);
            all.extend(activities.map(|activity| (activity, false)));
            let order =
                |(item, message): &(&Value, bool)| (text(item, "createdAt").to_owned(), !message);
            all.sort_by_cached_key(order);
            for (item, message) in all {
                if message {
                    self.snapshot_message(item, out);
                } else {
                    self.on_activity(item, out);
                }
            }
        }
        self.on_session(session, latest.is_some(), out);
    }

    /// Handles the state of the thread's session: the turn ends when it was active and no longer
    /// is.
    ///
    /// A failure or interrupt ends the turn also if it was never seen active, but only when
    /// `since_start`: an older failure belongs to an earlier turn.
    fn on_session(&mut self, session: &Value, since_start: bool, out: &mut ProtocolOutput) {
        let (status, active) = (text(session, "status"), text(session, "activeTurnId"));
        if !active.is_empty() {
            if !self.ended_turns.contains(active) {
                self.turn = Some(active.to_owned());
            }
            return;
        }
        let was_active = self.turn.is_some();
        let end = match status {
            "ready" | "idle" if was_active => TurnEnd::Done,
            "stopped" | "interrupted" if was_active || since_start => TurnEnd::Interrupted,
            "error" if was_active || since_start => {
                let why = match text(session, "lastError") {
                    "" => "the T3 server gave no reason",
                    why => why,
                };
                TurnEnd::ApiError { status: None, why: bounded(why) }
            }
            _ => return,
        };
        self.prose.flush(&mut out.events);
        out.end = Some(end);
    }

    fn on_event(&mut self, event: &Value, out: &mut ProtocolOutput) {
        let payload = &event["payload"];
        match text(event, "type") {
            "thread.message-sent" => self.on_message(payload, out),
            "thread.activity-appended" => self.on_activity(&payload["activity"], out),
            "thread.session-set" => self.on_session(&payload["session"], true, out),
            "thread.deleted" => {
                let why = "the thread was deleted at the T3 server".into();
                out.end = Some(TurnEnd::Crashed { why });
            }
            "thread.turn-diff-completed" | "thread.turn-start-requested" => {}
            _ => out.emit(raw_event(event.to_string().as_bytes())),
        }
    }

    /// Whether an item belongs to a turn that has ended.
    pub(super) fn is_of_ended_turn(&self, item: &Value) -> bool {
        self.ended_turns.contains(text(item, "turnId"))
    }

    /// Handles a piece of a message, or its end, which contains the text if there were no pieces.
    fn on_message(&mut self, message: &Value, out: &mut ProtocolOutput) {
        if text(message, "role") != "assistant" || self.is_of_ended_turn(message) {
            return;
        }
        let (id, content) = (text(message, "messageId"), text(message, "text"));
        if message["streaming"] == json!(true) {
            *self.streamed.entry(id.to_owned()).or_default() += content.len();
            self.prose.push(ProseKind::Text, content, &mut out.events);
        } else {
            if self.streamed.remove(id).is_none() && !self.setup.seen_ids.contains(id) {
                self.prose.push(ProseKind::Text, content, &mut out.events);
            }
            self.prose.flush(&mut out.events);
            self.setup.seen_ids.insert(id.to_owned());
        }
    }

    /// Emits the part of a snapshot's message that was not emitted yet.
    fn snapshot_message(&mut self, message: &Value, out: &mut ProtocolOutput) {
        let (id, content) = (text(message, "id"), text(message, "text"));
        if text(message, "role") != "assistant" || self.setup.seen_ids.contains(id) {
            return;
        }
        let emitted = self.streamed.remove(id).unwrap_or(0);
        let rest = content.get(emitted..).unwrap_or_default();
        self.prose.push(ProseKind::Text, rest, &mut out.events);
        if message["streaming"] == json!(true) {
            self.streamed.insert(id.to_owned(), content.len());
        } else {
            self.prose.flush(&mut out.events);
            self.setup.seen_ids.insert(id.to_owned());
        }
    }
}

impl AgentProtocol for Thread {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.setup.approvals)
    }

    fn begin(&mut self, spec: &TurnSpec, _out: &mut ProtocolOutput) {
        self.prose.stream_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.resumed = spec.resume.is_some();
        self.id = spec.resume.clone().unwrap_or_else(|| thread_id(&self.setup.name));
    }

    fn receive_line(&mut self, line: &[u8], _cut: bool, out: &mut ProtocolOutput) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            return out.emit(raw_event(line));
        };
        if let Some(version) = line.get("server") {
            self.on_server(version.as_str(), out);
        } else if let Some(response) = line.get("answer") {
            self.on_response(response, out);
        } else if let Some(why) = line.get("lost") {
            if !std::mem::replace(&mut self.lost, true) {
                let why = clean_line(why.as_str().unwrap_or_default());
                out.notice(format!("the T3 server is unavailable ({why}); afk retries"));
            }
        } else if line.get("back").is_some() {
            if std::mem::take(&mut self.lost) {
                out.notice("the T3 server is available again");
            }
        } else if let Some(why) = line.get("refused") {
            let why = clean_line(why.as_str().unwrap_or_default());
            let why = format!("the T3 server ended the subscription to the thread: {why}");
            out.end = Some(TurnEnd::Crashed { why: why.into() });
        } else if text(&line, "kind") == "snapshot" {
            self.on_snapshot(&line["snapshot"]["thread"], out);
            for (request, answer, by) in self.early_answers.take().into_iter().flatten() {
                self.answer(&request, &answer, &by, out);
            }
        } else if text(&line, "kind") == "event" {
            self.on_event(&line["event"], out);
        } else {
            out.emit(raw_event(line.to_string().as_bytes()));
        }
    }

    fn steer(&mut self, _text: &str, out: &mut ProtocolOutput) {
        out.notice("a T3 thread accepts messages only between turns");
    }

    fn follow_up(&mut self, text: &str, out: &mut ProtocolOutput) {
        self.follow_ups += 1;
        self.start_turn(text, out);
    }

    fn answer(&mut self, request: &str, answer: &Answer, by: &DecidedBy, out: &mut ProtocolOutput) {
        if let Some(early_answers) = &mut self.early_answers {
            early_answers.push((request.to_owned(), answer.clone(), by.to_owned()));
            return;
        }
        let fields = json!({"threadId": self.id, "requestId": request});
        self.answered.insert(request.to_owned());
        match self.requests.remove(request) {
            None => out.notice("the agent no longer waits for this answer"),
            Some(PendingRequest::Approval) => {
                let accepted = matches!(answer, Answer::Approve | Answer::ApproveRun);
                let mut fields = fields;
                fields["decision"] = json!(if accepted { "accept" } else { "decline" });
                self.command("thread.approval.respond", request, fields, out);
                if let Answer::Deny { reason } = answer
                    && !reason.is_empty()
                    && by.is_person()
                {
                    // The response has no field for a reason: a message carries it after the turn.
                    out.later.push(format!("That was refused: {}", reason.as_received()));
                }
            }
            Some(PendingRequest::Input(questions)) => {
                let typed = match answer {
                    Answer::Text { text } => text.as_received().to_owned(),
                    Answer::Deny { reason } if !reason.is_empty() => reason.as_received().into(),
                    _ => "No answer is given: decide alone.".to_owned(),
                };
                let mut fields = fields;
                fields["answers"] = Value::Object(tools::answers(&questions, "id", &typed));
                self.command("thread.user-input.respond", request, fields, out);
            }
        }
    }

    fn interrupt(&mut self, out: &mut ProtocolOutput) {
        let fields = json!({"threadId": self.id});
        self.command("thread.turn.interrupt", &self.follow_ups.to_string(), fields, out);
    }
}

#[cfg(test)]
mod tests;
