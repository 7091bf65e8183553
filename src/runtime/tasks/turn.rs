//! One turn of the agent: its events to the transcript, what concerns it to the core.

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::sync::mpsc;

use super::super::{clock, prompt};
use super::{Failure, Job};
use crate::agent::{Control, TurnSpec, command};
use crate::core::agent_event::{AgentEvent, TurnEnd};
use crate::core::input::RunFact;
use crate::core::run::TurnPrompt;
use crate::journal::transcript::Entry;

/// Events that are written together at most.
const BATCH: usize = 128;

pub(super) async fn run(
    job: &Job,
    told: &TurnPrompt,
    turn: u32,
    resume: Option<String>,
    mut controls: mpsc::Receiver<Control>,
) -> Result<RunFact, Failure> {
    let spec = match spec(job, told, resume).await {
        Ok(spec) => spec,
        Err(why) => {
            let end = TurnEnd::NotStarted { why: why.into() };
            return Ok(RunFact::Agent(AgentEvent::TurnEnd(end)));
        }
    };
    let entry = |event| Entry { at: clock::wall(), turn, event };
    let first = AgentEvent::Prompt { text: spec.prompt.clone() };
    job.shell.transcribe(job.run.id, &[entry(first)]);
    let (events, mut heard) = mpsc::channel::<AgentEvent>(BATCH * 2);
    let write = async {
        let mut batch = Vec::with_capacity(BATCH);
        while heard.recv_many(&mut batch, BATCH).await > 0 {
            for event in batch.iter().filter(|event| event.concerns_core()) {
                job.tell(RunFact::Agent(event.clone())).await;
            }
            let entries: Vec<Entry> = batch.drain(..).map(entry).collect();
            job.shell.transcribe(job.run.id, &entries);
        }
    };
    let work = async {
        let end = command::run(&job.shell.supervisor, &spec, &events, &mut controls).await;
        drop(events);
        end
    };
    let (end, ()) = tokio::join!(work, write);
    job.shell.transcribe(job.run.id, &[entry(AgentEvent::TurnEnd(end.clone()))]);
    Ok(RunFact::Agent(AgentEvent::TurnEnd(end)))
}

async fn spec(job: &Job, told: &TurnPrompt, resume: Option<String>) -> Result<TurnSpec, Failure> {
    let repo = job.run.work.repo();
    let (_, agent) = job.config.agent_of(repo).ok_or_else(|| {
        format!("{repo} has no agent: name one with `agent`, or set repos.\"{repo}\".agent")
    })?;
    let cwd = job.worktree()?;
    let mut env = job.environment();
    let our_env = |name: &str| std::env::var(name).ok();
    env.extend(agent.env.iter().filter_map(|name| Some((name.clone(), our_env(name)?))));
    env.extend(agent.set.iter().map(|(k, v)| (k.clone(), v.clone())));
    for (name, reference) in &agent.secrets {
        let secret = crate::secrets::resolve(reference, &our_env).map_err(|e| e.to_string())?;
        env.insert(name.clone(), secret.expose_secret().to_owned());
    }
    let test = match job.run.work.issue() {
        Some(_) => job.rules(job.pool().await?.as_ref(), &job.base()?).await?.test.clone(),
        None => String::new(),
    };
    let issue = job.issue.as_deref();
    let prompt = prompt::words(&job.run, issue, &test, told, resume.is_some());
    let limits = &job.config.limits;
    Ok(TurnSpec {
        owner: job.owner(),
        command: agent.command.clone(),
        cwd,
        env,
        prompt,
        resume,
        limit: Duration::from_secs(60 * limits.turn_minutes),
        silence: Duration::from_secs(limits.silence_seconds),
    })
}
