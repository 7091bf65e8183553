//! Agents that flood afk on purpose. Each keeps its own run busy; a second run finishes meanwhile, an
//! operator's key is answered, and the journal and the memory stay within bounds.

use std::time::{Duration, Instant};

use afk::core::model::command::{Accepted, Command};
use afk::core::model::id::{Repo, RunId};
use afk::core::model::run::Outcome;
use afk::journal::Journal;
use afk::runtime::Runtime;

use crate::support::world::{END, WORK, World, command, ended, until, wait_until};

/// The longest that a run of a few seconds may take beside a flood, also on a slow machine.
const BESIDE: Duration = Duration::from_secs(45);

/// A runtime whose first run floods it.
struct Flooded {
    world: World,
    runtime: Runtime,
    hostile: RunId,
}

impl Flooded {
    /// Starts a prompt whose agent runs `flood`. The agent of an issue does honest work.
    async fn start(flood: &str, more: &str) -> Self {
        let script =
            format!("case $prompt in *HOSTILE*)\n{flood}\n;;\n*)\n{WORK}\n{END}\n;;\nesac");
        let world = World::new(&script).with(more);
        std::fs::remove_file(world.path("issues/1.md")).unwrap();
        let runtime = world.start().await;
        let repo = Repo::parse("acme/thing").unwrap();
        let submit = Command::Submit { repo, prompt: "HOSTILE".into(), priority: None, job: None };
        let Ok(Accepted::Queued { run, .. }) = command(&runtime, submit).await else {
            panic!("the prompt was refused")
        };
        Self { world, runtime, hostile: run }
    }

    /// Works on an issue to its end, while the flood goes on.
    async fn honest_run_finishes(&self) {
        let begun = Instant::now();
        self.world.issue(1, "Do it", "armed_by = 'ana'");
        let run = ended(&self.runtime).await;
        assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
        assert!(begun.elapsed() < BESIDE, "it took {:?}", begun.elapsed());
        let snapshot = self.runtime.handle.snapshots.borrow().clone();
        assert!(snapshot.fleet.runs[&self.hostile].live(), "the flood was over before");
    }

    /// The number of events of the journal, and of its bytes.
    fn journal(&self) -> (usize, usize) {
        let journal = Journal::open_read_only(&self.world.state()).unwrap();
        let (mut events, mut bytes) = (0, 0);
        journal
            .read(1, |record| {
                events += 1;
                bytes += record.body.len();
                Ok(true)
            })
            .unwrap();
        (events, bytes)
    }

    fn transcript(&self) -> String {
        self.world.transcript(self.hostile.0)
    }

    async fn stop(self) {
        self.runtime.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_questions_is_refused_in_words_and_delays_no_other_run() {
    let flood = r#"
(i=0; while [ $i -lt 3000 ]; do echo '{"type":"question","id":"q'$i'","text":"and now?"}'; i=$((i+1)); done) &
refused=0
while read -r line; do
    case $line in *'too many questions'*) refused=$((refused+1)) ;; esac
    [ $refused -ne 300 ] || echo '{"type":"text","text":"understood"}'
done"#;
    let flooded = Flooded::start(flood, "").await;
    until(&flooded.runtime, "open questions", |s| (s.fleet.inbox().len() >= 64).then_some(()))
        .await;
    flooded.honest_run_finishes().await;
    let snapshot = flooded.runtime.handle.snapshots.borrow().clone();
    assert_eq!(snapshot.fleet.inbox().len(), 64);
    wait_until("the refusals", || flooded.transcript().contains("understood")).await;
    let (events, _) = flooded.journal();
    assert!(events < 1000, "{events} events");
    flooded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_costs_stop_no_other_run() {
    let flood = r#"
for cost in 1e308 -5 NaN 1e15 -1e308; do echo '{"type":"usage","tokens_in":1,"cost_usd":'$cost'}'; done
echo '{"type":"usage","tokens_in":18446744073709551615,"tokens_out":18446744073709551615}'
yes '{"type":"usage","tokens_in":1,"cost_usd":0.000001}' | head -n 50000
echo '{"type":"text","text":"all reported"}'
sleep 1000"#;
    let flooded = Flooded::start(flood, "[budget]\nday_usd = 50\nrun_usd = 20").await;
    wait_until("the reports", || flooded.transcript().contains("all reported")).await;
    flooded.honest_run_finishes().await;
    // Every report that can be is booked, and no other: the odd figures become nothing or are ignored.
    until(&flooded.runtime, "the sum of the day", |s| {
        let (_, day) = s.fleet.books.days().next()?;
        (day.usd.0 == 50_000 && (50_000..50_010).contains(&day.tokens_in)).then_some(())
    })
    .await;
    assert_eq!(flooded.transcript().matches("a cost that can't be").count(), 1);
    let (events, _) = flooded.journal();
    assert!(events < 500, "{events} events");
    flooded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_transcript_is_cut_and_delays_no_other_run() {
    // As much as a pipe carries, until the run is stopped.
    let flood = r#"
echo '{"type":"text","text":"the beginning"}'
text=$(head -c 100000 /dev/zero | tr '\0' x)
exec yes '{"type":"text","text":"'$text'"}'"#;
    let flooded = Flooded::start(flood, "").await;
    wait_until("a full transcript", || {
        let path = flooded.world.state().join(format!("transcripts/{}.jsonl", flooded.hostile));
        path.metadata().is_ok_and(|file| file.len() > 64 * 1024 * 1024)
    })
    .await;
    flooded.honest_run_finishes().await;
    let transcript = flooded.transcript();
    assert!(transcript.len() < 73 * 1024 * 1024, "{} bytes", transcript.len());
    assert!(transcript.contains("the beginning"));
    assert_eq!(transcript.matches("the transcript of this run is full").count(), 1);
    flooded.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_events_reaches_the_journal_at_a_pace() {
    let flood = r#"
huge=$(head -c 2000000 /dev/zero | tr '\0' n)
echo '{"type":"tool_start","id":"'$huge'","kind":"'$huge'","title":"'$huge'"}'
echo '{"type":"tool_end","id":"'$huge'","ok":true,"output":"'$huge'"}'
echo '{"type":"permission","id":"'$huge'","title":"t"}'
echo '{"type":"session","id":"'$huge'"}'
echo '{"type":"text","text":"named"}'
i=0
while :; do
    i=$((i+1))
    echo '{"type":"retry","attempt":'$i',"delay_ms":18446744073709551615}'
    echo '{"type":"session","id":"s'$i'"}'
    echo '{"type":"permission","id":"p'$i'","title":"make","tool":"other","detail":"'$i'"}'
done"#;
    let flooded = Flooded::start(flood, "").await;
    wait_until("the names", || flooded.transcript().contains("named")).await;
    let begun = Instant::now();
    until(&flooded.runtime, "open requests", |s| (s.fleet.inbox().len() >= 64).then_some(())).await;
    flooded.honest_run_finishes().await;
    let named = flooded.transcript().find("named").unwrap();
    assert!(named < 1024 * 1024, "{named} bytes of names");
    // A burst, a pace after it, and the events of the honest run.
    let (events, bytes) = flooded.journal();
    let most = 1500 + 50 * usize::try_from(begun.elapsed().as_secs() + 1).unwrap();
    assert!(events < most, "{events} events in {:?}", begun.elapsed());
    assert!(bytes < 4 * 1024 * 1024, "{bytes} bytes");
    flooded.stop().await;
}

#[test]
fn cockpit_answers_keys_beside_a_flood_and_memory_stays_bounded() {
    let flood = r#"
big=$(head -c 200000 /dev/zero | tr '\0' b)
(while :; do echo '{"type":"tool_start","id":"t","kind":"shell","title":"'$big'"}'; echo '{"type":"text","text":"'$big'"}'; done) &
(i=0; while :; do i=$((i+1)); echo '{"type":"question","id":"'$i'","text":"'$big'"}'; done) &
wait"#;
    let world = World::new(flood);
    let up = world.up();
    let mut screen = world.terminal(&["attach"], 100, 30);
    screen.shows("inbox 6");
    screen.keys("3");
    let mut slowest = Duration::ZERO;
    let mut press = |key: &str, shown: &str, is: bool| {
        let begun = Instant::now();
        screen.keys(key);
        screen.until(shown, |s| s.contains(shown) == is);
        slowest = slowest.max(begun.elapsed());
    };
    for _ in 0..5 {
        press("?", "┌ Help", true);
        press("\u{1b}", "┌ Help", false);
        press("i", "┌ Inbox", true);
        press("\u{1b}", "┌ Inbox", false);
    }
    assert!(slowest < Duration::from_secs(3), "a key took {slowest:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", up.0.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 1024 * 1024, "afk used {peak} KiB");
}
