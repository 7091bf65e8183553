//! The specification of a turn: which agent, with which prompt, environment, limits and folder.
//!
//! [`of_run`] serves the turns of runs, [`of_question`] those of [`question`](super::question).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::ExposeSecret;

use super::question::AgentQuestion;
use super::turn::TurnStart;
use super::{TaskContext, TaskError, handover, setup};
use crate::agent::{Tariff, ToolServer, TurnLimits, TurnSpec, protocol_for, vendor};
use crate::config::Config;
use crate::config::ability::Abilities;
use crate::config::agent::{AgentConfig, Plan, Protocol};
use crate::config::repository::FILE;
use crate::core::model::budget::MicroUsd;
use crate::core::model::capability::Equipment;
use crate::core::model::digest::Digest;
use crate::core::model::id::Sha;
use crate::core::model::job::{Job, JobKind};
use crate::core::model::untrusted::Untrusted;
use crate::redact::{self, Redactor, names_a_secret};
use crate::runtime::wall::{Grants, Owner, Wall, write_below};
use crate::runtime::{Context, agent_home, clock, known_secrets, outages, prompt};
use crate::sandbox::{NetworkPolicy, user_home};
use crate::secrets::Secrets;
use crate::workspace::git::committer;
use crate::workspace::pool::Pool;

/// The specification of a run's turn, and the agent, executor and folder that it uses.
///
/// # Errors
/// A line that says why the turn can't start.
pub(super) async fn of_run(
    task: &TaskContext,
    start: &TurnStart,
) -> Result<(TurnSpec, Equipment), TaskError> {
    let job = task.run.work.job();
    let (name, agent, role) = agent(task)?;
    let here = agent_home::logged_in(agent, &|name: &str| std::env::var(name).ok());
    // Another place has logins of its own.
    let agent = if task.executor.is_none() { &here } else { agent };
    let folder = match &task.run.workspace.worktree {
        None if task.run.work.issue().is_none() => {
            let (owner, before) = scratch_owner(task);
            Some(task.runtime.scratch_dirs.take(&owner, before.as_deref())?)
        }
        _ => None,
    };
    let (rules, pool) = match task.run.work.issue() {
        Some(_) => {
            let (pool, base) = (task.pool().await?, task.base()?);
            let rules = task.rules(pool.as_ref(), &base).await?;
            (Some(rules), Some(pool))
        }
        None => (None, None),
    };
    let (top, cwd, own_env) = match (&folder, &rules) {
        (Some(folder), _) => {
            let folder = task.runtime.scratch_dirs.path(folder);
            (folder.clone(), folder, task.commands.environment(None))
        }
        (None, Some(rules)) => {
            let tree = task.worktree()?;
            let env = task.commands.tree_environment(rules, &tree)?;
            (tree.clone(), setup::folder(rules, &tree)?, env)
        }
        (None, None) => {
            let clone = task.worktree()?;
            (clone.clone(), clone.clone(), task.commands.environment(Some(&clone)))
        }
    };
    let env = if task.executor.is_none() {
        environment(&task.config, &task.runtime.services().secrets, agent, own_env).await?
    } else {
        // The executor holds the secrets; they must not leave with the specification.
        let mut env = own_env;
        env.extend(agent.fixed_variables());
        env
    };
    let inherit =
        task.executor.iter().flat_map(|_| agent.secrets.keys().chain(agent.inherited_variables()));
    let inherit = inherit.cloned().collect();
    let (test, template) = match (&rules, &pool) {
        (Some(rules), Some(pool)) => {
            let template = match &rules.prompt {
                Some(path) => Some(template(pool, &task.base()?, path).await?),
                None => None,
            };
            (rules.test.clone(), template)
        }
        _ => (String::new(), None),
    };
    let brief = task.brief.as_deref();
    let resumes = start.resume.is_some();
    let template = template.as_deref();
    let mut prompt = prompt::of_turn(&task.run, brief, &test, &start.prompt, resumes, template)?;
    // Another conversation begins in the middle of the work.
    if !resumes
        && (start.turn > 1 || !task.earlier.is_empty())
        && let Some(done) = handover::of_run(task).await
    {
        prompt = format!("{}\n\n# What was done so far\n\n{done}", prompt.as_received()).into();
    }
    let (speaks, ways) = (agent.protocol(), agent.acp_profile());
    let here = agent
        .abilities()
        .map_or_else(|| protocol_for(speaks, &ways).capabilities(), Abilities::capabilities);
    let executor = task.executor.as_ref();
    let executor = executor.and_then(|name| task.runtime.services().executors.get(name).cloned());
    let can = executor.map_or(here, |executor| executor.capabilities(here));
    let spec = TurnSpec {
        owner: task.owner(),
        speaks,
        acp: ways,
        command: program(agent).into_iter().chain(role).collect(),
        cwd,
        env,
        prompt,
        resume: start.resume.clone(),
        session_cost: if resumes { task.run.spend.session } else { MicroUsd(0) },
        budget: start.budget,
        model: job.and_then(|job| job.model.clone()).or_else(|| agent.model.clone()),
        max_steps: agent.max_steps,
        tools: job.is_none_or(Job::has_tools),
        tool_server: None,
        dry: false,
        tariff: tariff(agent),
        limits: TurnLimits {
            turn: limit(task),
            // The caller's own limit ends a silent job.
            may_be_silent: job.is_some(),
            ..limits(&task.config)
        },
        redactor: Redactor::default(),
        sandbox: None,
        stream_output: job.is_some(),
        inherit,
        // With our own protocol, or with plain text, the transcript already has every line.
        record: (!matches!(speaks, Protocol::Command | Protocol::Text))
            .then(|| task.runtime.state.join("raw").join(format!("{}.jsonl", task.run.id))),
    };
    let unasked = agent.preset_definition().into_iter().flat_map(|preset| preset.unasked.iter());
    let is_there = |name: &&String| top.join(name).symlink_metadata().is_ok();
    let unasked: Vec<String> = unasked.filter(is_there).cloned().collect();
    for name in &unasked {
        task.note(format!(
            "{name} of the repository can let the agent act without asking: the policy doesn't bind it \
             there, and the wall does"
        ));
    }
    let place = task.executor.clone();
    let spec = if place.is_none() {
        let owner = match job {
            Some(_) => scratch_owner(task).0,
            None => task.owner(),
        };
        let grants = task.commands.grants(&top);
        behind_wall(&task.runtime.wall, &owner, agent, spec, grants)?
    } else {
        // The executor has a wall of its own.
        let mut spec = spec;
        agent_home::enforce(agent, None, &mut spec.command, &mut spec.env);
        spec
    };
    let fallback = agent.fallback.clone();
    let agent = name.clone();
    let (model, version) = (None, None);
    let equipment = Equipment { agent, can, model, version, place, folder, fallback, unasked };
    Ok((spec, equipment))
}

/// The agent of a run, its name, and the arguments that pass on which role a caller wants. A role
/// is a name that the configuration doesn't define, and the agent itself may.
fn agent(task: &TaskContext) -> Result<(&String, &AgentConfig, Vec<String>), TaskError> {
    let (repo, config) = (task.run.work.repo(), &task.config);
    let job = task.run.work.job();
    let instead = task.run.agent.instead.as_ref();
    if let Some((name, agent)) = instead.and_then(|name| config.agents.get_key_value(name)) {
        return Ok((name, agent, Vec::new()));
    }
    let named = job.and_then(|job| job.agent.as_ref());
    if let Some((name, agent)) = named.and_then(|name| config.agents.get_key_value(name)) {
        let role = job.and_then(|job| job.equipment.role.as_ref());
        return Ok((name, agent, role_arguments(agent, role)));
    }
    let named = job.and_then(|job| job.equipment.role.as_ref()).or(named);
    let service = job.and(config.service.as_ref()).and_then(|service| service.agent.as_ref());
    let of_service = service.and_then(|name| config.agents.get_key_value(name));
    let (name, agent) = of_service.or_else(|| config.agent_of(repo)).ok_or_else(|| {
        format!("{repo} has no agent: name one with `agent`, or set repos.\"{repo}\".agent")
    })?;
    Ok((name, agent, role_arguments(agent, named)))
}

/// The arguments that pass a role on to the agent that defines it.
fn role_arguments(agent: &AgentConfig, role: Option<&String>) -> Vec<String> {
    let role = role.filter(|_| agent.protocol() == Protocol::Claude);
    role.map(|role| vec!["--agent".to_owned(), role.clone()]).unwrap_or_default()
}

/// The longest that a turn may take: the rest of the caller's limit, or the limit in the
/// configuration.
pub(super) fn limit(task: &TaskContext) -> Duration {
    let usual = Duration::from_secs(60 * task.config.limits.turn_minutes);
    task.run.work.job().map_or(usual, |job| {
        let worked =
            task.run.progress.admitted.map_or(0, |since| clock::wall().since(since).max(0));
        // An outage that held the job took from its time.
        let due = task.run.progress.due.map(|due| due.since(clock::wall()));
        let left = (job.limit_ms - worked).min(due.unwrap_or(i64::MAX));
        Duration::from_millis(u64::try_from(left).unwrap_or(0))
    })
}

/// The owner of the scratch directory of a job without a clone, and the name of the directory if it
/// had one before. A conversation always gets the same one, because agents store theirs by folder.
pub(super) fn scratch_owner(task: &TaskContext) -> (String, Option<String>) {
    match task.run.work.job().map(|job| &job.kind) {
        Some(JobKind::Converse { session }) => {
            let name = Digest::of(&[session.as_bytes()]).to_string();
            (name.clone(), Some(name))
        }
        _ => {
            (task.owner(), task.run.agent.equipment.as_ref().and_then(|known| known.folder.clone()))
        }
    }
}

/// Completes `env` with the variables that the agent inherits from us, its settings and its
/// secrets, and remembers the secrets for redaction.
async fn environment(
    config: &Config,
    secrets: &Secrets,
    agent: &AgentConfig,
    mut env: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, TaskError> {
    let our_env = |name: &str| std::env::var(name).ok();
    env.extend(
        agent.inherited_variables().into_iter().filter_map(|n| Some((n.clone(), our_env(n)?))),
    );
    env.extend(agent.fixed_variables());
    if let Some(home) = &agent.home {
        agent_home::plant_guards(agent, home)?;
    }
    for (path, text) in agent.settings_files() {
        let home = agent.home.as_deref().unwrap_or(Path::new("/"));
        write_once(home, &path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    env.iter()
        .filter(|(name, _)| names_a_secret(name))
        .for_each(|(_, value)| redact::remember_likely(value));
    known_secrets::remember_settings(&env);
    for (_, file) in agent_home::copied_files(agent, &our_env) {
        known_secrets::remember_login(&file);
    }
    if let Some(home) = &agent.home {
        known_secrets::remember_logins(agent, home);
    }
    for (name, reference) in &agent.secrets {
        let secret = outages::secret_from(config, secrets, reference).await?;
        env.insert(name.clone(), secret.expose_secret().to_owned());
    }
    // An agent with a HOME of its own has no git identity there.
    for (name, value) in committer() {
        env.entry(name.to_owned()).or_insert(value);
    }
    Ok(env)
}

fn tariff(agent: &AgentConfig) -> Tariff {
    match (agent.plan, agent.price) {
        (Plan::Flat, _) => Tariff::Flat,
        (Plan::Metered, Some(price)) => Tariff::Priced { input: price.input, output: price.output },
        (Plan::Metered, None) => Tariff::Reported,
    }
}

fn limits(config: &Config) -> TurnLimits {
    let (limits, seconds) = (&config.limits, Duration::from_secs);
    TurnLimits {
        turn: seconds(60 * limits.turn_minutes),
        silence: seconds(limits.silence_seconds),
        may_be_silent: false,
        tool: seconds(60 * limits.tool_minutes),
        memory: limits.memory_mib.saturating_mul(1024 * 1024),
    }
}

/// The specification of a question's turn: no worktree, no tools, no record.
///
/// # Errors
/// A line that says why the turn can't start.
pub(super) async fn of_question(
    runtime: &Context,
    question: &AgentQuestion,
    cwd: PathBuf,
) -> Result<TurnSpec, TaskError> {
    let grants = Grants { write: vec![cwd.clone()], ..Grants::default() };
    without_own_tools(runtime, question, cwd, grants, None).await
}

/// The specification of a session of the breakglass agent: a question to an agent that is offered the
/// tools of afk, and that reaches its model and nothing else over the network.
///
/// # Errors
/// A line that says why the session can't start.
pub(in crate::runtime) async fn of_breakglass(
    runtime: &Context,
    question: &AgentQuestion,
    cwd: PathBuf,
    server: ToolServer,
) -> Result<TurnSpec, TaskError> {
    let grants = Grants {
        read: vec![PathBuf::from(&server.program)],
        write: vec![cwd.clone()],
        network: Some(NetworkPolicy::Proxy),
        ..Grants::default()
    };
    let mut spec = without_own_tools(runtime, question, cwd, grants, Some(server)).await?;
    // A call may wait for a person as long as the arming lasts.
    spec.limits.may_be_silent = true;
    Ok(spec)
}

async fn without_own_tools(
    runtime: &Context,
    question: &AgentQuestion,
    cwd: PathBuf,
    grants: Grants,
    tool_server: Option<ToolServer>,
) -> Result<TurnSpec, TaskError> {
    let config = runtime.config();
    let name = &question.agent;
    let agent = config.agents.get(name).ok_or_else(|| format!("there is no [agents.{name}]"))?;
    let agent = &agent_home::logged_in(agent, &|name: &str| std::env::var(name).ok());
    let env =
        environment(&config, &runtime.services().secrets, agent, question.env.clone()).await?;
    let spec = TurnSpec {
        owner: question.owner.clone(),
        speaks: agent.protocol(),
        acp: agent.acp_profile(),
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
        tool_server,
        dry: false,
        tariff: tariff(agent),
        limits: TurnLimits { turn: question.limit, ..limits(&config) },
        redactor: Redactor::default(),
        sandbox: None,
        stream_output: false,
        inherit: Vec::new(),
        record: None,
    };
    behind_wall(&runtime.wall, &question.owner, agent, spec, grants)
}

/// The specification of a turn that ends before its prompt, as a run's would be: with the same command,
/// login, environment, model, mode and wall.
///
/// # Errors
/// A line that says why the turn can't start.
pub(crate) async fn of_dry_turn(
    config: &Config,
    wall: &Wall,
    secrets: &Secrets,
    agent: &AgentConfig,
    cwd: PathBuf,
) -> Result<TurnSpec, TaskError> {
    let agent = &agent_home::logged_in(agent, &|name: &str| std::env::var(name).ok());
    let env = environment(config, secrets, agent, BTreeMap::new()).await?;
    let grants = Grants { write: vec![cwd.clone()], ..Grants::default() };
    let spec = TurnSpec {
        owner: DRY_OWNER.to_owned(),
        speaks: agent.protocol(),
        acp: agent.acp_profile(),
        command: program(agent),
        cwd,
        env,
        prompt: Untrusted::default(),
        resume: None,
        session_cost: MicroUsd(0),
        budget: None,
        model: agent.model.clone(),
        max_steps: agent.max_steps,
        tools: true,
        tool_server: None,
        dry: true,
        tariff: tariff(agent),
        limits: limits(config),
        redactor: Redactor::default(),
        sandbox: None,
        stream_output: false,
        inherit: Vec::new(),
        record: None,
    };
    behind_wall(wall, DRY_OWNER, agent, spec, grants)
}

/// The owner of the processes of a dry turn.
const DRY_OWNER: &str = "dry-turn";

/// Puts an agent's turn behind the wall, with a home that has its login and its settings.
fn behind_wall(
    wall: &Wall,
    owner: &str,
    agent: &AgentConfig,
    mut spec: TurnSpec,
    grants: Grants,
) -> Result<TurnSpec, TaskError> {
    let our_env = |name: &str| std::env::var(name).ok();
    let hosts = agent.preset_definition().map(|preset| preset.hosts.clone());
    let parts = [grants.read, program_files(&spec.command), agent_home::readable(agent)];
    let enforced = agent_home::enforced_folder(wall.state(), agent)?;
    agent_home::enforce(agent, enforced.as_deref(), &mut spec.command, &mut spec.env);
    let read = parts.into_iter().flatten().chain(enforced).collect();
    let forget = agent.preset_definition().map(|preset| preset.forget.clone());
    let grants = Grants {
        read,
        forget: forget.unwrap_or_default(),
        home: agent.home.clone(),
        seeds: agent_home::seeds(agent, &our_env),
        hosts: hosts.unwrap_or_default(),
        ..grants
    };
    spec.sandbox = wall.sandbox(Owner::Named(owner), grants)?;
    if let Some(sandbox) = &spec.sandbox {
        agent_home::keep_folders_at_home(agent, sandbox, &mut spec.env, &our_env);
        // The agent may have renewed its login there.
        if let Some(home) = &sandbox.home {
            known_secrets::remember_logins(agent, home);
        }
    }
    Ok(spec)
}

/// What an agent's program consists of: its own folder, or the outermost `node_modules` above it.
fn program_files(command: &[String]) -> Vec<PathBuf> {
    let found = command.first().and_then(|program| vendor::on_path(program));
    let Some(real) = found.and_then(|path| path.canonicalize().ok()) else { return Vec::new() };
    let modules = real.ancestors().filter(|path| path.ends_with("node_modules")).last();
    let whole = modules.or_else(|| real.parent());
    let home = user_home();
    match whole {
        // A folder above the home would show all of it.
        Some(whole)
            if !home.is_some_and(|home| home.starts_with(whole)) && whole.parent().is_some() =>
        {
            vec![whole.to_owned()]
        }
        _ => vec![real],
    }
}

/// The agent's command. An npm shim is replaced by the program behind it.
fn program(agent: &AgentConfig) -> Vec<String> {
    let mut command = agent.command();
    let vendor = agent.preset_definition().and_then(|preset| preset.vendor.as_deref());
    if let (Some(first), Some(pattern)) = (command.first_mut(), vendor)
        && let Some(found) = vendor::on_path(first)
        && let Some(real) = vendor::program_behind_shim(&found, pattern)
    {
        *first = real.display().to_string();
    }
    command
}

/// Writes a file in an agent's home unless it exists.
fn write_once(home: &Path, path: &Path, text: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(home)?;
    match write_below(home, path.strip_prefix(home).unwrap_or(path), text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// The repository's own template of the first prompt, as of the run's base commit.
async fn template(pool: &Pool, base: &Sha, path: &str) -> Result<String, TaskError> {
    let name = format!("{base}:{path}");
    let shown = pool.base().git().ask(&["show", &name]).await?;
    if shown.ok {
        Ok(shown.text())
    } else {
        let at = base.short();
        Err(format!("{FILE} names the prompt {path}, which is not there at {at}").into())
    }
}
