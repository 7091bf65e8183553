//! Splits a shell text into simple commands and their words, as a shell would. Policies and
//! guardrails judge a compound command part by part with it. It is no shell: it expands nothing
//! but the output of a plain `echo`, `printf` or `cat`, and it accepts any text.

mod piece;
mod reader;

pub(crate) use piece::{
    KEYWORDS, SHELLS, SUBSTITUTED_FILE, ShellPiece, SimpleCommand, UNKNOWN, output,
};
pub(crate) use reader::pieces;

use reader::DOCUMENT_DEPTH;

/// The simple commands of a shell text, each as its words without quotes, with the signs and the
/// files of redirections. Lists, pipes, substitutions and subshells are split into their parts.
#[must_use]
pub(crate) fn commands(text: &str) -> Vec<Vec<String>> {
    collect_commands(text, 0)
}

fn collect_commands(text: &str, depth: usize) -> Vec<Vec<String>> {
    let pieces = pieces(text);
    let simple = || {
        pieces.iter().filter_map(|piece| match piece {
            ShellPiece::Command(command) => Some(command),
            ShellPiece::Open | ShellPiece::Close { .. } => None,
        })
    };
    let mut all: Vec<Vec<String>> = simple()
        .map(|command| command.words.iter().map(|word| word.text.clone()).collect())
        .collect();
    let runs_shell =
        all.iter().flatten().any(|word| SHELLS.contains(&word.rsplit('/').next().unwrap_or(word)));
    if runs_shell && depth < DOCUMENT_DEPTH {
        // The document may be what the shell runs.
        let inner = simple().filter_map(|command| command.input.as_deref());
        let inner: Vec<_> =
            inner.flat_map(|document| collect_commands(document, depth + 1)).collect();
        all.extend(inner);
    }
    all
}
