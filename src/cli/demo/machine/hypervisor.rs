//! The demo's hypervisor: an SSH server that runs the shipped script for each request, as sshd does with
//! a forced command.

use std::io;
use std::process::Stdio;
use std::sync::Arc;

use futures::FutureExt;
use russh::Channel;
use russh::server::Msg;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::server::{self, MachineKeys, ServeChannel};
use super::{DemoMachine, OWNER, RUN_DIR, own_pid};
use crate::process::marks;

/// The timeout of a short step of the script, in seconds.
const STEP: &str = "1";

/// Serves until the token is cancelled.
pub(super) async fn serve(
    listener: TcpListener,
    machine: Arc<DemoMachine>,
    keys: Arc<MachineKeys>,
    end: CancellationToken,
) {
    let run: ServeChannel = Arc::new(move |request, channel| {
        let machine = machine.clone();
        run_verb(machine, request.unwrap_or_default(), channel).boxed()
    });
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = end.cancelled() => return,
        };
        let Ok((stream, _)) = stream else { continue };
        let (keys, run, end) = (keys.clone(), run.clone(), end.clone());
        tokio::spawn(async move { server::serve(stream, &keys, run, end).await });
    }
}

/// Runs the forced command for one request. It goes on if the link is lost.
async fn run_verb(machine: Arc<DemoMachine>, request: String, channel: Channel<Msg>) {
    let (_read, write) = channel.split();
    let code = match begin(&machine, &request) {
        Ok(mut child) => {
            let (out, err) = (child.stdout.take(), child.stderr.take());
            let out = async {
                if let Some(out) = out {
                    // The client may have disconnected.
                    let _ = write.data(out).await;
                }
            };
            let err = async {
                if let Some(err) = err {
                    let _ = write.extended_data(1, err).await;
                }
            };
            tokio::join!(out, err);
            let code = child.wait().await.ok().and_then(|status| status.code());
            code.and_then(|code| u32::try_from(code).ok()).unwrap_or(255)
        }
        Err(error) => {
            let line = format!("the demo's hypervisor can't run its script: {error}\n");
            let _ = write.extended_data(1, line.as_bytes()).await;
            255
        }
    };
    // The client may have disconnected.
    let _ = write.exit_status(code).await;
    let _ = write.eof().await;
    let _ = write.close().await;
}

fn begin(machine: &DemoMachine, request: &str) -> io::Result<tokio::process::Child> {
    let folder = machine.folder.display();
    let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".into());
    let mut command = Command::new("sh");
    command
        .arg(machine.folder.join("afk-pve"))
        .env("SSH_ORIGINAL_COMMAND", request)
        .env("SSH_CONNECTION", format!("127.0.0.1 0 127.0.0.1 {}", machine.hypervisor))
        .env("BREAKGLASS_VMID", machine.vm_id().to_string())
        .env(RUN_DIR, machine.run_folder())
        .env("BREAKGLASS_LOG", machine.folder.join("log"))
        .env("BREAKGLASS_LOCK_DIR", machine.run_folder())
        .env("BREAKGLASS_STEP_TIMEOUT", STEP)
        .env("AFK_DEMO_PID", own_pid())
        .env(marks::STATE, OWNER)
        .env("PATH", format!("{folder}:{path}"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn()
}
