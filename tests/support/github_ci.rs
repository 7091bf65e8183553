//! The CI of the GitHub double: the workflow runs, suites, check runs and commit statuses of each commit,
//! on a clock of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

/// The words of a check that has not ended.
const OPEN: [&str; 5] = ["queued", "in_progress", "waiting", "requested", "pending"];

/// A workflow's name and identifier, and its checks.
pub type Workflow = (&'static str, u64, Vec<(&'static str, &'static str)>);

struct Check {
    name: String,
    status: String,
    conclusion: Option<String>,
    id: u64,
    suite: u64,
    began: i64,
    ended: Option<i64>,
}

/// A suite; of Actions with its workflow run.
struct Suite {
    id: u64,
    app: String,
    run: u64,
    workflow: u64,
    name: String,
    created: i64,
    /// The status and conclusion, where they aren't those of the checks.
    says: Option<(String, Option<String>)>,
}

#[derive(Default)]
struct Commit {
    checks: Vec<Check>,
    suites: Vec<Suite>,
}

/// The whole CI.
pub struct Ci {
    /// The planned checks of the next commits; the last plan serves all later ones.
    pub plans: VecDeque<Vec<(String, String)>>,
    /// The endpoints that the token may not read: `check`, `statuses`, `runs`.
    pub forbidden: BTreeSet<String>,
    /// The seconds that the clock is ahead of ours; also advanced by tests.
    pub offset: i64,
    /// How old the checks of a commit are when they are first read, in seconds.
    pub age: i64,
    /// Further workflows of each commit: the name, the workflow's identifier and the checks.
    pub further: Vec<Workflow>,
    /// Apps that have a suite on each commit and do nothing.
    pub idle_apps: Vec<&'static str>,
    /// The status of new suites, where it isn't that of their checks.
    pub held: Option<&'static str>,
    commits: BTreeMap<String, Commit>,
    next: u64,
}

impl Default for Ci {
    fn default() -> Self {
        Self {
            plans: [vec![("test".to_owned(), "success".to_owned())]].into(),
            forbidden: BTreeSet::new(),
            offset: 0,
            age: 600,
            further: Vec::new(),
            idle_apps: Vec::new(),
            held: None,
            commits: BTreeMap::new(),
            next: 5000,
        }
    }
}

fn time(at: i64) -> String {
    jiff::Timestamp::from_second(at).unwrap().to_string()
}

impl Ci {
    /// The time on the service's own clock, in seconds of the epoch.
    pub fn now(&self) -> i64 {
        jiff::Timestamp::now().as_second() + self.offset
    }

    /// The `Date` of an answer.
    pub fn date(&self) -> String {
        let at = jiff::Timestamp::from_second(self.now()).unwrap();
        at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn of(&mut self, sha: &str) -> &mut Commit {
        if !self.commits.contains_key(sha) {
            self.commits.insert(sha.to_owned(), Commit::default());
            let plan = if self.plans.len() > 1 {
                self.plans.pop_front()
            } else {
                self.plans.front().cloned()
            };
            let plan = plan.unwrap_or_default();
            if !plan.is_empty() {
                let plan: Vec<(&str, &str)> =
                    plan.iter().map(|(name, word)| (name.as_str(), word.as_str())).collect();
                self.workflow(sha, "ci", 70, &plan);
            }
            for (name, workflow, checks) in self.further.clone() {
                self.workflow(sha, name, workflow, &checks);
            }
            for app in self.idle_apps.clone() {
                self.suite(sha, app, "queued");
            }
        }
        self.commits.get_mut(sha).unwrap()
    }

    /// Adds a run of a workflow with its checks, and returns its suite.
    pub fn workflow(
        &mut self,
        sha: &str,
        name: &str,
        workflow: u64,
        checks: &[(&str, &str)],
    ) -> u64 {
        self.of(sha);
        let (id, run, created) = (self.id(), self.id(), self.now() - self.age);
        let app = "github-actions".to_owned();
        let says = self.held.map(|status| (status.to_owned(), None));
        let suite = Suite { id, app, run, workflow, name: name.into(), created, says };
        self.of(sha).suites.push(suite);
        for (name, word) in checks {
            self.check(sha, id, name, word);
        }
        id
    }

    /// The suite of the first workflow run of a commit.
    pub fn first_suite(&mut self, sha: &str) -> u64 {
        self.of(sha).suites[0].id
    }

    /// Adds a check to a suite.
    pub fn check(&mut self, sha: &str, suite: u64, name: &str, word: &str) {
        let (id, at, open) = (self.id(), self.now() - self.age, OPEN.contains(&word));
        self.of(sha).checks.push(Check {
            name: name.into(),
            status: if open { word.into() } else { "completed".into() },
            conclusion: (!open).then(|| word.to_owned()),
            id,
            suite,
            began: at,
            ended: (!open).then_some(at),
        });
    }

    /// Adds the suite of another app, without checks.
    pub fn suite(&mut self, sha: &str, app: &str, status: &str) {
        let (id, created) = (self.id(), self.now() - self.age);
        let (app, says) = (app.to_owned(), Some((status.to_owned(), None)));
        let name = String::new();
        let suite = Suite { id, app, run: 0, workflow: 0, name, created, says };
        self.of(sha).suites.push(suite);
    }

    /// Sets the status of every suite and run of a commit, whatever its checks say; an empty one follows
    /// them again.
    pub fn says(&mut self, sha: &str, status: &str, conclusion: Option<&str>) {
        let says = (!status.is_empty()).then(|| (status.to_owned(), conclusion.map(str::to_owned)));
        for suite in &mut self.of(sha).suites {
            suite.says.clone_from(&says);
        }
    }

    /// Ends every check of a name.
    pub fn conclude(&mut self, sha: &str, name: &str, conclusion: &str) {
        let now = self.now();
        for check in self.of(sha).checks.iter_mut().filter(|check| check.name == name) {
            check.status = "completed".into();
            check.conclusion = Some(conclusion.into());
            check.ended = Some(now);
        }
    }

    /// Answers about a commit: `check-runs`, `check-suites`, `statuses` or `runs`.
    pub fn answer(&mut self, what: &str, sha: &str) -> (u16, Value) {
        if self.forbidden.iter().any(|part| what.starts_with(part.as_str())) {
            let why = "Resource not accessible by personal access token";
            return (403, json!({"message": why}));
        }
        let commit = &*self.of(sha);
        match what {
            "check-runs" => {
                let all: Vec<Value> =
                    commit.checks.iter().map(|c| commit.check_dto(c, sha)).collect();
                (200, json!({"total_count": all.len(), "check_runs": all}))
            }
            "check-suites" => {
                let all: Vec<Value> =
                    commit.suites.iter().map(|suite| commit.suite_dto(suite, sha)).collect();
                (200, json!({"total_count": all.len(), "check_suites": all}))
            }
            "runs" => {
                let runs = commit.suites.iter().filter(|suite| suite.run != 0);
                let all: Vec<Value> = runs.map(|suite| commit.run_dto(suite, sha)).collect();
                (200, json!({"total_count": all.len(), "workflow_runs": all}))
            }
            _ => (200, json!([])),
        }
    }
}

impl Commit {
    fn state(&self, suite: &Suite) -> (String, Option<String>) {
        if let Some(says) = &suite.says {
            return says.clone();
        }
        let of: Vec<&Check> = self.checks.iter().filter(|check| check.suite == suite.id).collect();
        if let Some(open) = of.iter().find(|check| check.conclusion.is_none()) {
            return (open.status.clone(), None);
        }
        let words: Vec<&str> = of.iter().filter_map(|check| check.conclusion.as_deref()).collect();
        let bad = words.iter().find(|word| !["success", "skipped", "neutral"].contains(word));
        let word =
            bad.copied().unwrap_or(if words.contains(&"success") { "success" } else { "skipped" });
        ("completed".into(), Some(word.into()))
    }

    fn check_dto(&self, check: &Check, sha: &str) -> Value {
        let app = self.suites.iter().find(|suite| suite.id == check.suite);
        let mut dto = json!({
            "id": check.id, "name": check.name, "status": check.status,
            "conclusion": check.conclusion, "head_sha": sha, "started_at": time(check.began),
            "check_suite": {"id": check.suite},
            "app": {"slug": app.map_or("github-actions", |suite| suite.app.as_str())},
            "html_url": format!("https://github.com/acme/thing/runs/{}", check.id),
            "output": {"title": check.name, "summary": "it says why", "text": null},
        });
        if let Some(ended) = check.ended {
            dto["completed_at"] = json!(time(ended));
        }
        dto
    }

    fn suite_dto(&self, suite: &Suite, sha: &str) -> Value {
        let (status, conclusion) = self.state(suite);
        let checks = self.checks.iter().filter(|check| check.suite == suite.id).count();
        json!({
            "id": suite.id, "head_sha": sha, "status": status, "conclusion": conclusion,
            "created_at": time(suite.created), "app": {"slug": suite.app},
            "latest_check_runs_count": checks,
        })
    }

    fn run_dto(&self, suite: &Suite, sha: &str) -> Value {
        let (status, conclusion) = self.state(suite);
        json!({
            "id": suite.run, "name": suite.name, "event": "push", "status": status,
            "conclusion": conclusion, "head_sha": sha, "head_branch": "master",
            "check_suite_id": suite.id, "workflow_id": suite.workflow, "run_attempt": 1,
            "html_url": format!("https://github.com/acme/thing/actions/runs/{}", suite.run),
            "created_at": time(suite.created), "run_started_at": time(suite.created),
        })
    }
}
