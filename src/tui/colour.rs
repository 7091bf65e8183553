//! The colours of a theme's file: a name of the sixteen that the terminal's palette decides, a number of
//! the 256, or `#rrggbb`. A role may list several, the finest first; each terminal gets the first one
//! that it shows.

use ratatui::style::Color;
use serde::Deserialize;

/// How many colours a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ColourDepth {
    Sixteen,
    Indexed,
    True,
}

impl ColourDepth {
    /// The depth of this process's terminal, as its environment describes it.
    pub(crate) fn of_environment() -> Self {
        let of = |name| std::env::var(name).unwrap_or_default();
        Self::of(&of("COLORTERM"), &of("TERM"))
    }

    /// The depth of a terminal that is described like this.
    pub(crate) fn of(colorterm: &str, term: &str) -> Self {
        match colorterm {
            "truecolor" | "24bit" => Self::True,
            _ if term.contains("direct") => Self::True,
            _ if term.contains("256color") => Self::Indexed,
            _ => Self::Sixteen,
        }
    }
}

/// The names of the sixteen colours, and of the terminal's own.
const NAMES: [(&str, Color); 17] = [
    ("default", Color::Reset),
    ("black", Color::Black),
    ("red", Color::Red),
    ("green", Color::Green),
    ("yellow", Color::Yellow),
    ("blue", Color::Blue),
    ("magenta", Color::Magenta),
    ("cyan", Color::Cyan),
    ("gray", Color::Gray),
    ("dark-gray", Color::DarkGray),
    ("light-red", Color::LightRed),
    ("light-green", Color::LightGreen),
    ("light-yellow", Color::LightYellow),
    ("light-blue", Color::LightBlue),
    ("light-magenta", Color::LightMagenta),
    ("light-cyan", Color::LightCyan),
    ("white", Color::White),
];

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<String>),
}

/// One colour for each depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub(super) struct Colour {
    sixteen: Color,
    indexed: Color,
    exact: Color,
}

impl Colour {
    pub(super) const fn at(&self, depth: ColourDepth) -> Color {
        match depth {
            ColourDepth::Sixteen => self.sixteen,
            ColourDepth::Indexed => self.indexed,
            ColourDepth::True => self.exact,
        }
    }

    const fn named(colour: Color) -> Self {
        Self { sixteen: colour, indexed: colour, exact: colour }
    }
}

/// Reads one colour, with the depth that it needs.
fn read(text: &str) -> Result<(ColourDepth, Color), String> {
    let wrong = || {
        format!(
            "{text:?} is no colour: write a name such as \"light-blue\", \"245\" or \"#8b95a1\""
        )
    };
    if let Some((_, colour)) = NAMES.iter().find(|(name, _)| *name == text) {
        return Ok((ColourDepth::Sixteen, *colour));
    }
    if let Some(hex) = text.strip_prefix('#').filter(|hex| hex.len() == 6 && hex.is_ascii()) {
        let part = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).map_err(|_| wrong());
        return Ok((ColourDepth::True, Color::Rgb(part(0)?, part(2)?, part(4)?)));
    }
    let index = text.parse().map_err(|_| wrong())?;
    Ok((ColourDepth::Indexed, Color::Indexed(index)))
}

impl TryFrom<Written> for Colour {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let all = match written {
            Written::One(one) => vec![one],
            Written::Several(several) => several,
        };
        let all = all.iter().map(|text| read(text)).collect::<Result<Vec<_>, _>>()?;
        let first = |depth| {
            let fitting = all.iter().find(|(needs, _)| *needs <= depth);
            // A terminal with fewer colours than every one listed shows its own.
            fitting.map_or(Color::Reset, |(_, colour)| *colour)
        };
        Ok(Self {
            sixteen: first(ColourDepth::Sixteen),
            indexed: first(ColourDepth::Indexed),
            exact: first(ColourDepth::True),
        })
    }
}

/// The colours of a theme.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Colours {
    /// The background of all that has none of its own. A file without it leaves the terminal's.
    #[serde(default = "own")]
    pub(super) ground: Colour,
    pub(super) text: Colour,
    pub(super) dim: Colour,
    pub(super) accent: Colour,
    pub(super) good: Colour,
    pub(super) bad: Colour,
    pub(super) warn: Colour,
    pub(super) busy: Colour,
    pub(super) border: Colour,
    pub(super) border_focus: Colour,
    pub(super) title: Colour,
    pub(super) selection_text: Colour,
    pub(super) selection: Colour,
    pub(super) header_text: Colour,
    pub(super) header: Colour,
    // Themes of operators may come from before these two roles.
    #[serde(default = "black")]
    pub(super) attention_text: Colour,
    #[serde(default = "yellow")]
    pub(super) attention: Colour,
    pub(super) alarm_text: Colour,
    pub(super) alarm: Colour,
}

const fn own() -> Colour {
    Colour::named(Color::Reset)
}

const fn black() -> Colour {
    Colour::named(Color::Black)
}

const fn yellow() -> Colour {
    Colour::named(Color::Yellow)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_depth_gets_the_finest_colour_that_it_shows() {
        let all: Vec<String> = ["#8b95a1", "246", "gray"].map(str::to_owned).into();
        let colour = Colour::try_from(Written::Several(all)).unwrap();
        assert_eq!(colour.at(ColourDepth::True), Color::Rgb(0x8b, 0x95, 0xa1));
        assert_eq!(colour.at(ColourDepth::Indexed), Color::Indexed(246));
        assert_eq!(colour.at(ColourDepth::Sixteen), Color::Gray);
        let exact = Colour::try_from(Written::One("#ffffff".into())).unwrap();
        assert_eq!(exact.at(ColourDepth::Sixteen), Color::Reset);
        for wrong in ["#12345", "#gggggg", "256", "pink", "", "#äöü"] {
            let error = Colour::try_from(Written::One(wrong.into())).unwrap_err();
            assert!(error.contains("is no colour"), "{error}");
        }
    }

    #[test]
    fn depth_follows_the_environment() {
        assert_eq!(ColourDepth::of("truecolor", "xterm"), ColourDepth::True);
        assert_eq!(ColourDepth::of("", "tmux-256color"), ColourDepth::Indexed);
        assert_eq!(ColourDepth::of("", "linux"), ColourDepth::Sixteen);
    }
}
