//! `afk __breakglass-tools SOCKET`: the server of the breakglass agent's tools, by the Model Context
//! Protocol on its standard streams.
//!
//! The agent's program starts it inside of the agent's sandbox. It has no key and decides nothing: it
//! passes each call through the session's socket to afk's runtime, and returns the answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    InitializeResult, JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities,
    Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::core::model::breakglass::Verb;
use crate::error::{Failure, FailureKind};

/// The longest answer, in bytes.
const ANSWER: u64 = 1024 * 1024;
/// The time to connect and to send a call. The answer may wait for a person.
const SEND: Duration = Duration::from_secs(10);

/// The answer of the runtime: one line of JSON.
#[derive(Deserialize)]
struct ToolReply {
    ok: bool,
    text: String,
}

struct ToolProxy {
    socket: PathBuf,
}

/// Serves until the agent's program closes its end.
///
/// # Errors
/// The streams carry no Model Context Protocol.
pub(in crate::cli) async fn serve(socket: PathBuf) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(FailureKind::System, format!("serve the breakglass agent's tools: {error}"))
    };
    let service = ToolProxy { socket }.serve(rmcp::transport::stdio()).await;
    let service = service.map_err(|error| failed(&error))?;
    service.waiting().await.map(|_| ()).map_err(|error| failed(&error))
}

/// The schema of an object with one required text.
fn schema(name: &str, about: &str, values: Option<&[&str]>) -> Arc<JsonObject> {
    let mut property = json!({"type": "string", "description": about});
    if let Some(values) = values {
        property["enum"] = json!(values);
    }
    let whole = json!({
        "type": "object", "properties": {name: property}, "required": [name],
        "additionalProperties": false,
    });
    match whole {
        Value::Object(schema) => Arc::new(schema),
        _ => Arc::default(),
    }
}

fn tools() -> Vec<Tool> {
    let verbs = Verb::ALL.map(Verb::as_str);
    vec![
        Tool::new(
            "run_on_devvm",
            "Runs one shell command on the development VM and returns its output. afk runs it, \
             records it, and may ask a person first.",
            schema("command", "The whole command for the shell of the VM", None),
        ),
        Tool::new(
            "verb",
            "Sends a verb to the VM's hypervisor and returns its output. status and forensics read; \
             cycle, reset, stop and start change the VM, and need forensics first.",
            schema("verb", "The verb", Some(&verbs)),
        ),
        Tool::new(
            "note",
            "Writes a remark that the operators read: what you found, and why you need a call.",
            schema("text", "The remark", None),
        ),
    ]
}

async fn ask(socket: &Path, request: &CallToolRequestParams) -> Result<ToolReply, String> {
    let call = json!({"tool": request.name, "arguments": request.arguments}).to_string() + "\n";
    let send = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(call.as_bytes()).await?;
        Ok::<_, std::io::Error>(stream)
    };
    let stream = timeout(SEND, send).await.map_err(|_| "afk does not answer".to_owned())?;
    let stream = stream.map_err(|error| format!("afk can't be reached: {error}"))?;
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(ANSWER));
    let read = reader.read_line(&mut line).await;
    read.map_err(|error| format!("the answer was lost: {error}"))?;
    serde_json::from_str(&line).map_err(|_| "the session has ended".into())
}

impl ServerHandler for ToolProxy {
    fn get_info(&self) -> InitializeResult {
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        InitializeResult::new(capabilities)
            .with_server_info(Implementation::new("afk", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // Dropping the question closes its connection, and so withdraws the call.
        let answer = tokio::select! {
            answer = ask(&self.socket, &request) => answer,
            () = context.ct.cancelled() => Err("the call was cancelled".into()),
        };
        let (ok, text) = answer.map_or_else(|why| (false, why), |answer| (answer.ok, answer.text));
        let content = vec![ContentBlock::text(text)];
        let result =
            if ok { CallToolResult::success(content) } else { CallToolResult::error(content) };
        Ok(result.into())
    }
}
