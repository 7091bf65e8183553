//! One turn of the agent: its events to the transcript, what concerns it to the core.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use super::super::{Shell, clock, prompt};
use super::heard::{self, Heard};
use super::question::Question;
use super::{Failure, Job};
use crate::agent::redact::{Redactor, names_a_secret};
use crate::agent::{Control, Limits, Tariff, TurnSpec, conversation, driver, vendor};
use crate::config::Config;
use crate::config::agent::{AgentConfig, Plan, Protocol};
use crate::config::repository::FILE;
use crate::core::model::agent_event::{AgentEvent, TurnEnd};
use crate::core::model::budget::MicroUsd;
use crate::core::model::capability::Equipment;
use crate::core::model::digest::Digest;
use crate::core::model::id::Sha;
use crate::core::model::input::RunFact;
use crate::core::model::job::JobKind;
use crate::core::model::run::TurnPrompt;
use crate::executor::{self, Executor};
use crate::workspace::git::committer;
use crate::workspace::pool::Pool;

/// What a turn is begun with.
pub(super) struct Begin {
    pub prompt: TurnPrompt,
    /// Which turn of the run, from 1.
    pub turn: u32,
    pub resume: Option<String>,
    pub budget: Option<MicroUsd>,
}

pub(super) async fn run(
    job: &Job,
    begin: &Begin,
    mut controls: mpsc::Receiver<Control>,
) -> Result<RunFact, Failure> {
    let (spec, equipment) = match spec(job, begin).await {
        Ok(made) => made,
        Err(why) => {
            let end = TurnEnd::NotStarted { why: why.into() };
            return Ok(RunFact::Agent(AgentEvent::TurnEnd(end)));
        }
    };
    let turn = begin.turn;
    let mut first = AgentEvent::Prompt { text: spec.prompt.clone() };
    spec.redactor.event(&mut first);
    let (events, said) = mpsc::channel::<AgentEvent>(heard::BATCH * 2);
    let mut heard = Heard::new(job, turn, equipment, first);
    let work = async {
        let end = match elsewhere(job, turn, &spec) {
            Ok(None) => driver::run(&job.shell.supervisor, &spec, &events, &mut controls).await,
            Ok(Some((executor, turn))) => executor.turn(&turn, &events, &mut controls).await,
            Err(end) => end,
        };
        drop(events);
        end
    };
    let (end, ()) = tokio::join!(work, heard.pass(said));
    heard.end(end.clone()).await;
    Ok(RunFact::Agent(AgentEvent::TurnEnd(end)))
}

async fn spec(job: &Job, begin: &Begin) -> Result<(TurnSpec, Equipment), Failure> {
    let asked = job.run.work.job();
    let (name, agent, role) = agent(job)?;
    let folder = match &job.run.worktree {
        None if job.run.work.issue().is_none() => {
            let (owner, before) = empty(job);
            Some(job.shell.folders.take(&owner, before.as_deref())?)
        }
        _ => None,
    };
    let cwd = match &folder {
        Some(folder) => job.shell.folders.path(folder),
        None => job.worktree()?,
    };
    let (env, redactor) = if job.place.is_none() {
        environment(&job.shell, agent, job.environment()).await?
    } else {
        // Secrets are where it is carried out.
        let mut env = job.environment();
        env.extend(agent.fixed_variables());
        (env, Redactor::default())
    };
    let inherit =
        job.place.iter().flat_map(|_| agent.secrets.keys().chain(agent.inherited_variables()));
    let inherit = inherit.cloned().collect();
    let (test, template) = match job.run.work.issue() {
        Some(_) => {
            let (pool, base) = (job.pool().await?, job.base()?);
            let rules = job.rules(pool.as_ref(), &base).await?;
            let template = match &rules.prompt {
                Some(path) => Some(template(&pool, &base, path).await?),
                None => None,
            };
            (rules.test.clone(), template)
        }
        None => (String::new(), None),
    };
    let issue = job.issue.as_deref();
    let resumes = begin.resume.is_some();
    let template = template.as_deref();
    let prompt = prompt::words(&job.run, issue, &test, &begin.prompt, resumes, template)?;
    let (speaks, ways) = (agent.protocol(), agent.acp_profile());
    let here = conversation(speaks, &ways).capabilities();
    let executor = job.place.as_ref().and_then(|p| job.shell.outside().executors.get(p).cloned());
    let can = executor.map_or(here, |executor| executor.capabilities(here));
    let spec = TurnSpec {
        owner: job.owner(),
        speaks,
        ways,
        command: program(agent).into_iter().chain(role).collect(),
        cwd,
        env,
        prompt,
        resume: begin.resume.clone(),
        session_cost: if resumes { job.run.session_cost } else { MicroUsd(0) },
        budget: begin.budget,
        model: asked.and_then(|asked| asked.model.clone()).or_else(|| agent.model.clone()),
        max_steps: agent.max_steps,
        tools: asked.is_none_or(|asked| !asked.is_question()),
        tariff: tariff(agent),
        limits: Limits { turn: limit(job), ..limits(&job.config) },
        redactor,
        heard: asked.is_some(),
        inherit,
        // The lines of our own protocol, or of text, are the transcript's.
        record: (!matches!(speaks, Protocol::Command | Protocol::Text))
            .then(|| job.shell.state.join("raw").join(format!("{}.jsonl", job.run.id))),
    };
    let place = job.place.clone();
    let agent = name.clone();
    let equipment = Equipment { agent, can, model: None, version: None, place, folder };
    Ok((spec, equipment))
}

/// Who carries a turn out elsewhere, and what is given to them.
type Elsewhere = (Arc<dyn Executor>, executor::Turn);

/// The executor of a turn that is carried out elsewhere, with what it is given.
fn elsewhere(job: &Job, turn: u32, spec: &TurnSpec) -> Result<Option<Elsewhere>, TurnEnd> {
    let Some(name) = &job.place else { return Ok(None) };
    let Some(executor) = job.shell.outside().executors.get(name).cloned() else {
        let why = format!("there is no [executors.{name}]").into();
        return Err(TurnEnd::NotStarted { why });
    };
    let run = job.shell.elsewhere_name(job.run.id);
    let asked = job.run.work.job().and_then(|asked| asked.agent.clone());
    let turn = executor::Turn {
        name: format!("{run}-t{turn}"),
        run,
        spec: spec.clone(),
        agent: asked.unwrap_or_else(|| "afk".into()),
        root: job.shell.elsewhere_root(),
        limit: limit(job),
    };
    Ok(Some((executor, turn)))
}

/// The agent of a run, with the arguments that name what a caller asked of it. A name that is none
/// of the configuration's is for the agent to know.
fn agent(job: &Job) -> Result<(&String, &AgentConfig, Vec<String>), Failure> {
    let (repo, config) = (job.run.work.repo(), &job.config);
    let asked = job.run.work.job();
    let named = asked.and_then(|asked| asked.agent.as_ref());
    if let Some((name, agent)) = named.and_then(|name| config.agents.get_key_value(name)) {
        return Ok((name, agent, Vec::new()));
    }
    let service = asked.and(config.service.as_ref()).and_then(|service| service.agent.as_ref());
    let of_service = service.and_then(|name| config.agents.get_key_value(name));
    let (name, agent) = of_service.or_else(|| config.agent_of(repo)).ok_or_else(|| {
        format!("{repo} has no agent: name one with `agent`, or set repos.\"{repo}\".agent")
    })?;
    let role = named.filter(|_| agent.protocol() == Protocol::Claude);
    let role = role.map(|role| vec!["--agent".to_owned(), role.clone()]);
    Ok((name, agent, role.unwrap_or_default()))
}

/// How long a turn may take: what is left of the time that a caller gave, or the configuration's.
pub(super) fn limit(job: &Job) -> Duration {
    let usual = Duration::from_secs(60 * job.config.limits.turn_minutes);
    job.run.work.job().map_or(usual, |asked| {
        let worked = job.run.admitted.map_or(0, |since| clock::wall().since(since).max(0));
        Duration::from_millis(u64::try_from(asked.limit_ms - worked).unwrap_or(0))
    })
}

/// Who has the folder of a job without a clone, and its name where that is known. A conversation has the
/// same one each time, since agents keep theirs by folder.
pub(super) fn empty(job: &Job) -> (String, Option<String>) {
    match job.run.work.job().map(|asked| &asked.kind) {
        Some(JobKind::Converse { session }) => {
            let name = Digest::of(&[session.as_bytes()]).to_string();
            (name.clone(), Some(name))
        }
        _ => (job.owner(), job.run.equipment.as_ref().and_then(|known| known.folder.clone())),
    }
}

/// What an agent gets of the environment beside `env`, and what is never written down of it.
async fn environment(
    shell: &Shell,
    agent: &AgentConfig,
    mut env: BTreeMap<String, String>,
) -> Result<(BTreeMap<String, String>, Redactor), Failure> {
    let our_env = |name: &str| std::env::var(name).ok();
    env.extend(
        agent.inherited_variables().into_iter().filter_map(|n| Some((n.clone(), our_env(n)?))),
    );
    env.extend(agent.fixed_variables());
    for (path, text) in agent.settings_files() {
        write_once(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    /// Nothing changes our own environment.
    static OURS: LazyLock<Vec<String>> = LazyLock::new(|| {
        let ours = std::env::vars_os().filter_map(|(name, value)| {
            let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
            names_a_secret(&name).then_some(value)
        });
        ours.collect()
    });
    let mut secrets = OURS.clone();
    secrets.extend(env.iter().filter(|(name, _)| names_a_secret(name)).map(|(_, v)| v.clone()));
    for (name, reference) in &agent.secrets {
        let secret = shell.outside().secrets.get(reference).await;
        let secret = secret.map_err(|e| e.to_string())?;
        secrets.push(secret.expose_secret().to_owned());
        env.insert(name.clone(), secret.expose_secret().to_owned());
    }
    // An agent with a HOME of its own has no name there to commit under.
    for (name, value) in committer() {
        env.entry(name.to_owned()).or_insert(value);
    }
    Ok((env, Redactor::new(secrets)))
}

fn tariff(agent: &AgentConfig) -> Tariff {
    match (agent.plan, agent.price) {
        (Plan::Flat, _) => Tariff::Flat,
        (Plan::Metered, Some(price)) => Tariff::Priced { input: price.input, output: price.output },
        (Plan::Metered, None) => Tariff::Told,
    }
}

fn limits(config: &Config) -> Limits {
    let (limits, seconds) = (&config.limits, Duration::from_secs);
    Limits {
        turn: seconds(60 * limits.turn_minutes),
        silence: seconds(limits.silence_seconds),
        tool: seconds(60 * limits.tool_minutes),
        memory: limits.memory_mib.saturating_mul(1024 * 1024),
    }
}

/// The turn of a question: no worktree, no tools, no record.
pub(super) async fn question(
    shell: &Shell,
    question: &Question,
    cwd: PathBuf,
) -> Result<TurnSpec, Failure> {
    let config = shell.config();
    let name = &question.agent;
    let agent = config.agents.get(name).ok_or_else(|| format!("there is no [agents.{name}]"))?;
    let (env, redactor) = environment(shell, agent, question.env.clone()).await?;
    Ok(TurnSpec {
        owner: question.owner.clone(),
        speaks: agent.protocol(),
        ways: agent.acp_profile(),
        command: program(agent),
        cwd,
        env,
        prompt: question.prompt.clone(),
        resume: question.resume.clone(),
        session_cost: MicroUsd(0),
        budget: None,
        model: question.model.clone().or_else(|| agent.model.clone()),
        max_steps: agent.max_steps,
        tools: false,
        tariff: tariff(agent),
        limits: Limits { turn: question.limit, ..limits(&config) },
        redactor,
        heard: false,
        inherit: Vec::new(),
        record: None,
    })
}

/// Its command, with the program itself in the place of an npm shim.
fn program(agent: &AgentConfig) -> Vec<String> {
    let mut command = agent.command();
    let vendor = agent.preset_definition().and_then(|preset| preset.vendor.as_deref());
    if let (Some(first), Some(pattern)) = (command.first_mut(), vendor)
        && let Some(found) = vendor::on_path(first)
        && let Some(real) = vendor::behind(&found, pattern)
    {
        *first = real.display().to_string();
    }
    command
}

/// Writes a file that is not there yet.
fn write_once(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::File::create_new(path) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The repository's own template of the first prompt, from the commit that the run began from.
async fn template(pool: &Pool, base: &Sha, path: &str) -> Result<String, Failure> {
    let name = format!("{base}:{path}");
    let shown = pool.base().git().ask(&["show", &name]).await.map_err(|e| e.to_string())?;
    if shown.ok {
        Ok(shown.out)
    } else {
        Err(format!("{FILE} names the prompt {path}, which is not there at {}", base.short()))
    }
}
