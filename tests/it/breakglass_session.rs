//! A session of the breakglass agent at the level `act` that is open while a person works. The tests of
//! floods, cut links, wrong host keys and unwritable journals run without and with it ([`Beside`]).

use afk::core::model::breakglass::BreakglassRequest;
use afk::core::model::command::Accepted;
use afk::runtime::Runtime;

use crate::breakglass::ask;
use crate::breakglass_agent::CALLS;
use crate::support::pty::Terminal;
use crate::support::pve::{Pve, wait_for};
use crate::support::text;
use crate::support::world::{Up, World, until, wait_until};

/// The agent's only command runs until its link ends. Then the agent stays.
const STAYS: &str = "shell \"touch $OUT/pve/agent-began; cat\"\nwhile :; do sleep 1; done";

/// Who works beside the person of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    Nobody,
    Agent,
}

impl Beside {
    /// A world for a test of breakglass; without the agent of breakglass, its agent runs `script`.
    pub(crate) fn world(self, script: &str) -> World {
        match self {
            Self::Nobody => World::new(script).with_kill_switch(),
            Self::Agent => World::new(&format!("{CALLS}\n{STAYS}")).walled().in_breakglass_role(),
        }
    }

    /// The section of the configuration that allows the agent.
    pub(crate) const fn section(self) -> &'static str {
        match self {
            Self::Nobody => "",
            Self::Agent => {
                "[breakglass.agent]\nagent = 'shell'\nhost = 'devvm'\nlevel = 'act'\nmutations = 3\n"
            }
        }
    }

    /// Starts the agent in the arming of the test's person, and waits until its command runs.
    pub(crate) async fn begin(self, runtime: &Runtime, pve: &Pve) {
        if self == Self::Agent {
            let start = BreakglassRequest::StartAgent { task: "look".into(), mutations: 1 };
            assert_eq!(ask(runtime, start).await, Ok(Accepted::Ok));
            wait_until("the agent's command", || pve.path("agent-began").exists()).await;
            let works = runtime.handle.snapshots.borrow().breakglass().agent.is_some();
            assert!(works, "the agent has ended");
        }
    }

    /// Stops the agent, which worked until now, as `X` does.
    pub(crate) async fn stop(self, runtime: &Runtime, world: &World) {
        if self == Self::Agent {
            assert!(agent_runs(world), "the agent has ended by itself");
            assert_eq!(ask(runtime, BreakglassRequest::StopAgent).await, Ok(Accepted::Ok));
            let past = until(runtime, "the agent's end", |s| {
                let state = s.breakglass();
                let over = state.agent.is_none() && !state.recordings.is_empty();
                state.past_agent.clone().filter(|_| over)
            })
            .await;
            assert_eq!(past.1.clean(), "ana stopped it");
            wait_until("the end of its processes", || !agent_runs(world)).await;
        }
    }
}

/// A pane of breakglass in a process of its own, armed, in which the agent works.
pub(crate) struct Session {
    screen: Terminal,
    _up: Option<Up>,
}

impl Session {
    /// Opens the session if an agent works beside the person: in a running afk, or `alone`.
    pub(crate) fn open(beside: Beside, alone: bool, world: &World, pve: &Pve) -> Option<Self> {
        if beside == Beside::Nobody {
            return None;
        }
        world.config();
        let up = (!alone).then(|| world.up());
        let words: &[&str] = if alone { &["breakglass", "--alone"] } else { &["breakglass"] };
        let mut screen = world.terminal(words, 80, 24);
        screen.shows("No AI in the path");
        screen.keys("a");
        screen.shows("Say why.");
        screen.keys("it hangs\r");
        screen.shows("ARMED by");
        begin_at(&mut screen, pve);
        Some(Self { screen, _up: up })
    }

    /// Sends the verb `status` by keys, and waits for its end at the host. Its output covers the rows then.
    pub(crate) fn read_status(&mut self, pve: &Pve) {
        let ended = |log: &str| {
            let is_status =
                |line: &&str| line.contains(" end request=") && line.contains("=status");
            log.lines().filter(is_status).count()
        };
        let before = ended(&pve.log());
        self.screen.keys("gg");
        self.screen.shows("│> status");
        self.screen.keys("\r");
        wait_for("the person's status", || ended(&pve.log()) > before);
    }

    /// Stops the agent, which worked until now.
    pub(crate) fn stop(mut self, world: &World) {
        stop_at(&mut self.screen, world);
    }
}

/// Starts the agent by keys in an armed pane, and waits until its command runs.
pub(crate) fn begin_at(screen: &mut Terminal, pve: &Pve) {
    screen.keys("e");
    screen.shows("Start the agent shell");
    screen.keys("1 look\r");
    screen.shows("works at the level act");
    wait_for("the agent's command", || pve.path("agent-began").exists());
}

/// Stops the agent, which worked until now, by its key in the pane, whatever covers its rows.
pub(crate) fn stop_at(screen: &mut Terminal, world: &World) {
    assert!(agent_runs(world), "the agent has ended by itself");
    screen.keys("X");
    wait_for("the end of its processes", || !agent_runs(world));
}

/// Whether a process of the agent's script is there.
fn agent_runs(world: &World) -> bool {
    let script = world.path("agent.sh").display().to_string();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let mut lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.any(|line| text(&line).contains(&script))
}
