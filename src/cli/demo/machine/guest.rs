//! The demo's VM: an SSH server that listens while the guest is up, and a terminal for its shell.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use russh::server::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::net::TcpListener;
use tokio::time::{Instant, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::server::{MachineKeys, ServeChannel, serve as serve_connection};
use super::shell::{LineEditor, ShellAnswer, TypedKey, answer};
use super::{DemoMachine, GuestState};

/// The time between two looks at the state of the VM. A shorter one keeps the processor of an idle demo awake.
const LOOK: Duration = Duration::from_millis(500);
/// After this time in a command that waits for its disk, the kernel reports it.
const KERNEL_REPORT: Duration = Duration::from_secs(3);

const PROMPT: &str = "dev@devvm:~$ ";

/// Serves the guest whenever it is up, until the token is cancelled. Its connections end with it.
pub(super) async fn serve(
    machine: Arc<DemoMachine>,
    keys: Arc<MachineKeys>,
    end: CancellationToken,
) {
    loop {
        let up = async {
            while machine.state() == GuestState::Away {
                sleep(LOOK).await;
            }
            TcpListener::bind(("127.0.0.1", machine.guest)).await
        };
        let listener = tokio::select! {
            listener = up => listener,
            () = end.cancelled() => return,
        };
        let Ok(listener) = listener else {
            sleep(LOOK).await;
            continue;
        };
        let boot = end.child_token();
        let mut look = interval(LOOK);
        while machine.state() != GuestState::Away && !end.is_cancelled() {
            tokio::select! {
                _ = look.tick() => {}
                Ok((stream, _)) = listener.accept() => {
                    let (keys, boot) = (keys.clone(), boot.clone());
                    let run = channels(machine.clone());
                    tokio::spawn(async move { serve_connection(stream, &keys, run, boot).await });
                }
            }
        }
        boot.cancel();
    }
}

fn channels(machine: Arc<DemoMachine>) -> ServeChannel {
    Arc::new(move |request, channel| {
        let machine = machine.clone();
        async move {
            let (read, write) = channel.split();
            let code = match request {
                Some(line) => execute(&machine, &line, &write).await,
                None => GuestTerminal { machine: &machine, write: &write }.run(read).await,
            };
            // The client may have disconnected.
            let _ = write.exit_status(code).await;
            let _ = write.eof().await;
            let _ = write.close().await;
        }
        .boxed()
    })
}

/// Runs one command without a terminal. On a stalled disk it never ends.
async fn execute(machine: &DemoMachine, line: &str, write: &ChannelWriteHalf<Msg>) -> u32 {
    match answer(line, machine.state()) {
        ShellAnswer::Text { text, code } => {
            // The client may have disconnected.
            let _ = write.data(text.as_bytes()).await;
            code
        }
        ShellAnswer::Exit => 0,
        ShellAnswer::Wedge => u32::from(machine.wedge().is_err()),
        ShellAnswer::Hangs => std::future::pending().await,
    }
}

/// A shell with a terminal.
struct GuestTerminal<'a> {
    machine: &'a DemoMachine,
    write: &'a ChannelWriteHalf<Msg>,
}

impl GuestTerminal<'_> {
    async fn print(&self, text: &str) {
        let text = text.replace('\n', "\r\n");
        // The client may have disconnected; the end of its channel ends the shell.
        let _ = self.write.data(text.as_bytes()).await;
    }

    /// Serves keys until the user leaves; returns the exit code.
    async fn run(&self, mut read: ChannelReadHalf) -> u32 {
        self.print("Linux devvm 6.12.0-demo: a VM of afk's demo; `help` lists its commands\n")
            .await;
        self.print(PROMPT).await;
        let mut editor = LineEditor::default();
        let mut hangs: Option<Instant> = None;
        loop {
            let report = async {
                match hangs {
                    Some(since) => tokio::time::sleep_until(since + KERNEL_REPORT).await,
                    None => std::future::pending().await,
                }
            };
            let message = tokio::select! {
                message = read.wait() => message,
                () = report => {
                    // Once; a day from now nobody is here.
                    hangs = Some(Instant::now() + Duration::from_secs(86_400));
                    self.print("\n[ 4211.902113] INFO: task bash:1042 blocked for more than 120 seconds.\n\
                                [ 4211.902140] I/O on vda1 makes no progress; only the hypervisor can help.\n").await;
                    continue;
                }
            };
            let data = match message {
                None | Some(ChannelMsg::Eof | ChannelMsg::Close) => return 0,
                Some(ChannelMsg::Data { data }) => data,
                Some(_) => continue,
            };
            for key in editor.keys(&data) {
                match key {
                    TypedKey::Echo(text) => self.print(&text).await,
                    // The terminal echoes, and no process can be ended by a signal.
                    TypedKey::Interrupt if hangs.is_some() => self.print("^C").await,
                    TypedKey::Interrupt => self.print(&format!("^C\n{PROMPT}")).await,
                    TypedKey::Line(_) if hangs.is_some() => self.print("\n").await,
                    TypedKey::End if hangs.is_some() => {}
                    TypedKey::End => return 0,
                    TypedKey::Line(line) => {
                        self.print("\n").await;
                        match answer(&line, self.machine.state()) {
                            ShellAnswer::Text { text, .. } => {
                                self.print(&text).await;
                                self.print(PROMPT).await;
                            }
                            ShellAnswer::Exit => return 0,
                            ShellAnswer::Hangs => hangs = Some(Instant::now()),
                            ShellAnswer::Wedge => {
                                let said = match self.machine.wedge() {
                                    Ok(()) => {
                                        "the disk is stalled now: try `ls`, then cycle the VM\n"
                                    }
                                    Err(_) => "the disk can't be stalled\n",
                                };
                                self.print(said).await;
                                self.print(PROMPT).await;
                            }
                        }
                    }
                }
            }
        }
    }
}
