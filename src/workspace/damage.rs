//! Looks for damage in a repository of afk's own, as a power cut leaves it: files that are empty, or
//! whose blocks never reached the disk. Reads the ends of files and starts no program, so that it can
//! look before each first use. It must not read a repository that an agent can write to: there only git
//! in the sandbox may look.
//!
//! git makes only regular files and folders, so a link, a pipe or a device is damage, too. None of them is
//! followed or read.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// The deepest folder of references.
const DEPTH_LIMIT: u32 = 32;
/// The most bytes of a reference.
const REFERENCE_LIMIT: u64 = 4096;
/// The most bytes of a list that are looked at.
const LIST_LIMIT: u64 = 256 * 1024 * 1024;
/// The size of a SHA-1 hash in a pack and in its index.
const HASH: u64 = 20;

/// The damage of the bare repository in `dir`, in words. `None` for a sound one, for one that isn't there,
/// and where a file can't be read now, which may pass.
pub(crate) fn of(dir: &Path) -> Option<String> {
    // An empty folder is no repository yet.
    entries(dir).next()?;
    if !has_head(dir) {
        return Some("HEAD is missing or damaged".into());
    }
    for folder in ["objects", "refs"] {
        if !is_folder(&dir.join(folder)) {
            return Some(format!("{folder} is missing, or no folder"));
        }
    }
    let damaged = loose_objects(dir)
        .find(|path| fails(&is_loose_object(path)))
        .or_else(|| packs(dir).find(|path| fails(&is_pack(path))))
        .or_else(|| reference(&dir.join("refs"), 0))
        .or_else(|| lists(dir).find(|path| fails(&is_text(path))))?;
    let name = damaged.strip_prefix(dir).unwrap_or(&damaged).display().to_string();
    Some(format!("{name} is damaged"))
}

/// Whether git accepts the `HEAD` of a repository. An error other than a missing file proves nothing.
pub(super) fn has_head(dir: &Path) -> bool {
    match is_reference(&dir.join("HEAD")) {
        Ok(is_sound) => is_sound,
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Parts of the messages with which git reports a damaged repository.
const MESSAGES: [&str; 16] = [
    "not a git repository",
    "missing object",
    "bad object",
    "object file",
    "object corrupt or missing",
    "hash mismatch",
    "ignoring broken ref",
    "Invalid revision range",
    "unterminated line in",
    "bad shallow line",
    "is corrupt",
    "inflate: data stream error",
    "unable to read tree",
    "bad config line",
    "index file corrupt",
    "index file smaller than expected",
];

/// Whether a failed call of git's in a local repository shows its damage.
pub(crate) fn is_reported(message: &str) -> bool {
    MESSAGES.iter().any(|part| message.contains(part))
}

/// Whether a check that could be made has failed.
fn fails(check: &io::Result<bool>) -> bool {
    matches!(check, Ok(false))
}

/// Whether a path is a folder itself, and no link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// The entries of a folder; none of a link to one.
fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let all = is_folder(dir).then(|| std::fs::read_dir(dir));
    all.into_iter().flatten().flatten().flatten().map(|entry| entry.path())
}

/// Opens a regular file; `None` for anything else. Follows no link, and doesn't wait at a pipe.
fn open(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    // The errors for a link and for a socket.
    let others = [Errno::LOOP, Errno::NXIO].map(Errno::raw_os_error);
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(file.metadata()?.is_file().then_some(file)),
        Err(error) if error.raw_os_error().is_some_and(|code| others.contains(&code)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_hex(text: &[u8], length: usize) -> bool {
    text.len() == length && text.iter().all(u8::is_ascii_hexdigit)
}

fn loose_objects(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let folders = entries(&dir.join("objects")).filter(|path| is_hex(name(path).as_bytes(), 2));
    let files = folders.flat_map(|folder| entries(&folder));
    files.filter(|path| is_hex(name(path).as_bytes(), 38))
}

fn packs(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let all = entries(&dir.join("objects/pack"));
    let is_pack = |path: &PathBuf| path.extension().is_some_and(|end| end == "pack");
    all.filter(move |path| name(path).starts_with("pack-") && is_pack(path))
}

/// The lists in the repository's own folder.
fn lists(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let all = ["packed-refs", "shallow"].map(|name| dir.join(name));
    all.into_iter().filter(|path| path.symlink_metadata().is_ok())
}

/// Whether a loose object has the header of zlib, and a checksum at its end.
fn is_loose_object(path: &Path) -> io::Result<bool> {
    let Some(file) = open(path)? else { return Ok(false) };
    let size = file.metadata()?.len();
    if size < 8 {
        return Ok(false);
    }
    let (mut head, mut checksum) = ([0; 2], [0; 4]);
    file.read_exact_at(&mut head, 0)?;
    file.read_exact_at(&mut checksum, size - 4)?;
    let is_deflated = head[0] & 0x0f == 8 && u16::from_be_bytes(head).is_multiple_of(31);
    Ok(is_deflated && checksum != [0; 4])
}

/// Whether a pack has its header, and at its end the checksum that its index names. A pack without an
/// index is the rest of a fetch that was cut off, and git passes it over.
fn is_pack(path: &Path) -> io::Result<bool> {
    let index = match open(&path.with_extension("idx")) {
        Ok(Some(index)) => index,
        Ok(None) => return Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let Some(pack) = open(path)? else { return Ok(false) };
    let (size, index_size) = (pack.metadata()?.len(), index.metadata()?.len());
    if size < 12 + HASH || index_size < 2 * HASH {
        return Ok(false);
    }
    let (mut head, mut ours, mut named) = ([0; 4], [0; 20], [0; 20]);
    pack.read_exact_at(&mut head, 0)?;
    pack.read_exact_at(&mut ours, size - HASH)?;
    index.read_exact_at(&mut named, index_size - 2 * HASH)?;
    Ok(&head == b"PACK" && ours == named)
}

/// The first damaged file below a folder of references.
fn reference(folder: &Path, depth: u32) -> Option<PathBuf> {
    if depth > DEPTH_LIMIT {
        return None;
    }
    entries(folder).find_map(|path| {
        if is_folder(&path) {
            return reference(&path, depth + 1);
        }
        let is_lock = path.extension().is_some_and(|end| end == "lock");
        let is_damaged = !is_lock && fails(&is_reference(&path));
        is_damaged.then_some(path)
    })
}

/// Whether a file names a commit, or another reference.
fn is_reference(path: &Path) -> io::Result<bool> {
    let Some(file) = open(path)? else { return Ok(false) };
    let mut text = Vec::new();
    file.take(REFERENCE_LIMIT).read_to_end(&mut text)?;
    let text = text.trim_ascii_end();
    Ok(is_hex(text, 40) || (text.starts_with(b"ref: refs/") && !text.contains(&0)))
}

/// Whether a file has no zero byte, as far as it is looked at.
fn is_text(path: &Path) -> io::Result<bool> {
    let Some(file) = open(path)? else { return Ok(false) };
    let mut rest = BufReader::new(file.take(LIST_LIMIT));
    loop {
        let part = rest.fill_buf()?;
        if part.is_empty() || part.contains(&0) {
            return Ok(part.is_empty());
        }
        let length = part.len();
        rest.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn git(dir: &Path, args: &[&str]) -> String {
        let us = ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "gc.auto=0"];
        let out = Command::new("git").args(us).args(args).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    /// A bare repository with a pack, loose objects, a list and loose references.
    fn repository(dir: &Path) -> PathBuf {
        git(dir, &["init", "-q", "-b", "main", "work"]);
        let (work, bare) = (dir.join("work"), dir.join("base.git"));
        std::fs::write(work.join("a"), "a").unwrap();
        git(&work, &["add", "a"]);
        git(&work, &["commit", "-q", "-m", "A"]);
        git(dir, &["clone", "-q", "--bare", "work", "base.git"]);
        git(&bare, &["repack", "-a", "-d", "-q"]);
        git(&bare, &["pack-refs", "--all"]);
        git(&work, &["commit", "-q", "--allow-empty", "-m", "B"]);
        git(&bare, &["fetch", "-q", "--no-auto-gc", "../work", "main:refs/afk/kept/one"]);
        bare
    }

    fn first(all: impl Iterator<Item = PathBuf>) -> PathBuf {
        let mut all: Vec<PathBuf> = all.collect();
        all.sort();
        all.swap_remove(0)
    }

    #[test]
    fn sound_repository_and_a_missing_one_have_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let bare = repository(dir.path());
        assert_eq!(of(&bare), None);
        assert_eq!(of(&dir.path().join("none")), None);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(of(&dir.path().join("empty")), None);
        // A killed git leaves these.
        std::fs::write(bare.join("refs/afk/kept/two.lock"), "").unwrap();
        std::fs::write(bare.join("objects/pack/tmp_pack_x"), "").unwrap();
        std::fs::write(bare.join("objects/pack/pack-x.pack"), "PA").unwrap();
        assert_eq!(of(&bare), None);
    }

    #[test]
    fn each_kind_of_file_that_a_power_cut_empties_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let bare = repository(dir.path());
        let files = [
            bare.join("HEAD"),
            first(loose_objects(&bare)),
            first(packs(&bare)),
            first(packs(&bare)).with_extension("idx"),
            bare.join("refs/afk/kept/one"),
            bare.join("packed-refs"),
        ];
        for file in files {
            let sound = std::fs::read(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            let zeros = vec![0; sound.len()];
            let mut harms = vec![zeros];
            // An empty list is a list of nothing.
            if !file.ends_with("packed-refs") {
                harms.push(Vec::new());
            }
            for harm in harms {
                std::fs::write(&file, harm).unwrap();
                let found = of(&bare).unwrap_or_else(|| panic!("{} is not found", file.display()));
                let kind = file.strip_prefix(&bare).unwrap().with_extension("");
                assert!(found.contains(kind.to_str().unwrap()), "{found}: {}", file.display());
            }
            std::fs::write(&file, sound).unwrap();
            assert_eq!(of(&bare), None);
        }
        std::fs::remove_file(bare.join("HEAD")).unwrap();
        assert_eq!(of(&bare).unwrap(), "HEAD is missing or damaged");
    }

    #[test]
    fn links_pipes_and_endless_files_are_damage_and_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        // A folder with a damaged reference, which no link may lead to.
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("foreign"), "").unwrap();
        let outside = outside.display();
        for (harm, found) in [
            ("ln -sf /dev/zero HEAD", "HEAD is missing or damaged"),
            ("rm HEAD; mkfifo HEAD", "HEAD is missing or damaged"),
            ("rm HEAD; truncate -s 1T HEAD", "HEAD is missing or damaged"),
            ("ln -sf /dev/zero packed-refs", "packed-refs is damaged"),
            ("mkfifo refs/heads/pipe", "refs/heads/pipe is damaged"),
            ("ln -s loop refs/heads/loop", "refs/heads/loop is damaged"),
            (&format!("ln -s {outside} refs/heads/away"), "refs/heads/away is damaged"),
            (&format!("rm -r refs; ln -s {outside} refs"), "refs is missing, or no folder"),
            (
                &format!("rm -r objects; ln -s {outside} objects"),
                "objects is missing, or no folder",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            let bare = repository(root.path());
            let mut sh = Command::new("sh");
            assert!(sh.args(["-ec", harm]).current_dir(&bare).status().unwrap().success());
            assert_eq!(of(&bare).as_deref(), Some(found), "{harm}");
        }
    }
}
