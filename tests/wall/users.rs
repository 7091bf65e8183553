//! Another user of this machine, and the agents of ssh that belong to afk's own user.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use afk::sandbox::Level;

use crate::ends::within;
use crate::prison::{Prison, SECRET, User, places, printed};
use crate::support::world::{END, WORK, World, run_of, until, wait_until};

/// A user who runs nothing else.
const OTHER: u32 = 54_322;

/// Shell: everything that another user tries in `$WORLD`, and what came of it.
const OTHER_USER: &str = r#"
cd "$WORLD" || exit 1
grep -rs "$SECRET" . && echo READ
for process in /proc/[0-9]*; do
    tr '\0' '\n' < $process/environ 2>/dev/null | grep -s "$SECRET" && echo ENVIRONMENT
    grep -rs "$SECRET" $process/cwd/ 2>/dev/null && echo FOLDER
    ls $process/fd 2>/dev/null | while read -r fd; do test -d $process/fd/$fd || timeout 1 head -c 4096 $process/fd/$fd 2>/dev/null; done | grep -as "$SECRET" && echo DESCRIPTOR
done
find state -type s 2>/dev/null | while read -r socket; do
    perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); exit !connect(S, sockaddr_un(shift))' "$socket" && echo CONNECTED "$socket"
done
find state \( -writable -o -perm -002 \) ! -type l 2>/dev/null | grep . && echo WRITABLE
for name in journal.db run.sock afk.sock transcripts private work; do
    ln -s /tmp/elsewhere "state/$name.new" 2>/dev/null && echo PLANTED
    mkfifo "state/$name.fifo" 2>/dev/null && echo PLANTED
    mv "state/$name" "state/$name.gone" 2>/dev/null && echo MOVED
done
true
"#;

#[tokio::test(flavor = "multi_thread")]
async fn other_user_gets_nothing_of_a_running_agent() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("!!! SKIPPED: only root can act as another user");
        return;
    }
    // As careless as an agent can be.
    let careless = format!(
        "umask 0; for f in \"$HOME/token\" /tmp/token token; do echo {SECRET} > $f; chmod 666 $f; done; chmod 777 \"$HOME\" /tmp .\n\
         perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un(\"/tmp/socket\")); listen(S, 1); chmod 0777, \"/tmp/socket\"; sleep 1000' &\n\
         until [ -S /tmp/socket ]; do :; done\n\
         echo '{{\"type\":\"text\",\"text\":\"CARELESS\"}}'\nexec sleep 1000\n{WORK}\n{END}"
    );
    let world = World::new(&careless).walled();
    let world = world.agent(&format!("set = {{ TOKEN = '{SECRET}' }}"));
    let config = world.config();
    // The rest of the world is this test's own, and open on purpose: the state folder is afk's.
    std::fs::set_permissions(world.root(), PermissionsExt::from_mode(0o755)).unwrap();
    for mine in ["afk.toml", "agent.sh"] {
        std::fs::set_permissions(world.path(mine), PermissionsExt::from_mode(0o600)).unwrap();
    }
    let runtime = world.try_start(config, None).await.unwrap();
    until(&runtime, "the agent", |snapshot| {
        run_of(&snapshot.fleet, 1)?;
        Some(())
    })
    .await;
    wait_until("the careless agent", || world.transcript(1).contains("CARELESS")).await;
    let mut other = Command::new("setpriv");
    other.args([format!("--reuid={OTHER}"), format!("--regid={OTHER}")]);
    other.args(["--clear-groups", "sh", "-c", OTHER_USER]);
    other.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("WORLD", world.root());
    // In two parts, so that the other user's own environment isn't a find.
    let output =
        other.env("SECRET", "the-text-that-nobod[y]-may-read").stdin(Stdio::null()).output();
    let output = output.unwrap();
    runtime.stop().await;
    assert!(output.status.success() && output.stdout.is_empty(), "{}", printed(&output));
}

#[test]
fn key_in_an_agent_of_ssh_signs_nothing_for_a_program() {
    let installed = Command::new("ssh-add").arg("-l").stdin(Stdio::null()).output();
    if installed.is_err() {
        eprintln!("!!! SKIPPED: ssh-agent isn't installed here");
        return;
    }
    for (level, user) in [(Level::None, User::Same)].into_iter().chain(places()) {
        // Landlock has no rule for sockets in the file system, which docs/security.md names.
        if level == Level::Landlock {
            continue;
        }
        let prison = Prison::new(level, user);
        let socket = prison.path("beside/agent");
        let mut agent = Command::new("ssh-agent");
        agent.arg("-D").arg("-a").arg(&socket);
        prison.prepare(&mut agent);
        let mut agent = agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        within(std::time::Duration::from_secs(20), "the agent did not come", || socket.exists());
        let key = prison.path("beside/agent-key");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", SECRET, "-f"]).arg(&key);
        assert!(keygen.status().unwrap().success());
        prison.own_all();
        let mut add = Command::new("ssh-add");
        prison.prepare(add.arg("-q").arg(&key));
        let added = add.env("SSH_AUTH_SOCK", &socket).output().unwrap();
        assert!(added.status.success(), "{}", printed(&added));
        // Even where the variable comes through, by a setting of the owner.
        let ask = "for s in \"$SSH_AUTH_SOCK\" $(find / -xdev -type s 2>/dev/null); do SSH_AUTH_SOCK=$s timeout 5 ssh-add -L; done";
        let mut command = if level == Level::None {
            let mut command = Command::new("sh");
            command.args(["-c", "ssh-add -L"]);
            prison.prepare(&mut command);
            command
        } else {
            prison.command(&prison.sandbox(), &["sh", "-c", ask])
        };
        let output = command.env("SSH_AUTH_SOCK", &socket).output().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
        let listed = printed(&output).contains(SECRET);
        assert_eq!(listed, level == Level::None, "{level} {user:?}: {}", printed(&output));
    }
}
