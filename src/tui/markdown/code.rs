//! Code coloured by its language, by a lexer that knows comments, strings, numbers and keywords.
//!
//! That is what a reader of a transcript needs of it. A grammar for each language would cost megabytes and,
//! with regular expressions that backtrack, time that an agent's text could choose.

use ratatui::style::{Modifier, Style};
use ratatui::text::Span;

use crate::tui::theme::{Theme, Tone};
use crate::tui::widgets::marks::diff_role;
use crate::tui::widgets::text::wrap_marked;

/// The rules of a language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Language {
    /// The names that a code block may give, in lower case.
    names: &'static [&'static str],
    /// Begins of comments to the end of the line.
    comments: &'static [&'static str],
    /// The marks around comments of several lines.
    block: Option<(&'static str, &'static str)>,
    /// The marks around strings, the longest first; a string of three may have several lines.
    strings: &'static [&'static str],
    keywords: &'static [&'static str],
}

const C_LIKE: Language = Language {
    names: &[],
    comments: &["//"],
    block: Some(("/*", "*/")),
    strings: &["\"", "'"],
    keywords: &[],
};

const HASHED: Language = Language { comments: &["#"], block: None, ..C_LIKE };

/// A diff is coloured by the sign of each line.
const DIFF: Language = Language { names: &["diff", "patch"], ..C_LIKE };

#[rustfmt::skip]
const LANGUAGES: &[Language] = &[
    DIFF,
    Language {
        names: &["rust", "rs"],
        // A single quote is a lifetime more often than it is a string.
        strings: &["\""],
        keywords: &["as", "async", "await", "break", "const", "continue", "crate", "dyn", "else", "enum", "extern", "false", "fn", "for", "if", "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self", "Self", "static", "struct", "super", "trait", "true", "type", "unsafe", "use", "where", "while"],
        ..C_LIKE
    },
    Language {
        names: &["python", "py", "python3"],
        strings: &["\"\"\"", "'''", "\"", "'"],
        keywords: &["False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "match", "nonlocal", "not", "or", "pass", "raise", "return", "self", "try", "while", "with", "yield"],
        ..HASHED
    },
    Language {
        names: &["sh", "bash", "shell", "zsh", "fish", "console"],
        keywords: &["case", "do", "done", "elif", "else", "esac", "exit", "export", "fi", "for", "function", "if", "in", "local", "return", "set", "then", "trap", "until", "while"],
        ..HASHED
    },
    Language {
        names: &["javascript", "js", "jsx", "typescript", "ts", "tsx", "mjs"],
        strings: &["`", "\"", "'"],
        keywords: &["abstract", "any", "as", "async", "await", "boolean", "break", "case", "catch", "class", "const", "continue", "declare", "default", "delete", "do", "else", "enum", "export", "extends", "false", "finally", "for", "from", "function", "if", "implements", "import", "in", "instanceof", "interface", "let", "new", "null", "number", "of", "private", "public", "readonly", "return", "static", "string", "super", "switch", "this", "throw", "true", "try", "type", "typeof", "undefined", "var", "void", "while", "yield"],
        ..C_LIKE
    },
    Language {
        names: &["go", "golang"],
        strings: &["`", "\"", "'"],
        keywords: &["break", "case", "chan", "const", "continue", "default", "defer", "else", "error", "fallthrough", "false", "for", "func", "go", "goto", "if", "import", "interface", "map", "nil", "package", "range", "return", "select", "string", "struct", "switch", "true", "type", "var"],
        ..C_LIKE
    },
    Language {
        names: &["c", "h", "cpp", "c++", "cc", "hpp", "cxx"],
        keywords: &["auto", "bool", "break", "case", "catch", "char", "class", "const", "constexpr", "continue", "default", "delete", "do", "double", "else", "enum", "extern", "false", "float", "for", "goto", "if", "inline", "int", "long", "namespace", "new", "nullptr", "private", "protected", "public", "return", "short", "signed", "sizeof", "static", "struct", "switch", "template", "this", "throw", "true", "try", "typedef", "typename", "union", "unsigned", "using", "virtual", "void", "volatile", "while", "#include", "#define", "#if", "#ifdef", "#ifndef", "#endif", "#else"],
        ..C_LIKE
    },
    Language {
        names: &["java", "kotlin", "kt", "scala", "swift", "csharp", "cs", "c#", "dart", "php"],
        strings: &["\"\"\"", "\"", "'"],
        keywords: &["abstract", "as", "async", "await", "bool", "boolean", "break", "byte", "case", "catch", "char", "class", "const", "continue", "def", "default", "do", "double", "else", "enum", "extends", "false", "final", "finally", "float", "for", "foreach", "fun", "func", "function", "guard", "if", "implements", "import", "in", "init", "int", "interface", "internal", "is", "let", "long", "namespace", "new", "nil", "null", "object", "override", "package", "private", "protected", "public", "return", "self", "static", "string", "struct", "super", "switch", "this", "throw", "throws", "trait", "true", "try", "using", "val", "var", "void", "when", "while", "with", "yield"],
        ..C_LIKE
    },
    Language {
        names: &["ruby", "rb", "elixir", "ex", "exs", "crystal"],
        keywords: &["alias", "and", "begin", "break", "case", "class", "cond", "def", "defmodule", "defp", "do", "else", "elsif", "end", "ensure", "false", "fn", "for", "if", "in", "module", "next", "nil", "not", "or", "require", "rescue", "return", "self", "super", "then", "true", "unless", "until", "use", "when", "while", "yield"],
        ..HASHED
    },
    Language { names: &["json", "jsonc", "json5"], strings: &["\""], keywords: &["true", "false", "null"], ..C_LIKE },
    Language {
        names: &["toml", "yaml", "yml", "ini", "conf", "dockerfile", "docker", "make", "makefile", "nix", "hcl", "terraform", "tf", "env", "properties"],
        strings: &["\"\"\"", "'''", "\"", "'"],
        keywords: &["true", "false", "null", "yes", "no", "FROM", "RUN", "COPY", "ENV", "CMD", "ENTRYPOINT", "WORKDIR", "ARG", "EXPOSE", "USER", "resource", "variable", "module", "let", "in", "with", "inherit"],
        ..HASHED
    },
    Language {
        names: &["sql", "sqlite", "postgres", "postgresql", "mysql", "plsql"],
        comments: &["--"],
        strings: &["'", "\""],
        keywords: &["add", "all", "alter", "and", "as", "asc", "begin", "between", "by", "case", "check", "commit", "constraint", "create", "cross", "default", "delete", "desc", "distinct", "drop", "else", "end", "exists", "foreign", "from", "full", "group", "having", "if", "in", "index", "inner", "insert", "into", "is", "join", "key", "left", "like", "limit", "not", "null", "offset", "on", "or", "order", "outer", "primary", "references", "returning", "right", "rollback", "select", "set", "table", "then", "union", "unique", "update", "using", "values", "view", "when", "where", "with"],
        ..C_LIKE
    },
    Language {
        names: &["lua", "haskell", "hs", "elm"],
        comments: &["--"],
        block: Some(("{-", "-}")),
        keywords: &["and", "break", "case", "class", "data", "do", "else", "elseif", "end", "false", "for", "function", "if", "import", "in", "instance", "let", "local", "module", "newtype", "nil", "not", "of", "or", "repeat", "return", "then", "true", "type", "until", "where", "while"],
        ..C_LIKE
    },
    Language { names: &["css", "scss", "less"], keywords: &["important", "media", "import", "from", "to"], ..C_LIKE },
    Language { names: &["html", "xml", "svg", "vue", "svelte"], comments: &[], block: Some(("<!--", "-->")), strings: &["\""], keywords: &[] },
];

impl Language {
    /// The language that a code block names, `rust` or `rust,ignore`; none for an unknown one.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let end = |c: char| c.is_whitespace() || matches!(c, ',' | '{' | ':');
        let name = name.trim().trim_start_matches('.').split(end).next()?.to_lowercase();
        LANGUAGES.iter().find(|known| known.names.contains(&name.as_str())).copied()
    }

    fn is_keyword(self, word: &str) -> bool {
        self.keywords.contains(&word)
            // SQL is written in either case.
            || (self.comments == ["--"] && self.keywords.contains(&word.to_lowercase().as_str()))
    }
}

/// What a piece of code is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenKind {
    Plain,
    Keyword,
    String,
    Number,
    Comment,
}

impl TokenKind {
    fn style(self, theme: &Theme) -> Style {
        match self {
            Self::Plain => theme.style(Tone::Text),
            Self::Keyword => theme.style(Tone::Accent),
            Self::String => theme.style(Tone::Good),
            Self::Number => theme.style(Tone::Warn),
            Self::Comment => theme.style(Tone::Dim).add_modifier(Modifier::ITALIC),
        }
    }
}

/// What is still open at the end of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    kind: TokenKind,
    end: &'static str,
}

/// A line of code, with the characters in front of it, and whether it continues the line above it.
pub(super) type CodeLine = (Vec<Span<'static>>, usize, bool);

/// The lines of a code block behind a mark.
pub(super) fn lines(
    text: &str,
    language: Option<Language>,
    width: usize,
    theme: &Theme,
) -> Vec<CodeLine> {
    let border = theme.style(Tone::Border);
    let room = width.saturating_sub(2);
    let mut open = None;
    let mut out = Vec::new();
    for line in text.lines() {
        let line = line.replace('\t', "    ");
        let pieces = pieces(&line, language, &mut open, theme);
        let wrap_lead = theme.marks.wrap.chars().count() + 1;
        let mut from = 0;
        for (nth, part) in wrap_marked(&line, room, theme.marks.wrap).into_iter().enumerate() {
            let mark = if nth > 0 { wrap_lead } else { 0 };
            let body: String = part.chars().skip(mark).collect();
            let mut spans = vec![Span::styled("│ ", border)];
            if nth > 0 {
                spans.push(Span::styled(format!("{} ", theme.marks.wrap), border));
            }
            let end = from + body.len();
            spans.extend(cut(&pieces, &line, from, end));
            from = end;
            out.push((spans, 2 + mark, nth > 0));
        }
    }
    out
}

/// The pieces of a line between two places.
fn cut(pieces: &[(usize, Style)], line: &str, from: usize, end: usize) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    let mut at = 0;
    for (to, style) in pieces {
        let (begin, stop) = (at.max(from), (*to).min(end));
        at = *to;
        if begin < stop
            && let Some(text) = line.get(begin..stop)
        {
            spans.push(Span::styled(text.to_owned(), *style));
        }
    }
    spans
}

/// The ends of a line's pieces, each with its style.
fn pieces(
    line: &str,
    language: Option<Language>,
    open: &mut Option<Open>,
    theme: &Theme,
) -> Vec<(usize, Style)> {
    let Some(language) = language else { return vec![(line.len(), theme.style(Tone::Text))] };
    if language == DIFF {
        return vec![(line.len(), theme.style(diff_role(line, Tone::Text)))];
    }
    let mut pieces: Vec<(usize, Style)> = Vec::new();
    let mut at = 0;
    while at < line.len() {
        let (end, kind) = token(&line[at..], language, open);
        at += end.max(1);
        while !line.is_char_boundary(at) {
            at += 1;
        }
        let style = kind.style(theme);
        match pieces.last_mut() {
            Some((to, known)) if *known == style => *to = at,
            _ => pieces.push((at, style)),
        }
    }
    pieces
}

/// The length of the first token of a text, and its kind.
fn token(text: &str, language: Language, open: &mut Option<Open>) -> (usize, TokenKind) {
    if let Some(Open { kind, end }) = *open {
        return match text.find(end) {
            Some(at) => {
                *open = None;
                (at + end.len(), kind)
            }
            None => (text.len(), kind),
        };
    }
    if language.comments.iter().any(|begin| text.starts_with(begin)) {
        return (text.len(), TokenKind::Comment);
    }
    if let Some((begin, end)) = language.block
        && text.starts_with(begin)
    {
        *open = Some(Open { kind: TokenKind::Comment, end });
        return (begin.len(), TokenKind::Comment);
    }
    if let Some(mark) = language.strings.iter().find(|mark| text.starts_with(**mark)) {
        if mark.len() == 3 {
            *open = Some(Open { kind: TokenKind::String, end: mark });
            return (3, TokenKind::String);
        }
        return (string(text, mark), TokenKind::String);
    }
    let first = text.chars().next().unwrap_or(' ');
    if first.is_ascii_digit() {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
        return (text.find(|c| !part(c)).unwrap_or(text.len()), TokenKind::Number);
    }
    if first.is_alphabetic() || first == '_' || first == '#' || first == '@' {
        let part = |c: char| c.is_alphanumeric() || c == '_';
        let rest = text.char_indices().skip(1).find(|(_, c)| !part(*c));
        let end = rest.map_or(text.len(), |(at, _)| at);
        let kind =
            if language.is_keyword(&text[..end]) { TokenKind::Keyword } else { TokenKind::Plain };
        return (end, kind);
    }
    (first.len_utf8(), TokenKind::Plain)
}

/// The length of a string that begins a text, at most to the end of its line.
fn string(text: &str, mark: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if text[at..].starts_with(mark) {
            return at + mark.len();
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds(text: &str, name: &str) -> Vec<(String, TokenKind)> {
        let language = Language::named(name).unwrap();
        let mut open = None;
        let mut found: Vec<(String, TokenKind)> = Vec::new();
        for line in text.lines() {
            let mut rest = line;
            while !rest.is_empty() {
                let (end, kind) = token(rest, language, &mut open);
                let (piece, after) = rest.split_at(end);
                found.push((piece.to_owned(), kind));
                rest = after;
            }
        }
        found
    }

    #[track_caller]
    fn assert_kind(text: &str, name: &str, piece: &str, kind: TokenKind) {
        let found = kinds(text, name);
        assert!(found.contains(&(piece.to_owned(), kind)), "{name}: {found:?}");
    }

    #[test]
    fn each_language_knows_its_own() {
        assert_kind("fn main() {} // end", "rust,ignore", "fn", TokenKind::Keyword);
        assert_kind("fn main() {} // end", "rs", "// end", TokenKind::Comment);
        assert_kind("let a: &'a str = \"x\\\"y\";", "rust", "\"x\\\"y\"", TokenKind::String);
        assert_kind("def f(): # why", "py", "# why", TokenKind::Comment);
        assert_kind("x = 0x2a", "python", "0x2a", TokenKind::Number);
        assert_kind("a /* b\nc */ d", "js", "c */", TokenKind::Comment);
        assert_kind("s = \"\"\"a\nreturn\"\"\"", "python", "return\"\"\"", TokenKind::String);
        assert_kind("SELECT a -- all", "sql", "SELECT", TokenKind::Keyword);
        assert_kind("{\"a\": null}", "JSON", "null", TokenKind::Keyword);
        assert_kind("#include <a>", "c++", "#include", TokenKind::Keyword);
        assert_kind("if [ -f a ]; then # b", "bash", "then", TokenKind::Keyword);
        assert_eq!(Language::named("klingon"), None);
        assert_eq!(Language::named(""), None);
    }

    #[test]
    fn names_are_given_once() {
        let names: Vec<&str> = LANGUAGES.iter().flat_map(|known| known.names).copied().collect();
        for (at, name) in names.iter().enumerate() {
            assert!(!names[at + 1..].contains(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_whole(text in "[ -~日é\t]{0,80}", at in 0..LANGUAGES.len(), width in 8_usize..40) {
            let theme = Theme::load("dark", false, true).unwrap();
            let lines = lines(&text, Some(LANGUAGES[at]), width, &theme);
            let shown: String = lines
                .iter()
                .flat_map(|(spans, ..)| spans.iter().filter(|span| !["│ ", "↪ "].contains(&span.content.as_ref())))
                .map(|span| span.content.as_ref())
                .collect();
            prop_assert_eq!(shown, text.replace('\t', "    "));
        }
    }
}
