//! Mounts: those of the wall and of a program stay inside, and later ones outside stay out.

use std::process::{Command, Stdio};

use afk::sandbox::Level;

use crate::ends::strong;
use crate::prison::{ORDINARY, Prison, SECRET, User, printed};

/// Shell: every way to a mount that a program could try. `m` is an empty folder.
const ATTEMPTS: &str = r#"
mkdir m; PATH=$PATH:/usr/sbin
mount -t tmpfs x m; mount -t proc x m; mount --bind /etc m; mount --bind $ROOT m
mount -o remount,rw /; mount -o remount,rw /usr; mount -o remount,bind,rw /proc
mount --make-rshared /; mount --make-rshared .
umount -l /etc/shadow; umount -l /etc/ssh; umount -l /tmp; umount -l .; umount -l /
for how in -m -Um -Urm '-Urm --propagation shared' '-Urm --propagation slave' '-Urmpf --mount-proc'; do
    unshare $how sh -c 'mount -t tmpfs x m && touch m/inside && echo MOUNTED; umount -l /etc/shadow /etc/ssh && echo UNMOUNTED'
done
for p in 1 $PPID; do nsenter -t $p -m true && echo ENTERED; nsenter -t $p -U -m true && echo ENTERED; done
# open_tree(CLONE), fsopen, fsmount, move_mount, mount_setattr, and a root by its name.
perl -e '
my ($at, $empty, $here, $tmpfs) = (-100, "", ".", "tmpfs");
for ([428, $at, $here, 1], [430, $tmpfs, 0], [442, $at, $here, 0, pack("QQQQ", 0, 0, 1 << 20, 0), 32], [161, $here]) {
    my $result = syscall($_->[0], @{$_}[1 .. $#$_]);
    print "CALLED $_->[0]\n" if $result >= 0 and $_->[0] != 161; print "CHROOT\n" if $_->[0] == 161 and $result == 0;
}'
grep : /etc/shadow && echo SHADOW
touch m/seen-outside
"#;

#[test]
fn mounts_go_neither_out_nor_in() {
    let root = rustix::process::geteuid().is_root();
    for user in strong() {
        let prison = Prison::new(Level::Strong, user);
        let plan = serde_json::to_string(&prison.sandbox()).unwrap();
        let program = format!(
            "cat /proc/self/mountinfo > own-before\n({ATTEMPTS}) 2>/dev/null\ncat /proc/self/mountinfo > own-after\n\
             mkdir later; touch ready; until [ -e go ]; do :; done\nls later; cat later/key 2>/dev/null"
        );
        // A mount namespace whose mounts all propagate, as on most machines, and in it the launcher
        // and, once its program runs, a mount below the workspace and another one elsewhere.
        let outside = "
            cat /proc/self/mountinfo > before
            (cd work; exec $AS \"$ROOT/afk\" __launch --sandbox \"$PLAN\" sh -c \"$PROGRAM\" > ../printed) &
            until [ -e work/ready ]; do :; done
            cat /proc/self/mountinfo > during
            mount -t tmpfs later work/later && cp beside/key work/later/key && chmod 755 work/later
            mount -t tmpfs later beside
            touch work/go; wait; ls work/later";
        let mut command = Command::new("timeout");
        command.args([
            "60",
            "unshare",
            if root { "-m" } else { "-Urm" },
            "--propagation",
            "shared",
        ]);
        command.args(["sh", "-c", outside]);
        let setpriv = format!("setpriv --reuid={ORDINARY} --regid={ORDINARY} --clear-groups");
        command.env_clear().env("AS", if user == User::Ordinary { &setpriv } else { "" });
        command.env("PLAN", plan).env("PROGRAM", program).env("ROOT", prison.path(""));
        command.env("HOME", prison.path("real-home"));
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.current_dir(prison.path("")).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{user:?}: {}", printed(&output));
        let read = |name: &str| std::fs::read_to_string(prison.path(name)).unwrap();
        assert_eq!(read("printed"), "", "{user:?}");
        // The test's own mount is real: the key lies on it.
        assert_eq!(printed(&output), "key\n");
        assert_eq!(read("before"), read("during"), "{user:?}: a mount went out");
        assert_eq!(read("work/own-before"), read("work/own-after"), "{user:?}");
        assert!(
            prison.path("work/m/seen-outside").exists() && !prison.path("work/m/inside").exists()
        );
        assert!(!read("printed").contains(SECRET));
    }
}
