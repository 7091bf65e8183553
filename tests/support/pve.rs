//! A hypervisor double: OpenSSH's server with the shipped forced command, a `qm` that keeps state,
//! and a process in QEMU's place. The same server plays the VM: it gives a second key a shell.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::text;

/// The longest wait for anything in this module.
const LIMIT: Duration = Duration::from_secs(60);

/// A double of `qm`; files in its folder make it misbehave.
const QM: &str = r#"#!/bin/sh
d=${0%/*}
echo "$*" >>"$d/calls"
# One that is dead and was not reaped yet is dead.
alive() { [ -r "$d/run/@VM@.pid" ] && grep -q '^State:.[^Z]' "/proc/$(cat "$d/run/@VM@.pid")/status" 2>/dev/null; }
[ ! -e "$d/hang-$1" ] || exec sleep 1000
[ ! -e "$d/fail-$1" ] || { echo "qm $1: $(cat "$d/fail-$1")" >&2; exit 5; }
# HA answers a request before it carries it out, or does not carry it out at all.
if grep -qs "^service vm:@VM@ " "$d/ha"; then
    case $1 in stop | start)
        echo "Requesting HA $1 for VM @VM@"
        [ ! -e "$d/ha-follows" ] || { sleep 2; mv "$d/ha" "$d/ha-is-done"; "$0" "$1"; mv "$d/ha-is-done" "$d/ha"; } >/dev/null 2>&1 &
        exit 0 ;;
    esac
fi
case $1 in
status) if alive; then echo "status: running"; else echo "status: stopped"; fi ;;
config) echo "name: devvm"; cat "$d/more" 2>/dev/null ;;
pending) echo "cur memory: 24000" ;;
agent) echo "ping ok" ;;
monitor) read -r line; echo "qm> $line"; echo "VM status: running" ;;
reset) alive ;;
unlock) : ;;
stop) [ -e "$d/wedged" ] || { kill -KILL "$(cat "$d/run/@VM@.pid")"; rm -f "$d/run/@VM@.pid"; } ;;
start)
    if alive; then echo "VM @VM@ already running" >&2; exit 255; fi
    rm -f "$d/wedged"
    setsid "$d/kvm" -id @VM@ -name devvm -chardev "socket,id=qmp,path=$d/run/@VM@.qmp,server=on" \
        </dev/null >/dev/null 2>&1 &
    echo $! >"$d/run/@VM@.pid" ;;
esac
"#;
const KVM: &str = "#!/bin/sh\nwhile :; do sleep 1; done\n";

/// A double of `ha-manager`, which prints the file `ha` of its folder.
const HA: &str = "#!/bin/sh\ncat \"${0%/*}/ha\" 2>/dev/null || echo 'quorum OK'\n";

/// Generates a key pair and returns the public half as one line.
pub fn key(path: &Path, kind: &str) -> String {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
    public(path)
}

/// Returns the public half of a key.
pub fn public(path: &Path) -> String {
    let text = std::fs::read_to_string(format!("{}.pub", path.display())).unwrap();
    text.trim().to_owned()
}

pub struct Pve {
    dir: PathBuf,
    /// The port of the server. It is also the number of the VM: tests run beside each other, and
    /// the forced command finds its VM among all processes of the machine.
    pub port: u16,
    server: Child,
}

impl Pve {
    /// Starts a hypervisor in a test's folder; none if OpenSSH's server isn't installed.
    pub fn start(root: &Path) -> Option<Self> {
        Self::start_with(root, QM, 1)
    }

    /// The same with another double of `qm`, and another limit of a short step in seconds.
    pub fn start_with(root: &Path, qm: &str, step: u32) -> Option<Self> {
        let dir = root.join("pve");
        std::fs::create_dir_all(dir.join("run")).unwrap();
        let port = free_port();
        for (name, text) in [("qm", qm), ("kvm", KVM), ("ha-manager", HA)] {
            std::fs::write(dir.join(name), text.replace("@VM@", &port.to_string())).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(dir.join(name), mode).unwrap();
        }
        // The shipped script, with the paths of this test's folder.
        std::fs::write(dir.join("afk-pve"), afk::breakglass::host::SCRIPT).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(dir.join("afk-pve"), mode).unwrap();
        key(&dir.join("host"), "ed25519");
        let verbs = key(&dir.join("verbs"), "ed25519");
        let shell = key(&dir.join("shell"), "ed25519");
        let expired = key(&dir.join("expired"), "ed25519");
        key(&dir.join("stranger"), "ed25519");
        let here = dir.display();
        let forced = format!(
            "command=\"BREAKGLASS_VMID={port} BREAKGLASS_RUN_DIR={here}/run BREAKGLASS_LOG={here}/log \
             BREAKGLASS_LOCK_DIR={here}/run BREAKGLASS_STEP_TIMEOUT={step} PATH={here}:$PATH \
             {here}/afk-pve\",restrict,from=\"127.0.0.1\""
        );
        let lines = format!(
            "{forced} {verbs}\n{forced},expiry-time=\"20200101Z\" {expired}\nrestrict,pty {shell}\n"
        );
        std::fs::write(dir.join("authorized_keys"), lines).unwrap();
        let server = Self::serve(&dir, port, "host", "")?;
        let pve = Self { dir, port, server };
        pve.qm(&["start"]);
        Some(pve)
    }

    fn serve(dir: &Path, port: u16, host_key: &str, more: &str) -> Option<Child> {
        let program = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(program) = program else {
            let line = "!!! SKIPPED: install openssh-server to run this test\n";
            std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
            return None;
        };
        let here = dir.display();
        let settings = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {here}/{host_key}\n\
             AuthorizedKeysFile {here}/authorized_keys\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPrintMotd no\n\
             AcceptEnv LANG LC_*\n{more}\n"
        );
        std::fs::write(dir.join("sshd_config"), settings).unwrap();
        // sshd's privilege separation needs this folder when it runs as root.
        let _ = std::fs::create_dir_all("/run/sshd");
        let child = Command::new(program)
            .arg("-D")
            .arg("-f")
            .arg(dir.join("sshd_config"))
            .env_remove("SSH_AUTH_SOCK")
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + LIMIT;
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "sshd did not come");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(child)
    }

    /// Restarts the server with another host key or more settings.
    pub fn restart(&mut self, host_key: &str, more: &str) {
        self.stop();
        self.server = Self::serve(&self.dir, self.port, host_key, more).unwrap();
    }

    /// Ends the server; the verbs that it began continue.
    pub fn stop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file that makes `qm` misbehave.
    pub fn set(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn unset(&self, name: &str) {
        let _ = std::fs::remove_file(self.path(name));
    }

    pub fn qm(&self, args: &[&str]) -> String {
        let out = Command::new(self.path("qm")).args(args).output().unwrap();
        text(&out.stdout).trim().to_owned()
    }

    /// The calls of `qm` in order, without the call of its own start.
    pub fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.path("calls")).unwrap_or_default();
        text.lines().skip(1).map(str::to_owned).collect()
    }

    /// The calls that are actions on the VM.
    pub fn actions(&self) -> Vec<String> {
        let of = |line: String| line.split(' ').next().unwrap().to_owned();
        let acts = |word: &String| ["stop", "start", "reset", "unlock"].contains(&word.as_str());
        self.calls().into_iter().map(of).filter(acts).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Kills this host's processes whose command line fits, and returns their number.
    pub fn signal(&self, fits: impl Fn(&str) -> bool) -> usize {
        let here = self.dir.display().to_string();
        let mut killed = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = text(&line).replace('\0', " ");
            if line.contains(&here)
                && fits(&line)
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                killed += usize::from(
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok(),
                );
            }
        }
        killed
    }

    /// The file that holds the id of QEMU's process.
    pub fn pid_file(&self) -> PathBuf {
        self.path(&format!("run/{}.pid", self.port))
    }

    /// The id of QEMU's process.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.pid_file()).unwrap();
        text.trim().parse().unwrap()
    }

    /// OpenSSH's client with one of this host's keys.
    pub fn ssh(&self, key: &str, request: &[&str]) -> Command {
        self.ssh_with(&[], key, request)
    }

    /// Like `ssh`, with more options.
    pub fn ssh_with(&self, options: &[&str], key: &str, request: &[&str]) -> Command {
        let mut command = Command::new("ssh");
        command.args(options);
        command.args([
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-o",
            "LogLevel=ERROR",
        ]);
        command.arg("-i").arg(self.path(key)).args(["-p", &self.port.to_string()]);
        command.arg(format!("{}@127.0.0.1", user())).arg("--").args(request);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a verb with OpenSSH's client.
    pub fn verb(&self, request: &str) -> Output {
        self.ssh("verbs", &[request]).output().unwrap()
    }

    /// Writes keys and pins, and returns the configuration section that reaches this host.
    pub fn section(&self, root: &Path, more: &str) -> String {
        let host = public(&self.path("host"));
        let host: Vec<&str> = host.split(' ').take(2).collect();
        let pins = format!("hypervisor {0}\ndevvm {0}\n", host.join(" "));
        std::fs::write(root.join("pins"), pins).unwrap();
        self.unpinned(more)
    }

    /// The configuration section without pins.
    pub fn unpinned(&self, more: &str) -> String {
        let (port, user) = (self.port, user());
        let (verbs, shell) = (self.path("verbs"), self.path("shell"));
        format!(
            "[breakglass]\nvm = 'devvm'\npins = 'pins'\ndrill_days = 0\n{more}\n\
             [breakglass.hypervisor]\naddress = '127.0.0.1:{port}'\nuser = '{user}'\nkey = '{}'\n\
             [breakglass.hosts.devvm]\naddress = '127.0.0.1:{port}'\nuser = '{user}'\nkey = '{}'\n",
            verbs.display(),
            shell.display()
        )
    }
}

impl Drop for Pve {
    fn drop(&mut self) {
        self.stop();
        // End QEMU's stand-in and hanging steps; their command lines contain this test's folder.
        let here = self.dir.display().to_string();
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        for pid in all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if text(&line).contains(&here)
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

pub fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| "root".into())
}

/// Returns a free port.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until a condition holds; panics with `what` if it never does.
pub fn wait_for(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < end, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}
