//! Finds the command that another command runs: `timeout 60 …`, `sh -c …`, `find -exec …`.

use super::super::shell_words::{self, KEYWORDS, SHELLS, SUBSTITUTED_FILE, ShellPiece, UNKNOWN};
use super::nested::NestedCommand;
use super::options::{Argument, ValueOptions, read, read_until, read_while};
use super::place::WorkingFolder;
use super::writes::find_roots;

/// The result of looking into a command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unwrapped<'a> {
    /// It runs no other command.
    Program,
    /// It only leads in the command that begins at this word, in this folder.
    Leads { at: usize, folder: Option<&'a str> },
    /// It runs these commands.
    Runs(Vec<NestedCommand>),
}

/// A program whose arguments end with the command that it runs.
struct LeadIn {
    names: &'static [&'static str],
    values: ValueOptions,
    /// The operands before the command.
    operands: usize,
    /// The letter and the name of the option that changes the folder.
    folder: (char, &'static str),
}

const fn lead_in(
    names: &'static [&'static str],
    short: &'static str,
    long: &'static [&'static str],
    operands: usize,
) -> LeadIn {
    LeadIn { names, values: ValueOptions { short, long }, operands, folder: ('\0', "") }
}

const LEAD_INS: [LeadIn; 22] = [
    lead_in(&["nohup", "setsid", "command", "builtin", "busybox", "toybox"], "", &[], 0),
    lead_in(&["unbuffer", "torsocks", "rlwrap", "catchsegv"], "", &[], 0),
    LeadIn {
        folder: ('D', "chdir"),
        ..lead_in(
            &["sudo"],
            "ugpCrtTUDR",
            &["user", "group", "prompt", "chdir", "chroot", "host", "role", "type", "close-from"],
            0,
        )
    },
    lead_in(&["doas"], "uCa", &[], 0),
    lead_in(&["exec"], "a", &[], 0),
    lead_in(&["time"], "fo", &["format", "output"], 0),
    lead_in(&["timeout", "gtimeout"], "ks", &["kill-after", "signal"], 1),
    lead_in(&["nice"], "n", &["adjustment"], 0),
    lead_in(&["ionice"], "cnpPu", &["class", "classdata", "pid", "pgid", "uid"], 0),
    lead_in(&["stdbuf"], "ioe", &["input", "output", "error"], 0),
    lead_in(&["chrt"], "TPD", &["sched-runtime", "sched-period", "sched-deadline"], 1),
    // The list of CPUs follows `-c` or stands alone.
    lead_in(&["taskset"], "", &[], 1),
    lead_in(&["gosu", "su-exec", "chroot", "faketime"], "", &[], 1),
    lead_in(&["pkexec"], "", &["user"], 0),
    lead_in(&["numactl"], "CNmpiP", &["cpunodebind", "physcpubind", "membind", "interleave"], 0),
    lead_in(&["strace", "ltrace"], "oeEpPsSuabIOX", &["output", "trace", "attach"], 0),
    lead_in(&["tini", "dumb-init", "caffeinate"], "ptw", &[], 0),
    lead_in(
        &["unshare"],
        "SGRw",
        &[
            "map-user",
            "map-group",
            "map-users",
            "map-groups",
            "setuid",
            "setgid",
            "root",
            "wd",
            "propagation",
            "setgroups",
            "monotonic",
            "boottime",
        ],
        0,
    ),
    lead_in(&["nsenter"], "tSG", &["target", "setuid", "setgid"], 0),
    lead_in(
        &["setpriv"],
        "",
        &["reuid", "regid", "ruid", "euid", "groups", "bounding-set", "inh-caps", "ambient-caps"],
        0,
    ),
    LeadIn {
        folder: ('\0', "working-directory"),
        ..lead_in(
            &["systemd-run"],
            "pEuHM",
            &[
                "unit",
                "property",
                "description",
                "slice",
                "uid",
                "gid",
                "nice",
                "setenv",
                "host",
                "machine",
                "service-type",
                "working-directory",
            ],
            0,
        )
    },
    lead_in(&["runuser"], "ugG", &["user", "group", "supp-group"], 0),
];

/// Looks into a command. `input` is the text that it reads, where that is known.
pub(super) fn unwrap<'a>(
    words: &[&'a str],
    input: Option<&str>,
    folder: &WorkingFolder<'_>,
) -> Unwrapped<'a> {
    let Some((first, args)) = words.split_first() else { return Unwrapped::Program };
    if KEYWORDS.contains(first) || is_assignment(first) {
        return Unwrapped::Leads { at: 1, folder: None };
    }
    let name = first.rsplit('/').next().unwrap_or(first);
    if SHELLS.contains(&name) {
        return runs(shell_script(args, input));
    }
    let script = || input.map(NestedCommand::text);
    match name {
        "env" => env(args),
        "xargs" => xargs(args, input),
        "eval" => runs(Some(NestedCommand::text(args.join(" ")))),
        "watch" => {
            let values = ValueOptions { short: "nq", long: &["interval", "equexit"] };
            let (_, at) = read_until(args, values, 0);
            runs(Some(NestedCommand::text(args[at..].join(" "))))
        }
        "flock" => flock(args),
        "script" => {
            let values = ValueOptions { short: "BcEImoOtT", long: &["command"] };
            runs(option_text(&read(args, values), 'c', "command"))
        }
        "su" | "runuser" if args.iter().any(|arg| is_command_option(arg)) => {
            let values = ValueOptions { short: "csgGuwT", long: &["command", "shell", "group"] };
            runs(option_text(&read(args, values), 'c', "command"))
        }
        "ssh" => {
            let values = ValueOptions { short: "BbcDEeFIiJLlmOopQRSWw", long: &[] };
            let (_, at) = read_until(args, values, 1);
            let text = args[at..].join(" ");
            let command = if text.is_empty() { script() } else { Some(NestedCommand::text(text)) };
            runs(command.map(NestedCommand::on_another_machine))
        }
        "parallel" => Unwrapped::Runs(parallel(args, script())),
        "find" => Unwrapped::Runs(find(args, folder)),
        "fd" | "fdfind" => {
            let exec = |arg: &&str| matches!(*arg, "-x" | "-X" | "--exec" | "--exec-batch");
            let at = args.iter().position(exec);
            runs(at.map(|at| NestedCommand::words(args[at + 1..].iter().copied())))
        }
        "trap" => {
            runs(args.iter().find(|arg| !arg.starts_with('-')).map(|arg| NestedCommand::text(*arg)))
        }
        "alias" => Unwrapped::Runs(
            args.iter()
                .filter_map(|arg| arg.split_once('='))
                .map(|(_, text)| NestedCommand::text(text))
                .collect(),
        ),
        "source" | "." => {
            let reads = args.first().is_some_and(|arg| is_input(arg));
            runs(script().filter(|_| reads))
        }
        "at" | "batch" => runs(script()),
        _ => LEAD_INS.iter().find(|row| row.names.contains(&name)).map_or(
            Unwrapped::Program,
            |row| {
                let (all, at) = read_until(args, row.values, row.operands);
                let (letter, long) = row.folder;
                let folder = all
                    .iter()
                    .find_map(|arg| arg.value_of(letter, long).filter(|_| !long.is_empty()));
                Unwrapped::Leads { at: at + 1, folder }
            },
        ),
    }
}

fn runs<'a>(command: Option<NestedCommand>) -> Unwrapped<'a> {
    command.map_or(Unwrapped::Program, |command| Unwrapped::Runs(vec![command]))
}

/// Whether a word sets a variable: `NAME=value`.
pub(super) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Whether a file name stands for the input of the command.
fn is_input(file: &str) -> bool {
    matches!(file, "-" | "/dev/stdin" | "/dev/fd/0" | SUBSTITUTED_FILE)
}

fn is_command_option(arg: &str) -> bool {
    match arg.strip_prefix("--") {
        Some(long) => long.starts_with("com"),
        None => arg.strip_prefix('-').is_some_and(|letters| letters.contains('c')),
    }
}

fn option_text(all: &[Argument<'_>], letter: char, long: &str) -> Option<NestedCommand> {
    all.iter().find_map(|arg| arg.value_of(letter, long)).map(NestedCommand::text)
}

/// The script of a shell: the text of `-c`, or its input.
fn shell_script(args: &[&str], input: Option<&str>) -> Option<NestedCommand> {
    let values =
        ValueOptions { short: "oO", long: &["rcfile", "init-file", "command", "init-command"] };
    let (options, at) = read_until(args, values, 0);
    let has =
        |letter| options.iter().any(|arg| matches!(arg, Argument::Short(l, _) if *l == letter));
    let operand = args.get(at).copied();
    if let Some(command) = option_text(&options, '\0', "command") {
        return Some(command);
    }
    if has('c') {
        return operand.map(NestedCommand::text);
    }
    // The output of a substitution may be empty, and then is no operand.
    let reads = has('s') || operand.is_none_or(|file| is_input(file) || file == UNKNOWN);
    input.filter(|_| reads).map(NestedCommand::text)
}

fn env<'a>(args: &[&'a str]) -> Unwrapped<'a> {
    let values = ValueOptions { short: "uCS", long: &["unset", "chdir", "split-string", "argv0"] };
    let goes_on = |arg: &Argument<'_>| !arg.is_option('S', "split-string");
    let (options, at) = read_while(args, values, 0, goes_on);
    let folder = options.iter().find_map(|arg| arg.value_of('C', "chdir"));
    let rest = args[at..].strip_prefix(&["-"]).unwrap_or(&args[at..]);
    let Some(split) = options.iter().find_map(|arg| arg.value_of('S', "split-string")) else {
        return Unwrapped::Leads { at: 1 + args.len() - rest.len(), folder };
    };
    // `env` splits the text itself, as a shell would split plain words, and may find options of
    // its own in it.
    let mut command = vec!["env".to_owned()];
    command.extend(first_words(split));
    command.extend(rest.iter().map(|arg| (*arg).to_owned()));
    let mut command = NestedCommand::words(command.iter().map(String::as_str));
    command.folder = folder.map(str::to_owned);
    runs(Some(command))
}

/// The words of the first command of a text.
pub(super) fn first_words(text: &str) -> Vec<String> {
    let first = shell_words::pieces(text).into_iter().find_map(|piece| match piece {
        ShellPiece::Command(command) => Some(command),
        ShellPiece::Open | ShellPiece::Close { .. } => None,
    });
    first.map_or_else(Vec::new, |command| {
        command.arguments().into_iter().map(str::to_owned).collect()
    })
}

/// `xargs` appends the words that it reads to the command.
fn xargs<'a>(args: &[&'a str], input: Option<&str>) -> Unwrapped<'a> {
    let values = ValueOptions {
        short: "IaEdLnPs",
        long: &["arg-file", "delimiter", "max-args", "max-procs", "max-chars", "process-slot-var"],
    };
    let (_, at) = read_until(args, values, 0);
    match input {
        None => Unwrapped::Leads { at: at + 1, folder: None },
        Some(input) => runs(Some(NestedCommand::words(
            args[at..].iter().copied().chain(input.split_whitespace()),
        ))),
    }
}

fn flock<'a>(args: &[&'a str]) -> Unwrapped<'a> {
    let values = ValueOptions { short: "wE", long: &["wait", "timeout", "conflict-exit-code"] };
    let (options, at) = read_until(args, values, 1);
    if options.iter().any(|arg| arg.is_option('c', "command")) {
        return runs(args.get(at).map(|text| NestedCommand::text(*text)));
    }
    Unwrapped::Leads { at: at + 1, folder: None }
}

/// `parallel` runs the words before `:::` with the words after it, or those words themselves.
fn parallel(args: &[&str], input: Option<NestedCommand>) -> Vec<NestedCommand> {
    let values = ValueOptions {
        short: "jaNnLIPSJEdC",
        long: &[
            "jobs",
            "arg-file",
            "max-args",
            "max-replace-args",
            "max-procs",
            "colsep",
            "delimiter",
            "results",
            "joblog",
            "retries",
            "timeout",
            "sshlogin",
            "tmpdir",
            "halt",
            "delay",
            "load",
            "memfree",
            "nice",
            "workdir",
            "wd",
            "env",
            "tagstring",
            "basefile",
            "return",
        ],
    };
    let (_, at) = read_until(args, values, 0);
    let rest = &args[at..];
    let end = rest.iter().position(|arg| arg.starts_with(":::")).unwrap_or(rest.len());
    let given = rest[end..].iter().filter(|arg| !arg.starts_with(":::"));
    if end == 0 {
        return given.map(|arg| NestedCommand::text(*arg)).chain(input).collect();
    }
    let words: Vec<&str> = rest[..end].iter().chain(given).copied().collect();
    vec![NestedCommand::text(words.join(" "))]
}

/// The commands of `find -exec`, with a stand-in for the files that it finds.
fn find(args: &[&str], folder: &WorkingFolder<'_>) -> Vec<NestedCommand> {
    let outside = find_roots(args).any(|root| folder.is_outside(root));
    let stand_in = if outside { "/" } else { UNKNOWN };
    let mut commands = Vec::new();
    let mut at = 0;
    while let Some(found) =
        args[at..].iter().position(|arg| matches!(*arg, "-exec" | "-execdir" | "-ok" | "-okdir"))
    {
        let start = at + found + 1;
        let length = args[start..].iter().position(|arg| matches!(*arg, ";" | "+"));
        let end = length.map_or(args.len(), |length| start + length);
        let words: Vec<String> =
            args[start..end].iter().map(|word| word.replace("{}", stand_in)).collect();
        commands.push(NestedCommand::words(words.iter().map(String::as_str)));
        at = end;
    }
    commands
}
