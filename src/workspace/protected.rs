//! Files that decide what the test command does. A change of them can make any test pass, so a
//! human approves it: the command's own script, its target in a Makefile, the scripts of a
//! package.json, the part of a project's file that configures tests.

use std::collections::BTreeSet;

use globset::GlobSet;

use crate::config::repository::{FILE, RepositoryRules};

/// Programs whose first argument is the script that they run.
const INTERPRETERS: &[&str] = &[
    "sh", "bash", "dash", "zsh", "ksh", "python", "python3", "node", "ruby", "perl", "php", ".",
    "source",
];
/// Words in front of the program that a part of a command runs.
const PREFIXES: &[&str] = &[
    "!", "command", "do", "else", "env", "exec", "if", "nice", "nohup", "setsid", "sudo", "then",
    "time", "timeout", "until", "while", "xvfb-run",
];
/// Options of interpreters and prefixes that take the next word.
const VALUED: &[&str] = &["-o", "-eo", "-euo", "-W", "-X", "-n", "-k", "-s", "-u", "-r"];
/// How many scripts may lead from a command to another script.
const DEPTH: usize = 3;

/// The files that decide what the commands of a repository do.
pub(super) struct Protection<'a> {
    rules: &'a RepositoryRules,
    globs: GlobSet,
    /// The scripts that the commands run, on the base.
    scripts: BTreeSet<String>,
    /// Modules that an interpreter finds by name: a new file of that name would take their place.
    modules: BTreeSet<String>,
}

impl<'a> Protection<'a> {
    /// Reads the commands of the rules. `read` returns the text of a file on the base.
    pub(super) fn new(rules: &'a RepositoryRules, read: impl Fn(&str) -> Option<String>) -> Self {
        let commands = [
            Some(&rules.test),
            rules.ci.as_ref().and_then(|ci| ci.command.as_ref()),
            rules.deploy.as_ref().and_then(|deploy| deploy.command.as_ref()),
            rules.probe.as_ref().and_then(|probe| probe.command.as_ref()),
            rules.setup.command.as_ref(),
        ];
        let folder = rules.setup.dir.clone().unwrap_or_default();
        let mut open: Vec<(String, String)> =
            commands.into_iter().flatten().map(|text| (folder.clone(), text.clone())).collect();
        let (mut scripts, mut modules) = (BTreeSet::new(), BTreeSet::new());
        scripts.extend(rules.prompt.iter().map(|path| normal("", path)));
        for _ in 0..DEPTH {
            let mut next = Vec::new();
            for (folder, text) in open {
                let words = CommandWords::of(&text, &folder);
                modules.extend(words.modules);
                for path in words.scripts {
                    let Some(script) = read(&path) else { continue };
                    if scripts.insert(path.clone()) {
                        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                        next.push((folder.to_owned(), script.clone()));
                        next.push((String::new(), script));
                    }
                }
                next.extend(recipes(&text, &folder, &read));
            }
            open = next;
        }
        let globs = super::change::globs(&rules.gate.protected);
        Self { rules, globs, scripts, modules }
    }

    /// Whether the change of a file is protected, by its content where only a part of it decides.
    /// `read` returns the old and the new content; a file that doesn't exist on one side is empty
    /// there.
    pub(super) fn covers(
        &self,
        path: &str,
        is_new: bool,
        read: impl Fn() -> (Vec<u8>, Vec<u8>),
    ) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let top = path.split('/').next().unwrap_or(path);
        if path == FILE || self.globs.is_match(path) || self.scripts.contains(path) {
            return true;
        }
        let module = top.strip_suffix(".py").unwrap_or(top);
        let is_python = std::path::Path::new(path).extension().is_some_and(|end| end == "py");
        if is_new && is_python && self.modules.contains(module) {
            return true;
        }
        let differs = |part: &dyn Fn(&str) -> String| {
            let (old, new) = read();
            part(&String::from_utf8_lossy(&old)) != part(&String::from_utf8_lossy(&new))
        };
        match name {
            // Of several makefiles, make takes the first of these.
            "makefile" | "GNUmakefile" if is_new => !targets(&self.rules.test).is_empty(),
            "Makefile" | "makefile" | "GNUmakefile" => {
                let made = targets(&self.rules.test);
                !made.is_empty() && differs(&|text| rules_of(text, &made))
            }
            "package.json" => differs(&|text| {
                let runner = ["jest", "vitest", "mocha", "ava", "c8", "nyc", "type", "imports"];
                format!("{:?}{}", npm_scripts(text), json_parts(text, &runner))
            }),
            "pyproject.toml" => {
                differs(&|text| toml_parts(text, &["tool.pytest", "tool.tox", "tool.nox"]))
            }
            "Cargo.toml" => differs(&|text| {
                let keys = ["test", "profile.test", "package.autotests", "package.build", "patch"];
                toml_parts(text, &keys) + &cargo_targets(text)
            }),
            "setup.cfg" => differs(&|text| sections(text, &["tool:pytest", "pytest"])),
            _ => false,
        }
    }
}

/// The recipes and npm scripts that a command runs, each with its folder.
fn recipes(
    command: &str,
    folder: &str,
    read: &impl Fn(&str) -> Option<String>,
) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let made = targets(command);
    if !made.is_empty() {
        let names = ["GNUmakefile", "makefile", "Makefile"];
        let makefiles = names.iter().filter_map(|name| read(&normal(folder, name)));
        found.extend(makefiles.map(|text| rules_of(&text, &made)));
    }
    if ["npm", "pnpm", "yarn", "bun"].iter().any(|name| command.contains(name))
        && let Some(package) = read(&normal(folder, "package.json"))
    {
        found.push(npm_scripts(&package).join("\n"));
    }
    found.into_iter().map(|text| (folder.to_owned(), text)).collect()
}

/// The programs that the parts of a command name.
struct CommandWords {
    /// Programs and scripts, as paths from the top of the repository.
    scripts: Vec<String>,
    /// Modules that `-m` names, without those inside them.
    modules: Vec<String>,
}

impl CommandWords {
    fn of(command: &str, folder: &str) -> Self {
        let mut found = Self { scripts: Vec::new(), modules: Vec::new() };
        let mut folder = folder.to_owned();
        for part in command.split([';', '&', '|', '\n', '(', ')', '`']) {
            let words = part.split_whitespace().map(unquoted);
            let mut words = words.filter(|word| !word.is_empty() && !is_assignment(word));
            let Some(program) = program(&mut words) else { continue };
            let name = program.rsplit('/').next().unwrap_or(program);
            if name == "cd" {
                folder = words.next().map_or_else(|| folder.clone(), |to| normal(&folder, to));
            } else if INTERPRETERS.contains(&name) {
                found.interpreted(&mut words, &folder);
            } else {
                found.scripts.push(normal(&folder, program));
                if name == "make" || name == "gmake" {
                    let file = words.skip_while(|word| *word != "-f").nth(1);
                    found.scripts.extend(file.map(|file| normal(&folder, file)));
                }
            }
        }
        found
    }

    /// Adds the script or the module that an interpreter runs.
    fn interpreted<'a>(&mut self, words: &mut impl Iterator<Item = &'a str>, folder: &str) {
        while let Some(word) = words.next() {
            if word == "-m" {
                let Some(module) = words.next() else { return };
                let path = module.replace('.', "/");
                self.scripts.push(normal(folder, &format!("{path}.py")));
                self.scripts.push(normal(folder, &format!("{path}/__main__.py")));
                self.modules.push(module.split('.').next().unwrap_or(module).to_owned());
                return;
            }
            if VALUED.contains(&word) {
                words.next();
            } else if !word.starts_with('-') {
                self.scripts.push(normal(folder, word));
                return;
            }
        }
    }
}

/// The program of a part of a command, behind `timeout 60`, `env` and the like.
fn program<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    while let Some(word) = words.next() {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        if VALUED.contains(&word) {
            words.next();
        } else if !(PREFIXES.contains(&word) || word.starts_with('-') || is_number) {
            return Some(word);
        }
    }
    None
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map(|(name, _)| name);
    name.is_some_and(|name| name.chars().all(|c| c.is_alphanumeric() || c == '_'))
}

fn unquoted(word: &str) -> &str {
    word.trim_matches(['"', '\''])
}

/// A path from the top of the repository, without `.` and `..`.
fn normal(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
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

/// The rules of some targets in a Makefile and of what these need first, each with its recipe and the
/// variables in it; and the lines that change how every recipe runs.
fn rules_of(text: &str, targets: &[String]) -> String {
    let needed = kept(text, targets);
    let heads = needed.lines().filter(|line| !line.starts_with('\t'));
    let needs = heads.filter_map(|line| line.split_once(':')).map(|(_, needs)| needs);
    let before: Vec<String> = needs.flat_map(str::split_whitespace).map(str::to_owned).collect();
    let mut found = needed + &kept(text, &before);
    let always = ["SHELL", ".SHELLFLAGS", "MAKEFLAGS", ".IGNORE", "include", "-include", "export"];
    for line in text.lines().filter(|line| !line.starts_with(['\t', '#'])) {
        let word = line.split([' ', ':', '=', '?', '+']).next().unwrap_or_default();
        let used = [format!("$({word})"), format!("${{{word}}}")];
        let in_recipe = found
            .lines()
            .filter(|kept| kept.starts_with('\t'))
            .any(|kept| line.contains('=') && used.iter().any(|name| kept.contains(name.as_str())));
        if !word.is_empty() && (always.contains(&word) || word.contains(['$', '%']) || in_recipe) {
            found.push_str(&format!("{line}\n"));
        }
    }
    found
}

/// The rules of some targets in a Makefile, each with its recipe.
fn kept(text: &str, targets: &[String]) -> String {
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

/// The scripts of a package.json that a test command can reach: `test` with what npm runs around it,
/// and each one that another of these runs.
fn npm_scripts(text: &str) -> Vec<String> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return vec![text.to_owned()];
    };
    let Some(all) = value.get("scripts").and_then(serde_json::Value::as_object) else {
        return Vec::new();
    };
    let around = ["pretest", "test", "posttest", "prepare", "preinstall", "install", "postinstall"];
    let mut names: Vec<String> = around.map(str::to_owned).to_vec();
    let mut at = 0;
    while let Some(name) = names.get(at).cloned() {
        let script = all.get(&name).and_then(serde_json::Value::as_str).unwrap_or_default();
        for other in all.keys() {
            if script.split_whitespace().any(|word| word == other) && !names.contains(other) {
                names.push(other.clone());
            }
        }
        at += 1;
    }
    let of = |name: &String| all.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    names.iter().filter_map(of).collect()
}

/// What the targets of a Cargo.toml say about their tests.
fn cargo_targets(text: &str) -> String {
    let Ok(table) = text.parse::<toml::Table>() else { return text.to_owned() };
    let of =
        |target: &toml::Value| ["test", "doctest", "harness"].map(|key| target.get(key).cloned());
    let mut found = Vec::new();
    for kind in ["lib", "bin", "example"] {
        match table.get(kind) {
            Some(toml::Value::Array(all)) => found.extend(all.iter().map(of)),
            Some(one) => found.push(of(one)),
            None => {}
        }
    }
    found.retain(|keys| keys.iter().any(Option::is_some));
    format!("{found:?}")
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

    /// Whether a change is protected where the base has these files.
    fn is_protected(config: &str, base: &[(&str, &str)], path: &str, new: &str) -> bool {
        let rules = RepositoryRules::parse(config).unwrap();
        let read = |path: &str| {
            base.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
        };
        let old = read(path);
        let protection = Protection::new(&rules, read);
        let is_new = old.is_none();
        let bytes = |text: &str| text.as_bytes().to_vec();
        protection.covers(path, is_new, || (bytes(old.as_deref().unwrap_or_default()), bytes(new)))
    }

    #[test]
    fn scripts_of_commands_are_protected_wherever_they_stand() {
        for (test, script) in [
            ("./run.sh", "run.sh"),
            ("sh -e ci/test.sh --all", "ci/test.sh"),
            ("cd web && sh ./run.sh", "web/run.sh"),
            ("timeout 60 sh run.sh", "run.sh"),
            ("bash -euo pipefail run.sh", "run.sh"),
            ("python3 -B -W error ci/all.py", "ci/all.py"),
            ("python3 -m ci.run", "ci/run.py"),
            ("A=1 scripts/../scripts/run.sh", "scripts/run.sh"),
            ("make -f ci.mk", "ci.mk"),
        ] {
            let config = format!("test = '{test}'");
            assert!(is_protected(&config, &[(script, "old")], script, "exit 0"), "{test}");
            assert!(!is_protected(&config, &[("src/lib.c", "a")], "src/lib.c", "b"), "{test}");
        }
        let nested =
            [("test.sh", ". ./lib.sh\nsh ci/more.sh"), ("lib.sh", "a"), ("ci/more.sh", "b")];
        assert!(is_protected("test = './test.sh'", &nested, "lib.sh", "x"));
        assert!(is_protected("test = './test.sh'", &nested, "ci/more.sh", "x"));
        let recipe = [("Makefile", "check:\n\tsh ci/run.sh\n"), ("ci/run.sh", "a")];
        assert!(is_protected("test = 'make check'", &recipe, "ci/run.sh", "x"));
        let npm = [("package.json", r#"{"scripts":{"test":"node run.mjs"}}"#), ("run.mjs", "a")];
        assert!(is_protected("test = 'npm test'", &npm, "run.mjs", "x"));
        // A script that the base lacks is the run's own test.
        assert!(!is_protected("test = 'sh tests/new.sh'", &[], "tests/new.sh", "x"));
    }

    #[test]
    fn every_command_has_its_script_protected() {
        for section in [
            "[ci]\ncommand = './x.sh'",
            "[deploy]\ncommand = './x.sh'",
            "[probe]\ncommand = './x.sh'",
            "[setup]\ncommand = './x.sh'",
        ] {
            let config = format!("test = 'true'\n{section}");
            assert!(is_protected(&config, &[("x.sh", "a")], "x.sh", "b"), "{section}");
        }
        assert!(is_protected("test = 'true'\nprompt = 'p.md'", &[("p.md", "a")], "p.md", "b"));
    }

    #[test]
    fn only_the_part_that_decides_is_protected() {
        let make = "RUN = ./run-tests\nall: x\n\tcc x\n\n.PHONY: check\ncheck: x\n\t$(RUN)\n";
        let json = r#"{"scripts":{"test":"jest","lint":"eslint"},"dependencies":{"a":"1"}}"#;
        let toml = "[package]\nversion = '1'\n[[test]]\nname = 'a'";
        for (path, old, new, protected) in [
            ("Makefile", make, make.replace("cc x", "cc x y"), false),
            ("Makefile", make, make.replace("./run-tests", "true"), true),
            ("Makefile", make, make.replace("\t$(RUN)", "\ttrue"), true),
            ("Makefile", make, format!("SHELL = /bin/true\n{make}"), true),
            ("Makefile", make, format!("include more.mk\n{make}"), true),
            ("package.json", json, json.replace("\"1\"", "\"2\""), false),
            ("package.json", json, json.replace("eslint", "eslint ."), false),
            ("web/package.json", json, json.replace("jest", "true"), true),
            ("package.json", json, "{".into(), true),
            ("Cargo.toml", toml, toml.replace("'1'", "'2'"), false),
            ("Cargo.toml", toml, format!("{toml}\n[[bin]]\nname = 'b'"), false),
            ("Cargo.toml", toml, format!("{toml}\n[lib]\ntest = false"), true),
            ("pyproject.toml", "[tool.ruff]\na = 1", "[tool.ruff]\na = 2".into(), false),
            ("pyproject.toml", "a = 1", "[tool.pytest.ini_options]\naddopts = '-k x'".into(), true),
            ("setup.cfg", "[a]\nb = 1", "[a]\nb = 2".into(), false),
            ("setup.cfg", "[a]\nb = 1", "[a]\nb = 1\n[tool:pytest]\nc = 1".into(), true),
            ("tests/conftest.py", "a", "x".into(), true),
            (".afk.toml", "a", "b".into(), true),
            (".github/workflows/ci.yml", "a", "b".into(), true),
            ("AGENTS.md", "a", "b".into(), true),
            (".npmrc", "a", "b".into(), true),
            ("src/lib.rs", "a", "b".into(), false),
        ] {
            let found = is_protected("test = 'make check'", &[(path, old)], path, &new);
            assert_eq!(found, protected, "{path}: {new}");
        }
        let make = [("Makefile", "all:\n\ta")];
        assert!(is_protected("test = 'make'", &make, "GNUmakefile", "x"));
    }

    #[test]
    fn own_list_drops_no_rule_and_rules_hide_no_glob() {
        let config = "test = 'make'\n[gate]\nprotected = ['Makefile', 'ci/**']";
        let make = [("Makefile", "all:\n\ta\nx:\n\tb"), (".afk.toml", "a")];
        assert!(is_protected(config, &make, "Makefile", "all:\n\ta\nx:\n\tc"));
        assert!(is_protected(config, &make, ".afk.toml", "b"));
    }

    #[test]
    fn new_file_in_the_place_of_the_runner_is_protected() {
        for path in ["pytest.py", "pytest/__init__.py"] {
            assert!(is_protected("test = 'python3 -m pytest'", &[], path, "x"), "{path}");
        }
        assert!(!is_protected("test = 'python3 -m pytest'", &[], "app.py", "x"));
    }
}
