//! The files and folders that a command writes, as its words name them.

use super::options::{Argument, ValueOptions, abbreviates, read};

/// The paths that a command writes. `.` stands for its working folder.
pub(super) fn written<'a>(name: &str, args: &[&'a str]) -> Vec<&'a str> {
    let short = |short| ValueOptions { short, long: &[] };
    match name {
        "rm" | "rmdir" | "unlink" | "tee" | "mkfifo" | "sponge" => operands(args, short("")),
        "shred" => operands(args, short("ns")),
        "touch" => {
            operands(args, ValueOptions { short: "drt", long: &["date", "reference", "time"] })
        }
        "mkdir" => operands(args, ValueOptions { short: "m", long: &["mode"] }),
        "truncate" => operands(args, ValueOptions { short: "rs", long: &["reference", "size"] }),
        // The first operand is a mode or an owner, unless a file gives it.
        "chmod" | "chown" | "chgrp" => {
            let all = operands(args, short(""));
            // `-x` takes a permission away: it is a mode, although it looks like an option.
            let is_mode = |arg: &&str| {
                arg.strip_prefix('-').is_some_and(|mode| {
                    !mode.is_empty() && mode.chars().all(|c| "rwxXst".contains(c))
                })
            };
            let named = args.iter().any(|arg| arg.starts_with("--ref") || is_mode(arg));
            all.into_iter().skip(usize::from(!named)).collect()
        }
        "mv" | "cp" | "ln" | "install" | "rsync" | "scp" => copied(name, args),
        "dd" => args.iter().filter_map(|arg| arg.strip_prefix("of=")).collect(),
        "sed" | "perl" => edited_in_place(name, args),
        "curl" => downloaded_by_curl(args),
        "wget" => downloaded_by_wget(args),
        "tar" | "bsdtar" | "gtar" => archived_by_tar(args),
        "unzip" => unzipped(args),
        "zip" => operands(args, short("btnxiP")).into_iter().take(1).collect(),
        "7z" | "7za" | "7zr" if args.iter().any(|arg| matches!(*arg, "x" | "e")) => {
            let folder = args.iter().find_map(|arg| arg.strip_prefix("-o"));
            vec![folder.filter(|folder| !folder.is_empty()).unwrap_or(".")]
        }
        "find" => found(args),
        "script" => {
            let values =
                ValueOptions { short: "BcEImoOtT", long: &["command", "log-out", "log-io"] };
            let all = read(args, values);
            let logs = all.iter().filter_map(|arg| {
                arg.value_of('O', "log-out").or_else(|| arg.value_of('B', "log-io"))
            });
            logs.chain(all.iter().filter_map(|arg| arg.operand())).collect()
        }
        _ => Vec::new(),
    }
}

fn operands<'a>(args: &[&'a str], values: ValueOptions) -> Vec<&'a str> {
    read(args, values).into_iter().filter_map(Argument::operand).collect()
}

/// A copy may read from anywhere; it writes to its last operand. A move also removes its sources.
fn copied<'a>(name: &str, args: &[&'a str]) -> Vec<&'a str> {
    const LONG: &[&str] = &["target-directory", "suffix", "mode", "owner", "group"];
    let values = match name {
        "install" => ValueOptions { short: "tSmog", long: LONG },
        "rsync" => ValueOptions {
            short: "efTMB",
            long: &[
                "rsh",
                "filter",
                "exclude",
                "include",
                "exclude-from",
                "files-from",
                "temp-dir",
            ],
        },
        "scp" => ValueOptions { short: "cDFiJloPSX", long: &[] },
        _ => ValueOptions { short: "tS", long: LONG },
    };
    let all = read(args, values);
    let folder = all.iter().find_map(|arg| arg.value_of('t', "target-directory"));
    let folder = folder.filter(|_| matches!(name, "mv" | "cp" | "ln" | "install"));
    let operands: Vec<&str> = all.iter().filter_map(|arg| arg.operand()).collect();
    let folders = name == "install" && all.iter().any(|arg| arg.is_option('d', "directory"));
    let mut paths: Vec<&str> = match (name, folder) {
        ("mv", _) => operands,
        _ if folders => operands,
        (_, Some(_)) => Vec::new(),
        // The link goes to the working folder.
        ("ln", None) if operands.len() == 1 => vec!["."],
        (_, None) => operands.last().copied().into_iter().collect(),
    };
    paths.extend(folder);
    paths
}

/// The files of `sed -i` and `perl -i`; their first operand is the program, unless an option is.
fn edited_in_place<'a>(name: &str, args: &[&'a str]) -> Vec<&'a str> {
    let values = if name == "sed" {
        ValueOptions { short: "efl", long: &["expression", "file", "line-length"] }
    } else {
        ValueOptions { short: "eEIMm", long: &[] }
    };
    let in_place = |arg: &&str| arg.starts_with("--in-") || cluster_has_i(arg, values);
    if !args.iter().any(in_place) {
        return Vec::new();
    }
    // The rest of such a cluster is a suffix.
    let others: Vec<&str> = args.iter().copied().filter(|arg| !in_place(arg)).collect();
    let all = read(&others, values);
    let has_program = all.iter().any(|arg| match arg {
        Argument::Short(letter, _) => matches!(letter, 'e' | 'E' | 'f'),
        Argument::Long(long, _) => abbreviates(long, "expression") || abbreviates(long, "file"),
        Argument::Operand(_) => false,
    });
    // BSD's sed has the suffix as an argument of its own, which may be empty.
    let operands = all.into_iter().filter_map(Argument::operand).filter(|text| !text.is_empty());
    operands.skip(usize::from(!has_program)).collect()
}

/// Whether a cluster of short options contains `i` before an option with a value.
fn cluster_has_i(arg: &str, values: ValueOptions) -> bool {
    let Some(letters) = arg.strip_prefix('-').filter(|rest| !rest.starts_with('-')) else {
        return false;
    };
    letters.chars().take_while(|letter| !values.short.contains(*letter)).any(|letter| letter == 'i')
}

fn downloaded_by_curl<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let values = ValueOptions {
        short: "AbcCdDeEFhHKmoPQrTtuUwXxYyz",
        long: &[
            "output",
            "output-dir",
            "dump-header",
            "cookie-jar",
            "trace",
            "trace-ascii",
            "stderr",
            "etag-save",
            "header",
            "data",
            "request",
            "user",
            "url",
            "max-time",
            "write-out",
            "form",
            "cookie",
            "retry",
        ],
    };
    let all = read(args, values);
    let mut paths: Vec<&str> = all
        .iter()
        .filter_map(|arg| {
            arg.value_of('o', "output")
                .or_else(|| arg.value_of('\0', "output-dir"))
                .or_else(|| arg.value_of('D', "dump-header"))
                .or_else(|| arg.value_of('c', "cookie-jar"))
                .or_else(|| arg.value_of('\0', "trace"))
                .or_else(|| arg.value_of('\0', "trace-ascii"))
                .or_else(|| arg.value_of('\0', "stderr"))
                .or_else(|| arg.value_of('\0', "etag-save"))
        })
        .collect();
    let here = all.iter().any(|arg| {
        arg.is_option('O', "remote-name") || matches!(arg, Argument::Long("remote-name-all", _))
    });
    if here {
        paths.push(".");
    }
    paths.retain(|path| *path != "-");
    paths
}

fn downloaded_by_wget<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let values = ValueOptions {
        short: "OPoatTUeBiQARDIXlw",
        long: &[
            "output-document",
            "directory-prefix",
            "output-file",
            "append-output",
            "save-cookies",
            "header",
            "user-agent",
            "tries",
            "timeout",
        ],
    };
    let all = read(args, values);
    let find = |letter, long| all.iter().find_map(|arg| arg.value_of(letter, long));
    let document = find('O', "output-document");
    let folder = find('P', "directory-prefix");
    let logs = [find('o', "output-file"), find('a', "append-output"), find('\0', "save-cookies")];
    let target = document.or(folder).unwrap_or(".");
    let paths = logs.into_iter().flatten().chain([target]);
    paths.filter(|path| *path != "-").collect()
}

/// An extraction writes to the folder of `-C`, all other modes write the archive.
fn archived_by_tar<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let values = ValueOptions {
        short: "CfTXbgHIKLNV",
        long: &["directory", "file", "files-from", "exclude", "exclude-from", "transform"],
    };
    // The first argument may be a cluster without `-`, whose values follow it one by one.
    let bundle = args.first().filter(|arg| !arg.starts_with('-')).copied().unwrap_or_default();
    let mut all: Vec<Argument<'_>> = Vec::new();
    let mut rest = args.get(usize::from(!bundle.is_empty())..).unwrap_or_default();
    for letter in bundle.chars() {
        let value = values.short.contains(letter).then(|| rest.split_first()).flatten();
        if let Some((_, after)) = value {
            rest = after;
        }
        all.push(Argument::Short(letter, value.map(|(value, _)| *value)));
    }
    all.extend(read(rest, values));
    let extracts = all.iter().any(|arg| {
        arg.is_option('x', "extract")
            || matches!(arg, Argument::Long(long, _) if abbreviates(long, "get"))
    });
    if extracts {
        let folders: Vec<&str> =
            all.iter().filter_map(|arg| arg.value_of('C', "directory")).collect();
        return if folders.is_empty() { vec!["."] } else { folders };
    }
    let writes = all.iter().any(|arg| {
        arg.is_option('c', "create") || arg.is_option('r', "append") || arg.is_option('u', "update")
    });
    let archive = all.iter().filter_map(|arg| arg.value_of('f', "file"));
    archive.filter(|path| writes && *path != "-").collect()
}

fn unzipped<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let all = read(args, ValueOptions { short: "dPx", long: &[] });
    let lists = |arg: &Argument<'_>| {
        matches!(arg, Argument::Short('l' | 't' | 'p' | 'v' | 'Z' | 'c' | 'z', _))
    };
    if all.is_empty() || all.iter().any(lists) {
        return Vec::new();
    }
    vec![all.iter().find_map(|arg| arg.value_of('d', "")).unwrap_or(".")]
}

/// The folders from which `find` deletes, and the files to which it prints.
fn found<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut paths: Vec<&str> = args
        .windows(2)
        .filter(|pair| matches!(pair[0], "-fprint" | "-fprint0" | "-fprintf" | "-fls"))
        .map(|pair| pair[1])
        .collect();
    if args.contains(&"-delete") {
        paths.extend(find_roots(args));
        if find_roots(args).next().is_none() {
            paths.push(".");
        }
    }
    paths
}

/// The folders in which `find` searches.
pub(super) fn find_roots<'a>(args: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let roots = args.iter().copied().skip_while(|arg| matches!(*arg, "-H" | "-L" | "-P"));
    roots.take_while(|arg| !arg.starts_with(['-', '(', '!']))
}
