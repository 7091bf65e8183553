//! Holds back texts whose end may be the beginning of a secret, until the next text of the same kind
//! shows whether it is one.
//!
//! Agents print a line per event and stream their prose in pieces, so that a secret can arrive in
//! two halves. Texts without such an end pass at once.

use std::collections::BTreeMap;

use super::Redactor;

/// The most items that wait.
const MOST_ITEMS: usize = 64;
/// The most bytes of text that wait.
const MOST_BYTES: usize = 256 * 1024;

/// Texts of an item that may continue texts of earlier items with the same key.
pub(crate) trait Split {
    /// Calls `change` with each such text and its key. A change must keep the order.
    fn parts(&mut self, change: &mut dyn FnMut(&str, &mut String));
}

/// The items of one stream, in order.
#[derive(Debug)]
pub(crate) struct SplitGuard<T> {
    redactor: Redactor,
    held: Vec<T>,
    bytes: usize,
}

impl<T: Split> SplitGuard<T> {
    pub(crate) fn new(redactor: Redactor) -> Self {
        Self { redactor, held: Vec::new(), bytes: 0 }
    }

    /// Takes an item, and returns those that need not wait.
    pub(crate) fn push(&mut self, mut item: T) -> Vec<T> {
        if self.redactor.needles().is_empty() {
            return vec![item];
        }
        item.parts(&mut |_, text| self.bytes += text.len());
        self.held.push(item);
        // The texts by key, each with its item, as one item may have several.
        let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for held in &mut self.held {
            held.parts(&mut |key, text| {
                texts.entry(key.to_owned()).or_default().push(text.clone());
            });
        }
        let mut changed = false;
        let mut pending = false;
        for parts in texts.values_mut() {
            let mut parts: Vec<&mut String> = parts.iter_mut().collect();
            changed |= self.redactor.clean_pieces(&mut parts);
            let whole: String = parts.iter().map(|part| part.as_str()).collect();
            pending |= self.redactor.is_pending(&whole);
        }
        if changed {
            self.write_back(texts);
        }
        if pending && self.held.len() < MOST_ITEMS && self.bytes < MOST_BYTES {
            return Vec::new();
        }
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }

    /// Returns everything that waits, without halves of secrets.
    pub(crate) fn release(&mut self) -> Vec<T> {
        for held in &mut self.held {
            held.parts(&mut |_, text| *text = self.redactor.clean_cut(text));
        }
        self.bytes = 0;
        std::mem::take(&mut self.held)
    }

    fn write_back(&mut self, texts: BTreeMap<String, Vec<String>>) {
        let mut texts: BTreeMap<String, std::vec::IntoIter<String>> =
            texts.into_iter().map(|(key, parts)| (key, parts.into_iter())).collect();
        for held in &mut self.held {
            held.parts(&mut |key, text| {
                if let Some(clean) = texts.get_mut(key).and_then(Iterator::next) {
                    *text = clean;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Line(&'static str, String);

    impl Split for Line {
        fn parts(&mut self, change: &mut dyn FnMut(&str, &mut String)) {
            change(self.0, &mut self.1);
        }
    }

    fn line(key: &'static str, text: &str) -> Line {
        Line(key, text.to_owned())
    }

    #[test]
    fn split_secret_is_redacted_and_other_texts_pass_at_once() {
        let redactor = Redactor::new(["0123456789abcdefghij".to_owned()]);
        let mut guard = SplitGuard::new(redactor);
        assert_eq!(guard.push(line("a", "no secret")), [line("a", "no secret")]);
        assert_eq!(guard.push(line("a", "it is 0123456")), []);
        assert_eq!(guard.push(line("b", "another")), []);
        assert_eq!(guard.push(line("a", "789abc")), []);
        let all = guard.push(line("a", "defghij, and more"));
        let texts: Vec<&str> = all.iter().map(|line| line.1.as_str()).collect();
        assert_eq!(texts, ["it is [redacted]", "another", "[redacted]", "[redacted], and more"]);
        assert_eq!(guard.push(line("a", "again 01234")), []);
        assert_eq!(guard.push(line("a", "is harmless")).len(), 2);
        assert_eq!(guard.push(line("a", "half: 0123456789abc")), []);
        assert_eq!(guard.release(), [line("a", "half: [redacted]")]);
    }

    #[test]
    fn held_items_are_bounded() {
        let mut guard = SplitGuard::new(Redactor::new(["00000000".to_owned()]));
        let mut held = 0;
        for _ in 0..1000 {
            held = if guard.push(line("a", "x 0000")).is_empty() { held + 1 } else { 0 };
            assert!(held < MOST_ITEMS);
        }
    }
}
