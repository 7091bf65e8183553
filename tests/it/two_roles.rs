//! The two roles on one machine, as two users: no process of one reaches the keys, the state, the socket
//! or the verbs of the other, also without a wall around it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::pve::{Pve, wait_for};
use crate::support::world::{Up, World};
use crate::support::{AFK, text};

const PIPELINE: u32 = 64_101;
const BREAKGLASS: u32 = 64_102;

/// Tries every way to the role whose folder is `$ROLE`, and prints each that is open.
const TRY: &str = r#"
afk() { timeout 60 "$AFK" --config "$ROLE/afk.toml" "$@" >/dev/null 2>&1 </dev/null; }
for secret in $SECRETS; do cat "$secret" >/dev/null 2>&1 && echo "REACHED $secret"; done
ls "$ROLE/state" >/dev/null 2>&1 && echo REACHED the state folder
cat "$ROLE/state/journal.sqlite" >/dev/null 2>&1 && echo REACHED the journal
ls "/proc/$PID/fd" >/dev/null 2>&1 && echo REACHED the memory
cat "/proc/$PID/environ" >/dev/null 2>&1 && echo REACHED the environment
kill -0 "$PID" 2>/dev/null && echo REACHED the process
perl -MSocket -e 'alarm 20; socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un($ARGV[0])) or exit 1;
    syswrite(S, q({"hello":{"version":3,"program":"x","actor":"ana","role":"operator","origin":"cli","size":[80,24]}}) . "\n");
    exit !sysread(S, $b, 1)' "$ROLE/state/afk.sock" 2>/dev/null && echo REACHED the socket
afk --state "$ROLE/state" status && echo REACHED the fleet
[ -z "$VERBS" ] || { afk --state "$ROLE/state" breakglass status --arm try && echo REACHED the verbs; }
[ -z "$VERBS" ] || { afk --state "$OWN/alone-$PID" breakglass --alone status --arm try && echo REACHED the hypervisor; }
echo TRIED
"#;

/// A command as another user, with nothing of this test's environment.
fn as_user(user: u32, home: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".into()]);
    command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home);
    command.stdin(Stdio::null()).current_dir("/");
    command
}

fn give_to(path: &Path, user: u32) {
    let out = Command::new("chown").args(["-R", &format!("{user}:{user}")]).arg(path).output();
    assert!(out.unwrap().status.success());
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// A role of afk that runs: its user, its folder with `afk.toml` and `state`, and its secrets.
struct RunningRole {
    user: u32,
    folder: std::path::PathBuf,
    secrets: Vec<std::path::PathBuf>,
    has_verbs: bool,
    up: Up,
}

impl RunningRole {
    fn start(user: u32, folder: &Path, secrets: &[std::path::PathBuf], has_verbs: bool) -> Self {
        give_to(folder, user);
        // The folder itself may be open. afk makes its own private.
        mode(folder, 0o755);
        let mut command = as_user(user, &folder.join("home"));
        command.arg(AFK).arg("--config").arg(folder.join("afk.toml"));
        command.arg("--state").arg(folder.join("state")).arg("up");
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let (folder, secrets, up) = (folder.to_owned(), secrets.to_vec(), Up(child));
        wait_for("the socket", || folder.join("state/afk.sock").exists());
        Self { user, folder, secrets, has_verbs, up }
    }

    /// The variables of `TRY` for this role as the target.
    fn variables(&self, own: &Path) -> Vec<(&str, String)> {
        let secrets: Vec<_> = self.secrets.iter().map(|path| path.display().to_string()).collect();
        vec![
            ("AFK", AFK.to_owned()),
            ("ROLE", self.folder.display().to_string()),
            ("SECRETS", secrets.join(" ")),
            ("PID", self.up.0.id().to_string()),
            ("VERBS", if self.has_verbs { "yes" } else { "" }.to_owned()),
            ("OWN", own.display().to_string()),
        ]
    }

    /// Lets a process of a user try every way to this role.
    fn tried_by(&self, user: u32, home: &Path) -> Vec<String> {
        let mut command = as_user(user, home);
        command.args(["sh", "-c", TRY]).envs(self.variables(home));
        let out = command.output().unwrap();
        let lines: Vec<String> = text(&out.stdout).lines().map(str::to_owned).collect();
        assert_eq!(lines.last().map(String::as_str), Some("TRIED"), "{}", text(&out.stderr));
        lines
    }
}

#[test]
fn role_reaches_nothing_of_the_other_role() {
    let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok();
    if !rustix::process::geteuid().is_root() || !has_setpriv {
        println!("!!! SKIPPED: only root with setpriv can start the roles of two users");
        return;
    }
    // The pipeline's agent is a process that its afk started; without a wall only the users separate it.
    let script =
        ". \"$OUT/try.sh\" > \"$OUT/part\" 2>&1; mv \"$OUT/part\" \"$OUT/tried\"\nexec sleep 600";
    let pipeline = World::new(script).sandbox("level = 'none'");
    let machine = tempfile::tempdir().unwrap();
    mode(machine.path(), 0o755);
    let folder = machine.path().join("role");
    std::fs::create_dir_all(folder.join("home")).unwrap();
    std::fs::create_dir_all(pipeline.path("home")).unwrap();
    let Some(pve) = Pve::start(&folder) else { return };
    let section = pve.section(&folder, "hide_from_agents = false");
    let config = format!("kill_switch = true\nallowlist = []\n{section}");
    std::fs::write(folder.join("afk.toml"), config).unwrap();
    let keys = [pve.path("verbs"), pve.path("shell")];
    let breakglass = RunningRole::start(BREAKGLASS, &folder, &keys, true);

    let home = pipeline.path("home");
    let variables = breakglass.variables(&home);
    let lines = variables.iter().map(|(name, value)| format!("{name}='{value}'\n"));
    let tries = lines.collect::<String>() + TRY;
    std::fs::write(pipeline.path("try.sh"), tries).unwrap();
    std::fs::write(pipeline.path("token"), "tok-afk\n").unwrap();
    mode(&pipeline.path("token"), 0o600);
    pipeline.config();
    let token = [pipeline.path("token")];
    let world = RunningRole::start(PIPELINE, pipeline.root(), &token, false);
    wait_for("the agent's tries", || pipeline.path("tried").exists());
    let tried = std::fs::read_to_string(pipeline.path("tried")).unwrap();
    assert_eq!(tried, "TRIED\n");
    // A process of breakglass reaches nothing of the pipeline either.
    let own = folder.join("home");
    assert_eq!(world.tried_by(BREAKGLASS, &own), ["TRIED"]);

    // A folder and a socket that somebody opened by mistake: the journal is its owner's alone, and the peer's
    // user still decides about the socket.
    for role in [&breakglass, &world] {
        mode(&role.folder.join("state"), 0o755);
        mode(&role.folder.join("state/afk.sock"), 0o666);
    }
    let open = ["REACHED the state folder", "TRIED"];
    assert_eq!(breakglass.tried_by(PIPELINE, &home), open);
    assert_eq!(world.tried_by(BREAKGLASS, &own), open);
    // The journal opened, too: the tries do reach what is open.
    for role in [&breakglass, &world] {
        for file in std::fs::read_dir(role.folder.join("state")).unwrap().flatten() {
            if file.file_name().to_string_lossy().starts_with("journal.") {
                mode(&file.path(), 0o644);
            }
        }
    }
    let open = ["REACHED the state folder", "REACHED the journal", "REACHED the fleet", "TRIED"];
    assert_eq!(breakglass.tried_by(PIPELINE, &home), open);
    assert_eq!(world.tried_by(BREAKGLASS, &own), open);
    for role in [&breakglass, &world] {
        mode(&role.folder.join("state"), 0o700);
        mode(&role.folder.join("state/afk.sock"), 0o600);
    }
    assert!(!pve.log().contains("verb="), "{}", pve.log());

    // The same tries by its own user succeed, so that each of them is one. (Nobody but root reads the memory
    // of afk, also of one's own.)
    for (role, home) in [(&breakglass, &own), (&world, &home)] {
        let secrets = role.secrets.iter().map(|path| path.display().to_string());
        let ways = ["the state folder", "the journal", "the process", "the socket", "the fleet"];
        let verbs = ["the verbs", "the hypervisor"].into_iter().filter(|_| role.has_verbs);
        let ways = secrets.chain(ways.into_iter().chain(verbs).map(str::to_owned));
        let mut ways: Vec<String> = ways.map(|way| format!("REACHED {way}")).collect();
        ways.push("TRIED".into());
        assert_eq!(role.tried_by(role.user, home), ways);
    }
    assert!(pve.log().contains("verb=status"), "{}", pve.log());
}
