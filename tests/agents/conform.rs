//! The conformance of a preset: its pinned program goes through loop, deny, steer, interrupt, kill,
//! fix-forward and limits against the scripted model, and each cell of its row in assets/agents.toml is
//! compared with what the program did. `tests/conform.sh` runs this and prints the rows.
//!
//! A row is written to `$AFK_CONFORM/PRESET.md`, also where the test fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use afk::config::ability::{Abilities, Reported};
use afk::config::agent::presets;
use afk::core::model::approval::{Answer, Escalation, EscalationKind};
use afk::core::model::capability::Steer;
use afk::core::model::command::Command;
use afk::core::model::permission::Tool;
use afk::core::model::run::{Outcome, Run};
use afk::runtime::Runtime;
use serde_json::Value;

use crate::presets::Make;
use crate::probe::{self, PROBES};
use crate::support::model::{Model, ModelRequest, Reply};
use crate::support::world::{World, command, run_of, until_within};
use crate::support::{journal_id, processes_with};
use crate::{TEST, WORK, sessions, shared, walled};

/// The longest that one scenario may take; the slowest agent starts in ten seconds.
const LIMIT: Duration = Duration::from_secs(150);
/// The tokens that the scripted model counts for one answer.
const TOKENS: u64 = 1050;

/// The model that a test chooses in place of the agent's own.
const MODELS: &[(&str, &str)] = &[
    ("claude", "claude-sonnet-4-5"),
    ("codex", "gpt-5.4"),
    ("opencode", "fake/n"),
    ("claude-agent-acp", "sonnet"),
    ("codex-acp", "gpt-6.1-sol[low]"),
    ("gemini", "gemini-2.5-pro"),
    ("qwen", "n"),
    ("copilot", "n"),
    ("pi", "fake/n"),
];

/// What was seen of one cell: the name of the column, and the words of the table for it.
type Cells = BTreeMap<&'static str, String>;

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// A scenario as a step of the loop, done in words or failed in words.
fn scenario(
    name: &'static str,
    results: &mut Vec<(&'static str, Result<(), String>)>,
    cells: &mut Cells,
    run: impl FnOnce() -> Cells + Send + 'static,
) {
    let ended = std::thread::spawn(run).join();
    let ended = ended.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "it panicked".to_owned())
    });
    results.push((name, ended.map(|seen| cells.extend(seen))));
}

/// Runs every scenario of a preset, writes its row, and compares it with the table.
pub fn conforms(preset: &'static str, make: Make) {
    let table = &presets()[preset].can;
    let (mut results, mut cells) = (Vec::new(), Cells::new());
    scenario("loop", &mut results, &mut cells, move || whole_loop(make, table));
    scenario("deny", &mut results, &mut cells, move || denies(make, table));
    scenario("steer, interrupt", &mut results, &mut cells, move || steers(make, table));
    scenario("kill", &mut results, &mut cells, move || is_killed(make, table));
    scenario("fix-forward", &mut results, &mut cells, move || fixes_forward(make, table));
    scenario("limits", &mut results, &mut cells, move || waits_out_limits(make));
    scenario("model", &mut results, &mut cells, move || uses_the_model(preset, make));
    let stated: BTreeMap<&str, String> = table.cells().into_iter().collect();
    let differs = |(cell, seen): (&&str, &String)| {
        (stated[cell] != *seen)
            .then(|| format!("{cell}: the table says {:?}, {seen:?} was seen", stated[cell]))
    };
    let mut wrong: Vec<String> =
        cells.iter().filter_map(|(cell, seen)| differs((cell, seen))).collect();
    let failed = results.iter().filter_map(|(name, result)| {
        let why = result.as_ref().err()?;
        Some(format!("{name}: {}", why.lines().next().unwrap_or_default()))
    });
    wrong.extend(failed);
    let row = row(preset, table, &results, &cells);
    if let Ok(folder) = std::env::var("AFK_CONFORM") {
        std::fs::write(PathBuf::from(folder).join(format!("{preset}.md")), &row).unwrap();
    }
    println!("{row}");
    assert_eq!(wrong, Vec::<String>::new(), "{preset}");
}

/// The row in Markdown: the scenarios, the cells, and a reason for each no. A cell that no scenario
/// tried is the table's own, and is marked.
fn row(
    preset: &str,
    table: &Abilities,
    results: &[(&str, Result<(), String>)],
    cells: &Cells,
) -> String {
    let mark = |result: &Result<(), String>| if result.is_ok() { "passes" } else { "FAILS" };
    let marks = results.iter().filter(|(name, _)| *name != "model").map(|(_, result)| mark(result));
    let texts = table.cells().into_iter().map(|(cell, stated)| match cells.get(cell) {
        Some(seen) => seen.clone(),
        None => format!("{stated} †"),
    });
    let version = presets()[preset].tested.join(", ");
    let logins: Vec<&str> =
        presets()[preset].logins.iter().map(|login| login.kind.as_str()).collect();
    let all: Vec<String> = [preset.to_owned(), version]
        .into_iter()
        .chain(marks.map(str::to_owned))
        .chain(texts)
        .chain([logins.join(", ")])
        .collect();
    let mut lines = vec![format!("| {} |", all.join(" | "))];
    lines.extend(table.no.iter().map(|(cell, why)| format!("no {preset} {cell}: {why}")));
    lines.join("\n") + "\n"
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(work)
}

fn run(runtime: &Runtime) -> Option<Run> {
    run_of(&runtime.handle.snapshots.borrow().fleet, 1).cloned()
}

/// Follows the run of the world's issue to its end, and answers the agent's questions on the way.
pub async fn follow(
    runtime: &Runtime,
    mut answer: impl FnMut(&Escalation) -> Option<Answer>,
) -> Run {
    let mut answered = BTreeSet::new();
    loop {
        let next = until_within(runtime, "the end of the run, or a question", LIMIT, |snapshot| {
            let mut open = snapshot.fleet.escalations.values();
            let open = open.find(|e| e.open() && !answered.contains(&(e.id, e.digest)));
            let run = run_of(&snapshot.fleet, 1);
            let ended = run.filter(|run| run.progress.outcome.is_some()).cloned();
            match (open, ended) {
                (_, Some(run)) => Some(Err(run)),
                (Some(open), None) => Some(Ok(open.as_ref().clone())),
                (None, None) => None,
            }
        });
        match next.await {
            Err(run) => return run,
            Ok(open) => {
                answered.insert((open.id, open.digest));
                if let Some(answer) = answer(&open) {
                    let (escalation, digest) = (open.id, open.digest);
                    let action = Command::Answer { escalation, digest, answer };
                    // The agent may have withdrawn it meanwhile.
                    let _ = command(runtime, action).await;
                }
            }
        }
    }
}

fn assert_done(run: &Run) {
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{}", run.progress.why.clean_line());
}

/// The events of the run's transcript, with the number of their turn.
pub fn events(world: &World) -> Vec<(u64, Value)> {
    let transcript = world.transcript(1);
    let lines = transcript.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| (line["turn"].as_u64().unwrap_or(0), line["event"].clone())).collect()
}

/// Loop: each kind of tool once, then test, change, commit, gate, push and CI.
fn whole_loop(make: Make, table: &Abilities) -> Cells {
    let (step, offered) = (AtomicUsize::new(0), std::sync::Arc::new(Mutex::new(BTreeSet::new())));
    let seen = offered.clone();
    let model = Model::start(move |asked| {
        seen.lock().unwrap().extend(asked.tools.keys().cloned());
        loop {
            let now = step.fetch_add(1, Ordering::SeqCst);
            let probe = now.checked_sub(1).and_then(|at| PROBES.get(at));
            match (now, probe) {
                (0, _) => return Reply::Run("echo \"CWD=$PWD=\"".into()),
                (_, Some(probe)) => {
                    if let Some(reply) = probe::call(probe, asked) {
                        return reply;
                    }
                }
                (now, None) if now == PROBES.len() + 1 => return Reply::Run(TEST.into()),
                (now, None) if now == PROBES.len() + 2 => return Reply::Run(WORK.into()),
                _ => return Reply::Say("Done: it is tested and committed.".into()),
            }
        }
    });
    let rules = "[ci]\ncommand = 'sh tests/state.sh'\n[permissions]\ndefault = 'allow'\n\
                 [gate]\nexempt = ['conform.txt']";
    let world = make(&model, walled().rules(rules));
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |open| match open.kind {
            EscalationKind::Question => Some(Answer::Text { text: "1".into() }),
            EscalationKind::Permission => Some(Answer::Approve),
            _ => None,
        });
        let run = run.await;
        runtime.stop().await;
        run
    });
    let events = events(&world);
    let of = |kind: &str| events.iter().filter(|(_, event)| event["type"] == kind).count();
    assert_done(&run);
    let mut asks = BTreeSet::new();
    for (_, event) in events.iter().filter(|(_, event)| event["type"] == "permission_request") {
        asks.insert(event["ask"]["tool"].as_str().unwrap_or_default().to_owned());
    }
    let kinds = [Tool::Shell, Tool::Edit, Tool::Read, Tool::Web, Tool::Other];
    let offered = offered.lock().unwrap();
    // The tools of other kinds were not offered, so that the table's word stands.
    let tried = |kind: Tool| {
        let mut of_kind = PROBES.iter().filter(|probe| probe.kind == Some(kind));
        kind == Tool::Shell || of_kind.any(|probe| probe.is_in(&offered))
    };
    let is_asked = |kind: &&Tool| {
        if tried(**kind) { asks.contains(kind.as_str()) } else { table.asks.contains(kind) }
    };
    let asks: Vec<&str> = kinds.iter().filter(is_asked).map(|kind| kind.as_str()).collect();
    println!("offered: {offered:?}");
    println!("usage events: {}", of("usage"));
    let spend = run.spend.total;
    // How it is told shows in the sum over several turns.
    let money = match (spend.usd.0 > spend.estimated.0, table.money) {
        (false, _) => "no".to_owned(),
        (true, Reported::No) => "yes".to_owned(),
        (true, told) => told.as_str().to_owned(),
    };
    Cells::from([
        ("asks", if asks.is_empty() { "no".to_owned() } else { asks.join(", ") }),
        ("plan", yes(of("plan") > 0)),
        ("diffs", yes(of("diff") > 0)),
        ("questions", yes(of("question") > 0)),
        ("subagents", yes(probe::SUBAGENTS.iter().any(|name| offered.contains(*name)))),
        ("money", money),
    ])
}

/// Deny: the model reads the reason of a refusal within the turn, and an edited command runs.
fn denies(make: Make, table: &Abilities) -> Cells {
    let model = Model::start(|asked| {
        if asked.whole.contains("git add state") {
            Reply::Say("Done.".into())
        } else if asked.whole.contains("touch .git/original") {
            Reply::Run(format!("wc -c .git/mark*; {TEST}; {WORK}"))
        } else if asked.whole.contains("do the work instead") {
            Reply::Run("touch .git/original".into())
        } else if asked.whole.contains("touch denied") {
            // The reason may come with afk's next message.
            Reply::Say("I stop.".into())
        } else {
            Reply::Run("touch denied".into())
        }
    });
    let world = make(&model, walled().rules("[permissions]\nask = ['shell(touch*)']"));
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |open| {
            let asked =
                open.permission.as_ref().filter(|_| open.kind == EscalationKind::Permission)?;
            Some(if open.detail.as_received().contains("touch denied") {
                Answer::Deny { reason: "do the work instead".into() }
            } else if asked.editable {
                Answer::Edit { command: "printf x > .git/marker".into() }
            } else {
                Answer::Approve
            })
        })
        .await;
        runtime.stop().await;
        run
    });
    assert_done(&run);
    let events = events(&world);
    let asked = events.iter().filter(|(_, event)| event["type"] == "permission_request");
    assert!(asked.count() >= 2, "it asked for no permission");
    let files = crate::support::git(&world.remote(), &["ls-tree", "--name-only", "master"]);
    assert!(!files.contains("denied"), "the denied command ran");
    let requests = model.requests();
    assert!(requests.iter().any(|asked| asked.whole.contains("do the work instead")));
    let edits = requests.iter().any(|asked| asked.whole.contains("1 .git/marker"));
    let mut cells = Cells::from([("edits", yes(edits))]);
    // Otherwise the turn ends, and the model is asked again with afk's own message.
    let reads = requests.iter().any(|asked| {
        asked.whole.contains("touch denied") && !asked.whole.contains("Go on without it")
    });
    // A message that is taken in the turn may be faster.
    if reads || table.steers != Steer::MidTurn {
        cells.insert("reads_refusals", yes(reads));
    }
    cells
}

/// Steer, interrupt: a message is taken in the turn or after it, and an interrupt leaves no process
/// and keeps the conversation.
fn steers(make: Make, table: &'static Abilities) -> Cells {
    let model = Model::start(|asked| {
        if asked.whole.contains("now finish it") {
            return match asked.whole.matches("scripted-end").count() {
                0 => Reply::Run(format!("{TEST}; {WORK}; echo scripted-end")),
                _ => Reply::Say("Finished.".into()),
            };
        }
        if asked.whole.contains("the other way") {
            return Reply::Run("touch .git/second; sleep 600".into());
        }
        if asked.whole.contains("touch .git/began") {
            // A message that waits for the end of the turn comes in another request.
            return Reply::Say("The first part is over.".into());
        }
        Reply::Run("touch .git/began; while ! [ -e .git/go ]; do sleep 0.1; done".into())
    });
    let world = make(&model, walled());
    let (taken_in_turn, run) = block_on(async {
        let runtime = world.start().await;
        let deny = |_: &Escalation| None;
        until_file(&world, "began").await;
        let id = run(&runtime).unwrap().id;
        let steer = Command::Steer { run: id, text: "go the other way".into() };
        command(&runtime, steer).await.unwrap();
        until_event(&world, "steered").await;
        std::fs::write(shared(&world, "began").unwrap().join("go"), "").unwrap();
        until_file(&world, "second").await;
        let all = model.requests();
        let other = all.iter().position(|asked| asked.whole.contains("the other way")).unwrap();
        let in_turn = !all[other].whole.contains("The first part is over.");
        command(&runtime, Command::Interrupt { run: id }).await.unwrap();
        until_within(&runtime, "the end of the turn", LIMIT, |s| {
            run_of(&s.fleet, 1).filter(|run| run.progress.outcome.is_some()).map(|_| ())
        })
        .await;
        let journal = journal_id(&world.state());
        until("the agent's processes are gone", || {
            processes_with("AFK_STATE", &journal).is_empty()
        })
        .await;
        let retry = Command::Retry { run: id, guidance: "now finish it".into() };
        command(&runtime, retry).await.unwrap();
        until_within(&runtime, "the next turn", LIMIT, |s| {
            run_of(&s.fleet, 1).filter(|run| run.progress.outcome.is_none()).map(|_| ())
        })
        .await;
        let ended = follow(&runtime, deny).await;
        runtime.stop().await;
        (in_turn, ended)
    });
    assert_done(&run);
    let steers = if taken_in_turn { "mid-turn" } else { "after the turn" };
    let kept = sessions(&world).len() == 1;
    assert_eq!(kept, table.resumes, "conversations: {:?}", sessions(&world));
    Cells::from([("steers", steers.to_owned()), ("interrupts", yes(true)), ("resumes", yes(kept))])
}

/// Kill: afk is killed in the middle of a tool; the next start ends the orphans, goes on in the same
/// conversation where the agent can, and repeats nothing.
fn is_killed(make: Make, table: &'static Abilities) -> Cells {
    if table.resumes {
        crate::survives_a_kill(make);
        return Cells::new();
    }
    let model = Model::start(|asked| {
        if asked.whole.contains("git add state") {
            Reply::Say("Done.".into())
        } else if asked.whole.contains("You were stopped") || asked.whole.contains("began") {
            Reply::Run(format!("{TEST}; {WORK}"))
        } else {
            Reply::Run("touch .git/began; sleep 600".into())
        }
    });
    let world = make(&model, walled());
    let mut up = world.up();
    block_on(until_file(&world, "began"));
    up.kill();
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |_| None).await;
        runtime.stop().await;
        run
    });
    assert_done(&run);
    Cells::new()
}

/// Fix-forward: a red CI is mended in the same conversation, and the tokens of both turns are booked
/// as the model counted them.
fn fixes_forward(make: Make, table: &'static Abilities) -> Cells {
    const MEND: &str = "echo more > tests/more.sh; echo ok > ci && echo true > tests/more.sh && \
        git add ci tests && git commit -qm 'Mend the CI'";
    let model = Model::start(|asked| {
        let red = asked.whole.contains("the-log-of-the-ci");
        match asked.spoken {
            _ if asked.whole.contains("Mend the CI") => Reply::Say("Mended.".into()),
            _ if red => Reply::Run(MEND.into()),
            0 => Reply::Run(TEST.into()),
            1 => Reply::Run(WORK.into()),
            _ => Reply::Say("Done.".into()),
        }
    });
    let rules = "[ci]\ncommand = 'cat ci || { echo the-log-of-the-ci; exit 1; }'\n\
                 [gate]\nexempt = ['ci']\ntests = ['tests/**']\n";
    let world = make(&model, walled().rules(rules));
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |_| None).await;
        runtime.stop().await;
        run
    });
    assert_done(&run);
    let conversations = sessions(&world).len();
    assert_eq!(conversations == 1, table.resumes, "it went on in {conversations} conversations");
    let spend = run.spend.total;
    let booked = spend.tokens_in + spend.tokens_out;
    let counted = model.requests().len() as u64 * TOKENS;
    let most = counted + model.side_calls() * TOKENS;
    println!("tokens: {booked} booked, {counted} counted, {most} with side calls");
    for asked in model.requests() {
        println!("  {}: {:.100}", asked.spoken, asked.user.replace('\n', " "));
    }
    let is_right = booked * 10 >= counted * 9 && booked * 10 <= most * 11;
    let tokens = match (booked, is_right) {
        (0, _) => "no".to_owned(),
        (_, true) if table.tokens != Reported::No => table.tokens.as_str().to_owned(),
        _ => format!("{booked} of {counted}"),
    };
    Cells::from([("tokens", tokens)])
}

/// Limits: a usage limit whose reset the agent tells is waited out without a human, and a request
/// that the model refuses for good never counts as done.
fn waits_out_limits(make: Make) -> Cells {
    let model = Model::start(|_| Reply::Refuse(400, "scripted refusal".into()));
    let world = make(&model, walled());
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |_| None).await;
        runtime.stop().await;
        run
    });
    assert_ne!(run.progress.outcome, Some(Outcome::Done), "a refused request counts as done");
    let refused = AtomicUsize::new(0);
    let model = Model::start(move |asked| {
        // Agents retry by themselves; this outlasts them.
        if refused.load(Ordering::SeqCst) < 1 {
            refused.fetch_add(usize::from(first_of_its_kind(asked)), Ordering::SeqCst);
            return Reply::Refuse(402, "Usage limit reached, try again in 3 seconds.".into());
        }
        crate::tdd(asked)
    });
    let world = make(&model, walled());
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |open| {
            panic!("a human is asked: {}", open.title.clean_line());
        });
        let run = run.await;
        runtime.stop().await;
        run
    });
    assert_done(&run);
    Cells::new()
}

/// A request of the conversation itself.
fn first_of_its_kind(asked: &ModelRequest) -> bool {
    asked.spoken == 0
}

/// Model: the requests name the model that the configuration does, or the run says that it can't.
fn uses_the_model(preset: &str, make: Make) -> Cells {
    let wanted = MODELS.iter().find(|(name, _)| *name == preset).unwrap().1;
    let model = Model::start(crate::tdd);
    let world = make(&model, walled()).agent(&format!("model = '{wanted}'"));
    let run = block_on(async {
        let runtime = world.start().await;
        let run = follow(&runtime, |_| None).await;
        runtime.stop().await;
        run
    });
    let requests = model.requests();
    // A provider before the model, or an effort behind it, is not part of its name.
    let short = wanted.rsplit('/').next().and_then(|name| name.split('[').next()).unwrap_or(wanted);
    let all = !requests.is_empty() && requests.iter().all(|asked| asked.model.contains(short));
    let models: BTreeSet<&str> = requests.iter().map(|asked| asked.model.as_str()).collect();
    println!(
        "models of the requests: {models:?}, wanted {wanted}; {}",
        run.progress.why.clean_line()
    );
    // Another model than the one that was asked for is worse than a refusal.
    assert!(all || requests.is_empty(), "{wanted} was asked for, and {models:?} did the work");
    Cells::from([("models", yes(all))])
}

/// Waits until a tool left a file of this name in the workspace.
async fn until_file(world: &World, name: &str) {
    until(name, || shared(world, name).is_some()).await;
}

async fn until_event(world: &World, kind: &str) {
    until(kind, || events(world).iter().any(|(_, event)| event["type"] == kind)).await;
}

async fn until(what: &str, is: impl Fn() -> bool) {
    let waiting = async {
        let mut every = tokio::time::interval(Duration::from_millis(50));
        while !is() {
            every.tick().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, waiting).await.is_ok(), "{what} did not come");
}

macro_rules! rows {
    ($($name:ident = $preset:literal, $make:path;)*) => {
        $(
            #[test]
            #[ignore = "needs real agents: tests/conform.sh installs them and runs this"]
            fn $name() {
                conforms($preset, $make);
            }
        )*
    };
}

rows! {
    claude = "claude", crate::presets::claude;
    codex = "codex", crate::presets::codex;
    opencode = "opencode", crate::presets::opencode;
    claude_agent_acp = "claude-agent-acp", crate::presets::claude_agent_acp;
    codex_acp = "codex-acp", crate::presets::codex_acp;
    gemini = "gemini", crate::presets::gemini;
    qwen = "qwen", crate::presets::qwen;
    copilot = "copilot", crate::presets::copilot;
    pi = "pi", crate::presets::pi;
}

#[test]
fn every_preset_has_a_row_of_the_table() {
    let rows: BTreeSet<&str> = MODELS.iter().map(|(name, _)| *name).collect();
    let all: BTreeSet<&str> = presets().keys().map(String::as_str).collect();
    assert_eq!(rows, all);
    assert!(presets().values().all(|preset| preset.can.steers != Steer::Unsupported));
}
