//! The file system that a program sees: an empty root, and in it only what the allow-list names.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};

use super::{Sandbox, WallError, landlock, user_home};

/// Folders of the system that every program may read.
const SYSTEM: &[&str] = &[
    "/usr",
    "/etc",
    "/opt",
    "/nix/store",
    "/nix/var/nix/profiles",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/sys",
    "/run/current-system",
    "/run/wrappers",
];
/// Files of the system that may lie elsewhere.
const SYSTEM_FILES: &[&str] = &["/etc/resolv.conf", "/etc/localtime"];
/// Parts of them that hold secrets or rights of the machine.
const SYSTEM_HIDDEN: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/krb5.keytab",
    "/etc/afk",
    "/etc/kubernetes",
    "/etc/rancher",
    "/etc/docker",
    "/etc/wireguard",
    "/etc/letsencrypt",
    "/etc/NetworkManager",
    "/etc/wpa_supplicant",
    "/etc/cron.d",
    "/sys/fs/cgroup",
    "/etc/security/opasswd",
    "/etc/pki/tls/private",
    "/etc/ppp",
    "/etc/ipsec.secrets",
    "/etc/ipsec.d/private",
    "/etc/netplan",
    "/etc/mysql/debian.cnf",
    "/etc/postfix/sasl_passwd",
    "/etc/openvpn",
];
/// The device files that every program gets.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
/// The most files of a folder in memory. An empty file takes no byte of its folder's size, and still
/// about a kilobyte of the kernel's memory.
const MEMORY_FILES: &str = "nr_inodes=64k";
/// Where the old root is found while the new one is built.
const OLD: &str = "/old";
/// Where the new root is built.
const NEW: &str = "/new";

/// What is at one path of the new root.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RootEntry {
    /// The file or folder at this path of the old root, to read.
    Read(PathBuf),
    /// The same, also to write.
    Write(PathBuf),
    /// Something empty in place of what a folder above would show.
    Hidden,
    /// A folder in memory that ends with the program.
    Memory,
}

impl RootEntry {
    /// Whether a path below another one needs no entry of its own.
    fn is_covered_by(&self, above: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(above)
    }
}

/// What is at each path of the new root, and the links on the way there with their targets.
type RootEntries = (BTreeMap<PathBuf, RootEntry>, BTreeMap<PathBuf, PathBuf>);

/// Changes the root of this process, which is alone in its mount namespace.
/// Returns the places that the program may write.
pub(super) fn enter(sandbox: &Sandbox) -> Result<Vec<PathBuf>, WallError> {
    let folder = std::env::current_dir().map_err(WallError::step("read the working folder"))?;
    let (entries, links) = entries(sandbox)?;
    let none: Option<&str> = None;
    mount_at(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let small = Some("size=4m,mode=755");
    mount_at(Some("tmpfs"), "/tmp", Some("tmpfs"), plain, small)?;
    std::env::set_current_dir("/tmp").map_err(WallError::step("enter the new root"))?;
    for name in ["old", "new", "stage"] {
        std::fs::create_dir(name).map_err(WallError::step("build the new root"))?;
    }
    let pivot = |new: &str, old: &str| {
        rustix::process::pivot_root(new, old).map_err(WallError::step("change the root"))
    };
    pivot(".", "old")?;
    mount_at(Some("tmpfs"), NEW, Some("tmpfs"), plain, small)?;
    let root = open_folder(CWD, OsStr::new(NEW)).map_err(WallError::step("open the new root"))?;
    let mut stage = MountStage::open()?;
    let mut closing = Vec::new();
    for (path, entry) in &entries {
        match entry {
            RootEntry::Read(source) => stage.bind(&root, path, source)?,
            RootEntry::Write(source) => bind(&root, path, source)?,
            RootEntry::Hidden if hide(&root, path)? => closing.push(path),
            RootEntry::Hidden => {}
            RootEntry::Memory => memory(&root, path)?,
        }
    }
    make_links(&root, &links)?;
    devices(&root, &mut stage)?;
    for path in closing {
        // Opened again: what lies below it has its place by now.
        let at = place(&root, path, true)?;
        remount_read_only(Path::new(&by_descriptor(&at)))?;
    }
    let proc_flags = plain | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    let proc = place(&root, Path::new("/proc"), true)?;
    if sandbox.leaves_children {
        // Without a PID namespace the processes outside stay visible; Landlock keeps them out of
        // reach.
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount_at(Some("/old/proc"), &by_descriptor(&proc), none, flags, none)?;
        let proc = place(&root, Path::new("/proc"), true)?;
        remount_read_only(Path::new(&by_descriptor(&proc)))?;
    } else {
        mount_at(Some("proc"), &by_descriptor(&proc), Some("proc"), proc_flags, none)?;
    }
    place(&root, Path::new("/run"), true)?;
    place(&root, Path::new("/.old"), true)?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | plain;
    pivot(NEW, "/new/.old")?;
    umount2("/.old", MntFlags::MNT_DETACH).map_err(WallError::step("leave the old root"))?;
    // The mount point of the old root can't be removed once the root is read-only.
    let _ = std::fs::remove_dir("/.old");
    mount_at(none, "/", none, flags, none)?;
    std::env::set_current_dir(&folder)
        .map_err(WallError::step(format!("enter {}", folder.display())))?;
    let is_writable = |entry: &RootEntry| matches!(entry, RootEntry::Write(_) | RootEntry::Memory);
    let writable =
        entries.into_iter().filter(|(_, entry)| is_writable(entry)).map(|(path, _)| path);
    Ok(writable.chain([PathBuf::from("/dev")]).collect())
}

/// Restricts this thread to the sandbox's paths in the file system as it is, without a root of its
/// own.
///
/// # Errors
/// Landlock can't be set up; or a grant lies above something hidden, which Landlock can't take out
/// of it.
pub(super) fn restrict_paths(sandbox: &Sandbox) -> Result<(), WallError> {
    let mut granted = sandbox.read.iter().chain(&sandbox.write);
    let hidden = |above: &&PathBuf| {
        sandbox.hidden.iter().any(|path| path.exists() && path.starts_with(above))
    };
    if let Some(above) = granted.find(hidden) {
        let why = "it lies above a folder that must stay hidden; grant what lies below";
        let step = format!("grant {} at the level landlock", above.display());
        return Err(WallError::step(step)(io::Error::other(why)));
    }
    let files = ["/proc", "/run/systemd/resolve/stub-resolv.conf"];
    let system = SYSTEM.iter().filter(|path| **path != "/etc" && **path != "/sys").chain(&files);
    let etc = shown_below(Path::new("/etc"));
    let read = system.map(Path::new).chain(etc.iter().map(PathBuf::as_path));
    let read = read.chain(sandbox.read.iter().map(PathBuf::as_path));
    let devices = DEVICES.iter().chain(&["tty"]).map(|name| Path::new("/dev").join(name));
    let devices: Vec<PathBuf> = devices.collect();
    let write = devices.iter().chain(&sandbox.write).chain(&sandbox.home);
    let write = write.chain(&sandbox.temporary).map(PathBuf::as_path);
    landlock::restrict(true, read, write)
}

/// What a folder of the system holds, without its hidden parts.
fn shown_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut shown = Vec::new();
    for path in entries.map(|entry| entry.path()) {
        let mut hidden = SYSTEM_HIDDEN.iter().map(Path::new);
        if hidden.clone().any(|hidden| hidden == path) {
            continue;
        }
        if hidden.any(|hidden| hidden.starts_with(&path)) {
            shown.extend(shown_below(&path));
        } else {
            shown.push(path);
        }
    }
    shown
}

/// What is where, parents before children, and the links on the way there with their targets. An
/// entry below another one wins over it; at one path, what may be written wins.
///
/// # Errors
/// The kernel doesn't say what is at a path that must be hidden.
fn entries(sandbox: &Sandbox) -> Result<RootEntries, WallError> {
    let (mut all, mut links) = (BTreeMap::new(), BTreeMap::new());
    let mut failed = None;
    let mut add = |path: &Path, entry: fn(PathBuf) -> RootEntry| match path.canonicalize() {
        Ok(real) => {
            links.extend(link_on(path));
            all.insert(real.clone(), entry(real));
        }
        // What isn't there, or what this user can't reach, needs no hiding.
        Err(error) if matches!(error.kind(), NotFound | NotADirectory | PermissionDenied) => {}
        Err(error) if entry(PathBuf::new()) == RootEntry::Hidden => {
            failed = Some(WallError::step(format!("hide {}", path.display()))(error));
        }
        Err(_) => {}
    };
    let hidden = |_| RootEntry::Hidden;
    SYSTEM.iter().map(Path::new).for_each(|path| add(path, RootEntry::Read));
    SYSTEM_FILES.iter().map(Path::new).for_each(|path| add(path, RootEntry::Read));
    SYSTEM_HIDDEN.iter().map(Path::new).for_each(|path| add(path, hidden));
    sandbox.read.iter().for_each(|path| add(path, RootEntry::Read));
    sandbox.hidden.iter().for_each(|path| add(path, hidden));
    sandbox.write.iter().for_each(|path| add(path, RootEntry::Write));
    sandbox.proxy.iter().for_each(|path| add(path, RootEntry::Write));
    if let Some(error) = failed {
        return Err(error);
    }
    let own = |folder: &Option<PathBuf>| folder.clone().map_or(RootEntry::Memory, RootEntry::Write);
    for place in ["/tmp", "/var/tmp"] {
        all.entry(place.into()).or_insert_with(|| own(&sandbox.temporary));
    }
    if let Some(home) = user_home() {
        all.entry(home).or_insert_with(|| own(&sandbox.home));
    }
    // What lies below a folder of the same kind is there already, unless the folder is shown in
    // another one's place.
    let shows_itself = |path: &Path, entry: &RootEntry| match entry {
        RootEntry::Read(source) | RootEntry::Write(source) => source == path,
        RootEntry::Hidden | RootEntry::Memory => true,
    };
    let covered = |path: &Path, entry: &RootEntry| {
        let mut above = path.ancestors().skip(1);
        let above = above.find_map(|above| Some((above, all.get(above)?)));
        above.is_some_and(|(place, above)| entry.is_covered_by(above) && shows_itself(place, above))
    };
    let kept = all.iter().filter(|(path, entry)| !covered(path, entry));
    let kept = kept.map(|(path, entry)| (path.clone(), entry.clone())).collect();
    Ok((kept, links))
}

/// The first link on the way to a path, and where it leads.
fn link_on(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut parts: Vec<&Path> = path.ancestors().collect();
    parts.reverse();
    let link = parts.into_iter().find(|part| part.is_symlink())?;
    Some((link.to_owned(), link.canonicalize().ok()?))
}

/// Mounts, with an error that names the place.
fn mount_at(
    source: Option<&str>,
    target: &str,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), WallError> {
    mount(source, target, kind, flags, data).map_err(WallError::step(format!("mount at {target}")))
}

/// The path of an open file, which no link can lead elsewhere.
fn by_descriptor(file: &OwnedFd) -> String {
    format!("{OLD}/proc/self/fd/{}", file.as_raw_fd())
}

fn open_folder(at: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// Opens the place of an entry below the new root, and makes what is missing. It follows no link,
/// since a program may have left one in its home.
fn place(root: &OwnedFd, path: &Path, folder: bool) -> Result<OwnedFd, WallError> {
    let failed = |error: rustix::io::Errno| {
        WallError::step(format!("make a place for {}", path.display()))(io::Error::from(error))
    };
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let mut at = rustix::io::dup(root).map_err(failed)?;
    for (index, name) in names.iter().enumerate() {
        let last = index + 1 == names.len();
        if last && !folder {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = |at: &OwnedFd| rustix::fs::openat(at, *name, flags, Mode::empty());
            at = match open(&at) {
                Err(rustix::io::Errno::NOENT) => {
                    let new = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                    rustix::fs::openat(&at, *name, new, Mode::from(0o600)).map_err(failed)?;
                    open(&at).map_err(failed)?
                }
                opened => opened.map_err(failed)?,
            };
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&at).map_err(failed)?.st_mode);
            if matches!(kind, FileType::Symlink | FileType::Directory) {
                return Err(failed(rustix::io::Errno::LOOP));
            }
        } else {
            at = match open_folder(&at, name) {
                Err(rustix::io::Errno::NOENT) => {
                    rustix::fs::mkdirat(&at, *name, Mode::from(0o755)).map_err(failed)?;
                    open_folder(&at, name).map_err(failed)?
                }
                opened => opened.map_err(failed)?,
            };
        }
    }
    Ok(at)
}

/// Binds a file or folder of the old root at a path. One that has gone meanwhile is left out.
fn bind(root: &OwnedFd, path: &Path, source: &Path) -> Result<(), WallError> {
    let source = below(OLD, source);
    let Some(meta) = look_at(&source)? else { return Ok(()) };
    let at = place(root, path, meta.is_dir())?;
    let none: Option<&str> = None;
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(&source), by_descriptor(&at).as_str(), none, flags, none)
        .map_err(WallError::step(format!("bind {}", path.display())))
}

/// What is at a path, without following a link there; none if there is nothing.
fn look_at(path: &Path) -> Result<Option<std::fs::Metadata>, WallError> {
    match path.symlink_metadata() {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == NotFound => Ok(None),
        Err(error) => Err(WallError::step(format!("look at {}", path.display()))(error)),
    }
}

/// A folder that no program reaches, in which mounts become read-only before they move to their
/// place: a program with the same home could otherwise exchange the place in between.
struct MountStage {
    /// The mounts of the old root, by their paths there.
    mounts: Vec<PathBuf>,
    /// The number of the last mount.
    last: usize,
}

impl MountStage {
    fn open() -> Result<Self, WallError> {
        let table = std::fs::read_to_string("/old/proc/self/mountinfo")
            .map_err(WallError::step("read the list of mounts"))?;
        let places = table.lines().filter_map(|line| line.split(' ').nth(4));
        let mounts = places.filter_map(|place| place.strip_prefix(OLD)).map(unescape).collect();
        Ok(Self { mounts, last: 0 })
    }

    /// Binds a file or folder of the old root at a path, with all mounts below it read-only.
    fn bind(&mut self, root: &OwnedFd, path: &Path, source: &Path) -> Result<(), WallError> {
        let old = below(OLD, source);
        let Some(meta) = look_at(&old)? else { return Ok(()) };
        self.last += 1;
        let staged = PathBuf::from(format!("/stage/{}", self.last));
        let made = if meta.is_dir() {
            std::fs::create_dir(&staged)
        } else {
            std::fs::File::create_new(&staged).map(drop)
        };
        made.map_err(WallError::step("build the new root"))?;
        let none: Option<&str> = None;
        let failed = || WallError::step(format!("bind {}", path.display()));
        let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
        mount(Some(&old), &staged, none, flags, none).map_err(failed())?;
        remount_read_only(&staged)?;
        for inner in &self.mounts {
            match inner.strip_prefix(source) {
                Ok(inner) if !inner.as_os_str().is_empty() => {
                    let inner = staged.join(inner);
                    // A mount that another one covers can't be reached.
                    if look_at(&inner)?.is_some() {
                        remount_read_only(&inner)?;
                    }
                }
                _ => {}
            }
        }
        let at = place(root, path, meta.is_dir())?;
        let target = by_descriptor(&at);
        mount(Some(&staged), target.as_str(), none, MsFlags::MS_MOVE, none).map_err(failed())
    }
}

/// An absolute path below another folder.
fn below(folder: &str, path: &Path) -> PathBuf {
    Path::new(folder).join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes a mount read-only. The flags that it has stay, as the kernel demands.
fn remount_read_only(place: &Path) -> Result<(), WallError> {
    let found = rustix::fs::statvfs(place).map_err(WallError::step("read a mount's flags"))?;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for (given, kept) in [
        (StatVfsMountFlags::NOSUID, MsFlags::MS_NOSUID),
        (StatVfsMountFlags::NODEV, MsFlags::MS_NODEV),
        (StatVfsMountFlags::NOEXEC, MsFlags::MS_NOEXEC),
        (StatVfsMountFlags::NOATIME, MsFlags::MS_NOATIME),
        (StatVfsMountFlags::NODIRATIME, MsFlags::MS_NODIRATIME),
        (StatVfsMountFlags::RELATIME, MsFlags::MS_RELATIME),
    ] {
        if found.f_flag.contains(given) {
            flags |= kept;
        }
    }
    let none: Option<&str> = None;
    mount(none, place, none, flags, none)
        .map_err(WallError::step(format!("make {} read-only", place.display())))
}

/// A path as the list of mounts writes it: blanks and backslashes are octal there.
pub(super) fn unescape(text: &str) -> PathBuf {
    let blanks = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    let plain = blanks.iter().fold(text.to_owned(), |text, (code, c)| text.replace(code, c));
    PathBuf::from(plain)
}

/// Makes the links on the way to the entries. One that exists already, in a folder that is bound,
/// is the same link.
fn make_links(root: &OwnedFd, links: &BTreeMap<PathBuf, PathBuf>) -> Result<(), WallError> {
    for (link, target) in links {
        let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else { continue };
        let at = place(root, parent, true)?;
        match rustix::fs::symlinkat(target, &at, name) {
            Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::ROFS) => {}
            Err(error) => {
                let step = format!("make the link {}", link.display());
                return Err(WallError::step(step)(error));
            }
        }
    }
    Ok(())
}

/// The device files, terminals and shared memory of the program's own.
fn devices(root: &OwnedFd, stage: &mut MountStage) -> Result<(), WallError> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let dev = place(root, Path::new("/dev"), true)?;
    let small = Some("size=1m,nr_inodes=64,mode=755");
    mount_at(Some("tmpfs"), &by_descriptor(&dev), Some("tmpfs"), plain, small)?;
    for name in DEVICES {
        let device = Path::new("/dev").join(name);
        // Read-only: writing to the device works, and changing its mode doesn't.
        stage.bind(root, &device, &device)?;
    }
    let shm = place(root, Path::new("/dev/shm"), true)?;
    let shared = format!("size=1g,{MEMORY_FILES},mode=1777");
    mount_at(Some("tmpfs"), &by_descriptor(&shm), Some("tmpfs"), plain, Some(&shared))?;
    let pts = place(root, Path::new("/dev/pts"), true)?;
    // The kernel has some thousand terminals for all of its containers together.
    let terminals = Some("newinstance,ptmxmode=0666,mode=620,max=256");
    mount_at(Some("devpts"), &by_descriptor(&pts), Some("devpts"), plain, terminals)?;
    let dev = place(root, Path::new("/dev"), true)?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        rustix::fs::symlinkat(target, &dev, name).map_err(WallError::step("make /dev"))?;
    }
    Ok(())
}

/// Mounts something empty over a path of the new root, if it is there. Says whether it is a folder,
/// which must become read-only later, once what lies below it has its place.
fn hide(root: &OwnedFd, path: &Path) -> Result<bool, WallError> {
    let Some(meta) = look_at(&below(NEW, path))? else { return Ok(false) };
    let none: Option<&str> = None;
    let at = place(root, path, meta.is_dir())?;
    let target = by_descriptor(&at);
    if meta.is_dir() {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount_at(Some("tmpfs"), &target, Some("tmpfs"), flags, Some("size=64k,mode=755"))?;
    } else {
        mount_at(Some("/old/dev/null"), &target, none, MsFlags::MS_BIND, none)?;
    }
    Ok(meta.is_dir())
}

/// Mounts an empty folder in memory.
fn memory(root: &OwnedFd, path: &Path) -> Result<(), WallError> {
    let at = place(root, path, true)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let size = format!("size=256m,{MEMORY_FILES},mode=700");
    mount_at(Some("tmpfs"), &by_descriptor(&at), Some("tmpfs"), flags, Some(&size))
}
