//! The opening of a session: new or resumed, its model and its mode, then the first prompt.

use serde_json::{Value, json};

use super::{AcpCall, AcpProtocol};
use crate::agent::fields::text;
use crate::agent::{ProtocolOutput, TOOL_SERVER, bounded};
use crate::core::model::agent_event::{AgentEvent, TurnEnd};

/// The most models that a refusal names.
const MODELS_SHOWN: usize = 8;

impl AcpProtocol {
    pub(super) fn open_session(&mut self, out: &mut ProtocolOutput) {
        let servers = self.tool_server.iter().map(|server| {
            json!({
                "name": TOOL_SERVER, "command": server.program, "args": server.args, "env": [],
            })
        });
        let servers: Vec<Value> = servers.collect();
        let mut params = json!({"cwd": self.cwd, "mcpServers": servers});
        let meta = self.config.session_meta.as_deref();
        if let Some(meta) = meta.and_then(|meta| serde_json::from_str::<Value>(meta).ok()) {
            params["_meta"] = meta;
        }
        match self.resume.clone() {
            Some(session) => {
                params["sessionId"] = json!(session);
                self.session = session;
                self.loading = true;
                self.call("session/load", &params, AcpCall::Load, out);
            }
            None => self.call("session/new", &params, AcpCall::New, out),
        }
    }

    pub(super) fn session_opened(&mut self, result: &Value, out: &mut ProtocolOutput) {
        self.loading = false;
        let model = [
            text(&result["models"], "currentModelId"),
            result["configOptions"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|option| text(option, "category") == "model")
                .map_or("", |option| text(option, "currentValue")),
        ];
        out.emit(AgentEvent::SessionStarted {
            session: self.session.clone(),
            model: model.into_iter().find(|model| !model.is_empty()).map(bounded),
            version: self.version.clone(),
        });
        if let Some(wanted) = self.model.take() {
            return self.choose_model(&wanted, result, out);
        }
        self.set_mode(out);
    }

    /// Sets the model of the turn, by its id or name. Another model than the one that was asked for
    /// would do the work and be paid, so an agent that can't set it doesn't start.
    fn choose_model(&mut self, wanted: &str, session: &Value, out: &mut ProtocolOutput) {
        let models = session["models"]["availableModels"].as_array().map(Vec::as_slice);
        let known = models.unwrap_or_default();
        let options = session["configOptions"].as_array().into_iter().flatten();
        let option = options.into_iter().find(|option| text(option, "category") == "model");
        if let Some(option) = option.filter(|_| known.is_empty()) {
            return self.choose_option(wanted, option, out);
        }
        let is_wanted =
            |model: &&Value| [text(model, "modelId"), text(model, "name")].contains(&wanted);
        let found = known.iter().find(is_wanted);
        let id = found.map_or(wanted, |model| text(model, "modelId"));
        if text(&session["models"], "currentModelId") == id {
            return self.set_mode(out);
        }
        if found.is_none() && !known.is_empty() {
            let names: Vec<&str> =
                known.iter().take(MODELS_SHOWN).map(|model| text(model, "modelId")).collect();
            let why = format!("the agent has no model {wanted}; it has {}", names.join(", "));
            out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            return;
        }
        let params = json!({"sessionId": self.session, "modelId": id});
        self.call("session/set_model", &params, AcpCall::Model, out);
    }

    /// Sets the model of an agent that lists its models as the values of an option.
    fn choose_option(&mut self, wanted: &str, option: &Value, out: &mut ProtocolOutput) {
        let values = option["options"].as_array().map(Vec::as_slice).unwrap_or_default();
        let is_wanted =
            |value: &&Value| [text(value, "value"), text(value, "name")].contains(&wanted);
        let Some(found) = values.iter().find(is_wanted) else {
            let names: Vec<&str> =
                values.iter().take(MODELS_SHOWN).map(|value| text(value, "value")).collect();
            let why = format!("the agent has no model {wanted}; it has {}", names.join(", "));
            out.end = Some(TurnEnd::NotStarted { why: bounded(why) });
            return;
        };
        let value = text(found, "value");
        if text(option, "currentValue") == value {
            return self.set_mode(out);
        }
        let params = json!({
            "sessionId": self.session, "configId": text(option, "id"), "value": value,
        });
        self.call("session/set_config_option", &params, AcpCall::Model, out);
    }

    pub(super) fn set_mode(&mut self, out: &mut ProtocolOutput) {
        match self.config.mode.clone() {
            Some(mode) => {
                let params = json!({"sessionId": self.session, "modeId": mode});
                self.call("session/set_mode", &params, AcpCall::Mode, out);
            }
            None => self.send_first_prompt(out),
        }
    }

    pub(super) fn send_first_prompt(&mut self, out: &mut ProtocolOutput) {
        if self.dry {
            out.end = Some(TurnEnd::Done);
            return;
        }
        let prompt = std::mem::take(&mut self.prompt);
        self.prompt(&prompt, false, out);
        for text in std::mem::take(&mut self.queued_steers) {
            self.prompt(&text, true, out);
        }
    }
}
