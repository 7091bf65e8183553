//! Tools and permission requests of an ACP agent.
//!
//! An agent announces a tool and then sends only changed fields, therefore [`ToolState`] collects
//! them until the tool ends. A permission request omits fields that its tool's updates contained.

use agent_client_protocol::v1::schema::{
    ContentBlock, RequestPermissionRequest, ToolCallContent, ToolCallStatus, ToolCallUpdateFields,
    ToolKind,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AcpProtocol;
use crate::agent::fields::{relative_path, text};
use crate::agent::{ProtocolOutput, bounded, diff, image};
use crate::core::model::agent_event::{AgentEvent, PlanItem};
use crate::core::model::permission::{MAX_TARGETS, PermissionRequest, Tool};

/// The fields of a running tool, as far as the agent has sent them.
#[derive(Debug, Default)]
pub(super) struct ToolState {
    title: String,
    /// The agent's own name of the tool, where it tells one.
    name: String,
    kind: ToolKind,
    /// The use of the tool that started the subagent which uses this one.
    parent: Option<String>,
    /// The exit code, where the agent tells it beside the result.
    code: Option<i32>,
    /// The items of a plan, if this tool writes one.
    plan: Vec<PlanItem>,
    /// Its start was emitted.
    started: bool,
    input: Value,
    content: Vec<ToolCallContent>,
    /// The result in the agent's own form.
    result: Value,
    /// What the tool has printed, where the agent tells it in pieces.
    printed: String,
}

/// The most output of a running tool that is kept, in bytes.
const PRINTED_LIMIT: usize = 64 * 1024;

/// The agent's own name of a tool, as far as a call or an update of it tells.
fn name_of<'a>(call: &'a Value, id: &'a str) -> &'a str {
    let meta = &call["_meta"];
    let names = [text(call, "name"), text(meta, "toolName"), text(&meta["claudeCode"], "toolName")];
    // Gemini's identifiers begin with the name, and opencode's first titles are names.
    let in_id = id.split_once("__").map_or("", |(name, _)| name);
    let title = Some(text(call, "title")).filter(|title| !title.contains(' '));
    names.into_iter().chain([in_id]).chain(title).find(|name| !name.is_empty()).unwrap_or_default()
}

/// The plan that a tool writes, in the forms of opencode, qwen and claude.
fn plan_in(input: &Value) -> Vec<PlanItem> {
    let todos = input["todos"].as_array().into_iter().flatten().take(200);
    let item = |todo: &Value| {
        let words = ["content", "description", "text", "task"].map(|key| text(todo, key));
        let words = words.into_iter().find(|words| !words.is_empty())?;
        let done = matches!(text(todo, "status"), "completed" | "done");
        Some(PlanItem { text: bounded(words), done })
    };
    todos.filter_map(item).collect()
}

/// The exit code of a command in the result of its tool.
fn exit_code(result: &Value) -> Option<i32> {
    let places = [&result["exit_code"], &result["exitCode"], &result["metadata"]["exit"]];
    places.into_iter().find_map(Value::as_i64).and_then(|code| i32::try_from(code).ok())
}

/// The exit code that an agent adds to the end of a command's output, such as `Exit Code: 1` or
/// `<exited with exit code 1>`.
fn code_in(output: &str) -> Option<i32> {
    output.lines().rev().take(8).find_map(|line| {
        let line = line.trim_start_matches(['<', '(', '[', ' ']).to_ascii_lowercase();
        let line = line.strip_prefix("exited with ").unwrap_or(&line);
        let rest = line.strip_prefix("exit code")?.trim_start_matches([':', ' ']);
        let digits = rest.find(|c: char| !c.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
        digits.parse().ok()
    })
}

/// Maps an ACP tool kind to the class that permission rules use.
fn tool_class(kind: ToolKind) -> Tool {
    match kind {
        ToolKind::Execute => Tool::Shell,
        ToolKind::Edit | ToolKind::Delete | ToolKind::Move => Tool::Edit,
        ToolKind::Read | ToolKind::Search | ToolKind::Think => Tool::Read,
        ToolKind::Fetch => Tool::Web,
        _ => Tool::Other,
    }
}

impl AcpProtocol {
    /// Keeps a piece of a running tool's output.
    pub(super) fn tool_printed(&mut self, id: &str, piece: &str) {
        if let Some(tool) = self.tools.get_mut(id).filter(|_| !piece.is_empty()) {
            let room = PRINTED_LIMIT.saturating_sub(tool.printed.len());
            tool.printed.push_str(&piece[..piece.floor_char_boundary(room)]);
        }
    }

    /// Keeps what a call or an update tells beside the fields of the protocol.
    pub(super) fn tool_detailed(&mut self, id: &str, call: &Value) {
        let tool = self.tools.entry(id.to_owned()).or_default();
        if tool.name.is_empty() {
            name_of(call, id).clone_into(&mut tool.name);
        }
        let meta = &call["_meta"];
        let parent = Some(text(&meta["claudeCode"], "parentToolUseId"));
        if let Some(parent) = parent.filter(|parent| !parent.is_empty()) {
            tool.parent = Some(parent.to_owned());
        }
        let code = meta["terminal_exit"]["exit_code"].as_i64();
        tool.code = code.and_then(|code| i32::try_from(code).ok()).or(tool.code);
    }

    /// Merges new fields into a tool, and emits its start, its end and its diffs.
    pub(super) fn update_tool(
        &mut self,
        id: &str,
        fields: ToolCallUpdateFields,
        out: &mut ProtocolOutput,
    ) {
        self.model_responded = true;
        self.used_tools = true;
        self.tool_since_text = true;
        self.prose.flush(&mut out.events);
        let tool = self.tools.entry(id.to_owned()).or_default();
        if let Some(title) = fields.title {
            tool.title = title;
        }
        if let Some(kind) = fields.kind {
            tool.kind = kind;
        }
        if let Some(input) = fields.raw_input {
            tool.input = input;
        }
        if let Some(content) = fields.content {
            tool.content = content;
        }
        if let Some(result) = fields.raw_output {
            tool.result = result;
        }
        let success = match fields.status {
            Some(ToolCallStatus::Completed) => Some(true),
            Some(ToolCallStatus::Failed) => Some(false),
            _ => None,
        };
        let plan = plan_in(&tool.input);
        if !plan.is_empty() && plan != tool.plan {
            tool.plan.clone_from(&plan);
            out.emit(AgentEvent::Plan { items: plan });
        }
        if !tool.plan.is_empty() && !tool.started {
            // The plan says all of it.
            if success.is_some() {
                self.tools.remove(id);
            }
            return;
        }
        // A pending tool has only a name; its input comes with the first update.
        let pending = fields.status == Some(ToolCallStatus::Pending);
        if !pending && !tool.started {
            tool.started = true;
            let command = text(&tool.input, "command");
            let title = if command.is_empty() { tool.title.as_str() } else { command };
            out.emit(AgentEvent::ToolStart {
                id: id.to_owned(),
                kind: tool_class(tool.kind).as_str().into(),
                title: bounded(title),
                parent: tool.parent.clone(),
            });
        }
        let Some(ok) = success else { return };
        let Some(tool) = self.tools.remove(id) else { return };
        let mut output = Vec::new();
        let mut diffs = Vec::new();
        for content in tool.content {
            match content {
                ToolCallContent::Content(content) => match content.content {
                    ContentBlock::Text(text) => output.push(text.text),
                    ContentBlock::Image(image) => {
                        output.push(image::summary(&image.mime_type, &image.data));
                    }
                    _ => {}
                },
                ToolCallContent::Diff(change) => diffs.push(change),
                _ => {}
            }
        }
        let mut output = output.join("\n");
        if output.is_empty() {
            output = tool.printed;
        }
        let code = exit_code(&tool.result)
            .or(tool.code)
            .or_else(|| (tool_class(tool.kind) == Tool::Shell).then(|| code_in(&output)).flatten());
        let ok = ok && code.unwrap_or(0) == 0;
        let output = bounded(output);
        out.emit(AgentEvent::ToolEnd { id: id.to_owned(), title: "".into(), ok, code, output });
        for change in diffs.into_iter().filter(|_| ok) {
            let path = change.path.display().to_string();
            let path = relative_path(&self.cwd, &path).to_owned();
            let old = change.old_text.unwrap_or_default();
            let diff = bounded(diff::unified(&path, &old, &change.new_text));
            out.emit(AgentEvent::Diff { path: bounded(path), diff });
        }
    }

    /// Handles a request from the agent; afk supports only permission requests.
    pub(super) fn on_request(&mut self, line: &Value, out: &mut ProtocolOutput) {
        let method = text(line, "method");
        let request = (method == "session/request_permission")
            .then(|| RequestPermissionRequest::deserialize(&line["params"]).ok())
            .flatten();
        let Some(request) = request else {
            let error = json!({"code": -32601, "message": format!("{method} is not supported")});
            return out.write_json(&json!({"jsonrpc": "2.0", "id": line["id"], "error": error}));
        };
        self.prose.flush(&mut out.events);
        let id = format!("acp-{}", line["id"]);
        let call = &line["params"]["toolCall"];
        self.tool_detailed(text(call, "toolCallId"), call);
        let ask = self.permission_request(&request);
        self.requests.insert(id.clone(), (line["id"].clone(), request));
        out.emit(AgentEvent::PermissionRequest { id, request: Box::new(ask) });
    }

    /// Builds the permission request from the agent's request and the state of its tool.
    fn permission_request(&self, request: &RequestPermissionRequest) -> PermissionRequest {
        let fields = &request.tool_call.fields;
        let known = self.tools.get(&request.tool_call.tool_call_id.to_string());
        // Some requests are about a part of the tool that was announced, such as a folder that it reads.
        let announced = known.map(|tool| tool.kind).unwrap_or_default();
        let kind = match fields.kind {
            None | Some(ToolKind::Other) => announced,
            Some(kind) => kind,
        };
        let null = Value::Null;
        let input =
            fields.raw_input.as_ref().or_else(|| known.map(|tool| &tool.input)).unwrap_or(&null);
        let title = fields.title.clone().or_else(|| known.map(|tool| tool.title.clone()));
        let title = title.unwrap_or_default();
        let mut tool = tool_class(kind);
        let command = match known.map_or(&null, |tool| &tool.input["command"]) {
            Value::String(command) if input["command"].is_null() => &json!(command),
            _ => &input["command"],
        };
        let command = match command {
            Value::String(command) => command.clone(),
            Value::Array(words) => {
                words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        };
        let locations = fields.locations.iter().flatten();
        let mut paths: Vec<String> =
            locations.map(|place| place.path.display().to_string()).collect();
        let mut changes = Vec::new();
        let content = fields.content.as_ref().or_else(|| known.map(|tool| &tool.content));
        for content in content.into_iter().flatten() {
            if let ToolCallContent::Diff(change) = content {
                let path = change.path.display().to_string();
                let old = change.old_text.clone().unwrap_or_default();
                changes.push(format!("{path}\n{}", diff::unified(&path, &old, &change.new_text)));
                paths.push(path);
            }
        }
        if changes.is_empty() && !text(input, "diff").is_empty() {
            changes.push(text(input, "diff").to_owned());
        }
        for key in ["file_path", "filePath", "filepath", "path", "abs_path"] {
            paths.extend(Some(text(input, key)).filter(|p| !p.is_empty()).map(str::to_owned));
        }
        paths.sort();
        paths.dedup();
        if tool == Tool::Other && !command.is_empty() {
            tool = Tool::Shell;
        }
        let name = known.map(|tool| tool.name.as_str()).unwrap_or_default();
        if tool == Tool::Other && self.config.harmless.iter().any(|known| known == name) {
            let detail =
                format!("{title}\n\n{}", serde_json::to_string_pretty(input).unwrap_or_default());
            return PermissionRequest {
                tool: Tool::Read,
                title: bounded(title),
                detail: bounded(detail),
                targets: vec![bounded(name)],
                editable: false,
            };
        }
        let targets = match tool {
            Tool::Shell => vec![if command.is_empty() { title.clone() } else { command }],
            // Without a path, the edit may be outside of the worktree. As `Other`, it needs a
            // human's decision.
            Tool::Edit if paths.is_empty() => {
                tool = Tool::Other;
                vec![title.clone()]
            }
            Tool::Edit | Tool::Read if !paths.is_empty() => paths,
            _ => vec![title.clone()],
        };
        let detail = match tool {
            Tool::Shell => targets[0].clone(),
            _ if !changes.is_empty() => changes.join("\n"),
            _ => format!("{title}\n\n{}", serde_json::to_string_pretty(input).unwrap_or_default()),
        };
        let targets = targets.into_iter().take(MAX_TARGETS + 1).map(bounded).collect();
        PermissionRequest {
            tool,
            title: bounded(title),
            detail: bounded(detail),
            targets,
            editable: false,
        }
    }
}
