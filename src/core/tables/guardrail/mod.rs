//! Recognizes a permission request that would break a [`Guardrail`]. `permission` asks
//! here first, so that neither a policy nor a grant can allow it.
//!
//! A guardrail is a courtesy to an agent that errs: it reads the words of a command and names the
//! rule before any harm is done. The wall (namespaces, Landlock, an environment without
//! credentials) is what holds an agent that hides its intent, since a script can contain anything.
//!
//! ```text
//!  text ── shell_words ──> simple commands ── wrapper ──> the program that runs ── git, services,
//!                              ^                 │                                 writes
//!                              └── nested: sh -c, here-documents, find -exec, aliases
//! ```
//!
//! | file | reads |
//! | --- | --- |
//! | `wrapper` | the command within a command |
//! | `git`, `services`, `writes` | what a program would change |
//! | `options` | arguments, as getopt does |
//! | `place` | the working folder and the paths that lie outside |

mod git;
mod nested;
mod options;
mod place;
mod services;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;
mod wrapper;
mod writes;

use std::borrow::Cow;
use std::sync::Arc;

use self::nested::{NestedBody, NestedCommand};
use self::place::WorkingFolder;
use self::wrapper::{Unwrapped, unwrap};
use super::shell_words::{self, ShellPiece, SimpleCommand};
use crate::model::guardrail::Guardrail;
use crate::model::permission::{PermissionRequest, Tool};

/// Commands within commands that are still judged. The text gets no longer from one to the next, so
/// that this also bounds the time.
const DEPTH: usize = 16;

/// Markers in a commit message that make CI skip the commit: GitHub, GitLab, Woodpecker,
/// `CircleCI`, Azure.
const CI_SKIP: [&str; 7] = [
    "[ci skip]",
    "[skip ci]",
    "[no ci]",
    "[skip actions]",
    "[actions skip]",
    "[skip woodpecker]",
    "***no_ci***",
];

/// Whether a text contains a marker that makes CI skip a commit.
#[must_use]
pub fn skips_ci(text: &str) -> bool {
    let text = text.to_lowercase();
    CI_SKIP.iter().any(|marker| text.contains(marker))
}

/// The first guardrail that a request would break.
#[must_use]
pub(crate) fn violated(request: &PermissionRequest, worktree: &str) -> Option<Guardrail> {
    match request.tool {
        Tool::Edit => request
            .targets
            .iter()
            .any(|path| place::is_outside(path.as_received(), worktree))
            .then_some(Guardrail::LeavesWorktree),
        Tool::Shell => request.targets.iter().find_map(|command| {
            CommandJudge::new(command.as_received(), WorkingFolder::at(worktree)).judge()
        }),
        Tool::Read | Tool::Web | Tool::Other => None,
    }
}

/// Judges a shell text and the commands that it hides.
struct CommandJudge<'a> {
    /// Commands that are still to be judged, with their folder and their depth.
    queue: Vec<(NestedBody, WorkingFolder<'a>, usize)>,
    /// Whether the whole text has a marker that makes CI skip a commit.
    skips_ci: bool,
}

impl<'a> CommandJudge<'a> {
    fn new(text: &str, folder: WorkingFolder<'a>) -> Self {
        let body = NestedBody::Text(text.to_owned());
        Self { queue: vec![(body, folder, 0)], skips_ci: skips_ci(text) }
    }

    fn judge(mut self) -> Option<Guardrail> {
        while let Some((body, mut folder, depth)) = self.queue.pop() {
            let broken = match body {
                NestedBody::Text(text) => self.judge_text(&text, folder, depth),
                NestedBody::Words(words) => {
                    let words: Vec<&str> = words.iter().map(String::as_str).collect();
                    self.judge_words(&words, None, &mut folder, depth)
                }
            };
            if broken.is_some() {
                return broken;
            }
        }
        None
    }

    fn judge_text(
        &mut self,
        text: &str,
        mut folder: WorkingFolder<'a>,
        depth: usize,
    ) -> Option<Guardrail> {
        // A subshell's `cd` ends with it; so does what a substitution's last command prints.
        let mut outer: Vec<(WorkingFolder<'a>, Option<Arc<str>>)> = Vec::new();
        let mut printed: Option<Arc<str>> = None;
        for piece in shell_words::pieces(text) {
            match piece {
                ShellPiece::Open => outer.push((folder.clone(), printed.clone())),
                ShellPiece::Close { pipes } => {
                    if let Some((before, printed_before)) = outer.pop() {
                        folder = before;
                        printed = if pipes { printed } else { printed_before };
                    }
                }
                ShellPiece::Command(command) => {
                    let broken = self.judge_command(&command, &mut printed, &mut folder, depth);
                    if broken.is_some() {
                        return broken;
                    }
                }
            }
        }
        None
    }

    /// Judges a simple command. `printed` is the output of the command before it, and becomes its
    /// own.
    fn judge_command(
        &mut self,
        command: &SimpleCommand,
        printed: &mut Option<Arc<str>>,
        folder: &mut WorkingFolder<'a>,
        depth: usize,
    ) -> Option<Guardrail> {
        let piped = command.piped.then(|| printed.take()).flatten();
        let words = command.arguments();
        let redirects = command.written().iter().any(|path| folder.is_outside(path));
        let input = command.input.as_deref().map(Arc::from).or(piped);
        // The last word of a compound command prints nothing of its own.
        if !matches!(words[..], ["}" | "fi" | "done" | "esac"]) {
            *printed = match shell_words::output(&words, input.as_deref()) {
                Some(Cow::Borrowed(_)) => input.clone(),
                Some(Cow::Owned(text)) => Some(text.into()),
                None => None,
            };
        }
        self.judge_words(&words, input.as_deref(), folder, depth)
            .or(redirects.then_some(Guardrail::LeavesWorktree))
    }

    /// Judges the words of a simple command. A `cd` moves `folder` for the commands after it.
    fn judge_words(
        &mut self,
        words: &[&str],
        input: Option<&str>,
        folder: &mut WorkingFolder<'a>,
        depth: usize,
    ) -> Option<Guardrail> {
        let mut words = words;
        let mut place = Cow::Borrowed(&*folder);
        // Folders that git takes from its environment.
        let mut git_folders = Vec::new();
        loop {
            match unwrap(words, input, &place) {
                Unwrapped::Program => break,
                Unwrapped::Leads { at, folder: inner } => {
                    let leading = words.first().and_then(|word| word.split_once('='));
                    if let Some(("GIT_DIR" | "GIT_WORK_TREE", path)) = leading {
                        git_folders.push(path);
                    }
                    if let Some(inner) = inner {
                        place.to_mut().enter(inner);
                    }
                    words = words.get(at..).unwrap_or_default();
                }
                Unwrapped::Runs(commands) => {
                    self.enqueue(commands, &place, depth);
                    break;
                }
            }
        }
        let (first, args) = words.split_first()?;
        let name = first.rsplit('/').next().unwrap_or(first);
        if matches!(name, "cd" | "pushd" | "popd") {
            let target = args.iter().copied().find(|arg| *arg == "-" || !arg.starts_with('-'));
            let target = target.unwrap_or(if name == "popd" { "-" } else { "~" });
            folder.enter(target);
            return None;
        }
        let git = match name.strip_prefix("git-") {
            Some(verb) => Some([&[verb], args].concat()),
            None => (name == "git").then(|| args.to_vec()),
        };
        if let Some(args) = git {
            let skips = self.skips_ci || skips_ci(&args.join(" "));
            let judgement = git::judge(&args, &place, &git_folders, skips);
            let place = place.into_owned();
            self.enqueue(judgement.nested, &place, depth);
            return judgement.broken;
        }
        let plain: Vec<&str> = args.iter().copied().filter(|arg| !arg.starts_with('-')).collect();
        services::breaks(name, args, &plain).or_else(|| {
            let written = writes::written(name, args);
            let outside = written.into_iter().any(|path| place.is_outside(path));
            outside.then_some(Guardrail::LeavesWorktree)
        })
    }

    fn enqueue(&mut self, commands: Vec<NestedCommand>, folder: &WorkingFolder<'a>, depth: usize) {
        if depth >= DEPTH {
            return;
        }
        for NestedCommand { body, folder: inner, remote } in commands {
            let mut folder = if remote { folder.remote() } else { folder.clone() };
            if let Some(inner) = inner {
                folder.enter(&inner);
            }
            self.queue.push((body, folder, depth + 1));
        }
    }
}
