//! The last pass over a frame: cells that every terminal draws with the same width.
//!
//! Terminals disagree about emoji that are joined, coloured or flagged by further code points, and parts
//! of them then stay behind when the screen scrolls. Only the first code point of such a cell is sent.
//! With `ui.ascii`, nothing beyond ASCII is.

use ratatui::buffer::Buffer;

/// Replaces the cells whose width on a terminal isn't sure, and with `ascii` all beyond ASCII.
pub(crate) fn settle(buffer: &mut Buffer, ascii: bool) {
    for at in 0..buffer.content.len() {
        let symbol = buffer.content[at].symbol();
        if symbol.is_ascii() {
            continue;
        }
        let mut chars = symbol.chars();
        let (first, second) = (chars.next().unwrap_or(' '), chars.next());
        if ascii {
            buffer.content[at].set_char(to_ascii(first));
        } else if let Some(letter) = letter_of(first) {
            // A flag becomes its two letters: terminals draw it in one to four columns.
            buffer.content[at].set_char(letter);
            if let (Some(second), Some(next)) =
                (second.and_then(letter_of), buffer.content.get_mut(at + 1))
            {
                next.set_char(second);
            }
        } else if symbol.chars().any(is_unsure) {
            buffer.content[at].set_char(first);
        }
    }
}

/// The letter of half a flag.
fn letter_of(c: char) -> Option<char> {
    let letter = u32::from(c).checked_sub(0x1f1e6).filter(|letter| *letter < 26)?;
    char::from_u32(u32::from('A') + letter)
}

/// Whether a code point behind another one changes its width on some terminals alone: a joiner, a
/// variation selector, a skin tone, the second half of a flag, a tag.
const fn is_unsure(c: char) -> bool {
    matches!(
        c,
        '\u{200d}'
            | '\u{fe0e}'
            | '\u{fe0f}'
            | '\u{20e3}'
            | '\u{1f1e6}'..='\u{1f1ff}'
            | '\u{1f3fb}'..='\u{1f3ff}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

const fn to_ascii(c: char) -> char {
    match c {
        '─' | '━' | '═' | '·' | '–' | '—' | '‐' | '‑' => '-',
        '│' | '┃' | '║' => '|',
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' | '╭' | '╮' | '╰' | '╯' | '±' => {
            '+'
        }
        '»' | '→' | '↪' | '…' | '▸' | '›' => '>',
        '«' | '←' | '‹' => '<',
        '↑' => '^',
        '↓' | '▾' => 'v',
        '✓' => '+',
        '✗' | '×' => 'x',
        '‘' | '’' => '\'',
        '“' | '”' => '"',
        '•' | '❄' => '*',
        '█' | '■' | '▇' | '▆' => '#',
        '▅' | '▄' => '=',
        '▃' | '▂' | '▁' => '_',
        '◐' => '~',
        '○' => 'o',
        '\u{a0}' => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    use super::*;

    fn drawn(text: &str, ascii: bool) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, text, Style::new());
        settle(&mut buffer, ascii);
        buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect()
    }

    #[test]
    fn cells_of_unsure_width_are_one_code_point() {
        for text in
            ["👨\u{200d}👩\u{200d}👧", "❤\u{fe0f}", "👍\u{1f3fd}", "🇩🇪", "1\u{fe0f}\u{20e3}"]
        {
            let drawn = drawn(text, false);
            assert!(!drawn.chars().any(is_unsure), "{text:?}: {drawn:?}");
        }
        assert!(drawn("🇩🇪", false).starts_with("DE"));
        // An accent is sure: it stays.
        assert!(drawn("e\u{301}", false).starts_with("e\u{301}"));
    }

    #[test]
    fn ascii_frames_have_ascii_alone() {
        let drawn = drawn("┌─· é日👍", true);
        assert!(drawn.is_ascii() && drawn.starts_with("+-- ?"), "{drawn:?}");
    }
}
