//! The names of operators over every way in: tokens, keys, and the terminal of this machine.
//!
//! Somebody can be an operator in several ways. Their arming of breakglass and their shells end with the last of
//! them, and not when one token or one key goes.
//!
//! ```text
//! serve::http: tokens ──┐
//! serve::ssh: keys ─────┴─▶ Handle::set_operators ─▶ Operators ─▶ Handle::revoke_breakglass
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::refusals::RefusalKind;
use super::{Handle, Snapshot};
use crate::core::model::breakglass::BreakglassReport;
use crate::core::model::id::Actor;
use crate::core::model::input::Input;
use crate::lock::LockExt;

/// A way in that gives names the rights of an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum OperatorSource {
    /// The tokens of the HTTP API.
    Tokens,
    /// The lines of `authorized_keys`.
    Keys,
}

/// The names of operators, by way in.
#[derive(Debug, Default)]
pub(crate) struct Operators(Mutex<BTreeMap<OperatorSource, BTreeSet<Actor>>>);

impl Operators {
    /// Replaces the names of a way in, and returns those that it gives no rights any more.
    fn replace(&self, source: OperatorSource, names: BTreeSet<Actor>) -> BTreeSet<Actor> {
        let mut all = self.0.locked();
        let gone = all.get(&source).map(|before| before - &names);
        all.insert(source, names);
        gone.unwrap_or_default()
    }

    /// Whether a way in gives the name the rights of an operator.
    fn contains(&self, actor: &Actor) -> bool {
        self.0.locked().values().any(|names| names.contains(actor))
    }
}

impl Handle {
    /// Replaces the names of the operators that come by one way, and revokes breakglass for those who are none
    /// any more by any way.
    pub(crate) async fn set_operators(&self, source: OperatorSource, names: BTreeSet<Actor>) {
        for actor in self.context.operators.replace(source, names) {
            tracing::warn!(%actor, ?source, "this way in has no operator of the name any more");
            self.revoke_breakglass(&actor).await;
        }
    }

    /// Ends the arming and the shells of an actor who is not an operator any more. It does nothing to somebody
    /// who still is one by another way.
    pub(crate) async fn revoke_breakglass(&self, actor: &Actor) {
        // A name that nobody chose, for want of a better one, is nobody's.
        let is_local = self.present_config().named_operator().as_ref() == Some(actor);
        if is_local || self.context.operators.contains(actor) {
            return;
        }
        let armed = |snapshot: &Snapshot| {
            snapshot.breakglass().armed.as_ref().is_some_and(|arming| arming.by == *actor)
        };
        if armed(&self.snapshots.borrow()) {
            let why = "their arming and shells end: not an operator any more";
            self.context.refusals.record(RefusalKind::Command, actor, &why);
        }
        // Also where no snapshot shows an arming yet.
        let report = BreakglassReport::Revoked { actor: actor.clone() };
        self.context.send_urgent(Input::Breakglass(report)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names<const N: usize>(names: [&str; N]) -> BTreeSet<Actor> {
        names.map(|name| Actor(name.into())).into()
    }

    #[test]
    fn operator_of_two_ways_is_one_until_both_are_gone() {
        let (operators, ana) = (Operators::default(), Actor("ana".into()));
        assert!(!operators.contains(&ana));
        assert!(operators.replace(OperatorSource::Tokens, names(["ana", "bo"])).is_empty());
        assert!(operators.replace(OperatorSource::Keys, names(["ana"])).is_empty());
        // The token goes, and the key stays.
        assert_eq!(operators.replace(OperatorSource::Tokens, names(["bo"])), names(["ana"]));
        assert!(operators.contains(&ana));
        assert_eq!(operators.replace(OperatorSource::Keys, names([])), names(["ana"]));
        assert!(!operators.contains(&ana) && operators.contains(&Actor("bo".into())));
    }
}
