//! An operator at three in the morning, over real SSH: the questions that they come with, and the keys that
//! each answer takes at most.

use std::time::{Duration, Instant};

use crate::ssh::{Ssh, ssh_installed};
use crate::support::afk;
use crate::support::pty::Terminal;
use crate::support::text;
use crate::support::world::{END, WORK, World};

/// Two runs land, and one requests permission; it does so again as soon as a file is there.
fn night() -> World {
    let world = World::new(&format!(
        "say() {{ echo \"{{\\\"type\\\":\\\"text\\\",\\\"text\\\":\\\"$1\\\"}}\"; }}\n\
         may() {{ echo \"{{\\\"type\\\":\\\"permission\\\",\\\"id\\\":\\\"$1\\\",\\\"title\\\":\\\"$2\\\",\\\"detail\\\":\\\"$2\\\"}}\"; }}\n\
         add() {{ mkdir -p tests; echo \"grep -q $1 $1\" > tests/$1.sh; git add tests; $GIT commit -qm \"Test $1\"; echo $1 > $1; git add $1; $GIT commit -qm \"Add $1\"; }}\n\
         GIT=\"git $US\"\n\
         case $prompt in\n\
         *'acme/thing#1'*) {WORK}\n;;\n\
         *'acme/thing#2'*) add second ;;\n\
         *'acme/thing#3'*) for line in $(seq 60); do say \"step $line\"; done; say 'the needle in the hay'\n\
         add third; may p1 'rm -r build'\n\
         (while ! [ -e \"$OUT/newcomer\" ]; do sleep 0.05; done; may p2 'drop the table') &\n\
         read -r answer; read -r answer ;;\n\
         esac\n{END}"
    ));
    for (number, title, more) in [
        (2, "Count the visits", "armed_by = 'ana'"),
        (3, "Clean the build", "armed_by = 'ana'"),
        (4, "Log the webhook", "armed_by = 'ana'\nblocked_by = ['#3']"),
    ] {
        world.issue(number, title, more);
    }
    for number in 5..=300 {
        world.issue(number, &format!("Polish part {number}"), "");
    }
    world.with("capacity = 4")
}

/// A terminal that counts the keys of one question.
struct Operator {
    terminal: Terminal,
}

impl Operator {
    /// Asks a question with these keys, one at a time, and leaves the answer with `back`.
    fn asks(&mut self, keys: &[&str], parts: &[&str], back: &str) {
        for key in keys {
            self.terminal.keys(key);
            self.terminal.next_bytes();
        }
        for part in parts {
            self.terminal.shows(part);
        }
        self.terminal.keys(back);
        // An Esc that isn't processed yet would change the meaning of the next key.
        if back == "\u{1b}"
            && let Some(part) = parts.last()
        {
            self.terminal.until("the queue again", |s| !s.contains(part));
        } else if !back.is_empty() {
            self.terminal.shows("1 Queue");
        }
    }
}

/// Starts the world, and waits until its run asks: operators come when something has happened.
fn asleep() -> Ssh {
    let ssh = Ssh::start_in(night());
    let until = Instant::now() + Duration::from_secs(60);
    while !inbox(&ssh.world).contains("rm -r build") {
        assert!(Instant::now() < until, "{}", inbox(&ssh.world));
    }
    ssh
}

/// The open questions, as the command line prints them.
fn inbox(world: &World) -> String {
    let places = world.places();
    let words: Vec<&str> = places.iter().map(String::as_str).chain(["inbox"]).collect();
    text(&afk(&words).output().unwrap().stdout)
}

#[test]
fn questions_of_the_night_take_no_more_keys_than_promised() {
    if !ssh_installed() {
        return;
    }
    for (columns, rows) in [(40, 12), (80, 24), (200, 50)] {
        // A brief begins with the operator's last look, so that each size has a night of its own.
        let ssh = asleep();
        let mut operator = Operator { terminal: ssh.terminal("operator", columns, rows) };
        // The narrowest header counts its questions, and the narrowest title is cut.
        let (wrong, of_all) = match columns {
            40 => ("WAITS FOR YOU  1/4 q0 !1", "1 Queue · /"),
            _ => ("1 question", "of 300"),
        };
        operator.terminal.until("two landed runs and a question", |s| {
            s.to_lowercase().contains("waits for you") && s.contains("rm -r build")
        });
        // What is wrong, and why does this wait: on the screen before any key.
        operator.asks(&[], &[wrong, "rm -r build"], "");
        // What did the agent do?
        operator.asks(&["3"], &["the needle in the hay"], "1");
        // Where in the transcript is X?
        operator.asks(&["3"], &["the needle in the hay"], "");
        operator.asks(&["/", "step 7\r"], &["match 1/1"], "1");
        // What would land?
        operator.asks(&["o", "]"], &["Diff of r3", "@@ -0,0 +1 @@"], "\u{1b}");
        // What happened since last evening?
        operator.asks(&["b"], &["2 landed", "1 waiting"], "\u{1b}");
        // What differs between this run and the one before it?
        operator.asks(&["c", "c"], &["Compare r2 with r3"], "\u{1b}");
        // Which of 300 issues waits for whom?
        operator.asks(&["/", "webhook\r"], &["thing#4", of_all], "\u{1b}");
        operator.asks(&["/", "blocked-by:thing#3\r"], &["thing#4", of_all], "\u{1b}");
        operator.terminal.keys("q");
        operator.terminal.end();
    }
}

#[test]
fn answer_goes_to_the_card_that_was_read_whoever_else_comes_or_answers() {
    if !ssh_installed() {
        return;
    }
    for (columns, rows) in [(40, 12), (80, 24), (200, 50)] {
        let ssh = asleep();
        let mut operator = ssh.terminal("operator", columns, rows);
        let mut other = ssh.terminal("operator", 80, 24);
        for terminal in [&mut operator, &mut other] {
            terminal.shows("rm -r build");
            terminal.keys("i");
            terminal.shows("e1 · permission");
            terminal.takes_answers();
        }
        // A newcomer arrives between reading and answering, and takes no cursor.
        std::fs::write(ssh.world.path("newcomer"), "").unwrap();
        operator.shows("newer");
        other.shows("newer");
        // The card of a small screen is read to its end.
        if rows < 24 {
            operator.keys("JJJJJJJJ");
            operator.shows("answers this version only");
            operator.takes_answers();
        }
        // Two keys answer after reading: `i`, and this one. A second one finds nothing to answer.
        operator.keys("aa");
        operator.shows("approved");
        // The other one sees that it is answered, and what is asked now.
        other.shows("e2 · permission");
        for mut terminal in [operator, other] {
            terminal.keys("\u{1b}");
            terminal.until("the queue again", |s| !s.contains("e2 · permission"));
            terminal.keys("q");
            terminal.end();
        }
        let open = inbox(&ssh.world);
        assert!(open.contains("drop the table") && !open.contains("rm -r build"), "{open}");
    }
}

/// Opens the card of the question, and types the reason of a denial without sending it.
fn writes_a_denial(ssh: &Ssh) -> Terminal {
    let mut operator = ssh.terminal("operator", 80, 24);
    operator.shows("rm -r build");
    operator.keys("i");
    operator.shows("e1 · permission");
    operator.takes_answers();
    operator.keys("d");
    operator.shows("Deny e1 (");
    operator.keys("not while the backup runs");
    operator.shows("not while the backup runs");
    operator
}

#[test]
fn text_that_was_typed_survives_a_lost_link() {
    if !ssh_installed() {
        return;
    }
    let ssh = asleep();
    let mut operator = writes_a_denial(&ssh);
    operator.child.kill().unwrap();
    let mut again = ssh.terminal("operator", 80, 24);
    again.shows("rm -r build");
    again.keys("i");
    again.shows("e1 · permission");
    again.takes_answers();
    again.keys("d");
    again.shows("This is your draft from before.");
    again.shows("not while the backup runs");
}

#[test]
fn text_of_a_refused_answer_comes_back() {
    if !ssh_installed() {
        return;
    }
    let ssh = asleep();
    let mut operator = writes_a_denial(&ssh);
    // The key is demoted before the answer is sent.
    ssh.edit_keys("role=\"operator\",", "");
    operator.keys("\r");
    operator.shows("viewers are read-only; its prompt keeps your text");
    ssh.edit_keys("restrict ssh-ed25519", "role=\"operator\",restrict ssh-ed25519");
    operator.keys("d");
    operator.shows("This is your draft from before.");
    operator.shows("not while the backup runs");
}
