//! The actions: what a key, the palette or the mouse can ask for. One name a command, the same in
//! keymaps, the palette and the help.

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Act {
    PaneQueue,
    PaneWorktrees,
    PaneTranscript,
    PaneDeploy,
    PaneBreakglass,
    NextPane,
    PreviousPane,
    Zoom,
    Inbox,
    Help,
    Palette,
    Next,
    Previous,
    PageDown,
    PageUp,
    Top,
    Bottom,
    Open,
    Back,
    Approve,
    ApproveRun,
    Edit,
    Deny,
    Answer,
    Acknowledge,
    Steer,
    Retry,
    Interrupt,
    Attached,
    Cancel,
    Spend,
    KillSwitch,
    Diff,
    Shell,
    Copy,
    Search,
    SearchNext,
    SearchPrevious,
    Follow,
    Fold,
    PermitMore,
    PermitLess,
    Theme,
    Mouse,
    Redraw,
    Quit,
}

/// Every action with its name.
pub const ALL: &[(Act, &str)] = &[
    (Act::PaneQueue, "pane-queue"),
    (Act::PaneWorktrees, "pane-worktrees"),
    (Act::PaneTranscript, "pane-transcript"),
    (Act::PaneDeploy, "pane-deploy"),
    (Act::PaneBreakglass, "pane-breakglass"),
    (Act::NextPane, "next-pane"),
    (Act::PreviousPane, "previous-pane"),
    (Act::Zoom, "zoom"),
    (Act::Inbox, "inbox"),
    (Act::Help, "help"),
    (Act::Palette, "palette"),
    (Act::Next, "next"),
    (Act::Previous, "previous"),
    (Act::PageDown, "page-down"),
    (Act::PageUp, "page-up"),
    (Act::Top, "top"),
    (Act::Bottom, "bottom"),
    (Act::Open, "open"),
    (Act::Back, "back"),
    (Act::Approve, "approve"),
    (Act::ApproveRun, "approve-run"),
    (Act::Edit, "edit"),
    (Act::Deny, "deny"),
    (Act::Answer, "answer"),
    (Act::Acknowledge, "acknowledge"),
    (Act::Steer, "steer"),
    (Act::Retry, "retry"),
    (Act::Interrupt, "interrupt"),
    (Act::Attached, "attached"),
    (Act::Cancel, "cancel"),
    (Act::Spend, "spend"),
    (Act::KillSwitch, "kill-switch"),
    (Act::Diff, "diff"),
    (Act::Shell, "shell"),
    (Act::Copy, "copy"),
    (Act::Search, "search"),
    (Act::SearchNext, "search-next"),
    (Act::SearchPrevious, "search-previous"),
    (Act::Follow, "follow"),
    (Act::Fold, "fold"),
    (Act::PermitMore, "permit-more"),
    (Act::PermitLess, "permit-less"),
    (Act::Theme, "theme"),
    (Act::Mouse, "mouse"),
    (Act::Redraw, "redraw"),
    (Act::Quit, "quit"),
];

impl Act {
    /// From its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == name).map(|(act, _)| *act)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ALL.iter().find(|(act, _)| *act == self).map_or("", |(_, name)| name)
    }
}
