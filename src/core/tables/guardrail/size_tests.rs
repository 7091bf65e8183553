//! Guardrails read any text, however long, deep or broken.

use std::time::{Duration, Instant};

use super::super::shell_words::commands;
use super::violated;
use crate::model::guardrail::Guardrail::{self, ForcePush};
use crate::model::permission::{PermissionRequest, Tool};

fn shell(command: &str) -> Option<Guardrail> {
    let request = PermissionRequest {
        tool: Tool::Shell,
        title: "".into(),
        detail: "".into(),
        targets: vec![command.into()],
        editable: false,
    };
    violated(&request, "/w/wt-1")
}

/// Pieces of shell text that a random text is made of, so that it nests and quotes.
const TOKENS: [&str; 44] = [
    "git", "push", "--force", "-f", " ", " ", " ", "\n", ";", "|", "&", "&&", "(", ")", "$(",
    "$((", "))", "`", "'", "\"", "\\", "<", ">", "<<EOF", "EOF", "<<<", "<(", ">(", "{", "}", "#",
    "$'", "sh", "-c", "env -S", "find", "-exec", "xargs", "echo", "cat", "cd ..", "rm", "/é", "[[",
];

proptest::proptest! {
    #[test]
    fn guardrails_read_any_text_without_panicking(text in ".{0,200}") {
        shell(&text);
        let words = commands(&text);
        proptest::prop_assert!(words.iter().all(|words| !words.is_empty()));
    }

    #[test]
    fn guardrails_read_any_shell_text_without_panicking(
        tokens in proptest::collection::vec(0..TOKENS.len(), 0..80)
    ) {
        let text: String = tokens.into_iter().map(|at| TOKENS[at]).collect();
        shell(&text);
        let words = commands(&text);
        proptest::prop_assert!(words.iter().all(|words| !words.is_empty()));
    }

    /// Whatever precedes it on complete lines of plain words, a forced push is seen.
    #[test]
    fn guardrails_see_a_forced_push_after_any_plain_lines(lines in "([a-z ;|&]{0,20}\n){0,8}") {
        let text = format!("{lines}git push --force");
        proptest::prop_assert_eq!(shell(&text), Some(ForcePush));
    }
}

/// The time grows with the length of the text: a megabyte of any nesting is judged within seconds,
/// even without optimisation, and no nesting exhausts the stack.
#[test]
fn guardrails_judge_a_megabyte_within_a_bound() {
    const SIZE: usize = 1 << 20;
    let nested = [
        "(",
        ")",
        "$(",
        "((",
        "`",
        "`(",
        "\"$(",
        "'",
        "<(",
        "<<a ",
        "<<a\nb\na\n",
        "<<<$(",
        "a ",
        "a;",
        "sudo ",
        "env -S '",
        "bash -c \"",
        "eval ",
        "sh <<a\n",
        "$(echo ",
        "$(cat<<a\n",
        "cat|",
        "find . -exec ",
        "find / -exec rm {} + ",
        "cd a;",
        "git -c alias.a=a a ",
    ];
    let repeated = [
        "$((",
        "\"",
        "\\",
        "{ ",
        ">(",
        "<",
        ">",
        "<<<",
        "<<a\n",
        "a",
        "a|",
        "\n",
        "# ",
        "é",
        "env -S ",
        "timeout 5 ",
        "nice -n 5 ",
        "bash -c '",
        "eval '",
        "echo a|",
        "echo a|sh|",
        "echo $(",
        "xargs ",
        "echo a|xargs ",
        "{} ",
        "parallel ::: ",
        "cd ..;",
        "pushd a;",
        "(cd a;",
        "rm ../a ",
        "rm -rf a ",
        "git -c a=b ",
        "git -C a ",
        "-C a ",
        "git push ",
        "git rebase -x ",
        "git submodule foreach ",
        "tar -C a ",
        "-",
        "-x ",
        "--a ",
        "a=b ",
        "trap ",
        "watch ",
        "fd -x ",
        "busybox ",
        "ssh a ",
        "alias a=",
        "flock a -c ",
        "'\"",
        "$'",
        "[[ ",
    ];
    let long_folder = format!("cd {};", "d/".repeat(250));
    let begun = ["find / ", "rm -rf ", "git ", "bash -c '", long_folder.as_str()];
    let mut texts = Vec::new();
    for unit in nested {
        texts.push((unit, unit.repeat(SIZE / unit.len())));
    }
    for unit in nested.into_iter().chain(repeated) {
        let short = unit.repeat(SIZE / 64 / unit.len());
        texts.extend(begun.map(|begin| (unit, format!("{begin}{short}"))));
        texts.push((unit, short));
    }
    for (unit, text) in texts {
        let start = Instant::now();
        shell(&text);
        let took = start.elapsed();
        let bound = if text.len() > SIZE / 2 { 20 } else { 4 };
        assert!(took < Duration::from_secs(bound), "{unit:?} took {took:?}");
    }
}
