//! Recognizes a permission request that would break a [`Guardrail`]. `permission` asks
//! here first, so that neither a policy nor a grant can allow it.
//!
//! A command is split into words as a shell would split it, and judged by those words. A program
//! that hides its intent (a script, an encoded text) escapes this check; the red-first gate, the
//! fast-forward push and the missing credentials of the agent cover that case.

use super::shell_words;
use crate::model::guardrail::Guardrail;
use crate::model::permission::{PermissionRequest, Tool};

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
            .any(|path| is_outside(path.as_received(), worktree))
            .then_some(Guardrail::LeavesWorktree),
        Tool::Shell => request.targets.iter().find_map(|command| {
            let text = command.as_received();
            let mut cwd = worktree.to_owned();
            let all = shell_words::commands(text);
            let git = all.iter().any(|words| program(words) == "git");
            if git && skips_ci(text) {
                return Some(Guardrail::CiSkip);
            }
            all.iter().find_map(|words| command_breaks(words, &mut cwd, worktree, 0))
        }),
        Tool::Read | Tool::Web | Tool::Other => None,
    }
}

/// The program's name without its directory.
fn program(words: &[String]) -> &str {
    words.first().map_or("", |word| word.rsplit('/').next().unwrap_or(word))
}

/// The first guardrail that a simple command would break. `cd` moves `cwd` for the commands after it;
/// `depth` bounds shells within shells.
fn command_breaks(
    words: &[String],
    cwd: &mut String,
    worktree: &str,
    depth: usize,
) -> Option<Guardrail> {
    let words = without_prefix(words);
    let name = program(words);
    let args: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
    let has = |wanted: &[&str]| args.iter().any(|arg| wanted.contains(arg));
    // A script passed to a shell is judged like the command itself.
    if matches!(name, "sh" | "bash" | "zsh" | "dash" | "ksh" | "eval") && depth < 4 {
        let script = if name == "eval" {
            Some(args.join(" "))
        } else {
            let flag = |arg: &&str| arg.starts_with('-') && arg.contains('c');
            args.iter().position(flag).and_then(|at| args.get(at + 1)).map(|s| (*s).to_owned())
        };
        if let Some(script) = script {
            let mut inner = cwd.clone();
            let all = shell_words::commands(&script);
            return all
                .iter()
                .find_map(|words| command_breaks(words, &mut inner, worktree, depth + 1));
        }
    }
    let plain: Vec<&str> = args.iter().copied().filter(|arg| !arg.starts_with('-')).collect();
    let broken = match name {
        "git" => git_breaks(&args, cwd, worktree),
        "kubectl" | "oc" | "k" => kubectl_breaks(&plain),
        "vault" | "bao" => {
            let writes = ["put", "patch", "write", "delete", "destroy", "undelete", "rollback"];
            plain.iter().any(|arg| writes.contains(arg)).then_some(Guardrail::SecretStore)
        }
        "gh" => (plain.first() == Some(&"secret") && has(&["set", "delete", "remove"]))
            .then_some(Guardrail::SecretStore),
        "aws" => (plain.first().is_some_and(|s| matches!(*s, "secretsmanager" | "ssm"))
            && plain.get(1).is_some_and(|verb| {
                ["put", "create", "update", "delete", "restore", "tag"]
                    .iter()
                    .any(|start| verb.starts_with(start))
            }))
        .then_some(Guardrail::SecretStore),
        "gcloud" => (plain.contains(&"secrets")
            && plain
                .iter()
                .any(|v| matches!(*v, "create" | "delete" | "add" | "update" | "destroy")))
        .then_some(Guardrail::SecretStore),
        "az" => (plain.starts_with(&["keyvault"])
            && plain.iter().any(|v| matches!(*v, "set" | "delete" | "purge" | "import")))
        .then_some(Guardrail::SecretStore),
        "op" | "pass" => plain
            .iter()
            .any(|v| matches!(*v, "create" | "edit" | "delete" | "insert" | "rm" | "generate"))
            .then_some(Guardrail::SecretStore),
        "curl" | "wget" | "http" => {
            let vault = args.iter().any(|arg| arg.to_lowercase().contains("x-vault-token"));
            let writes =
                ["-X", "--request", "-d", "--data", "--post-data", "PUT", "POST", "DELETE"];
            (vault && args.iter().any(|arg| writes.iter().any(|w| arg.starts_with(w))))
                .then_some(Guardrail::SecretStore)
        }
        _ => None,
    };
    broken.or_else(|| writes_outside(name, words, &plain, cwd, worktree))
}

/// The words after `VAR=x`, `env`, `sudo`, `nohup` and other prefixes that only lead in.
fn without_prefix(words: &[String]) -> &[String] {
    let mut words = words;
    loop {
        let leads = match words.first().map(String::as_str) {
            None => return words,
            Some(word) => {
                let name = word.rsplit('/').next().unwrap_or(word);
                let assigns = word.split_once('=').is_some_and(|(name, _)| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                });
                let wrapper = [
                    "env", "sudo", "nohup", "exec", "command", "time", "xargs", "then", "do",
                    "else", "!", "{",
                ];
                assigns || wrapper.contains(&name)
            }
        };
        if !leads {
            return words;
        }
        words = &words[1..];
        // Options of the prefix itself.
        while words.first().is_some_and(|word| word.starts_with('-') && word.len() > 1) {
            words = &words[1..];
        }
    }
}

/// The guardrail that a git command would break, judged by its subcommand and options.
fn git_breaks(args: &[&str], cwd: &str, worktree: &str) -> Option<Guardrail> {
    // Options before the subcommand; -C and -c take a value.
    let mut at = 0;
    let mut folder = None;
    while let Some(arg) = args.get(at).filter(|arg| arg.starts_with('-')) {
        if matches!(*arg, "-C" | "-c" | "--git-dir" | "--work-tree") {
            if *arg == "-C" {
                folder = args.get(at + 1);
            }
            at += 1;
        }
        at += 1;
    }
    let verb = *args.get(at)?;
    let rest = args.get(at + 1..).unwrap_or_default();
    let short = |letter: char| {
        rest.iter()
            .any(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg[1..].contains(letter))
    };
    let long = |start: &str| rest.iter().any(|arg| arg.starts_with(start));
    let shared = |arg: &str| {
        let name = arg.rsplit('/').next().unwrap_or(arg);
        matches!(name, "master" | "main") || arg.contains("remotes/origin")
    };
    match verb {
        "push" => {
            let refspec = rest.iter().any(|arg| arg.starts_with('+') || arg.starts_with(':'));
            let forced = long("--force") || long("--mirror") || long("--delete") || long("--prune");
            if args.iter().any(|arg| arg.contains("ci.skip")) {
                return Some(Guardrail::CiSkip);
            }
            if forced || short('f') || short('d') || refspec {
                return Some(Guardrail::ForcePush);
            }
        }
        "filter-branch" | "filter-repo" => return Some(Guardrail::HistoryRewrite),
        "branch"
            if (short('f') || short('D') || short('M') || long("--force"))
                && rest.iter().any(|arg| shared(arg)) =>
        {
            return Some(Guardrail::HistoryRewrite);
        }
        "update-ref" if rest.iter().any(|arg| shared(arg)) => {
            return Some(Guardrail::HistoryRewrite);
        }
        _ => {}
    }
    let writes = !matches!(
        verb,
        "log"
            | "show"
            | "diff"
            | "status"
            | "rev-parse"
            | "ls-files"
            | "ls-remote"
            | "cat-file"
            | "grep"
            | "blame"
            | "describe"
            | "rev-list"
            | "shortlog"
    );
    let away = folder.is_some_and(|folder| is_outside(&joined(cwd, folder), worktree));
    (writes && away).then_some(Guardrail::LeavesWorktree)
}

/// The guardrail that a kubectl command would break, judged by its verb and resource kinds.
fn kubectl_breaks(plain: &[&str]) -> Option<Guardrail> {
    let named = |names: &[&str]| {
        plain.iter().any(|arg| {
            arg.split([',', '/']).any(|part| names.contains(&part.to_lowercase().as_str()))
        })
    };
    let writes =
        ["delete", "create", "apply", "edit", "patch", "replace", "annotate", "label", "set"];
    let verb = plain.iter().find(|arg| writes.contains(arg))?;
    let volumes = [
        "pv",
        "pvc",
        "pvs",
        "pvcs",
        "persistentvolume",
        "persistentvolumes",
        "persistentvolumeclaim",
        "persistentvolumeclaims",
        "ns",
        "namespace",
        "namespaces",
        "volumesnapshot",
        "volumesnapshots",
        "storageclass",
        "storageclasses",
    ];
    if *verb == "delete" && (named(&volumes) || named(&["all"])) {
        return Some(Guardrail::DeleteVolume);
    }
    named(&[
        "secret",
        "secrets",
        "externalsecret",
        "externalsecrets",
        "sealedsecret",
        "sealedsecrets",
    ])
    .then_some(Guardrail::SecretStore)
}

/// Programs that write to or remove their plain arguments.
const WRITERS: [&str; 15] = [
    "rm", "mv", "cp", "tee", "ln", "chmod", "chown", "touch", "mkdir", "rmdir", "truncate", "dd",
    "install", "rsync", "shred",
];

/// Whether a command writes outside the worktree, by a redirection or by its arguments.
fn writes_outside(
    name: &str,
    words: &[String],
    plain: &[&str],
    cwd: &mut String,
    worktree: &str,
) -> Option<Guardrail> {
    if matches!(name, "cd" | "pushd") {
        let to = plain.first().copied().unwrap_or("~");
        *cwd = joined(cwd, to);
        return None;
    }
    let away = |path: &str| is_outside(&joined(cwd, path), worktree);
    let mut redirected = words.iter().zip(words.iter().skip(1));
    let redirects = redirected
        .any(|(sign, to)| matches!(sign.as_str(), ">" | ">>" | ">|" | "&>" | "2>") && away(to));
    let in_place = matches!(name, "sed" | "perl") && words.iter().any(|w| w.starts_with("-i"));
    let written = if WRITERS.contains(&name) || in_place {
        // A copy may read from anywhere; it writes to its last argument.
        let targets = if matches!(name, "cp" | "ln" | "rsync" | "install") {
            plain.last().into_iter().copied().collect()
        } else {
            plain.to_vec()
        };
        targets.into_iter().map(|arg| arg.strip_prefix("of=").unwrap_or(arg)).any(|arg| {
            // A bare word is a file in the command's directory.
            (arg.contains('/') || arg.starts_with('~') || arg == ".." || *cwd != worktree)
                && !arg.contains("if=")
                && away(arg)
        })
    } else {
        false
    };
    (redirects || written).then_some(Guardrail::LeavesWorktree)
}

/// An absolute or relative path from `cwd`, with `.` and `..` resolved; symbolic links are not.
fn joined(cwd: &str, path: &str) -> String {
    let whole = if path.starts_with('/') || path.starts_with('~') || path.starts_with('$') {
        path.to_owned()
    } else {
        format!("{cwd}/{path}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    if whole.starts_with('/') { format!("/{}", parts.join("/")) } else { parts.join("/") }
}

/// Whether a path lies outside the worktree and outside the shared scratch directories.
fn is_outside(path: &str, worktree: &str) -> bool {
    let path = joined(worktree, path);
    if path.starts_with('~') || path.starts_with("$HOME") || path.starts_with("${HOME}") {
        return true;
    }
    if path.starts_with('$') {
        // Only the shell can expand this variable; TMPDIR and the like are common.
        return false;
    }
    let within = |folder: &str| path == folder || path.starts_with(&format!("{folder}/"));
    !(within(worktree) || within("/tmp") || within("/var/tmp") || within("/dev"))
}
