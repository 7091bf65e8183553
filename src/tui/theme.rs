//! Themes as data: a colour for each role, as `colour` reads them.
//!
//! A shipped theme has a background of its own, which `ground` paints, so that its contrast is known: the
//! tests here compute it for every role at every depth.

use std::path::Path;

use ratatui::style::{Color, Modifier, Style};

use super::colour::{Colour, ColourDepth, Colours};
use crate::config::{ConfigError, parse};

/// The meaning of a colour. No state is shown by colour alone: it has a mark and a word too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Text,
    Dim,
    Accent,
    Good,
    Bad,
    Warn,
    Busy,
    Border,
    BorderFocus,
    Title,
    Selection,
    Header,
    /// A part of the header that somebody should look at soon.
    Attention,
    Alarm,
}

/// The marks of states; one column each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) done: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) busy: &'static str,
    pub(crate) waiting: &'static str,
    pub(crate) open: &'static str,
    pub(crate) frozen: &'static str,
    pub(crate) unknown: &'static str,
    pub(crate) human: &'static str,
    /// An agent that waits for a human's answer.
    pub(crate) asks: &'static str,
    pub(crate) stopped: &'static str,
    pub(crate) cut: &'static str,
    pub(crate) link: &'static str,
    /// In front of a piece of a wrapped line.
    pub(crate) wrap: &'static str,
    /// Something is further down.
    pub(crate) down: &'static str,
    /// Between the parts of a line.
    pub(crate) dot: &'static str,
    /// In front of a group whose rows are hidden, and of one whose rows are shown.
    pub(crate) folded: &'static str,
    pub(crate) unfolded: &'static str,
    /// The thumb of a scrollbar.
    pub(crate) thumb: &'static str,
    pub(crate) bars: [&'static str; 8],
}

const UNICODE: Marks = Marks {
    done: "✓",
    bad: "✗",
    busy: "◐",
    waiting: "·",
    open: "○",
    frozen: "❄",
    unknown: "?",
    human: "!",
    asks: "?",
    stopped: "■",
    cut: "…",
    link: "─",
    wrap: "↪",
    down: "↓",
    dot: "·",
    folded: "▸",
    unfolded: "▾",
    thumb: "┃",
    bars: ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
};

const ASCII: Marks = Marks {
    done: "+",
    bad: "x",
    busy: "~",
    waiting: ".",
    open: "o",
    frozen: "*",
    unknown: "?",
    human: "!",
    asks: "?",
    stopped: "#",
    cut: ">",
    link: "-",
    wrap: "\\",
    down: "v",
    dot: "-",
    folded: ">",
    unfolded: "v",
    thumb: "#",
    bars: ["_", "_", ".", ".", "-", "-", "=", "="],
};

/// A theme in force: colours, unless the terminal shall have none, and marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    name: String,
    /// The terminal's background chooses between dark and light.
    auto: bool,
    ascii: bool,
    /// The terminal may have colours (`NO_COLOR`).
    colour: bool,
    depth: ColourDepth,
    colours: Option<Colours>,
    pub(crate) marks: Marks,
}

/// The shipped themes with colours, in the order in which a key steps through them.
const COLOURED: [(&str, &str); 5] = [
    ("dark", include_str!("../../assets/themes/dark.toml")),
    ("light", include_str!("../../assets/themes/light.toml")),
    ("high-contrast", include_str!("../../assets/themes/high-contrast.toml")),
    ("colour-blind", include_str!("../../assets/themes/colour-blind.toml")),
    ("16-colour", include_str!("../../assets/themes/16-colour.toml")),
];

/// The theme without colours: bold, underline and reverse alone.
const MONO: &str = "mono";

/// The name that leaves the choice to the terminal's background.
const AUTO: &str = "auto";

/// The names of the shipped themes, in the order in which a key steps through them.
pub(crate) fn shipped() -> impl Iterator<Item = &'static str> {
    COLOURED.iter().map(|(name, _)| *name).chain([MONO])
}

impl Theme {
    /// Reads a theme; `name` is the name of a shipped one, `auto`, or the path of a file. With `colour`
    /// off (`NO_COLOR`) only bold, underline and reverse are used.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(name: &str, ascii: bool, colour: bool) -> Result<Self, ConfigError> {
        let auto = name == AUTO;
        let name = if auto { "dark" } else { name };
        let colours: Option<Colours> = match COLOURED.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Some(parse(&format!("themes/{name}.toml"), text)?),
            None if name == MONO => None,
            None => {
                let text = std::fs::read_to_string(name)
                    .map_err(|source| ConfigError::Unreadable { path: name.into(), source })?;
                Some(parse(name, &text)?)
            }
        };
        let marks = if ascii { ASCII } else { UNICODE };
        let colours = colours.filter(|_| colour);
        let depth = ColourDepth::Sixteen;
        Ok(Self { name: name.to_owned(), auto, ascii, colour, depth, colours, marks })
    }

    /// The name of a shipped theme, or the path of a file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The file that the theme was read from; none for a shipped one.
    pub(crate) fn file(&self) -> Option<&Path> {
        let file = shipped().all(|name| name != self.name);
        file.then(|| Path::new(&self.name))
    }

    /// Reads the theme's file again, for the same terminal.
    ///
    /// # Errors
    /// As [`Theme::load`].
    pub(crate) fn again(&self) -> Result<Self, ConfigError> {
        Ok(Self::load(&self.name, self.ascii, self.colour)?.at_depth(self.depth))
    }

    /// Whether the terminal's background chooses the theme.
    pub(crate) const fn asks_background(&self) -> bool {
        self.auto && self.colour
    }

    /// The theme for a terminal with this background: dark or light, where neither was configured.
    ///
    /// # Errors
    /// As [`Theme::load`].
    pub(crate) fn on_background(&self, background: Rgb) -> Result<Self, ConfigError> {
        if !self.asks_background() {
            return Ok(self.clone());
        }
        let name = if is_light(background) { "light" } else { "dark" };
        let theme = Self::load(name, self.ascii, self.colour)?.at_depth(self.depth);
        Ok(Self { auto: true, ..theme })
    }

    /// The same theme for a terminal that shows this many colours.
    #[must_use]
    pub(crate) fn at_depth(self, depth: ColourDepth) -> Self {
        Self { depth, ..self }
    }

    /// The shipped theme after this one, with the same marks, and colours where this one may have them.
    ///
    /// # Errors
    /// As [`Theme::load`].
    pub(crate) fn next(&self) -> Result<Self, ConfigError> {
        let at = shipped().position(|name| name == self.name);
        let next = shipped().nth(at.map_or(0, |at| at + 1)).unwrap_or(COLOURED[0].0);
        Ok(Self::load(next, self.ascii, self.colour)?.at_depth(self.depth))
    }

    /// Whether only ASCII characters may reach the terminal.
    pub(crate) const fn is_ascii(&self) -> bool {
        self.ascii
    }

    /// Whether the theme has colours at all.
    pub(crate) const fn coloured(&self) -> bool {
        self.colours.is_some()
    }

    /// The style of a role.
    pub(crate) fn style(&self, role: Tone) -> Style {
        let style = Style::new();
        let Some(c) = &self.colours else {
            return match role {
                Tone::Selection | Tone::Header => style.add_modifier(Modifier::REVERSED),
                Tone::Alarm | Tone::Attention => {
                    style.add_modifier(Modifier::REVERSED | Modifier::BOLD)
                }
                Tone::BorderFocus | Tone::Title | Tone::Accent => {
                    style.add_modifier(Modifier::BOLD)
                }
                Tone::Bad | Tone::Warn => style.add_modifier(Modifier::BOLD),
                _ => style,
            };
        };
        let of = |colour: &Colour| colour.at(self.depth);
        match role {
            Tone::Text => style.fg(of(&c.text)),
            Tone::Dim => style.fg(of(&c.dim)),
            Tone::Accent => style.fg(of(&c.accent)),
            Tone::Good => style.fg(of(&c.good)),
            Tone::Bad => style.fg(of(&c.bad)),
            Tone::Warn => style.fg(of(&c.warn)),
            Tone::Busy => style.fg(of(&c.busy)),
            Tone::Border => style.fg(of(&c.border)),
            Tone::BorderFocus => style.fg(of(&c.border_focus)),
            Tone::Title => style.fg(of(&c.title)).add_modifier(Modifier::BOLD),
            Tone::Selection => style.fg(of(&c.selection_text)).bg(of(&c.selection)),
            Tone::Header => style.fg(of(&c.header_text)).bg(of(&c.header)),
            Tone::Attention => {
                style.fg(of(&c.attention_text)).bg(of(&c.attention)).add_modifier(Modifier::BOLD)
            }
            Tone::Alarm => {
                style.fg(of(&c.alarm_text)).bg(of(&c.alarm)).add_modifier(Modifier::BOLD)
            }
        }
    }

    /// The colours of text and background where nothing else is drawn; `Reset` is the terminal's own.
    pub(crate) fn ground(&self) -> (Color, Color) {
        let own = |c: &Colours| (c.text.at(self.depth), c.ground.at(self.depth));
        self.colours.as_ref().map_or((Color::Reset, Color::Reset), own)
    }

    /// The style of all that an overlay lies over. A dim colour of the theme is still legible; without
    /// one, the terminal dims.
    pub(crate) fn shade(&self) -> Style {
        let style = Style::new().fg(Color::Reset).bg(Color::Reset).remove_modifier(Modifier::all());
        match self.style(Tone::Dim).fg {
            Some(dim) if dim != self.ground().0 && dim != Color::Reset => style.fg(dim),
            _ => style.add_modifier(Modifier::DIM),
        }
    }
}

/// Red, green and blue.
pub(crate) type Rgb = (u8, u8, u8);

/// The relative luminance of a colour as WCAG 2 defines it, from 0 to 1.
fn luminance((r, g, b): Rgb) -> f64 {
    let part = |value: u8| {
        let share = f64::from(value) / 255.0;
        if share <= 0.040_45 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
    };
    0.2126_f64.mul_add(part(r), 0.7152_f64.mul_add(part(g), 0.0722 * part(b)))
}

/// The contrast of two colours as WCAG 2 defines it.
#[cfg(test)]
pub(crate) fn contrast(a: Rgb, b: Rgb) -> f64 {
    let (a, b) = (luminance(a) + 0.05, luminance(b) + 0.05);
    a.max(b) / a.min(b)
}

/// Whether dark text is easier to read on a background than light text.
fn is_light(background: Rgb) -> bool {
    // Black has the same contrast as white here.
    luminance(background) > 0.179
}

#[cfg(test)]
mod tests {
    use super::*;

    const TONES: [Tone; 14] = [
        Tone::Text,
        Tone::Dim,
        Tone::Accent,
        Tone::Good,
        Tone::Bad,
        Tone::Warn,
        Tone::Busy,
        Tone::Title,
        Tone::Selection,
        Tone::Header,
        Tone::Attention,
        Tone::Alarm,
        Tone::Border,
        Tone::BorderFocus,
    ];

    /// The tones that text is written in.
    const TEXT: &[Tone] = TONES.split_at(12).0;

    #[test]
    fn shipped_themes_load_and_have_no_colour_under_no_color() {
        for name in shipped() {
            let theme = Theme::load(name, false, true).unwrap();
            assert_eq!(theme.style(Tone::Good).fg.is_some(), name != MONO, "{name}");
            let plain = Theme::load(name, true, false).unwrap();
            assert_eq!(plain.style(Tone::Good), Style::new());
            assert!(plain.marks.done.is_ascii());
        }
    }

    #[test]
    fn key_steps_through_six_themes_and_around() {
        let mut theme = Theme::load(AUTO, true, true).unwrap().at_depth(ColourDepth::True);
        let mut names = Vec::new();
        for _ in 0..6 {
            theme = theme.next().unwrap();
            names.push(theme.name().to_owned());
        }
        let all = ["light", "high-contrast", "colour-blind", "16-colour", "mono", "dark"];
        assert_eq!(names, all);
        assert!(theme.is_ascii() && !theme.asks_background());
        assert_eq!(theme.depth, ColourDepth::True);
    }

    #[test]
    fn terminal_background_chooses_a_theme_that_nobody_chose() {
        let auto = Theme::load(AUTO, false, true).unwrap().at_depth(ColourDepth::Indexed);
        for (background, name) in [
            ((0xfd, 0xf6, 0xe3), "light"),
            ((0x00, 0x2b, 0x36), "dark"),
            ((255, 255, 255), "light"),
        ] {
            let theme = auto.on_background(background).unwrap();
            assert_eq!((theme.name(), theme.depth), (name, ColourDepth::Indexed));
        }
        let chosen = Theme::load("dark", false, true).unwrap();
        assert_eq!(chosen.on_background((255, 255, 255)).unwrap().name(), "dark");
        assert!(!Theme::load(AUTO, false, false).unwrap().asks_background());
    }

    #[test]
    fn theme_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mine.toml");
        let text = COLOURED[0].1;
        std::fs::write(&file, text).unwrap();
        let theme = Theme::load(file.to_str().unwrap(), false, true).unwrap();
        let theme = theme.at_depth(ColourDepth::True);
        assert_eq!(theme.file(), Some(file.as_path()));
        std::fs::write(&file, text.replace("#14171c", "#102030")).unwrap();
        assert_eq!(theme.again().unwrap().ground().1, Color::Rgb(0x10, 0x20, 0x30));
        std::fs::write(&file, text.replace("#14171c", "#10203")).unwrap();
        let error = theme.again().unwrap_err().to_string();
        assert!(error.contains("mine.toml") && error.contains("is no colour"), "{error}");
        assert_eq!(Theme::load("light", false, true).unwrap().file(), None);
    }

    /// The place of a colour in the sixteen, from black to white.
    fn place(colour: Color) -> Option<usize> {
        const ORDER: [Color; 16] = [
            Color::Black,
            Color::Red,
            Color::Green,
            Color::Yellow,
            Color::Blue,
            Color::Magenta,
            Color::Cyan,
            Color::Gray,
            Color::DarkGray,
            Color::LightRed,
            Color::LightGreen,
            Color::LightYellow,
            Color::LightBlue,
            Color::LightMagenta,
            Color::LightCyan,
            Color::White,
        ];
        ORDER.iter().position(|known| *known == colour)
    }

    type SixteenColours = [u32; 16];

    const XTERM: SixteenColours = [
        0x00_0000, 0xcd_0000, 0x00_cd00, 0xcd_cd00, 0x00_00ee, 0xcd_00cd, 0x00_cdcd, 0xe5_e5e5,
        0x7f_7f7f, 0xff_0000, 0x00_ff00, 0xff_ff00, 0x5c_5cff, 0xff_00ff, 0x00_ffff, 0xff_ffff,
    ];
    const LINUX: SixteenColours = [
        0x00_0000, 0xaa_0000, 0x00_aa00, 0xaa_5500, 0x00_00aa, 0xaa_00aa, 0x00_aaaa, 0xaa_aaaa,
        0x55_5555, 0xff_5555, 0x55_ff55, 0xff_ff55, 0x55_55ff, 0xff_55ff, 0x55_ffff, 0xff_ffff,
    ];
    // Bright black is the background of the dark variant.
    const SOLARIZED: SixteenColours = [
        0x07_3642, 0xdc_322f, 0x85_9900, 0xb5_8900, 0x26_8bd2, 0xd3_3682, 0x2a_a198, 0xee_e8d5,
        0x00_2b36, 0xcb_4b16, 0x58_6e75, 0x65_7b83, 0x83_9496, 0x6c_71c4, 0x93_a1a1, 0xfd_f6e3,
    ];

    fn rgb(hex: u32) -> Rgb {
        let [_, r, g, b] = hex.to_be_bytes();
        (r, g, b)
    }

    /// The colour on a screen; `own` is the terminal's own.
    fn seen(colour: Color, palette: &SixteenColours, own: Rgb) -> Rgb {
        if let Some(at) = place(colour) {
            return rgb(palette[at]);
        }
        match colour {
            Color::Rgb(r, g, b) => (r, g, b),
            Color::Indexed(at @ 232..) => {
                (8 + 10 * (at - 232), 8 + 10 * (at - 232), 8 + 10 * (at - 232))
            }
            Color::Indexed(at @ 16..) => {
                let level = |part: u8| if part == 0 { 0 } else { 55 + 40 * part };
                let at = at - 16;
                (level(at / 36), level(at / 6 % 6), level(at % 6))
            }
            Color::Indexed(at) => rgb(palette[usize::from(at)]),
            _ => own,
        }
    }

    /// Asserts that text in every tone has enough contrast on the theme's own background and on its bars.
    #[track_caller]
    fn assert_contrast(theme: &Theme, palette: &SixteenColours, least: f64) {
        let (own_text, own_ground) = ((255, 255, 255), (0, 0, 0));
        let ground = seen(theme.ground().1, palette, own_ground);
        let styles = TEXT.iter().map(|tone| (format!("{tone:?}"), theme.style(*tone)));
        for (tone, style) in styles.chain([("shade".to_owned(), theme.shade())]) {
            let text = seen(style.fg.unwrap_or(Color::Reset), palette, own_text);
            let below = style.bg.filter(|bg| *bg != Color::Reset);
            let below = below.map_or(ground, |bg| seen(bg, palette, own_ground));
            let found = contrast(text, below);
            let (name, depth) = (theme.name(), theme.depth);
            assert!(found >= least, "{name} at {depth:?}, {tone}: {found:.2}");
        }
    }

    #[test]
    fn every_text_has_enough_contrast_on_its_own_background() {
        for (name, _) in COLOURED {
            let least = if name == "high-contrast" { 7.0 } else { 4.5 };
            for depth in [ColourDepth::Indexed, ColourDepth::True] {
                let theme = Theme::load(name, false, true).unwrap().at_depth(depth);
                assert_contrast(&theme, &XTERM, least);
                assert_contrast(&theme, &LINUX, least);
            }
        }
        // These paint their background at sixteen colours, too.
        for name in ["16-colour", "high-contrast"] {
            let theme = Theme::load(name, false, true).unwrap();
            assert_contrast(&theme, &XTERM, 4.5);
            assert_contrast(&theme, &LINUX, 4.5);
        }
    }

    #[test]
    fn dark_theme_is_legible_with_solarized_dark() {
        let theme = Theme::load("dark", false, true).unwrap();
        let (text, ground) = (rgb(0x83_9496), rgb(0x00_2b36));
        for tone in TONES {
            let style = theme.style(tone);
            let below = style.bg.map_or(ground, |bg| seen(bg, &SOLARIZED, ground));
            let found = contrast(seen(style.fg.unwrap(), &SOLARIZED, text), below);
            assert!(found >= 3.0, "{tone:?}: {found:.1}");
        }
    }

    #[test]
    fn states_of_the_colour_blind_theme_differ_for_every_eye() {
        // The projections of Viénot, Brettel and Mollon (1999) on linear light.
        let eyes = [
            ("protanope", [[0.112, 0.888, 0.0], [0.112, 0.888, 0.0], [0.004, -0.004, 1.0]]),
            ("deuteranope", [[0.292, 0.708, 0.0], [0.292, 0.708, 0.0], [-0.022, 0.022, 1.0]]),
        ];
        let theme = Theme::load("colour-blind", false, true).unwrap().at_depth(ColourDepth::True);
        let tones = [Tone::Good, Tone::Bad, Tone::Warn, Tone::Accent];
        let colour = |tone| seen(theme.style(tone).fg.unwrap(), &XTERM, (0, 0, 0));
        let linear = |value: u8| (f64::from(value) / 255.0).powf(2.2);
        for (eye, rows) in eyes {
            let seen = |tone| {
                let (r, g, b) = colour(tone);
                let light = [linear(r), linear(g), linear(b)];
                rows.map(|row| {
                    let sum: f64 = row.iter().zip(light).map(|(part, light)| part * light).sum();
                    sum.max(0.0).powf(1.0 / 2.2) * 255.0
                })
            };
            for (at, a) in tones.iter().enumerate() {
                for b in &tones[at + 1..] {
                    let (seen_a, seen_b) = (seen(*a), seen(*b));
                    let apart = seen_a.iter().zip(seen_b).map(|(a, b)| (a - b).powi(2));
                    let apart = apart.sum::<f64>().sqrt();
                    assert!(apart > 40.0, "{eye}: {a:?} and {b:?} are {apart:.0} apart");
                }
            }
        }
    }
}
