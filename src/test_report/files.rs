//! Finds and reads report files in a checkout that the agent's code has written to.
//!
//! The walk opens each folder relative to the last one and follows no link, so that no name leads out
//! of the checkout. It reads regular files only.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{Glob, GlobMatcher};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, statat};
use rustix::io::Errno;

use super::ReportError;
use crate::redact::Redactor;

/// The largest report in bytes.
pub(super) const LARGEST_FILE: u64 = 32 << 20;
/// The most bytes of all reports of a run.
pub(super) const LARGEST_TOTAL: u64 = 64 << 20;
/// The most reports of a run.
pub(super) const MOST_FILES: usize = 10_000;
/// The most files and folders that the search meets.
pub(super) const MOST_ENTRIES: usize = 500_000;
/// The deepest folder of the search, below the first one that has a pattern in its name.
const DEEPEST: usize = 40;

/// The properties of a file that change when somebody writes it. No program can set the time of the
/// last change of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, u64),
}

impl FileIdentity {
    #[allow(
        clippy::unnecessary_cast,
        clippy::cast_sign_loss,
        clippy::cast_lossless,
        reason = "the types of the fields depend on the system; only equality counts"
    )]
    const fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as u64,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

/// The content of one report.
#[derive(Debug)]
pub(super) struct ReportFile {
    /// The path in the checkout.
    pub path: String,
    /// The bytes of the file, without secrets.
    pub content: Vec<u8>,
}

/// The identities of the files that match now.
pub(super) fn identities(
    tree: &Path,
    glob: &Glob,
) -> Result<BTreeMap<Vec<u8>, FileIdentity>, ReportError> {
    let mut found = BTreeMap::new();
    walk(tree, glob, &mut |folder, name, path| {
        if let Ok(stat) = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            found.insert(path.to_vec(), FileIdentity::of(&stat));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads the matching files that are new, or that were written since `earlier`.
pub(super) fn read_new(
    tree: &Path,
    glob: &Glob,
    earlier: &BTreeMap<Vec<u8>, FileIdentity>,
) -> Result<Vec<ReportFile>, ReportError> {
    let redactor = Redactor::default();
    let mut reports: Vec<ReportFile> = Vec::new();
    let mut total = 0;
    walk(tree, glob, &mut |folder, name, path| {
        let shown = String::from_utf8_lossy(path).into_owned();
        let unreadable =
            |source: std::io::Error| ReportError::Unreadable { path: shown.clone(), source };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
        let stat = fstat(&file).map_err(|e| unreadable(e.into()))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
            || earlier.get(path) == Some(&FileIdentity::of(&stat))
        {
            return Ok(());
        }
        let mut bytes = Vec::new();
        File::from(file).take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        let length = bytes.len() as u64;
        total += length;
        if length > LARGEST_FILE {
            return Err(ReportError::TooLarge { path: shown });
        }
        if reports.len() >= MOST_FILES || total > LARGEST_TOTAL {
            return Err(ReportError::TooMany { glob: glob.glob().to_owned() });
        }
        let content = redactor.clean_bytes(&bytes).into_owned();
        reports.push(ReportFile { path: shown, content });
        Ok(())
    })?;
    Ok(reports)
}

/// Receives each matching regular file: its open folder, its name there, its path in the checkout.
type OnFile<'a> = &'a mut dyn FnMut(&OwnedFd, &CStr, &[u8]) -> Result<(), ReportError>;

fn walk(tree: &Path, glob: &Glob, on_file: OnFile<'_>) -> Result<(), ReportError> {
    let text = glob.glob();
    // The folders before the first pattern need no search.
    let literal = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
    let folders = text[..literal].rsplit_once('/').map_or("", |(folders, _)| folders);
    let Some(folder) = open_below(tree, folders) else { return Ok(()) };
    let mut path = folders.as_bytes().to_vec();
    let matcher = glob.compile_matcher();
    let mut walk = ReportSearch { glob: text, matcher, entries: 0, on_file };
    walk.folder(&folder, &mut path, 0)
}

/// Opens a folder of the checkout without following a link. None if it isn't there.
fn open_below(tree: &Path, folders: &str) -> Option<OwnedFd> {
    // afk made the checkout itself, below folders of its own.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut folder = open(tree, flags, Mode::empty()).ok()?;
    for part in folders.split('/').filter(|part| !part.is_empty() && *part != ".") {
        folder = openat(&folder, part, flags | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    }
    Some(folder)
}

struct ReportSearch<'a> {
    glob: &'a str,
    matcher: GlobMatcher,
    entries: usize,
    on_file: OnFile<'a>,
}

impl ReportSearch<'_> {
    /// Searches a folder. A folder that can't be read has no report.
    fn folder(
        &mut self,
        folder: &OwnedFd,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), ReportError> {
        let Ok(mut names) = self.names(folder) else { return Ok(()) };
        if self.entries > MOST_ENTRIES {
            return Err(ReportError::TooWide { glob: self.glob.to_owned() });
        }
        // The order of a folder depends on its history.
        names.sort_by(|(a, _), (b, _)| a.cmp(b));
        let length = path.len();
        for (name, kind) in names {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            match kind {
                FileType::RegularFile if self.matcher.is_match(OsStr::from_bytes(path)) => {
                    (self.on_file)(folder, &name, path)?;
                }
                FileType::Directory if depth < DEEPEST && name.as_bytes() != b".git" => {
                    let flags =
                        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    if let Ok(inner) = openat(folder, &*name, flags, Mode::empty()) {
                        self.folder(&inner, path, depth + 1)?;
                    }
                }
                _ => {}
            }
            path.truncate(length);
        }
        Ok(())
    }

    /// The names in a folder with their types.
    fn names(&mut self, folder: &OwnedFd) -> Result<Vec<(CString, FileType)>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(folder.as_fd())? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                break;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
                    .map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode)),
                known => known,
            };
            names.push((name.to_owned(), kind));
        }
        Ok(names)
    }
}
