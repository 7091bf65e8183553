//! The commands that afk sends to a T3 Code server: create a project and a thread, start a turn.
//!
//! The id of each command derives from the turn's name, and the server executes an id once. After a
//! restart, afk sends all commands of the turn again, and nothing happens twice.

use serde_json::{Value, json};

use super::stable_id;
use super::thread::Thread;
use crate::agent::fields::text;
use crate::agent::{ProtocolOutput, bounded};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::untrusted::clean_line;

/// The server's version that afk was tested with.
const TESTED_VERSION: &str = "0.0.27";

impl Thread {
    /// Queues a command. `subject` distinguishes commands of one kind, so that each has its own id.
    pub(super) fn command(
        &self,
        kind: &str,
        subject: &str,
        mut fields: Value,
        out: &mut ProtocolOutput,
    ) {
        fields["type"] = json!(kind);
        fields["commandId"] = json!(stable_id(&[&self.setup.name, kind, subject]));
        out.write_json(&fields);
    }

    /// The id of the message that began the current turn.
    pub(super) fn message_id(&self) -> String {
        stable_id(&[&self.setup.name, "message", &self.follow_ups.to_string()])
    }

    fn runtime_mode(&self) -> &'static str {
        if self.setup.approvals { "approval-required" } else { "full-access" }
    }

    /// The thread's title: the beginning of the prompt.
    fn title(&self) -> String {
        let line = clean_line(self.prompt.lines().next().unwrap_or_default());
        line.chars().take(80).collect()
    }

    /// Checks the server's version, then sends the first command.
    pub(super) fn on_server(&mut self, version: Option<&str>, out: &mut ProtocolOutput) {
        self.version = version.map(bounded);
        match (version, &self.setup.version) {
            (Some(actual), Some(required)) if actual != required => {
                let actual = clean_line(actual);
                let why =
                    format!("the T3 server is {actual}, but the configuration requires {required}");
                out.end = Some(TurnEnd::NotStarted { why: why.into() });
                return;
            }
            (None, Some(required)) => {
                let why = format!(
                    "the T3 server reports no version, but the configuration requires {required}"
                );
                out.end = Some(TurnEnd::NotStarted { why: why.into() });
                return;
            }
            (Some(actual), None) if actual != TESTED_VERSION => {
                let actual = clean_line(actual);
                out.notice(format!(
                    "the T3 server is {actual}; afk was tested with {TESTED_VERSION}"
                ));
            }
            _ => {}
        }
        if self.resumed {
            self.send_prompt(out);
            return;
        }
        // One project for each worktree: creating it again finds it.
        let project = stable_id(&["project", &self.cwd]);
        let fields = json!({
            "projectId": project, "title": self.cwd.rsplit('/').next().unwrap_or("afk"),
            "workspaceRoot": self.cwd, "createWorkspaceRootIfMissing": true,
            "commandId": stable_id(&["project.create", &self.cwd]), "type": "project.create",
        });
        out.write_json(&fields);
    }

    fn create_thread(&mut self, out: &mut ProtocolOutput) {
        let project = stable_id(&["project", &self.cwd]);
        let model = json!({"instanceId": self.setup.instance, "model": self.setup.model});
        let fields = json!({
            "threadId": self.id, "projectId": project, "title": self.title(),
            "modelSelection": model, "runtimeMode": self.runtime_mode(),
            "interactionMode": "default", "branch": null, "worktreePath": null,
        });
        self.command("thread.create", "", fields, out);
    }

    pub(super) fn send_prompt(&mut self, out: &mut ProtocolOutput) {
        let prompt = std::mem::take(&mut self.prompt);
        self.start_turn(&prompt, out);
    }

    /// Begins a turn at the server with a message; the turn before it has ended.
    pub(super) fn start_turn(&mut self, text: &str, out: &mut ProtocolOutput) {
        let message = json!({
            "messageId": self.message_id(), "role": "user", "text": text, "attachments": [],
        });
        let fields = json!({
            "threadId": self.id, "message": message, "runtimeMode": self.runtime_mode(),
            "interactionMode": "default",
        });
        self.command("thread.turn.start", &self.follow_ups.to_string(), fields, out);
        self.ended_turns.extend(self.turn.take());
        self.used_tokens = (0, 0);
    }

    /// Handles the response to a command: sends the next one, or ends the turn.
    pub(super) fn on_response(&mut self, response: &Value, out: &mut ProtocolOutput) {
        let (kind, status) = (text(response, "type"), response["status"].as_u64().unwrap_or(0));
        if status == 200 {
            match kind {
                "project.create" => self.create_thread(out),
                "thread.create" => self.send_prompt(out),
                "thread.turn.start" if !self.subscribed => {
                    self.subscribed = true;
                    out.emit(AgentEvent::SessionStarted {
                        session: self.id.clone(),
                        model: Some(bounded(self.setup.model.clone())),
                        version: self.version.clone(),
                    });
                    out.write_json(&json!({"type": "subscribe", "threadId": self.id}));
                }
                _ => {}
            }
            return;
        }
        let why = match status {
            400 => "400: it can't read the command".to_owned(),
            401 => "401: it rejects the token".to_owned(),
            _ => {
                let reason = clean_line(text(&response["body"], "reason"));
                format!("{status} {reason}").trim_end().to_owned()
            }
        };
        let why = format!("the T3 server responded to {kind} with {why}");
        let is_setup = matches!(kind, "project.create" | "thread.create" | "thread.turn.start");
        if is_setup && self.resumed && status == 500 && !self.subscribed {
            out.end = Some(TurnEnd::NoSession { why: why.into() });
        } else if is_setup && !self.subscribed {
            out.end = Some(TurnEnd::NotStarted { why: why.into() });
        } else if is_setup {
            out.end = Some(TurnEnd::Crashed { why: why.into() });
        } else {
            out.notice(why);
        }
    }
}
