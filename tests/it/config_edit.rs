//! `afk config edit` with an editor that a test has scripted: one shell line for each time that it opens.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::support::pty::Terminal;
use crate::support::world::World;
use crate::support::{AFK, afk, text};

const WRONG: &str = "sed -i 's/^kill_switch/kill_swich/' \"$1\"";
const RIGHT: &str = "sed -i 's/^kill_swich/kill_switch/; $a [log]\\nkeep_days = 3' \"$1\"";

struct Edit {
    world: World,
    before: String,
}

impl Edit {
    fn new() -> Self {
        let world = World::new("").with_kill_switch();
        world.config();
        let before = "kill_switch = true\n".to_owned();
        let path = world.path("afk.toml");
        std::fs::write(&path, &before).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        Self { world, before }
    }

    fn file(&self) -> PathBuf {
        self.world.path("afk.toml")
    }

    fn is_as_before(&self) -> bool {
        std::fs::read_to_string(self.file()).unwrap() == self.before
    }

    /// The value of VISUAL for an editor that carries out one line at each call.
    fn editor(&self, lines: &[&str]) -> String {
        let script = self.world.path("editor.sh");
        let calls = self.world.path("calls");
        let case = |(at, line): (usize, &&str)| format!("{}) {line} ;;\n", at + 1);
        let cases = lines.iter().enumerate().map(case).collect::<Vec<_>>().concat();
        let body = format!(
            "echo \"$1\" >> '{calls}'\ncase $(wc -l < '{calls}') in\n{cases}*) exit 9 ;;\nesac\n",
            calls = calls.display()
        );
        std::fs::write(&script, body).unwrap();
        format!("sh '{}'", script.display())
    }

    /// Edits without a terminal.
    fn run(&self, line: &str) -> Output {
        let places = self.world.places();
        let args: Vec<&str> = places.iter().map(String::as_str).chain(["config", "edit"]).collect();
        afk(&args).env("VISUAL", self.editor(&[line])).env("EDITOR", "false").output().unwrap()
    }

    fn terminal(&self, lines: &[&str]) -> Terminal {
        let places = self.world.places();
        let args: Vec<&str> = places.iter().map(String::as_str).chain(["config", "edit"]).collect();
        Terminal::with_env(AFK, &args, self.world.root(), &[("VISUAL", &self.editor(lines))])
    }

    /// The copies that lie beside a file.
    fn copies(folder: &Path) -> Vec<PathBuf> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_copy = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(".edit-"))
        };
        files.filter(is_copy).collect()
    }
}

#[test]
fn right_edit_takes_the_place_of_the_file() {
    let edit = Edit::new();
    let output = edit.run("sed -i '1i capacity = 4' \"$1\"; chmod 0666 \"$1\"");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    assert!(said.starts_with(&format!("{}: ok", edit.file().display())), "{said}");
    assert!(!said.contains("restart"), "{said}");
    let now = std::fs::read_to_string(edit.file()).unwrap();
    assert_eq!(now, "capacity = 4\nkill_switch = true\n");
    assert_eq!(edit.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Edit::copies(edit.world.root()), Vec::<PathBuf>::new());
}

#[test]
fn edit_of_a_link_changes_the_file_behind_it() {
    let edit = Edit::new();
    let folder = edit.world.path("dotfiles");
    std::fs::create_dir(&folder).unwrap();
    std::fs::rename(edit.file(), folder.join("mine.toml")).unwrap();
    symlink(folder.join("mine.toml"), edit.file()).unwrap();
    let output = edit.run("sed -i '1i capacity = 4' \"$1\"");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(edit.file().is_symlink());
    assert!(std::fs::read_to_string(folder.join("mine.toml")).unwrap().contains("capacity"));
    assert_eq!(Edit::copies(&folder), Vec::<PathBuf>::new());
}

#[test]
fn wrong_edit_leaves_the_file_in_force() {
    let edit = Edit::new();
    let output = edit.run(WRONG);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&format!("{}:1:1: kill_swich: ", edit.file().display())), "{said}");
    assert!(said.contains("did you mean `kill_switch`?"), "{said}");
    assert!(edit.is_as_before());
    let copies = Edit::copies(edit.world.root());
    assert_eq!(copies.len(), 1, "{copies:?}");
    assert!(said.contains(&format!("your version is in {}", copies[0].display())), "{said}");
    assert_eq!(std::fs::read_to_string(&copies[0]).unwrap(), "kill_swich = true\n");
    assert_eq!(copies[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn wrong_line_is_shown_and_leads_back_to_the_editor() {
    let edit = Edit::new();
    let mut terminal = edit.terminal(&[WRONG, RIGHT]);
    terminal.shows("Edit it again? [Y/n]");
    assert!(terminal.text().contains("1 | kill_swich = true"), "{}", terminal.text());
    assert!(edit.is_as_before());
    terminal.keys("\r");
    terminal.shows("the change of log needs a restart");
    assert_eq!(terminal.end(), 0);
    let now = std::fs::read_to_string(edit.file()).unwrap();
    assert_eq!(now, "kill_switch = true\n[log]\nkeep_days = 3\n");
    assert_eq!(std::fs::read_to_string(edit.world.path("calls")).unwrap().lines().count(), 2);
}

#[test]
fn declined_edit_keeps_the_copy() {
    for answer in ["n\r", "\u{3}"] {
        let edit = Edit::new();
        let mut terminal = edit.terminal(&[WRONG]);
        terminal.shows("Edit it again? [Y/n]");
        terminal.keys(answer);
        terminal.shows("your version is in");
        assert_eq!(terminal.end(), 3, "{answer:?}");
        assert!(edit.is_as_before());
        assert_eq!(Edit::copies(edit.world.root()).len(), 1);
    }
}

#[test]
fn interrupt_belongs_to_the_editor() {
    let edit = Edit::new();
    // The editor ends by itself only after the interrupt.
    let line = "trap 'got=1' INT; echo waits; while test -z \"$got\"; do read -r key; done; exit 1";
    let mut terminal = edit.terminal(&[line]);
    terminal.shows("waits");
    terminal.keys("\u{3}");
    terminal.keys("\r");
    terminal.shows("failed (exit status: 1)");
    assert_eq!(terminal.end(), 1);
    assert!(edit.is_as_before());
}

#[test]
fn edit_without_effect_leaves_nothing_behind() {
    for (line, code, word) in [
        ("true", 0, ": unchanged"),
        ("exit 1", 1, "failed (exit status: 1)"),
        ("kill -KILL $$", 1, "failed (signal: 9"),
    ] {
        let edit = Edit::new();
        let output = edit.run(line);
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{line}: {said}");
        assert!(said.contains(word), "{line}: {said}");
        assert!(edit.is_as_before());
        assert_eq!(Edit::copies(edit.world.root()), Vec::<PathBuf>::new(), "{line}");
    }
}

#[test]
fn edit_does_not_overwrite_another_change() {
    let edit = Edit::new();
    let other = format!("echo 'capacity = 9' > '{}'", edit.file().display());
    let output = edit.run(&format!("{other}; sed -i '1i capacity = 4' \"$1\""));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("was changed by somebody else meanwhile"), "{said}");
    assert_eq!(std::fs::read_to_string(edit.file()).unwrap(), "capacity = 9\n");
    assert_eq!(Edit::copies(edit.world.root()).len(), 1, "{said}");
}

#[test]
fn edit_of_a_missing_file_names_the_way_to_one() {
    let edit = Edit::new();
    std::fs::remove_file(edit.file()).unwrap();
    let output = edit.run("true");
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stderr).contains("`afk init` writes one"), "{}", text(&output.stderr));
}
