//! Reads a shell text character by character.
//!
//! The open brackets of a text are a stack on the heap, and each character is read once, so that
//! neither a deep nor a long text exhausts the stack or the time. Only a here-document with
//! substitutions is read by a nested call, at most [`DOCUMENT_DEPTH`] of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::piece::{
    SUBSTITUTED_FILE, ShellPiece, ShellWord, SimpleCommand, UNKNOWN, WordRole, output,
};

/// Here-documents within substitutions of here-documents that are still read.
pub(super) const DOCUMENT_DEPTH: usize = 8;
/// The longest output, in bytes, that replaces a substitution.
const OUTPUT_LIMIT: usize = 4096;
/// Nested substitutions whose output is replaced; it bounds how often a text is copied.
const OUTPUT_DEPTH: usize = 16;

/// Splits a text into its parts.
#[must_use]
pub(crate) fn pieces(text: &str) -> Vec<ShellPiece> {
    read(text, None, 0)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    Single,
    Double,
    /// `$'…'`
    Escaped,
    /// The body of a here-document, in which quotes mean nothing.
    Document,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Top,
    Subshell,
    Arithmetic,
    /// `$((…))`
    Value,
    /// `$(…)`
    Substitution,
    /// `` `…` ``
    Backticks,
    /// `<(…)`
    File,
    /// `>(…)`
    Sink,
}

/// An open bracket, with the command that its text has begun.
#[derive(Debug)]
struct ShellFrame {
    bracket: Bracket,
    quote: Option<Quote>,
    words: Vec<ShellWord>,
    text: String,
    /// Whether the word has begun, although it may be empty.
    started: bool,
    role: WordRole,
    input: Option<String>,
    piped: bool,
    /// The number of the command.
    id: usize,
    /// The commands that it has completed.
    completed: usize,
}

/// A here-document whose body begins at the next line.
#[derive(Debug)]
struct PendingDocument {
    command: usize,
    delimiter: String,
    quoted: bool,
    strip_tabs: bool,
}

struct ShellReader<'a> {
    chars: Peekable<Chars<'a>>,
    stack: Vec<ShellFrame>,
    open_backticks: usize,
    pieces: Vec<ShellPiece>,
    /// The position in `pieces` of each command with a number, for its here-documents.
    places: BTreeMap<usize, usize>,
    pending: Vec<PendingDocument>,
    documents: BTreeMap<usize, String>,
    next_id: usize,
    depth: usize,
}

fn read(text: &str, quote: Option<Quote>, depth: usize) -> Vec<ShellPiece> {
    let mut reader = ShellReader {
        chars: text.chars().peekable(),
        stack: Vec::new(),
        open_backticks: 0,
        pieces: Vec::new(),
        places: BTreeMap::new(),
        pending: Vec::new(),
        documents: BTreeMap::new(),
        next_id: 0,
        depth,
    };
    reader.push(Bracket::Top);
    reader.top().quote = quote;
    while let Some(c) = reader.chars.next() {
        reader.step(c);
    }
    while reader.stack.len() > 1 {
        reader.close();
    }
    reader.end_command();
    let ShellReader { mut pieces, places, documents, .. } = reader;
    for (id, document) in documents {
        if let Some(ShellPiece::Command(command)) =
            places.get(&id).and_then(|at| pieces.get_mut(*at))
        {
            command.input.get_or_insert(document);
        }
    }
    pieces
}

impl ShellReader<'_> {
    fn push(&mut self, bracket: Bracket) {
        let id = self.new_id();
        self.stack.push(ShellFrame {
            bracket,
            quote: None,
            words: Vec::new(),
            text: String::new(),
            started: false,
            role: WordRole::Argument,
            input: None,
            piped: false,
            id,
            completed: 0,
        });
    }

    const fn new_id(&mut self) -> usize {
        self.next_id += 1;
        self.next_id
    }

    #[expect(clippy::expect_used, reason = "`read` pushes the first frame and `close` keeps it")]
    fn top(&mut self) -> &mut ShellFrame {
        self.stack.last_mut().expect("the first frame is never popped")
    }

    fn add(&mut self, c: char) {
        let top = self.top();
        top.text.push(c);
        top.started = true;
    }

    fn open(&mut self, bracket: Bracket) {
        self.open_backticks += usize::from(bracket == Bracket::Backticks);
        self.pieces.push(ShellPiece::Open);
        self.push(bracket);
    }

    fn end_word(&mut self) {
        let top = self.top();
        if top.started {
            let text = std::mem::take(&mut top.text);
            if top.role == WordRole::HereString {
                top.input = Some(text.clone());
            }
            top.words.push(ShellWord { text, role: top.role });
            top.role = WordRole::Argument;
        }
        top.started = false;
    }

    fn end_command(&mut self) {
        self.end_word();
        let id = self.new_id();
        let at = self.pieces.len();
        let top = self.top();
        top.role = WordRole::Argument;
        if top.words.is_empty() {
            return;
        }
        let (input, piped) = (top.input.take(), std::mem::take(&mut top.piped));
        let words = std::mem::take(&mut top.words);
        top.completed += 1;
        let command = std::mem::replace(&mut top.id, id);
        self.places.insert(command, at);
        self.pieces.push(ShellPiece::Command(SimpleCommand { words, input, piped }));
    }

    /// Ends the innermost bracket; the first frame stays.
    fn close(&mut self) {
        self.end_command();
        if self.stack.len() < 2 {
            return;
        }
        let output = self.known_output();
        let Some(closed) = self.stack.pop() else { return };
        self.open_backticks -= usize::from(closed.bracket == Bracket::Backticks);
        let pipes = matches!(closed.bracket, Bracket::Subshell | Bracket::Arithmetic);
        self.pieces.push(ShellPiece::Close { pipes });
        let top = self.top();
        match closed.bracket {
            Bracket::Top | Bracket::Subshell | Bracket::Arithmetic => return,
            Bracket::File | Bracket::Sink => {
                top.text.push_str(SUBSTITUTED_FILE);
                if closed.bracket == Bracket::File && output.is_some() {
                    top.input = output;
                }
            }
            Bracket::Value => top.text.push_str(UNKNOWN),
            Bracket::Substitution | Bracket::Backticks => match output {
                None => top.text.push_str(UNKNOWN),
                Some(output) if top.quote.is_some() => top.text.push_str(&output),
                Some(output) => {
                    for (at, part) in output.split_whitespace().enumerate() {
                        if at > 0 {
                            self.end_word();
                        }
                        let top = self.top();
                        top.text.push_str(part);
                        top.started = true;
                    }
                    return;
                }
            },
        }
        self.top().started = true;
    }

    /// The output of the innermost bracket, where it is short and comes from one command.
    fn known_output(&mut self) -> Option<String> {
        if self.stack.len() > OUTPUT_DEPTH || self.top().completed != 1 {
            return None;
        }
        let at = self.pieces.len().checked_sub(1)?;
        let ShellPiece::Command(command) = &self.pieces[at] else { return None };
        let id = self.places.last_key_value().filter(|(_, place)| **place == at).map(|(id, _)| id);
        let document = id.and_then(|id| self.documents.get(id));
        let input = command.input.as_ref().or(document);
        if input.is_some_and(|input| input.len() > OUTPUT_LIMIT) {
            return None;
        }
        output(&command.arguments(), input.map(String::as_str))
            .filter(|output| output.len() <= OUTPUT_LIMIT)
            .map(Cow::into_owned)
    }

    fn next_if(&mut self, wanted: char) -> bool {
        self.chars.next_if_eq(&wanted).is_some()
    }

    fn step(&mut self, c: char) {
        let quote = self.top().quote;
        match (quote, c) {
            (Some(Quote::Single | Quote::Escaped), '\'') | (Some(Quote::Double), '"') => {
                self.top().quote = None;
            }
            (Some(Quote::Single), c) => self.add(c),
            (Some(Quote::Escaped), '\\') => self.escape_sequence(),
            (Some(Quote::Escaped), c) => self.add(c),
            (_, '\\') => self.backslash(quote),
            // A shell runs a substitution even inside double quotes.
            (_, '`') if self.open_backticks > 0 => {
                while self.top().bracket != Bracket::Backticks {
                    self.close();
                }
                self.close();
            }
            (_, '`') => self.open(Bracket::Backticks),
            (_, '$') if self.next_if('(') => {
                let value = self.chars.peek() == Some(&'(');
                self.open(if value { Bracket::Value } else { Bracket::Substitution });
            }
            (Some(_), c) => self.add(c),
            (None, c) => self.step_unquoted(c),
        }
    }

    fn step_unquoted(&mut self, c: char) {
        let arithmetic = matches!(self.top().bracket, Bracket::Arithmetic | Bracket::Value);
        match c {
            '$' if self.next_if('\'') => self.begin_quote(Quote::Escaped),
            '$' if self.next_if('"') => self.begin_quote(Quote::Double),
            '\'' => self.begin_quote(Quote::Single),
            '"' => self.begin_quote(Quote::Double),
            '(' => {
                let nested = arithmetic || self.next_if('(');
                self.end_command();
                let piped = std::mem::take(&mut self.top().piped);
                self.open(if nested { Bracket::Arithmetic } else { Bracket::Subshell });
                self.top().piped = piped;
                if nested && !arithmetic {
                    self.open(Bracket::Arithmetic);
                }
            }
            ')' if self.top().bracket == Bracket::Backticks => self.end_command(),
            ')' => self.close(),
            ';' => self.end_command(),
            '\n' => {
                self.end_command();
                if !self.pending.is_empty() {
                    self.read_documents();
                }
            }
            '|' => {
                self.end_command();
                let _ = self.next_if('&');
                let list = self.next_if('|');
                self.top().piped = !list;
            }
            // `&>` redirects.
            '&' if self.chars.peek() == Some(&'>') => {}
            '&' => self.end_command(),
            '<' | '>' if arithmetic || self.in_test() => self.add(c),
            '>' => self.redirect_output(),
            '<' => self.redirect_input(),
            '#' if !self.top().started && !arithmetic => {
                while self.chars.next_if(|c| *c != '\n').is_some() {}
            }
            c if c.is_whitespace() => self.end_word(),
            c => self.add(c),
        }
    }

    fn begin_quote(&mut self, quote: Quote) {
        let top = self.top();
        top.quote = Some(quote);
        top.started = true;
    }

    /// Whether the command is `[[ … ]]`, in which `<` and `>` compare.
    fn in_test(&mut self) -> bool {
        self.top().words.first().is_some_and(|word| word.text == "[[")
    }

    fn backslash(&mut self, quote: Option<Quote>) {
        let Some(next) = self.chars.next() else { return };
        if next == '\n' {
            return;
        }
        let literal = match quote {
            None => false,
            Some(_) => !matches!(next, '$' | '`' | '"' | '\\'),
        };
        if literal {
            self.add('\\');
        }
        self.add(next);
    }

    /// Reads an escape of `$'…'`.
    fn escape_sequence(&mut self) {
        let Some(c) = self.chars.next() else { return };
        let (radix, length) = match c {
            'x' => (16, 2),
            'u' => (16, 4),
            'U' => (16, 8),
            '0'..='7' => (8, 3),
            _ => (0, 0),
        };
        if radix == 0 {
            let c = match c {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                c => c,
            };
            return self.add(c);
        }
        let mut value = if radix == 8 { c.to_digit(8).unwrap_or(0) } else { 0 };
        for _ in usize::from(radix == 8)..length {
            let Some(digit) = self.chars.peek().and_then(|c| c.to_digit(radix)) else { break };
            self.chars.next();
            value = value.wrapping_mul(radix).wrapping_add(digit);
        }
        self.add(char::from_u32(value).unwrap_or('\u{fffd}'));
    }

    /// Ends the word before a redirection. The number of a file descriptor belongs to the
    /// redirection.
    fn end_word_before_redirection(&mut self) {
        let top = self.top();
        if top.text.chars().all(|c| c.is_ascii_digit()) && !top.text.is_empty() {
            top.text.clear();
            top.started = false;
        }
        self.end_word();
    }

    fn redirect(&mut self, sign: &str, role: WordRole) {
        let top = self.top();
        top.words.push(ShellWord { text: sign.to_owned(), role: WordRole::Sign });
        top.role = role;
    }

    /// Reads `&1` or `&-` after a redirection's sign.
    fn duplicates(&mut self) -> bool {
        if !self.next_if('&') {
            return false;
        }
        let mut found = false;
        while self.chars.next_if(|c| c.is_ascii_digit() || *c == '-').is_some() {
            found = true;
        }
        found
    }

    fn redirect_output(&mut self) {
        self.end_word_before_redirection();
        if self.next_if('(') {
            return self.open(Bracket::Sink);
        }
        let _ = self.next_if('>') || self.next_if('|');
        if !self.duplicates() {
            self.redirect(">", WordRole::Written);
        }
    }

    fn redirect_input(&mut self) {
        self.end_word_before_redirection();
        if self.next_if('(') {
            self.open(Bracket::File);
        } else if self.next_if('>') {
            self.redirect("<>", WordRole::Written);
        } else if !self.next_if('<') {
            if !self.duplicates() {
                self.redirect("<", WordRole::Source);
            }
        } else if self.next_if('<') {
            self.redirect("<<<", WordRole::HereString);
        } else {
            self.begin_document();
        }
    }

    /// Reads the delimiter of a here-document; its body begins at the next line.
    fn begin_document(&mut self) {
        let strip_tabs = self.next_if('-');
        while self.chars.next_if(|c| matches!(c, ' ' | '\t')).is_some() {}
        let (mut delimiter, mut quoted, mut quote) = (String::new(), false, None);
        while let Some(c) = self.chars.peek().copied() {
            let ends = c.is_whitespace() || "<>|&;()`".contains(c);
            if (quote.is_none() && ends) || c == '\n' {
                break;
            }
            self.chars.next();
            match c {
                '\\' if quote.is_none() => {
                    quoted = true;
                    delimiter.extend(self.chars.next());
                }
                '\'' | '"' if quote.is_none() => {
                    (quoted, quote) = (true, Some(c));
                }
                c if quote == Some(c) => quote = None,
                c => delimiter.push(c),
            }
        }
        let command = self.top().id;
        self.pending.push(PendingDocument { command, delimiter, quoted, strip_tabs });
    }

    /// Reads the bodies of the here-documents that the line before has begun.
    fn read_documents(&mut self) {
        for document in std::mem::take(&mut self.pending) {
            let mut body = String::new();
            while self.chars.peek().is_some() {
                let mut line = String::new();
                if document.strip_tabs {
                    while self.chars.next_if_eq(&'\t').is_some() {}
                }
                while let Some(c) = self.chars.next_if(|c| *c != '\n') {
                    line.push(c);
                }
                self.chars.next();
                if line == document.delimiter {
                    break;
                }
                body.push_str(&line);
                body.push('\n');
            }
            let substitutes = !document.quoted && (body.contains("$(") || body.contains('`'));
            if substitutes && self.depth < DOCUMENT_DEPTH {
                let inner = read(&body, Some(Quote::Document), self.depth + 1);
                self.pieces.push(ShellPiece::Open);
                // The text around the substitutions is no command.
                let last = inner.len().saturating_sub(1);
                let text = matches!(inner.last(), Some(ShellPiece::Command(_)));
                self.pieces.extend(inner.into_iter().take(if text { last } else { last + 1 }));
                self.pieces.push(ShellPiece::Close { pipes: false });
            }
            self.documents.insert(document.command, body);
        }
    }
}
