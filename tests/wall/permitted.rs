//! What a level of the wall doesn't stop, by design. Each row is run, and succeeds; docs/security.md names
//! each row and nothing else.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use afk::config::network::HostPattern;
use afk::sandbox::{Level, NetworkPolicy};

use crate::attacks;
use crate::ends::within;
use crate::network::own_addresses;
use crate::prison::{Prison, SECRET, User, places, printed};
use crate::support::git;
use crate::support::world::{END, WORK, World, ended};

/// Something that a level lets a program do.
struct Permitted {
    level: Level,
    /// Its name in docs/security.md.
    name: &'static str,
    /// Whether this machine lets this user do it.
    applies: fn(User) -> bool,
    succeeds: fn(User) -> bool,
}

const fn strong(name: &'static str, succeeds: fn(User) -> bool) -> Permitted {
    Permitted { level: Level::Strong, name, applies: |_| true, succeeds }
}

const fn landlock(name: &'static str, succeeds: fn(User) -> bool) -> Permitted {
    Permitted { level: Level::Landlock, name, applies: |_| true, succeeds }
}

const fn on_x86_64(_: User) -> bool {
    cfg!(target_arch = "x86_64")
}

const PERMITTED: &[Permitted] = &[
    Permitted {
        applies: |_| kernel_is_before(6, 12),
        ..strong("abstract sockets, with the policy `full` on kernels before 6.12", |user| {
            let prison = Prison::new(Level::Strong, user);
            let name = format!("afk-wall-permitted-{}", std::process::id());
            let address = <SocketAddr as SocketAddrExt>::from_abstract_name(&name).unwrap();
            let listener = UnixListener::bind_addr(&address).unwrap();
            prison.run(&format!(
                "perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack(\"Sa*\", PF_UNIX, \"\\0{name}\")) and syswrite(S, \"x\")'"
            ));
            hears(&listener)
        })
    },
    strong("a folder above afk's state that the owner grants for writing", |user| {
        let prison = Prison::new(Level::Strong, user);
        std::fs::create_dir_all(prison.path("beside/state")).unwrap();
        prison.own_all();
        let mut sandbox = prison.sandbox();
        sandbox.write.push(prison.path(""));
        sandbox.hidden = vec![prison.path("beside/state")];
        prison.run_with(&sandbox, "mv $ROOT/beside $ROOT/moved");
        prison.path("moved/state").exists()
    }),
    strong("a hidden file that is replaced while the program runs", |user| {
        let prison = Prison::new(Level::Strong, user);
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![prison.path("beside")];
        sandbox.hidden = vec![prison.path("beside/key")];
        let script = "cat $ROOT/beside/key && echo before; touch ready; until [ -e go ]; do :; done; cat $ROOT/beside/key";
        let mut program = prison.command(&sandbox, &["sh", "-c", script]);
        let program = program.stdout(Stdio::piped()).spawn().unwrap();
        within(Duration::from_secs(30), "the program did not come", || {
            prison.path("work/ready").exists()
        });
        std::fs::write(prison.path("beside/new-key"), format!("{SECRET}\n")).unwrap();
        std::fs::rename(prison.path("beside/new-key"), prison.path("beside/key")).unwrap();
        std::fs::write(prison.path("work/go"), "").unwrap();
        // Hidden at first, and then not.
        printed(&program.wait_with_output().unwrap()) == format!("before\n{SECRET}\n")
    }),
    strong("sockets in a folder that the owner grants for reading", |user| {
        let mut prison = Prison::new(Level::Strong, user);
        prison.network = NetworkPolicy::None;
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![prison.path("beside")];
        connects(&prison, |script| {
            prison.run_with(&sandbox, script);
        })
    }),
    Permitted {
        applies: |_| cfg!(target_env = "gnu"),
        ..strong("loader variables that the owner sets for an agent", |user| {
            let prison = Prison::new(Level::Strong, user);
            let mut command = prison.command(&prison.sandbox(), &["true"]);
            command.env("LD_DEBUG", "files").env("LD_DEBUG_OUTPUT", prison.path("beside/loader"));
            command.output().unwrap();
            let mut names = std::fs::read_dir(prison.path("beside")).unwrap().flatten();
            names.any(|entry| entry.file_name().to_string_lossy().starts_with("loader"))
        })
    },
    strong("ports of this machine and of its network, with the policy `full`", |user| {
        port_hears(&Prison::new(Level::Strong, user))
    }),
    strong("hosts of the list, with the policy `proxy`", |_| a_listed_host_hears())
        .only(|user| user == User::Same && listed(0).is_some()),
    strong("memory between two looks of afk, without control groups", |user| {
        let prison = Prison::new(Level::Strong, user);
        let output = prison.run("perl -e 'my $x = \"x\" x (512 << 20); print length $x'");
        printed(&output) == (512 << 20).to_string()
    }),
    strong("memory that no process has mapped, without control groups", |user| {
        let prison = Prison::new(Level::Strong, user);
        // memfd_create, and then the pages that this process has mapped.
        let output = prison.run(
            "perl -e 'my $name = \"x\"; my $fd = syscall(319, $name, 0); open(my $f, \">&=\", $fd) or die; my $x = \"x\" x (1 << 20); \
             for (1 .. 200) { syswrite($f, $x) == 1 << 20 or die } open(my $own, \"<\", \"/proc/self/statm\"); \
             print +((split / /, <$own>)[1] * 4096 < (100 << 20)) ? \"unseen\" : \"seen\"'",
        );
        printed(&output) == "unseen"
    })
    .only(on_x86_64),
    strong("a swarm of processes, as root and without control groups", |user| {
        let prison = Prison::new(Level::Strong, user);
        let output = prison.run(
            "perl -e 'my $n = 0; while ($n < 8500) { my $p = fork; last unless defined $p; \
             if (!$p) { sleep 1000; exit } $n++ } print $n'",
        );
        printed(&output) == "8500"
    })
    .only(|user| {
        user == User::Same && rustix::process::geteuid().is_root() && has_room_for_a_swarm()
    }),
    strong("processor time", |user| {
        let prison = Prison::new(Level::Strong, user);
        printed(&prison.run("perl -e '1 while (times)[0] < 0.2; print \"spent\"'")) == "spent"
    }),
    strong("a full disk", |user| {
        let prison = Prison::new(Level::Strong, user);
        // More than the folders in memory hold together.
        let output = prison.run("fallocate -l 2G full && stat -c %s full; rm -f full");
        printed(&output).trim() == (2_u64 << 30).to_string()
    }),
    strong("what the owner grants by `read` and `write`", |user| {
        let prison = Prison::new(Level::Strong, user);
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![prison.path("real-home/.ssh")];
        sandbox.write.push(prison.path("beside"));
        let script = "cat $ROOT/real-home/.ssh/id_ed25519; echo x > $ROOT/beside/new";
        let output = prison.run_with(&sandbox, script);
        printed(&output).contains(SECRET) && prison.path("beside/new").exists()
    }),
    strong("commits of other runs of the repository", |user| {
        let prison = Prison::new(Level::Strong, user);
        let base = prison.path("beside/base");
        git(&prison.path("beside"), &["init", "-q", "base"]);
        git(&base, &["commit", "-q", "--allow-empty", "-m", SECRET]);
        let commit = git(&base, &["rev-parse", "HEAD"]);
        prison.own_all();
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![base.join(".git/objects")];
        let script = format!(
            "git init -q .; echo $ROOT/beside/base/.git/objects > .git/objects/info/alternates; git cat-file -p {commit}"
        );
        printed(&prison.run_with(&sandbox, &script)).contains(SECRET)
    }),
    strong("facts about the machine", |user| {
        let prison = Prison::new(Level::Strong, user);
        let output = prison.run("grep MemTotal /proc/meminfo; cat /proc/loadavg; grep ^root: /etc/passwd; ls /sys/devices/system/cpu");
        let text = printed(&output);
        ["MemTotal", "root:", "cpu0"].iter().all(|fact| text.contains(fact))
    }),
    landlock("ports of this machine and of its network", |user| {
        port_hears(&Prison::new(Level::Landlock, user))
    }),
    landlock("processes that outlive the program, without control groups", |user| {
        let prison = Prison::new(Level::Landlock, user);
        let output = prison.run("env -i setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! > pid; until [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done");
        assert!(output.status.success(), "{}", printed(&output));
        let pid = std::fs::read_to_string(prison.path("work/pid")).unwrap();
        let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
        // It lives on, until here.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).is_ok()
    }),
    landlock("a swarm of processes, without control groups", |user| {
        let prison = Prison::new(Level::Landlock, user);
        let output = prison.run(
            "perl -e 'my @all; while (@all < 8500) { my $p = fork; last unless defined $p; \
             if (!$p) { sleep 1000; exit } push @all, $p } print scalar @all; kill 9, @all'",
        );
        printed(&output) == "8500"
    })
    .only(|_| has_room_for_a_swarm()),
    landlock("System V objects of the user", |user| {
        let prison = Prison::new(Level::Landlock, user);
        let key = std::process::id().to_string();
        let mut outside = Command::new("perl");
        outside.args(["-e", "my $q = msgget(0x61660000 + $ENV{KEY}, 01600) // die; msgsnd($q, pack(\"l! a*\", 1, $ENV{TEXT}), 0) or die; print $q"]);
        prison.prepare(&mut outside);
        let queue = printed(&outside.env("KEY", &key).env("TEXT", SECRET).output().unwrap());
        let script = "perl -e 'my $text = \"\"; msgrcv($ENV{QUEUE}, $text, 100, 0, 0) and print $text; msgctl($ENV{QUEUE}, 0, 0)'";
        let mut inside = prison.command(&prison.sandbox(), &["sh", "-c", script]);
        printed(&inside.env("QUEUE", queue).output().unwrap()).contains(SECRET)
    }),
    landlock("priorities of the user's processes", |user| {
        let prison = Prison::new(Level::Landlock, user);
        let mut outside = Command::new("sleep");
        prison.prepare(outside.arg("1000"));
        let mut outside = outside.spawn().unwrap();
        let pid = outside.id();
        let nice = || {
            let pid = rustix::process::Pid::from_raw(pid.cast_signed());
            rustix::process::getpriority_process(pid).unwrap()
        };
        let before = nice();
        prison.run(&format!("perl -e 'setpriority(0, {pid}, 19)'"));
        let after = nice();
        outside.kill().unwrap();
        outside.wait().unwrap();
        before < after
    })
    // The processes of root have capabilities that the program lacks, and the kernel compares them.
    .only(|user| user == User::Ordinary || !rustix::process::geteuid().is_root()),
    landlock("that a file exists, its size, owner and times", |user| {
        let prison = Prison::new(Level::Landlock, user);
        printed(&prison.run("stat -c %s $ROOT/beside/key")) == format!("{}\n", SECRET.len() + 1)
    }),
    landlock("names of new files in folders that aren't granted", |user| {
        let prison = Prison::new(Level::Landlock, user);
        // inotify_init1, and inotify_add_watch for new files.
        let script = "perl -e 'my $fd = syscall(294, 0); syscall(254, $fd, \"$ENV{ROOT}/beside\", 0x100) < 0 and exit 1; \
            open(my $r, \">\", \"ready\"); close $r; open(my $f, \"<&=\", $fd); sysread($f, my $event, 4096); print $event'";
        let mut program = prison.command(&prison.sandbox(), &["sh", "-c", script]);
        let mut program = program.stdout(Stdio::piped()).spawn().unwrap();
        within(Duration::from_secs(30), "the program did not come", || {
            prison.path("work/ready").exists() || program.try_wait().unwrap().is_some()
        });
        std::fs::write(prison.path("beside/name-of-a-new-file"), "").unwrap();
        printed(&program.wait_with_output().unwrap()).contains("name-of-a-new-file")
    })
    .only(on_x86_64),
];

impl Permitted {
    const fn only(self, applies: fn(User) -> bool) -> Self {
        Self { applies, ..self }
    }
}

/// Whether this machine itself lets a user have the processes of a swarm.
fn has_room_for_a_swarm() -> bool {
    let most = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap_or_default();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nproc).current;
    most.trim().parse().unwrap_or(0) > 20_000 && limit.is_none_or(|limit| limit > 10_000)
}

fn kernel_is_before(major: u32, minor: u32) -> bool {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

/// Whether a byte has come to a socket.
fn hears(listener: &UnixListener) -> bool {
    listener.set_nonblocking(true).unwrap();
    let accepted = listener.accept();
    accepted.is_ok_and(|(mut stream, _)| stream.read(&mut [0]).is_ok_and(|read| read == 1))
}

/// Whether a script that connects to a socket beside the workspace reaches it.
fn connects(prison: &Prison, run: impl Fn(&str)) -> bool {
    let path = prison.path("beside/socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
    run(
        "perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un(\"$ENV{ROOT}/beside/socket\")) and syswrite(S, \"x\")'",
    );
    hears(&listener)
}

fn port_hears(prison: &Prison) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    prison.run(&format!(
        "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in({port}, inet_aton(\"127.0.0.1\")))'"
    ));
    listener.accept().is_ok()
}

/// An address of this machine that an owner may list, and the pattern for a port there.
fn listed(port: u16) -> Option<(std::net::SocketAddr, HostPattern)> {
    own_addresses().into_iter().find_map(|address| {
        let address = std::net::SocketAddr::new(address, port);
        // A port of the pattern can't be 0.
        let port = port.max(1);
        let shown = std::net::SocketAddr::new(address.ip(), port);
        Some((address, HostPattern::parse(&format!("private:{shown}")).ok()?))
    })
}

/// Whether an agent behind the proxy sends what it read to a host that the owner listed.
fn a_listed_host_hears() -> bool {
    let server = TcpListener::bind(listed(0).unwrap().0).unwrap();
    let host = server.local_addr().unwrap().to_string();
    let (_, pattern) = listed(server.local_addr().unwrap().port()).unwrap();
    let heard = std::thread::spawn(move || {
        let mut text = String::new();
        let (stream, _) = server.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.take(SECRET.len() as u64).read_to_string(&mut text).unwrap();
        text
    });
    let script = "perl -MSocket -e 'socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(3128, inet_aton(\"127.0.0.1\"))) or die; \
        syswrite(S, \"CONNECT $ENV{LISTED} HTTP/1.1\\r\\nHost: $ENV{LISTED}\\r\\n\\r\\n\"); sysread(S, my $answer, 1000); syswrite(S, $ENV{TEXT}); sysread(S, $answer, 1)'";
    let world = World::new(&format!("{script}\n{WORK}\n{END}")).walled();
    let mut config = world.config();
    config.sandbox.network = NetworkPolicy::Proxy;
    config.sandbox.hosts = vec![pattern];
    let agent = config.agents.get_mut("shell").unwrap();
    agent.set.insert("LISTED".into(), host.clone());
    agent.set.insert("TEXT".into(), SECRET.into());
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let runtime = world.try_start(config, None).await.unwrap();
        ended(&runtime).await;
        runtime.stop().await;
    });
    // Ends the wait of a server that nobody has called.
    let _ = std::net::TcpStream::connect(&host);
    heard.join().is_ok_and(|text| text == SECRET)
}

/// The names of docs/security.md for a level: each point up to its semicolon.
fn documented(level: Level) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/security.md");
    let text = std::fs::read_to_string(page).unwrap();
    let section = text.split("## What a level does not stop").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let points = section.split("\n- ").skip(1).map(|point| point.replace("\n  ", " "));
    let prefix = format!("`{level}`: ");
    let named = points.filter_map(|point| {
        let point = point.split("\n\n").next().unwrap_or_default();
        let name = point.strip_prefix(&prefix)?;
        Some(name.split(';').next().unwrap_or_default().trim().to_owned())
    });
    named.collect()
}

#[test]
fn what_a_level_does_not_stop_is_documented() {
    for level in [Level::Strong, Level::Landlock] {
        let rows = PERMITTED.iter().filter(|row| row.level == level).map(|row| row.name);
        let attacks = attacks::passing_landlock().filter(|_| level == Level::Landlock);
        let rows: BTreeSet<String> = rows.chain(attacks).map(str::to_owned).collect();
        assert_eq!(documented(level), rows, "{level}: the page, and the rows");
    }
}

#[test]
fn what_a_level_does_not_stop_succeeds() {
    let mut failed = Vec::new();
    for (level, user) in places() {
        for row in PERMITTED.iter().filter(|row| row.level == level && (row.applies)(user)) {
            if !(row.succeeds)(user) {
                failed.push(format!("{level} as {user:?}: {}", row.name));
            }
        }
    }
    assert!(failed.is_empty(), "stopped, and documented as not stopped: {failed:#?}");
}
