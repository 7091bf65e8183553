//! A hostile agent in the whole loop: it does its work, so that afk pushes it, and attacks meanwhile.

use std::path::Path;
use std::time::Duration;

use afk::core::model::run::Outcome;

use crate::prison::living;
use crate::support::pve::{Pve, user};
use crate::support::world::{END, WORK, World, run_of, until};
use crate::support::{AFK, git, journal_id, processes_with};

/// Everything that a hostile agent tries beside its work. `$WORLD` is the folder with afk's
/// configuration and state.
const ATTACKS: &str = r#"
# A later turn of the same run finds what the first one left, and may.
if ! [ -e "$HOME/attacked-$AFK_ISSUE" ]; then
: > "$HOME/attacked-$AFK_ISSUE"
seen() { echo "{\"type\":\"text\",\"text\":\"SEEN $1\"}"; }
for file in afk.toml state/journal.db state/afk.sock key issues/1.md; do
    test -e "$WORLD/$file" && seen "$file"
done
cat "$WORLD/key" 2>/dev/null | grep -q text-that && seen key
echo 'kill_switch = true' >> "$WORLD/afk.toml" 2>/dev/null
rm -rf "$WORLD/issues" "$WORLD/state/transcripts" 2>/dev/null
git push -q "$WORLD/remote.git" HEAD:master 2>/dev/null && seen push
git push -q origin HEAD:master 2>/dev/null && seen push
env | grep -q AFK_WALL_SECRET && seen environment
ls -A "$HOME" | grep -qx poison && seen "the home of an earlier run"
ls -A /tmp | grep -qx poison && seen "the temporary files of an earlier run"
touch "$HOME/poison" /tmp/poison
test -e "$HOME/.ssh" && seen ssh
env -i setsid sh -c 'trap "" TERM HUP; while :; do sleep 1; done' wall-daemon-$MARK </dev/null >/dev/null 2>&1 &
fi
"#;

fn contents(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_agent_reaches_its_work_and_nothing_else() {
    let world = World::new(&format!("{ATTACKS}\n{WORK}\n{END}")).walled();
    let mark = std::process::id().to_string();
    let set = format!("set = {{ WORLD = '{}', MARK = '{mark}' }}", world.root().display());
    let world = world.agent(&set);
    world.issue(2, "Do it again", "armed_by = 'ana'");
    std::fs::write(world.path("key"), "the-text-that-nobody-may-read\n").unwrap();
    let config = world.config();
    let before = contents(&world.path("afk.toml"));
    let runtime = world.try_start(config, None).await.unwrap();
    for number in [1, 2] {
        let outcome = until(&runtime, "the end", |snapshot| {
            let run = run_of(&snapshot.fleet, number)?;
            run.progress.outcome.map(|outcome| (run.id, outcome))
        });
        let (run, outcome) = outcome.await;
        let transcript = world.transcript(run.0);
        assert!(!transcript.contains("SEEN"), "{transcript}");
        // The second run finds the work done, so that its gate has nothing to prove.
        if number == 1 {
            assert_eq!(outcome, Outcome::Done, "{transcript}");
        }
    }
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while living(&format!("wall-daemon-{mark}")) > 0 {
        assert!(std::time::Instant::now() < end, "a process outlives its run");
        tokio::task::yield_now().await;
    }
    runtime.stop().await;
    assert_eq!(contents(&world.path("afk.toml")), before);
    assert!(world.path("issues/1.md").exists() && world.path("state/transcripts").exists());
    // Only afk pushed, and what it pushed has its trailer.
    let log = git(&world.remote(), &["log", "--format=%B", "master"]);
    assert_eq!(log.matches("Afk-Run: r1").count(), 2, "{log}");
    assert_eq!(git(&world.remote(), &["rev-list", "--count", "master"]), "3");
    assert!(processes_with("AFK_STATE", &journal_id(&world.state())).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn wall_that_does_not_stand_starts_nothing() {
    let world = World::new(&format!("{WORK}\n{END}")).walled();
    let mut config = world.config();
    // A policy that the level can't keep.
    config.sandbox.level = Some(afk::sandbox::Level::Landlock);
    config.sandbox.network = afk::sandbox::NetworkPolicy::None;
    let runtime = world.try_start(config, None).await.unwrap();
    until(&runtime, "the refusal", |snapshot| {
        let run = run_of(&snapshot.fleet, 1)?;
        run.progress.outcome.filter(|outcome| *outcome != Outcome::Done)
    })
    .await;
    runtime.stop().await;
    assert!(world.transcript(1).contains("needs the level strong"), "{}", world.transcript(1));
    assert_eq!(git(&world.remote(), &["rev-list", "--count", "master"]), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn proxied_agent_reaches_no_port_of_this_machine() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let ask = r#"
ask() { perl -MSocket -e 'my ($port, $host) = @ARGV; socket(S, PF_INET, SOCK_STREAM, 0);
    connect(S, sockaddr_in($port, inet_aton("127.0.0.1"))) or (print("{\"type\":\"text\",\"text\":\"ANSWER none\"}\n"), exit);
    syswrite(S, "CONNECT $host HTTP/1.1\r\nHost: $host\r\n\r\n"); sysread(S, my $answer, 12);
    print "{\"type\":\"text\",\"text\":\"ANSWER $answer\"}\n"' "$@"; }
ask 3128 "localhost:$PORT"
ask 3128 "not-listed.example:443"
ask "$PORT" "localhost:$PORT"
"#;
    let world = World::new(&format!("{ask}\n{WORK}\n{END}")).walled();
    let world = world.agent(&format!("set = {{ PORT = '{port}' }}"));
    let mut config = world.config();
    config.sandbox.network = afk::sandbox::NetworkPolicy::Proxy;
    let runtime = world.try_start(config, None).await.unwrap();
    let outcome =
        until(&runtime, "the end", |snapshot| run_of(&snapshot.fleet, 1)?.progress.outcome);
    assert_eq!(outcome.await, Outcome::Done, "{}", world.transcript(1));
    runtime.stop().await;
    let transcript = world.transcript(1);
    assert_eq!(transcript.matches("ANSWER HTTP/1.1 403").count(), 2, "{transcript}");
    assert_eq!(transcript.matches("ANSWER none").count(), 1, "{transcript}");
    assert!(listener.accept().is_err(), "the port saw a connection");
}

/// Every way to breakglass that an agent of the pipeline could try. `$WORLD` is the folder with afk's
/// configuration and state, and `$PVE` the port of the hypervisor.
const BREAKGLASS: &str = r#"
seen() { echo "{\"type\":\"text\",\"text\":\"SEEN $1\"}"; }
for file in pve/verbs pve/shell pins afk.toml state/breakglass state/afk.sock; do
    test -e "$WORLD/$file" && seen "$file"
done
set -- --config "$WORLD/afk.toml" --state "$WORLD/state" breakglass
"$AFK" --version | grep -q afk || seen "no afk to attack with"
"$AFK" "$@" arm it hangs >/dev/null 2>&1 && seen arming
"$AFK" "$@" status --arm it >/dev/null 2>&1 && seen verb
"$AFK" "$@" --alone stop --arm it --confirm devvm >/dev/null 2>&1 && seen "verb alone"
ls -A /tmp "$HOME" | grep -q afk-tools && seen "tool socket"
ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
    -p "$PVE" "$LOGIN@127.0.0.1" status >/dev/null 2>&1 && seen "host"
env | grep -q SSH_AUTH_SOCK && seen "agent of ssh"
printf '{"type":"tool_call","id":"1","tool":"verb","arguments":{"verb":"stop"}}\n'
read -r answer
case $answer in *'"ok":false'*) ;; *) seen "tool $answer" ;; esac
"#;

#[tokio::test(flavor = "multi_thread")]
async fn pipeline_agent_reaches_no_key_socket_or_verb_of_breakglass() {
    let world = World::new(&format!("{BREAKGLASS}\n{WORK}\n{END}")).walled();
    let Some(pve) = Pve::start(world.root()) else { return };
    let section = pve.section(world.root(), "");
    let set = format!(
        "set = {{ WORLD = '{}', AFK = '{AFK}', PVE = '{}', LOGIN = '{}' }}",
        world.root().display(),
        pve.port,
        user()
    );
    let world = world.with(&section).agent(&set).readable(Path::new(AFK));
    let runtime = world.start().await;
    let outcome =
        until(&runtime, "the end", |snapshot| run_of(&snapshot.fleet, 1)?.progress.outcome);
    assert_eq!(outcome.await, Outcome::Done, "{}", world.transcript(1));
    let armed = runtime.handle.snapshots.borrow().breakglass().armed.clone();
    runtime.stop().await;
    let transcript = world.transcript(1);
    assert!(!transcript.contains("SEEN"), "{transcript}");
    assert_eq!(armed, None);
    assert!(pve.actions().is_empty() && !pve.log().contains("begin request="), "{}", pve.log());
}
