//! Keys as people have them, against OpenSSH's server and agent: certificates and many keys in an
//! agent, a hardware key that wants a touch, a passphrase, a jump host, an agent that hangs.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use crate::support::pve::{Pve, key, public, user, wait_for};
use crate::support::text;
use crate::support::world::World;

/// A world with a hypervisor double that is reached with `login` in place of a key file.
fn world(login: impl Fn(&Pve) -> String, more: &str) -> Option<(World, Pve)> {
    let world = World::new("").with_kill_switch();
    let pve = Pve::start(world.root())?;
    let section = pve.section(world.root(), more);
    let file = format!("key = '{}'\n", pve.path("verbs").display());
    assert!(section.contains(&file), "{section}");
    let section = section.replace(&file, &format!("{}\n", login(&pve)));
    Some((world.with(&section), pve))
}

fn status(world: &World) -> Output {
    world.config();
    let places = world.places();
    let mut args: Vec<&str> = places.iter().map(String::as_str).collect();
    args.extend(["breakglass", "status", "--arm", "look"]);
    crate::support::afk(&args).output().unwrap()
}

fn both(out: &Output) -> String {
    text(&out.stdout) + &text(&out.stderr)
}

/// Admits one more key for the forced command.
fn admit(pve: &Pve, new: &str) {
    let file = pve.path("authorized_keys");
    let lines = std::fs::read_to_string(&file).unwrap();
    let forced = lines.lines().next().unwrap().replace(&public(&pve.path("verbs")), new);
    std::fs::write(file, format!("{lines}{forced}\n")).unwrap();
}

fn print_of(public: &str) -> String {
    let key = russh::keys::PublicKey::from_openssh(public).unwrap();
    key.fingerprint(russh::keys::HashAlg::Sha256).to_string()
}

/// OpenSSH's agent.
struct SshAgent {
    socket: PathBuf,
    child: Child,
}

impl SshAgent {
    fn start(pve: &Pve) -> Self {
        let socket = socket(pve);
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the agent", || UnixStream::connect(&socket).is_ok());
        Self { socket, child }
    }

    fn add(&self, key: &Path) {
        let mut add = Command::new("ssh-add");
        add.arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).stdin(Stdio::null());
        assert!(add.status().unwrap().success());
    }
}

impl Drop for SshAgent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(pve: &Pve) -> PathBuf {
    pve.path("agent.sock")
}

fn agent(pve: &Pve) -> String {
    format!("agent = '{}'", socket(pve).display())
}

#[test]
fn certificate_in_an_agent_logs_in() {
    let Some((world, mut pve)) = world(agent, "") else { return };
    let here = pve.path("");
    let here = here.display().to_string();
    let here = here.trim_end_matches('/');
    key(&pve.path("ca"), "ed25519");
    let forced = format!(
        "force-command=BREAKGLASS_VMID={port} BREAKGLASS_RUN_DIR={here}/run BREAKGLASS_LOG={here}/log \
         BREAKGLASS_STEP_TIMEOUT=1 PATH={here}:$PATH {here}/afk-pve",
        port = pve.port
    );
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-I", "ana", "-n", &user(), "-V", "+1h", "-O", &forced, "-s"])
        .arg(pve.path("ca"))
        .arg(pve.path("stranger.pub"))
        .status()
        .unwrap();
    assert!(signed.success());
    pve.restart("host", &format!("TrustedUserCAKeys {here}/ca.pub"));
    let held = SshAgent::start(&pve);
    // The key and its certificate, as `ssh-add` finds them; the host admits only the certificate.
    held.add(&pve.path("stranger"));
    let out = status(&world);
    assert!(out.status.success(), "{}", both(&out));
    assert!(text(&out.stdout).contains("status: running"), "{}", both(&out));
}

#[test]
fn named_key_of_a_full_agent_is_used_and_an_error_names_the_setting() {
    let Some((other, pve)) = world(agent, "") else { return };
    let held = SshAgent::start(&pve);
    for n in 0..9 {
        let path = pve.path(&format!("key-{n}"));
        key(&path, "ed25519");
        held.add(&path);
    }
    let path = pve.path("right");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "the right one", "-f"])
        .arg(&path)
        .status();
    assert!(made.unwrap().success());
    let right = public(&path);
    admit(&pve, &right);
    held.add(&path);
    // OpenSSH's server ends a login after six keys, and the right one is the tenth.
    let out = status(&other);
    let said = text(&out.stderr);
    assert!(!out.status.success() && said.contains("`agent_key`"), "{said}");
    let error = said.lines().last().unwrap();
    assert!(error.matches("SHA256:").count() <= 3, "too many fingerprints: {error}");
    assert!(said.contains("further key"), "{said}");
    let config = std::fs::read_to_string(other.path("afk.toml")).unwrap();
    let state = other.state().display().to_string();
    let run = |name: &str| {
        let agent = agent(&pve);
        let named = config.replace(&agent, &format!("{agent}\nagent_key = '{name}'"));
        let path = other.path("named.toml");
        std::fs::write(&path, named).unwrap();
        let path = path.display().to_string();
        let args = ["--config", &path, "--state", &state, "breakglass", "status", "--arm", "look"];
        crate::support::afk(&args).output().unwrap()
    };
    for name in [print_of(&right).as_str(), "the right one"] {
        let out = run(name);
        assert!(out.status.success(), "{name}: {}", both(&out));
    }
    let out = run("no such key");
    let said = text(&out.stderr);
    assert!(said.contains("holds no `agent_key` \"no such key\""), "{said}");
    assert!(said.contains(&socket(&pve).display().to_string()), "{said}");
}

#[test]
fn agent_holds_the_key_of_a_file_with_a_passphrase() {
    let login = |pve: &Pve| format!("key = '{}'\n{}", pve.path("secret").display(), agent(pve));
    let Some((world, pve)) = world(login, "") else { return };
    let held = SshAgent::start(&pve);
    for n in 0..9 {
        let path = pve.path(&format!("key-{n}"));
        key(&path, "ed25519");
        held.add(&path);
    }
    // The agent gets the key before the file gets its passphrase.
    let path = pve.path("secret");
    admit(&pve, &key(&path, "ed25519"));
    held.add(&path);
    encrypt(&path);
    let out = status(&world);
    assert!(out.status.success(), "{}", both(&out));
}

fn encrypt(path: &Path) {
    let mut change = Command::new("ssh-keygen");
    change.args(["-q", "-p", "-a", "1", "-P", "", "-N", "open sesame", "-f"]).arg(path);
    assert!(change.stdout(Stdio::null()).status().unwrap().success());
}

#[test]
fn passphrase_of_a_key_is_asked_for_once() {
    let login = |pve: &Pve| format!("key = '{}'", pve.path("secret").display());
    let Some((world, pve)) = world(login, "") else { return };
    let path = pve.path("secret");
    admit(&pve, &key(&path, "ed25519"));
    encrypt(&path);
    // Without a terminal to ask on, the error names the key and the way out.
    let out = status(&world);
    let said = text(&out.stderr);
    assert!(!out.status.success(), "{said}");
    assert!(said.contains("has a passphrase") && said.contains("ssh-add"), "{said}");
    let mut screen = world.terminal(&["breakglass", "--alone"], 100, 30);
    screen.shows("passphrase of ");
    screen.keys("wrong\r");
    screen.shows("it fits no key");
    screen.until("the next question", |s| s.matches("passphrase of ").count() == 2);
    screen.keys("open sesame\r");
    screen.shows("No AI in the path");
    assert!(!text(&screen.bytes).contains("sesame"), "the passphrase was shown");
    screen.keys("a");
    screen.shows("Say why.");
    screen.keys("look\r");
    screen.shows("ARMED by");
    // Two connections, and no further question.
    for _ in 0..2 {
        screen.keys("gg\r");
        screen.shows("status: running");
        screen.shows("exit code 0");
        screen.keys("\u{1b}");
        screen.until("the rows", |s| !s.contains("Live output"));
    }
    wait_for("both requests", || pve.log().matches("begin request=").count() == 2);
}

#[test]
fn running_afk_keeps_the_key_that_was_unlocked_once() {
    let login = |pve: &Pve| format!("key = '{}'", pve.path("secret").display());
    let Some((world, pve)) = world(login, "") else { return };
    let path = pve.path("secret");
    admit(&pve, &key(&path, "ed25519"));
    encrypt(&path);
    let _up = world.up();
    let mut screen = world.terminal(&["breakglass", "status", "--arm", "look"], 100, 30);
    screen.shows("passphrase of ");
    screen.keys("open sesame\r");
    screen.shows("exit code 0");
    assert_eq!(screen.end(), 0);
    // Without a terminal, too: the running afk has the key.
    let out = status(&world);
    assert!(out.status.success(), "{}", both(&out));
}

#[test]
fn host_behind_a_jump_host_is_reached_through_it() {
    let login = |pve: &Pve| format!("key = '{}'\nvia = 'jump'", pve.path("verbs").display());
    let Some((other, pve)) = world(login, "") else { return };
    let jump = key(&pve.path("jump"), "ed25519");
    let world = other.with(&format!(
        "[breakglass.hosts.jump]\naddress = '127.0.0.1:{}'\nuser = '{}'\nkey = '{}'\n",
        pve.port,
        user(),
        pve.path("jump").display()
    ));
    let pins = world.path("pins");
    let known = std::fs::read_to_string(&pins).unwrap();
    // A jump host is checked as every host is, and blamed by its name.
    let out = status(&world);
    let said = text(&out.stderr);
    assert!(said.contains("through jump") && said.contains("the pinned one"), "{said}");
    let host = known.lines().next().unwrap().replace("hypervisor", "jump");
    std::fs::write(&pins, format!("{known}{host}\n")).unwrap();
    let out = status(&world);
    let said = text(&out.stderr);
    assert!(said.contains("through jump") && said.contains("none of our keys"), "{said}");
    let file = pve.path("authorized_keys");
    let lines = std::fs::read_to_string(&file).unwrap();
    let permitted =
        format!("restrict,port-forwarding,permitopen=\"127.0.0.1:{}\" {jump}", pve.port);
    std::fs::write(&file, format!("{lines}{permitted}\n")).unwrap();
    let out = status(&world);
    assert!(out.status.success(), "{}", both(&out));
    assert!(text(&out.stdout).contains("status: running"), "{}", both(&out));
}

#[test]
fn hung_agent_is_blamed_by_its_name() {
    let Some((world, pve)) = world(agent, "connect_seconds = 2") else { return };
    let listener = UnixListener::bind(socket(&pve)).unwrap();
    std::thread::spawn(move || {
        let _held: Vec<UnixStream> = listener.incoming().flatten().collect();
    });
    let began = Instant::now();
    let out = status(&world);
    let said = text(&out.stderr);
    let blamed = format!("the ssh-agent at {} did not list its keys", socket(&pve).display());
    assert!(!out.status.success() && said.contains(&blamed), "{said}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

/// An agent with one FIDO key, which signs once it is touched.
struct TouchAgent {
    touched: Arc<AtomicBool>,
    asked: Arc<AtomicBool>,
    public: String,
}

const SK: &str = "sk-ssh-ed25519@openssh.com";
const APPLICATION: &str = "ssh:";

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    out.extend(bytes);
}

fn take<'a>(from: &mut &'a [u8]) -> &'a [u8] {
    let (length, rest) = from.split_at(4);
    let (bytes, rest) = rest.split_at(u32::from_be_bytes(length.try_into().unwrap()) as usize);
    *from = rest;
    bytes
}

impl TouchAgent {
    fn start(socket: &Path) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let mut blob = Vec::new();
        string(&mut blob, SK.as_bytes());
        string(&mut blob, pair.public_key().as_ref());
        string(&mut blob, APPLICATION.as_bytes());
        let encoded = base64::engine::general_purpose::STANDARD.encode(&blob);
        let public = format!("{SK} {encoded} yubikey");
        let (touched, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let listener = UnixListener::bind(socket).unwrap();
        let (touch, ask) = (touched.clone(), asked.clone());
        let pair = Arc::new(pair);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (pair, blob) = (pair.clone(), blob.clone());
                let (touch, ask) = (touch.clone(), ask.clone());
                std::thread::spawn(move || serve_agent(stream, &pair, &blob, &touch, &ask));
            }
        });
        Self { touched, asked, public }
    }
}

fn serve_agent(
    mut stream: UnixStream,
    pair: &Ed25519KeyPair,
    blob: &[u8],
    touch: &AtomicBool,
    ask: &AtomicBool,
) {
    while let Some(request) = frame(&mut stream) {
        let reply = match request.split_first() {
            Some((11, _)) => {
                let mut reply = vec![12, 0, 0, 0, 1];
                string(&mut reply, blob);
                string(&mut reply, b"yubikey");
                reply
            }
            Some((13, mut rest)) => {
                let (_, data) = (take(&mut rest), take(&mut rest));
                ask.store(true, Ordering::SeqCst);
                wait_for("a touch", || touch.load(Ordering::SeqCst));
                sign(pair, data)
            }
            _ => vec![5],
        };
        let mut framed = Vec::new();
        string(&mut framed, &reply);
        if stream.write_all(&framed).is_err() {
            break;
        }
    }
}

fn frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// The signature of a FIDO key with its counter and the flag for a present user.
fn sign(pair: &Ed25519KeyPair, data: &[u8]) -> Vec<u8> {
    let (flags, counter) = (1_u8, 3_u32.to_be_bytes());
    let mut signed = Sha256::digest(APPLICATION).to_vec();
    signed.push(flags);
    signed.extend(counter);
    signed.extend(Sha256::digest(data));
    let mut blob = Vec::new();
    string(&mut blob, SK.as_bytes());
    string(&mut blob, pair.sign(&signed).as_ref());
    blob.push(flags);
    blob.extend(counter);
    let mut reply = vec![14];
    string(&mut reply, &blob);
    reply
}

#[test]
fn hardware_key_waits_for_its_touch_longer_than_for_the_host() {
    let Some((world, pve)) = world(agent, "connect_seconds = 2\ntouch_seconds = 4") else {
        return;
    };
    let fido = TouchAgent::start(&socket(&pve));
    admit(&pve, &fido.public);
    let out = status(&world);
    let said = text(&out.stderr);
    assert!(!out.status.success() && said.contains("touch the key yubikey"), "{said}");
    assert!(said.contains("did not get a touch of the key yubikey in 4 s"), "{said}");
    fido.asked.store(false, Ordering::SeqCst);
    // Touched after the limit for the connection alone.
    let touched = fido.touched.clone();
    let asked = fido.asked.clone();
    let person = std::thread::spawn(move || {
        wait_for("the request", || asked.load(Ordering::SeqCst));
        let since = Instant::now();
        wait_for("the moment", || since.elapsed() > Duration::from_millis(2_500));
        touched.store(true, Ordering::SeqCst);
    });
    let out = status(&world);
    person.join().unwrap();
    assert!(out.status.success(), "{}", both(&out));
    assert!(text(&out.stdout).contains("status: running"), "{}", both(&out));
}
