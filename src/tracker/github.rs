//! GitHub's issues as a tracker: tables T1 and T2, labels, and comments that are ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Listing, Tracker, TrackerError};
use crate::config::repos::LabelsConfig;
use crate::core::model::id::{Actor, IssueKey, OutboxId, Repo};
use crate::core::model::issue::{Arming, Issue, Priority};
use crate::core::model::outbox::StandingLabel;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::core::tables::arming::{self, Edited, Facts, Labelled, Right, Trust, Who};
use crate::core::tables::blocking::{self, Found};
use crate::github::{Api, ApiError, time};

/// How long somebody's right is believed.
const RIGHT: Duration = Duration::from_secs(300);
/// Issues that are looked at at once.
const AT_ONCE: usize = 4;
/// Issues that are followed from blocker to blocker, to find circles.
const BLOCKERS: usize = 50;
/// Longest comment, in characters; GitHub's limit is 65,536.
const COMMENT: usize = 60_000;

/// What the tracker is made of.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The repositories.
    pub repos: BTreeSet<Repo>,
    /// Names of labels.
    pub labels: LabelsConfig,
    /// Trusted whatever they are.
    pub trusted: BTreeSet<Actor>,
    /// The role `triage` is enough.
    pub triage: bool,
    /// A blocker that was closed as not planned still blocks.
    pub not_planned_blocks: bool,
    /// Names this afk in its comments.
    pub journal: String,
}

/// See the module.
#[derive(Debug)]
pub struct GitHub {
    api: Arc<Api>,
    setting: Setting,
    /// Who armed what, by the issue's time of change: asked again only after one.
    events: Mutex<BTreeMap<IssueKey, (String, Events)>>,
    rights: Mutex<BTreeMap<(Repo, Actor), (Right, Instant)>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dto {
    number: u64,
    title: String,
    #[serde(default)]
    body: Option<String>,
    state: String,
    #[serde(default)]
    state_reason: Option<String>,
    #[serde(default)]
    labels: Vec<Label>,
    created_at: String,
    updated_at: String,
    #[serde(default)]
    html_url: Option<String>,
    #[serde(default)]
    repository_url: Option<String>,
    #[serde(default)]
    pull_request: Option<Value>,
    #[serde(default)]
    issue_dependencies_summary: Option<Summary>,
}

/// A label; old answers name it by a string alone.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Label {
    Named { name: String },
    Name(String),
}

#[derive(Debug, Clone, Deserialize)]
struct Summary {
    #[serde(default)]
    total_blocked_by: u64,
}

#[derive(Debug, Clone, Deserialize)]
struct User {
    login: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// One event of a timeline, as far as it is looked at.
#[derive(Debug, Clone, Deserialize)]
struct EventDto {
    #[serde(default)]
    event: String,
    #[serde(default)]
    actor: Option<User>,
    #[serde(default)]
    performed_via_github_app: Option<Value>,
    #[serde(default)]
    label: Option<Label>,
    #[serde(default)]
    created_at: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    user: Option<User>,
}

/// What was done to an issue, and by whom, without their rights.
#[derive(Debug, Clone, Default)]
struct Events {
    labelled: Option<(bool, Person, Timestamp)>,
    edits: Vec<(Person, Timestamp)>,
}

#[derive(Debug, Clone)]
struct Person {
    login: Option<Actor>,
    bot: bool,
    via_app: bool,
}

impl Label {
    fn name(&self) -> &str {
        match self {
            Self::Named { name } | Self::Name(name) => name,
        }
    }
}

impl Dto {
    fn found(&self) -> Found {
        match (self.state.as_str(), self.state_reason.as_deref()) {
            ("closed", Some("not_planned")) => Found::NotPlanned,
            ("closed", _) => Found::Completed,
            _ => Found::Open,
        }
    }

    fn has(&self, label: &str) -> bool {
        self.labels.iter().any(|known| known.name() == label)
    }

    /// Its key, where the list is about several repositories.
    fn key(&self, fallback: &Repo) -> Option<IssueKey> {
        let repo = match &self.repository_url {
            Some(url) => {
                let mut parts = url.rsplit('/');
                let (name, owner) = (parts.next()?, parts.next()?);
                Repo::parse(&format!("{owner}/{name}")).ok()?
            }
            None => fallback.clone(),
        };
        Some(IssueKey { repo, number: self.number })
    }
}

fn person(user: Option<&User>, via_app: bool) -> Person {
    let login = user.map(|user| Actor(clean_line(&user.login)));
    let bot = user.is_some_and(|user| user.kind == "Bot" || user.login.ends_with("[bot]"));
    Person { login, bot, via_app }
}

const EDITED: &str = "query($owner: String!, $name: String!, $number: Int!) { repository(owner: \
    $owner, name: $name) { issue(number: $number) { lastEditedAt editor { __typename login } } } }";

impl GitHub {
    /// The tracker over an API.
    #[must_use]
    pub fn new(api: Arc<Api>, setting: Setting) -> Self {
        Self { api, setting, events: Mutex::default(), rights: Mutex::default() }
    }

    fn path(issue: &IssueKey) -> String {
        format!("/repos/{}/issues/{}", issue.repo, issue.number)
    }

    async fn repo(
        &self,
        repo: &Repo,
        follow: &BTreeSet<IssueKey>,
        us: &Actor,
    ) -> Result<Vec<Issue>, ApiError> {
        let label = encoded(&self.setting.labels.ready);
        let path = format!("/repos/{repo}/issues?labels={label}&state=open&per_page=100");
        let mut found: Vec<Dto> = self.api.list(&path, None).await?;
        for key in follow.iter().filter(|key| key.repo == *repo) {
            if !found.iter().any(|known| known.number == key.number) {
                match self.api.get::<Dto>(&Self::path(key)).await {
                    Ok(issue) => found.push(issue),
                    Err(error) if gone(&error) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let issues = found.into_iter().filter(|dto| dto.pull_request.is_none());
        let issues = futures::stream::iter(issues.map(|dto| self.issue(repo, dto, us)));
        issues.buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn issue(&self, repo: &Repo, dto: Dto, us: &Actor) -> Result<Issue, ApiError> {
        let key = IssueKey { repo: repo.clone(), number: dto.number };
        let open = dto.state == "open";
        let ready = dto.has(&self.setting.labels.ready);
        let unknown = |error: &ApiError| Arming::Unknown { why: error.to_string() };
        let mut arming = Arming::NotReady;
        let mut blockers = Vec::new();
        if ready && open {
            arming = match self.arming(&key, &dto, us).await {
                Ok(arming) => arming,
                // What holds for everybody is told once for the repository.
                Err(error @ (ApiError::Limited { .. } | ApiError::Token(_))) => return Err(error),
                Err(error) => unknown(&error),
            };
            match self.blockers(&key, &dto).await {
                Ok(found) => blockers = found,
                Err(error @ (ApiError::Limited { .. } | ApiError::Token(_))) => return Err(error),
                Err(error) => arming = unknown(&error),
            }
        }
        Ok(Issue {
            key,
            title: dto.title.as_str().into(),
            link: dto.html_url.as_deref().map(Into::into),
            body: dto.body.as_deref().unwrap_or_default().into(),
            priority: dto.labels.iter().filter_map(|l| Priority::from_label(l.name())).min(),
            created: time(&dto.created_at),
            arming,
            blockers,
            open,
            needs_human: dto.has(&self.setting.labels.human),
        })
    }

    /// Table T1.
    async fn arming(&self, key: &IssueKey, dto: &Dto, us: &Actor) -> Result<Arming, ApiError> {
        let known = self.events().get(key).filter(|(at, _)| *at == dto.updated_at).cloned();
        let events = if let Some((_, events)) = known {
            events
        } else {
            let events = self.events_of(key).await?;
            let kept = (dto.updated_at.clone(), events.clone());
            self.events().insert(key.clone(), kept);
            events
        };
        let trust = Trust {
            us: Some(us.clone()),
            listed: self.setting.trusted.clone(),
            triage: self.setting.triage,
        };
        let mut facts = Facts { pull_request: false, label: true, labelled: None, edits: vec![] };
        if let Some((on, person, at)) = events.labelled {
            for (person, edited) in events.edits.into_iter().filter(|(_, edited)| *edited > at) {
                facts.edits.push(Edited { at: edited, by: self.who(&key.repo, person).await });
            }
            let by = self.who(&key.repo, person).await;
            facts.labelled = Some(Labelled { on, by, at });
        }
        Ok(arming::judge(&facts, &trust).unwrap_or(Arming::NotReady))
    }

    async fn events_of(&self, key: &IssueKey) -> Result<Events, ApiError> {
        let path = format!("{}/timeline?per_page=100", Self::path(key));
        let timeline: Vec<EventDto> = self.api.list(&path, None).await?;
        let mut events = Events::default();
        for event in timeline {
            let who = person(event.actor.as_ref(), event.performed_via_github_app.is_some());
            let at = event.created_at.as_deref().map_or(Timestamp(0), time);
            let about = event.label.as_ref().map(Label::name);
            match event.event.as_str() {
                "labeled" | "unlabeled"
                    if about == Some(&*self.setting.labels.ready)
                    // In order; of two in one second the later one in the list counts.
                    && events.labelled.as_ref().is_none_or(|(_, _, known)| *known <= at) =>
                {
                    events.labelled = Some((event.event == "labeled", who, at));
                }
                "renamed" => events.edits.push((who, at)),
                _ => {}
            }
        }
        let (owner, name) = key.repo.as_str().split_once('/').unwrap_or_default();
        let variables = json!({"owner": owner, "name": name, "number": key.number});
        let told = self.api.query(EDITED, &variables).await?;
        let issue = &told["repository"]["issue"];
        if let Some(at) = issue["lastEditedAt"].as_str() {
            let editor = &issue["editor"];
            let user = editor["login"].as_str().map(|login| User {
                login: login.to_owned(),
                kind: editor["__typename"].as_str().unwrap_or_default().to_owned(),
            });
            events.edits.push((person(user.as_ref(), false), time(at)));
        }
        Ok(events)
    }

    async fn who(&self, repo: &Repo, person: Person) -> Who {
        let right = match &person.login {
            Some(login) if !person.bot && !person.via_app => self.right(repo, login).await,
            _ => Right::NotThere,
        };
        let Person { login, bot, via_app } = person;
        Who { login, bot, via_app, right }
    }

    async fn right(&self, repo: &Repo, login: &Actor) -> Right {
        let place = (repo.clone(), login.clone());
        let known = self.rights.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some((right, at)) = known
            && at.elapsed() < RIGHT
        {
            return right;
        }
        let path = format!("/repos/{repo}/collaborators/{}/permission", encoded(&login.0));
        let right = match self.api.get::<Value>(&path).await {
            Ok(told) => Right::Role {
                role: told["role_name"].as_str().unwrap_or_default().to_owned(),
                permission: told["permission"].as_str().unwrap_or_default().to_owned(),
            },
            Err(error) => match error.status() {
                Some(404) => Right::NotThere,
                Some(403) => Right::Forbidden,
                _ => return Right::Unavailable(error.to_string()),
            },
        };
        let kept = (right.clone(), Instant::now());
        self.rights.lock().unwrap_or_else(PoisonError::into_inner).insert(place, kept);
        right
    }

    /// Table T2: the union of GitHub's own list and what the body names, and what those wait for.
    async fn blockers(
        &self,
        key: &IssueKey,
        dto: &Dto,
    ) -> Result<Vec<crate::core::model::issue::Blocker>, ApiError> {
        let mut edges: BTreeMap<IssueKey, BTreeSet<IssueKey>> = BTreeMap::new();
        let mut found: BTreeMap<IssueKey, Found> = BTreeMap::new();
        let mut next = vec![(key.clone(), dto.clone())];
        while let Some((at, dto)) = next.pop() {
            let mut waits = blocking::references(dto.body.as_deref().unwrap_or_default(), &at.repo);
            let native =
                dto.issue_dependencies_summary.as_ref().is_none_or(|s| s.total_blocked_by > 0);
            if native {
                let path = format!("{}/dependencies/blocked_by?per_page=100", Self::path(&at));
                match self.api.list::<Dto>(&path, None).await {
                    Ok(all) => {
                        for blocker in all {
                            let Some(blocked_by) = blocker.key(&at.repo) else { continue };
                            waits.insert(blocked_by.clone());
                            if found.insert(blocked_by.clone(), blocker.found()).is_none()
                                && blocker.found() == Found::Open
                            {
                                next.push((blocked_by, blocker));
                            }
                        }
                    }
                    // An older server has no such list.
                    Err(error)
                        if error.status() == Some(404)
                            && dto.issue_dependencies_summary.is_none() => {}
                    Err(error) if at == *key => return Err(error),
                    Err(_) => {}
                }
            }
            for blocker in &waits {
                if found.contains_key(blocker) || blocker == key || found.len() >= BLOCKERS {
                    continue;
                }
                match self.api.get::<Dto>(&Self::path(blocker)).await {
                    Ok(dto) => {
                        found.insert(blocker.clone(), dto.found());
                        if dto.found() == Found::Open {
                            next.push((blocker.clone(), dto));
                        }
                    }
                    Err(error) if gone(&error) => {
                        found.insert(blocker.clone(), Found::Unreadable);
                    }
                    Err(error) => return Err(error),
                }
            }
            edges.insert(at, waits);
        }
        Ok(blocking::blockers(key, &edges, &found, self.setting.not_planned_blocks))
    }

    fn events(&self) -> std::sync::MutexGuard<'_, BTreeMap<IssueKey, (String, Events)>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Our own comment with a mark. Others' are never ours, whatever they copied.
    async fn ours(&self, issue: &IssueKey, mark: &str) -> Result<Option<Comment>, ApiError> {
        let us = self.api.login().await?;
        let path = format!("{}/comments?per_page=100", Self::path(issue));
        let all: Vec<Comment> = self.api.list(&path, None).await?;
        let is_ours = |comment: &Comment| {
            comment.user.as_ref().is_some_and(|user| user.login == us)
                && comment.body.as_deref().is_some_and(|body| body.contains(mark))
        };
        Ok(all.into_iter().find(is_ours))
    }

    /// Writes a comment, or edits ours with the same mark. A lost answer is read back.
    async fn put(&self, issue: &IssueKey, mark: &str, text: &str) -> Result<(), ApiError> {
        let mark = format!("<!-- afk:{}:{mark} -->", self.setting.journal);
        let text: String = text.chars().take(COMMENT).collect();
        let body = format!("{text}\n\n{mark}");
        let same = |comment: &Comment| comment.body.as_deref() == Some(body.as_str());
        let wrote = match self.ours(issue, &mark).await? {
            Some(known) if same(&known) => return Ok(()),
            Some(known) => {
                let path = format!("/repos/{}/issues/comments/{}", issue.repo, known.id);
                self.api.write(Method::PATCH, &path, Some(&json!({"body": body}))).await
            }
            None => {
                let path = format!("{}/comments", Self::path(issue));
                self.api.write(Method::POST, &path, Some(&json!({"body": body}))).await
            }
        };
        match wrote {
            Ok(_) => Ok(()),
            Err(error @ ApiError::Unknown { .. }) => match self.ours(issue, &mark).await? {
                Some(known) if same(&known) => Ok(()),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn labels(&self, issue: &IssueKey, label: Option<StandingLabel>) -> Result<(), ApiError> {
        let names = &self.setting.labels;
        let wanted = label.map(|label| match label {
            StandingLabel::InProgress => &names.in_progress,
            StandingLabel::ReadyForHuman => &names.human,
        });
        let now: Dto = self.api.get(&Self::path(issue)).await?;
        let mut off = vec![&names.in_progress, &names.human];
        if wanted.is_none() {
            off.push(&names.ready);
        }
        if let Some(name) = wanted.filter(|name| !now.has(name)) {
            let path = format!("{}/labels", Self::path(issue));
            let body = json!({"labels": [name]});
            self.api.write(Method::POST, &path, Some(&body)).await?;
        }
        for name in off.into_iter().filter(|name| Some(*name) != wanted && now.has(name)) {
            let path = format!("{}/labels/{}", Self::path(issue), encoded(name));
            self.api.write(Method::DELETE, &path, None).await?;
        }
        Ok(())
    }
}

fn gone(error: &ApiError) -> bool {
    matches!(error.status(), Some(403 | 404 | 410 | 301 | 451))
}

/// A name as a part of an address (RFC 3986, all but the unreserved).
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl Tracker for GitHub {
    fn list<'a>(
        &'a self,
        follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>> {
        Box::pin(async move {
            let mut listing = Listing::default();
            let us = Actor(self.api.login().await?);
            for repo in &self.setting.repos {
                match self.repo(repo, follow, &us).await {
                    Ok(issues) => listing.issues.extend(issues),
                    Err(error) => {
                        listing.problems.push(clean_line(&format!("{repo}: {error}")));
                        listing.unread.insert(repo.clone(), clean_line(&error.to_string()));
                    }
                }
            }
            let listed: BTreeSet<&IssueKey> = listing.issues.iter().map(|i| &i.key).collect();
            self.events().retain(|key, _| listed.contains(key));
            listing.issues.sort_by(|a, b| a.key.cmp(&b.key));
            Ok(listing)
        })
    }

    fn set_label<'a>(
        &'a self,
        issue: &'a IssueKey,
        label: Option<StandingLabel>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { Ok(self.labels(issue, label).await?) })
    }

    fn comment<'a>(
        &'a self,
        issue: &'a IssueKey,
        entry: OutboxId,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { Ok(self.put(issue, &entry.to_string(), text).await?) })
    }

    fn progress<'a>(
        &'a self,
        issue: &'a IssueKey,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move { Ok(self.put(issue, "progress", text).await?) })
    }

    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async move {
            let now: Dto = self.api.get(&Self::path(issue)).await?;
            if now.state == "closed" {
                return Ok(());
            }
            let body = json!({"state": "closed", "state_reason": "completed"});
            self.api.write(Method::PATCH, &Self::path(issue), Some(&body)).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_an_address() {
        assert_eq!(encoded("ready for/agent é"), "ready%20for%2Fagent%20%C3%A9");
        assert_eq!(encoded("renovate[bot]"), "renovate%5Bbot%5D");
    }

    #[test]
    fn a_blocker_in_another_repository_is_named_by_its_address() {
        let dto = |url: &str| -> Dto {
            serde_json::from_value(json!({
                "number": 3, "title": "t", "state": "closed", "state_reason": "not_planned",
                "created_at": "2026-01-01T00:00:00Z", "updated_at": "x", "repository_url": url,
                "labels": ["a", {"name": "b", "more": 1}],
            }))
            .unwrap()
        };
        let here = Repo::parse("acme/web").unwrap();
        let there = dto("https://api.github.com/repos/acme/lib");
        assert_eq!(there.key(&here).unwrap().to_string(), "acme/lib#3");
        assert_eq!(there.found(), Found::NotPlanned);
        assert!(there.has("a") && there.has("b") && !there.has("B"));
        assert_eq!(time("2026-01-01T00:00:01Z").0, 1_767_225_601_000);
    }
}
