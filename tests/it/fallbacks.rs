//! Agents that take each other's place, and conversations that begin anew: what reaches a human, and
//! what the next agent gets to know.

use afk::core::model::approval::EscalationKind;
use afk::core::model::command::{Accepted, Command};
use afk::core::model::id::{Repo, RunId};
use afk::core::model::job::{Job, JobId, JobKind, JobStatus, QuestionEquipment};
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Runtime;

use crate::support::world::{END, WORK, World, command, ended, until};

/// Submits a job and awaits its end.
async fn job(runtime: &Runtime, n: u8, kind: JobKind, prompt: &str) -> Run {
    let job = Job {
        id: JobId::new([n; 6]),
        kind,
        agent: Some("shell".into()),
        model: None,
        budget: None,
        limit_ms: 60_000,
        metadata: None,
        equipment: QuestionEquipment::default(),
    };
    let (repo, job) = (Repo::parse("acme/thing").unwrap(), Some(Box::new(job)));
    let submit = Command::Submit { repo, prompt: prompt.into(), priority: None, job };
    let Ok(Accepted::Queued { run, .. }) = command(runtime, submit).await else {
        panic!("the job was refused")
    };
    let of = |run: RunId| move |known: &afk::runtime::Snapshot| known.fleet.runs.get(&run).cloned();
    let ended = until(runtime, "the end of the job", |known| {
        of(run)(known).filter(|run| run.progress.outcome.is_some())
    });
    ended.await.as_ref().clone()
}

/// The prompts in the transcript of a run.
fn prompts(world: &World, run: u64) -> Vec<String> {
    let transcript = world.transcript(run);
    let lines = transcript.lines().filter(|line| line.contains("\"type\":\"prompt\""));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_login_is_asked_about_until_it_works_while_another_agent_goes_on() {
    const REFUSED: &str =
        r#"printf '{"type":"end","status":"failed","code":401,"reason":"invalid key"}\n'"#;
    let script = format!(
        r#"if [ "$WHO" = other ]; then
{WORK}
while ! [ -e "$OUT/go" ]; do sleep 0.1; done
{END}
exit 0
fi
case "$prompt" in *"Reply with the word OK"*)
if [ -e "$OUT/mended" ]; then {END}; exit 0; fi
touch "$OUT/tried" ;;
esac
{REFUSED}"#
    );
    let world = World::new(&script);
    let mut config = world.config();
    config.agent = Some("shell".into());
    let mut other = config.agents["shell"].clone();
    other.set.insert("WHO".into(), "other".into());
    config.agents.insert("other".into(), other);
    config.agents.get_mut("shell").unwrap().fallback = vec!["other".into()];
    (config.outages.ask_minutes, config.outages.longest_pause_seconds) = (0, 1);
    let runtime = world.try_start(config, None).await.unwrap();
    let asked = until(&runtime, "the question about the login", |known| {
        let mut open = known.fleet.inbox().into_iter();
        open.find(|asked| asked.kind == EscalationKind::Outage).cloned()
    })
    .await;
    assert!(asked.title.clean_line().contains("shell doesn't accept its login"), "{asked:?}");
    until(&runtime, "a try that fails", |known| {
        let outage = known.fleet.outages.all().next()?;
        (outage.failures >= 3 && world.path("tried").exists()).then_some(())
    })
    .await;
    let open = runtime.handle.snapshots.borrow().fleet.inbox().len();
    assert_eq!(open, 1, "one question, which stays open");
    std::fs::write(world.path("mended"), "").unwrap();
    until(&runtime, "the end of the outage", |known| {
        (known.fleet.outages.is_empty() && known.fleet.inbox().is_empty()).then_some(())
    })
    .await;
    std::fs::write(world.path("go"), "").unwrap();
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert_eq!(run.agent.in_place(), Some(("shell", "other")));
}

#[tokio::test(flavor = "multi_thread")]
async fn job_whose_conversation_is_full_goes_on_in_one_that_knows_the_work() {
    let script = format!(
        r#"case "$prompt" in *"What was done so far"*) {END}
exit 0 ;;
esac
printf '{{"type":"session","id":"s1"}}\n{{"type":"text","text":"Half of it is written."}}\n'
echo half > half && git add half && git $US commit -qm 'Begin it'
printf '{{"type":"end","status":"failed","code":400,"reason":"prompt is too long: 2 > 1 maximum"}}\n'"#
    );
    let world = World::new(&script);
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let runtime = world.start().await;
    let run = job(&runtime, 1, JobKind::Execute { clone: true }, "do it").await;
    runtime.stop().await;
    assert_eq!(run.job_status(), JobStatus::Completed, "{}", run.progress.why.clean_line());
    let prompts = prompts(&world, run.id.0);
    assert_eq!(prompts.len(), 2, "{prompts:?}");
    for part in ["do it", "Half of it is written.", "Begin it", "+half"] {
        assert!(prompts[1].contains(part), "{part}: {}", prompts[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_whose_conversation_is_full_goes_on_in_one_that_knows_what_was_said() {
    let script = format!(
        r#"case "$prompt" in
*"What was done so far"*) printf '{{"type":"session","id":"s2"}}\n{{"type":"text","text":"blue"}}\n'; {END} ;;
*'"session":"s1"'*) printf '{{"type":"end","status":"failed","code":400,"reason":"prompt is too long: 2 > 1 maximum"}}\n' ;;
*) printf '{{"type":"session","id":"s1"}}\n{{"type":"text","text":"I keep it in mind."}}\n'; {END} ;;
esac"#
    );
    let world = World::new(&script);
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let runtime = world.start().await;
    let kind = || JobKind::Converse { session: "s".into() };
    let first = job(&runtime, 1, kind(), "the colour is blue").await;
    assert_eq!(first.job_status(), JobStatus::Completed, "{}", first.progress.why.clean_line());
    let second = job(&runtime, 2, kind(), "which colour?").await;
    runtime.stop().await;
    assert_eq!(second.job_status(), JobStatus::Completed, "{}", second.progress.why.clean_line());
    let prompts = prompts(&world, second.id.0);
    for part in ["which colour?", "the colour is blue", "I keep it in mind."] {
        assert!(prompts[1].contains(part), "{part}: {}", prompts[1]);
    }
}
