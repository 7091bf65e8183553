//! Looks for damage in a repository of afk's own, as a power cut leaves it: files that are empty, or
//! whose blocks never reached the disk. Reads the ends of files and starts no program, so that it can
//! look before each first use.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The deepest folder of references.
const DEPTH_LIMIT: u32 = 32;
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
        if !dir.join(folder).is_dir() {
            return Some(format!("{folder} is missing"));
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
    match std::fs::read(dir.join("HEAD")) {
        Ok(text) => is_reference(&text),
        Err(error) => error.kind() != ErrorKind::NotFound,
    }
}

/// Parts of the messages with which git reports a damaged repository.
const MESSAGES: [&str; 10] = [
    "not a git repository",
    "missing object",
    "bad object",
    "object file",
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

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
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
    ["packed-refs", "shallow"].map(|name| dir.join(name)).into_iter().filter(|path| path.exists())
}

/// Whether a loose object has the header of zlib, and a checksum at its end.
fn is_loose_object(path: &Path) -> io::Result<bool> {
    let file = File::open(path)?;
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
    let index = match File::open(path.with_extension("idx")) {
        Ok(index) => index,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let pack = File::open(path)?;
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
        if path.is_dir() {
            return reference(&path, depth + 1);
        }
        let is_lock = path.extension().is_some_and(|end| end == "lock");
        let is_damaged = !is_lock && fails(&std::fs::read(&path).map(|text| is_reference(&text)));
        is_damaged.then_some(path)
    })
}

/// Whether a file names a commit, or another reference.
fn is_reference(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    is_hex(text, 40) || (text.starts_with(b"ref: refs/") && !text.contains(&0))
}

fn is_text(path: &Path) -> io::Result<bool> {
    Ok(!std::fs::read(path)?.contains(&0))
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
}
