//! The scripted agent of the demo: a program with the `command` protocol that plays
//! `assets/demo/script.toml`. Its messages are scripted; its files, commands and commits are real.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

const SCRIPT: &str = include_str!("../../../assets/demo/script.toml");

#[derive(Debug, Deserialize)]
struct Script {
    issue: Vec<ScriptedIssue>,
}

#[derive(Debug, Deserialize)]
struct ScriptedIssue {
    number: u64,
    /// The steps of each round: `implement`, `gate`, `fix-1`, `guidance` …
    #[serde(flatten)]
    rounds: BTreeMap<String, Vec<ScriptStep>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ScriptStep {
    say: Option<String>,
    think: Option<String>,
    plan: Option<Vec<String>>,
    done: Option<usize>,
    write: Option<String>,
    append: Option<String>,
    replace: Option<String>,
    text: String,
    old: String,
    new: String,
    run: Option<String>,
    commit: Option<String>,
}

/// The round that a prompt of afk asks for.
fn round(prompt: &str, attempt: &str) -> String {
    if prompt.contains("A human looked at it") {
        "guidance".into()
    } else if prompt.contains("Your change was not accepted yet") {
        "gate".into()
    } else if prompt.contains("went red") {
        format!("fix-{attempt}")
    } else {
        "implement".into()
    }
}

/// Plays the turn that the first line of standard input describes, in the current folder.
pub(in crate::cli) fn play() -> Result<(), String> {
    let text = |e: std::io::Error| e.to_string();
    let mut first = String::new();
    std::io::stdin().lock().read_line(&mut first).map_err(text)?;
    let request: Value = serde_json::from_str(&first).map_err(|e| e.to_string())?;
    let env = |name: &str| std::env::var(name).unwrap_or_default();
    let number: u64 = env("AFK_ISSUE").parse().unwrap_or(0);
    let pace = Duration::from_millis(env("AFK_DEMO_PACE").parse().unwrap_or(0));
    let prompt = request["prompt"].as_str().unwrap_or_default();
    let session =
        request["session"].as_str().map_or_else(|| format!("demo-{number}"), str::to_owned);
    let mut player = Player { pace, plan: Vec::new(), done: 0, tools: 0, written: Vec::new() };
    player.send(&json!({"type": "session", "id": session, "model": "scripted", "version": "1"}))?;
    let script: Script = toml::from_str(SCRIPT).map_err(|e| e.to_string())?;
    let name = round(prompt, &env("AFK_ATTEMPT"));
    let issue = script.issue.into_iter().find(|issue| issue.number == number);
    let Some(steps) = issue.and_then(|mut issue| issue.rounds.remove(&name)) else {
        player.send(&json!({"type": "text", "text": "There is nothing more I can do."}))?;
        return player.send(&json!({"type": "end", "status": "done"}));
    };
    for step in steps {
        player.step(step)?;
    }
    player
        .send(&json!({"type": "usage", "tokens_in": 5200, "tokens_out": 640, "cost_usd": 0.031}))?;
    player.send(&json!({"type": "end", "status": "done"}))
}

struct Player {
    pace: Duration,
    plan: Vec<String>,
    /// The number of finished items of the plan.
    done: usize,
    /// The number of tool calls so far.
    tools: u32,
    /// Files changed since the last commit.
    written: Vec<String>,
}

impl Player {
    /// Writes a line of the protocol, then pauses.
    fn send(&self, line: &Value) -> Result<(), String> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
        std::thread::sleep(self.pace);
        Ok(())
    }

    fn step(&mut self, step: ScriptStep) -> Result<(), String> {
        if let Some(text) = &step.think {
            self.send(&json!({"type": "thought", "text": text}))?;
        }
        if let Some(items) = step.plan {
            self.plan = items;
            self.send_plan()?;
        }
        if let Some(text) = &step.say {
            self.send(&json!({"type": "text", "text": text}))?;
        }
        if let Some(path) = &step.write {
            self.change(path, |_| format!("{}\n", step.text.trim_end()))?;
        }
        if let Some(path) = &step.append {
            // A turn that is played again finds its text in the file.
            self.change(
                path,
                |old| {
                    if old.contains(step.text.trim()) { old } else { old + &step.text }
                },
            )?;
        }
        if let Some(path) = &step.replace {
            self.change(path, |old| {
                if old.contains(&step.new) { old } else { old.replacen(&step.old, &step.new, 1) }
            })?;
        }
        if let Some(line) = &step.run {
            self.run(line)?;
        }
        if let Some(message) = &step.commit {
            self.commit(message)?;
        }
        if let Some(done) = step.done {
            self.done = done;
            self.send_plan()?;
        }
        Ok(())
    }

    fn send_plan(&self) -> Result<(), String> {
        let item = |(at, text): (usize, &String)| json!({"text": text, "done": at < self.done});
        let items: Vec<Value> = self.plan.iter().enumerate().map(item).collect();
        self.send(&json!({"type": "plan", "items": items}))
    }

    fn change(&mut self, path: &str, change: impl FnOnce(String) -> String) -> Result<(), String> {
        let text = |e: std::io::Error| format!("{path}: {e}");
        if let Some(folder) = Path::new(path).parent() {
            std::fs::create_dir_all(folder).map_err(text)?;
        }
        let old = std::fs::read_to_string(path).unwrap_or_default();
        let new = change(old.clone());
        if new == old {
            return Ok(());
        }
        std::fs::write(path, new).map_err(text)?;
        self.written.push(path.to_owned());
        git(&["add", "--intent-to-add", "--", path])?;
        let diff = git(&["diff", "--no-color", "--", path])?;
        self.send(&json!({"type": "diff", "path": path, "diff": diff}))
    }

    fn run(&mut self, line: &str) -> Result<(), String> {
        self.tools += 1;
        let id = format!("t{}", self.tools);
        self.send(&json!({"type": "tool_start", "id": id, "kind": "shell", "title": line}))?;
        let done = Command::new("sh").args(["-c", line]).stdin(Stdio::null()).output();
        let done = done.map_err(|e| format!("sh: {e}"))?;
        let output = String::from_utf8_lossy(&done.stdout).into_owned()
            + &String::from_utf8_lossy(&done.stderr);
        let (ok, code) = (done.status.success(), done.status.code());
        self.send(&json!({"type": "tool_end", "id": id, "ok": ok, "code": code, "output": output}))
    }

    fn commit(&mut self, message: &str) -> Result<(), String> {
        let paths = std::mem::take(&mut self.written);
        for path in &paths {
            git(&["add", "--", path])?;
        }
        if git(&["diff", "--cached", "--name-only"])?.is_empty() {
            return Ok(());
        }
        self.run(&format!(
            "git -c user.name=demo -c user.email=demo@localhost commit -q -m \"{message}\""
        ))
    }
}

fn git(args: &[&str]) -> Result<String, String> {
    let done = Command::new("git").args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|e| format!("git: {e}"))?;
    if done.status.success() {
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    } else {
        Err(format!("git {}: {}", args[0], String::from_utf8_lossy(&done.stderr)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scripted_issue_has_an_implementation() {
        let script: Script = toml::from_str(SCRIPT).unwrap();
        for issue in &script.issue {
            assert!(issue.rounds.contains_key("implement"), "#{}", issue.number);
        }
    }

    #[test]
    fn prompt_selects_the_round() {
        assert_eq!(round("Implement it", "0"), "implement");
        assert_eq!(round("… Your change was not accepted yet. …", "0"), "gate");
        assert_eq!(
            round("You were stopped. Your change was pushed, and probe went red.", "2"),
            "fix-2"
        );
        assert_eq!(round("A human looked at it and sends you on", "0"), "guidance");
    }
}
