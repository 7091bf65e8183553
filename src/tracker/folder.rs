//! A folder of Markdown files as a tracker (docs/issues.md): each file is an issue with its state, its
//! labels and afk's comments. Files that can't be read keep their last good issue and hold it back.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use notify::Watcher as _;
use tokio::sync::mpsc;

use super::front_matter::{IssueFile, IssueState, time};
use super::{Listing, Tracker, TrackerError};
use crate::config::repos::LabelsConfig;
use crate::core::model::id::{Actor, IssueKey, OutboxId};
use crate::core::model::issue::{Arming, Blocker, BlockerState, Issue, LABELS};
use crate::core::model::outbox::StandingLabel;
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::clean_line;
use crate::error::chain;
use crate::lock::LockExt;
use crate::whole_file::WholeFile;

/// The largest issue file that is read, in bytes.
const FILE_LIMIT: u64 = 1024 * 1024;

/// The tracker of one folder. A clone shares the last good issues.
#[derive(Debug, Clone)]
pub struct FolderTracker {
    dir: PathBuf,
    labels: LabelsConfig,
    trusted: BTreeSet<Actor>,
    /// The journal's id, which marks this afk's comments.
    journal: String,
    /// The issue of each file when it could last be read; the lock admits one writer at a time.
    last_good: Arc<Mutex<BTreeMap<PathBuf, Issue>>>,
}

impl FolderTracker {
    /// A tracker of the files in `dir`; `journal` marks our comments among those of other afks.
    #[must_use]
    pub fn new(
        dir: PathBuf,
        labels: LabelsConfig,
        trusted: BTreeSet<Actor>,
        journal: String,
    ) -> Self {
        Self { dir, labels, trusted, journal, last_good: Arc::default() }
    }

    /// Sends to `changed` after each change in the folder, as long as the watcher is kept.
    ///
    /// # Errors
    /// The folder can't be watched; the caller still polls it.
    pub fn watch(&self, changed: mpsc::Sender<()>) -> notify::Result<notify::RecommendedWatcher> {
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                // A read is an event too, but changes nothing.
                if event.is_ok_and(|event| !event.kind.is_access()) {
                    // A full channel means that a reading is due already.
                    let _ = changed.try_send(());
                }
            })?;
        watcher.watch(&self.dir, notify::RecursiveMode::NonRecursive)?;
        Ok(watcher)
    }

    fn files(&self) -> Result<Vec<PathBuf>, TrackerError> {
        let io = |source| TrackerError::Io { path: self.dir.display().to_string(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(io)? {
            let path = entry.map_err(io)?.path();
            let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
            if !hidden && path.extension().is_some_and(|end| end == "md") {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }

    fn arming(&self, file: &IssueFile) -> Arming {
        if !file.front.labels.contains(&self.labels.ready) {
            return Arming::NotReady;
        }
        let at = time(file.front.armed_at).or_else(|| time(file.front.created));
        match &file.front.armed_by {
            None => Arming::Unknown { why: "armed_by is not set".into() },
            Some(by) if self.trusted.contains(by) => {
                Arming::Trusted { by: by.clone(), at: at.unwrap_or_default() }
            }
            Some(by) => Arming::Untrusted { by: by.clone() },
        }
    }

    fn issue(&self, file: &IssueFile) -> Issue {
        Issue {
            key: file.key(),
            title: file.front.title.as_str().into(),
            link: None,
            body: file.body().into(),
            priority: file.priority(),
            created: time(file.front.created).unwrap_or(Timestamp(0)),
            arming: self.arming(file),
            blockers: Vec::new(),
            open: file.front.state == IssueState::Open,
            class: file.class(),
            needs_human: file.front.labels.contains(&self.labels.human),
            in_progress: file.front.labels.contains(&self.labels.in_progress),
            labels: file.front.labels.iter().take(LABELS).map(|l| l.as_str().into()).collect(),
        }
    }

    fn read(path: &Path) -> Result<IssueFile, String> {
        let size = std::fs::metadata(path).map_err(|e| chain(&e))?.len();
        if size > FILE_LIMIT {
            return Err(format!("is larger than {} KiB", FILE_LIMIT / 1024));
        }
        let bytes = std::fs::read(path).map_err(|e| chain(&e))?;
        let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        IssueFile::parse(&text).map_err(|why| clean_line(&why))
    }

    fn list_now(&self) -> Result<Listing, TrackerError> {
        let mut listing = Listing::default();
        let mut blocked: BTreeMap<IssueKey, Vec<String>> = BTreeMap::new();
        let mut issues: BTreeMap<IssueKey, Issue> = BTreeMap::new();
        let mut last_good = self.last_good.locked();
        let files = self.files()?;
        last_good.retain(|path, _| files.contains(path));
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = clean_line(&name);
            let issue = match Self::read(&path) {
                Ok(file) => {
                    let issue = self.issue(&file);
                    blocked.insert(issue.key.clone(), file.front.blocked_by);
                    last_good.insert(path, issue.clone());
                    issue
                }
                Err(why) => {
                    listing.problems.push(format!("issue file {name}: {why}"));
                    // The last good issue stays, and does not start meanwhile.
                    let Some(known) = last_good.get(&path) else { continue };
                    let why = format!("its file can't be read: {why}");
                    Issue { arming: Arming::Unknown { why }, ..known.clone() }
                }
            };
            if issues.contains_key(&issue.key) {
                let key = &issue.key;
                listing
                    .problems
                    .push(format!("issue file {name}: {key} is in another file as well"));
                continue;
            }
            issues.insert(issue.key.clone(), issue);
        }
        drop(last_good);
        let states = blockers(&issues, &blocked);
        for (key, blockers) in states {
            if let Some(issue) = issues.get_mut(&key) {
                issue.blockers = blockers;
            }
        }
        listing.issues = issues.into_values().collect();
        Ok(listing)
    }

    /// Changes the file of an issue atomically. `change` returns whether it changed anything.
    /// Reads or writes files on a thread for such work. A task that blocked on its own thread would go on
    /// after the end of its runtime, and panic at the next timer.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, TrackerError> + Send + 'static,
    ) -> Result<T, TrackerError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || work(&this)).await.unwrap_or_else(|error| {
            let path = self.dir.display().to_string();
            Err(TrackerError::Io { path, source: io::Error::other(error) })
        })
    }

    async fn change_file(
        &self,
        issue: &IssueKey,
        change: impl FnOnce(&mut IssueFile) -> bool + Send + 'static,
    ) -> Result<(), TrackerError> {
        let issue = issue.clone();
        self.blocking(move |this| this.change(&issue, change)).await
    }

    fn change(
        &self,
        issue: &IssueKey,
        change: impl FnOnce(&mut IssueFile) -> bool,
    ) -> Result<(), TrackerError> {
        let _one_writer = self.last_good.locked();
        let mut unreadable = None;
        for path in self.files()? {
            let mut file = match Self::read(&path) {
                Ok(file) => file,
                Err(why) => {
                    unreadable = Some((path, why));
                    continue;
                }
            };
            if file.key() != *issue {
                continue;
            }
            if change(&mut file) {
                replace(&path, file.text().as_bytes()).map_err(|source| TrackerError::Io {
                    path: path.display().to_string(),
                    source,
                })?;
            }
            return Ok(());
        }
        Err(match unreadable {
            Some((path, why)) => TrackerError::Invalid { path: path.display().to_string(), why },
            None => TrackerError::Missing(issue.clone()),
        })
    }
}

/// Replaces a file: writes a new one beside it, syncs it and renames it, with the old permissions.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut whole = WholeFile::create(path, 0o600)?;
    whole.file.write_all(bytes)?;
    whole.file.set_permissions(std::fs::metadata(path)?.permissions())?;
    whole.file.sync_all()?;
    whole.put()
}

/// The state of each blocker by table T2: open, closed, unreadable, or part of a cycle.
fn blockers(
    issues: &BTreeMap<IssueKey, Issue>,
    blocked: &BTreeMap<IssueKey, Vec<String>>,
) -> BTreeMap<IssueKey, Vec<Blocker>> {
    let resolve = |of: &IssueKey, reference: &str| match reference.strip_prefix('#') {
        Some(number) => IssueKey::parse(&format!("{}#{number}", of.repo)).ok(),
        None => IssueKey::parse(reference).ok(),
    };
    let edges = |of: &IssueKey| -> Vec<IssueKey> {
        let open = |key: &IssueKey| issues.get(key).is_some_and(|issue| issue.open);
        blocked
            .get(of)
            .into_iter()
            .flatten()
            .filter_map(|reference| resolve(of, reference))
            .filter(open)
            .collect()
    };
    let reaches = |from: &IssueKey, to: &IssueKey| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(key) = next.pop() {
            if key == *to {
                return true;
            }
            if seen.insert(key.clone()) {
                next.extend(edges(&key));
            }
        }
        false
    };
    blocked
        .iter()
        .map(|(key, references)| {
            let blocker = |reference: &String| {
                let state = match resolve(key, reference).and_then(|k| issues.get(&k)) {
                    None => BlockerState::Unreadable,
                    Some(other) if !other.open => BlockerState::Closed,
                    Some(other) if reaches(&other.key, key) => BlockerState::Cycle,
                    Some(_) => BlockerState::Open,
                };
                Blocker { reference: reference.as_str().into(), state }
            };
            (key.clone(), references.iter().map(blocker).collect())
        })
        .collect()
}

impl Tracker for FolderTracker {
    fn list<'a>(
        &'a self,
        _follow: &'a BTreeSet<IssueKey>,
    ) -> BoxFuture<'a, Result<Listing, TrackerError>> {
        Box::pin(self.blocking(Self::list_now))
    }

    fn read<'a>(
        &'a self,
        issue: &'a IssueKey,
    ) -> BoxFuture<'a, Result<Option<Issue>, TrackerError>> {
        Box::pin(async move {
            let listing = self.blocking(Self::list_now).await?;
            Ok(listing.issues.into_iter().find(|known| known.key == *issue))
        })
    }

    fn set_label<'a>(
        &'a self,
        issue: &'a IssueKey,
        label: Option<StandingLabel>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        let ours = self.labels.clone();
        let change = move |file: &mut IssueFile| {
            let mut labels = file.front.labels.clone();
            labels.retain(|known| *known != ours.in_progress && *known != ours.human);
            match label {
                Some(StandingLabel::InProgress) => labels.push(ours.in_progress.clone()),
                Some(StandingLabel::ReadyForHuman) => labels.push(ours.human.clone()),
                None => labels.retain(|known| *known != ours.ready),
            }
            let changed = labels != file.front.labels;
            if changed {
                file.set_labels(labels);
            }
            changed
        };
        Box::pin(self.change_file(issue, change))
    }

    fn comment<'a>(
        &'a self,
        issue: &'a IssueKey,
        entry: OutboxId,
        text: &'a str,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        let mark = format!("<!-- afk {} {entry} -->", self.journal);
        let text = text.to_owned();
        let change = move |file: &mut IssueFile| {
            let there = file.rest.contains(&mark);
            if !there {
                file.comment(&mark, &text);
            }
            !there
        };
        Box::pin(self.change_file(issue, change))
    }

    /// Writes nothing: a file gets the result of a run as a comment at its end.
    fn progress<'a>(
        &'a self,
        _issue: &'a IssueKey,
        _text: &'a str,
        _claim: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), TrackerError>> {
        Box::pin(async { Ok(()) })
    }

    fn close<'a>(&'a self, issue: &'a IssueKey) -> BoxFuture<'a, Result<(), TrackerError>> {
        let change = |file: &mut IssueFile| {
            let open = file.front.state == IssueState::Open;
            file.close();
            open
        };
        Box::pin(self.change_file(issue, change))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, FolderTracker) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let trusted = [Actor("ana".into())].into();
        let folder = FolderTracker::new(
            dir.path().to_owned(),
            LabelsConfig::default(),
            trusted,
            "j1".into(),
        );
        (dir, folder)
    }

    fn issue(number: u64, more: &str) -> String {
        format!("+++\nrepo = 'a/b'\nnumber = {number}\ntitle = 't'\n{more}\n+++\n\nText.\n")
    }

    const READY: &str = "labels = ['ready-for-agent']\n";

    #[test]
    fn arming_follows_from_armed_by_and_label() {
        let (_dir, folder) = folder(&[
            ("1.md", &issue(1, &format!("{READY}armed_by = 'ana'"))),
            ("2.md", &issue(2, &format!("{READY}armed_by = 'eve'"))),
            ("3.md", &issue(3, READY)),
            ("4.md", &issue(4, "labels = ['READY-for-agent']\narmed_by = 'ana'")),
        ]);
        let arming: Vec<_> =
            folder.list_now().unwrap().issues.into_iter().map(|i| i.arming).collect();
        assert!(matches!(arming[0], Arming::Trusted { .. }));
        assert!(matches!(arming[1], Arming::Untrusted { .. }));
        assert!(matches!(arming[2], Arming::Unknown { .. }));
        assert!(matches!(arming[3], Arming::NotReady));
    }

    #[test]
    fn blockers_resolve_and_cycles_are_found() {
        let (_dir, folder) = folder(&[
            ("1.md", &issue(1, "blocked_by = ['#2', '#9', 'a/b#3', 'nonsense']")),
            ("2.md", &issue(2, "")),
            ("3.md", &issue(3, "state = 'closed'")),
            ("4.md", &issue(4, "blocked_by = ['#5']")),
            ("5.md", &issue(5, "blocked_by = ['#4']")),
            ("6.md", &issue(6, "blocked_by = ['#6']")),
        ]);
        let states: Vec<Vec<BlockerState>> = folder
            .list_now()
            .unwrap()
            .issues
            .iter()
            .map(|i| i.blockers.iter().map(|b| b.state).collect())
            .collect();
        use BlockerState::{Closed, Cycle, Open, Unreadable};
        assert_eq!(states[0], [Open, Unreadable, Closed, Unreadable]);
        assert_eq!(states[3], [Cycle]);
        assert_eq!(states[5], [Cycle]);
    }

    #[test]
    fn broken_file_keeps_its_issue_and_holds_it_back() {
        let (dir, folder) = folder(&[("1.md", &issue(1, &format!("{READY}armed_by = 'ana'")))]);
        assert_eq!(folder.list_now().unwrap().problems.len(), 0);
        std::fs::write(dir.path().join("1.md"), "+++\nbroken").unwrap();
        std::fs::write(dir.path().join("2.md"), [0xff, 0xfe]).unwrap();
        let listing = folder.list_now().unwrap();
        assert_eq!(listing.problems.len(), 2, "{:?}", listing.problems);
        assert!(matches!(listing.issues[0].arming, Arming::Unknown { .. }));
    }

    #[test]
    fn missing_folder_is_an_error() {
        let (dir, folder) = folder(&[("1.md", &issue(1, ""))]);
        drop(dir);
        assert!(folder.list_now().is_err());
    }

    #[test]
    fn end_of_a_runtime_during_a_listing_causes_no_panic() {
        static PANICS: AtomicUsize = AtomicUsize::new(0);
        let files: Vec<_> = (1..400).map(|n| (format!("{n}.md"), issue(n, READY))).collect();
        let files: Vec<_> = files.iter().map(|(n, text)| (n.as_str(), text.as_str())).collect();
        let (_dir, folder) = folder(&files);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }));
        for _ in 0..10 {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
            let (began, mut begins) = mpsc::unbounded_channel();
            let folder = folder.clone();
            runtime.spawn(async move {
                loop {
                    let _ = began.send(());
                    // The end of the runtime cancels the last one.
                    let _ = folder.list(&BTreeSet::new()).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            });
            runtime.block_on(begins.recv()).unwrap();
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
        std::panic::set_hook(before);
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writes_are_idempotent() {
        let (dir, folder) = folder(&[("1.md", &issue(1, READY))]);
        let key = IssueKey::parse("a/b#1").unwrap();
        let text = || std::fs::read_to_string(dir.path().join("1.md")).unwrap();
        folder.set_label(&key, Some(StandingLabel::InProgress)).await.unwrap();
        assert!(text().contains("\"agent-in-progress\""));
        for _ in 0..2 {
            folder.comment(&key, OutboxId(4), "It is done.").await.unwrap();
            folder.set_label(&key, None).await.unwrap();
            folder.close(&key).await.unwrap();
        }
        assert_eq!(text().matches("It is done.").count(), 1);
        assert!(!text().contains("agent-in-progress") && !text().contains("ready-for-agent"));
        assert!(text().contains("state = \"closed\""));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "left something behind");
        let other = IssueKey::parse("a/b#2").unwrap();
        assert!(matches!(folder.close(&other).await, Err(TrackerError::Missing(_))));
    }
}
