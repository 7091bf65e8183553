//! The cockpit over SSH, with a real OpenSSH client.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::pty::Terminal;
use crate::support::pve::Pve;
use crate::support::text;
use crate::support::world::{END, Up, WORK, World};

pub(crate) struct Ssh {
    pub(crate) world: World,
    _up: Up,
    port: u16,
}

pub(crate) fn ssh_installed() -> bool {
    let found = Command::new("ssh").arg("-V").output().is_ok();
    if !found {
        eprintln!("!!! SKIPPED: no OpenSSH client is installed, so the SSH server was not tried");
    }
    found
}

fn key(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path, public.trim().to_owned())
}

impl Ssh {
    fn start() -> Self {
        Self::start_in(World::new(&format!(
            "echo '{{\"type\":\"text\",\"text\":\"I am here\"}}'\nread -r steer\n{WORK}\n{END}"
        )))
    }

    /// The same with a hypervisor double, where no issue is picked up.
    fn start_with_breakglass() -> Option<(Self, Pve)> {
        let world = World::new(END).with_kill_switch();
        let pve = Pve::start(world.root())?;
        let section = pve.section(world.root(), "");
        Some((Self::start_in(world.with(&section)), pve))
    }

    pub(crate) fn start_in(world: World) -> Self {
        let keys: Vec<String> = [
            ("operator", "role=\"operator\","),
            ("viewer", ""),
            ("expired", "expiry-time=\"20200101Z\","),
            ("elsewhere", "from=\"192.0.2.0/24\","),
            ("counted-on", "command=\"ls\","),
        ]
        .iter()
        .map(|(name, options)| {
            let (_, public) = key(world.root(), name);
            format!("{options}restrict {public}")
        })
        .collect();
        key(world.root(), "unknown");
        std::fs::write(world.path("authorized_keys"), keys.join("\n")).unwrap();
        let world = world.with("[ssh]\nenabled = true\nlisten = '127.0.0.1:0'");
        let (up, lines) = world.up_with_lines(2);
        let port = lines[0].rsplit(':').next().unwrap().trim().parse().unwrap();
        Self { world, _up: up, port }
    }

    fn args(&self, key: &str) -> Vec<String> {
        let known = self.world.path("known_hosts");
        let mut args: Vec<String> = [
            "-F",
            "/dev/null",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=accept-new",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "IdentityAgent=none",
            "-o",
            "LogLevel=ERROR",
            "-o",
            "ConnectTimeout=20",
        ]
        .map(str::to_owned)
        .into();
        args.extend(["-o".into(), format!("UserKnownHostsFile={}", known.display())]);
        args.extend(["-i".into(), self.world.path(key).display().to_string()]);
        args.extend(["-p".into(), self.port.to_string(), "ana@127.0.0.1".into()]);
        args
    }

    pub(crate) fn terminal(&self, key: &str, columns: u16, rows: u16) -> Terminal {
        let args = self.args(key);
        let args: Vec<&str> =
            std::iter::once("-t").chain(args.iter().map(String::as_str)).collect();
        Terminal::program("ssh", &args, columns, rows, self.world.root())
    }

    /// Runs ssh without a terminal and returns its exit code and output.
    fn run(&self, key: &str, before: &[&str], after: &[&str]) -> (Option<i32>, String) {
        let args = self.args(key);
        let out = Command::new("ssh")
            .args(before)
            .args(&args)
            .args(after)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (out.status.code(), text(&out.stdout) + &text(&out.stderr))
    }
}

#[test]
fn ssh_key_opens_only_the_cockpit_in_its_role() {
    if !ssh_installed() {
        return;
    }
    let ssh = Ssh::start();
    let mut operator = ssh.terminal("operator", 120, 30);
    operator.shows("I am here");
    let mut viewer = ssh.terminal("viewer", 80, 24);
    viewer.shows("1 Queue");
    operator.shows("2 attached");
    operator.keys("W");
    for line in ["operator", "viewer", "ssh 127.0.0.1", "120x30", "80x24"] {
        operator.shows(line);
    }
    // A viewer's keys change nothing, even when their bytes arrive in pieces.
    viewer.keys("p");
    viewer.shows("viewers are read-only");
    viewer.keys("\u{1b}[B");
    viewer.keys("3");
    viewer.shows(">3 Transcript");
    // A new size is drawn at once.
    viewer.resize(100, 28);
    viewer.shows("2 attached");
    // The open list is updated.
    operator.shows("100x28");
    operator.keys("\u{1b}");
    operator.shows("1 Queue");
}

/// A proxy that passes one kilobyte a second in each direction.
fn slow_link(port: u16) -> u16 {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = TcpStream::connect(("127.0.0.1", port)).unwrap();
            for (mut from, mut to) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far.try_clone().unwrap(), near.try_clone().unwrap()),
            ] {
                std::thread::spawn(move || {
                    let mut bytes = [0; 100];
                    let mut passed = 0_usize;
                    while let Ok(read @ 1..) = from.read(&mut bytes) {
                        passed += read;
                        // The handshake passes at full speed; the screen doesn't.
                        if passed > 6_000 {
                            std::thread::sleep(std::time::Duration::from_millis(read as u64));
                        }
                        if to.write_all(&bytes[..read]).is_err() {
                            break;
                        }
                    }
                });
            }
        }
    });
    here
}

#[test]
fn slow_link_skips_frames_and_delays_no_other_client() {
    if !ssh_installed() {
        return;
    }
    let mut ssh = Ssh::start();
    let mut quick = ssh.terminal("operator", 120, 30);
    quick.shows("I am here");
    let port = ssh.port;
    ssh.port = slow_link(port);
    let mut slow = ssh.terminal("viewer", 200, 50);
    quick.shows("2 attached");
    // The screen changes faster than the link can carry.
    for permits in 4..60 {
        quick.keys("+");
        quick.shows(&format!("permits 1/{permits} "));
    }
    slow.shows("slow link");
    slow.shows("permits 1/59 ");
    let frames = slow.bytes.windows(8).filter(|w| w == b"\x1b[?2026h").count();
    assert!(frames < 30, "{frames} frames were sent over a slow link");
}

#[test]
fn viewer_keys_over_ssh_change_nothing() {
    if !ssh_installed() {
        return;
    }
    let ssh = Ssh::start();
    let mut operator = ssh.terminal("operator", 120, 30);
    operator.shows("I am here");
    let mut viewer = ssh.terminal("viewer", 80, 24);
    viewer.shows("1 Queue");
    for key in ('!'..='~').filter(|key| *key != 'q') {
        viewer.keys(&format!("{key}y\r\u{1b}\u{1b}[D\u{1b}"));
    }
    // Some of these keys begin a control string behind an escape; this ends it.
    viewer.keys("\u{1b}\\\u{1b}\u{1b}\u{1b}");
    viewer.keys("1?");
    viewer.shows("┌ Help ");
    operator.shows("2 attached");
    operator.shows("permits 1/3");
    operator.shows("implementing");
}

#[test]
fn ssh_server_refuses_everything_but_the_cockpit() {
    if !ssh_installed() {
        return;
    }
    let ssh = Ssh::start();
    for name in ["expired", "elsewhere", "counted-on", "unknown"] {
        let (code, printed) = ssh.run(name, &[], &[]);
        assert_eq!(code, Some(255), "{name}: {printed}");
        assert!(printed.contains("Permission denied"), "{name}: {printed}");
    }
    // A command, a session without a terminal and a subsystem are refused.
    let (code, printed) = ssh.run("operator", &[], &["id"]);
    assert_ne!(code, Some(0), "{printed}");
    assert!(!printed.contains("uid="), "{printed}");
    let (code, printed) = ssh.run("operator", &["-T"], &[]);
    assert!(code == Some(2) && printed.contains("needs a terminal"), "{code:?} {printed}");
    let (code, _) = ssh.run("operator", &["-s"], &["sftp"]);
    assert_ne!(code, Some(0));
    // Forwarding in either direction and an SSH agent are refused.
    let (code, printed) =
        ssh.run("operator", &["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:1"], &[]);
    assert_eq!(code, Some(255), "{printed}");
    let (code, printed) = ssh.run("operator", &["-A", "-T"], &[]);
    assert_eq!(code, Some(2), "{printed}");
    let (_, printed) = ssh.run("operator", &["-W", "127.0.0.1:1"], &[]);
    assert!(
        printed.contains("open failed") || printed.contains("stdio forwarding failed"),
        "{printed}"
    );
    // The host key is the same for every client, and `afk` prints it.
    let out = crate::support::afk(
        &ssh.world.places().iter().map(String::as_str).chain(["doctor"]).collect::<Vec<_>>(),
    )
    .output()
    .unwrap();
    let printed = text(&out.stdout);
    assert!(printed.contains("host key SHA256:") && printed.contains("line 5"), "{printed}");
}

#[test]
fn unauthenticated_connections_are_bounded() {
    if !ssh_installed() {
        return;
    }
    let ssh = Ssh::start();
    // Two hundred silent connections: some are closed at once, and none blocks the others for ever.
    let held: Vec<TcpStream> =
        (0..200).filter_map(|_| TcpStream::connect(("127.0.0.1", ssh.port)).ok()).collect();
    assert!(held.len() > 100);
    drop(held);
    let mut operator = ssh.terminal("operator", 120, 30);
    operator.shows("I am here");
    // A size that would need all memory is capped at the largest allowed one.
    let mut huge = ssh.terminal("viewer", 80, 24);
    huge.shows("1 Queue");
    huge.claim(65_535, 65_535);
    // Other clients receive the size a moment later.
    let mut looks = 0;
    loop {
        operator.keys("W");
        operator.shows("┌ Clients ");
        looks += 1;
        if operator.text().contains("500x300") {
            break;
        }
        assert!(looks < 100, "{}", operator.text());
        operator.keys("\u{1b}");
        operator.until("the list is gone", |s| !s.contains("┌ Clients "));
    }
    operator.keys("qq");
    assert_eq!(operator.end(), 0);
    assert!(operator.bytes.windows(8).any(|w| w == b"\x1b[?1049l"));
}

impl Ssh {
    /// Replaces a text in the file of admitted keys, as an editor does.
    pub(crate) fn edit_keys(&self, from: &str, to: &str) {
        let (file, new) = (self.world.path("authorized_keys"), self.world.path("new_keys"));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&new, text.replace(from, to)).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    fn doctor(&self) -> String {
        let places = self.world.places();
        let args: Vec<&str> = places.iter().map(String::as_str).chain(["doctor"]).collect();
        text(&crate::support::afk(&args).output().unwrap().stdout)
    }
}

#[test]
fn demoted_key_is_read_only_and_removed_key_ends_its_session() {
    if !ssh_installed() {
        return;
    }
    let ssh = Ssh::start();
    let mut operator = ssh.terminal("operator", 120, 30);
    operator.shows("I am here");
    operator.keys("+");
    operator.shows("permits 1/4 ");
    // The next key comes before any watcher can have seen the change.
    ssh.edit_keys("role=\"operator\",", "");
    operator.keys("+");
    operator.shows("viewers are read-only");
    operator.keys("W");
    operator.until("its new role", |s| {
        s.lines().any(|l| l.contains("operator") && l.contains("viewer"))
    });
    operator.keys("\u{1b}");
    operator.until("the list is gone", |s| !s.contains("┌ Clients "));
    // Back to an operator, without a new login.
    ssh.edit_keys("restrict ssh-ed25519", "role=\"operator\",restrict ssh-ed25519");
    operator.keys("+");
    operator.shows("permits 1/5 ");
    let keys = std::fs::read_to_string(ssh.world.path("authorized_keys")).unwrap();
    let line = keys.lines().find(|line| line.ends_with("operator")).unwrap().to_owned();
    ssh.edit_keys(&line, "# removed");
    assert_ne!(operator.end(), 0);
    let (code, printed) = ssh.run("operator", &[], &[]);
    assert!(code == Some(255) && printed.contains("Permission denied"), "{printed}");
}

#[test]
fn removed_or_demoted_operator_loses_arming_and_shells() {
    if !ssh_installed() {
        return;
    }
    let Some((ssh, _pve)) = Ssh::start_with_breakglass() else { return };
    let line = |name: &str| {
        let keys = std::fs::read_to_string(ssh.world.path("authorized_keys")).unwrap();
        keys.lines().find(|line| line.ends_with(name)).unwrap().to_owned()
    };
    let arm = |operator: &mut Terminal| {
        operator.keys("5");
        operator.shows("No AI in the path");
        operator.keys("a");
        operator.shows("Say why.");
        operator.keys("it hangs\r");
        operator.shows("ARMED by operator");
    };
    // Another operator, at this machine, sees what happens.
    let mut local = ssh.world.terminal(&["attach"], 120, 30);
    local.shows("1 Queue");
    local.keys("5");
    let mut operator = ssh.terminal("operator", 120, 30);
    arm(&mut operator);
    operator.keys("gg");
    operator.shows("│> status");
    operator.keys("jjjjjj\r");
    operator.until("a prompt", |s| s.contains("# ") || s.contains("$ "));
    local.shows("ARMED by operator");
    // Demoted: the shell ends and breakglass is locked, though the session goes on.
    ssh.edit_keys("role=\"operator\",", "");
    operator.shows("not an operator");
    local.shows("not armed: ");
    ssh.edit_keys("restrict ssh-ed25519", "role=\"operator\",restrict ssh-ed25519");
    drop(operator);
    // Removed after the session has left: the arming doesn't outlive the key.
    let mut operator = ssh.terminal("operator", 120, 30);
    arm(&mut operator);
    local.shows("ARMED by operator");
    operator.keys("qq");
    assert_eq!(operator.end(), 0);
    ssh.edit_keys(&line("operator"), "# removed");
    local.shows("not armed: ");
    let log = std::fs::read_dir(ssh.world.state()).unwrap().flatten();
    let log = log.filter(|file| file.file_name().to_string_lossy().ends_with(".log"));
    let log: String = log.map(|file| std::fs::read_to_string(file.path()).unwrap()).collect();
    assert!(log.contains("refused") && log.contains("not an operator any more"), "{log}");
}

#[test]
fn file_of_keys_that_others_can_change_admits_nobody() {
    if !ssh_installed() {
        return;
    }
    let ssh = Ssh::start();
    let file = ssh.world.path("authorized_keys");
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&file, mode).unwrap();
    };
    let mut operator = ssh.terminal("operator", 120, 30);
    operator.shows("I am here");
    mode(0o666);
    let (code, printed) = ssh.run("operator", &["-T"], &[]);
    assert!(code == Some(255) && printed.contains("Permission denied"), "{printed}");
    assert_ne!(operator.end(), 0, "a session doesn't outlive the trust in its file");
    let why = format!("can be changed by everybody (mode 666): chmod go-w {}", file.display());
    let told = ssh.doctor();
    assert!(told.contains(&why), "{told}");
    mode(0o644);
    assert_eq!(ssh.run("operator", &["-T"], &[]).0, Some(2));
    // A FIFO delays nobody.
    std::fs::rename(&file, ssh.world.path("aside")).unwrap();
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    let began = std::time::Instant::now();
    let (code, printed) = ssh.run("operator", &["-T"], &[]);
    assert!(code == Some(255) && printed.contains("Permission denied"), "{printed}");
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
    std::fs::rename(ssh.world.path("aside"), &file).unwrap();
    assert_eq!(ssh.run("operator", &["-T"], &[]).0, Some(2));
}
