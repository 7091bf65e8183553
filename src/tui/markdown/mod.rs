//! The Markdown of agents as lines for a reader: headings, lists, tables, code by its language.
//!
//! The text is an agent's, so that every step is linear in its length: the parser doesn't backtrack, and
//! `code` is a lexer and no set of regular expressions. Line breaks stay, since agents write for terminals.
//! A link shows its address, which its text could hide. An entity can stand for any character, so that what
//! the parser returns is cleaned again.

pub(crate) mod code;
mod flow;
mod table;

use pulldown_cmark::{
    Alignment, CodeBlockKind, CowStr, Event, HeadingLevel, Options, Parser, Tag, TagEnd,
};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use self::code::Language;
use self::flow::StyledText;
use self::table::Table;
use crate::core::model::untrusted::{clean_line, push_clean};
use crate::tui::theme::{Theme, Tone};

/// Lists and quotes deeper than this are shown as if they were this deep.
pub(super) const DEEPEST: usize = 8;

/// A line of the text on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextLine {
    pub(crate) line: Line<'static>,
    /// Characters in front of the text.
    pub(crate) lead: usize,
    /// The line continues the text of the line above it.
    pub(crate) continues: bool,
}

/// The lines of a text in Markdown, `width` columns wide.
pub(crate) fn lines(text: &str, width: usize, theme: &Theme) -> Vec<TextLine> {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_TASKLISTS | Options::ENABLE_STRIKETHROUGH;
    let mut writer = MarkdownWriter::new(width, theme);
    for event in Parser::new_ext(text, options) {
        writer.event(event);
    }
    writer.end()
}

/// A list that is open: the number of its next item, if it is numbered.
type OpenList = Option<u64>;

/// Writes the events of the parser as lines.
struct MarkdownWriter<'t> {
    theme: &'t Theme,
    width: usize,
    out: Vec<TextLine>,
    /// The text of the block that is open.
    flow: StyledText,
    /// Open emphasis, strong text, links and headings, each with its style.
    styles: Vec<Style>,
    /// The address of each open link, and where its text begins.
    links: Vec<(String, usize)>,
    lists: Vec<OpenList>,
    quotes: usize,
    /// The mark of an item that has no line yet.
    bullet: Option<String>,
    code: Option<(Option<Language>, String)>,
    table: Option<Table>,
    /// A blank line comes before the next block.
    gap: bool,
}

impl<'t> MarkdownWriter<'t> {
    fn new(width: usize, theme: &'t Theme) -> Self {
        Self {
            theme,
            width,
            out: Vec::new(),
            flow: StyledText::default(),
            styles: Vec::new(),
            links: Vec::new(),
            lists: Vec::new(),
            quotes: 0,
            bullet: None,
            code: None,
            table: None,
            gap: false,
        }
    }

    fn style(&self) -> Style {
        self.styles.iter().fold(self.theme.style(Tone::Text), |all, style| all.patch(*style))
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.finish(tag),
            Event::Text(text) => self.text(&text),
            Event::Code(text) => {
                let style = self.style().patch(self.theme.style(Tone::Accent));
                self.flow.push(&text, style);
            }
            // Markup of other kinds is shown as it is written.
            Event::Html(text) | Event::InlineHtml(text) => {
                self.text(&text);
            }
            Event::InlineMath(text) | Event::DisplayMath(text) => self.text(&text),
            Event::FootnoteReference(name) => self.text(&CowStr::from(format!("[^{name}]"))),
            Event::SoftBreak | Event::HardBreak => self.flow.push("\n", Style::default()),
            Event::Rule => {
                self.block();
                let rule = self.theme.marks.link.repeat(self.room().min(40));
                let line = Span::styled(rule, self.theme.style(Tone::Border));
                self.write_line(vec![line], false);
                self.gap = true;
            }
            Event::TaskListMarker(done) => {
                let (mark, tone) = if done {
                    (self.theme.marks.done, Tone::Good)
                } else {
                    (self.theme.marks.open, Tone::Dim)
                };
                self.flow.push(mark, self.theme.style(tone));
                self.flow.push(" ", Style::default());
            }
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph => self.block(),
            Tag::Heading { level, .. } => {
                self.block();
                let style = self.theme.style(Tone::Title).patch(self.theme.style(Tone::Accent));
                let large = matches!(level, HeadingLevel::H1 | HeadingLevel::H2);
                let line = if large { Modifier::UNDERLINED } else { Modifier::empty() };
                self.styles.push(style.add_modifier(Modifier::BOLD | line));
            }
            Tag::HtmlBlock => self.block(),
            Tag::BlockQuote(_) => {
                self.block();
                self.quotes += 1;
            }
            Tag::CodeBlock(kind) => {
                self.block();
                let name = match &kind {
                    CodeBlockKind::Fenced(name) => name.as_ref(),
                    CodeBlockKind::Indented => "",
                };
                self.code = Some((Language::named(name), String::new()));
            }
            Tag::List(first) => {
                // A list in an item follows the item's own line.
                self.write_flow();
                if self.lists.is_empty() {
                    self.block();
                }
                self.lists.push(first);
            }
            Tag::Item => {
                self.write_flow();
                self.gap &= self.lists.len() == 1;
                self.write_gap();
                self.gap = false;
                self.bullet = Some(match self.lists.last_mut() {
                    Some(Some(number)) => {
                        *number = number.saturating_add(1);
                        format!("{}. ", *number - 1)
                    }
                    _ => "• ".to_owned(),
                });
            }
            Tag::Table(alignments) => {
                self.block();
                let right = alignments.iter().map(|known| *known == Alignment::Right).collect();
                self.table = Some(Table::new(right));
            }
            Tag::TableRow => {
                if let Some(table) = &mut self.table {
                    table.begin_row();
                }
            }
            Tag::TableHead => {
                if let Some(table) = &mut self.table {
                    table.begin_row();
                }
                self.styles.push(self.theme.style(Tone::Title));
            }
            Tag::Emphasis => self.styles.push(Style::new().add_modifier(Modifier::ITALIC)),
            Tag::Strong => self.styles.push(Style::new().add_modifier(Modifier::BOLD)),
            Tag::Strikethrough => {
                self.styles.push(Style::new().add_modifier(Modifier::CROSSED_OUT));
            }
            Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. } => {
                self.links.push((clean_line(&dest_url), self.flow.len()));
                self.styles.push(Style::new().add_modifier(Modifier::UNDERLINED));
            }
            _ => {}
        }
    }

    fn finish(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Paragraph => {
                self.write_flow();
                self.gap = true;
            }
            TagEnd::Heading(_) => {
                self.write_flow();
                self.styles.pop();
                self.gap = true;
            }
            TagEnd::BlockQuote(_) => {
                self.write_flow();
                self.quotes = self.quotes.saturating_sub(1);
                self.gap = true;
            }
            TagEnd::CodeBlock => {
                if let Some((language, text)) = self.code.take() {
                    self.code_lines(language, &text);
                }
                self.gap = true;
            }
            TagEnd::Item => {
                self.write_flow();
                // An item without a text still has its mark.
                if self.bullet.is_some() {
                    self.write_line(Vec::new(), false);
                }
            }
            TagEnd::List(_) => {
                self.lists.pop();
                self.gap = self.lists.is_empty();
            }
            TagEnd::TableCell => {
                let cell = std::mem::take(&mut self.flow);
                if let Some(table) = &mut self.table {
                    table.push(cell);
                }
            }
            TagEnd::TableHead => drop(self.styles.pop()),
            TagEnd::Table => {
                if let Some(table) = self.table.take() {
                    for (spans, continues) in table.lines(self.room(), self.theme) {
                        self.write_line(spans, continues);
                    }
                }
                self.gap = true;
            }
            TagEnd::Emphasis | TagEnd::Strong | TagEnd::Strikethrough => drop(self.styles.pop()),
            TagEnd::Link | TagEnd::Image => {
                self.styles.pop();
                if let Some((address, from)) = self.links.pop()
                    && !address.is_empty()
                    && !self.flow.ends_with(from, &address)
                {
                    self.flow.push(&format!(" ({address})"), self.theme.style(Tone::Dim));
                }
            }
            TagEnd::HtmlBlock => {
                self.write_flow();
                self.gap = true;
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if let Some((_, code)) = &mut self.code {
            push_clean(code, text);
        } else {
            let style = self.style();
            self.flow.push(text, style);
        }
    }

    /// Begins a block: the text before it is written, and a blank line where one separates them.
    fn block(&mut self) {
        self.write_flow();
        // The first block of an item stands beside its mark.
        if self.bullet.is_none() {
            self.write_gap();
        }
        self.gap = false;
    }

    fn write_gap(&mut self) {
        if self.gap && !self.out.is_empty() {
            self.out.push(TextLine { line: Line::default(), lead: 0, continues: false });
        }
    }

    /// The columns that a block has. The mark of an item can be wider than the indent of its list.
    fn room(&self) -> usize {
        let mark = self.bullet.as_ref().map_or(0, |bullet| bullet.chars().count());
        let lead = self.indent().max(mark) + 2 * self.quotes.min(DEEPEST);
        self.width.saturating_sub(lead).max(8)
    }

    /// The columns that the lists take.
    fn indent(&self) -> usize {
        self.lists.len().min(DEEPEST) * 2
    }

    /// Writes the text of the open block, wrapped.
    fn write_flow(&mut self) {
        let flow = std::mem::take(&mut self.flow);
        if flow.is_blank() {
            return;
        }
        self.write_gap();
        self.gap = false;
        for (spans, continues) in flow.wrapped(self.room()) {
            self.write_line(spans, continues);
        }
    }

    /// Writes one line behind the marks of its lists and quotes.
    fn write_line(&mut self, spans: Vec<Span<'static>>, continues: bool) {
        let border = self.theme.style(Tone::Dim);
        let mut lead = String::new();
        let quotes = "│ ".repeat(self.quotes.min(DEEPEST));
        let indent = self.indent();
        if let Some(bullet) = self.bullet.take() {
            let room = indent.max(bullet.chars().count());
            lead.push_str(&format!("{bullet:>room$}"));
        } else {
            lead.push_str(&" ".repeat(indent));
        }
        let text = format!("{quotes}{lead}");
        let count = text.chars().count();
        let mut all = Vec::with_capacity(spans.len() + 1);
        if count > 0 {
            all.push(Span::styled(text, border));
        }
        all.extend(spans);
        self.out.push(TextLine { line: Line::from(all), lead: count, continues });
    }

    fn code_lines(&mut self, language: Option<Language>, text: &str) {
        for (spans, lead, continues) in code::lines(text, language, self.room(), self.theme) {
            self.write_line(spans, continues);
            if let Some(line) = self.out.last_mut() {
                line.lead += lead;
            }
        }
    }

    fn end(mut self) -> Vec<TextLine> {
        self.write_flow();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tui::widgets::span::plain;
    use crate::tui::widgets::text::width as columns;

    fn theme() -> Theme {
        Theme::load("dark", false, true).unwrap()
    }

    fn drawn(text: &str, width: usize) -> Vec<String> {
        let lines = lines(text, width, &theme());
        lines.iter().map(|line| plain(&line.line).trim_end().to_owned()).collect()
    }

    #[test]
    fn headings_lists_and_quotes_are_laid_out() {
        let text = "# Plan\n\nI will *do* **this**:\n\n1. a test that fails\n   - with a name\n2. the `route`\n\n- [x] done\n- [ ] open\n\n> said before\n\nEnd.";
        assert_eq!(
            drawn(text, 40),
            [
                "Plan",
                "",
                "I will do this:",
                "",
                "1. a test that fails",
                "  • with a name",
                "2. the route",
                "",
                "• ✓ done",
                "• ○ open",
                "",
                "│ said before",
                "",
                "End."
            ]
        );
    }

    #[test]
    fn styles_follow_the_marks() {
        let theme = theme();
        let lines = lines("a **b** `c`\n\n# d", 40, &theme);
        let style = |text: &str| {
            let all = lines.iter().flat_map(|line| &line.line.spans);
            all.into_iter().find(|span| span.content.trim() == text).unwrap().style
        };
        assert!(style("b").add_modifier.contains(Modifier::BOLD));
        assert_eq!(style("c").fg, theme.style(Tone::Accent).fg);
        assert!(style("d").add_modifier.contains(Modifier::UNDERLINED | Modifier::BOLD));
        assert!(!style("a").add_modifier.contains(Modifier::BOLD));
    }

    #[test]
    fn line_breaks_and_plain_text_stay() {
        assert_eq!(drawn("one\ntwo\n\nthree", 20), ["one", "two", "", "three"]);
        let wrapped = lines("alpha beta gamma", 8, &theme());
        let continues: Vec<bool> = wrapped.iter().map(|line| line.continues).collect();
        assert_eq!(continues, [false, true, true]);
        assert_eq!(
            drawn("2 < 3 && <b>x</b> a_b_c snake_case", 60),
            ["2 < 3 && <b>x</b> a_b_c snake_case"]
        );
    }

    #[test]
    fn link_shows_where_it_leads() {
        assert_eq!(
            drawn("[the docs](https://evil.example) and <https://a.example>", 80),
            ["the docs (https://evil.example) and https://a.example"]
        );
    }

    #[test]
    fn entities_bring_no_character_back_that_a_terminal_obeys() {
        assert_eq!(drawn("a&#27;[201~rm&#13;b &amp; `&#27;`", 60), ["a[201~rm", "b & &#27;"]);
        assert_eq!(drawn("# x&#x202e;y&#155;z", 60), ["xyz"]);
        assert_eq!(drawn("[t](http://a&#27;&#x202e;&#10;b)", 60), ["t (http://a b)"]);
        assert_eq!(drawn("| a&#27; |\n|---|\n| b&#x9b;c |", 60), ["a", "──", "bc"]);
        let flood = format!("a{}*{}*", "&#769;".repeat(300), "&#769;".repeat(300));
        assert_eq!(drawn(&flood, 60), [format!("a{}", "\u{301}".repeat(8))]);
    }

    #[test]
    fn code_keeps_its_lines_and_marks_what_it_wraps() {
        let text = "So:\n\n```rust\nfn main() {\n    let answer = 42; // the one\n}\n```";
        let shown = drawn(text, 24);
        assert_eq!(shown[..4], ["So:", "", "│ fn main() {", "│     let answer = 42;"]);
        assert!(shown[4].starts_with("│ ↪ "), "{shown:?}");
        assert_eq!(shown.last().unwrap(), "│ }");
    }

    #[test]
    fn table_has_columns_and_fits() {
        let text = "| name | what it does |\n|---|--:|\n| a | counts the words of a long text |\n| bb | 7 |";
        assert_eq!(
            drawn(text, 60),
            [
                format!("name │ {:>31}", "what it does"),
                format!("{}─┼─{}", "─".repeat(4), "─".repeat(31)),
                "a    │ counts the words of a long text".to_owned(),
                format!("bb   │ {:>31}", 7),
            ]
        );
        let narrow = drawn(text, 20);
        assert!(narrow.iter().all(|line| columns(line) <= 20), "{narrow:#?}");
        assert!(narrow.concat().contains("counts"), "{narrow:#?}");
    }

    #[test]
    fn block_beside_the_mark_of_an_item_fits() {
        for text in ["1. - - - \n\n".to_owned(), format!("10. {}", "word ".repeat(40))] {
            let drawn = drawn(&text, 40);
            assert!(drawn.iter().all(|line| columns(line) <= 40), "{drawn:#?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_fits(
            text in "([-#*>|`\\[\\]()_~ a-z0-9.\n日é]|```\n|\n\n|- |1\\. |\\| a \\| b \\|\n){0,60}",
            width in 12_usize..60,
        ) {
            let lines = lines(&text, width, &theme());
            for line in &lines {
                prop_assert!(columns(&plain(&line.line)) <= width.max(8 + 4 * DEEPEST), "{:?}", line);
            }
        }
    }
}
