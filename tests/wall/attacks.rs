//! The table of attacks.

use std::io::Read;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use afk::sandbox::Level;

use crate::prison::{Prison, SECRET, User, places, printed};

/// An attack by a script, which prints [`SECRET`] or leaves the file `work/owned` where it
/// succeeds.
struct Attack {
    /// Its name here and in docs/security.md.
    name: &'static str,
    script: &'static str,
    /// Whether it succeeds without a wall, for the user of the tests. An attack that no user can
    /// make proves nothing about the wall, and is kept for what it tries.
    real: bool,
    /// Whether Landlock alone stops it.
    landlock_stops: bool,
}

const fn attack(name: &'static str, script: &'static str) -> Attack {
    Attack { name, script, real: true, landlock_stops: true }
}

/// What each attack runs. `$ROOT` is the folder of the prison; the workspace is the working folder.
const ATTACKS: &[Attack] = &[
    attack("a file beside the workspace", "cat $ROOT/beside/key"),
    attack("a key in the user's home", "cat $ROOT/real-home/.ssh/id_ed25519"),
    attack("a link to a file beside the workspace", "ln -s $ROOT/beside/key link; cat link"),
    attack("a hard link to a file beside the workspace", "ln $ROOT/beside/key hard && cat hard"),
    attack(
        "a hard link by a folder that is a link every other moment",
        "mkdir own; echo own > own/key; ln -s $ROOT/beside link; cp -rP own folder; perl -e 'my $child = fork; while (!$child) { rename \"folder\", \"aside\"; rename \"link\", \"folder\"; rename \"folder\", \"link\"; rename \"aside\", \"folder\" } for (1 .. 20000) { link(\"folder/key\", \"hard\") or next; open my $f, \"<\", \"hard\"; my $text = <$f> // \"\"; unlink \"hard\"; if ($text =~ /the-text/) { print $text; last } } kill 9, $child; waitpid $child, 0'",
    ),
    attack("a write beside the workspace", "echo x > $ROOT/beside/new && touch owned"),
    attack(
        "a file by another process's root",
        "for p in /proc/[0-9]*; do cat $p/root$ROOT/beside/key; done 2>/dev/null",
    ),
    attack(
        "a file by another process's working folder",
        "for p in /proc/[0-9]*; do cat $p/cwd/../beside/key; done 2>/dev/null",
    ),
    attack(
        "the environment of another process",
        "cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | grep the-text",
    ),
    attack(
        "the memory of another process",
        "perl -e 'for (glob \"/proc/[0-9]*/mem\") { print \"open $_\\n\" if open my $f, \"+<\", $_ and $_ ne \"/proc/$$/mem\" and !own($_) } sub own { my ($p) = $_[0] =~ /(\\d+)/; open my $s, \"<\", \"/proc/$p/environ\" or return 1; my $e = <$s> // \"\"; $e !~ /the-text/ }' | grep -q open && touch owned",
    ),
    attack("a signal to another process", "for p in $(cat canary); do kill -TERM $p; done"),
    Attack {
        name: "a socket in the file system",
        script: "perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, sockaddr_un(\"$ENV{ROOT}/beside/socket\")) and syswrite(S, \"x\")'",
        real: true,
        landlock_stops: false,
    },
    attack(
        "an abstract socket",
        "perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); connect(S, pack(\"Sa*\", PF_UNIX, \"\\0afk-wall-\" . $ENV{PORT})) and syswrite(S, \"x\")'",
    ),
    Attack {
        name: "the mode of a file that the user owns",
        script: "chmod 606 $ROOT/beside/key && test \"$(stat -c %a $ROOT/beside/key)\" = 606 && touch owned",
        real: true,
        landlock_stops: false,
    },
    attack("a setuid file", "cp /bin/true s && chmod 4755 s && test -u s && touch owned"),
    Attack {
        name: "the mode of afk's own file",
        script: "for p in 1 $PPID; do chmod 4755 /proc/$p/exe 2>/dev/null && touch owned; done; true",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "a limit of another process",
        script: "perl -e 'my $l = pack(\"QQ\", 1, 1); exit(syscall(302, $ARGV[0] + 0, 0, $l, 0) != 0)' $(cat canary) && touch owned",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "the mode of a device",
        script: "before=$(stat -c %a /dev/full); chmod 1666 /dev/full 2>/dev/null; test \"$(stat -c %a /dev/full)\" = \"$before\" || { chmod $before /dev/full; touch owned; }",
        real: false,
        landlock_stops: false,
    },
    Attack {
        name: "a nested user namespace",
        script: "unshare -U true && touch owned",
        real: true,
        landlock_stops: true,
    },
    Attack {
        name: "a mount",
        script: "mount -t tmpfs x . && touch owned",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "a kernel setting",
        script: "echo x > /proc/sys/kernel/core_pattern && touch owned; echo x > /proc/sys/vm/swappiness && touch owned; echo 1 > /proc/sys/kernel/sysrq && touch owned",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "the passwords of this machine",
        script: "grep -q : /etc/shadow && touch owned",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "a file in a folder of the system",
        script: "touch /usr/local/afk-was-here && touch owned; rm -f /usr/local/afk-was-here",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "services of this machine",
        script: "for s in /run/docker.sock /run/podman/podman.sock /run/systemd/private /run/dbus/system_bus_socket /var/run/docker.sock /run/containerd/containerd.sock; do test -S $s && perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0); exit !connect(S, sockaddr_un(shift))' $s && touch owned; done; echo 'touch /tmp/owned' | at now 2>/dev/null && touch owned; echo '* * * * * true' | crontab - 2>/dev/null && touch owned; true",
        real: false,
        landlock_stops: true,
    },
    Attack {
        name: "a disk of this machine",
        script: "for d in /dev/vda /dev/sda /dev/nvme0n1 /dev/mem /dev/kmsg; do head -c 1 $d >/dev/null 2>&1 && touch owned; done; mknod disk b 253 0 && touch owned; true",
        real: false,
        landlock_stops: true,
    },
];

/// Runs a whole attack at one place and says whether it had its effect.
fn succeeds(attack: &Attack, level: Level, user: User) -> bool {
    let prison = Prison::new(level, user);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    let socket = UnixListener::bind(prison.path("beside/socket")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(prison.path("beside/socket"), mode).unwrap();
    let name = format!("afk-wall-{port}");
    let name = <SocketAddr as SocketAddrExt>::from_abstract_name(name).unwrap();
    let abstract_socket = UnixListener::bind_addr(&name).unwrap();
    let mut canary = Command::new("sleep");
    canary.arg("1000");
    prison.prepare(&mut canary);
    canary.env("CANARY", SECRET).stdout(Stdio::null());
    let mut canary = canary.spawn().unwrap();
    std::fs::write(prison.path("work/canary"), canary.id().to_string()).unwrap();
    let run = |mut command: Command| command.env("PORT", &port).output().unwrap();
    let output = if level == Level::None {
        let mut command = Command::new("sh");
        command.args(["-c", attack.script]);
        prison.prepare(&mut command);
        run(command)
    } else {
        run(prison.command(&prison.sandbox(), &["sh", "-c", attack.script]))
    };
    let code = output.status.code();
    assert_ne!(code, Some(125), "{}: {}", attack.name, printed(&output));
    let mut heard = false;
    tcp.set_nonblocking(true).unwrap();
    heard |= tcp.accept().is_ok();
    for listener in [&socket, &abstract_socket] {
        listener.set_nonblocking(true).unwrap();
        if let Ok((mut stream, _)) = listener.accept() {
            let mut byte = [0];
            heard |= stream.read(&mut byte).is_ok_and(|read| read == 1);
        }
    }
    let killed = canary.try_wait().unwrap().is_some();
    canary.kill().unwrap();
    canary.wait().unwrap();
    printed(&output).contains(SECRET)
        || prison.path("work/owned").exists()
        || prison.path("beside/new").exists()
        || heard
        || killed
}

#[test]
fn attacks_are_real_without_a_wall() {
    for attack in ATTACKS.iter().filter(|attack| attack.real) {
        // A signal takes a moment to end its process.
        let end = Instant::now() + Duration::from_secs(10);
        while !succeeds(attack, Level::None, User::Same) {
            assert!(Instant::now() < end, "{} has no effect without a wall", attack.name);
        }
    }
}

#[test]
fn strong_wall_stops_every_attack() {
    for (level, user) in places() {
        if level == Level::Strong {
            for attack in ATTACKS {
                assert!(!succeeds(attack, level, user), "{} as {user:?}", attack.name);
            }
        }
    }
}

#[test]
fn landlock_stops_what_the_documentation_says() {
    for (level, user) in places() {
        if level == Level::Landlock {
            for attack in ATTACKS.iter().filter(|attack| attack.landlock_stops) {
                assert!(!succeeds(attack, level, user), "{} as {user:?}", attack.name);
            }
        }
    }
}

/// The attacks that Landlock alone lets through, for docs/security.md.
pub fn passing_landlock() -> impl Iterator<Item = &'static str> {
    ATTACKS.iter().filter(|attack| !attack.landlock_stops).map(|attack| attack.name)
}

#[test]
fn what_landlock_does_not_stop_succeeds() {
    for (level, user) in places() {
        let root = user == User::Same && rustix::process::geteuid().is_root();
        let passing = ATTACKS.iter().filter(|attack| !attack.landlock_stops);
        // An attack that no ordinary user can make is one of root.
        for attack in passing.filter(|attack| attack.real || root) {
            if level == Level::Landlock {
                assert!(succeeds(attack, level, user), "{} as {user:?}", attack.name);
            }
        }
    }
}

#[test]
fn system_calls_that_reach_around_the_wall_are_refused() {
    if !cfg!(target_arch = "x86_64") {
        eprintln!("!!! SKIPPED: the numbers of these system calls are those of x86-64");
        return;
    }
    // ptrace, process_vm_readv, mount, pivot_root, unshare(NEWUSER), setns, keyctl, bpf,
    // userfaultfd, io_uring_setup, open_by_handle_at, perf_event_open, chroot, ioctl(TIOCSTI), and
    // mount in its x32 form.
    let script = r#"perl -e '
for ([101,16,1], [310,1,0], [165,0,0], [155,0,0], [272,0x10000000,0], [308,0,0], [250,0,0],
     [321,0,0], [323,0,0], [425,1,0], [304,0,0], [298,0,0], [161,0,0], [16,0,0x5412],
     [165 + 0x40000000,0,0]) {
    my $result = syscall($_->[0], $_->[1], $_->[2], 0, 0, 0, 0);
    print "$_->[0]:", $result, ":", $! + 0, "\n";
}'"#;
    for (level, user) in places() {
        let prison = Prison::new(level, user);
        let output = prison.run(script);
        let lines: Vec<String> = printed(&output).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 15, "{lines:?}");
        for line in lines {
            assert!(line.ends_with(":-1:1"), "{level} {user:?}: {line}");
        }
    }
}

#[test]
fn program_has_no_capability_and_works_in_its_workspace() {
    for (level, user) in places() {
        let prison = Prison::new(level, user);
        let output = prison.run(
            "grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status; echo made > made; \
             echo x > \"$HOME/x\" && echo x > \"${TMPDIR:-/tmp}/y\" && git init -q repository && echo works",
        );
        let text = printed(&output);
        assert!(text.contains("works"), "{level} {user:?}: {text}");
        assert!(text.contains("NoNewPrivs:\t1"), "{text}");
        if level == Level::Strong {
            assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
            assert!(text.contains("CapBnd:\t0000000000000000"), "{text}");
        }
        assert_eq!(std::fs::read_to_string(prison.path("work/made")).unwrap(), "made\n");
        assert!(prison.path("home/x").exists() && prison.path("tmp/y").exists());
        assert!(!prison.path("real-home/x").exists());
    }
}

#[test]
fn link_in_a_home_leads_the_launcher_nowhere() {
    for (level, user) in places() {
        let prison = Prison::new(level, user);
        std::fs::create_dir_all(prison.path("real-home/.tool/bin")).unwrap();
        std::os::unix::fs::symlink(prison.path("beside"), prison.path("home/.tool")).unwrap();
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![prison.path("real-home/.tool/bin")];
        let output = prison.run_with(&sandbox, "true");
        assert!(!prison.path("beside/bin").exists(), "{}", printed(&output));
        if level == Level::Strong {
            assert_eq!(output.status.code(), Some(125), "{}", printed(&output));
        }
    }
}

#[test]
fn hidden_folder_stays_hidden_around_what_is_granted_below_it() {
    for (level, user) in places() {
        if level != Level::Strong {
            continue;
        }
        let prison = Prison::new(level, user);
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![prison.path("")];
        sandbox.hidden = vec![prison.path("")];
        let output = prison.run_with(
            &sandbox,
            "touch ok; ls $ROOT; ls -A $ROOT/beside; cat $ROOT/beside/key; touch $ROOT/new",
        );
        let text = printed(&output);
        assert!(!text.contains(SECRET), "{text}");
        assert!(prison.path("work/ok").exists() && !prison.path("new").exists(), "{text}");
    }
}

#[test]
fn file_that_the_starter_of_afk_left_open_is_closed() {
    for (level, user) in places() {
        let prison = Prison::new(level, user);
        let inner = prison.command(&prison.sandbox(), &["sh", "-c", "echo ran; cat <&9; cat <&14"]);
        let mut starter = Command::new("bash");
        starter.args([
            "-c",
            "exec 9< $ROOT/beside/key 14< $ROOT/real-home/.ssh/id_ed25519; exec \"$@\"",
            "bash",
        ]);
        starter.arg(inner.get_program()).args(inner.get_args());
        prison.prepare(&mut starter);
        let output = starter.output().unwrap();
        let text = printed(&output);
        assert!(text.contains("ran") && !text.contains(SECRET), "{level} {user:?}: {text}");
    }
}

#[test]
fn link_that_races_with_the_launcher_leads_it_nowhere() {
    for (level, user) in places() {
        if level != Level::Strong {
            continue;
        }
        let prison = Prison::new(level, user);
        let (tool, link, aside) = ("home/.tool", "home/link", "home/aside");
        std::fs::create_dir_all(prison.path("real-home/.tool/bin")).unwrap();
        std::fs::create_dir_all(prison.path(tool)).unwrap();
        std::os::unix::fs::symlink(prison.path("beside"), prison.path(link)).unwrap();
        prison.own_all();
        let mut sandbox = prison.sandbox();
        sandbox.read = vec![prison.path("real-home/.tool/bin")];
        let over = AtomicBool::new(false);
        let swap = |from: &str, to: &str| {
            // Between two of its steps the launcher may have made the other name.
            let _ = std::fs::rename(prison.path(from), prison.path(to));
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for (from, to) in [(tool, aside), (link, tool), (tool, link), (aside, tool)] {
                        swap(from, to);
                    }
                }
            });
            for _ in 0..30 {
                let output =
                    prison.run_with(&sandbox, "cat ~/.tool/key ~/link/key $ROOT/beside/key");
                let leaked = printed(&output).contains(SECRET);
                over.fetch_or(leaked, Ordering::Relaxed);
                assert!(!leaked, "{user:?}: {}", printed(&output));
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(!prison.path("beside/bin").exists(), "{user:?}");
    }
}
