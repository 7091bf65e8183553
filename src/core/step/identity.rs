//! The identities of repositories in their trackers. A repository that has another name keeps its
//! number, so afk goes on with it and names the change once. Another repository under a known name
//! is neither read nor written until an operator accepts it.
//!
//! ```text
//! Input::Identified ─▶ new or renamed      ─▶ Event::RepositoryIdentified, a notice
//!                   └▶ another repository  ─▶ Event::RepositoryReplaced, one question
//! ```

use std::collections::BTreeMap;

use crate::model::approval::{Escalation, EscalationDraft, EscalationKind};
use crate::model::event::Event;
use crate::model::id::{EscalationId, Repo};
use crate::model::issue::RepoIdentity;
use crate::model::notice::Notice;
use crate::model::untrusted::clean_line;
use crate::step::stepper::Stepper;

impl Stepper<'_> {
    /// Compares the identities that the trackers report with the known ones.
    pub(super) fn identified(&mut self, identities: BTreeMap<Repo, RepoIdentity>) {
        for (repo, identity) in identities {
            match self.fleet().identities.get(&repo).cloned() {
                Some(known) if known == identity => {}
                Some(known) if known.id != identity.id => {
                    self.ask_about_replacement(&repo, &known, identity);
                }
                known => self.take_identity(&repo, known.as_ref(), identity),
            }
        }
    }

    fn take_identity(&mut self, repo: &Repo, known: Option<&RepoIdentity>, identity: RepoIdentity) {
        let name = clean_line(&identity.name);
        let renamed = !name.eq_ignore_ascii_case(repo.as_str())
            && known.is_none_or(|known| known.name != identity.name);
        self.emit(Event::RepositoryIdentified { repo: repo.clone(), identity });
        if renamed {
            let text = format!(
                "{repo} has another name now: {name}. afk goes on with it; change the name in the \
                 configuration"
            );
            self.notify(None, &Notice::Tracker { text });
        }
    }

    /// Asks once whether afk may work with another repository under a known name.
    fn ask_about_replacement(&mut self, repo: &Repo, known: &RepoIdentity, identity: RepoIdentity) {
        let asked = |id: &EscalationId, of: &(Repo, RepoIdentity)| {
            *of == (repo.clone(), identity.clone())
                && self.fleet().escalations.get(id).is_some_and(|e| e.open())
        };
        if self.fleet().replaced.iter().any(|(id, of)| asked(id, of)) {
            return;
        }
        let title = format!("{repo} is another repository now");
        let detail = format!(
            "The repository that afk knows as {repo} has the number {} at its tracker. Under this \
             name there is the number {} now ({}). afk reads and writes nothing there. If the old \
             one has another name, change the name in the configuration.",
            known.id,
            identity.id,
            clean_line(&identity.name)
        );
        let id = self.fleet().next_escalation();
        let draft = EscalationDraft::new(EscalationKind::Replaced, title.clone(), detail);
        let escalation = Escalation::raise(id, draft, self.at);
        self.emit(Event::Escalated { escalation: Box::new(escalation) });
        self.emit(Event::RepositoryReplaced { escalation: id, repo: repo.clone(), identity });
        let (escalation, kind) = (id, EscalationKind::Replaced);
        self.notify(None, &Notice::Asked { escalation, text: title, kind });
    }

    /// Works with the repository that an operator accepted under its name.
    pub(super) fn accept_replacement(&mut self, escalation: EscalationId) {
        if let Some((repo, identity)) = self.fleet().replaced.get(&escalation).cloned() {
            self.emit(Event::RepositoryIdentified { repo, identity });
        }
    }
}
