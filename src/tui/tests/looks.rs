//! Every view in every theme: its pictures, its contrast, and what must never be covered.

use std::collections::BTreeMap;
use std::time::Duration;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

use super::fixture;
use super::pictures::{hold, in_utc};
use super::script::{Script, text};
use crate::tui::colour::ColourDepth;
use crate::tui::response::{Dialog, TextView};
use crate::tui::theme::{Rgb, Theme, contrast, shipped};

/// A view and the keys that lead to it.
type ShownView = (&'static str, fn(&mut Script));

const VIEWS: &[ShownView] = &[
    ("queue", |script| drop(script.keys("z"))),
    ("worktrees", |script| drop(script.keys("2z"))),
    ("transcript", |script| drop(script.keys("j3z"))),
    ("deploy", |script| drop(script.keys("4z"))),
    ("breakglass", |script| drop(script.keys("5z"))),
    ("inbox", |script| {
        script.keys("i");
        script.later(Duration::from_secs(1));
    }),
    ("permission", |script| {
        let theme = script.app.theme().clone();
        *script = Script::on(fixture::asking(), script.app.size());
        script.app.set_theme(theme);
        script.keys("i");
        script.later(Duration::from_secs(1));
    }),
    ("help", |script| drop(script.keys("?"))),
    ("palette", |script| drop(script.keys(":pane"))),
    ("confirm", |script| drop(script.keys("jx"))),
    ("input", |script| drop(script.keys("rlook at the log first"))),
    ("notice", |script| drop(script.keys("jjr"))),
    ("explain", |script| drop(script.keys("<Enter>"))),
    ("proof", |script| drop(script.keys("4<Enter>"))),
    ("spend", |script| drop(script.keys("$"))),
    ("pager", |script| {
        let diff = "@@ -6,2 +6,3 @@\n     hello) echo \"Hello!\" ;;\n-    bye)\n+    hello-*) echo";
        let lines = diff.lines().map(str::to_owned).collect();
        script.open(Dialog::Text(TextView::fixed("Diff of r3", lines)));
    }),
];

/// A view in a theme, as a truecolor terminal shows it.
fn drawn(theme: &str, view: &ShownView, size: (u16, u16)) -> Buffer {
    let mut script = Script::sized(size);
    let theme = Theme::load(theme, false, true).unwrap().at_depth(ColourDepth::True);
    script.app.set_theme(theme);
    (view.1)(&mut script);
    script.picture()
}

/// The colours of a cell on the screen; `Reset` is what a dark terminal shows.
fn colours(cell: &Cell) -> (Rgb, Rgb) {
    let of = |colour, own| match colour {
        Color::Rgb(r, g, b) => (r, g, b),
        Color::Black => (0, 0, 0),
        Color::Red => (0xcd, 0, 0),
        Color::Gray => (0xe5, 0xe5, 0xe5),
        Color::LightRed => (255, 0, 0),
        Color::LightGreen => (0, 255, 0),
        Color::LightYellow => (255, 255, 0),
        Color::LightCyan => (0, 255, 255),
        Color::White => (255, 255, 255),
        Color::Reset => own,
        other => panic!("{other:?} is in no theme at this depth"),
    };
    let (text, ground) = (of(cell.fg, (0xd7, 0xda, 0xe0)), of(cell.bg, (0x14, 0x17, 0x1c)));
    if cell.modifier.contains(Modifier::REVERSED) { (ground, text) } else { (text, ground) }
}

/// All views of a theme in one picture, a line of text for each row.
fn gallery(theme: &str) -> String {
    const CELL: (usize, usize) = (7, 15);
    let size = (80, 24);
    let (width, height) = (usize::from(size.0) * CELL.0 + 20, usize::from(size.1) * CELL.1 + 40);
    let mut classes: BTreeMap<String, usize> = BTreeMap::new();
    let mut body = String::new();
    for (at, view) in VIEWS.iter().enumerate() {
        let (x, y) = (at % 2 * width + 10, at / 2 * height + 30);
        body.push_str(&format!("<text class=\"n\" x=\"{x}\" y=\"{}\">{}</text>\n", y - 6, view.0));
        let buffer = drawn(theme, view, size);
        for row in 0..size.1 {
            let mut spans = String::new();
            let mut column = 0;
            while column < size.0 {
                let first = &buffer[(column, row)];
                let style = first.style();
                let from = column;
                let mut piece = String::new();
                while column < size.0 && buffer[(column, row)].style() == style {
                    piece.push_str(buffer[(column, row)].symbol());
                    column += 1;
                }
                let (text, ground) = colours(first);
                let hex = |(r, g, b): Rgb| format!("#{r:02x}{g:02x}{b:02x}");
                let (left, top) = (x + usize::from(from) * CELL.0, y + usize::from(row) * CELL.1);
                let wide = usize::from(column - from) * CELL.0;
                if ground != colours(&buffer[(0, size.1 - 1)]).1 {
                    body.push_str(&format!(
                        "<rect x=\"{left}\" y=\"{top}\" width=\"{wide}\" height=\"{}\" fill=\"{}\"/>\n",
                        CELL.1,
                        hex(ground)
                    ));
                }
                if piece.trim().is_empty() {
                    continue;
                }
                let bold = if style.add_modifier.contains(Modifier::BOLD) {
                    ";font-weight:bold"
                } else {
                    ""
                };
                let next = classes.len();
                let class = *classes.entry(format!("fill:{}{bold}", hex(text))).or_insert(next);
                let piece = piece.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                spans.push_str(&format!(
                    "<tspan class=\"c{class}\" x=\"{left}\" textLength=\"{wide}\">{piece}</tspan>"
                ));
            }
            let base = y + usize::from(row) * CELL.1 + 11;
            if !spans.is_empty() {
                body.push_str(&format!(
                    "<text y=\"{base}\" xml:space=\"preserve\">{spans}</text>\n"
                ));
            }
        }
    }
    let ground = colours(&drawn(theme, &VIEWS[0], size)[(0, size.1 - 1)]).1;
    let (r, g, b) = ground;
    let rows = VIEWS.len().div_ceil(2);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"monospace\" font-size=\"11.6\">\n<style>.n{{fill:#808080}}",
        2 * width,
        rows * height
    );
    for (style, class) in classes {
        out.push_str(&format!(".c{class}{{{style}}}"));
    }
    out.push_str(&format!(
        "</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#{r:02x}{g:02x}{b:02x}\"/>\n{body}</svg>\n"
    ));
    out
}

#[test]
fn every_view_matches_its_picture_in_every_theme() {
    if !in_utc() {
        return;
    }
    for theme in shipped() {
        hold(&format!("theme-{theme}.svg"), &gallery(theme));
    }
}

#[test]
fn every_letter_of_every_view_has_enough_contrast() {
    for theme in shipped() {
        let least = if theme == "high-contrast" { 7.0 } else { 4.5 };
        for view in VIEWS {
            let buffer = drawn(theme, view, (80, 24));
            for cell in &buffer.content {
                if !cell.symbol().chars().any(char::is_alphanumeric) {
                    continue;
                }
                let (text, ground) = colours(cell);
                let found = contrast(text, ground);
                let (name, symbol) = (view.0, cell.symbol());
                assert!(found >= least, "{theme}, {name}: {symbol:?} has {found:.2}: {cell:?}");
            }
        }
    }
}

#[test]
fn overlay_dims_what_it_covers_and_bars_have_the_whole_width() {
    let theme = Theme::load("dark", false, true).unwrap().at_depth(ColourDepth::True);
    let mut script = Script::new();
    script.app.set_theme(theme.clone());
    let dim = theme.style(crate::tui::theme::Tone::Dim).fg.unwrap();
    let bar = theme.style(crate::tui::theme::Tone::Selection).bg.unwrap();
    let row = |buffer: &Buffer| -> Vec<Color> { (1..79).map(|x| buffer[(x, 5)].bg).collect() };
    assert!(row(&script.picture()).iter().all(|bg| *bg == bar), "the bar has the whole row");
    script.keys("?");
    let below = script.picture();
    // The corner of the body is beside the overlay.
    assert_eq!(below[(0, 3)].fg, dim);
    assert!(!row(&below).contains(&bar), "there is one cursor on the screen");
    script.keys("<Esc>");
    assert_ne!(script.picture()[(0, 3)].fg, dim);
}

#[test]
fn notice_never_covers_the_keys() {
    for size in [(40, 12), (80, 24), (200, 50)] {
        let mut script = Script::sized(size);
        let footer = |script: &Script| text(&script.picture()).lines().last().unwrap().to_owned();
        let before = footer(&script);
        script.keys("y");
        script.shows("copied 12 characters");
        assert_eq!(footer(&script), before);
        script.keys("jjr");
        let screen = script.text();
        assert!(screen.contains("vault#11 has no run yet"), "{screen}");
        assert!(footer(&script).contains('?'), "{screen}");
    }
}

#[test]
fn good_news_has_another_colour_than_a_refusal() {
    let mut script = Script::new();
    let theme = script.app.theme().clone();
    let band = |script: &Script| script.picture()[(1, 22)].bg;
    script.keys("y");
    let tone = |tone| theme.style(tone).bg.unwrap();
    assert_eq!(band(&script), tone(crate::tui::theme::Tone::Header));
    script.keys("jjr");
    assert_eq!(band(&script), tone(crate::tui::theme::Tone::Attention));
}

#[test]
fn ascii_reaches_every_view() {
    for view in VIEWS {
        for size in [(80, 24), (200, 50)] {
            let mut script = Script::sized(size);
            script.app.set_theme(Theme::load("dark", true, true).unwrap());
            (view.1)(&mut script);
            let text = script.text();
            assert!(text.is_ascii(), "{}: {text}", view.0);
        }
    }
}

#[test]
fn theme_key_steps_and_says_where_it_is() {
    let mut script = Script::new();
    script.keys("T");
    script.shows("theme: light");
    script.keys("TTTT");
    script.shows("theme: mono");
    assert_eq!(script.picture()[(1, 5)].fg, Color::Reset);
}

#[test]
fn terminal_that_answers_late_chooses_the_theme_of_the_next_frame() {
    let mut script = Script::new();
    script.app.set_theme(Theme::load("auto", false, true).unwrap());
    script.app.set_background((255, 255, 255));
    assert_eq!(script.app.theme().name(), "light");
    // A theme that the operator chose stays.
    script.keys("T");
    script.app.set_background((0, 0, 0));
    assert_eq!(script.app.theme().name(), "high-contrast");
}

#[test]
fn tour_has_seven_steps_that_take_no_key() {
    for size in [(40, 12), (80, 24), (200, 50)] {
        let mut script = Script::sized(size);
        for step in 1..=7 {
            script.keys("<F1>");
            script.shows(&format!("Tour {step}/7: "));
            // The keys of the step can be tried at once, and the last words are there.
            script.keys("i");
            script.shows("Inbox");
            script.keys("<Esc>");
            script.shows(if step < 7 { "next]" } else { "end]" });
        }
        script.keys("<F1>");
        script.lacks("Tour ");
        script.keys("<F1><Esc>");
        script.lacks("Tour ");
    }
}

#[test]
fn unconfigured_pane_gives_its_place_away_until_it_is_focused() {
    let mut script = Script::on(fixture::asking(), (200, 50));
    script.lacks("5 Breakglass");
    script.keys("5");
    script.shows("5 Breakglass");
    script.keys("1");
    script.lacks("5 Breakglass");
    Script::sized((200, 50)).shows("5 Breakglass");
}

#[test]
fn split_is_moved_and_kept_for_its_size() {
    let mut script = Script::sized((200, 50));
    let split = |script: &Script| script.text().lines().nth(2).unwrap().find("┌ 3 ").unwrap();
    let before = split(&script);
    script.keys(">>");
    let moved = split(&script);
    assert!(moved > before, "{moved} {before}");
    script.keys("z");
    script.app.resize((120, 40), 0);
    script.frame();
    script.shows("┌ 3 Transcript");
    script.app.resize((200, 50), 0);
    script.frame();
    script.keys("z");
    assert_eq!(split(&script), moved);
    assert_eq!(script.app.layouts().of((200, 50)).split, 10);
    let mut script = Script::new();
    script.keys(">");
    script.shows("no split to move");
}

#[test]
fn help_groups_the_keys_and_explains_the_marks() {
    let mut script = Script::sized((200, 50));
    script.keys("?");
    let screen = script.text();
    for part in ["Move", "See", "Answer", "Act", "Danger", "Marks", "waits for your answer"] {
        assert!(screen.contains(part), "{part}: {screen}");
    }
    // On a phone all of it can be reached.
    let mut script = Script::sized((40, 12));
    script.keys("?");
    script.shows("Move");
    script.keys("G");
    script.shows("continues the line above");
    let cut: Vec<String> =
        script.text().lines().filter(|l| l.contains('…')).map(str::to_owned).collect();
    assert!(cut.is_empty(), "{cut:?}");
}
