//! The demo's VM and hypervisor for breakglass: two SSH servers in this process, reached as a real VM and
//! its Proxmox host are.
//!
//! ```text
//! breakglass pane ─ssh─▶ hypervisor ─▶ the shipped afk-pve ─▶ qm (a stand-in) ─▶ kvm (a process that waits)
//!                 └ssh─▶ guest ─▶ shell: a few commands                  its files ◀┘
//! ```
//!
//! The VM begins wedged: its disk is stalled while its monitor reads "running". A reset leaves it dead in
//! the firmware, and a cycle brings it back, as in the incidents that breakglass was built for.

mod guest;
mod hypervisor;
mod server;
mod shell;

use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::platform;
use crate::breakglass::host;
use crate::breakglass::pins::Pins;
use crate::process::{marks, procfs};

/// The name of the VM, which confirms a mutating verb.
pub(super) const VM: &str = "devvm";
/// The programs that the shipped script needs.
const TOOLS: [&str; 6] = ["sh", "flock", "setsid", "timeout", "od", "awk"];
/// The time that the guest takes to boot.
const BOOT: Duration = Duration::from_secs(4);
/// The longest time in which the processes of an earlier demo must have ended.
const LEFTOVERS: Duration = Duration::from_secs(20);
/// The variable of the script that names its folder. All processes of the machine have it, so that a later
/// demo in the same folder recognises them.
const RUN_DIR: &str = "BREAKGLASS_RUN_DIR";

/// The state of the VM as its files describe it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GuestState {
    /// No QEMU process runs, or the guest is in its firmware or boots: nobody listens.
    Away,
    /// The guest runs, and every access to its disk waits for ever.
    Wedged,
    /// The guest runs, for this long.
    Up(Duration),
}

/// The folder of the machine, and the ports of its two servers.
#[derive(Debug, Clone)]
pub(super) struct DemoMachine {
    folder: PathBuf,
    hypervisor: u16,
    guest: u16,
}

impl DemoMachine {
    /// The machine of the demo in `root`.
    pub(super) fn new(root: &Path, [hypervisor, guest]: [u16; 2]) -> Self {
        Self { folder: root.join("machine"), hypervisor, guest }
    }

    /// Its ports, as the mark of the demo keeps them.
    pub(super) const fn ports(&self) -> [u16; 2] {
        [self.hypervisor, self.guest]
    }

    /// A program that is missing on this machine, without which the hypervisor can't run its verbs.
    pub(super) fn missing_tool() -> Option<&'static str> {
        TOOLS.into_iter().find(|tool| crate::agent::vendor::on_path(tool).is_none())
    }

    /// Writes keys, pins and scripts into the demo that is being created in `unfinished`.
    pub(super) fn create(unfinished: &Path) -> io::Result<()> {
        let folder = unfinished.join("machine");
        std::fs::create_dir_all(folder.join("run"))?;
        for private in [unfinished, &folder] {
            std::fs::set_permissions(private, PermissionsExt::from_mode(0o700))?;
        }
        let host_key = write_key(&folder.join("host_key"))?;
        let pins = Pins::at(&unfinished.join("breakglass-pins"));
        for name in ["hypervisor", VM] {
            pins.set(name, host_key.public_key(), true).map_err(io::Error::other)?;
        }
        write_key(&folder.join("client_key"))?;
        for (name, text) in [
            ("qm", include_str!("../../../../assets/demo/machine/qm")),
            ("kvm", include_str!("../../../../assets/demo/machine/kvm")),
            ("afk-pve", host::SCRIPT),
        ] {
            std::fs::write(folder.join(name), text)?;
            std::fs::set_permissions(folder.join(name), PermissionsExt::from_mode(0o755))?;
        }
        Ok(())
    }

    /// The section of the configuration that reaches the machine.
    pub(super) fn configuration(&self) -> String {
        let host = |port: u16, user: &str| {
            format!(
                "address = \"127.0.0.1:{port}\"\nuser = \"{user}\"\nkey = \"machine/client_key\"\n"
            )
        };
        format!(
            "\n# A VM that is wedged, to try breakglass on (docs/breakglass.md): the pane 5.\n\
             [breakglass]\nvm = \"{VM}\"\ndrill_days = 0\n\
             # The demo needs no user namespaces; its keys open nothing but the demo.\n\
             hide_from_agents = false\n\n\
             [breakglass.hypervisor]\n{}\n[breakglass.hosts.{VM}]\n{}",
            host(self.hypervisor, "root"),
            host(self.guest, "dev")
        )
    }

    /// The number of the VM: far from the numbers that people give, and another one for each demo.
    fn vm_id(&self) -> u32 {
        900_000_000 + u32::from(self.hypervisor)
    }

    /// The folder of the hypervisor's pid files, lock and state.
    fn run_folder(&self) -> PathBuf {
        self.folder.join("run")
    }

    fn pid_file(&self) -> PathBuf {
        self.run_folder().join(format!("{}.pid", self.vm_id()))
    }

    /// Takes the port of the hypervisor. The VM boots and wedges meanwhile, which a cockpit need not wait for;
    /// then both hosts are served until the machine is dropped.
    ///
    /// # Errors
    /// The port is taken, or the machine's keys can't be read.
    pub(super) async fn start(&self) -> io::Result<RunningMachine> {
        let machine = Arc::new(self.clone());
        let end = CancellationToken::new();
        let keys = Arc::new(server::MachineKeys::read(&self.folder)?);
        let listener = platform::bind(self.hypervisor).await?;
        let (booting, ended) = (machine.clone(), end.clone());
        let boot = tokio::spawn(async move {
            let wedge = booting.clone();
            tokio::task::spawn_blocking(move || wedge.start_wedged())
                .await
                .map_err(io::Error::other)??;
            tokio::spawn(hypervisor::serve(listener, booting.clone(), keys.clone(), ended.clone()));
            tokio::spawn(guest::serve(booting, keys, ended));
            Ok(())
        });
        Ok(RunningMachine { machine, end, boot })
    }

    /// A new demo and one that is opened again begin alike: the hypervisor has just booted, and the VM is
    /// wedged.
    fn start_wedged(&self) -> io::Result<()> {
        self.end_leftovers()?;
        let run = self.run_folder();
        match std::fs::remove_dir_all(&run) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(&run)?,
        }
        let mut command = Command::new(self.folder.join("qm"));
        command.args(["start", &self.vm_id().to_string()]).env("AFK_DEMO_PID", own_pid());
        command.env(marks::STATE, OWNER).env(RUN_DIR, run);
        let done =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !done.success() {
            return Err(io::Error::other("the stand-in for qm can't start the demo's VM"));
        }
        std::fs::write(self.folder.join("wedged"), "")
    }

    /// Ends the VM and the verbs of an earlier demo in this folder that was killed. Its verbs go on without
    /// it: a cycle would stop the new VM, and start one that ends with the demo that is gone.
    fn end_leftovers(&self) -> io::Result<()> {
        let run = self.run_folder().display().to_string();
        let until = Instant::now() + LEFTOVERS;
        // A process that executes a program has no environment for a moment: look twice.
        let mut seen_none = 0;
        while seen_none < 2 {
            let left =
                procfs::processes().filter(|one| one.state != b'Z' && one.has(RUN_DIR, &run));
            let left: Vec<_> = left.collect();
            if Instant::now() >= until {
                return Err(io::Error::other(
                    "a verb of an earlier demo in this folder can't be ended",
                ));
            }
            seen_none = if left.is_empty() { seen_none + 1 } else { 0 };
            for process in &left {
                procfs::signal(process, rustix::process::Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The process in QEMU's place, if it runs and is still this demo's.
    fn kvm_process(&self) -> Option<rustix::process::Pid> {
        let text = std::fs::read_to_string(self.pid_file()).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        // A dead process that nobody has reaped has no command line.
        let id = self.vm_id().to_string();
        let is_ours = line.split(|byte| *byte == 0).any(|part| part == id.as_bytes());
        if is_ours { rustix::process::Pid::from_raw(pid) } else { None }
    }

    fn kill_kvm(&self) {
        if let Some(pid) = self.kvm_process() {
            // It may have ended in between.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = std::fs::remove_file(self.pid_file());
    }

    fn state(&self) -> GuestState {
        if self.kvm_process().is_none() || self.folder.join("firmware").exists() {
            return GuestState::Away;
        }
        if self.folder.join("wedged").exists() {
            return GuestState::Wedged;
        }
        let started = std::fs::metadata(self.pid_file()).and_then(|meta| meta.modified());
        let since = started.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default();
        match since.checked_sub(BOOT) {
            Some(up) => GuestState::Up(up),
            None => GuestState::Away,
        }
    }

    /// Stalls the guest's disk, as the command `wedge` in its shell asks for.
    fn wedge(&self) -> io::Result<()> {
        std::fs::write(self.folder.join("wedged"), "")
    }
}

/// A machine whose servers run. Dropping it ends them and the VM.
#[derive(Debug)]
pub(super) struct RunningMachine {
    machine: Arc<DemoMachine>,
    end: CancellationToken,
    boot: JoinHandle<io::Result<()>>,
}

impl RunningMachine {
    /// Waits until the VM has booted.
    ///
    /// # Errors
    /// The stand-ins can't start it.
    pub(super) async fn booted(&mut self) -> io::Result<()> {
        (&mut self.boot).await.map_err(io::Error::other)?
    }
}

impl Drop for RunningMachine {
    fn drop(&mut self) {
        self.end.cancel();
        self.machine.kill_kvm();
    }
}

/// The owner of the machine's processes. Without one, the end of a run would take the VM for a process
/// that the run has left.
const OWNER: &str = "the machine of the demo";

fn own_pid() -> String {
    std::process::id().to_string()
}

/// Creates an Ed25519 key that only its owner can read.
fn write_key(path: &Path) -> io::Result<PrivateKey> {
    use std::io::{Read, Write};
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    let text = key.to_openssh(LineEnding::LF).map_err(io::Error::other)?;
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path);
    file?.write_all(text.as_bytes())?;
    Ok(key)
}
