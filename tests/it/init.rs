//! `afk init` on small real repositories: it proposes the test command, tries it once behind the wall,
//! and writes it with the source of the tests' names.

use std::path::{Path, PathBuf};
use std::process::Command;

use afk::config::report::{ReportFormat, ReportKind};
use afk::config::repository::RepositoryRules;

use crate::support::pty::Terminal;
use crate::support::{afk, git, text};

struct Repository {
    dir: tempfile::TempDir,
}

impl Repository {
    /// A repository with one commit of these files.
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = Self { dir };
        std::fs::create_dir(this.top()).unwrap();
        git(&this.top(), &["init", "-q", "--initial-branch=trunk"]);
        for (name, content) in files {
            let path = this.top().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        if !files.is_empty() {
            git(&this.top(), &["add", "--all"]);
            git(&this.top(), &["commit", "-q", "-m", "Begin"]);
        }
        this
    }

    fn top(&self) -> PathBuf {
        self.dir.path().join("thing")
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Calls `afk init`, which must end well, and returns its output.
    fn init(&self, more: &[&str]) -> String {
        let (config, state) = (self.path("config/afk.toml"), self.path("state"));
        let args = ["--config", &config, "--state", &state, "init"];
        let out = afk(&[&args[..], more].concat()).current_dir(self.top()).output().unwrap();
        let printed = text(&out.stdout) + &text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{printed}");
        printed
    }

    /// The rules that `afk init` wrote.
    fn rules(&self) -> RepositoryRules {
        let written = std::fs::read_to_string(self.top().join(".afk.toml")).unwrap();
        RepositoryRules::parse(&written).unwrap()
    }

    /// Fails if the trial left anything behind.
    fn is_untouched(&self) {
        assert_eq!(git(&self.top(), &["status", "--porcelain", "--ignored"]), "?? .afk.toml");
        assert!(!Path::new(&self.path("state")).exists(), "the trial left its folder");
    }
}

fn installed(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("!!! SKIPPED: {program} is not installed");
    }
    found
}

#[test]
fn init_tries_make_check_and_goes_by_exit_code() {
    let repository = Repository::new(&[("Makefile", "check:\n\ttouch made\n\ttest -e Makefile\n")]);
    let printed = repository.init(&[]);
    assert!(printed.contains("Makefile suggests the test command `make check`."), "{printed}");
    assert!(printed.contains("Trying it once on a clean checkout of "), "{printed}");
    assert!(printed.contains("The test command passed in "), "{printed}");
    assert!(printed.contains("the gate goes by exit codes only"), "{printed}");
    let rules = repository.rules();
    assert_eq!((rules.test.as_str(), rules.gate.report), ("make check", ReportFormat::Auto));
    repository.is_untouched();
}

const UNITTEST: &str = "import unittest


class Sums(unittest.TestCase):
    def test_adds(self):
        self.assertEqual(1 + 1, 2)

    def test_subtracts(self):
        self.assertEqual(2 - 1, 1)
";

#[test]
fn init_reads_the_names_of_a_python_suite() {
    if !installed("python3") {
        return;
    }
    let repository = Repository::new(&[("test_sums.py", UNITTEST)]);
    let printed = repository.init(&[]);
    assert!(
        printed.contains("passed in ") && printed.contains(", with 2 tests by name."),
        "{printed}"
    );
    let rules = repository.rules();
    assert_eq!(rules.test, "python3 -m unittest -v");
    assert_eq!(rules.gate.report, ReportFormat::Output(ReportKind::Unittest));
    repository.is_untouched();
}

#[test]
fn init_explains_a_failed_suite_and_writes_it() {
    if !installed("python3") {
        return;
    }
    let failing = UNITTEST.replace("2 - 1, 1", "2 - 1, 3");
    let repository = Repository::new(&[("test_sums.py", &failing)]);
    let printed = repository.init(&[]);
    assert!(printed.contains("with exit code 1: 1 of 2 tests failed."), "{printed}");
    assert!(printed.contains("    test_sums.Sums.test_subtracts\n"), "{printed}");
    assert!(printed.contains("    AssertionError: 1 != 3\n"), "{printed}");
    assert!(printed.contains("No run starts on a red suite."), "{printed}");
    assert_eq!(repository.rules().test, "python3 -m unittest -v");
    let written = std::fs::read_to_string(repository.top().join(".afk.toml")).unwrap();
    assert!(written.contains("# `afk init` tried it: it failed in "), "{written}");
    repository.is_untouched();
}

#[test]
fn init_reads_the_names_of_a_cargo_suite() {
    let manifest = "[package]\nname = \"thing\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    let library = "/// ```\n/// thing::nothing();\n/// ```\npub fn nothing() {}\n\n\
                   #[test]\nfn stands() {}\n";
    let repository = Repository::new(&[
        ("Cargo.toml", manifest),
        ("src/lib.rs", library),
        ("tests/outside.rs", "#[test]\nfn works() {\n    thing::nothing();\n}\n"),
        (".gitignore", "target\n"),
    ]);
    let printed = repository.init(&[]);
    assert!(printed.contains(", with 3 tests by name."), "{printed}");
    let rules = repository.rules();
    assert_eq!(rules.test, "cargo test --no-fail-fast");
    assert_eq!(rules.gate.report, ReportFormat::Output(ReportKind::Libtest));
    repository.is_untouched();
}

#[test]
fn init_reads_the_names_of_a_node_suite() {
    if !installed("node") || !installed("npm") {
        return;
    }
    let package = r#"{"name": "thing", "scripts": {"test": "node --test"}}"#;
    let test = "const { test } = require('node:test');\n\ntest('stands', () => {});\n";
    let repository = Repository::new(&[("package.json", package), ("test/a.test.js", test)]);
    let printed = repository.init(&[]);
    assert!(printed.contains(", with 1 test by name."), "{printed}");
    let rules = repository.rules();
    assert_eq!(rules.test, "npm test");
    assert_eq!(rules.gate.report, ReportFormat::Output(ReportKind::Node));
    repository.is_untouched();
}

#[test]
fn init_stops_a_suite_at_the_limit() {
    let repository = Repository::new(&[("test.sh", "echo begun; sleep 600\n")]);
    let printed = repository.init(&["--try-seconds", "2"]);
    assert!(printed.contains("The test command was still running after 2 seconds"), "{printed}");
    assert!(printed.contains("    begun\n"), "{printed}");
    assert_eq!(repository.rules().test, "sh ./test.sh");
    repository.is_untouched();
}

#[test]
fn init_tries_the_suite_behind_the_wall() {
    let script =
        "cat \"$(dirname \"$PWD\")/../../secret\" && exit 0\necho no secret here; exit 3\n";
    let repository = Repository::new(&[("test.sh", script)]);
    std::fs::write(repository.path("secret"), "found it\n").unwrap();
    let printed = repository.init(&[]);
    assert!(printed.contains("exit code 3") && printed.contains("no secret here"), "{printed}");
    assert!(!printed.contains("found it"), "{printed}");
}

#[test]
fn init_says_why_it_tries_nothing() {
    let repository = Repository::new(&[("test.sh", "touch \"$0.ran\"\n")]);
    let printed = repository.init(&["--no-try"]);
    assert!(!printed.contains("Trying"), "{printed}");
    assert_eq!(repository.rules().test, "sh ./test.sh");
    repository.is_untouched();
    let empty = Repository::new(&[]);
    std::fs::write(empty.top().join("test.sh"), "true\n").unwrap();
    let printed = empty.init(&[]);
    assert!(printed.contains("was not tried: the repository has no commit yet."), "{printed}");
    assert_eq!(empty.rules().test, "sh ./test.sh");
    let unknown = Repository::new(&[("README", "")]);
    let printed = unknown.init(&[]);
    assert!(!printed.contains("tried"), "{printed}");
    assert_eq!(unknown.rules().test, "false");
}

#[test]
fn init_asks_before_it_writes_a_failed_suite() {
    let repository = Repository::new(&[("test.sh", "echo broken; exit 1\n")]);
    let (config, state) = (repository.path("config/afk.toml"), repository.path("state"));
    let args = ["--config", &config, "--state", &state, "init"];
    let mut screen = Terminal::start(&args, 120, 40, &repository.top());
    screen.shows("Write .afk.toml with this command? [Y/n]");
    screen.keys("n\r");
    screen.shows("wrote no ");
    screen.shows("`afk doctor` reports what is missing.");
    assert!(!repository.top().join(".afk.toml").exists());
    assert!(Path::new(&config).exists());
}

#[test]
fn interrupted_trial_goes_on_with_the_file() {
    let repository = Repository::new(&[("test.sh", "sleep 600\n")]);
    let (config, state) = (repository.path("config/afk.toml"), repository.path("state"));
    let args = ["--config", &config, "--state", &state, "init"];
    let mut screen = Terminal::start(&args, 120, 40, &repository.top());
    screen.shows("Ctrl-C skips it.");
    screen.keys("\u{3}");
    screen.shows("The test command was interrupted.");
    screen.shows("`afk doctor` reports what is missing.");
    assert_eq!(repository.rules().test, "sh ./test.sh");
    repository.is_untouched();
}

/// Makes the repository known under `origin` by a bare clone.
fn add_origin(repository: &Repository) {
    git(&repository.top(), &["clone", "-q", "--bare", ".", "../origin.git"]);
    git(&repository.top(), &["remote", "add", "origin", "../origin.git"]);
}

#[test]
fn init_warns_of_a_remote_that_refuses_the_push() {
    let repository = Repository::new(&[("test.sh", "true\n")]);
    let printed = repository.init(&[]);
    let top = repository.top().display().to_string();
    assert!(printed.contains(&format!("{top} has trunk checked out")), "{printed}");
    assert!(printed.contains(&format!("`git clone --bare {top} {top}.git`")), "{printed}");
    let bare = Repository::new(&[("test.sh", "true\n")]);
    add_origin(&bare);
    let printed = bare.init(&[]);
    assert!(!printed.contains("checked out, so"), "{printed}");
}

#[test]
fn init_says_that_it_recognised_no_suite() {
    let repository = Repository::new(&[("README", "")]);
    let printed = repository.init(&[]);
    assert!(printed.contains("afk recognised no test command"), "{printed}");
    assert!(printed.contains("`test = \"false\"`, which always fails"), "{printed}");
}

#[test]
fn init_trusts_the_user_of_the_machine_where_the_environment_names_none() {
    let repository = Repository::new(&[("test.sh", "true\n")]);
    let (config, state) = (repository.path("config/afk.toml"), repository.path("state"));
    let mut command = afk(&["--config", &config, "--state", &state, "init"]);
    command.current_dir(repository.top()).env_remove("USER").env_remove("LOGNAME");
    assert!(command.output().unwrap().status.success());
    let id = Command::new("id").arg("-un").output().unwrap();
    let line = format!("trusted = [\"{}\"]", text(&id.stdout).trim());
    let written = std::fs::read_to_string(&config).unwrap();
    assert!(written.contains(&line), "{line}: {written}");
}

#[test]
fn init_takes_the_name_of_a_branch_without_a_commit() {
    let repository = Repository::new(&[]);
    repository.init(&[]);
    let written = std::fs::read_to_string(repository.path("config/afk.toml")).unwrap();
    assert!(written.contains("branch = \"trunk\""), "{written}");
}
