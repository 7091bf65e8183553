//! Judges a git command as git reads it: with its global options, its aliases, and abbreviations of
//! long options.

use super::nested::NestedCommand;
use super::options::{Argument, ValueOptions, abbreviates, read};
use super::place::WorkingFolder;
use super::wrapper::first_words;
use crate::model::guardrail::Guardrail;

/// Longer arguments, in bytes, are not appended to the text of an alias.
const ALIAS_ARGUMENTS: usize = 64 * 1024;

/// Subcommands that write neither to the working folder nor to the repository.
const READERS: [&str; 18] = [
    "log",
    "show",
    "diff",
    "status",
    "rev-parse",
    "ls-files",
    "ls-remote",
    "ls-tree",
    "cat-file",
    "grep",
    "blame",
    "describe",
    "rev-list",
    "shortlog",
    "show-ref",
    "merge-base",
    "version",
    "help",
];

/// The judgement of one git command.
#[derive(Debug, Default)]
pub(super) struct GitJudgement {
    pub(super) broken: Option<Guardrail>,
    /// The commands that git would run.
    pub(super) nested: Vec<NestedCommand>,
}

/// Judges the arguments of git. `folders` are the values of `GIT_DIR` and `GIT_WORK_TREE`;
/// `skips_ci` says whether the whole text has a marker that makes CI skip a commit.
pub(super) fn judge(
    args: &[&str],
    folder: &WorkingFolder<'_>,
    folders: &[&str],
    skips_ci: bool,
) -> GitJudgement {
    let Some(command) = GitCommand::parse(args, folder, folders) else {
        return GitJudgement::default();
    };
    if let Some(nested) = command.alias() {
        return GitJudgement { broken: None, nested: vec![nested] };
    }
    let reads = READERS.contains(&command.verb);
    let broken = if skips_ci && !reads {
        Some(Guardrail::CiSkip)
    } else {
        command.breaks_history().or_else(|| command.leaves_worktree(reads))
    };
    GitJudgement { broken, nested: command.nested() }
}

struct GitCommand<'a> {
    /// The options before the subcommand.
    globals: &'a [&'a str],
    /// The values of `-c`, as key and value.
    settings: Vec<(&'a str, &'a str)>,
    /// Folders of the repository that the options name.
    folders: Vec<&'a str>,
    place: WorkingFolder<'a>,
    verb: &'a str,
    rest: &'a [&'a str],
}

impl<'a> GitCommand<'a> {
    fn parse(args: &'a [&'a str], folder: &WorkingFolder<'a>, folders: &[&'a str]) -> Option<Self> {
        let mut place = folder.clone();
        let (mut settings, mut folders) = (Vec::new(), folders.to_vec());
        let mut at = 0;
        while let Some(arg) = args.get(at).copied().filter(|arg| arg.starts_with('-')) {
            let (name, attached) = match arg.split_once('=') {
                Some((name, value)) if arg.starts_with("--") => (name, Some(value)),
                _ if arg.starts_with("-C") || arg.starts_with("-c") => {
                    let value = arg.get(2..).filter(|value| !value.is_empty());
                    (&arg[..2], value)
                }
                _ => (arg, None),
            };
            at += 1;
            let takes_value = matches!(
                name,
                "-C" | "-c"
                    | "--git-dir"
                    | "--work-tree"
                    | "--namespace"
                    | "--config-env"
                    | "--attr-source"
            );
            let value = if takes_value && attached.is_none() {
                at += 1;
                args.get(at - 1).copied()
            } else {
                attached
            };
            match (name, value) {
                ("-C", Some(value)) => place.enter(value),
                ("-c", Some(value)) => settings.extend(value.split_once('=')),
                ("--git-dir" | "--work-tree", Some(value)) => folders.push(value),
                _ => {}
            }
        }
        let verb = *args.get(at)?;
        let rest = args.get(at + 1..).unwrap_or_default();
        Some(Self { globals: &args[..at], settings, folders, place, verb, rest })
    }

    /// The command that the subcommand stands for, if an option defines it as an alias.
    fn alias(&self) -> Option<NestedCommand> {
        let value = self.settings.iter().rev().find_map(|(key, value)| {
            let (section, name) = key.split_once('.')?;
            let same =
                section.eq_ignore_ascii_case("alias") && name.eq_ignore_ascii_case(self.verb);
            same.then_some(*value)
        })?;
        Some(expanded_alias(value, self.globals, self.rest))
    }

    fn arguments(&self, short: &'static str, long: &'static [&'static str]) -> Vec<Argument<'a>> {
        read(self.rest, ValueOptions { short, long })
    }

    fn breaks_history(&self) -> Option<Guardrail> {
        let shared = |arg: &str| {
            let name = arg.rsplit('/').next().unwrap_or(arg);
            matches!(name, "master" | "main") || arg.contains("remotes/origin")
        };
        match self.verb {
            "push" | "send-pack" | "http-push" => {
                if self.globals.iter().chain(self.rest).any(|arg| arg.contains("ci.skip")) {
                    return Some(Guardrail::CiSkip);
                }
                let values: &[&str] = &["push-option", "repo", "receive-pack", "exec"];
                let forced = self.arguments("o", values).iter().any(|arg| match arg {
                    Argument::Short(letter, _) => matches!(letter, 'f' | 'd'),
                    Argument::Long(name, _) => forces_push(name),
                    Argument::Operand(text) => text.starts_with(['+', ':']),
                });
                let set = self.settings.iter().any(|(key, value)| setting_forces_push(key, value));
                (forced || set).then_some(Guardrail::ForcePush)
            }
            "config" => {
                let all = self.arguments("f", &["file", "type", "default"]);
                let operands: Vec<&str> = all.into_iter().filter_map(Argument::operand).collect();
                let sets = operands.windows(2).any(|pair| setting_forces_push(pair[0], pair[1]));
                sets.then_some(Guardrail::ForcePush)
            }
            "filter-branch" | "filter-repo" => Some(Guardrail::HistoryRewrite),
            "branch" => {
                let forced = self.arguments("", &[]).iter().any(|arg| match arg {
                    Argument::Short(letter, _) => matches!(letter, 'f' | 'D' | 'M'),
                    Argument::Long(name, _) => abbreviates(name, "force"),
                    Argument::Operand(_) => false,
                });
                (forced && self.rest.iter().any(|arg| shared(arg)))
                    .then_some(Guardrail::HistoryRewrite)
            }
            "update-ref" if self.rest.iter().any(|arg| shared(arg)) => {
                Some(Guardrail::HistoryRewrite)
            }
            _ => None,
        }
    }

    fn leaves_worktree(&self, reads: bool) -> Option<Guardrail> {
        let here = std::iter::once(".").filter(|_| self.verb != "clone");
        let repository = here.chain(self.folders.iter().copied()).filter(|_| !reads);
        let mut written = repository.chain(self.written());
        written.any(|path| self.place.is_outside(path)).then_some(Guardrail::LeavesWorktree)
    }

    /// The paths that the subcommand writes, beside the repository.
    fn written(&self) -> Vec<&'a str> {
        let operands = |all: Vec<Argument<'a>>| -> Vec<&'a str> {
            all.into_iter().filter_map(Argument::operand).collect()
        };
        let value = |all: Vec<Argument<'a>>, letter, long| -> Vec<&'a str> {
            all.into_iter().filter_map(|arg| arg.value_of(letter, long)).collect()
        };
        match self.verb {
            "worktree" => {
                let operands = operands(self.arguments("bB", &["reason"]));
                let adds = operands.first() == Some(&"add");
                operands.into_iter().skip(1).take(usize::from(adds)).collect()
            }
            "clone" => {
                let all = self.arguments(
                    "bocuj",
                    &[
                        "branch",
                        "origin",
                        "config",
                        "depth",
                        "reference",
                        "reference-if-able",
                        "template",
                        "upload-pack",
                        "jobs",
                        "filter",
                        "separate-git-dir",
                        "shallow-since",
                        "shallow-exclude",
                    ],
                );
                vec![operands(all).get(1).copied().unwrap_or(".")]
            }
            "init" => {
                let long: &[&str] = &["template", "separate-git-dir", "initial-branch"];
                operands(self.arguments("b", long)).into_iter().take(1).collect()
            }
            "bundle" => operands(self.arguments("", &[])).into_iter().skip(1).take(1).collect(),
            "archive" => value(self.arguments("o", &["output", "format", "prefix"]), 'o', "output"),
            "format-patch" => {
                value(self.arguments("o", &["output-directory"]), 'o', "output-directory")
            }
            "diff" | "log" | "show" => value(self.arguments("SGLnU", &["output"]), '\0', "output"),
            _ => Vec::new(),
        }
    }

    /// The commands that the subcommand runs.
    fn nested(&self) -> Vec<NestedCommand> {
        match (self.verb, self.rest.split_first()) {
            ("rebase", _) => {
                let all = self.arguments("xsX", &["exec", "onto", "strategy", "strategy-option"]);
                let texts = all.into_iter().filter_map(|arg| arg.value_of('x', "exec"));
                texts.map(NestedCommand::text).collect()
            }
            ("bisect", Some((&"run", rest))) => vec![NestedCommand::words(rest.iter().copied())],
            ("submodule", Some((&"foreach", rest))) => {
                let options = rest.iter().take_while(|arg| arg.starts_with('-')).count();
                vec![NestedCommand::text(rest[options..].join(" "))]
            }
            ("config", Some(_)) => {
                let operands: Vec<&str> =
                    self.rest.iter().copied().filter(|arg| !arg.starts_with('-')).collect();
                let aliases = operands.windows(2).filter(|pair| {
                    pair[0].get(..6).is_some_and(|key| key.eq_ignore_ascii_case("alias."))
                });
                aliases.map(|pair| expanded_alias(pair[1], &[], &[])).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Whether a long option of `git push`, perhaps abbreviated, overwrites or deletes commits.
fn forces_push(name: &str) -> bool {
    // The number of letters from which on the abbreviation is unique among the options of push.
    [("force", 3), ("mirror", 1), ("delete", 2), ("prune", 3)].iter().any(|(option, letters)| {
        name.starts_with(option) || (name.len() >= *letters && option.starts_with(name))
    })
}

/// Whether a setting makes every push a forced one.
fn setting_forces_push(key: &str, value: &str) -> bool {
    let key = key.to_ascii_lowercase();
    match key.strip_prefix("remote.").and_then(|name| name.rsplit_once('.')) {
        Some((_, "push")) => value.starts_with('+'),
        Some((_, "mirror")) => !matches!(value, "false" | "no" | "off" | "0"),
        _ => false,
    }
}

/// The command of an alias with its arguments.
fn expanded_alias(value: &str, globals: &[&str], rest: &[&str]) -> NestedCommand {
    let Some(text) = value.trim_start().strip_prefix('!') else {
        let value = first_words(value);
        let words = globals.iter().copied().chain(value.iter().map(String::as_str));
        return NestedCommand::words(["git"].into_iter().chain(words).chain(rest.iter().copied()));
    };
    let mut text = text.to_owned();
    if rest.iter().map(|arg| arg.len() + 1).sum::<usize>() <= ALIAS_ARGUMENTS {
        for arg in rest {
            text.push_str(" '");
            text.push_str(&arg.replace('\'', "'\\''"));
            text.push('\'');
        }
    }
    NestedCommand::text(text)
}
