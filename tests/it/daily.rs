//! The daily job from the command line, against a real `afk up`: reading what waits, answering exactly that,
//! and acting on runs.

use std::io::Write;
use std::process::{Output, Stdio};

use afk::core::model::issue::Arming;
use afk::journal::Journal;
use serde_json::Value;

use crate::support::world::{END, Up, WORK, World, wait_until};
use crate::support::{afk, git, text};

/// An agent that requests permission for a command, runs it if it may, and does its work.
const ASKS: &str = "\
init; taken
ask a Bash '{\"command\":\"echo first >> asked\",\"description\":\"Leave a trace\"}'
eval \"$(allowed)\"
tool_result a ran
git $US add asked 2>/dev/null; work; result";

const ASK_ALL: &str = "[permissions]\nask = ['shell']";

/// An agent that asks which colour, and works once it is told blue.
fn asking() -> World {
    World::new(&format!(
        "echo '{{\"type\":\"question\",\"id\":\"q1\",\"text\":\"Which?\",\"options\":[\"red\",\"blue\"]}}'\n\
         read -r answer\ncase $answer in *blue*) {WORK}\n;; esac\n{END}"
    ))
}

/// An agent that waits for a message and then does its work.
fn waiting() -> World {
    World::new(&format!(
        "echo made > unfinished; git add unfinished\n\
         echo '{{\"type\":\"text\",\"text\":\"I am here\"}}'\nread -r steer\n\
         case $steer in *'the other way'*) echo '{{\"type\":\"steer_taken\"}}'; git rm -qf unfinished; {WORK}\n;; esac\n{END}"
    ))
}

fn command(world: &World, words: &[&str]) -> std::process::Command {
    let places = world.places();
    afk(&places.iter().map(String::as_str).chain(words.iter().copied()).collect::<Vec<_>>())
}

/// The exit code and the output of a command.
struct Printed {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Printed {
    fn from(output: Output) -> Self {
        let Output { status, stdout, stderr } = output;
        Self { code: status.code().unwrap(), out: text(&stdout), err: text(&stderr) }
    }
}

fn run(world: &World, words: &[&str]) -> Printed {
    command(world, words).output().unwrap().into()
}

/// The output of a command that succeeds.
fn prints(world: &World, words: &[&str]) -> String {
    let Printed { code, out, err } = run(world, words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    out
}

fn json(world: &World, words: &[&str]) -> Value {
    let out = prints(world, words);
    serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}"))
}

/// Asserts that a command ends with `code` and that its output names all of `parts`.
fn refused(world: &World, words: &[&str], code: i32, parts: &[&str]) {
    let printed = run(world, words);
    let all = format!("{}{}", printed.out, printed.err);
    assert_eq!(printed.code, code, "{words:?}: {all}");
    for part in parts {
        assert!(all.contains(part), "{words:?} doesn't say {part:?}: {all}");
    }
}

/// Waits until `is` holds for the recorded fleet.
async fn recorded(world: &World, what: &str, is: impl Fn(&afk::core::fleet::Fleet) -> bool) {
    let state = world.state();
    wait_until(what, || {
        Journal::open_read_only(&state).is_ok_and(|journal| journal.fold().is_ok_and(|f| is(&f)))
    })
    .await;
}

async fn asked(world: &World) {
    recorded(world, "the question", |fleet| !fleet.inbox().is_empty()).await;
}

/// Waits until the transcript of the first run has a text.
async fn transcribed(world: &World, part: &str) {
    wait_until(part, || world.transcript(1).contains(part)).await;
}

/// The digest in the command line of `afk show`.
fn shown_digest(card: &str) -> String {
    let (_, rest) = card.split_once("--digest ").unwrap_or_else(|| panic!("{card}"));
    rest.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_bound_to_the_card_that_was_shown() {
    let world = World::claude(ASKS).rules(ASK_ALL);
    let _up = world.up();
    asked(&world).await;
    let listed = prints(&world, &["inbox"]);
    assert!(listed.contains("e1") && listed.contains("acme/thing#1"), "{listed}");
    assert!(listed.contains("holds a permit"), "{listed}");
    let card = prints(&world, &["show", "e1"]);
    assert!(card.contains("  | echo first >> asked"), "{card}");
    let digest = shown_digest(&card);
    let digest = digest.as_str();
    for line in [
        format!("afk approve e1 --digest {digest}\n"),
        format!("afk approve e1 --digest {digest} --for-run\n"),
        format!("afk deny e1 --digest {digest} REASON\n"),
    ] {
        assert!(card.contains(&line), "{line} is not in {card}");
    }
    // Neither without a digest nor with another one, nor with fewer digits than an agent can't forge.
    for answer in [&["approve", "e1"][..], &["deny", "e1", "no"], &["answer", "e1", "yes"]] {
        refused(&world, answer, 2, &["needs --digest", "hint: `afk show e1`"]);
    }
    refused(&world, &["approve", "e1", "--digest", &digest[..8]], 2, &["is not a digest of 16"]);
    let other = ["approve", "e1", "--json", "--digest", "0000000000000000"];
    refused(
        &world,
        &other,
        1,
        &["has changed since you read it", "\"accepted\":false", "afk show e1"],
    );
    let whole = "0".repeat(64);
    let stale = "e1 has changed since you read it";
    refused(&world, &["approve", "e1", "--digest", &whole], 1, &[stale]);
    // A viewer is refused, and so is an answer that the question doesn't take.
    let viewer = ["approve", "e1", "--digest", digest, "--viewer", "--json"];
    refused(&world, &viewer, 1, &["viewers are read-only", "\"refusal\":\"viewer\""]);
    refused(&world, &["answer", "e1", "yes", "--digest", digest], 1, &["don't take this answer"]);
    assert_eq!(
        json(&world, &["inbox", "--json"])["inbox"][0]["digest"].as_str().unwrap()[..16],
        *digest
    );
    let approved = prints(&world, &["approve", "e1", "--digest", digest]);
    assert_eq!(approved, "e1 (acme/thing#1) approved: allow exactly this, once\n");
    // The first answer counts, and the card names it.
    let again = ["deny", "e1", "--digest", digest];
    refused(&world, &again, 1, &["e1 is no longer open", "answered first: approved"]);
    assert!(prints(&world, &["show", "e1"]).contains("closed: "), "the card is still open");
    // The log of a run lasts until its end.
    let log = prints(&world, &["log", "thing#1", "--last", "1000"]);
    assert!(log.contains("e1 permission asks a human"), "{log}");
    let log = prints(&world, &["log", "r1", "-f"]);
    assert!(log.contains("approved") && log.contains("ended as done"), "{log}");
    assert_eq!(git(&world.remote(), &["show", "master:asked"]), "first");
    assert_eq!(prints(&world, &["inbox"]), "no open questions\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn question_of_an_issue_is_answered_with_an_option() {
    let world = asking();
    let _up = world.up();
    asked(&world).await;
    let shown = json(&world, &["show", "e1", "--json"]);
    assert_eq!(shown["options"][1], "blue");
    assert_eq!(shown["state"]["state"], "open");
    let digest = shown["digest"].as_str().unwrap();
    let card = prints(&world, &["show", "e1"]);
    assert!(card.contains("  2. blue\n") && card.contains("--option NUMBER"), "{card}");
    // An issue and a run stand for their only open question.
    let third = ["answer", "thing#1", "--digest", digest, "--option", "3"];
    refused(&world, &third, 2, &["e1 has no option 3"]);
    refused(&world, &["answer", "r1", "", "--digest", digest], 1, &["the text is empty"]);
    let second = ["answer", "thing#1", "--digest", digest, "--option", "2", "--json"];
    let reply = json(&world, &second);
    assert_eq!(reply["accepted"], true);
    assert_eq!(reply["command"]["answer"]["text"], "blue");
    let followed = prints(&world, &["transcript", "#1", "--follow"]);
    assert!(followed.contains("? asks: Which?") && followed.contains("2. blue"), "{followed}");
    assert!(followed.contains("answered: blue"), "{followed}");
    for line in prints(&world, &["transcript", "r1", "--json"]).lines() {
        assert!(
            serde_json::from_str::<Value>(line).unwrap()["event"]["type"].is_string(),
            "{line}"
        );
    }
    let last = prints(&world, &["transcript", "r1", "--json", "--last", "2"]);
    assert_eq!(last.lines().count(), 2, "{last}");
    let run = json(&world, &["show", "r1", "--json"]);
    assert_eq!(run["run"]["outcome"], "done");
    assert_eq!(json(&world, &["show", "acme/thing#1", "--json"])["runs"][0]["run"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_of_an_ended_run_is_its_own_though_another_run_has_its_worktree() {
    let world = World::new(&format!(
        "case $prompt in *'acme/thing#2'*) echo other > other; git add other\n\
         echo '{{\"type\":\"text\",\"text\":\"I am here\"}}'; read -r steer ;; esac\n{WORK}\n{END}"
    ));
    world.issue(2, "Do it too", "armed_by = 'ana'");
    let _up = world.up();
    wait_until("the second run", || world.transcript(2).contains("I am here")).await;
    let landed = prints(&world, &["diff", "r1"]);
    assert!(landed.contains("+done") && !landed.contains("other"), "{landed}");
    // What a run leaves behind that was cancelled is kept as a commit.
    assert_eq!(run(&world, &["cancel", "r2"]).code, 0);
    wait_until("its end", || run(&world, &["diff", "r2"]).out.contains("+other")).await;
    let cancelled = prints(&world, &["diff", "r2"]);
    assert!(!cancelled.contains("+done"), "{cancelled}");
    assert_eq!(prints(&world, &["diff", "r1"]), landed);
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_of_a_run_that_landed_after_a_cancel_is_what_landed() {
    let world = World::new(&format!(
        "if [ -e \"$OUT/again\" ]; then\n{WORK}\n{END}\nexit 0\nfi\n\
         touch \"$OUT/again\"; echo other > other; git add other\n\
         echo '{{\"type\":\"text\",\"text\":\"I am here\"}}'; read -r steer"
    ));
    let _up = world.up();
    transcribed(&world, "I am here").await;
    assert_eq!(run(&world, &["cancel", "r1"]).code, 0);
    wait_until("the kept work", || run(&world, &["diff", "r1"]).out.contains("+other")).await;
    assert_eq!(run(&world, &["retry", "r1", "go on"]).code, 0);
    wait_until("the landing", || run(&world, &["explain", "r1"]).out.contains("landed")).await;
    let landed = prints(&world, &["diff", "r1"]);
    assert!(landed.contains("+done"), "{landed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn live_run_is_read_steered_and_cannot_be_released() {
    let world = waiting();
    let _up = world.up();
    transcribed(&world, "I am here").await;
    let diff = prints(&world, &["diff", "thing#1"]);
    assert!(diff.contains("+++ b/unfinished\n@@ -0,0 +1 @@\n+made\n"), "{diff}");
    let diff = json(&world, &["diff", "r1", "--json"]);
    assert!(diff["diff"].as_str().unwrap().contains("+made"), "{diff}");
    refused(&world, &["retry", "r1"], 1, &["r1 has not ended", "afk steer r1"]);
    refused(&world, &["release", "r1"], 1, &["r1 has not ended"]);
    refused(&world, &["steer", "r1", " "], 1, &["the text is empty"]);
    refused(&world, &["steer", "r1", "go", "--viewer"], 1, &["viewers are read-only"]);
    // The message comes from standard input.
    let mut steer = command(&world, &["steer", "#1", "-"]);
    steer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut steer = steer.spawn().unwrap();
    steer.stdin.take().unwrap().write_all(b"the other way").unwrap();
    let steered = Printed::from(steer.wait_with_output().unwrap());
    assert!(steered.out.starts_with("sent to the agent of acme/thing#1 \""), "{}", steered.err);
    let log = prints(&world, &["log", "r1", "-f", "--json"]);
    let last: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert!(last["line"].as_str().unwrap().contains("ended as done"), "{last}");
    assert!(last["seq"].is_i64() && last["event"].is_object(), "{last}");
    refused(&world, &["steer", "r1", "more"], 1, &["r1 has ended", "afk retry r1"]);
    refused(&world, &["retry", "r1"], 1, &["r1 is done"]);
    refused(&world, &["release", "r1"], 1, &["r1 holds no lock"]);
    refused(&world, &["cancel", "r7"], 1, &["there is no run r7", "afk status"]);
    refused(&world, &["cancel", "1"], 2, &["names neither", "#12"]);
    refused(&world, &["show", "other#1"], 1, &["afk has seen no issue other#1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_run_is_reopened_with_guidance() {
    let world = World::new(&format!(
        "case $prompt in *'use the force'*) {WORK}\n;; *) echo '{{\"type\":\"text\",\"text\":\"stuck\"}}'; sleep 1000;; esac\n{END}"
    ))
    .with("[limits]\ngrace_seconds = 1");
    let _up = world.up();
    transcribed(&world, "stuck").await;
    assert_eq!(json(&world, &["cancel", "thing#1", "--json"])["command"]["run"], 1);
    refused(&world, &["cancel", "r1"], 1, &["r1 has ended"]);
    // The tracker has reported that afk took the label off its issue.
    recorded(&world, "the end", |fleet| {
        let mut issues = fleet.issues.values();
        fleet.outbox.is_empty() && issues.all(|issue| issue.arming == Arming::NotReady)
    })
    .await;
    let reopened = prints(&world, &["retry", "thing#1", "use the force"]);
    assert!(reopened.starts_with("reopened acme/thing#1 \""), "{reopened}");
    let log = prints(&world, &["log", "r1", "--follow"]);
    assert!(log.contains("reopened by ") && log.contains("ended as done"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_run_waits_for_its_operator() {
    let script = "\
init; taken
say working
read -r CONTROL
case $CONTROL in *'\"subtype\":\"interrupt\"'*) ;; *) exit 9 ;; esac
line '{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":false,\"terminal_reason\":\"aborted_tools\",\"total_cost_usd\":0.01,\"usage\":{}}'";
    let world = World::claude(script);
    let _up = world.up();
    transcribed(&world, "working").await;
    let interrupted = prints(&world, &["interrupt", "thing#1"]);
    assert!(interrupted.contains("(r1); its conversation"), "{interrupted}");
    transcribed(&world, "interrupted").await;
    recorded(&world, "the end of the turn", |fleet| fleet.permits_used() == 0).await;
    let late = run(&world, &["interrupt", "r1"]);
    assert_eq!(late.code, 1, "{}{}", late.out, late.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_switch_is_turned_with_and_without_a_running_afk() {
    let world = World::new(END);
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let up = world.up();
    // A journal without a configuration yet counts as stopped.
    recorded(&world, "the configuration", |fleet| !fleet.policy.kill_switch).await;
    assert_eq!(prints(&world, &["kill-switch"]), "kill switch off: afk picks up issues\n");
    refused(&world, &["kill-switch", "on", "--viewer"], 1, &["viewers are read-only"]);
    refused(&world, &["kill-switch", "maybe"], 2, &["on", "off"]);
    let on = prints(&world, &["kill-switch", "on"]);
    assert_eq!(on, "kill switch ON: nothing new starts. `afk kill-switch off` lifts it\n");
    assert_eq!(json(&world, &["kill-switch", "--json"])["on"], true);
    drop::<Up>(up);
    prints(&world, &["kill-switch", "off"]);
    let fleet = Journal::open_read_only(&world.state()).unwrap().fold().unwrap();
    assert!(!fleet.operator_kill);
    // The other commands don't wait for the next afk.
    refused(&world, &["steer", "r1", "x"], 1, &["there is no run r1"]);
}

#[test]
fn commands_without_a_running_afk_are_refused_and_leave_no_record() {
    let world = asking();
    let up = world.up();
    let asked =
        || json(&world, &["inbox", "--json"])["inbox"][0]["digest"].as_str().map(str::to_owned);
    let began = std::time::Instant::now();
    let digest = loop {
        if let Some(digest) = asked() {
            break digest;
        }
        assert!(began.elapsed().as_secs() < 60, "no question came");
    };
    drop::<Up>(up);
    let records = || Journal::open_read_only(&world.state()).unwrap().last();
    let before = records();
    for words in [
        &["answer", "e1", "blue", "--digest", &digest][..],
        &["cancel", "r1"],
        &["diff", "r1"],
        &["log", "-f"],
        &["submit", "acme/thing", "look", "--wait"],
    ] {
        refused(&world, words, 5, &["no afk runs on"]);
    }
    assert_eq!(records(), before);
    // Reading needs none.
    assert!(prints(&world, &["show", "r1"]).starts_with("r1"), "the run is not shown");
    assert!(prints(&world, &["transcript", "r1"]).contains("? asks: Which?"));
}

#[test]
fn submitted_prompt_is_waited_for_and_its_answer_printed() {
    let world = World::new(&format!(
        "case $prompt in *colour*) echo '{{\"type\":\"text\",\"text\":\"It is blue.\"}}'; {END};; \
         *) echo '{{\"type\":\"end\",\"status\":\"blocked\",\"reason\":\"no idea\"}}';; esac"
    ));
    std::fs::remove_file(world.path("issues/1.md")).unwrap();
    let _up = world.up();
    let waited = run(&world, &["submit", "acme/thing", "Which colour?", "--wait"]);
    assert_eq!((waited.code, waited.out.as_str()), (0, "It is blue.\n"), "{}", waited.err);
    assert!(waited.err.contains("queued as r1"), "{}", waited.err);
    let answer = json(&world, &["submit", "acme/thing", "Which colour?", "--wait", "--json"]);
    assert_eq!(answer["answer"], "It is blue.");
    assert_eq!(answer["outcome"], "done");
    let followed = prints(&world, &["submit", "acme/thing", "Which colour?", "--follow"]);
    assert!(followed.contains("» turn 1") && followed.contains("It is blue."), "{followed}");
    refused(&world, &["submit", "acme/thing", "Hm", "--wait"], 1, &["r4 ended as ", "no idea"]);
    refused(&world, &["submit", "acme/other", "Hm", "--wait"], 1, &["is not on the allowlist"]);
    assert_eq!(json(&world, &["submit", "acme/thing", "Hm", "--json"])["run"], 5);
}

/// The completions that a shell gets for the last word of a line.
fn completions(world: &World, words: &[&str]) -> String {
    let mut line = vec!["--".to_owned(), "afk".to_owned()];
    let (last, before) = words.split_last().unwrap();
    line.extend(before.iter().map(|word| (*word).to_owned()));
    line.extend(world.places());
    line.push((*last).to_owned());
    let index = line.len() - 2;
    let line: Vec<&str> = line.iter().map(String::as_str).collect();
    let mut command = afk(&line);
    command.env("AFK_COMPLETE", "zsh").env("_CLAP_IFS", "\n");
    let output = command.env("_CLAP_COMPLETE_INDEX", index.to_string()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn shell_completes_the_ids_of_questions_and_runs() {
    let world = World::claude(ASKS).rules(ASK_ALL);
    let _up = world.up();
    asked(&world).await;
    let offers = |offered: &str, id: &str| offered.lines().any(|line| line.starts_with(id));
    let offered = completions(&world, &["approve", ""]);
    assert!(offers(&offered, "e1:permission r1 ") && !offers(&offered, "r1"), "{offered}");
    let offered = completions(&world, &["cancel", "r"]);
    assert!(offers(&offered, "r1:acme/thing#1") && !offers(&offered, "e1"), "{offered}");
    let offered = completions(&world, &["show", ""]);
    for id in ["e1", "r1", "acme/thing#1"] {
        assert!(offered.contains(id), "{id}: {offered}");
    }
    assert!(completions(&world, &["app"]).contains("approve"));
    // A script that a shell sources.
    let script = afk(&[]).env("AFK_COMPLETE", "bash").output().unwrap();
    assert!(text(&script.stdout).contains("complete"), "{}", text(&script.stderr));
    // Nothing is offered, and nothing printed, where there is no journal.
    let empty = tempfile::tempdir().unwrap();
    let state = empty.path().to_str().unwrap();
    let mut command = afk(&["--", "afk", "--state", state, "approve", ""]);
    command.env("AFK_COMPLETE", "zsh").env("_CLAP_COMPLETE_INDEX", "4");
    let output = command.output().unwrap();
    assert!(!text(&output.stdout).contains("e1"), "{}", text(&output.stdout));
}
