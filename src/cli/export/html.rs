//! A run as one HTML page: its timeline, proof, diff and transcript. It loads nothing and runs no script,
//! and everything in it that came from outside is escaped.

use std::io::{self, Write};

use crate::cli::daily::transcript::lines;
use crate::core::fleet::Fleet;
use crate::core::model::agent_event::AgentEvent;
use crate::core::model::run::{Outcome, Run};
use crate::core::model::stage::{Phase, ProofLink};
use crate::core::model::time::Timestamp;
use crate::core::model::untrusted::{Untrusted, clean, clean_line};
use crate::core::query::brief::long;
use crate::journal::transcript::{Reader, TranscriptEntry};

/// Entries that are read at once.
const WINDOW: usize = 512;
/// The lines of the diff that the page has.
const MOST_DIFF: usize = 20_000;

const STYLE: &str = "\
body{margin:0 auto;max-width:64rem;padding:1.5rem;font:15px/1.5 system-ui,sans-serif;color:#1f2328;background:#fff}
h1{font-size:1.4rem;margin:0 0 .3rem}h2{font-size:1.1rem;margin:2rem 0 .6rem}
pre{font:13px/1.45 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:0}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0}
.bar{display:flex;height:1.2rem;border-radius:4px;overflow:hidden;margin:.6rem 0}.bar span{min-width:2px}
.good{color:#116329}.bad{color:#a40e26}.dim{color:#59636e}.head{color:#0550ae}
.entry{border-left:3px solid #d1d9e0;padding:.1rem 0 .1rem .7rem;margin:.35rem 0}
.entry.prompt,.entry.steer{border-color:#0969da}.entry.tool{border-color:#9a6700}.entry.say{border-color:#1a7f37}
.entry.ask{border-color:#bc4c00}.at{color:#59636e;font-size:12px;float:right;margin-left:1rem}
@media(prefers-color-scheme:dark){body{color:#d7dae0;background:#14171c}.good{color:#7ee787}.bad{color:#ff9492}
.dim,.at{color:#9198a1}.head{color:#79c0ff}.entry{border-color:#3d444d}}";

/// The colours of the phases in the bar, from a queue to a healthy deploy.
const PHASE_COLOURS: [&str; 8] =
    ["#8c959f", "#6e7781", "#0969da", "#8250df", "#bf8700", "#9a6700", "#1a7f37", "#116329"];

/// Writes the page of a run. `diff` is its changes, or why they can't be shown.
///
/// # Errors
/// The transcript can't be read, or `to` can't be written.
pub(super) fn write(
    to: &mut dyn Write,
    fleet: &Fleet,
    run: &Run,
    reader: &Reader,
    diff: &Result<String, String>,
) -> io::Result<()> {
    let subject = run.work.issue().map_or_else(|| run.work.repo().to_string(), ToString::to_string);
    let title = run.work.title().clean_line();
    let heading = escaped(&format!("{subject}: {title}"));
    writeln!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{} {heading}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>{heading}</h1>",
        run.id
    )?;
    summary(to, fleet, run)?;
    timeline(to, fleet, run)?;
    proof(to, run)?;
    write_diff(to, diff)?;
    transcript(to, reader)?;
    writeln!(to, "</body>\n</html>")
}

fn summary(to: &mut dyn Write, fleet: &Fleet, run: &Run) -> io::Result<()> {
    let outcome = run.progress.outcome.map_or("at work", Outcome::as_str);
    let class = match run.progress.outcome {
        Some(Outcome::Done) => "good",
        Some(Outcome::Frozen | Outcome::Failed) => "bad",
        _ => "dim",
    };
    let why = run.progress.why.clean_line();
    let why = if why.is_empty() { why } else { format!(": {why}") };
    let agent = run.agent.equipment.as_ref().map_or_else(String::new, |agent| {
        let model = agent.model.as_ref().map(Untrusted::clean_line).unwrap_or_default();
        format!(" · {} {model}", clean_line(&agent.agent))
    });
    let commit = run.workspace.pushed.as_ref();
    let commit = commit.map_or_else(String::new, |sha| format!(" · pushed {}", sha.short()));
    let link = run.work.issue().and_then(|key| fleet.issues.get(key)?.link.clone());
    let link = link.map(|link| clean_line(link.as_received()));
    let (id, spend) = (run.id, run.spend.total.summary());
    writeln!(
        to,
        "<p><strong class=\"{class}\">{}</strong>{}<br><span class=\"dim\">{id} · {spend}{}{}</span></p>",
        escaped(outcome),
        escaped(&why),
        escaped(&agent),
        escaped(&commit)
    )?;
    // Only an address of the web is a link: an address such as javascript: would run.
    if let Some(link) = link.filter(|link| link.starts_with("https://")) {
        let link = escaped(&link);
        writeln!(to, "<p><a href=\"{link}\" rel=\"noreferrer\">{link}</a></p>")?;
    }
    Ok(())
}

fn timeline(to: &mut dyn Write, fleet: &Fleet, run: &Run) -> io::Result<()> {
    let reached = &run.progress.reached;
    let end = run.progress.ended.unwrap_or(fleet.last_event);
    let next = |at: usize| reached.get(at + 1).map_or(end, |(_, at)| *at);
    let whole = reached.first().map_or(0, |(_, at)| end.since(*at)).max(1);
    writeln!(to, "<h2>Timeline</h2>\n<div class=\"bar\">")?;
    for (at, (phase, from)) in reached.iter().enumerate() {
        let share = next(at).since(*from).saturating_mul(1000) / whole;
        let place = Phase::ALL.iter().position(|known| known == phase).unwrap_or(0);
        let (colour, name) = (PHASE_COLOURS[place % PHASE_COLOURS.len()], phase.as_str());
        writeln!(
            to,
            "<span style=\"flex:{share} 0 0;background:{colour}\" title=\"{name}\"></span>"
        )?;
    }
    writeln!(to, "</div>\n<table>")?;
    for (at, (phase, from)) in reached.iter().enumerate() {
        let (name, lasted) = (phase.as_str(), duration(next(at).since(*from)));
        writeln!(to, "<tr><td>{}</td><td>{name}</td><td>{lasted}</td></tr>", utc(*from))?;
    }
    writeln!(to, "</table>")
}

fn proof(to: &mut dyn Write, run: &Run) -> io::Result<()> {
    writeln!(to, "<h2>Proof</h2>\n<table>")?;
    let mut is_empty = true;
    for (name, evidence) in run.proof.chain() {
        let Some(evidence) = evidence else { continue };
        is_empty = false;
        let verdict = evidence.verdict.as_str();
        let class = if verdict == "green" { "good" } else { "bad" };
        let mut facts = String::new();
        for fact in evidence.facts.iter().filter(|_| name != ProofLink::Image) {
            let fact = format!("{} {}", fact.kind.as_str(), fact.value.clean_line());
            facts.push_str(&format!("<br><span class=\"dim\">{}</span>", escaped(&fact)));
        }
        writeln!(
            to,
            "<tr><td>{}</td><td class=\"{class}\">{verdict}</td><td>{}</td><td>{}{}</td></tr>",
            name.label(),
            evidence.sha.short(),
            escaped(&evidence.detail.clean_line()),
            facts
        )?;
    }
    writeln!(to, "</table>")?;
    if is_empty {
        writeln!(to, "<p class=\"dim\">Nothing was proved yet.</p>")?;
    }
    Ok(())
}

fn write_diff(to: &mut dyn Write, diff: &Result<String, String>) -> io::Result<()> {
    writeln!(to, "<h2>Diff</h2>")?;
    let text = match diff {
        Ok(text) if text.is_empty() => {
            return writeln!(to, "<p class=\"dim\">The run has no changes.</p>");
        }
        Ok(text) => clean(text),
        Err(why) => {
            let why = escaped(&clean_line(why));
            return writeln!(
                to,
                "<p class=\"dim\">The diff can't be read ({why}). The edits in the transcript below show \
                 the changes.</p>"
            );
        }
    };
    writeln!(to, "<pre>")?;
    for line in text.lines().take(MOST_DIFF) {
        diff_line(to, line)?;
    }
    writeln!(to, "</pre>")?;
    let more = text.lines().count().saturating_sub(MOST_DIFF);
    if more > 0 {
        writeln!(to, "<p class=\"dim\">{more} more lines are left out.</p>")?;
    }
    Ok(())
}

fn diff_line(to: &mut dyn Write, line: &str) -> io::Result<()> {
    let class = match line.as_bytes().first() {
        Some(b'+') => "good",
        Some(b'-') => "bad",
        Some(b'@') => "head",
        _ => return writeln!(to, "{}", escaped(line)),
    };
    writeln!(to, "<span class=\"{class}\">{}</span>", escaped(line))
}

fn transcript(to: &mut dyn Write, reader: &Reader) -> io::Result<()> {
    writeln!(to, "<h2>Transcript</h2>")?;
    let mut next = 0;
    loop {
        let entries = reader.read(next, WINDOW)?;
        if entries.is_empty() {
            break;
        }
        next += entries.len();
        entries.iter().try_for_each(|known| entry(to, known))?;
    }
    if next == 0 {
        writeln!(to, "<p class=\"dim\">There is no transcript.</p>")?;
    }
    Ok(())
}

/// An entry. Prompts, thoughts and the output of tools are folded.
fn entry(to: &mut dyn Write, entry: &TranscriptEntry) -> io::Result<()> {
    let lines = lines(entry);
    let Some((first, rest)) = lines.split_first() else { return Ok(()) };
    let (class, is_folded) = match &entry.event {
        AgentEvent::Prompt { .. } => ("prompt", true),
        AgentEvent::Thought { .. } => ("thought", rest.len() > 2),
        AgentEvent::ToolEnd { .. } => ("tool", true),
        AgentEvent::Diff { .. } => ("tool", false),
        AgentEvent::Text { .. } => ("say", false),
        AgentEvent::Steered { .. } => ("steer", false),
        AgentEvent::PermissionRequest { .. }
        | AgentEvent::Question { .. }
        | AgentEvent::Resolved { .. } => ("ask", false),
        _ => ("note dim", false),
    };
    write!(to, "<div class=\"entry {class}\"><span class=\"at\">{}</span>", utc(entry.at))?;
    let first = escaped(first);
    if rest.is_empty() {
        write!(to, "<pre>{first}</pre>")?;
    } else if is_folded {
        let rest = escaped(&rest.join("\n"));
        write!(to, "<details><summary>{first}</summary><pre>{rest}</pre></details>")?;
    } else {
        write!(to, "<pre>{first}\n{}</pre>", escaped(&rest.join("\n")))?;
    }
    writeln!(to, "</div>")
}

/// A text that is only text to a browser, as content and as the value of an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn utc(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    at.strftime("%F %T UTC").to_string()
}

fn duration(ms: i64) -> String {
    if ms < 60_000 { format!("{} s", ms / 1000) } else { long(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::event::Event;
    use crate::core::model::id::{IssueKey, RunId};
    use crate::core::model::run::Work;
    use crate::journal::transcript::Store;

    /// A page about a run whose every text is an attack.
    fn page(diff: &Result<String, String>) -> String {
        let evil = "<script>alert(1)</script>\"><img src=x onerror='x'>&\u{1b}[2J\u{202e}";
        let state = tempfile::tempdir().unwrap();
        let store = Store::open(state.path()).unwrap();
        let entry = |event| TranscriptEntry { at: Timestamp(61_000), turn: 1, event };
        let tool = AgentEvent::ToolEnd {
            id: "t".into(),
            title: evil.into(),
            ok: false,
            code: Some(1),
            output: format!("{evil}\n{evil}").as_str().into(),
        };
        let events = [
            AgentEvent::Prompt { text: evil.into() },
            AgentEvent::Text { text: evil.into() },
            AgentEvent::Steered { text: evil.into(), by: evil.into() },
            tool,
        ];
        store.append(RunId(1), &events.map(entry)).unwrap();
        let mut reader = store.reader(RunId(1));
        reader.refresh().unwrap();
        let key = IssueKey::parse("acme/pulse#9").unwrap();
        let work = Work::Issue { key, title: evil.into() };
        let mut fleet = Fleet::default();
        let run = RunId(1);
        fleet.apply(Timestamp(1000), &Event::Claimed { run, work, priority: None, term: 0 });
        fleet.apply(Timestamp(5000), &Event::Reached { run, phase: Phase::Worktree });
        let end = Event::Ended { run, outcome: Outcome::Frozen, why: evil.into() };
        fleet.apply(Timestamp(180_000), &end);
        let mut out = Vec::new();
        write(&mut out, &fleet, &fleet.runs[&run], &reader, diff).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn page_has_all_parts_and_no_markup_of_its_sources() {
        let diff = Ok("--- a/x\n+++ b/x\n@@ -1 +1 @@\n-<b>\n+</pre><script>".to_owned());
        let page = page(&diff);
        for part in ["Timeline", "Proof", "Diff", "Transcript", "acme/pulse#9", "frozen", "2 min"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(page.contains("<span class=\"good\">+&lt;/pre&gt;&lt;script&gt;</span>"), "{page}");
        for attack in ["<script", "<img", "<b>", "\u{1b}", "\u{202e}", "onerror='", "javascript:"] {
            assert!(!page.contains(attack), "{attack}: {page}");
        }
        // Nothing is loaded from anywhere.
        for load in ["src=\"", "@import", "url(", "<link"] {
            assert!(!page.contains(load), "{load}: {page}");
        }
        assert_eq!(page.matches("<details>").count(), 2);
        assert_eq!(page.matches("</div>").count(), 1 + 4);
    }

    #[test]
    fn page_says_why_it_has_no_diff() {
        let page = page(&Err("no afk runs on <state>".into()));
        assert!(
            page.contains("can&#39;t be read (no afk runs on &lt;state&gt;)")
                || page.contains("can't be read (no afk runs on &lt;state&gt;)"),
            "{page}"
        );
    }
}
