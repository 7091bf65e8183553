//! Who armed an issue, and who edited it since (table T1): read from its timeline, and judged with the
//! rights of each account in the repository.

use std::collections::BTreeMap;
use std::sync::MutexGuard;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::dto::{IssueDto, LabelDto, TimelineEventDto, UserDto};
use super::{GitHubTracker, encoded};
use crate::core::model::gate_report::ChangeClass;
use crate::core::model::id::{Actor, IssueKey, Repo};
use crate::core::model::issue::Arming;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::arming::{self, ArmingFacts, Edited, Labelled, RepoRight, Trust, Who};
use crate::error::chain;
use crate::github::{ApiError, time};
use crate::lock::LockExt;

/// How long the right of an account is cached.
const RIGHT: Duration = Duration::from_secs(300);

/// How long the events of an issue may lag behind it. After that time, a change that none of them
/// shows has no event.
const LAG: Duration = Duration::from_secs(30);

/// The edits of an issue's body with their editors, newest first, and the text that they led to.
const EDITED: &str = "query($owner: String!, $name: String!, $number: Int!) { repository(owner: \
    $owner, name: $name) { issue(number: $number) { title body lastEditedAt editor { __typename \
    login } userContentEdits(first: 100) { nodes { editedAt editor { __typename login } } } } } }";

/// Whether the events of an issue that were read before may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HistoryUse {
    /// They may, if the issue has not changed since.
    Cached,
    /// They are read again, since a claim follows.
    ReadAgain,
}

/// The events of an issue that decide about its arming, without the rights of the accounts.
#[derive(Debug, Clone, Default)]
pub(super) struct ArmingHistory {
    /// The last event of the ready label: whether it was set, by whom, and when.
    labelled: Option<(bool, Account, Timestamp)>,
    edits: Vec<(Account, Timestamp)>,
    /// The time of the newest change that the events show.
    newest: Timestamp,
    /// Whether the edits belong to another text than the issue has.
    other_text: bool,
    /// When this version of the issue was first read, and when its events were read.
    since: Option<Instant>,
    read: Option<Instant>,
}

impl ArmingHistory {
    /// Records an event of the timeline.
    pub(super) fn take_event(&mut self, event: &TimelineEventDto, ready: &str) {
        let who = account(event.actor.as_ref(), event.performed_via_github_app.is_some());
        let at = event.created_at.as_deref().map_or(Timestamp(0), time);
        let changed = event.updated_at.as_deref().map_or(at, time);
        self.newest = self.newest.max(at).max(changed);
        let about = event.label.as_ref().map(LabelDto::name);
        match event.event.as_str() {
            "labeled" | "unlabeled"
                if about == Some(ready)
                // In order: of two in the same second the later one in the list counts.
                && self.labelled.as_ref().is_none_or(|(_, _, known)| *known <= at) =>
            {
                self.labelled = Some((event.event == "labeled", who, at));
            }
            "renamed" => self.edits.push((who, at)),
            // The class of the work decides how it is proved.
            "labeled" | "unlabeled" if about.and_then(ChangeClass::from_label).is_some() => {
                self.edits.push((who, at));
            }
            _ => {}
        }
    }

    /// Records the edits of the body, whose dates count as events, from GraphQL's answer.
    pub(super) fn take_edits(&mut self, issue: &Value, dto: &IssueDto) {
        let other = |field: &str, ours: &str| issue[field].as_str().is_some_and(|it| it != ours);
        self.other_text =
            other("title", &dto.title) || other("body", dto.body.as_deref().unwrap_or_default());
        let edits = issue["userContentEdits"]["nodes"].as_array().into_iter().flatten();
        let edits = edits.map(|edit| (&edit["editedAt"], &edit["editor"]));
        for (at, editor) in edits.chain([(&issue["lastEditedAt"], &issue["editor"])]) {
            let Some(at) = at.as_str().map(time) else { continue };
            self.newest = self.newest.max(at);
            let kind = editor["__typename"].as_str().unwrap_or_default().to_owned();
            let user = editor["login"].as_str().map(|login| {
                // GraphQL leaves out the ending of a bot's login.
                let ending = if kind == "Bot" && !login.ends_with("[bot]") { "[bot]" } else { "" };
                UserDto { login: format!("{login}{ending}"), kind }
            });
            self.edits.push((account(user.as_ref(), false), at));
        }
    }

    /// Whether the events of an issue with the ready label may lack the change that it has last, at
    /// `updated`.
    pub(super) fn lags(&self, updated: Timestamp) -> bool {
        let labelled = self.labelled.as_ref().is_some_and(|(on, _, _)| *on);
        let whole = labelled && self.newest >= updated && !self.other_text;
        let late = self.since.zip(self.read).is_some_and(|(since, read)| read >= since + LAG);
        // Edits of another text than the issue's never become those of this one by age.
        !whole && (self.other_text || !late)
    }
}

/// The account behind an event.
#[derive(Debug, Clone)]
struct Account {
    login: Option<Actor>,
    bot: bool,
    /// A GitHub App acted in the account's name.
    via_app: bool,
}

/// The account of a user; a bot is known by its type or its login.
fn account(user: Option<&UserDto>, via_app: bool) -> Account {
    let login = user.map(|user| Actor(clean_line(&user.login)));
    let bot = user.is_some_and(|user| user.kind == "Bot" || user.login.ends_with("[bot]"));
    Account { login, bot, via_app }
}

impl GitHubTracker {
    /// Judges by table T1 whether a trusted account armed the issue.
    pub(super) async fn arming(
        &self,
        key: &IssueKey,
        dto: &IssueDto,
        us: &Actor,
        history: HistoryUse,
    ) -> Result<Arming, ApiError> {
        let known = self.histories().get(key).filter(|(at, _)| *at == dto.updated_at).cloned();
        let updated = time(&dto.updated_at);
        let since = known.as_ref().and_then(|(_, history)| history.since);
        let usable = |(_, known): &(String, ArmingHistory)| {
            history == HistoryUse::Cached && !known.lags(updated)
        };
        let history = if let Some((_, history)) = known.filter(usable) {
            history
        } else {
            let mut history = self.read_history(key, dto).await?;
            let read = Instant::now();
            (history.since, history.read) = (since.or(Some(read)), Some(read));
            let kept = (dto.updated_at.clone(), history.clone());
            self.histories().insert(key.clone(), kept);
            history
        };
        let trust = Trust {
            us: Some(us.clone()),
            listed: self.config.trusted.clone(),
            triage: self.config.triage,
        };
        let lag = history.lags(updated);
        let mut facts =
            ArmingFacts { pull_request: false, label: true, labelled: None, edits: vec![], lag };
        if let Some((on, account, at)) = history.labelled.filter(|_| !lag) {
            for (account, edited) in history.edits.into_iter().filter(|(_, edited)| *edited >= at) {
                facts.edits.push(Edited { at: edited, by: self.who(&key.repo, account).await });
            }
            let by = self.who(&key.repo, account).await;
            facts.labelled = Some(Labelled { on, by, at });
        }
        Ok(arming::judge(&facts, &trust).unwrap_or(Arming::NotReady))
    }

    /// Reads the timeline, and by GraphQL the edits of the body, which the timeline lacks.
    async fn read_history(
        &self,
        key: &IssueKey,
        dto: &IssueDto,
    ) -> Result<ArmingHistory, ApiError> {
        let path = format!("{}/timeline?per_page=100", Self::path(key));
        let timeline: Vec<TimelineEventDto> = self.api.list(&path, None).await?;
        let mut history = ArmingHistory::default();
        for event in &timeline {
            history.take_event(event, &self.config.labels.ready);
        }
        // GraphQL need not follow the old name of a renamed repository.
        let now = self.repository_now(&key.repo).await?.name;
        let (owner, name) = now.split_once('/').unwrap_or_default();
        let variables = json!({"owner": owner, "name": name, "number": key.number});
        let answer = self.api.query(EDITED, &variables).await?;
        history.take_edits(&answer["repository"]["issue"], dto);
        Ok(history)
    }

    /// An account with its right in the repository; a bot's right is never asked for.
    async fn who(&self, repo: &Repo, account: Account) -> Who {
        let right = match &account.login {
            Some(login) if !account.bot && !account.via_app => self.right(repo, login).await,
            _ => RepoRight::NotThere,
        };
        let Account { login, bot, via_app } = account;
        Who { login, bot, via_app, right }
    }

    /// Whether an account may write to a repository; false where that can't be read.
    pub(super) async fn may_write(&self, repo: &Repo, login: &str) -> bool {
        let right = self.right(repo, &Actor(clean_line(login))).await;
        matches!(right, RepoRight::Role { permission, .. }
            if matches!(permission.as_str(), "admin" | "write"))
    }

    /// The right of a login in a repository, cached for a while.
    async fn right(&self, repo: &Repo, login: &Actor) -> RepoRight {
        let place = (repo.clone(), login.clone());
        let known = self.rights.locked().get(&place).cloned();
        if let Some((right, at)) = known
            && at.elapsed() < RIGHT
        {
            return right;
        }
        let path = format!("/repos/{repo}/collaborators/{}/permission", encoded(&login.0));
        let right = match self.api.get::<Value>(&path).await {
            Ok(found) => RepoRight::Role {
                role: found["role_name"].as_str().unwrap_or_default().to_owned(),
                permission: found["permission"].as_str().unwrap_or_default().to_owned(),
            },
            Err(error) => match error.status() {
                Some(404) => RepoRight::NotThere,
                Some(403) => RepoRight::Forbidden,
                _ => return RepoRight::Unavailable(chain(&error)),
            },
        };
        let kept = (right.clone(), Instant::now());
        self.rights.locked().insert(place, kept);
        right
    }

    /// The histories by issue, each with the `updated_at` that it was read at.
    pub(super) fn histories(&self) -> MutexGuard<'_, BTreeMap<IssueKey, (String, ArmingHistory)>> {
        self.histories.locked()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_lag_until_they_are_as_new_as_the_issue_or_late() {
        let ana = Account { login: Some(Actor("ana".into())), bot: false, via_app: false };
        let labelled = |on| Some((on, ana.clone(), Timestamp(10_000)));
        let read = Instant::now();
        let history = |on, newest, after: Duration| ArmingHistory {
            labelled: on,
            newest: Timestamp(newest),
            since: Some(read),
            read: Some(read + after),
            ..ArmingHistory::default()
        };
        let (now, updated) = (Duration::ZERO, Timestamp(20_000));
        for (history, lags) in [
            (history(labelled(true), 20_000, now), false),
            (history(labelled(true), 19_000, now), true),
            (history(labelled(false), 20_000, now), true),
            (history(None, 20_000, now), true),
            (ArmingHistory { other_text: true, ..history(labelled(true), 20_000, now) }, true),
            (history(None, 19_000, LAG), false),
            (ArmingHistory { other_text: true, ..history(None, 20_000, LAG) }, true),
        ] {
            assert_eq!(history.lags(updated), lags, "{history:?}");
        }
    }
}
