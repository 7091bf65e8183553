//! Files that decide what the test command does. A change of them can make any test pass, so a
//! human approves it: the command's own script, its target in a Makefile, the scripts of a
//! package.json, the part of a project's file that configures tests.

use crate::config::repository::GateConfig;

/// Programs whose first argument is the script that they run.
const INTERPRETERS: &[&str] =
    &["sh", "bash", "dash", "zsh", "ksh", "python", "python3", "node", "ruby", "perl", "php", "."];

/// The paths in a test command that are programs or scripts: the first word of each part, and the
/// first argument of an interpreter.
pub(super) fn scripts(command: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in command.split([';', '&', '|', '\n', '(', ')']) {
        let is_word = |word: &&str| !word.is_empty() && !word.contains('=');
        let mut words = part.split_whitespace().map(unquoted).filter(is_word);
        let keywords = ["do", "then", "else", "!", "exec", "time", "env", "if", "while"];
        let Some(program) = words.find(|word| !keywords.contains(word)) else { continue };
        let script = if INTERPRETERS.contains(&program) {
            words.find(|word| !word.starts_with('-'))
        } else {
            Some(program)
        };
        found.extend(script.map(|word| word.trim_start_matches("./").to_owned()));
    }
    found
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// Whether the change of a file is protected, by its content where only a part of it decides. A file
/// that doesn't exist on one side is empty there.
pub(super) fn is_protected(
    path: &str,
    old: &[u8],
    new: &[u8],
    gate: &GateConfig,
    test: &str,
) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    // A script that the base lacks is the run's own test.
    if !old.is_empty() && scripts(test).iter().any(|script| script == path) {
        return true;
    }
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let differs = |part: &dyn Fn(&str) -> String| part(&old) != part(&new);
    match name {
        "Makefile" | "makefile" | "GNUmakefile" => differs(&|text| rules(text, &targets(test))),
        "package.json" => differs(&|text| {
            json_parts(text, &["scripts", "jest", "vitest", "mocha", "ava", "c8", "nyc"])
        }),
        "pyproject.toml" => {
            differs(&|text| toml_parts(text, &["tool.pytest", "tool.tox", "tool.nox"]))
        }
        "Cargo.toml" => differs(&|text| {
            let keys = ["test", "lib", "bin", "example", "profile.test", "package.autotests"];
            toml_parts(text, &keys)
        }),
        "setup.cfg" => differs(&|text| sections(text, &["tool:pytest", "pytest"])),
        _ => super::change::globs(&gate.protected).is_match(path),
    }
}

/// The targets that a test command makes; the first one of the file if it names none.
fn targets(command: &str) -> Vec<String> {
    let words = || command.split([';', '&', '|', '\n']).map(str::split_whitespace);
    let makes = words().filter_map(|mut words| {
        words.next().filter(|program| matches!(*program, "make" | "gmake"))?;
        let named: Vec<String> = words
            .filter(|word| !word.starts_with('-') && !word.contains('='))
            .map(str::to_owned)
            .collect();
        Some(if named.is_empty() { vec![String::new()] } else { named })
    });
    makes.flatten().collect()
}

/// The rules of some targets in a Makefile, each with its recipe.
fn rules(text: &str, targets: &[String]) -> String {
    let mut found = String::new();
    let (mut inside, mut first) = (false, true);
    for line in text.lines() {
        let head = line.split_once(':').filter(|(_, rest)| !rest.starts_with('='));
        if !line.starts_with(['\t', '#', ' ']) && !line.trim().is_empty() {
            inside = head.is_some_and(|(names, _)| {
                let real = first && !names.starts_with('.');
                let mut names = names.split_whitespace();
                names.any(|name| targets.iter().any(|t| t == name || t.is_empty() && real))
            });
            first &= head.is_none_or(|(names, _)| names.starts_with('.'));
        }
        if inside {
            found.push_str(line);
            found.push('\n');
        }
    }
    found
}

fn json_parts(text: &str, keys: &[&str]) -> String {
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => format!("{:?}", keys.iter().map(|key| value.get(key)).collect::<Vec<_>>()),
        // What can't be read differs from what can.
        Err(_) => text.to_owned(),
    }
}

fn toml_parts(text: &str, keys: &[&str]) -> String {
    let Ok(table) = text.parse::<toml::Table>() else { return text.to_owned() };
    let find = |key: &&str| {
        let mut parts = key.split('.');
        let first = table.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part)).cloned()
    };
    format!("{:?}", keys.iter().map(find).collect::<Vec<_>>())
}

/// Sections of an INI file.
fn sections(text: &str, names: &[&str]) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            inside = names.contains(&name);
        }
        inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_of_a_command_are_found() {
        for (command, found) in [
            ("./test.sh", vec!["test.sh"]),
            ("sh -e ci/test.sh --all", vec!["ci/test.sh"]),
            ("cd web && ./run && bash 'x.sh'", vec!["cd", "run", "x.sh"]),
            ("for t in tests/*.sh; do sh $t || exit 1; done", vec!["for", "$t", "exit", "done"]),
            ("A=1 pytest tests/test_a.py", vec!["pytest"]),
        ] {
            assert_eq!(scripts(command), found, "{command}");
        }
    }

    #[test]
    fn only_the_part_that_decides_is_protected() {
        let gate = GateConfig::default();
        let make = "all: x\n\tcc x\n\n.PHONY: check\ncheck: x\n\t./run-tests\n";
        let more = make.replace("cc x", "cc x y");
        let less = make.replace("./run-tests", "true");
        let json = r#"{"scripts":{"test":"jest"},"dependencies":{"a":"1"}}"#;
        let bumped = json.replace("\"1\"", "\"2\"");
        let emptied = json.replace("jest", "true");
        let toml = "[package]\nversion = '1'\n[[test]]\nname = 'a'";
        for (path, old, new, protected) in [
            ("Makefile", make, more.as_str(), false),
            ("Makefile", make, less.as_str(), true),
            ("package.json", json, bumped.as_str(), false),
            ("web/package.json", json, emptied.as_str(), true),
            ("package.json", json, "{", true),
            ("Cargo.toml", toml, "[package]\nversion = '2'\n[[test]]\nname = 'a'", false),
            ("Cargo.toml", toml, "[package]\nversion = '1'\n[lib]\ntest = false", true),
            ("pyproject.toml", "[tool.ruff]\na = 1", "[tool.ruff]\na = 2", false),
            ("pyproject.toml", "", "[tool.pytest.ini_options]\naddopts = '-k x'", true),
            (
                "setup.cfg",
                "[a]\nb = 1\n[tool:pytest]\nc = 1",
                "[a]\nb = 2\n[tool:pytest]\nc = 1",
                false,
            ),
            ("tests/conftest.py", "", "x", true),
            (".afk.toml", "a", "b", true),
            (".github/workflows/ci.yml", "a", "b", true),
            (".cargo/config.toml", "a", "b", true),
            ("src/lib.rs", "a", "b", false),
        ] {
            let (old, new) = (old.as_bytes(), new.as_bytes());
            assert_eq!(is_protected(path, old, new, &gate, "make check"), protected, "{path}");
        }
        assert!(is_protected("t.sh", b"a", b"exit 0", &gate, "./t.sh"));
        assert!(is_protected("Makefile", b"all:\n\ta", b"all:\n\tb", &gate, "make"));
    }
}
