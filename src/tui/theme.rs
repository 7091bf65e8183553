//! Themes as data: a colour for each role. Sixteen colours, so the terminal's palette decides.

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use crate::config::{ConfigError, parse};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Colours {
    text: ColourName,
    dim: ColourName,
    accent: ColourName,
    good: ColourName,
    bad: ColourName,
    warn: ColourName,
    busy: ColourName,
    border: ColourName,
    border_focus: ColourName,
    title: ColourName,
    selection_text: ColourName,
    selection: ColourName,
    header_text: ColourName,
    header: ColourName,
    alarm_text: ColourName,
    alarm: ColourName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ColourName {
    Default,
    Black,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
    Cyan,
    Gray,
    DarkGray,
    LightRed,
    LightGreen,
    LightYellow,
    LightBlue,
    LightMagenta,
    LightCyan,
    White,
}

impl From<ColourName> for Color {
    fn from(named: ColourName) -> Self {
        match named {
            ColourName::Default => Self::Reset,
            ColourName::Black => Self::Black,
            ColourName::Red => Self::Red,
            ColourName::Green => Self::Green,
            ColourName::Yellow => Self::Yellow,
            ColourName::Blue => Self::Blue,
            ColourName::Magenta => Self::Magenta,
            ColourName::Cyan => Self::Cyan,
            ColourName::Gray => Self::Gray,
            ColourName::DarkGray => Self::DarkGray,
            ColourName::LightRed => Self::LightRed,
            ColourName::LightGreen => Self::LightGreen,
            ColourName::LightYellow => Self::LightYellow,
            ColourName::LightBlue => Self::LightBlue,
            ColourName::LightMagenta => Self::LightMagenta,
            ColourName::LightCyan => Self::LightCyan,
            ColourName::White => Self::White,
        }
    }
}

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
    pub(crate) stopped: &'static str,
    pub(crate) cut: &'static str,
    pub(crate) link: &'static str,
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
    stopped: "■",
    cut: "…",
    link: "─",
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
    stopped: "#",
    cut: ">",
    link: "-",
    bars: ["_", "_", ".", ".", "-", "-", "=", "="],
};

/// A theme in force: colours, unless the terminal shall have none, and marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    name: String,
    ascii: bool,
    colours: Option<Colours>,
    pub(crate) marks: Marks,
}

/// The names of the shipped themes, in the order in which a key steps through them.
const SHIPPED: [&str; 2] = ["dark", "light"];

impl Theme {
    /// Reads a theme; `name` is the name of a shipped one, or the path of a file. With `colour` off
    /// (`NO_COLOR`) only bold, underline and reverse are used.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(name: &str, ascii: bool, colour: bool) -> Result<Self, ConfigError> {
        let (file, text) = match name {
            "dark" => {
                ("themes/dark.toml", include_str!("../../assets/themes/dark.toml").to_owned())
            }
            "light" => {
                ("themes/light.toml", include_str!("../../assets/themes/light.toml").to_owned())
            }
            file => {
                let text = std::fs::read_to_string(file)
                    .map_err(|source| ConfigError::Unreadable { path: file.into(), source })?;
                (file, text)
            }
        };
        let colours: Colours = parse(file, &text)?;
        let marks = if ascii { ASCII } else { UNICODE };
        Ok(Self { name: name.to_owned(), ascii, colours: colour.then_some(colours), marks })
    }

    /// The shipped theme after this one, with the same marks, and colours where this one has them.
    ///
    /// # Errors
    /// As [`Theme::load`].
    pub(crate) fn next(&self) -> Result<Self, ConfigError> {
        let at = SHIPPED.iter().position(|name| *name == self.name).unwrap_or(0);
        Self::load(SHIPPED[(at + 1) % SHIPPED.len()], self.ascii, self.coloured())
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
                Tone::Alarm => style.add_modifier(Modifier::REVERSED | Modifier::BOLD),
                Tone::BorderFocus | Tone::Title | Tone::Accent => {
                    style.add_modifier(Modifier::BOLD)
                }
                Tone::Bad | Tone::Warn => style.add_modifier(Modifier::BOLD),
                _ => style,
            };
        };
        match role {
            Tone::Text => style.fg(c.text.into()),
            Tone::Dim => style.fg(c.dim.into()),
            Tone::Accent => style.fg(c.accent.into()),
            Tone::Good => style.fg(c.good.into()),
            Tone::Bad => style.fg(c.bad.into()),
            Tone::Warn => style.fg(c.warn.into()),
            Tone::Busy => style.fg(c.busy.into()),
            Tone::Border => style.fg(c.border.into()),
            Tone::BorderFocus => style.fg(c.border_focus.into()),
            Tone::Title => style.fg(c.title.into()).add_modifier(Modifier::BOLD),
            Tone::Selection => style.fg(c.selection_text.into()).bg(c.selection.into()),
            Tone::Header => style.fg(c.header_text.into()).bg(c.header.into()),
            Tone::Alarm => {
                style.fg(c.alarm_text.into()).bg(c.alarm.into()).add_modifier(Modifier::BOLD)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_themes_load_and_have_no_colour_under_no_color() {
        for name in SHIPPED {
            let theme = Theme::load(name, false, true).unwrap();
            assert!(theme.style(Tone::Good).fg.is_some());
            let plain = Theme::load(name, true, false).unwrap();
            assert_eq!(plain.style(Tone::Good), Style::new());
            assert!(plain.marks.done.is_ascii());
        }
    }
}
