//! The pictures in the documentation match the frames of the cockpit.
//!
//! `AFK_UPDATE_PICTURES=1` writes them again.

use std::path::Path;

use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use super::past::Traveller;
use super::script::{Script, text};
use super::{fixture, views};
use crate::core::model::command::Role;
use crate::core::model::id::Actor;
use crate::core::model::time::Timestamp;
use crate::runtime::client::Attached;
use crate::tui::response::{Dialog, TextView};
use crate::tui::theme::Theme;

/// A phone, the classic terminal, a whole monitor.
const SIZES: [(u16, u16); 3] = [(40, 12), (80, 24), (200, 50)];

/// A picture as SVG, a piece of text for each run of cells of one style.
fn svg(buffer: &Buffer) -> String {
    let (w, h) = (buffer.area.width, buffer.area.height);
    let (cw, ch) = (8.4, 17.0);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"monospace\" font-size=\"14\">\n<rect width=\"100%\" height=\"100%\" fill=\"#14171c\"/>\n",
        f32::from(w) * cw,
        f32::from(h) * ch
    );
    for y in 0..h {
        let mut x = 0;
        while x < w {
            let style = buffer[(x, y)].style();
            let from = x;
            let mut piece = String::new();
            while x < w && buffer[(x, y)].style() == style {
                piece.push_str(buffer[(x, y)].symbol());
                x += 1;
            }
            let (left, top) = (f32::from(from) * cw, f32::from(y) * ch);
            let width = f32::from(x - from) * cw;
            if let Some(fill) = style.bg.and_then(colour) {
                out.push_str(&format!(
                    "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{ch}\" fill=\"{fill}\"/>\n"
                ));
            }
            if piece.trim().is_empty() {
                continue;
            }
            let fill = style.fg.and_then(colour).unwrap_or("#d7dae0");
            let bold = if style.add_modifier.contains(Modifier::BOLD) {
                " font-weight=\"bold\""
            } else {
                ""
            };
            let piece = piece.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            out.push_str(&format!(
                "<text x=\"{left:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" xml:space=\"preserve\" fill=\"{fill}\"{bold}>{piece}</text>\n",
                top + 13.0
            ));
        }
    }
    out + "</svg>\n"
}

fn colour(colour: Color) -> Option<&'static str> {
    Some(match colour {
        Color::Black => "#14171c",
        Color::Red => "#e06c75",
        Color::Green => "#98c379",
        Color::Yellow => "#e5c07b",
        Color::Blue | Color::LightBlue => "#61afef",
        Color::Magenta => "#c678dd",
        Color::Cyan => "#56b6c2",
        Color::Gray => "#abb2bf",
        Color::DarkGray => "#5c6370",
        Color::White => "#ffffff",
        _ => return None,
    })
}

/// Compares a picture with the file of its name.
#[track_caller]
pub(super) fn hold(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures").join(name);
    if std::env::var_os("AFK_UPDATE_PICTURES").is_some() {
        std::fs::write(&path, drawn).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == drawn,
        "{name} is not what is drawn; AFK_UPDATE_PICTURES=1 writes it again:\n{drawn}"
    );
}

/// The clock in the header is this machine's; the pictures show UTC and aren't compared elsewhere.
pub(super) fn in_utc() -> bool {
    let zone = jiff::tz::TimeZone::system();
    zone.to_offset(jiff::Timestamp::UNIX_EPOCH) == jiff::tz::Offset::UTC
}

/// Holds a screen against its pictures in all sizes.
#[track_caller]
fn hold_all(name: &str, prepare: impl Fn(&mut Script)) {
    if !in_utc() {
        return;
    }
    for (width, height) in SIZES {
        let mut script = Script::sized((width, height));
        prepare(&mut script);
        hold(&format!("{name}-{width}x{height}.txt"), &script.text());
    }
}

#[test]
fn cockpit_matches_its_pictures() {
    if in_utc() {
        let whole = Script::sized((200, 50)).picture();
        hold("cockpit-200x50.txt", &text(&whole));
        hold("cockpit-200x50.svg", &svg(&whole));
    }
}

#[test]
fn panes_match_their_pictures() {
    hold_all("queue", |script| drop(script.keys("z")));
    hold_all("worktrees", |script| drop(script.keys("2z")));
    hold_all("transcript", |script| drop(script.keys("j3z")));
    hold_all("deploy", |script| drop(script.keys("4z")));
    hold_all("breakglass", |script| drop(script.keys("5z")));
}

#[test]
fn inbox_matches_its_pictures() {
    let read = std::time::Duration::from_secs(1);
    hold_all("inbox", |script| {
        script.keys("i");
        script.later(read);
    });
    hold_all("permission", |script| {
        *script = Script::on(fixture::asking(), script.app.size());
        script.keys("i");
        script.later(read);
    });
}

#[test]
fn help_matches_its_pictures() {
    hold_all("help", |script| drop(script.keys("?")));
}

#[test]
fn palette_matches_its_pictures() {
    hold_all("palette", |script| drop(script.keys(":pane")));
}

#[test]
fn confirm_matches_its_pictures() {
    hold_all("confirm", |script| drop(script.keys("jx")));
}

#[test]
fn input_matches_its_pictures() {
    hold_all("input", |script| drop(script.keys("rlook at the log first<A-Enter>then the code")));
    hold_all("input-danger", |script| drop(script.keys("5jjj<Enter>")));
}

#[test]
fn pager_matches_its_pictures() {
    let lines = "--- a/app.sh\n+++ b/app.sh\n@@ -6,2 +6,3 @@\n     hello) echo \"Hello!\" ;;\n+    hello-*) echo \"Hello, ${1#hello-}!\" ;;";
    let lines: Vec<String> = lines.lines().map(str::to_owned).collect();
    hold_all("pager", |script| {
        script.open(Dialog::Text(TextView::fixed("Diff of r3", lines.clone())));
    });
    hold_all("explain", |script| drop(script.keys("<Enter>")));
    hold_all("proof", |script| drop(script.keys("4<Enter>")));
}

#[test]
fn spend_matches_its_pictures() {
    hold_all("spend", |script| drop(script.keys("$")));
}

#[test]
fn views_match_their_pictures() {
    hold_all("brief", |script| script.open(Dialog::Brief(Box::new(views::brief()))));
    hold_all("timeline", |script| {
        script.open(Dialog::Timeline(Box::new(views::timeline())));
        script.keys("<lt><lt>");
    });
    hold_all("compare", |script| script.open(views::compared()));
    hold_all("grid", |script| drop(script.keys("w")));
    hold_all("review", |script| {
        script.open(views::review());
        script.keys("]jcIs this still needed?<Enter>");
    });
}

#[test]
fn past_matches_its_pictures() {
    if in_utc() {
        for (width, height) in SIZES {
            let mut traveller = Traveller::new((width, height));
            traveller.keys("((");
            hold(&format!("past-{width}x{height}.txt"), &traveller.script.text());
        }
    }
}

#[test]
fn clients_match_their_pictures() {
    hold_all("clients", |script| {
        let client = |name: &str, role, origin: &str, size, minutes: i64| Attached {
            actor: Actor(name.into()),
            role,
            origin: origin.into(),
            size,
            since: Timestamp(script.snapshot.fleet.last_event.0 - minutes * 60_000),
        };
        script.snapshot.clients = vec![
            client("ana", Role::Operator, "tty", (200, 50), 90),
            client("bob", Role::Viewer, "ssh 192.0.2.7", (80, 24), 3),
        ];
        script.keys("W");
    });
}

#[test]
fn cockpit_draws_at_every_size() {
    let sizes = (1..=60).chain([79, 80, 109, 110, 139, 140, 200, 500]);
    for width in sizes {
        for height in [1, 2, 3, 5, 9, 10, 11, 12, 16, 24, 31, 32, 50] {
            let mut script = Script::sized((width, height));
            for keys in ["", "z", "zi", "<Esc>?", "<Esc>:", "<Esc>x", "nr", "<Esc>5"] {
                script.keys(keys);
                let buffer = script.picture();
                assert_eq!((buffer.area.width, buffer.area.height), (width, height));
            }
        }
    }
}

#[test]
fn ascii_theme_draws_ascii_alone() {
    for keys in ["", "i", "<Esc>?", "<Esc>j3", "4", "5", "1jx", "$", "w"] {
        let mut script = Script::sized((200, 50));
        script.app.set_theme(Theme::load("dark", true, true).unwrap());
        script.keys(keys);
        let text = script.text();
        assert!(text.is_ascii(), "{keys}: {text}");
    }
}

#[test]
fn cut_text_is_marked() {
    let narrow = Script::new().text();
    let cut: Vec<&str> = narrow.lines().filter(|line| line.contains('…')).collect();
    assert!(!cut.is_empty(), "nothing was cut at 80 columns:\n{narrow}");
}
