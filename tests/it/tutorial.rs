//! docs/tutorial.md, done as a newcomer does it: every block of the page is written or run in order, in a home
//! of its own, and prints what the page shows. A block that this test can't carry out fails it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::pty::Terminal;
use crate::support::{AFK, git, log, text};

const PAGE: &str = include_str!("../../docs/tutorial.md");
/// What the reader does in the cockpit.
const COCKPIT: &str = "Once the\nrow says *done*, press `q`";

/// A step of the page.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// A command of a shell, and the lines that it prints.
    Run { command: String, prints: Vec<String> },
    /// A file that the paragraph above the block names.
    Write { path: String, content: String },
}

/// The steps of a page, in order. Each line that is indented by four spaces belongs to one.
fn steps(page: &str) -> Vec<Step> {
    let mut all = Vec::new();
    let (mut block, mut paragraph): (Vec<&str>, String) = (Vec::new(), String::new());
    for line in page.lines().chain([""]) {
        if let Some(line) = line.strip_prefix("    ") {
            block.push(line);
            continue;
        }
        if !block.is_empty() {
            steps_of(&block, &paragraph, &mut all);
            block.clear();
            paragraph.clear();
        }
        paragraph = format!("{paragraph} {line}");
    }
    all
}

fn steps_of(block: &[&str], paragraph: &str, all: &mut Vec<Step>) {
    if !block[0].starts_with("$ ") {
        let announced = paragraph.trim_end().strip_suffix("`:");
        let path = announced.and_then(|before| before.rsplit_once('`')).map(|(_, path)| path);
        let path = path.unwrap_or_else(|| panic!("neither a command nor a named file: {block:?}"));
        let (path, content) = (path.to_owned(), block.join("\n") + "\n");
        return all.push(Step::Write { path, content });
    }
    let mut lines = block.iter();
    while let Some(line) = lines.next() {
        let Some(command) = line.strip_prefix("$ ") else {
            let Some(Step::Run { prints, .. }) = all.last_mut() else { panic!("{line}") };
            prints.push((*line).to_owned());
            continue;
        };
        let mut command = command.to_owned();
        if command.ends_with("<<END") {
            for line in lines.by_ref() {
                command = format!("{command}\n{line}");
                if *line == "END" {
                    break;
                }
            }
        }
        all.push(Step::Run { command, prints: Vec::new() });
    }
}

/// Whether a line is the shown one, in which `…` stands for any text.
fn is_like(line: &str, shown: &str) -> bool {
    let mut parts = shown.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    for part in parts {
        let at = if part.is_empty() { Some(rest.len()) } else { rest.find(part) };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || shown.ends_with('…')
}

/// Whether the lines are the shown ones; a line that is only `…` stands for any number of them.
fn are_like(lines: &[&str], shown: &[&str]) -> bool {
    match (shown.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((&"…", rest)), None) => are_like(&[], rest),
        (Some((&"…", rest)), Some((_, below))) => are_like(lines, rest) || are_like(below, shown),
        (Some((first, rest)), Some((line, below))) => is_like(line, first) && are_like(below, rest),
        _ => false,
    }
}

/// The home of a newcomer, in which afk is installed.
struct Home {
    dir: tempfile::TempDir,
    /// The folder that the shell is in.
    cwd: PathBuf,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cwd = dir.path().to_owned();
        let identity = "[user]\nname = Ana\nemail = ana@localhost\n[commit]\ngpgSign = false\n";
        std::fs::write(dir.path().join(".gitconfig"), identity).unwrap();
        Self { dir, cwd }
    }

    /// The environment of a login: nothing of this machine's but the programs.
    fn environment(&self) -> Vec<String> {
        let programs = Path::new(AFK).parent().unwrap().display();
        let path = std::env::var("PATH").unwrap_or_default();
        vec![
            format!("HOME={}", self.dir.path().display()),
            format!("PATH={programs}:{path}"),
            "LANG=C.UTF-8".into(),
            "TERM=xterm-256color".into(),
            // A runtime of another test in this process would end an unmarked process as an orphan.
            "AFK_STATE=the tutorial".into(),
        ]
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches("~/"))
    }

    fn shell(&self, command: &str) -> Output {
        let mut env = Command::new("env");
        env.arg("-i").args(self.environment()).args(["sh", "-c", command]);
        env.current_dir(&self.cwd).stdin(Stdio::null()).output().unwrap()
    }

    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::Write { path, content } => std::fs::write(self.path(path), content).unwrap(),
            Step::Run { command, prints } if command == "afk" => {
                assert!(prints.is_empty() && PAGE.contains(COCKPIT), "the cockpit prints nothing");
                self.watch_it_land();
            }
            Step::Run { command, prints } => {
                let note = self.dir.path().join("cwd");
                let line = format!("{command}\ncode=$?; pwd > '{}'; exit $code", note.display());
                let out = self.shell(&line);
                let printed = text(&out.stdout);
                let all = format!("$ {command}\n{printed}{}", text(&out.stderr));
                assert!(out.status.success(), "{all}");
                let lines: Vec<&str> = printed.lines().collect();
                let shown: Vec<&str> = prints.iter().map(String::as_str).collect();
                assert!(are_like(&lines, &shown), "the page shows {shown:#?} for\n{all}");
                self.cwd = std::fs::read_to_string(note).unwrap().trim().into();
            }
        }
    }

    /// Opens the cockpit, and leaves it once the issue is done.
    fn watch_it_land(&self) {
        let environment = self.environment();
        let args: Vec<&str> =
            ["-i"].into_iter().chain(environment.iter().map(String::as_str)).chain([AFK]).collect();
        let mut screen = Terminal::program("env", &args, 80, 24, &self.cwd);
        screen.until("the issue's end", |screen| {
            screen.lines().any(|row| row.contains("greeter#1") && row.contains("done"))
        });
        screen.keys("q");
        assert_eq!(screen.end(), 0, "{}", screen.text());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A failed test leaves no afk behind.
        let _ = self.shell("afk stop --cancel");
    }
}

#[test]
fn tutorial_leads_to_a_landed_issue() {
    let mut home = Home::new();
    let all = steps(PAGE);
    assert!(PAGE.lines().count() < 120, "it is to be short");
    for step in &all {
        home.carry_out(step);
    }
    let remote = home.path("afk-tutorial/greeter.git");
    assert_eq!(log(&remote, "main", "%s").last().unwrap(), "Greet by name");
    let files = git(&remote, &["ls-tree", "-r", "--name-only", "main"]);
    assert!(files.contains("tests/by_name.sh"), "{files}");
    let issue = std::fs::read_to_string(home.path(".config/afk/issues/1.md")).unwrap();
    assert!(issue.contains("state = \"closed\""), "{issue}");
    // The page stops what it started.
    assert!(!home.shell("afk stop").status.success(), "afk runs on");
}

#[test]
fn step_that_the_page_shows_is_never_skipped() {
    let page =
        "Do:\n\n    $ a <<END\n    b\n    END\n    c\n    $ d\n\nWrite `~/e`:\n\n    f\n\n    g\n";
    let run = |command: &str, prints: &[&str]| Step::Run {
        command: command.to_owned(),
        prints: prints.iter().map(|line| (*line).to_owned()).collect(),
    };
    let caught = std::panic::catch_unwind(|| steps(page));
    assert!(caught.is_err(), "a block that no paragraph names is a mistake: {caught:?}");
    let page = page.replace("\n    g\n", "");
    let file = Step::Write { path: "~/e".into(), content: "f\n".into() };
    assert_eq!(steps(&page), [run("a <<END\nb\nEND", &["c"]), run("d", &[]), file]);
    for (line, shown, same) in [
        ("passed in 0 seconds.", "passed in … seconds.", true),
        ("passed", "passed in", false),
        ("passed in", "passed", false),
        ("at 1234, tested", "at …, tested", true),
        ("at 1234, tested", "at …", true),
        ("at 1234, not tested", "at …, tested", false),
    ] {
        assert_eq!(is_like(line, shown), same, "{line} | {shown}");
    }
    assert!(are_like(&["a", "b", "c"], &["…", "c"]) && are_like(&[], &["…"]));
    assert!(!are_like(&["a", "b"], &["a"]) && !are_like(&["a"], &["…", "b"]));
    assert!(!are_like(&["a"], &[]) && !are_like(&[], &["a"]));
}
