//! The filter of system calls: those that reach into other processes or change what the wall
//! stands on are refused. Everything else is allowed: the namespaces and Landlock decide there.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::WallError;

/// The calls that are refused with EPERM.
const REFUSED: &[i64] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Mounts and namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_chroot,
    libc::SYS_setns,
    // Opens files past the allow-list.
    libc::SYS_open_by_handle_at,
    // Keys that the user's other programs share.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // Large parts of the kernel that no build needs.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_syslog,
    libc::SYS_quotactl,
];
/// The calls that set a mode, and the argument that holds it. 452 is `fchmodat2`.
const MODES: &[(i64, u8)] = &[
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (452, 2),
    (libc::SYS_mknodat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
];
/// The bit that selects the x32 form of a call on x86-64.
const X32: i64 = 0x4000_0000;
/// The flags of `clone` and `unshare` that would enter another namespace.
const NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    // CLONE_NEWTIME, which `unshare` alone takes.
    0x80,
];
/// The requests of `ioctl` that type into a terminal.
const TYPING: [u64; 2] = [0x5412, 0x541C];
/// The socket families that lead around the network policy: packets, and the hypervisor's sockets.
const FAMILIES: [i32; 2] = [libc::AF_PACKET, libc::AF_VSOCK];

/// Installs the filters for this thread and all that it starts.
pub(super) fn restrict() -> Result<(), WallError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED {
        refused.insert(*call, Vec::new());
        refused.insert(*call | X32, Vec::new());
    }
    let condition = |argument, operation, value| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    let mut add = |call: i64, rule: SeccompRule| {
        refused.entry(call).or_default().push(rule.clone());
        refused.entry(call | X32).or_default().push(rule);
    };
    for flag in NAMESPACES {
        let flag = u64::from(flag.cast_unsigned());
        add(libc::SYS_unshare, condition(0, SeccompCmpOp::MaskedEq(flag), flag)?);
        // In `clone` the lowest byte is the signal of the child's end.
        if flag > 0xff {
            add(libc::SYS_clone, condition(0, SeccompCmpOp::MaskedEq(flag), flag)?);
        }
    }
    for request in TYPING {
        add(libc::SYS_ioctl, condition(1, SeccompCmpOp::Eq, request)?);
    }
    for family in FAMILIES {
        let family = u64::from(family.cast_unsigned());
        add(libc::SYS_socket, condition(0, SeccompCmpOp::Eq, family)?);
    }
    // Limits of another process: a limit of CPU time would end it.
    let zero =
        |argument| SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0);
    add(libc::SYS_prlimit64, SeccompRule::new(vec![zero(0)?, zero(2)?])?);
    // Setuid and setgid files: another user who reaches one outside would run it as its owner.
    for bit in [u64::from(libc::S_ISUID), u64::from(libc::S_ISGID)] {
        let has = |argument| {
            let has_bit = SeccompCmpOp::MaskedEq(bit);
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, has_bit, bit)
        };
        for (call, mode) in MODES {
            add(*call, SeccompRule::new(vec![has(*mode)?])?);
        }
        let create = u64::from(libc::O_CREAT.cast_unsigned());
        let creates = |argument| {
            let has_flag = SeccompCmpOp::MaskedEq(create);
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, has_flag, create)
        };
        add(libc::SYS_openat, SeccompRule::new(vec![creates(2)?, has(3)?])?);
        #[cfg(target_arch = "x86_64")]
        add(libc::SYS_open, SeccompRule::new(vec![creates(1)?, has(2)?])?);
    }
    let allow = SeccompAction::Allow;
    let eperm = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter: BpfProgram = SeccompFilter::new(refused, allow.clone(), eperm, arch)?.try_into()?;
    // The flags of `clone3` and the mode of `openat2` lie in memory, which no filter can read.
    // Without them the C library takes `clone` and `openat`.
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let calls = [libc::SYS_clone3, libc::SYS_openat2].into_iter();
    let calls = calls.flat_map(|call| [(call, Vec::new()), (call | X32, Vec::new())]).collect();
    let in_memory: BpfProgram = SeccompFilter::new(calls, allow, unknown, arch)?.try_into()?;
    apply_filter(&filter)?;
    apply_filter(&in_memory)?;
    Ok(())
}
