//! The parts of a shell text, and the words that a shell itself understands.

use std::borrow::Cow;

/// Stands for the output of a substitution that only a shell can know.
pub(crate) const UNKNOWN: &str = "$()";
/// Stands for the file that a process substitution yields.
pub(crate) const SUBSTITUTED_FILE: &str = "/dev/fd/63";
/// The programs that run the text that they are given.
pub(crate) const SHELLS: [&str; 11] =
    ["sh", "bash", "zsh", "dash", "ksh", "ash", "mksh", "rbash", "fish", "$SHELL", "${SHELL}"];
/// The words of the shell's grammar that precede a command.
pub(crate) const KEYWORDS: [&str; 10] =
    ["if", "then", "elif", "else", "while", "until", "do", "!", "{", "coproc"];

/// A part of a shell text, in the order in which a shell meets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShellPiece {
    /// A subshell or a substitution begins.
    Open,
    /// It ends. The output of a subshell (`pipes`) goes where the outer command's output goes.
    Close {
        pipes: bool,
    },
    Command(SimpleCommand),
}

/// A command without lists and pipes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SimpleCommand {
    /// Never empty.
    pub(crate) words: Vec<ShellWord>,
    /// The text of a here-document, a here-string or a substituted file.
    pub(crate) input: Option<String>,
    /// Whether it reads the output of the command before it.
    pub(crate) piped: bool,
}

/// A word without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShellWord {
    pub(crate) text: String,
    pub(crate) role: WordRole,
}

/// The meaning of a word in its command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WordRole {
    Argument,
    /// The sign of a redirection.
    Sign,
    /// The file that a redirection writes.
    Written,
    /// The file that a redirection reads.
    Source,
    /// The text of a here-string.
    HereString,
}

impl SimpleCommand {
    /// The words without redirections.
    pub(crate) fn arguments(&self) -> Vec<&str> {
        self.with_role(WordRole::Argument)
    }

    /// The files that redirections write.
    pub(crate) fn written(&self) -> Vec<&str> {
        self.with_role(WordRole::Written)
    }

    fn with_role(&self, role: WordRole) -> Vec<&str> {
        let words = self.words.iter().filter(|word| word.role == role);
        words.map(|word| word.text.as_str()).collect()
    }
}

/// The output of a command, where its words alone determine it. `input` is what it reads.
pub(crate) fn output<'a>(words: &[&str], input: Option<&'a str>) -> Option<Cow<'a, str>> {
    let first = words.iter().position(|word| !KEYWORDS.contains(word))?;
    let (name, args) = words[first..].split_first()?;
    match name.rsplit('/').next().unwrap_or(name) {
        "echo" | "printf" => {
            let option =
                |arg: &&&str| arg.len() > 1 && arg[1..].bytes().all(|b| b"neE-".contains(&b));
            let options = args.iter().take_while(|arg| arg.starts_with('-') && option(arg)).count();
            Some(args[options..].join(" ").replace("\\n", "\n").into())
        }
        "cat" if args.iter().all(|arg| arg.starts_with('-')) => input.map(Cow::Borrowed),
        "tee" => input.map(Cow::Borrowed),
        _ => None,
    }
}
