//! Splits a shell command into the words of its simple commands. Policies and guardrails judge a
//! compound command part by part with it. It is no shell: it expands nothing and accepts any text.

/// The simple commands of a shell text, each as its words without quotes. Lists, pipes,
/// substitutions and subshells are split into their parts.
#[must_use]
pub(crate) fn commands(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut started = false;
    let mut quote: Option<char> = None;
    let mut chars = text.chars().peekable();
    let end_word = |words: &mut Vec<String>, word: &mut String, started: &mut bool| {
        if *started {
            words.push(std::mem::take(word));
        }
        *started = false;
    };
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), c) => word.push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                started = true;
            }
            (_, '\\') => {
                if let Some(next) = chars.next()
                    && next != '\n'
                {
                    word.push(next);
                    started = true;
                }
            }
            // A shell runs a substitution even inside double quotes.
            (_, '`') => {
                end_word(&mut words, &mut word, &mut started);
                all.push(std::mem::take(&mut words));
            }
            (_, '$') if chars.peek() == Some(&'(') => {
                chars.next();
                end_word(&mut words, &mut word, &mut started);
                all.push(std::mem::take(&mut words));
            }
            (Some(_), c) => word.push(c),
            (None, ';' | '\n' | '|' | '(' | ')') => {
                end_word(&mut words, &mut word, &mut started);
                all.push(std::mem::take(&mut words));
            }
            (None, '&') => {
                let redirects = chars.peek() == Some(&'>');
                let duplicates = words.last().is_some_and(|w| w == ">") && word.is_empty();
                if !redirects && !duplicates {
                    end_word(&mut words, &mut word, &mut started);
                    all.push(std::mem::take(&mut words));
                }
            }
            (None, '>') => {
                // The number of a file descriptor belongs to the redirection.
                if word.chars().all(|c| c.is_ascii_digit()) {
                    word.clear();
                    started = false;
                }
                end_word(&mut words, &mut word, &mut started);
                if words.last().is_some_and(|w| w == ">") {
                    continue;
                }
                if chars.peek() == Some(&'&') {
                    // `2>&1` writes to no file.
                    chars.next();
                    while chars.next_if(|c| c.is_ascii_digit() || *c == '-').is_some() {}
                    continue;
                }
                words.push(">".into());
            }
            (None, c) if c.is_whitespace() => end_word(&mut words, &mut word, &mut started),
            (None, c) => {
                word.push(c);
                started = true;
            }
        }
    }
    end_word(&mut words, &mut word, &mut started);
    all.push(words);
    all.retain(|words| !words.is_empty());
    all
}
