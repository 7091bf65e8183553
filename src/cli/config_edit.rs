//! `afk config edit`: the configuration in the user's editor. The editor gets a copy beside the file, and
//! the copy takes the file's place once it is valid. So a running afk never reads a half-written or wrong
//! file, and `#:schema ./afk.schema.json` leads to the same schema.
//!
//! ```text
//! afk.toml ─ copy ─▶ afk.edit-PID.toml ─▶ editor ─▶ check ─ valid ─▶ rename over afk.toml
//!                                           ▲         │
//!                                           └─ y ─ error with its line; edit again? ─ n ─▶ copy stays
//! ```

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};

use super::instance::{InstanceArgs, env, no_file};
use super::terminal::{ask, print_line, print_remark};
use crate::config::{Config, restart};
use crate::error::{Failure, FailureKind};
use crate::process::end_signals::{EndSignal, EndSignals};
use crate::trusted_file;

/// The editor of a user who has chosen none.
const USUAL_EDITOR: &str = "vi";
const EDITOR_HINT: &str = "VISUAL or EDITOR names the editor";

pub(super) async fn run(instance: &InstanceArgs) -> Result<(), Failure> {
    let path = instance.paths()?.config;
    if !path.exists() {
        return Err(no_file(&path));
    }
    let draft = Draft::begin(path)?;
    // The terminal sends Ctrl-C to afk as well, while only the editor should obey it.
    let mut signals = EndSignals::listen()?;
    loop {
        let status = open_editor(&draft.copy, &mut signals).await;
        let status = status.map_err(|error| draft.abandoned(no_editor().because(error)))?;
        if !status.success() {
            let why = format!("the editor `{}` failed ({status})", editor());
            return Err(draft.abandoned(negative(why).hint(EDITOR_HINT)));
        }
        let text = draft.read()?;
        match Config::from_text(&draft.path, &text, &env) {
            Ok(config) => return draft.put_in_force(&text, &config),
            Err(error) => {
                let failure = Failure::from(error);
                if !edit_again(&failure, &mut signals).await? {
                    return Err(draft.abandoned(failure));
                }
            }
        }
    }
}

/// The copy that the user edits, and the file that it may replace.
struct Draft {
    /// The file as the instance names it; errors name it, too.
    path: PathBuf,
    /// The file itself, behind any link.
    target: PathBuf,
    copy: PathBuf,
    /// The text of the file when the edit began.
    text: String,
    mode: u32,
    owner: (u32, u32),
}

impl Draft {
    /// Copies the file.
    fn begin(path: PathBuf) -> Result<Self, Failure> {
        let text = trusted_file::read(&path)
            .map_err(|error| Failure::from_error(FailureKind::Configuration, error))?;
        let target = path.canonicalize()?;
        let stem = target.file_stem().unwrap_or_default().to_string_lossy();
        let copy = target.with_file_name(format!("{stem}.edit-{}.toml", std::process::id()));
        let metadata = target.metadata()?;
        let (mode, owner) = (metadata.mode() & 0o777, (metadata.uid(), metadata.gid()));
        let write = || {
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(mode).open(&copy)?;
            file.write_all(text.as_bytes())
        };
        write().map_err(|error| unwritable(&copy, error))?;
        Ok(Self { path, target, copy, text, mode, owner })
    }

    /// The text of the copy. An editor that made a new file gave it the mode of the user's umask.
    fn read(&self) -> Result<String, Failure> {
        let text = fs::set_permissions(&self.copy, Permissions::from_mode(self.mode))
            .map_err(|error| unwritable(&self.copy, error))
            .map(|()| trusted_file::read(&self.copy))?;
        text.map_err(|error| Failure::from_error(FailureKind::System, error))
    }

    /// Puts the copy in the place of the file, unless somebody else has changed the file meanwhile.
    fn put_in_force(&self, text: &str, config: &Config) -> Result<(), Failure> {
        let path = self.path.display();
        if text == self.text {
            fs::remove_file(&self.copy)?;
            print_line(&format!("{path}: unchanged"));
            return Ok(());
        }
        if trusted_file::read(&self.path).ok().as_ref() != Some(&self.text) {
            let why = format!("{path} was changed by somebody else meanwhile; it stays as it is");
            return Err(self.abandoned(negative(why)));
        }
        self.replace().map_err(|error| self.abandoned(unwritable(&self.target, error)))?;
        print_line(&format!("{path}: ok; a running afk reads it at once"));
        let before = Config::from_text(&self.path, &self.text, &env).ok();
        let keys = before.map(|before| restart::needed(&before, config)).unwrap_or_default();
        if !keys.is_empty() {
            print_line(&format!("the change of {} needs a restart", keys.join(", ")));
        }
        Ok(())
    }

    /// Gives the copy the owner of the file, which may be another than the user, and renames it.
    fn replace(&self) -> io::Result<()> {
        let file = File::open(&self.copy)?;
        let metadata = file.metadata()?;
        if (metadata.uid(), metadata.gid()) != self.owner {
            chown(&self.copy, Some(self.owner.0), Some(self.owner.1))?;
        }
        file.sync_all()?;
        fs::rename(&self.copy, &self.target)?;
        let folder = self.target.parent().unwrap_or(Path::new("/"));
        File::open(folder)?.sync_all()
    }

    /// The failure of an edit that changes nothing. A copy with changes stays, and the failure names it.
    fn abandoned(&self, mut failure: Failure) -> Failure {
        if fs::read_to_string(&self.copy).is_ok_and(|text| text == self.text) {
            // At worst, a copy without a change stays.
            let _ = fs::remove_file(&self.copy);
            return failure;
        }
        let kept = format!(
            "{} stays as it was; your version is in {}",
            self.path.display(),
            self.copy.display()
        );
        failure.hint = Some(failure.hint.map_or(kept.clone(), |hint| format!("{kept}\n{hint}")));
        failure
    }
}

/// The user's editor, perhaps with arguments.
fn editor() -> String {
    let given = |name: &&str| env(name).filter(|editor| !editor.trim().is_empty());
    ["VISUAL", "EDITOR"].iter().find_map(given).unwrap_or_else(|| USUAL_EDITOR.to_owned())
}

/// Runs the editor on a file until it ends. As with git, a shell reads the editor's value, which may have
/// arguments, such as `code --wait`. The shell becomes the editor, so that no shell ends by Ctrl-C.
async fn open_editor(file: &Path, signals: &mut EndSignals) -> io::Result<ExitStatus> {
    let mut command = tokio::process::Command::new("sh");
    command.arg("-c").arg(format!("exec env {} \"$@\"", editor())).arg("sh").arg(file);
    let mut child = command.spawn()?;
    loop {
        let signal = tokio::select! {
            status = child.wait() => return status,
            signal = signals.next() => signal,
        };
        let passed_on = match signal {
            EndSignal::Interrupt => continue,
            EndSignal::Terminate => Signal::TERM,
            EndSignal::HangUp => Signal::HUP,
        };
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(pid) = pid {
            // An error means that the editor has ended.
            let _ = kill_process(pid, passed_on);
        }
    }
}

/// Shows what is wrong and asks whether to edit again. Nobody is asked without a terminal, and a signal
/// declines.
async fn edit_again(failure: &Failure, signals: &mut EndSignals) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    print_remark(&failure.report());
    let answer = tokio::task::spawn_blocking(|| ask(io::stderr(), "Edit it again? [Y/n] "));
    tokio::select! {
        answer = answer => {
            let answer = answer.map_err(io::Error::other)??;
            Ok(!answer.to_lowercase().starts_with('n'))
        }
        _ = signals.next() => {
            print_remark("");
            Ok(false)
        }
    }
}

fn negative(why: impl std::fmt::Display) -> Failure {
    Failure::new(FailureKind::Negative, why)
}

fn no_editor() -> Failure {
    Failure::new(FailureKind::System, format!("start the editor `{}`", editor())).hint(EDITOR_HINT)
}

fn unwritable(path: &Path, error: io::Error) -> Failure {
    Failure::new(FailureKind::System, format!("write {}", path.display()))
        .because(error)
        .hint("`afk config edit` needs a configuration, and its folder, that you can write")
}
