//! Themes as data: a colour for each role. Sixteen colours, so the terminal's palette decides.

use ratatui::style::{Color, Modifier, Style};
use serde::Deserialize;

use crate::config::{ConfigError, parse};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Colours {
    text: Named,
    dim: Named,
    accent: Named,
    good: Named,
    bad: Named,
    warn: Named,
    busy: Named,
    border: Named,
    border_focus: Named,
    title: Named,
    selection_text: Named,
    selection: Named,
    header_text: Named,
    header: Named,
    alarm_text: Named,
    alarm: Named,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Named {
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

impl From<Named> for Color {
    fn from(named: Named) -> Self {
        match named {
            Named::Default => Self::Reset,
            Named::Black => Self::Black,
            Named::Red => Self::Red,
            Named::Green => Self::Green,
            Named::Yellow => Self::Yellow,
            Named::Blue => Self::Blue,
            Named::Magenta => Self::Magenta,
            Named::Cyan => Self::Cyan,
            Named::Gray => Self::Gray,
            Named::DarkGray => Self::DarkGray,
            Named::LightRed => Self::LightRed,
            Named::LightGreen => Self::LightGreen,
            Named::LightYellow => Self::LightYellow,
            Named::LightBlue => Self::LightBlue,
            Named::LightMagenta => Self::LightMagenta,
            Named::LightCyan => Self::LightCyan,
            Named::White => Self::White,
        }
    }
}

/// What a thing is, for the eye. State is never told by this alone: it has a mark and a word too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Role {
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
#[allow(missing_docs)]
pub struct Marks {
    pub done: &'static str,
    pub bad: &'static str,
    pub busy: &'static str,
    pub waiting: &'static str,
    pub open: &'static str,
    pub frozen: &'static str,
    pub unknown: &'static str,
    pub human: &'static str,
    pub stopped: &'static str,
    pub cut: &'static str,
    pub link: &'static str,
    pub bars: [&'static str; 8],
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

/// A theme; see the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    colours: Option<Colours>,
    /// Marks of states.
    pub marks: Marks,
}

/// The names of ours, in the order that a key goes through them.
pub const SHIPPED: &[&str] = &["dark", "light"];

impl Theme {
    /// Reads a theme: `name` is one of ours, or a file. With `colour` off (`NO_COLOR`) only bold,
    /// underline and reverse are used.
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
        Ok(Self { colours: colour.then_some(colours), marks })
    }

    /// The style of a role.
    #[must_use]
    pub fn style(&self, role: Role) -> Style {
        let style = Style::new();
        let Some(c) = &self.colours else {
            return match role {
                Role::Selection | Role::Header => style.add_modifier(Modifier::REVERSED),
                Role::Alarm => style.add_modifier(Modifier::REVERSED | Modifier::BOLD),
                Role::BorderFocus | Role::Title | Role::Accent => {
                    style.add_modifier(Modifier::BOLD)
                }
                Role::Bad | Role::Warn => style.add_modifier(Modifier::BOLD),
                _ => style,
            };
        };
        match role {
            Role::Text => style.fg(c.text.into()),
            Role::Dim => style.fg(c.dim.into()),
            Role::Accent => style.fg(c.accent.into()),
            Role::Good => style.fg(c.good.into()),
            Role::Bad => style.fg(c.bad.into()),
            Role::Warn => style.fg(c.warn.into()),
            Role::Busy => style.fg(c.busy.into()),
            Role::Border => style.fg(c.border.into()),
            Role::BorderFocus => style.fg(c.border_focus.into()),
            Role::Title => style.fg(c.title.into()).add_modifier(Modifier::BOLD),
            Role::Selection => style.fg(c.selection_text.into()).bg(c.selection.into()),
            Role::Header => style.fg(c.header_text.into()).bg(c.header.into()),
            Role::Alarm => {
                style.fg(c.alarm_text.into()).bg(c.alarm.into()).add_modifier(Modifier::BOLD)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_can_be_read_and_no_colour_has_none() {
        for name in SHIPPED {
            let theme = Theme::load(name, false, true).unwrap();
            assert!(theme.style(Role::Good).fg.is_some());
            let plain = Theme::load(name, true, false).unwrap();
            assert_eq!(plain.style(Role::Good), Style::new());
            assert!(plain.marks.done.is_ascii());
        }
    }
}
