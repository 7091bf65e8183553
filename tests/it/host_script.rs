//! The hypervisor's forced command behind a real OpenSSH server, against each requirement of
//! docs/breakglass.md (H1 to H12).

use std::process::Stdio;

use crate::support::pve::{Pve, wait_for};
use crate::support::text;

fn host() -> Option<(tempfile::TempDir, Pve)> {
    let dir = tempfile::tempdir().unwrap();
    let pve = Pve::start(dir.path())?;
    Some((dir, pve))
}

#[test]
fn each_verb_acts_after_its_forensics() {
    let Some((_dir, pve)) = host() else { return };
    let looks =
        ["status", "config", "pending", "agent", "monitor", "monitor", "monitor", "monitor"];
    let out = pve.verb("status");
    assert_eq!(out.status.code(), Some(0));
    let printed = text(&out.stdout);
    assert!(printed.contains("\nstatus: running\nlast none\n"), "{printed}");
    let out = pve.verb("forensics");
    let printed = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{printed}");
    for part in ["name: devvm", "ping ok", "qm> info blockstats", "QEMU process", "Threads:"] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    assert!(printed.matches("(step ended with rc=0)").count() >= 10, "{printed}");
    for (verb, actions) in [
        ("reset", &["reset"][..]),
        ("stop", &["stop"]),
        ("start", &["start"]),
        ("cycle", &["stop", "start"]),
    ] {
        pve.unset("calls");
        pve.set("calls", "\n");
        let before = std::fs::read_to_string(pve.pid_file()).unwrap_or_default();
        let out = pve.verb(verb);
        let printed = text(&out.stdout);
        assert_eq!(out.status.code(), Some(0), "{verb}: {printed}{}", text(&out.stderr));
        let calls = pve.calls();
        let words: Vec<&str> = calls.iter().map(|c| c.split(' ').next().unwrap()).collect();
        assert_eq!(words[..looks.len()], looks, "{verb}");
        assert_eq!(pve.actions(), actions, "{verb}");
        assert!(
            printed.contains("=== end of forensics") && printed.contains("the VM reads: "),
            "{printed}"
        );
        // A reset keeps the process; a cycle replaces it.
        let after = std::fs::read_to_string(pve.pid_file()).unwrap_or_default();
        assert_eq!(before == after, verb == "reset", "{verb}");
    }
    let printed = text(&pve.verb("status").stdout);
    assert!(
        printed.contains("verb=cycle") && printed.contains("state=ended rc=0 reads=running"),
        "{printed}"
    );
}

#[test]
fn forced_command_takes_six_verbs_and_escapes_anything_else() {
    let Some((_dir, pve)) = host() else { return };
    let calls = pve.calls();
    for request in [
        "",
        " status",
        "status ",
        "status\n",
        "status;id",
        "cycle 103",
        "Status",
        "$(id)",
        "\u{1b}]0;x\u{7}\u{1b}[31mred",
        "status\nend verb=cycle rc=0",
        "--worker",
    ] {
        let out = pve.ssh("verbs", &[request]).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "{request:?}: {}", text(&out.stderr));
        let printed = text(&out.stderr) + &text(&out.stdout);
        assert!(
            printed.contains("refused: not one of") && !printed.contains('\u{1b}'),
            "{printed:?}"
        );
    }
    // A terminal, a shell and forwarding are refused as well.
    let out = pve.ssh("verbs", &[]).arg("-tt").output().unwrap();
    assert_ne!(out.status.code(), Some(0));
    assert_eq!(pve.calls(), calls, "qm was asked");
    let log = pve.log();
    assert_eq!(
        log.lines().count(),
        log.lines().filter(|l| l.contains(" refused request=")).count()
    );
    assert!(
        log.lines().all(|line| line.starts_with("20") && line.contains("from=127.0.0.1")),
        "{log}"
    );
    assert!(log.contains("hex=7374617475733b6964"), "{log}");
    assert!(!log.contains('\u{1b}'));
}

#[test]
fn host_runs_one_action_at_a_time_and_reads_meanwhile() {
    let Some((_dir, pve)) = host() else { return };
    pve.set("hang-pending", "");
    let children: Vec<_> = (0..3)
        .map(|_| {
            let mut ssh = pve.ssh("verbs", &["cycle"]);
            ssh.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    wait_for("the first", || pve.path("run/afk-pve.last").exists());
    let read = pve.verb("status");
    assert_eq!(read.status.code(), Some(0));
    let outs: Vec<_> =
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let mut codes: Vec<_> = outs.iter().map(|out| out.status.code().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 75, 75]);
    let busy = outs.iter().find(|out| out.status.code() == Some(75)).unwrap();
    assert!(text(&busy.stderr).contains("busy: another action is under way: last request="));
    assert_eq!(pve.actions(), ["stop", "start"]);
    // The lock ended with its holder; QEMU did not inherit it.
    pve.unset("hang-pending");
    assert_eq!(pve.verb("cycle").status.code(), Some(0));
}

#[test]
fn action_survives_a_cut_link_and_its_result_is_readable() {
    let Some((_dir, pve)) = host() else { return };
    // Slow forensics, so that the cut comes in the middle.
    pve.set("hang-config", "");
    pve.set("hang-agent", "");
    let old = pve.pid();
    let mut child = pve.ssh("verbs", &["cycle"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the cycle", || pve.path("run/afk-pve.last").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    let mut printed = String::new();
    wait_for("its end", || {
        printed = text(&pve.verb("status").stdout);
        printed.contains("state=ended")
    });
    assert!(printed.contains("verb=cycle") && printed.contains("rc=0 reads=running"), "{printed}");
    assert_eq!(
        (pve.actions(), pve.qm(&["status"])),
        (vec!["stop".into(), "start".into()], "status: running".into())
    );
    assert_ne!(pve.pid(), old);
    let printed = text(&pve.verb("forensics").stdout);
    assert!(
        printed.contains("=== what the last action said")
            && printed.contains("cycle ended with rc=0")
    );
}

#[test]
fn hanging_step_is_cut_and_reported() {
    let Some((_dir, pve)) = host() else { return };
    for step in ["status", "config", "pending", "agent", "monitor"] {
        pve.set(&format!("hang-{step}"), "");
    }
    let out = pve.verb("forensics");
    let printed = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(printed.matches("(step ended with rc=124)").count(), 8, "{printed}");
    assert_eq!(pve.verb("status").status.code(), Some(124));
    for step in ["config", "pending", "agent", "monitor", "status"] {
        pve.unset(&format!("hang-{step}"));
    }
    // A hanging stop is cut as well, and the process is killed.
    pve.set("hang-stop", "");
    let old = pve.pid();
    let out = pve.verb("cycle");
    let printed = text(&out.stdout);
    assert_eq!(out.status.code(), Some(0), "{printed}");
    assert!(printed.contains(&format!("killed process {old}")), "{printed}");
    assert_eq!(pve.actions(), ["stop", "unlock", "start"]);
}

#[test]
fn kill_hits_only_the_process_of_its_vm() {
    let Some((_dir, pve)) = host() else { return };
    let spawn = |id: &str, socket: &str| {
        std::process::Command::new(pve.path("kvm"))
            .args(["-id", id, "-chardev"])
            .arg(format!("socket,path={}/run/{socket}.qmp,server=on", pve.path("").display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    // Two similar processes, one with the number in another place, and a stale pid file.
    let vm = pve.port.to_string();
    let mut others = vec![spawn(&format!("{vm}1"), &format!("{vm}1")), spawn("10", &vm)];
    others.push(
        std::process::Command::new(pve.path("kvm"))
            .args(["x", &format!("-id {vm} {vm}.qmp")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let real = pve.pid();
    pve.set("wedged", "");
    std::fs::write(pve.pid_file(), others[2].id().to_string()).unwrap();
    let out = pve.verb("cycle");
    let printed = text(&out.stdout) + &text(&out.stderr);
    assert!(printed.contains(&format!("killed process {real}")), "{printed}");
    for other in &mut others {
        assert!(other.try_wait().unwrap().is_none(), "an innocent process was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

#[test]
fn vm_that_did_not_stop_is_not_started() {
    let Some((_dir, pve)) = host() else { return };
    // The stop does nothing, and no process can be identified as this VM's QEMU.
    pve.set("wedged", "");
    let real = pve.pid();
    let strange = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    std::fs::write(pve.pid_file(), strange.id().to_string()).unwrap();
    let pid = rustix::process::Pid::from_raw(real).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    let out = pve.verb("cycle");
    let printed = text(&out.stdout) + &text(&out.stderr);
    let mut strange = strange;
    assert!(strange.try_wait().unwrap().is_none());
    strange.kill().unwrap();
    strange.wait().unwrap();
    assert_eq!(out.status.code(), Some(1), "{printed}");
    assert!(printed.contains("it was NOT started"), "{printed}");
    assert!(!pve.actions().contains(&"start".to_owned()));
    let last = text(&pve.verb("status").stdout);
    assert!(last.contains("state=ended rc=1"), "{last}");
}

#[test]
fn failed_action_reports_its_code_and_the_vm_status() {
    let Some((_dir, pve)) = host() else { return };
    pve.set("fail-start", "no room");
    let out = pve.verb("cycle");
    assert_eq!(out.status.code(), Some(5));
    let printed = text(&out.stderr);
    assert!(printed.contains("cycle failed with rc=5; the VM reads: stopped"), "{printed}");
}

#[test]
fn unwritable_log_is_reported_and_blocks_no_verb() {
    let Some((_dir, pve)) = host() else { return };
    std::fs::create_dir(pve.path("log")).unwrap();
    let out = pve.verb("cycle");
    assert_eq!(out.status.code(), Some(0));
    let printed = text(&out.stderr);
    assert!(
        printed.contains("can't be written") && printed.contains("they are kept in"),
        "{printed}"
    );
    assert_eq!(pve.actions(), ["stop", "start"]);
}

#[test]
fn log_holds_forensics_line_by_line_after_their_request() {
    let Some((_dir, pve)) = host() else { return };
    pve.set("more", "x\n2026-01-01T00:00:00Z end request=forged rc=0\n\u{1b}[2J");
    assert_eq!(pve.verb("reset").status.code(), Some(0));
    let log = pve.log();
    assert!(log.contains(" | qm> info block"), "{log}");
    assert!(!log.contains('\u{1b}'));
    let forged = log.lines().find(|line| line.contains("forged")).unwrap();
    assert!(forged.contains(" | 2026-01-01"), "{forged}");
    let end = log.lines().last().unwrap();
    assert!(
        end.contains(" end request=")
            && end.contains("verb=reset")
            && end.contains("rc=0 seconds="),
        "{end}"
    );
}

#[test]
fn expired_key_is_refused_and_the_callers_environment_is_ignored() {
    let Some((_dir, pve)) = host() else { return };
    let refused = pve.ssh("expired", &["status"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(255));
    // The caller's environment does not reach the forced command.
    let mut ssh = pve.ssh_with(&["-o", "SendEnv=BREAKGLASS_VMID"], "verbs", &["status"]);
    let out = ssh.env("BREAKGLASS_VMID", "1").output().unwrap();
    assert_eq!(out.status.code(), Some(0));
    let own = format!(" {}", pve.port);
    assert!(pve.calls().contains(&format!("status{own}")));
    assert!(pve.calls().iter().all(|call| call.ends_with(&own)), "{:?}", pve.calls());
}

#[test]
fn installer_passes_a_shell_syntax_check() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("k");
    crate::support::pve::key(&key, "ed25519");
    let public = format!("{}.pub", key.display());
    let args = ["breakglass", "install-host", "--print", "--key", &public, "--from", "192.0.2.7"];
    let out = crate::support::afk(&args).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let path = dir.path().join("install.sh");
    std::fs::write(&path, &out.stdout).unwrap();
    let read = std::process::Command::new("sh").arg("-n").arg(&path).status().unwrap();
    assert!(read.success());
    let printed = text(&out.stdout);
    assert!(
        printed.contains(
            "command=\"/usr/local/sbin/afk-pve\",restrict,from=\"192.0.2.7\" ssh-ed25519"
        )
    );
    assert!(printed.contains(afk::breakglass::host::SCRIPT));
}
