//! The pages of docs against the program: each `afk …` line parses as the program parses it, and each key that a
//! how-to names is bound.

use std::collections::BTreeSet;

use afk::cli::Cli;
use clap::Parser;
use clap::error::ErrorKind;

const PAGES: [(&str, &str); 3] = [
    ("how-to.md", include_str!("../../docs/how-to.md")),
    ("tutorial.md", include_str!("../../docs/tutorial.md")),
    ("commands.md", include_str!("../../docs/commands.md")),
];

/// Values for the words in capitals.
const VALUES: [(&str, &str); 30] = [
    ("COUNT", "5"),
    ("COMMAND", "ls"),
    ("D", "0795cda15c1e8a34"),
    ("DIR", "folder"),
    ("FILE", "file"),
    ("FILE…", "file"),
    ("GUIDANCE", "again"),
    ("HOST", "host"),
    ("ID", "r1"),
    ("MOMENT", "10:00"),
    ("MS", "100"),
    ("NUMBER", "1"),
    ("P", "p1"),
    ("PATH", "path"),
    ("PROMPT", "words"),
    ("REASON", "no"),
    ("REPO", "acme/thing"),
    ("RUN", "r1"),
    ("S", "60"),
    ("SECONDS", "60"),
    ("SHELL", "bash"),
    ("STEP", "1"),
    ("TEXT", "words"),
    ("TIME", "18:00"),
    ("VERB", "status"),
    ("WHAT", "r1"),
    ("A", "a"),
    ("B", "b"),
    ("NAME", "name"),
    ("ADDRESS", "address"),
];

/// The code spans of a page outside of its blocks, each on one line.
fn spans(page: &str) -> Vec<String> {
    let prose: Vec<&str> = page.lines().filter(|line| !line.starts_with("    ")).collect();
    let joined = prose.join("\n");
    joined
        .split("\n\n")
        .flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
        .map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The calls that a page shows in its blocks and tables, and those that its prose names, perhaps without
/// their arguments.
fn shown(page: &str) -> (Vec<String>, Vec<String>) {
    let is_row = |line: &&str| line.starts_with('|');
    let rows: Vec<&str> = page.lines().filter(is_row).collect();
    let prose: Vec<&str> = page.lines().filter(|line| !is_row(line)).collect();
    let blocks: Vec<&str> = page.lines().filter(|line| line.starts_with("    $ ")).collect();
    (calls_in(&[blocks, rows].concat().join("\n\n")), calls_in(&prose.join("\n")))
}

/// The calls after a `$` in the blocks of a text, and those that its code spans stand for.
fn calls_in(page: &str) -> Vec<String> {
    let is_ours = |line: &str| line == "afk" || line.starts_with("afk ");
    let typed = page.lines().filter_map(|line| line.strip_prefix("    $ ")).map(str::to_owned);
    let synopses = spans(page).into_iter().filter(|span| is_ours(span));
    typed
        .chain(synopses.flat_map(|synopsis| calls(&synopsis)))
        .filter(|line| is_ours(line))
        .collect()
}

/// The alternatives between the bars of a text that stand in no bracket.
fn alternatives(text: &str) -> Vec<String> {
    let (mut all, mut depth) = (vec![String::new()], 0);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            // In a table, a bar is escaped.
            '\\' if chars.peek() == Some(&'|') => continue,
            '|' if depth == 0 => {
                all.push(String::new());
                continue;
            }
            _ => {}
        }
        all.last_mut().unwrap().push(c);
    }
    all.iter().map(|one| one.trim().to_owned()).collect()
}

/// Every call that a synopsis stands for: `a [b | c] d` is `a d`, `a b d` and `a c d`.
fn calls(synopsis: &str) -> Vec<String> {
    let Some(open) = synopsis.find('[') else {
        // `a b | c` is `a b` and `a c`.
        let all = alternatives(synopsis);
        let (first, others) = all.split_first().unwrap();
        let before = first.rsplit_once(' ').map_or("", |(before, _)| before);
        let others = others.iter().map(|other| format!("{before} {other}"));
        return [first.clone()].into_iter().chain(others).collect();
    };
    let mut depth = 0;
    let close = synopsis[open..].char_indices().find(|(_, c)| {
        depth += match c {
            '[' => 1,
            ']' => -1,
            _ => 0,
        };
        depth == 0
    });
    let close = open + close.unwrap_or_else(|| panic!("{synopsis}")).0;
    let (before, after) = (&synopsis[..open], &synopsis[close + 1..]);
    let inside = alternatives(&synopsis[open + 1..close]);
    let all = [String::new()].into_iter().chain(inside);
    all.flat_map(|one| calls(&format!("{before}{one}{after}"))).collect()
}

/// The words of a command line, as a shell splits them; a comment, a pipe or a redirection ends it.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quote): (Vec<String>, Option<String>, Option<char>) =
        (Vec::new(), None, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => all.extend(word.take()),
            (None, '|' | '>' | '<' | ';' | '#') if word.is_none() => return all,
            _ => word.get_or_insert_default().push(c),
        }
    }
    all.extend(word);
    all
}

#[test]
fn every_command_of_the_pages_parses() {
    let values: std::collections::BTreeMap<_, _> = VALUES.into_iter().collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (page, text) in PAGES {
        let (whole, named) = shown(text);
        for (call, is_whole) in whole
            .into_iter()
            .map(|call| (call, true))
            .chain(named.into_iter().map(|call| (call, false)))
        {
            let value = |word: String| values.get(word.as_str()).map_or(word, |v| (*v).to_owned());
            let args: Vec<String> = words(&call).into_iter().map(value).collect();
            count += 1;
            if let Err(error) = Cli::try_parse_from(&args)
                && error.use_stderr()
                && (is_whole || error.kind() != ErrorKind::MissingRequiredArgument)
            {
                wrong.push(format!("{page}: `{call}` as {args:?}: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 80, "only {count} commands were found");
}

/// The keys of a keymap, in the spelling of the pages.
fn bound(keymap: &str) -> BTreeSet<String> {
    let keymap: toml::Table = toml::from_str(keymap).unwrap();
    let bindings = keymap.values().filter_map(|context| context.as_array()).flatten();
    let spelled = |key: &str| {
        let name = key.strip_prefix('<').and_then(|key| key.strip_suffix('>')).unwrap_or(key);
        match name.strip_prefix("C-") {
            Some(letter) => format!("Ctrl-{}", letter.to_uppercase()),
            None => if name.is_empty() { key } else { name }.to_owned(),
        }
    };
    bindings
        .map(|binding| {
            let keys = binding["on"].as_array().unwrap();
            let keys: Vec<String> = keys.iter().map(|key| spelled(key.as_str().unwrap())).collect();
            keys.join(" ")
        })
        .collect()
}

#[test]
fn every_key_of_the_how_to_is_bound() {
    let keys = bound(include_str!("../../keymaps/default.toml"));
    let (_, page) = PAGES[0];
    let tasks: Vec<&str> = page.split("\n## ").skip(1).collect();
    assert!(tasks.len() >= 8);
    for task in tasks {
        let title = task.lines().next().unwrap();
        assert!(task.contains("\n    $ afk "), "{title} has no command");
        let (_, named) = task.split_once("Keys: ").unwrap_or_else(|| panic!("{title} has no keys"));
        let named = named.split("\n\n").next().unwrap();
        let spans: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(!spans.is_empty(), "{title}");
        for key in spans {
            assert!(keys.contains(key), "{title}: {key} is bound to nothing in {keys:?}");
        }
    }
}

#[test]
fn synopsis_stands_for_each_of_its_calls() {
    let text = r"afk a [b C \| --d [E]] f";
    assert_eq!(calls(text), ["afk a  f", "afk a b C f", "afk a --d  f", "afk a --d E f"]);
    assert_eq!(calls(r"afk config path \| show"), ["afk config path", "afk config show"]);
    assert_eq!(
        words("afk steer r1 'a  \"b' --x | grep y"),
        ["afk", "steer", "r1", "a  \"b", "--x"]
    );
}
