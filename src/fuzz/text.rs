//! Fuzz targets for texts that the core judges by itself: they are cleaned for a screen, or are a
//! command that an agent wants to run.

use crate::core::model::permission::{Pattern, PermissionRequest, Permissions, Tool};
use crate::core::model::untrusted::Untrusted;
use crate::core::tables::guardrail;
use crate::core::tables::permission::{PermissionVerdict, judge};

/// Cleans a text for a screen: nothing is left that a terminal obeys, and cleaning again changes nothing.
pub(super) fn untrusted(data: &[u8]) {
    let text = Untrusted::new(String::from_utf8_lossy(data));
    let clean = text.clean();
    let is_obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    assert!(!clean.contains(is_obeyed), "a control character is left: {clean:?}");
    assert!(clean.len() <= text.as_received().len(), "the clean text is longer");
    assert_eq!(Untrusted::new(clean.as_str()).clean(), clean, "cleaning again changes the text");
    let line = text.clean_line();
    assert!(!line.contains(char::is_control), "{line:?} is not one line");
    let revealed = text.revealed();
    assert!(!revealed.contains(is_obeyed), "a control character is revealed as itself");
    let tail = text.tail(40);
    assert!(tail.as_received().len() <= 40 && text.as_received().ends_with(tail.as_received()));
}

/// Judges a shell command: a policy that denies the shell denies every command.
pub(super) fn permission(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(shell) = Pattern::parse("shell") else { return };
    let denies = Permissions { deny: vec![shell], ..Permissions::default() };
    let allows = Permissions::default();
    for tool in [Tool::Shell, Tool::Edit, Tool::Web, Tool::Other] {
        let request = PermissionRequest {
            tool,
            title: "a request".into(),
            detail: text.as_ref().into(),
            targets: vec![text.as_ref().into()],
            editable: true,
        };
        let verdict = judge(&request, &denies, &[], "/w/wt-1");
        let refused = matches!(verdict, PermissionVerdict::Deny | PermissionVerdict::Guarded(_));
        assert!(refused || tool != Tool::Shell, "a denied command is {verdict:?}");
        let guarded = matches!(verdict, PermissionVerdict::Guarded(_));
        let allowed = judge(&request, &allows, &[], "/w/wt-1");
        let both = matches!(allowed, PermissionVerdict::Guarded(_));
        assert_eq!(guarded, both, "the policy decides about a guardrail");
    }
    let _ = guardrail::skips_ci(&text);
}
