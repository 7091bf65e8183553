//! The causes that make a verb end in another way than it usually does: each is reported before the VM's
//! name is typed, and with the result. The hypervisor is OpenSSH's server with the shipped forced command.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use rustix::fs::{FlockOperation, flock};

use crate::breakglass::{afk, both, world};
use crate::support::pve::{Pve, wait_for};
use crate::support::text;
use crate::support::world::World;

/// A mutating verb after a status, and what afk reported beside the host's output.
struct Attempt {
    out: Output,
    /// The lines that stood before the verb began, among them those before the question for the name.
    before: String,
    /// The result and the lines after it.
    after: String,
}

impl Attempt {
    fn run(world: &World, verb: &str) -> Self {
        let look = afk(world, &["status", "--arm", "look"]);
        assert!(look.status.success(), "{}", both(&look));
        let out = afk(world, &[verb, "--arm", "it hangs", "--confirm", "devvm"]);
        let printed = text(&out.stderr);
        let is_result =
            |line: &&str| line.contains(&format!(" {verb}: ")) && line.contains(" after ");
        let result = printed.lines().find(is_result);
        let result = result.unwrap_or_else(|| panic!("no result: {}", both(&out))).to_owned();
        let (before, after) = printed.split_once(&result).unwrap();
        let (before, after) = (before.to_owned(), result + after);
        Self { out, before, after }
    }

    fn expect_before(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.before.contains(part), "{part} is missing before: {}", both(&self.out));
        }
    }

    fn expect_after(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.after.contains(part), "{part} is missing after: {}", both(&self.out));
        }
    }
}

fn in_ha(pve: &Pve, state: &str) -> String {
    format!("quorum OK\nservice vm:{} (pve1, {state})\n", pve.port)
}

#[test]
fn lost_quorum_is_reported_before_and_after_the_cycle_that_can_not_start() {
    let Some((world, pve)) = world("") else { return };
    pve.set("ha", "quorum No quorum on node 'pve1'!\n");
    pve.set("fail-start", "cluster not ready - no quorum?");
    let cycle = Attempt::run(&world, "cycle");
    assert_eq!(cycle.out.status.code(), Some(1), "{}", both(&cycle.out));
    cycle.expect_before(&["warning: the cluster has no quorum: qm start fails until it has one"]);
    cycle.expect_after(&[
        "cycle: failed, exit code 5",
        "devvm reads stopped",
        "warning: the cluster has no quorum",
        "warning: qm refused: the cluster has no quorum",
    ]);
    assert_eq!(pve.actions(), ["stop", "start"]);
}

#[test]
fn ha_in_the_error_state_is_reported_before_and_after_the_cycle_that_it_refuses() {
    let Some((world, pve)) = world("") else { return };
    pve.set("ha", &in_ha(&pve, "error"));
    let refusal =
        format!("service 'vm:{}' in error state, must be disabled and fixed first", pve.port);
    pve.set("fail-stop", &refusal);
    pve.set("fail-start", &refusal);
    let cycle = Attempt::run(&world, "cycle");
    assert_eq!(cycle.out.status.code(), Some(1), "{}", both(&cycle.out));
    let known = ["holds it in the state error (pve1, error)", "--state disabled"];
    cycle.expect_before(&known);
    cycle.expect_after(&known);
    cycle.expect_after(&[
        "cycle: failed, exit code 5",
        "devvm reads stopped",
        "warning: qm refused: HA holds the VM in the state error",
    ]);
    assert_eq!(pve.actions(), ["stop", "unlock", "start"]);
}

#[test]
fn lock_that_a_task_of_qm_holds_is_reported_before_and_after_the_reset_that_gives_up() {
    let Some((world, pve)) = world("") else { return };
    let lock = std::fs::File::create(pve.path(&format!("run/lock-{}.conf", pve.port))).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    pve.set("fail-reset", "can't lock file '/var/lock/qemu-server/lock-102.conf' - got timeout");
    let reset = Attempt::run(&world, "reset");
    assert_eq!(reset.out.status.code(), Some(1), "{}", both(&reset.out));
    reset.expect_before(&["warning: a task of qm holds the lock of the VM"]);
    reset.expect_after(&[
        "reset: failed, exit code 5",
        "devvm reads running",
        "warning: qm did not get the lock of the VM in time",
    ]);
    // The lock is free again, and so the next prompt has no warning.
    drop(lock);
    pve.unset("fail-reset");
    let reset = Attempt::run(&world, "reset");
    assert!(
        reset.out.status.success() && !reset.before.contains("warning"),
        "{}",
        both(&reset.out)
    );
    assert_eq!(pve.actions(), ["reset", "reset"]);
}

/// A stand-in for QEMU whose process waits in the kernel, in state D: the parent of a vfork does, until
/// its child ends. The number is that of the system call on x86-64.
const IN_THE_KERNEL: &str = "#!/usr/bin/perl\nsyscall(58);\nsleep 1 while 1;\n";

#[test]
fn qemu_that_can_not_die_is_reported_before_and_after_the_cycle_and_not_started() {
    if !cfg!(target_arch = "x86_64") || !std::path::Path::new("/usr/bin/perl").exists() {
        eprintln!("!!! SKIPPED: the stand-in for a hanging QEMU needs perl and x86-64");
        return;
    }
    let Some((world, pve)) = world("") else { return };
    pve.qm(&["stop"]);
    pve.set("kvm", IN_THE_KERNEL);
    pve.qm(&["start"]);
    let pid = pve.pid();
    wait_for("the wait in the kernel", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.contains(") D ")
    });
    pve.set("wedged", "");
    // A signal reaches such a process only once its wait ends. The wait of this stand-in would end by the
    // signal itself, so the script sends none.
    let script = std::fs::read_to_string(pve.path("afk-pve")).unwrap();
    let deaf = script.replacen("kill -KILL \"$pid\"\n", "true \"$pid\"\n", 1);
    assert_ne!(deaf, script);
    std::fs::write(pve.path("afk-pve"), deaf).unwrap();
    let mode = std::fs::metadata(pve.path("afk-pve")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    pve.set("calls", "\n");
    let cycle = Attempt::run(&world, "cycle");
    assert_eq!(cycle.out.status.code(), Some(1), "{}", both(&cycle.out));
    let waits =
        format!("warning: QEMU's process {pid} waits in the kernel (thread {pid} is in state D)");
    cycle.expect_before(&[&waits]);
    cycle.expect_after(&[
        "cycle: failed, exit code 1",
        "devvm reads running",
        &waits,
        &format!("warning: QEMU's process {pid} can't die (state D)"),
    ]);
    assert!(text(&cycle.out.stderr).contains("it was NOT started"), "{}", both(&cycle.out));
    assert_eq!(pve.actions(), ["stop", "unlock"]);
}

#[test]
fn cycle_is_done_only_once_the_vm_reads_running() {
    let Some((world, pve)) = world("") else { return };
    pve.set("ha", &in_ha(&pve, "started"));
    // HA carries both requests out some time after it has answered them.
    pve.set("ha-follows", "");
    let old = pve.pid();
    let cycle = Attempt::run(&world, "cycle");
    assert!(cycle.out.status.success(), "{}", both(&cycle.out));
    let managed = "warning: HA manages the VM (pve1, started)";
    cycle.expect_before(&[managed]);
    cycle.expect_after(&["cycle: exit code 0", "devvm reads running", managed]);
    assert!(pve.qm(&["status"]).ends_with("running") && pve.pid() != old);
    // It takes note of both, and does nothing.
    pve.unset("ha-follows");
    let cycle = Attempt::run(&world, "cycle");
    assert_eq!(cycle.out.status.code(), Some(1), "{}", both(&cycle.out));
    cycle.expect_after(&["qm reported success, and the VM did not follow", "devvm reads stopped"]);
}
