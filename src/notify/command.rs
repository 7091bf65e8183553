//! A command of the operator as a sink. The notice is in its environment and never among its
//! arguments, which a shell might interpret.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::{CALL, OutgoingNotice, severity_name};
use crate::core::tables::sink::SinkOutcome;
use crate::error::chain;
use crate::process::inherited;

/// Runs the command; it succeeds by its exit code, and a program that can't be started is disabled.
pub(super) async fn run(
    command: &[String],
    notice: &OutgoingNotice,
) -> Result<(SinkOutcome, String), String> {
    let Some((program, args)) = command.split_first() else {
        return Ok((SinkOutcome::DropAndDisable, "the command is empty".into()));
    };
    let mut child = Command::new(program);
    child.args(args).env_clear().envs(inherited()).kill_on_drop(true);
    child
        .env("AFK_NOTICE", notice.kind)
        .env("AFK_SEVERITY", severity_name(notice.severity))
        .env("AFK_TITLE", &notice.title)
        .env("AFK_TEXT", &notice.text)
        .env("AFK_RUN", &notice.run)
        .env("AFK_OPEN", &notice.open)
        .env("AFK_URL", notice.url.as_deref().unwrap_or_default())
        .env("AFK_LINK", notice.link.as_deref().unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match timeout(CALL, child.status()).await {
        Ok(Ok(status)) if status.success() => Ok((SinkOutcome::Done, String::new())),
        Ok(Ok(status)) => Ok((SinkOutcome::Retry(5), format!("{program} failed: {status}"))),
        Ok(Err(error)) => {
            Ok((SinkOutcome::DropAndDisable, format!("start {program}: {}", chain(&error))))
        }
        Err(_) => {
            Ok((SinkOutcome::Retry(5), format!("{program} took longer than {} s", CALL.as_secs())))
        }
    }
}
