//! A command of the operator's as a sink: the notice is in its environment, never in its words.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{CALL, Message};
use crate::core::model::notice::Severity;
use crate::core::tables::sink::SinkOutcome;
use crate::process::inherited;

pub(super) async fn run(
    command: &[String],
    message: &Message,
) -> Result<(SinkOutcome, String), String> {
    let Some((program, args)) = command.split_first() else {
        return Ok((SinkOutcome::DropAndDisable, "it names no program".into()));
    };
    let severity = match message.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Urgent => "urgent",
    };
    let mut child = Command::new(program);
    child.args(args).env_clear().envs(inherited()).kill_on_drop(true);
    child
        .env("AFK_NOTICE", message.kind)
        .env("AFK_SEVERITY", severity)
        .env("AFK_TITLE", &message.title)
        .env("AFK_TEXT", &message.text)
        .env("AFK_RUN", &message.run)
        .env("AFK_OPEN", &message.open)
        .env("AFK_LINK", message.link.as_deref().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match timeout(CALL, child.status()).await {
        Ok(Ok(status)) if status.success() => Ok((SinkOutcome::Done, String::new())),
        Ok(Ok(status)) => Ok((SinkOutcome::Retry(5), format!("{program} ended with {status}"))),
        Ok(Err(error)) => Ok((SinkOutcome::DropAndDisable, format!("{program}: {error}"))),
        Err(_) => {
            Ok((SinkOutcome::Retry(5), format!("{program} took longer than {} s", CALL.as_secs())))
        }
    }
}
