//! Files that programs leave behind and that are no part of a change, by their names: the private
//! settings of tools, installed packages, crash dumps, files of a stopped merge, and caches.

/// Patterns of caches that a workspace ignores, in the format of `.gitignore`: git adds them for
/// nobody, unless forced.
pub(super) const CACHES: &str = "\
__pycache__/\n*.py[co]\n.pytest_cache/\n.mypy_cache/\n.ruff_cache/\n.hypothesis/\n.DS_Store\nThumbs.db\n";

/// A name of a file or folder, and what it is, with an article.
const NAMES: &[(&str, &str)] = &[
    ("node_modules", "installed packages"),
    (".venv", "an environment of Python"),
    ("bower_components", "installed packages"),
    ("nohup.out", "the output of a command"),
    ("npm-debug.log", "the log of a tool"),
    ("yarn-error.log", "the log of a tool"),
    ("settings.local.json", "the private settings of an agent"),
    (".netrc", "a file of logins"),
    (".git-credentials", "a file of logins"),
];

/// The end of a name, and what it is.
const ENDS: &[(&str, &str)] = &[
    (".orig", "a file of a merge"),
    (".rej", "a file of a merge"),
    (".swp", "a file of an editor"),
    (".core", "a crash dump"),
];

/// Whether a path is, or lies in, something that a program left behind. Returns the path up to that
/// part, and what it is.
pub(super) fn dropping(path: &[u8]) -> Option<(&[u8], &'static str)> {
    let mut end = 0;
    let mut folder: &[u8] = b"";
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        end += part.len() + usize::from(end > 0);
        let is_file = parts.peek().is_none();
        if let Some(what) = named(part, folder, is_file) {
            return Some((path.get(..end).unwrap_or(path), what));
        }
        folder = part;
    }
    None
}

fn named(name: &[u8], folder: &[u8], is_file: bool) -> Option<&'static str> {
    let name = String::from_utf8_lossy(name);
    if name.starts_with(".aider") && !name.starts_with(".aider.conf.") && name != ".aiderignore" {
        return Some("a file of a tool");
    }
    let number = name.strip_prefix("core.").unwrap_or_default();
    if is_file && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("a crash dump");
    }
    let fits = |known: &str| known != "settings.local.json" || folder == b".claude";
    let named = NAMES.iter().find(|(known, _)| *known == name && fits(known));
    let ended =
        || ENDS.iter().find(|(end, _)| is_file && name.len() > end.len() && name.ends_with(end));
    named.or_else(ended).map(|(_, what)| *what)
}

/// Whether a content is a memory image of a program: an ELF file of the type "core".
pub(super) fn is_core(content: &[u8]) -> bool {
    let Some((magic, rest)) = content.split_first_chunk::<4>() else { return false };
    let (Some(order), Some(kind)) = (rest.get(1), rest.get(12..14)) else { return false };
    magic == b"\x7fELF" && kind == if *order == 2 { [0, 4] } else { [4, 0] }
}

/// Whether a file by its name holds the environment of a program, and not an example of one.
pub(super) fn is_environment_file(name: &[u8]) -> bool {
    const EXAMPLES: [&str; 6] = ["example", "sample", "template", "dist", "defaults", "schema"];
    let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let name = String::from_utf8_lossy(name);
    let environment = name.starts_with(".env") || name.ends_with(".env");
    environment
        && !EXAMPLES.iter().any(|example| name.split(['.', '-', '_']).any(|part| part == *example))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_names_the_part_that_a_program_left() {
        for (path, part) in [
            ("node_modules", Some("node_modules")),
            ("web/node_modules/a/index.js", Some("web/node_modules")),
            (".claude/settings.local.json", Some(".claude/settings.local.json")),
            ("config/settings.local.json", None),
            (".claude/settings.json", None),
            (".aider.chat.history.md", Some(".aider.chat.history.md")),
            (".aider.tags.cache.v3/x", Some(".aider.tags.cache.v3")),
            (".aider.conf.yml", None),
            ("core.4711", Some("core.4711")),
            ("core/mod.rs", None),
            ("src/core.rs", None),
            ("src/a.rs.orig", Some("src/a.rs.orig")),
            (".orig", None),
            ("a.core", Some("a.core")),
            ("", None),
        ] {
            let found = dropping(path.as_bytes()).map(|(part, _)| part);
            assert_eq!(found, part.map(str::as_bytes), "{path}");
        }
    }

    #[test]
    fn is_core_reads_both_byte_orders() {
        let file = |order: u8, kind: [u8; 2]| {
            let mut head = b"\x7fELF\x02".to_vec();
            head.extend([order, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            head.extend(kind);
            head
        };
        assert!(is_core(&file(1, [4, 0])) && is_core(&file(2, [0, 4])));
        assert!(!is_core(&file(1, [2, 0])) && !is_core(b"\x7fELF") && !is_core(b""));
    }
}
