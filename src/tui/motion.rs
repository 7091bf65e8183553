//! Movement through rows and lines, the same for lists, texts and terminals.

/// Where a movement key leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Motion {
    Next,
    Previous,
    PageDown,
    PageUp,
    Top,
    Bottom,
}

impl Motion {
    /// The place that this motion leads to from `at`, between 0 and `last`; `page` rows are a page.
    pub(crate) fn from(self, at: usize, last: usize, page: usize) -> usize {
        let to = match self {
            Self::Next => at.saturating_add(1),
            Self::Previous => at.saturating_sub(1),
            Self::PageDown => at.saturating_add(page),
            Self::PageUp => at.saturating_sub(page),
            Self::Top => 0,
            Self::Bottom => last,
        };
        to.min(last)
    }
}
