//! The pictures in the documentation are what the cockpit draws: made here, and held against it.
//!
//! `AFK_UPDATE_PICTURES=1` writes them anew.

use std::path::{Path, PathBuf};

use afk::journal::transcript::Store;
use afk::runtime::Snapshot;
use afk::tui::draw::{draw, places};
use afk::tui::keymap::Keymap;
use afk::tui::overlays::inbox;
use afk::tui::panes::Pane;
use afk::tui::theme::Theme;
use afk::tui::view::{Inbox, Overlay, View};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier};

use crate::support::picture::{fleet, transcript};

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures")
}

fn picture(width: u16, height: u16, prepare: impl Fn(&mut View)) -> Buffer {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    let fleet = fleet();
    transcript(&store);
    let snapshot = Snapshot { fleet, ..Snapshot::default() };
    let theme = Theme::load("dark", false, true).unwrap();
    let mut view = View::new(Keymap::load("default").unwrap(), theme.clone(), width, height);
    view.host = "devbox".into();
    view.now = snapshot.fleet.last_event;
    prepare(&mut view);
    let laid_out = places(&view, 0);
    if let Some(inside) = laid_out.inside(Pane::Transcript) {
        let run = view.run(&snapshot);
        let (w, h) = (usize::from(inside.width), usize::from(inside.height));
        view.transcript.prepare(&store, run, w, h, &theme).unwrap();
    }
    if let Some(Overlay::Inbox(mut open)) = view.overlays.pop() {
        inbox::settle(&mut open, &snapshot, &view, laid_out.body);
        view.overlays.push(Overlay::Inbox(open));
    }
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, &snapshot, &view)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    (0..area.height)
        .map(|y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>() + "\n")
        .collect()
}

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
        Color::Blue => "#61afef",
        Color::Magenta => "#c678dd",
        Color::Cyan => "#56b6c2",
        Color::Gray => "#abb2bf",
        Color::DarkGray => "#5c6370",
        Color::White => "#ffffff",
        _ => return None,
    })
}

fn hold(name: &str, made: &str) {
    let path = pictures().join(name);
    if std::env::var_os("AFK_UPDATE_PICTURES").is_some() {
        std::fs::write(&path, made).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == made,
        "{name} is not what is drawn; AFK_UPDATE_PICTURES=1 writes it anew:\n{made}"
    );
}

fn with_inbox(view: &mut View) {
    view.overlays.push(Overlay::Inbox(Inbox::default()));
}

#[test]
fn the_pictures_are_what_is_drawn() {
    // The clock in the header is this machine's; the pictures are UTC's.
    if jiff::tz::TimeZone::system().to_offset(jiff::Timestamp::UNIX_EPOCH) != jiff::tz::Offset::UTC
    {
        println!("skipped: the pictures show UTC, and this machine has another zone");
        return;
    }
    let whole = picture(200, 50, |_| {});
    hold("cockpit-200x50.txt", &text(&whole));
    hold("cockpit-200x50.svg", &svg(&whole));
    hold("queue-80x24.txt", &text(&picture(80, 24, |_| {})));
    hold("transcript-80x24.txt", &text(&picture(80, 24, |view| view.focus = Pane::Transcript)));
    hold("deploy-80x24.txt", &text(&picture(80, 24, |view| view.focus = Pane::Deploy)));
    let breakglass = |view: &mut View| {
        view.focus = Pane::Breakglass;
        view.cold = Some("ssh -p 52222 -i key root@192.0.2.10 status".into());
    };
    hold("breakglass-80x24.txt", &text(&picture(80, 24, breakglass)));
    hold("breakglass-40x12.txt", &text(&picture(40, 12, breakglass)));
    hold("inbox-80x24.txt", &text(&picture(80, 24, with_inbox)));
    hold("queue-40x12.txt", &text(&picture(40, 12, |_| {})));
    hold("inbox-40x12.txt", &text(&picture(40, 12, with_inbox)));
}

#[test]
fn it_draws_at_every_size() {
    let sizes = (1..=60).chain([79, 80, 109, 110, 139, 140, 200, 500]);
    for width in sizes {
        for height in [1, 2, 3, 5, 9, 10, 11, 12, 16, 24, 31, 32, 50] {
            for prepare in [with_inbox as fn(&mut View), |_| {}, |view| view.zoomed = true] {
                let buffer = picture(width, height, prepare);
                assert_eq!((buffer.area.width, buffer.area.height), (width, height));
            }
        }
    }
}

#[test]
fn what_is_cut_is_marked() {
    let narrow = text(&picture(80, 24, |_| {}));
    let cut: Vec<&str> = narrow.lines().filter(|line| line.contains('…')).collect();
    assert!(!cut.is_empty(), "nothing was cut at 80 columns:\n{narrow}");
}
