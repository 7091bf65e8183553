//! Proposes the test command of a repository and the source of the tests' names, by the files at its
//! top.

use std::path::Path;

use crate::agent::vendor::on_path;

/// The commands that run a repository's tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProposedSuite {
    /// The file that the proposal rests on.
    pub found: &'static str,
    /// The command that installs what the tests need into a fresh checkout.
    pub setup: Option<String>,
    /// The command that runs the tests.
    pub test: String,
    /// The value of `[gate] report`; none leaves it to afk to recognise the output.
    pub report: Option<&'static str>,
}

impl ProposedSuite {
    fn new(found: &'static str, test: impl Into<String>, report: Option<&'static str>) -> Self {
        Self { found, setup: None, test: test.into(), report }
    }

    /// The whole test command: it works in a fresh checkout.
    pub(super) fn command(&self) -> String {
        match &self.setup {
            Some(setup) => format!("{setup} && {}", self.test),
            None => self.test.clone(),
        }
    }
}

/// The largest file that the proposal reads.
const LARGEST: u64 = 1 << 20;

/// The top folder of a checkout.
struct Top<'a>(&'a Path);

impl Top<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// The text of a file; an empty one if it can't be read or is large.
    fn text(&self, name: &str) -> String {
        let path = self.0.join(name);
        let small = path.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
        if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    }

    /// The names in a folder, in order.
    fn names(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.join(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).take(10_000).collect();
        names.sort();
        names
    }
}

/// The suite of a repository, or none if no file suggests one.
pub(super) fn propose(top: &Path) -> Option<ProposedSuite> {
    let top = Top(top);
    script(&top)
        .or_else(|| cargo(&top))
        .or_else(|| node(&top))
        .or_else(|| {
            let go = || ProposedSuite::new("go.mod", "go test -v ./...", Some("go"));
            top.has("go.mod").then(go)
        })
        .or_else(|| jvm(&top))
        .or_else(|| {
            let mix = || ProposedSuite::new("mix.exs", "mix test", None);
            top.has("mix.exs").then(mix)
        })
        .or_else(|| python(&top))
        .or_else(|| make(&top))
}

fn extension(name: &str) -> Option<&str> {
    Path::new(name).extension()?.to_str()
}

fn script(top: &Top<'_>) -> Option<ProposedSuite> {
    use std::os::unix::fs::PermissionsExt;
    let meta = top.0.join("test.sh").metadata().ok().filter(std::fs::Metadata::is_file)?;
    let executable = meta.permissions().mode() & 0o111 != 0;
    let command = if executable { "./test.sh" } else { "sh ./test.sh" };
    Some(ProposedSuite::new("test.sh", command, None))
}

fn cargo(top: &Top<'_>) -> Option<ProposedSuite> {
    if !top.has("Cargo.toml") {
        return None;
    }
    let workspace =
        if top.text("Cargo.toml").contains("[workspace]") { " --workspace" } else { "" };
    // After the first program with a failed test, cargo would not run the others.
    let suite = |runner: &str, report| {
        let command = format!("cargo {runner}{workspace} --no-fail-fast");
        ProposedSuite::new("Cargo.toml", command, Some(report))
    };
    let nextest = top.has(".config/nextest.toml") && on_path("cargo-nextest").is_some();
    Some(if nextest { suite("nextest run", "nextest") } else { suite("test", "libtest") })
}

fn node(top: &Top<'_>) -> Option<ProposedSuite> {
    let package: serde_json::Value = serde_json::from_str(&top.text("package.json")).ok()?;
    let script = package["scripts"]["test"].as_str().unwrap_or_default();
    let (manager, install) = if top.has("pnpm-lock.yaml") {
        ("pnpm", Some("pnpm install --frozen-lockfile"))
    } else if top.has("yarn.lock") {
        ("yarn", Some("yarn install --frozen-lockfile"))
    } else if top.has("package-lock.json") || top.has("npm-shrinkwrap.json") {
        ("npm", Some("npm ci"))
    } else {
        ("npm", Some("npm install"))
    };
    let needs = |key: &str| package[key].as_object().is_some_and(|needs| !needs.is_empty());
    let installs = needs("dependencies") || needs("devDependencies");
    let placeholder = script.is_empty() || script.contains("no test specified");
    let mut suite = if placeholder {
        let is_test = |name: &String| {
            name.contains(".test.") || name.contains("-test.") || name.starts_with("test-")
        };
        let tests = ["test", "tests", "."].map(|folder| top.names(folder));
        // `node --test` runs every script in a folder `test`.
        if !tests[0].iter().any(|name| name.ends_with("js")) && !tests.iter().flatten().any(is_test)
        {
            return None;
        }
        ProposedSuite::new("package.json", "node --test", Some("node"))
    } else {
        // More words reach the test runner only if it is the last command of the script.
        let last = script.rsplit([';', '|', '&']).next().unwrap_or(script);
        let runs = |program: &str| {
            last.split_whitespace().any(|word| word.rsplit('/').next() == Some(program))
        };
        let with = |more: &str| match manager {
            "npm" => format!("npm test -- {more}"),
            manager => format!("{manager} test {more}"),
        };
        if runs("vitest") {
            let test = with("--run --reporter=verbose");
            ProposedSuite::new("package.json", test, Some("vitest"))
        } else if runs("jest") {
            ProposedSuite::new("package.json", with("--verbose"), Some("jest"))
        } else if runs("node") && last.contains("--test") {
            ProposedSuite::new("package.json", format!("{manager} test"), Some("node"))
        } else {
            ProposedSuite::new("package.json", format!("{manager} test"), None)
        }
    };
    suite.setup = install.filter(|_| installs).map(str::to_owned);
    Some(suite)
}

fn jvm(top: &Top<'_>) -> Option<ProposedSuite> {
    if top.has("pom.xml") {
        let report = "junit:**/target/surefire-reports/TEST-*.xml";
        return Some(ProposedSuite::new("pom.xml", "mvn -q test", Some(report)));
    }
    let report = "junit:**/build/test-results/test/TEST-*.xml";
    top.has("gradlew").then(|| ProposedSuite::new("gradlew", "./gradlew test", Some(report)))
}

fn python(top: &Top<'_>) -> Option<ProposedSuite> {
    const SETTINGS: [(&str, &str); 7] = [
        ("pytest.ini", ""),
        ("conftest.py", ""),
        ("pyproject.toml", "pytest"),
        ("setup.cfg", "pytest"),
        ("tox.ini", "pytest"),
        ("requirements-dev.txt", "pytest"),
        ("requirements.txt", "pytest"),
    ];
    let settings =
        SETTINGS.iter().find(|(file, word)| top.has(file) && top.text(file).contains(word));
    let places = [".", "tests", "test"].map(|folder| (folder, top.names(folder)));
    let is_test = |name: &&String| {
        extension(name) == Some("py") && (name.starts_with("test_") || name.ends_with("_test.py"))
    };
    if let Some((file, _)) = settings {
        let runner = if top.has("uv.lock") {
            "uv run pytest"
        } else if top.has("poetry.lock") {
            "poetry run pytest"
        } else {
            "python3 -m pytest"
        };
        return Some(ProposedSuite::new(file, format!("{runner} -v"), Some("pytest")));
    }
    let (folder, first) =
        places.iter().find_map(|(folder, names)| Some((*folder, names.iter().find(is_test)?)))?;
    let text = top.text(&format!("{folder}/{first}"));
    if !text.contains("unittest") {
        return Some(ProposedSuite::new("test_*.py", "python3 -m pytest -v", Some("pytest")));
    }
    let test = if folder == "." || top.has(&format!("{folder}/__init__.py")) {
        "python3 -m unittest -v".to_owned()
    } else {
        format!("python3 -m unittest discover -v -s {folder}")
    };
    Some(ProposedSuite::new("test_*.py", test, Some("unittest")))
}

/// `make check` and `make test` go by exit code, unless afk recognises the test runner's output.
fn make(top: &Top<'_>) -> Option<ProposedSuite> {
    const FILES: [&str; 4] = ["GNUmakefile", "makefile", "Makefile", "Makefile.am"];
    let file = FILES.into_iter().find(|file| top.has(file));
    // Automake's own target needs no line of the file.
    if file.is_none_or(|file| file == "Makefile.am") {
        return top
            .has("configure")
            .then(|| ProposedSuite::new("configure", "./configure && make check", None));
    }
    let file = file?;
    let text = top.text(file);
    let has = |target: &str| {
        text.lines().any(|line| {
            let targets = line.split_once(':').filter(|(_, rest)| !rest.starts_with('='));
            targets.is_some_and(|(names, _)| names.split_whitespace().any(|name| name == target))
        })
    };
    let target = ["check", "test", "tests"].into_iter().find(|target| has(target))?;
    Some(ProposedSuite::new(file, format!("make {target}"), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proposal for a folder with these files.
    fn proposal(files: &[(&str, &str)]) -> Option<(String, Option<&'static str>)> {
        let top = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = top.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        propose(top.path()).map(|suite| (suite.command(), suite.report))
    }

    #[test]
    fn files_suggest_command_and_report() {
        let jest = r#"{"scripts": {"test": "NODE_ENV=test jest --ci"}, "devDependencies": {"jest": "30"}}"#;
        let vitest = r#"{"scripts": {"test": "tsc && vitest"}}"#;
        let node = r#"{"scripts": {"test": "node --test"}}"#;
        let tsc_last = r#"{"scripts": {"test": "jest && tsc"}}"#;
        let none = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
        for (files, command, report) in [
            (&[("test.sh", "true"), ("Cargo.toml", "")][..], "sh ./test.sh", None),
            (&[("Cargo.toml", "")], "cargo test --no-fail-fast", Some("libtest")),
            (
                &[("Cargo.toml", "[workspace]")],
                "cargo test --workspace --no-fail-fast",
                Some("libtest"),
            ),
            (
                &[("package.json", jest), ("package-lock.json", "{}")],
                "npm ci && npm test -- --verbose",
                Some("jest"),
            ),
            (
                &[("package.json", jest), ("pnpm-lock.yaml", "")],
                "pnpm install --frozen-lockfile && pnpm test --verbose",
                Some("jest"),
            ),
            (&[("package.json", vitest)], "npm test -- --run --reporter=verbose", Some("vitest")),
            (&[("package.json", node)], "npm test", Some("node")),
            (&[("package.json", tsc_last)], "npm test", None),
            (&[("package.json", none), ("test/a.mjs", "")], "node --test", Some("node")),
            (&[("go.mod", "")], "go test -v ./...", Some("go")),
            (
                &[("pom.xml", "")],
                "mvn -q test",
                Some("junit:**/target/surefire-reports/TEST-*.xml"),
            ),
            (&[("conftest.py", "")], "python3 -m pytest -v", Some("pytest")),
            (
                &[("pyproject.toml", "[tool.pytest.ini_options]"), ("uv.lock", "")],
                "uv run pytest -v",
                Some("pytest"),
            ),
            (&[("test_a.py", "import unittest")], "python3 -m unittest -v", Some("unittest")),
            (
                &[("tests/test_a.py", "import unittest")],
                "python3 -m unittest discover -v -s tests",
                Some("unittest"),
            ),
            (&[("tests/test_a.py", "def test_b(): pass")], "python3 -m pytest -v", Some("pytest")),
            (&[("Makefile", "all:\n\ntest check: all\n")], "make check", None),
            (&[("Makefile", "test:\n\ttrue\n")], "make test", None),
            (&[("configure", ""), ("Makefile.am", "")], "./configure && make check", None),
        ] {
            assert_eq!(proposal(files), Some((command.to_owned(), report)), "{files:?}");
        }
    }

    #[test]
    fn no_suite_is_made_up() {
        let none = r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1"}}"#;
        for files in [
            &[("README.md", "test:")][..],
            &[("package.json", none)],
            &[("package.json", "not json")],
            &[("Makefile", "test := yes\nall:\n")],
            &[("pyproject.toml", "[project]")],
        ] {
            assert_eq!(proposal(files), None, "{files:?}");
        }
    }

    #[test]
    fn every_proposed_report_is_a_valid_format() {
        use crate::config::report::ReportFormat;
        for report in [
            "libtest",
            "nextest",
            "vitest",
            "jest",
            "node",
            "go",
            "pytest",
            "unittest",
            "junit:**/target/surefire-reports/TEST-*.xml",
            "junit:**/build/test-results/test/TEST-*.xml",
        ] {
            ReportFormat::try_from(report.to_owned()).unwrap();
        }
    }
}
