//! The recovery of the demo's VM without a person: arm, look, forensics, cycle, and look again. A person
//! does the same in the breakglass pane.

use std::time::Duration;

use russh::ChannelMsg;
use tokio::time::{Instant, sleep, timeout};

use super::machine::VM;
use crate::breakglass::ssh;
use crate::config::breakglass::BreakglassConfig;
use crate::core::model::breakglass::{BreakglassRequest, Confirmation, Verb, VerbId, VerbResult};
use crate::core::model::command::{Accepted, Command, CommandEnvelope, Role};
use crate::core::model::untrusted::Untrusted;
use crate::error::chain;
use crate::runtime::Handle;

/// The longest that one step may take.
const STEP: Duration = Duration::from_secs(90);
/// The time after which a command on the VM counts as hung.
const HUNG: Duration = Duration::from_secs(2);
/// The time between two looks whether the VM is back.
const LOOK: Duration = Duration::from_millis(500);

/// Recovers the VM, and returns how it went.
pub(super) async fn recover(
    handle: &Handle,
    breakglass: &BreakglassConfig,
) -> Result<String, String> {
    let mut snapshots = handle.snapshots.clone();
    let ready = snapshots.wait_for(|now| now.fleet.policy.breakglass.is_some());
    timeout(STEP, ready).await.map_err(|_| "breakglass is not ready")?.map_err(|_| "afk ended")?;
    // After a demo that was killed during its cycle, afk reads the VM back first. A change of the state would
    // make the confirmation below stale.
    let idle = snapshots.wait_for(|now| now.breakglass().under_way.is_empty());
    timeout(STEP, idle).await.map_err(|_| "a verb does not end")?.map_err(|_| "afk ended")?;
    let reason = "the demo's VM hangs".into();
    request(handle, BreakglassRequest::Arm { reason, take_over: false }).await?;
    if uptime(breakglass).await?.is_some() {
        return Err("the VM is not wedged".into());
    }
    for verb in [Verb::Status, Verb::Forensics] {
        run(handle, verb).await?;
    }
    let began = Instant::now();
    let reads = run(handle, Verb::Cycle).await?;
    let cycled = began.elapsed();
    let back = timeout(STEP, async {
        loop {
            if let Ok(Some(_)) = uptime(breakglass).await {
                return;
            }
            sleep(LOOK).await;
        }
    });
    back.await.map_err(|_| "the VM does not answer after its cycle")?;
    request(handle, BreakglassRequest::Disarm).await?;
    let reads = reads.map_or_else(|| "unknown".into(), |reads| reads.clean_line());
    Ok(format!(
        "as expected: wedged, forensics taken, cycled in {} s, reads {reads} and answers again",
        cycled.as_secs()
    ))
}

async fn request(handle: &Handle, request: BreakglassRequest) -> Result<Accepted, String> {
    let what = request.as_str();
    let command = CommandEnvelope {
        id: 0,
        actor: handle.config.operator(),
        role: Role::Operator,
        origin: "demo".into(),
        command: Command::Breakglass { request },
    };
    handle.command(command).await.map_err(|refusal| format!("{what} was refused: {refusal}"))
}

/// Runs a verb to its end, and returns the state of the VM that the host reports.
async fn run(handle: &Handle, verb: Verb) -> Result<Option<Untrusted>, String> {
    let confirm = verb.mutates().then(|| {
        let seen = handle.snapshots.borrow().breakglass().seen(verb, VM);
        // The mutations of the demo's earlier starts count too.
        Confirmation { name: VM.into(), seen, again: Some(VM.into()) }
    });
    let accepted = request(handle, BreakglassRequest::Verb { verb, confirm }).await?;
    let Accepted::Verb { verb: id } = accepted else {
        return Err(format!("{} was not begun", verb.as_str()));
    };
    let end = timeout(STEP, ended(handle, id)).await;
    let (result, reads) = end.map_err(|_| format!("{} did not end", verb.as_str()))??;
    if result.good() {
        return Ok(reads);
    }
    Err(format!("{}: {}", verb.as_str(), result.summary()))
}

async fn ended(handle: &Handle, id: VerbId) -> Result<(VerbResult, Option<Untrusted>), String> {
    let mut snapshots = handle.snapshots.clone();
    loop {
        let end = {
            let now = snapshots.borrow_and_update();
            let run = now.breakglass().past.iter().find(|run| run.id == id);
            run.and_then(|run| run.end.as_ref().map(|(_, end)| end.clone()))
        };
        if let Some(end) = end {
            return Ok((end.result, end.reads));
        }
        snapshots.changed().await.map_err(|_| "afk ended")?;
    }
}

/// The answer of a command on the VM; none if it hangs.
async fn uptime(breakglass: &BreakglassConfig) -> Result<Option<String>, String> {
    let session = ssh::connect(breakglass, VM).await.map_err(|error| chain(&error))?;
    let ask = async {
        let mut channel = session.handle.channel_open_session().await?;
        channel.exec(true, "uptime").await?;
        let mut text = Vec::new();
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                text.extend_from_slice(&data);
            }
        }
        Ok::<_, russh::Error>(String::from_utf8_lossy(&text).into_owned())
    };
    match timeout(HUNG, ask).await {
        Err(_) => Ok(None),
        Ok(Ok(text)) => Ok(Some(text).filter(|text| text.contains("up "))),
        Ok(Err(error)) => Err(chain(&error)),
    }
}
