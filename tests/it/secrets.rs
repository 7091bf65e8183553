//! Secrets: no form of one reaches a file in the state folder or the tracker, and no commit with one
//! reaches the remote.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use afk::core::model::run::Outcome;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use crate::support::world::{END, WORK, World, ended};
use crate::support::{afk, git, log, repository_folder, text};

/// A secret without the shape of any key, with bytes that every encoding changes.
const TOKEN: &str = "k/Qz+\"op 7\\w?~which-has-no-known-shape>>";

/// The encoded forms of the token, alone and inside of a longer text.
fn forms() -> Vec<String> {
    let mut forms = vec![TOKEN.to_owned()];
    for before in ["", "a", "ab", "user:"] {
        let text = format!("{before}{TOKEN}");
        forms.extend([STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)]);
    }
    forms.push(TOKEN.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat());
    forms.push(TOKEN.bytes().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().concat());
    let percent = |byte: u8| match byte {
        b'-' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    forms.push(TOKEN.bytes().map(percent).collect::<Vec<_>>().concat());
    forms.push(TOKEN.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat());
    let json = serde_json::to_string(TOKEN).unwrap();
    forms.push(json.trim_matches('"').to_owned());
    forms
}

/// Parts of the forms that are long enough to reveal them, also where a line break splits one.
fn fragments() -> Vec<Vec<u8>> {
    let forms = forms();
    let halves = forms.iter().flat_map(|form| {
        let (one, two) = form.split_at(form.len() / 2);
        // The ends of base64 depend on the bytes beside the secret.
        [one[one.len() - 16..].to_owned(), two[..16].to_owned()]
    });
    halves.map(String::into_bytes).collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

fn assert_clean(folder: &Path, except: &Path) {
    let fragments = fragments();
    let mut read = 0;
    for path in files(folder).into_iter().filter(|path| !path.starts_with(except)) {
        let bytes = std::fs::read(&path).unwrap();
        for fragment in &fragments {
            let at = bytes.windows(fragment.len()).position(|part| part == fragment);
            if let Some(at) = at {
                let around = &bytes[at.saturating_sub(200)..(at + 200).min(bytes.len())];
                panic!("{} in {}: {}", text(fragment), path.display(), text(around));
            }
        }
        read += 1;
    }
    assert!(read > 0, "nothing was read in {}", folder.display());
}

/// Puts the token into a file that the agent's section names.
fn with_token(world: World) -> World {
    let key = world.path("key");
    std::fs::write(&key, format!("{TOKEN}\n")).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    world.agent(&format!("secrets = {{ AGENT_SETTING = 'file:{}' }}", key.display()))
}

/// The lines of an agent that reveals its token in every event and every form, whole and split.
fn revealing_lines() -> String {
    let mut lines = Vec::new();
    lines.push(serde_json::json!({"type": "session", "id": format!("id-{TOKEN}")}));
    for form in forms() {
        let (one, two) = form.split_at(form.len() / 2);
        lines.push(serde_json::json!({"type": "text", "text": format!("it is {form}.")}));
        lines.push(serde_json::json!({"type": "text", "text": format!("it is {one}")}));
        lines.push(serde_json::json!({"type": "text", "text": format!("{two}, in two")}));
        lines.push(serde_json::json!({"type": "thought", "text": format!("{one}\n{two}")}));
        lines.push(serde_json::json!({
            "type": "tool_start", "id": format!("t-{form}"), "kind": "shell", "title": form,
        }));
        lines.push(serde_json::json!({
            "type": "tool_end", "id": format!("t-{form}"), "ok": true, "code": 0, "output": form,
        }));
        lines.push(serde_json::json!({"type": "plan", "items": [{"text": form, "done": false}]}));
        lines.push(serde_json::json!({"type": "diff", "path": "a", "diff": format!("+{form}")}));
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{line}\n"));
    }
    // A line that is no JSON, too.
    for form in forms() {
        text.push_str(&format!("raw {form}\n"));
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn token_in_any_form_reaches_neither_the_state_folder_nor_the_tracker() {
    let world = World::new("");
    let (lines, output) = (world.path("lines"), world.path("output"));
    std::fs::write(&lines, revealing_lines()).unwrap();
    let mut printed = String::new();
    for form in forms() {
        let (one, two) = form.split_at(form.len() / 2);
        printed.push_str(&format!("{form}\n{one}\n{two}\n"));
    }
    std::fs::write(&output, printed).unwrap();
    let say = format!("cat '{}'", output.display());
    std::fs::write(
        world.path("agent.sh"),
        format!(
            "US='-c user.name=agent -c user.email=agent@localhost -c commit.gpgSign=false'\n\
             read -r prompt\ncat '{}'\n{say} >&2\n\
             case $prompt in *'exits with'*) echo done > state; git $US commit -qam Fix;; *) {WORK}\n\
             echo no > state; git $US commit -qam Break;; esac\n{END}\n",
            lines.display()
        ),
    )
    .unwrap();
    let world = with_token(world).with("[fix_forward]\nattempts = 1");
    std::fs::write(world.path("work/tests/first.sh"), &say).unwrap();
    // The tests pass once; CI fails for good, and the run is frozen with its evidence.
    let world = world.rules(&format!("[ci]\ncommand = \"{say}; exit 1\""));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Frozen), "{:?}", run.progress.why);
    let state = world.state();
    assert_clean(&state, &repository_folder(&state, "acme/thing"));
    assert_clean(&world.path("issues"), Path::new("/nowhere"));
    let logs = files(&state.join("logs"));
    for kind in ["gate-base", "gate-head", "ci"] {
        let log = logs.iter().find(|log| log.to_string_lossy().contains(kind)).unwrap();
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.contains("[redacted]"), "{kind}: {log}");
    }
    assert!(files(&state.join("capsules")).len() > 5);
    let transcript = world.transcript(1);
    assert!(transcript.contains("it is [redacted].") && transcript.contains("[redacted], in two"));
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_record_of_an_agent_holds_no_form_of_its_token() {
    let world = World::claude("init; taken; cat \"$LINES_FILE\"; work; result");
    let lines: Vec<String> = forms()
        .iter()
        .flat_map(|form| {
            let (one, two) = form.split_at(form.len() / 2);
            [form.clone(), format!("it is {one}"), format!("{two} in two")]
        })
        .enumerate()
        .map(|(number, text)| {
            let content = serde_json::json!([{"type": "text", "text": text}]);
            let message = serde_json::json!({
                "id": format!("m{number}"), "role": "assistant", "content": content,
            });
            let line = serde_json::json!({
                "type": "assistant", "message": message, "session_id": "session-1",
            });
            format!("{line}\n")
        })
        .collect();
    let file = world.path("lines");
    std::fs::write(&file, lines.concat()).unwrap();
    let world = with_token(world).agent(&format!("set = {{ LINES_FILE = '{}' }}", file.display()));
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let state = world.state();
    let raw = std::fs::read_to_string(state.join("raw/r1.jsonl")).unwrap();
    assert!(raw.contains("[redacted]") && raw.contains("in two"), "{raw}");
    assert_clean(&state, &repository_folder(&state, "acme/thing"));
}

/// Shell: leaves a secret in the history, and other things that don't belong into a push.
const LEAK: &str = "\
printf 'x\\n%s\\n' \"$AGENT_SETTING\" > notes; git add notes; git $US commit -qm 'Take notes'
git rm -q notes; git $US commit -qm 'Forget them'
echo 'API_KEY=q8Zr2LkP0vYt' > .env
truncate -s 11M core
ln -s /usr/lib/node_modules modules
git add --all; git $US commit -qm 'Add the rest'";

#[tokio::test(flavor = "multi_thread")]
async fn commits_with_secrets_are_not_pushed_and_the_agent_rewrites_them() {
    let world = World::new("");
    let told = world.path("told");
    std::fs::write(
        world.path("agent.sh"),
        format!(
            "US='-c user.name=agent -c user.email=agent@localhost -c commit.gpgSign=false'\n\
             read -r prompt\nbase=$(git rev-parse ':/Begin')\n\
             case $prompt in *'must not be pushed'*) printf %s \"$prompt\" > '{}'\n\
             git reset -q --hard \"$base\"; git clean -qfd\n{WORK}\n;;\n\
             *) {WORK}\n{LEAK}\n;; esac\n{END}\n",
            told.display()
        ),
    )
    .unwrap();
    let world = with_token(world);
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    assert!(run.progress.leaks.is_empty(), "{:?}", run.progress.leaks);
    let told = std::fs::read_to_string(told).unwrap();
    for place in [
        " notes line 2: a secret that afk knows",
        " .env line 1: the value of API_KEY",
        " core: a file of 11 MiB, and the limit is 10 MiB",
        " modules: a link to a place outside of the repository",
        "git reset --soft ",
    ] {
        assert!(told.contains(place), "{place} is not in {told}");
    }
    assert!(!told.contains("which-has-no-known-shape") && !told.contains("q8Zr2LkP0vYt"));
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin", "Test it", "Do it"]);
    let objects = git(
        &world.remote(),
        &["cat-file", "--batch-check=%(objecttype) %(objectsize)", "--batch-all-objects"],
    );
    let largest = objects.lines().filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    assert!(largest.max().unwrap() < 1024 * 1024, "the core was pushed");
}

#[tokio::test(flavor = "multi_thread")]
async fn leaks_are_explained_to_a_human_and_exempt_paths_may_hold_keys() {
    let key = "ghp_0123456789abcdefghijABCDEFGHIJ123456";
    let script = format!(
        "{WORK}\nmkdir -p tests/fixtures\necho {key} > tests/fixtures/key\ngit add tests\ngit $US commit -qm 'Add a fixture'\n{END}"
    );
    let world = World::new(&script);
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::NeedsHuman), "{:?}", run.progress.why);
    assert_eq!(log(&world.remote(), "master", "%s"), ["Begin"]);
    let ask = |words: &[&str]| {
        let places = world.places();
        let args: Vec<&str> =
            places.iter().map(String::as_str).chain(words.iter().copied()).collect();
        let out = afk(&args).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", text(&out.stderr));
        text(&out.stdout)
    };
    let place = "tests/fixtures/key line 1: a GitHub token";
    let explained = ask(&["explain", "r1"]);
    assert!(explained.contains("must not be pushed: ") && explained.contains(place), "{explained}");
    let proof: serde_json::Value = serde_json::from_str(&ask(&["proof", "r1"])).unwrap();
    assert!(proof["leaks"][0].as_str().unwrap().ends_with(place), "{proof}");

    let world = World::new(&script).rules("[gate]\nscan_exempt = ['tests/fixtures/**']");
    let runtime = world.start().await;
    let run = ended(&runtime).await;
    runtime.stop().await;
    assert_eq!(run.progress.outcome, Some(Outcome::Done), "{:?}", run.progress.why);
    let pushed = git(&world.remote(), &["show", "master:tests/fixtures/key"]);
    assert_eq!(pushed, key);
}
