//! A git server whose transfers the test holds back or cuts: `git daemon` for each connection, with
//! the test's hand on what it sends.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the server does with a connection.
#[derive(Debug, Clone, Copy)]
pub enum Transfer {
    /// Sends everything.
    Whole,
    /// Sends this many bytes, and the rest once the test releases it.
    Hold(u64),
    /// Sends this many bytes and closes the connection.
    Cut(u64),
}

/// The server. Its connections end with the test's runtime.
pub struct SlowGit {
    pub address: String,
    released: watch::Sender<bool>,
    /// The bytes that each connection sent to the client, in the order of their beginning, and
    /// whether it is still open.
    sent: Arc<Mutex<Vec<(u64, bool)>>>,
}

impl SlowGit {
    /// Serves the repositories below `root`. `plan` holds for the first connections, one each.
    pub async fn serve(root: &Path, plan: &[Transfer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("git://{}", listener.local_addr().unwrap());
        let (released, release) = watch::channel(false);
        let sent: Arc<Mutex<Vec<(u64, bool)>>> = Arc::default();
        let (root, plan, all) = (root.to_owned(), plan.to_vec(), sent.clone());
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let transfer = plan.get(number).copied().unwrap_or(Transfer::Whole);
                all.lock().unwrap().push((0, true));
                let (root, release, all) = (root.clone(), release.clone(), all.clone());
                tokio::spawn(async move {
                    carry(stream, root, transfer, release, &|sent| {
                        all.lock().unwrap()[number].0 = sent;
                    })
                    .await;
                    all.lock().unwrap()[number].1 = false;
                });
            }
        });
        Self { address, released, sent }
    }

    /// Lets everything that is held back pass.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// The bytes that each connection sent so far.
    pub fn sent(&self) -> Vec<u64> {
        self.sent.lock().unwrap().iter().map(|(bytes, _)| *bytes).collect()
    }

    /// The number of connections that are open.
    pub fn open(&self) -> usize {
        self.sent.lock().unwrap().iter().filter(|(_, open)| *open).count()
    }
}

async fn carry(
    stream: TcpStream,
    root: PathBuf,
    transfer: Transfer,
    mut release: watch::Receiver<bool>,
    count: &(dyn Fn(u64) + Sync),
) {
    let mut daemon = tokio::process::Command::new("git");
    daemon.args(["daemon", "--inetd", "--export-all", "--enable=receive-pack"]);
    daemon.arg(format!("--base-path={}", root.display())).arg(&root);
    daemon.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut daemon = daemon.spawn().unwrap();
    let (mut to, mut from) = (daemon.stdin.take().unwrap(), daemon.stdout.take().unwrap());
    let (mut client, mut answers) = stream.into_split();
    let mut sent = 0;
    let up = async {
        let _ = tokio::io::copy(&mut client, &mut to).await;
        drop(to);
    };
    let down = async {
        let mut buffer = vec![0; 1024];
        loop {
            let Ok(read) = from.read(&mut buffer).await else { return };
            if read == 0 {
                return;
            }
            match transfer {
                Transfer::Cut(limit) if sent >= limit => return,
                Transfer::Hold(limit) if sent >= limit => {
                    let _ = release.wait_for(|released| *released).await;
                }
                _ => {}
            }
            if answers.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            sent += read as u64;
            count(sent);
        }
    };
    // git keeps its side open as long as it waits for anything.
    tokio::select! {
        () = down => {}
        () = up => {}
    }
}
