//! Wrong values, and the place and the cause that their errors name. A value in each row is one that
//! somebody may write.

use super::Config;
use super::repository::RepositoryRules;

/// A repository and an agent that the rows below may name.
const BASE: &str =
    "allowlist = ['a/b']\n[repos.'a/b']\nremote = 'x'\n[agents.x]\ncommand = ['x']\n";

fn of_config(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("afk.toml");
    std::fs::write(&path, text).unwrap();
    let error = Config::load(&path, &|_| None).expect_err(text);
    let snippet = error.snippet();
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line:?} has several lines");
    let is_secret = line.contains("never the secret itself");
    assert_eq!(snippet.is_empty(), is_secret, "{text:?} shows {snippet:?}");
    assert!(is_secret || snippet.contains('^'), "{text:?} marks nothing: {snippet}");
    line.replace(&folder.path().display().to_string(), "")
}

#[test]
fn wrong_value_of_the_configuration_names_place_cause_and_mend() {
    for (text, place, cause) in [
        // What is no TOML.
        ("kill_switch = ", "1:", ""),
        ("kill_switch true", "1:", ""),
        ("[limits\nturn_minutes = 1", "1:", ""),
        ("capacity = 1\ncapacity = 2", "2:1", "duplicate key"),
        ("operator = 'a", "1:", ""),
        // Unknown keys.
        ("kill_swich = true", "1:1", "did you mean `kill_switch`?"),
        ("\n[limits]\nturn_minute = 3", "3:1", "did you mean `turn_minutes`?"),
        ("[budget]\nday = 3", "2:1", "unknown field `day`"),
        ("[repo.'a/b']\nremote = 'x'", "1:2", "did you mean `repos`?"),
        ("[ui]\ntheem = 'dark'", "2:1", "did you mean `theme`?"),
        ("[log]\nlevel = 'debug'", "2:1", "unknown field `level`"),
        ("[agents.x]\nprset = 'claude'", "2:1", "did you mean `preset`?"),
        ("[http]\nport = 8420", "2:1", "unknown field `port`"),
        // Wrong types.
        ("kill_switch = 'off'", "1:15", "expected a boolean"),
        ("capacity = -1", "1:12", "invalid value"),
        ("capacity = 'many'", "1:12", "expected u32"),
        ("capacity = 1.5", "1:12", "expected u32"),
        ("allowlist = 'a/b'", "1:13", "expected a sequence"),
        ("allowlist = ['acme']", "1:14", "is not a repository name"),
        ("trusted = [1]", "1:12", "expected"),
        ("[tracker]\npoll_seconds = '30'", "2:16", "expected u64"),
        ("[budget]\nday_usd = '5'", "2:11", "expected f64"),
        ("[http]\nlisten = 8420", "2:10", "invalid type"),
        ("[http]\nlisten = 'localhost:8420'", "2:10", "invalid socket address"),
        ("[http.tokens.a]\nsecret = 'env:A'\nrole = 'boss'", "3:8", "unknown variant `boss`"),
        ("[sandbox]\nlevel = 'weak'", "2:9", "unknown variant `weak`"),
        ("[sandbox]\nnetwork = 'host'", "2:11", "unknown variant `host`"),
        ("[sandbox]\nhosts = ['https://a.com/']", "2:10", "write the host alone"),
        ("[sandbox]\ncgroup = 'yes'", "2:10", "neither \"auto\" nor \"off\""),
        ("[notify]\nquiet = '22-7'", "2:9", "should be like 22:00-07:00"),
        ("[notify.sinks.a]\nkind = 'fax'", "", "unknown variant `fax`"),
        ("[notify.sinks.a]\nkind = 'ntfy'\naddress = 'https://a'", "", "missing field `topic`"),
        ("[executors.a]\nkind = 'cloud'", "", "unknown variant `cloud`"),
        ("[log]\nformat = 'xml'", "2:10", "unknown variant `xml`"),
        ("[leader]\nseconds = 15", "1:1", "missing field `lease`"),
        ("[agents.x]\nspeaks = 'mcp'", "2:10", "unknown variant `mcp`"),
        ("[agents.x]\ncommand = 'claude'", "2:11", "expected a sequence"),
        // Ranges.
        ("max_queue_depth = 0", "1:19", "should be from 1 to"),
        ("[tracker]\npoll_seconds = 0", "2:16", "should be from 1 to"),
        ("[limits]\nturn_minutes = 0", "2:16", "should be from 1 to"),
        ("[limits]\nturn_minutes = 99999999", "2:16", "to 43200"),
        ("[limits]\nmemory_mib = 0", "2:14", "should be from 1 to"),
        ("[limits]\ngit_seconds = 0", "2:15", "should be from 1 to"),
        ("[limits]\ngrace_seconds = 86400", "2:17", "to 3600"),
        ("[fix_forward]\nattempts = 1000", "2:12", "to 100"),
        ("[outages]\nlongest_pause_seconds = 0", "2:25", "should be from 1 to"),
        ("[budget]\nday_usd = -5.0", "2:11", "0 or more"),
        ("[budget]\nrun_usd = nan", "2:11", "0 or more"),
        ("[budget]\nday_usd = 5.0\nday_soft_usd = 9.0", "3:16", "is over day_usd"),
        ("[log]\nkeep_days = 0", "2:13", "should be from 1 to 3650"),
        ("[presence]\nurl = 'https://a'\nheartbeat_seconds = 0", "3:21", "should be 1 or more"),
        ("[leader]\nlease = 'a/b'\nseconds = 60", "3:11", "should be from 2 to 25"),
        // Values that make no sense.
        ("[labels]\nready = ''", "2:9", "is empty"),
        ("[labels]\nready = 'x'\nhuman = 'x'", "3:9", "is the label of labels.ready already"),
        ("[github]\ntoken = 'env:T'\napi = 'api.github.com'", "3:7", "http:// or https://"),
        ("[woodpecker]\naddress = 'ci'\ntoken = 'env:T'", "2:11", "http:// or https://"),
        ("[vault]\naddress = 'vault:8200'", "2:11", "http:// or https://"),
        ("[loki]\naddress = 'loki'", "2:11", "http:// or https://"),
        ("[traces]\nendpoint = 'localhost:4318'", "2:12", "http:// or https://"),
        ("[leader]\nlease = 'afk'", "2:9", "should be namespace/name"),
        ("[control]\nconfig_map = 'afk'", "2:14", "should be namespace/name"),
        ("[notify.sinks.a]\nkind = 'command'\ncommand = []", "3:11", "names no program"),
        ("[agents.x]\ncommand = []", "2:11", "names no program"),
        ("[agents.x]\npreset = 'gpt'", "2:10", "is not one of"),
        (
            "[agents.x]\ncommand = ['x']\nprice = { input = -1.0, output = 1.0 }",
            "3:1",
            "US dollars",
        ),
        // Secrets that stand where a reference belongs.
        ("[github]\ntoken = 'ghp_0123456789'", "2:9", "env:NAME, file:/path or vault:"),
        ("[http.tokens.a]\nsecret = 'hunter2-hunter2'", "2:10", "env:NAME, file:/path or vault:"),
        ("[traces]\nendpoint = 'http://a'\nheaders = { key = 'k-1' }", "3:19", "env:NAME"),
        ("[agents.x]\npreset = 'claude'\nsecrets = { K = 'sk-1' }", "3:17", "env:NAME"),
        // Rules between sections.
        ("allowlist = ['a/b']", "1:13", "a/b has no [repos.\"a/b\"]"),
        ("agent = 'x'", "1:9", "there is no [agents.x]"),
        ("[repos.'a/b']\nremote = 'ext::sh'", "2:10", "is not an allowed remote"),
        ("[repos.'a/b']\nremote = 'x'\nbranch = '-f'", "3:10", "is not a branch name"),
        ("[repos.'a/b']\nbranch = 'main'", "1:8", "remote: is missing"),
        ("[repos.'a/b']\nremote = 'x'\ntracker = 'github'", "3:11", "needs [github]"),
        ("[repos.'a/b']\nremote = 'x'\nagent = 'y'", "3:9", "there is no [agents.y]"),
        ("[repos.'a/b']\nremote = 'x'\nexecutor = 'y'", "3:12", "there is no [executors.y]"),
        ("[repos.'a/b']\nremote = 'x'\ncaches = { X = '/x' }", "3:16", "without .."),
        ("[github]\ntriage_arms = true", "1:2", "set `token` or `app`"),
        ("[presence]\ntoken = 'env:T'", "2:9", "set `presence.url` too"),
        ("[journal]\nanchor_file = 'x'", "1:2", "anchor_key: is missing"),
        ("[service]\nmodel = 'x'", "1:2", "repository: is missing"),
        (
            "[ssh]\nenabled = true\nlisten = '127.0.0.1:8420'\n[http]\nenabled = true\nlisten = '127.0.0.1:8420'",
            "6:10",
            "is the address of [ssh] already",
        ),
    ] {
        let line = of_config(text);
        assert!(line.starts_with(&format!("/afk.toml:{place}")), "{text:?} gave {line:?}");
        assert!(line.contains(cause), "{text:?} gave {line:?}");
    }
}

#[cfg(not(feature = "traces"))]
#[test]
fn build_without_traces_refuses_their_section_and_names_the_build_that_has_them() {
    let line = of_config("[traces]\nendpoint = 'http://127.0.0.1:4318'");
    assert!(line.starts_with("/afk.toml:1:2: traces: this afk was built without"), "{line:?}");
    assert!(line.contains("`cargo install --locked --path . --features traces`"), "{line:?}");
}

#[cfg(feature = "traces")]
#[test]
fn build_with_traces_takes_their_section_and_checks_names_of_headers() {
    let line = of_config("[traces]\nendpoint = 'http://a'\nheaders = { 'a b' = 'env:A' }");
    assert!(line.starts_with("/afk.toml:3:"), "{line:?}");
    assert!(line.contains("traces.headers: \"a b\" is not the name of a header"), "{line:?}");
    let text = "endpoint = 'http://127.0.0.1:4318'\nheaders = { x-team = 'env:A' }";
    let traces = toml::from_str(text).unwrap();
    Config { traces: Some(traces), ..Config::default() }.check().unwrap();
}

#[test]
fn wrong_value_after_a_whole_configuration_is_found() {
    for (text, cause) in [
        ("[service]\nrepository = 'c/d'", "8:14: service.repository: c/d is not on the allowlist"),
        ("[service]\nrepository = 'a/b'\nmodel = 'x'", "9:9: service.model: \"x\" is not one of"),
        (
            "[service]\nrepository = 'a/b'\n[service.chat]\nseconds = 0",
            "10:11: service.chat.seconds: should be from 1 to 86400",
        ),
        (
            "[executors.y]\nkind = 't3'\naddress = 'there'\ntoken = 'env:A'",
            "9:11: executors.y.address: is not an http:// or https:// address",
        ),
    ] {
        let line = of_config(&format!("{BASE}\n{text}"));
        assert!(line.starts_with(&format!("/afk.toml:{cause}")), "{text:?} gave {line:?}");
    }
}

#[test]
fn wrong_value_of_a_repository_names_place_cause_and_mend() {
    for (text, cause) in [
        ("tests = 'x'", ".afk.toml:1:1: tests: unknown field `tests`"),
        ("test = ''", ".afk.toml:1:8: test: is empty"),
        ("test = 1", ".afk.toml:1:8: test: invalid type"),
        ("test = 'x'\n[ci]", ".afk.toml:2:2: ci: needs exactly one of"),
        (
            "test = 'x'\n[ci]\ngithub = true\ncommand = 'x'",
            ".afk.toml:2:2: ci: needs exactly one of",
        ),
        ("test = 'x'\n[deploy]\nminutes = 3", ".afk.toml:2:2: deploy: needs a `command`"),
        ("test = 'x'\n[probe]", ".afk.toml:2:2: probe: needs either"),
        (
            "test = 'x'\n[probe]\ncommand = 'x'\ninterval_ms = 0",
            ".afk.toml:4:15: probe.interval_ms",
        ),
        ("test = 'x'\n[gate]\nmax_file_mib = 0", ".afk.toml:3:16: gate.max_file_mib"),
        ("test = 'x'\n[gate]\nreruns = 99", ".afk.toml:3:10: gate.reruns: must be at most 10"),
        (
            "test = 'x'\n[gate]\ntests = ['[']",
            ".afk.toml:3:9: gate.tests: \"[\" is not a valid glob",
        ),
        ("test = 'x'\n[gate]\nreport = 'csv'", ".afk.toml:3:10: gate.report: \"csv\" is no format"),
        (
            "test = 'x'\n[permissions]\nallow = ['fly']",
            ".afk.toml:3:10: permissions.allow[0]: \"fly\"",
        ),
        ("test = 'x'\n[[deploy.kubernetes]]\nname = 'a'", "missing field `namespace`"),
    ] {
        let error = RepositoryRules::parse(text).expect_err(text);
        let line = error.to_string();
        assert!(line.contains(cause), "{text:?} gave {line:?}");
        assert!(error.snippet().contains('^'), "{text:?} marks nothing");
    }
}
