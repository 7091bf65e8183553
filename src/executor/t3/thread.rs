//! A thread of a T3 Code server as a conversation: what its link tells becomes events, and what it is
//! to do becomes commands (recorded with 0.0.27; docs/executors.md has what is relied on).
//!
//! Each command has an id made of the turn's name, and the server takes an id once: after a restart
//! all of them are sent again, and nothing is done twice.

use crate::core::model::approval::DecidedBy;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::command_id;
use crate::agent::claude::tools;
use crate::agent::fields::text;
use crate::agent::prose::{Kind, Prose};
use crate::agent::{Conversation, Said, TurnSpec, bounded, raw};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::approval::Answer;
use crate::core::model::capability::{Capabilities, Cost, Steer};
use crate::core::model::untrusted::{Untrusted, clean_line};

/// The version that this was tried with.
const TRIED: &str = "0.0.27";

/// What an answer is waited for.
#[derive(Debug)]
pub(super) enum Request {
    Approval,
    /// The questions, as they came.
    Input(Vec<Value>),
}

/// What a thread is begun with.
#[derive(Debug, Clone)]
pub struct Begin {
    /// The turn's name: commands are named after it.
    pub name: String,
    /// Which of the server's agents.
    pub instance: String,
    /// Its model.
    pub model: String,
    /// Whether it asks leave before it does something.
    pub approvals: bool,
    /// The version that the server must have.
    pub version: Option<String>,
    /// What was told before a restart, by its ids.
    pub told: BTreeSet<String>,
}

/// See the module.
#[derive(Debug)]
pub struct Thread {
    pub(super) begin: Begin,
    pub(super) cwd: String,
    prompt: String,
    resumed: bool,
    id: String,
    version: Option<Untrusted>,
    pub(super) prose: Prose,
    /// Messages to the agent so far: the prompt is the first.
    sent: usize,
    /// Following its events already.
    subscribed: bool,
    /// The turn at the server, once it is known.
    turn: Option<String>,
    /// Those of before.
    over: BTreeSet<String>,
    /// How much of a message that is under way was told.
    streamed: BTreeMap<String, usize>,
    /// Tools that run, by what the server says of them: it gives them no id.
    pub(super) tools: Vec<Running>,
    pub(super) started: u64,
    pub(super) requests: BTreeMap<String, Request>,
    /// Those that were answered here.
    pub(super) answered: BTreeSet<String>,
    /// Answers that came before it was known what is asked: a restart lies between.
    pub(super) early: Option<Vec<(String, Answer, DecidedBy)>>,
    /// Tokens of the turn that were told.
    pub(super) used: (u64, u64),
    /// The link is lost.
    lost: bool,
}

#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: String,
    pub(super) detail: String,
    pub(super) name: String,
    pub(super) input: Value,
}

/// The thread that a turn begins.
#[must_use]
pub fn id(turn: &str) -> String {
    command_id(&[turn, "thread"])
}

/// What a thread can do, as this server has it.
#[must_use]
pub const fn capabilities(approvals: bool) -> Capabilities {
    Capabilities {
        // A message in the middle of a turn cancels what runs.
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
    /// A turn that is begun when its link is there.
    #[must_use]
    pub fn new(begin: Begin) -> Self {
        Self {
            begin,
            cwd: String::new(),
            prompt: String::new(),
            resumed: false,
            id: String::new(),
            version: None,
            prose: Prose::default(),
            sent: 0,
            subscribed: false,
            turn: None,
            over: BTreeSet::new(),
            streamed: BTreeMap::new(),
            tools: Vec::new(),
            started: 0,
            requests: BTreeMap::new(),
            answered: BTreeSet::new(),
            early: Some(Vec::new()),
            used: (0, 0),
            lost: false,
        }
    }

    fn command(&self, kind: &str, what: &str, mut fields: Value, said: &mut Said) {
        fields["type"] = json!(kind);
        fields["commandId"] = json!(command_id(&[&self.begin.name, kind, what]));
        said.line(&fields);
    }

    fn message_id(&self) -> String {
        command_id(&[&self.begin.name, "message", &self.sent.to_string()])
    }

    fn mode(&self) -> &'static str {
        if self.begin.approvals { "approval-required" } else { "full-access" }
    }

    fn title(&self) -> String {
        let line = clean_line(self.prompt.lines().next().unwrap_or_default());
        line.chars().take(80).collect()
    }

    /// The server is there: begins what was not begun.
    fn server(&mut self, version: Option<&str>, said: &mut Said) {
        self.version = version.map(bounded);
        match (version, &self.begin.version) {
            (Some(is), Some(should)) if is != should => {
                let is = clean_line(is);
                let why = format!("the T3 server is {is}, and the configuration asks for {should}");
                said.end = Some(TurnEnd::NotStarted { why: why.into() });
                return;
            }
            (None, Some(should)) => {
                let why = format!("the T3 server tells no version, and {should} is asked for");
                said.end = Some(TurnEnd::NotStarted { why: why.into() });
                return;
            }
            (Some(is), None) if is != TRIED => {
                let is = clean_line(is);
                said.notice(format!("the T3 server is {is}; afk was tried with {TRIED}"));
            }
            _ => {}
        }
        if self.resumed {
            self.start(said);
            return;
        }
        // The project is the worktree's: the same one each time that it is used.
        let project = command_id(&["project", &self.cwd]);
        let fields = json!({
            "projectId": project, "title": self.cwd.rsplit('/').next().unwrap_or("afk"),
            "workspaceRoot": self.cwd, "createWorkspaceRootIfMissing": true,
            "commandId": command_id(&["project.create", &self.cwd]), "type": "project.create",
        });
        said.line(&fields);
    }

    fn create(&mut self, said: &mut Said) {
        let project = command_id(&["project", &self.cwd]);
        let model = json!({"instanceId": self.begin.instance, "model": self.begin.model});
        let fields = json!({
            "threadId": self.id, "projectId": project, "title": self.title(),
            "modelSelection": model, "runtimeMode": self.mode(), "interactionMode": "default",
            "branch": null, "worktreePath": null,
        });
        self.command("thread.create", "", fields, said);
    }

    fn start(&mut self, said: &mut Said) {
        let prompt = std::mem::take(&mut self.prompt);
        self.send(&prompt, said);
    }

    fn send(&mut self, text: &str, said: &mut Said) {
        let message = json!({"messageId": self.message_id(), "role": "user", "text": text, "attachments": []});
        let fields = json!({
            "threadId": self.id, "message": message, "runtimeMode": self.mode(),
            "interactionMode": "default",
        });
        self.command("thread.turn.start", &self.sent.to_string(), fields, said);
        self.over.extend(self.turn.take());
        self.used = (0, 0);
    }

    /// The server answered a command.
    fn answered(&mut self, answer: &Value, said: &mut Said) {
        let (kind, status) = (text(answer, "type"), answer["status"].as_u64().unwrap_or(0));
        if status == 200 {
            match kind {
                "project.create" => self.create(said),
                "thread.create" => self.start(said),
                "thread.turn.start" if !self.subscribed => {
                    self.subscribed = true;
                    said.event(AgentEvent::SessionStarted {
                        session: self.id.clone(),
                        model: Some(bounded(self.begin.model.clone())),
                        version: self.version.clone(),
                    });
                    said.line(&json!({"type": "subscribe", "threadId": self.id}));
                }
                _ => {}
            }
            return;
        }
        let why = match status {
            400 => "400: it does not know the command as it was sent".to_owned(),
            401 => "401: it refuses the token".to_owned(),
            _ => {
                let reason = clean_line(text(&answer["body"], "reason"));
                format!("{status} {reason}").trim_end().to_owned()
            }
        };
        let why = format!("the T3 server answers {kind} with {why}");
        let begins = matches!(kind, "project.create" | "thread.create" | "thread.turn.start");
        if begins && self.resumed && status == 500 && !self.subscribed {
            said.end = Some(TurnEnd::NoSession { why: why.into() });
        } else if begins && !self.subscribed {
            said.end = Some(TurnEnd::NotStarted { why: why.into() });
        } else if begins {
            said.end = Some(TurnEnd::Crashed { why: why.into() });
        } else {
            said.notice(why);
        }
    }

    /// The whole thread, when its events are followed from now on.
    fn snapshot(&mut self, thread: &Value, said: &mut Said) {
        if !thread["deletedAt"].is_null() {
            let why = "the thread was deleted at the T3 server".into();
            said.end = Some(TurnEnd::Crashed { why });
            return;
        }
        let list = |key: &str| thread[key].as_array().map(Vec::as_slice).unwrap_or_default();
        let (messages, ours) = (list("messages"), self.message_id());
        let Some(at) = messages.iter().position(|message| text(message, "id") == ours) else {
            return;
        };
        let after = &messages[at + 1..];
        let (session, latest) = (&thread["session"], &thread["latestTurn"]);
        // The server writes down when the message was made: the turn that it asked for has the same.
        let asked = text(&messages[at], "createdAt");
        let latest = Some(latest).filter(|latest| text(latest, "requestedAt") == asked);
        let turns = [Some(text(session, "activeTurnId")), latest.map(|turn| text(turn, "turnId"))];
        let turn = turns.into_iter().flatten().chain(after.iter().map(|m| text(m, "turnId")));
        let turn = { turn }.find(|turn| !turn.is_empty() && !self.over.contains(*turn));
        let resolved: BTreeSet<&str> = list("activities")
            .iter()
            .filter(|item| text(item, "kind").ends_with(".resolved"))
            .map(|item| text(&item["payload"], "requestId"))
            .collect();
        if let Some(turn) = turn {
            self.turn = Some(turn.to_owned());
            let mine = |item: &&Value| text(item, "turnId") == turn;
            let mut all: Vec<(&Value, bool)> =
                after.iter().filter(mine).map(|message| (message, true)).collect();
            let answered = |item: &&Value| {
                let request = text(&item["payload"], "requestId");
                !text(item, "kind").ends_with(".requested") || !resolved.contains(request)
            };
            let activities = list("activities").iter().filter(mine).filter(answered);
            all.extend(activities.map(|activity| (activity, false)));
            let when =
                |(item, message): &(&Value, bool)| (text(item, "createdAt").to_owned(), !message);
            all.sort_by_cached_key(when);
            for (item, message) in all {
                if message {
                    self.whole(item, said);
                } else {
                    self.activity(item, said);
                }
            }
        }
        self.session(session, latest.is_some(), said);
    }

    /// How the session stands; a turn that was seen and is active no more is over. A failure counts
    /// where it is known to be later than the turn's beginning.
    fn session(&mut self, session: &Value, later: bool, said: &mut Said) {
        let (status, active) = (text(session, "status"), text(session, "activeTurnId"));
        if !active.is_empty() {
            if !self.over.contains(active) {
                self.turn = Some(active.to_owned());
            }
            return;
        }
        let ours = self.turn.is_some();
        let end = match status {
            "ready" | "idle" if ours => TurnEnd::Done,
            "stopped" | "interrupted" if ours || later => TurnEnd::Interrupted,
            "error" if ours || later => {
                let why = match text(session, "lastError") {
                    "" => "the T3 server does not say why",
                    why => why,
                };
                TurnEnd::ApiError { status: None, why: bounded(why) }
            }
            _ => return,
        };
        self.prose.flush(&mut said.events);
        said.end = Some(end);
    }

    fn event(&mut self, event: &Value, said: &mut Said) {
        let payload = &event["payload"];
        match text(event, "type") {
            "thread.message-sent" => self.message(payload, said),
            "thread.activity-appended" => self.activity(&payload["activity"], said),
            "thread.session-set" => self.session(&payload["session"], true, said),
            "thread.deleted" => {
                let why = "the thread was deleted at the T3 server".into();
                said.end = Some(TurnEnd::Crashed { why });
            }
            "thread.turn-diff-completed" | "thread.turn-start-requested" => {}
            _ => said.event(raw(event.to_string().as_bytes())),
        }
    }

    /// Of a turn that is over, or of one that isn't the agent's.
    pub(super) fn foreign(&self, item: &Value) -> bool {
        self.over.contains(text(item, "turnId"))
    }

    /// A piece of a message, or its end; a whole one has no pieces.
    fn message(&mut self, message: &Value, said: &mut Said) {
        if text(message, "role") != "assistant" || self.foreign(message) {
            return;
        }
        let (id, words) = (text(message, "messageId"), text(message, "text"));
        if message["streaming"] == json!(true) {
            *self.streamed.entry(id.to_owned()).or_default() += words.len();
            self.prose.push(Kind::Text, words, &mut said.events);
        } else {
            if self.streamed.remove(id).is_none() && !self.begin.told.contains(id) {
                self.prose.push(Kind::Text, words, &mut said.events);
            }
            self.prose.flush(&mut said.events);
            self.begin.told.insert(id.to_owned());
        }
    }

    /// A message as far as it has come.
    fn whole(&mut self, message: &Value, said: &mut Said) {
        let (id, words) = (text(message, "id"), text(message, "text"));
        if text(message, "role") != "assistant" || self.begin.told.contains(id) {
            return;
        }
        let told = self.streamed.remove(id).unwrap_or(0);
        self.prose.push(Kind::Text, words.get(told..).unwrap_or_default(), &mut said.events);
        if message["streaming"] == json!(true) {
            self.streamed.insert(id.to_owned(), words.len());
        } else {
            self.prose.flush(&mut said.events);
            self.begin.told.insert(id.to_owned());
        }
    }
}

impl Conversation for Thread {
    fn capabilities(&self) -> Capabilities {
        capabilities(self.begin.approvals)
    }

    fn begin(&mut self, spec: &TurnSpec, _said: &mut Said) {
        self.prose.tell_pieces(spec.stream_output);
        self.cwd = spec.cwd.display().to_string();
        spec.prompt.as_received().clone_into(&mut self.prompt);
        self.resumed = spec.resume.is_some();
        self.id = spec.resume.clone().unwrap_or_else(|| id(&self.begin.name));
    }

    fn hear(&mut self, line: &[u8], _cut: bool, said: &mut Said) {
        let Ok(line) = serde_json::from_slice::<Value>(line) else {
            return said.event(raw(line));
        };
        if let Some(server) = line.get("server") {
            self.server(server.as_str(), said);
        } else if let Some(answer) = line.get("answer") {
            self.answered(answer, said);
        } else if let Some(why) = line.get("lost") {
            if !std::mem::replace(&mut self.lost, true) {
                let why = clean_line(why.as_str().unwrap_or_default());
                said.notice(format!("the T3 server can't be had ({why}); tries again"));
            }
        } else if line.get("back").is_some() {
            if std::mem::take(&mut self.lost) {
                said.notice("the T3 server is there again");
            }
        } else if let Some(why) = line.get("refused") {
            let why = clean_line(why.as_str().unwrap_or_default());
            let why = format!("the T3 server does not tell of the thread: {why}");
            said.end = Some(TurnEnd::Crashed { why: why.into() });
        } else if text(&line, "kind") == "snapshot" {
            self.snapshot(&line["snapshot"]["thread"], said);
            for (request, answer, by) in self.early.take().into_iter().flatten() {
                self.answer(&request, &answer, &by, said);
            }
        } else if text(&line, "kind") == "event" {
            self.event(&line["event"], said);
        } else {
            said.event(raw(line.to_string().as_bytes()));
        }
    }

    fn steer(&mut self, _text: &str, said: &mut Said) {
        said.notice("a T3 thread takes messages between its turns");
    }

    fn follow(&mut self, text: &str, said: &mut Said) {
        self.sent += 1;
        self.send(text, said);
    }

    fn answer(&mut self, request: &str, answer: &Answer, by: &DecidedBy, said: &mut Said) {
        if let Some(early) = &mut self.early {
            early.push((request.to_owned(), answer.clone(), by.to_owned()));
            return;
        }
        let fields = json!({"threadId": self.id, "requestId": request});
        self.answered.insert(request.to_owned());
        match self.requests.remove(request) {
            None => said.notice("the agent waits for that answer no more"),
            Some(Request::Approval) => {
                let accepted = matches!(answer, Answer::Approve | Answer::ApproveRun);
                let mut fields = fields;
                fields["decision"] = json!(if accepted { "accept" } else { "decline" });
                self.command("thread.approval.respond", request, fields, said);
                if let Answer::Deny { reason } = answer
                    && !reason.is_empty()
                    && by.is_person()
                {
                    // Its answer has no room for a reason: it is told once the turn is over.
                    said.later.push(format!("That was refused: {}", reason.as_received()));
                }
            }
            Some(Request::Input(questions)) => {
                let words = match answer {
                    Answer::Text { text } => text.as_received().to_owned(),
                    Answer::Deny { reason } if !reason.is_empty() => reason.as_received().into(),
                    _ => "No answer is given: decide alone.".to_owned(),
                };
                let mut fields = fields;
                fields["answers"] = Value::Object(tools::answers(&questions, "id", &words));
                self.command("thread.user-input.respond", request, fields, said);
            }
        }
    }

    fn interrupt(&mut self, said: &mut Said) {
        let fields = json!({"threadId": self.id});
        self.command("thread.turn.interrupt", &self.sent.to_string(), fields, said);
    }
}

#[cfg(test)]
mod tests;
