//! A command that another command runs: what a wrapper, a shell or an alias hides.

/// A command within a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NestedCommand {
    pub(super) body: NestedBody,
    /// The folder that it works in, if it differs from that of the outer command.
    pub(super) folder: Option<String>,
    /// It runs on another machine.
    pub(super) remote: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NestedBody {
    Words(Vec<String>),
    /// The text of a shell.
    Text(String),
}

impl NestedCommand {
    pub(super) fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let words = words.into_iter().map(str::to_owned).collect();
        Self { body: NestedBody::Words(words), folder: None, remote: false }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { body: NestedBody::Text(text.into()), folder: None, remote: false }
    }

    pub(super) fn on_another_machine(self) -> Self {
        Self { remote: true, ..self }
    }
}
