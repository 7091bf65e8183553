//! Reads files that grant rights: the configuration, `authorized_keys`, pins, keys and tokens.
//!
//! Whoever can change such a file, or put another one in its place, has the rights that it grants. So
//! afk resolves the path itself, one component at a time, and checks each of them:
//!
//! ```text
//! /  etc  afk  afk.toml
//! │   │    │      └─ a regular file
//! └───┴────┴───────── folders
//! all: owned by root or by the user of afk, and not writable by anybody else
//! ```
//!
//! - A link is followed only if its owner is one of the two, and its whole target passes the same
//!   checks: a mounted `ConfigMap` and a store of packages consist of links.
//! - A folder that everybody may write, such as `/tmp`, is accepted if its sticky bit is set: only the
//!   owner of an entry can replace it, and the check of the next component covers that owner.
//! - A file system that is mounted read-only is not writable, whatever its modes are.
//! - Opening never blocks, not even at a FIFO, and reading ends at a bound.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, StatVfsMountFlags, fstat, fstatvfs, openat, readlinkat,
};
use rustix::process::geteuid;

/// The largest file that afk reads, in bytes.
const LIMIT: u64 = 1024 * 1024;
/// The largest number of links in one path, as in the kernel.
const LINKS: usize = 40;

/// Why a file or a folder is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustedFileError {
    /// Too many links lead to the file.
    #[error("{}: more than {LINKS} links lead to it: name the file itself", path.display())]
    Link {
        /// The path as configured.
        path: PathBuf,
    },
    /// The path leads to something else than expected, for example a FIFO.
    #[error("{} is not a {expected}: name one", path.display())]
    NotRegular {
        /// The path with its links resolved.
        path: PathBuf,
        /// The expected kind, such as `regular file`.
        expected: &'static str,
    },
    /// Another user owns the file, a link to it or a folder above it.
    #[error(
        "{} belongs to another user (uid {uid}), who could replace it: chown {user} {}",
        path.display(), path.display(), user = geteuid().as_raw()
    )]
    Owner {
        /// The component that the other user owns.
        path: PathBuf,
        /// The owner's numeric user id.
        uid: u32,
    },
    /// Other users may write the file or a folder above it.
    #[error("{} can be changed by {by} (mode {mode:o}): chmod go-w {}", path.display(), path.display())]
    Writable {
        /// The component that others may write.
        path: PathBuf,
        /// The users who may: `everybody` or `its group`.
        by: &'static str,
        /// The permission bits of that component.
        mode: u32,
    },
    /// The file has more bytes than any file of its kind.
    #[error("{} has more than {LIMIT} bytes", path.display())]
    TooLarge {
        /// The path as configured.
        path: PathBuf,
    },
    /// The file is missing, or can't be opened or read.
    #[error("read {}", path.display())]
    Io {
        /// The path as configured.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl TrustedFileError {
    /// The same error about the whole path, which tells a person more than the missing component.
    fn about(self, path: &Path) -> Self {
        match self {
            Self::Io { source, .. } => Self::Io { path: path.to_owned(), source },
            other => other,
        }
    }

    /// Whether the file or a folder above it doesn't exist.
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Opens a trusted regular file for reading.
pub(crate) fn open(path: &Path) -> Result<File, TrustedFileError> {
    let found = Walk::begin(path)?.find(path, false).map_err(|error| error.about(path))?;
    found.expect(FileType::RegularFile, "regular file")?;
    found.check_writable(false)?;
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let io = |errno: rustix::io::Errno| io_error(&found.path, errno);
    let opened = openat(&found.folder, &found.name, flags, Mode::empty()).map_err(io)?;
    let now = fstat(&opened).map_err(io)?;
    if (now.st_dev, now.st_ino) != (found.stat.st_dev, found.stat.st_ino) {
        // Its owner replaced it in between; the caller may try again.
        return Err(io_error(&found.path, rustix::io::Errno::AGAIN));
    }
    Ok(opened.into())
}

/// Reads a trusted file of text.
pub(crate) fn read(path: &Path) -> Result<String, TrustedFileError> {
    text(&open(path)?, path)
}

/// Reads an open file, up to the bound.
pub(crate) fn text(file: &File, path: &Path) -> Result<String, TrustedFileError> {
    let mut text = String::new();
    let read = file.take(LIMIT + 1).read_to_string(&mut text);
    read.map_err(|source| TrustedFileError::Io { path: path.to_owned(), source })?;
    if text.len() as u64 > LIMIT {
        return Err(TrustedFileError::TooLarge { path: path.to_owned() });
    }
    Ok(text)
}

/// Checks a folder whose content afk trusts. Above it, a folder of root's may be writable by its group:
/// a cluster mounts a volume like that.
pub(crate) fn check_folder(path: &Path) -> Result<(), TrustedFileError> {
    let found = Walk::begin(path)?.find(path, true)?;
    found.expect(FileType::Directory, "folder")?;
    found.check_writable(false)
}

/// Creates a folder, with those above it, that only its owner can open; one that exists stays as it is.
/// The umask of many users would let their group write it.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn io_error(path: &Path, errno: rustix::io::Errno) -> TrustedFileError {
    TrustedFileError::Io { path: path.to_owned(), source: errno.into() }
}

/// A component of a path: its folder, its name there, and a descriptor that only names it.
struct Entry {
    folder: OwnedFd,
    name: OsString,
    fd: OwnedFd,
    stat: Stat,
    path: PathBuf,
}

impl Entry {
    fn open(folder: OwnedFd, name: &OsStr, path: PathBuf) -> Result<Self, TrustedFileError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let io = |errno| io_error(&path, errno);
        let fd = openat(&folder, name, flags, Mode::empty()).map_err(io)?;
        let stat = fstat(&fd).map_err(io)?;
        let uid = stat.st_uid;
        if uid != 0 && uid != geteuid().as_raw() {
            return Err(TrustedFileError::Owner { path, uid });
        }
        Ok(Self { folder, name: name.to_owned(), fd, stat, path })
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn expect(&self, kind: FileType, expected: &'static str) -> Result<(), TrustedFileError> {
        if self.kind() == kind {
            return Ok(());
        }
        Err(TrustedFileError::NotRegular { path: self.path.clone(), expected })
    }

    /// Refuses an entry that others may write. `above`: it lies above a folder that afk owns.
    fn check_writable(&self, above: bool) -> Result<(), TrustedFileError> {
        let mode = self.stat.st_mode & 0o7777;
        let by = match mode & 0o022 {
            0 => return Ok(()),
            0o020 if above && self.stat.st_uid == 0 => return Ok(()),
            0o020 => "its group",
            _ => "everybody",
        };
        let mounted = fstatvfs(self.fd.as_fd()).map_err(|errno| io_error(&self.path, errno))?;
        if mounted.f_flag.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        Err(TrustedFileError::Writable { path: self.path.clone(), by, mode })
    }
}

/// A walk along a path, without any help of the kernel's for links.
struct Walk {
    at: OwnedFd,
    path: PathBuf,
    /// The components that are left, the next one last.
    rest: Vec<OsString>,
    links: usize,
}

impl Walk {
    fn begin(path: &Path) -> Result<Self, TrustedFileError> {
        let io = |source| TrustedFileError::Io { path: path.to_owned(), source };
        let absolute = std::path::absolute(path).map_err(io)?;
        let (at, rest) = (root()?, components(&absolute));
        Ok(Self { at, path: "/".into(), rest, links: 0 })
    }

    /// Walks to the last component.
    fn find(mut self, wanted: &Path, owned_below: bool) -> Result<Entry, TrustedFileError> {
        let step = |at: OwnedFd, name: &OsStr, path: &Path| {
            // The parent of a folder is where it really lies, since no link is left behind.
            let to = if name == ".." {
                path.parent().unwrap_or(path).to_owned()
            } else {
                path.join(name)
            };
            Entry::open(at, name, to)
        };
        loop {
            let Some(name) = self.rest.pop() else {
                return step(self.at, OsStr::new("."), &self.path);
            };
            let entry = step(self.at, &name, &self.path)?;
            match entry.kind() {
                FileType::Symlink => {
                    self.links += 1;
                    if self.links > LINKS {
                        return Err(TrustedFileError::Link { path: wanted.to_owned() });
                    }
                    let target = readlinkat(&entry.fd, "", Vec::new())
                        .map_err(|errno| io_error(&entry.path, errno))?;
                    let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
                    self.rest.extend(components(&target));
                    if target.is_absolute() {
                        (self.at, self.path) = (root()?, "/".into());
                    } else {
                        self.at = entry.folder;
                    }
                }
                _ if self.rest.is_empty() => return Ok(entry),
                FileType::Directory => {
                    let sticky = entry.stat.st_mode & Mode::SVTX.as_raw_mode() != 0;
                    if !sticky {
                        entry.check_writable(owned_below)?;
                    }
                    (self.at, self.path) = (entry.fd, entry.path);
                }
                _ => return Err(io_error(&entry.path, rustix::io::Errno::NOTDIR)),
            }
        }
    }
}

fn root() -> Result<OwnedFd, TrustedFileError> {
    let root = Path::new("/");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(CWD, root, flags, Mode::empty()).map_err(|errno| io_error(root, errno))?;
    let stat = fstat(&fd).map_err(|errno| io_error(root, errno))?;
    if stat.st_mode & 0o002 != 0 && stat.st_mode & Mode::SVTX.as_raw_mode() == 0 {
        let mode = stat.st_mode & 0o7777;
        return Err(TrustedFileError::Writable { path: root.to_owned(), by: "everybody", mode });
    }
    Ok(fd)
}

/// The components of a path, the first one last.
fn components(path: &Path) -> Vec<OsString> {
    let named = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let mut all: Vec<OsString> = named.collect();
    all.reverse();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};
    use std::time::{Duration, Instant};

    /// The user id of another local user, who owns nothing.
    const OTHER: u32 = 65534;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            std::fs::create_dir(place.at("folder")).unwrap();
            std::fs::write(place.at("folder/file"), "content\n").unwrap();
            place.mode("folder", 0o755);
            place.mode("folder/file", 0o644);
            place
        }

        fn at(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn mode(&self, name: &str, mode: u32) {
            std::fs::set_permissions(self.at(name), PermissionsExt::from_mode(mode)).unwrap();
        }

        fn refused(&self, name: &str) -> String {
            read(&self.at(name)).unwrap_err().to_string()
        }
    }

    /// Whether the suite runs as root, so that it can give files away.
    #[allow(clippy::print_stderr, reason = "a test says when it is skipped")]
    fn is_root() -> bool {
        let root = geteuid().is_root();
        if !root {
            eprintln!("!!! SKIPPED: only root can give a file to another user");
        }
        root
    }

    #[test]
    fn file_that_others_may_write_is_refused() {
        let place = Place::new();
        assert_eq!(read(&place.at("folder/file")).unwrap(), "content\n");
        place.mode("folder/file", 0o664);
        let path = place.at("folder/file").display().to_string();
        let why = format!("{path} can be changed by its group (mode 664): chmod go-w {path}");
        assert_eq!(place.refused("folder/file"), why);
        place.mode("folder/file", 0o606);
        assert!(place.refused("folder/file").contains("by everybody (mode 606)"));
    }

    #[test]
    fn folder_that_others_may_write_is_refused_unless_sticky() {
        let place = Place::new();
        for (mode, by) in [(0o775, "its group"), (0o777, "everybody")] {
            place.mode("folder", mode);
            let why = place.refused("folder/file");
            let path = place.at("folder").display().to_string();
            assert!(why.contains(by) && why.ends_with(&format!("chmod go-w {path}")), "{why}");
        }
        place.mode("folder", 0o1777);
        assert!(read(&place.at("folder/file")).is_ok());
        // The content of a sticky folder is everybody's.
        assert!(check_folder(&place.at("folder")).is_err());
        place.mode("folder", 0o755);
        assert!(check_folder(&place.at("folder")).is_ok());
    }

    #[test]
    fn link_is_followed_only_along_trusted_folders() {
        let place = Place::new();
        // As in a mounted ConfigMap: a link to a link to a folder.
        std::fs::create_dir(place.at("mount")).unwrap();
        std::fs::create_dir(place.at("mount/..2026")).unwrap();
        std::fs::write(place.at("mount/..2026/key"), "mounted").unwrap();
        symlink("..2026", place.at("mount/..data")).unwrap();
        symlink("..data/key", place.at("mount/key")).unwrap();
        assert_eq!(read(&place.at("mount/key")).unwrap(), "mounted");
        symlink(place.at("folder/file"), place.at("absolute")).unwrap();
        symlink("mount/../absolute", place.at("up")).unwrap();
        assert_eq!(read(&place.at("up")).unwrap(), "content\n");
        place.mode("folder", 0o777);
        let why = place.refused("up");
        assert!(why.ends_with(&format!("chmod go-w {}", place.at("folder").display())), "{why}");
        symlink("loop", place.at("loop")).unwrap();
        assert!(place.refused("loop").contains("more than 40 links"));
    }

    #[test]
    fn fifo_and_folder_and_endless_file_neither_block_nor_pass() {
        let place = Place::new();
        let made = std::process::Command::new("mkfifo").arg(place.at("fifo")).status().unwrap();
        assert!(made.success());
        let began = Instant::now();
        assert!(place.refused("fifo").contains("is not a regular file"));
        assert!(place.refused("folder").contains("is not a regular file"));
        assert!(read(Path::new("/dev/zero")).is_err());
        std::fs::write(place.at("large"), vec![b'x'; 1024 * 1024 + 1]).unwrap();
        assert!(place.refused("large").contains("more than 1048576 bytes"));
        assert!(began.elapsed() < Duration::from_secs(5));
        assert!(read(&place.at("nothing")).unwrap_err().is_missing());
        assert!(read(&place.at("folder/file/x")).is_err());
    }

    #[test]
    fn file_or_link_or_folder_of_another_user_is_refused() {
        if !is_root() {
            return;
        }
        let place = Place::new();
        symlink("folder/file", place.at("link")).unwrap();
        std::os::unix::fs::lchown(place.at("link"), Some(OTHER), None).unwrap();
        let why = place.refused("link");
        assert!(why.contains("belongs to another user (uid 65534)"), "{why}");
        chown(place.at("folder/file"), Some(OTHER), None).unwrap();
        let path = place.at("folder/file").display().to_string();
        let why = place.refused("folder/file");
        assert!(why.ends_with(&format!("chown 0 {path}")), "{why}");
        chown(place.at("folder/file"), Some(0), None).unwrap();
        chown(place.at("folder"), Some(OTHER), None).unwrap();
        assert!(matches!(
            read(&place.at("folder/file")),
            Err(TrustedFileError::Owner { uid: OTHER, .. })
        ));
        assert!(check_folder(&place.at("folder")).is_err());
    }

    #[test]
    fn created_folder_is_trusted_whatever_the_umask_is() {
        let place = Place::new();
        let created = |line: &str| {
            let run = std::process::Command::new("sh").args(["-c", line]).status().unwrap();
            assert!(run.success(), "{line}");
        };
        created(&format!("umask 002; mkdir {}", place.at("by-umask").display()));
        assert!(check_folder(&place.at("by-umask")).is_err());
        create_folder(&place.at("a/b")).unwrap();
        create_folder(&place.at("a/b")).unwrap();
        for name in ["a", "a/b"] {
            let mode = std::fs::metadata(place.at(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
        assert!(check_folder(&place.at("a/b")).is_ok());
    }

    #[test]
    fn group_may_write_only_above_the_state_folder_and_only_by_root() {
        if !is_root() {
            return;
        }
        let place = Place::new();
        place.mode("folder", 0o2775);
        std::fs::create_dir(place.at("folder/state")).unwrap();
        place.mode("folder/state", 0o700);
        assert!(check_folder(&place.at("folder/state")).is_ok());
        assert!(read(&place.at("folder/file")).is_err());
        place.mode("folder/state", 0o770);
        assert!(check_folder(&place.at("folder/state")).is_err());
    }
}
