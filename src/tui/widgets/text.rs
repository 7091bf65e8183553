//! Text in columns: measured by grapheme, cut with a mark, wrapped at words; figures with units.

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

use crate::core::model::time::Timestamp;

/// The columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    UnicodeWidthStr::width(text)
}

/// A text in at most `columns`; the mark `cut` ends a text that was longer.
pub(crate) fn fit(text: &str, columns: usize, cut: &str) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(width(cut));
    let mut used = 0;
    let mut out = String::new();
    for grapheme in text.graphemes(true) {
        used += width(grapheme);
        if used > room {
            break;
        }
        out.push_str(grapheme);
    }
    if columns >= width(cut) {
        out.push_str(cut);
    }
    out
}

/// Exactly `columns`: cut with a mark, or filled with spaces.
pub(crate) fn column(text: &str, columns: usize, cut: &str) -> String {
    let mut out = fit(text, columns, cut);
    let used = width(&out);
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// A line in pieces of at most `columns`, broken at spaces where there are some. Tabs are four
/// spaces.
pub(crate) fn wrap(line: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(2);
    let line = line.replace('\t', "    ");
    if line.is_ascii() && line.len() <= columns {
        return vec![line];
    }
    let mut out = Vec::new();
    let (mut current, mut used, mut space) = (String::new(), 0, None);
    for grapheme in line.graphemes(true) {
        let wide = width(grapheme);
        while used + wide > columns && !current.is_empty() {
            // Behind the last space, unless that would leave less than half a line.
            let rest = match space {
                Some(at) if at > 0 && at * 2 > current.len() => current.split_off(at),
                _ => String::new(),
            };
            out.push(std::mem::take(&mut current));
            current = rest;
            used = width(&current);
            space = None;
        }
        current.push_str(grapheme);
        used += wide;
        if grapheme == " " {
            space = Some(current.len());
        }
    }
    out.push(current);
    out
}

/// As [`wrap`], with `mark` and a space in front of each piece but the first: a piece of a wrapped line
/// must not look like a line of its own.
pub(crate) fn wrap_marked(line: &str, columns: usize, mark: &str) -> Vec<String> {
    let whole = wrap(line, columns);
    if whole.len() == 1 {
        return whole;
    }
    let lead = width(mark) + 1;
    let first = whole.into_iter().next().unwrap_or_default();
    // `wrap` replaces tabs, so the rest is found in a line without them.
    let line = line.replace('\t', "    ");
    let rest = line.get(first.len()..).unwrap_or_default();
    let rest = wrap(rest, columns.saturating_sub(lead));
    let marked = rest.into_iter().map(|part| format!("{mark} {part}"));
    std::iter::once(first).chain(marked).collect()
}

/// How long ago, in one unit: `0m`, `59m`, `3h`, `2d`. Minutes are the finest, so that a still
/// screen stays still.
pub(crate) fn age(now: Timestamp, then: Timestamp) -> String {
    let minutes = now.since(then) / 60_000;
    match minutes {
        0..60 => format!("{minutes}m"),
        60..1440 => format!("{}h", minutes / 60),
        _ => format!("{}d", minutes / 1440),
    }
}

/// How long something took, in one unit: `7s`, `3m`, `2h`.
pub(crate) fn duration(ms: i64) -> String {
    match ms / 1000 {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

/// Hours and minutes in this machine's time zone.
pub(crate) fn time_of_day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M").to_string(),
    )
}

/// Bytes in one unit: `512B`, `3.4M`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];
    let mut unit = 0;
    let mut scaled = bytes;
    let mut rest = 0;
    while scaled >= 1024 && unit + 1 < UNITS.len() {
        rest = scaled % 1024;
        scaled /= 1024;
        unit += 1;
    }
    if unit == 0 || scaled >= 10 {
        format!("{scaled}{}", UNITS[unit])
    } else {
        format!("{scaled}.{}{}", rest * 10 / 1024, UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fit_marks_each_cut() {
        assert_eq!(fit("hello", 5, "…"), "hello");
        assert_eq!(fit("hello!", 5, "…"), "hell…");
        assert_eq!(fit("日本語", 5, "…"), "日本…");
        assert_eq!(column("日本", 5, "…"), "日本 ");
        assert_eq!(fit("abc", 0, "…"), "");
    }

    #[test]
    fn wrap_breaks_at_words() {
        assert_eq!(wrap("one two three", 8), ["one two ", "three"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        // What is left behind a break can be too long for the next line, too.
        assert!(wrap("\u{301} e\u{301}日", 2).iter().all(|line| width(line) <= 2));
    }

    #[test]
    fn figures_have_one_unit() {
        assert_eq!(age(Timestamp(3_600_000 * 25), Timestamp(0)), "1d");
        assert_eq!(age(Timestamp(59_999), Timestamp(0)), "0m");
        assert_eq!([7_999, 200_000, 7_200_000].map(duration), ["7s", "3m", "2h"]);
        assert_eq!(
            (size(0), size(1536), size(50 << 20)),
            ("0B".into(), "1.5K".into(), "50M".into())
        );
    }

    #[test]
    fn pieces_of_a_wrapped_line_are_marked() {
        assert_eq!(wrap_marked("abc", 10, "↪"), ["abc"]);
        let diff = wrap_marked(" the word - is not deleted", 12, "↪");
        assert_eq!(diff, [" the word - ", "↪ is not ", "↪ deleted"]);
        let tabs = wrap_marked("\ta\tbcdefghij", 8, ">");
        assert_eq!(tabs.concat().replace("> ", ""), "    a    bcdefghij");
    }

    proptest! {
        #[test]
        fn marked_pieces_fit(text in "[-+a-z 日é\u{301}👍\t]{0,60}", columns in 6_usize..20) {
            let lines = wrap_marked(&text, columns, "↪");
            prop_assert!(lines.iter().all(|line| width(line) <= columns));
            prop_assert!(lines.iter().skip(1).all(|line| line.starts_with("↪ ")));
        }

        #[test]
        fn wrapped_text_fits_and_is_whole(text in "[a-z 日é\u{301}👍]{0,60}", columns in 2_usize..20) {
            let lines = wrap(&text, columns);
            prop_assert!(lines.iter().all(|line| width(line) <= columns));
            prop_assert_eq!(lines.concat(), text.clone());
            prop_assert!(width(&fit(&text, columns, "…")) <= columns);
        }
    }
}
