use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::process::Supervisor;

const SECRET: &str = "the/operators+own\"token";
const GITHUB: &str = "ghp_0123456789abcdefghijABCDEFGHIJ123456";

/// A repository with one commit.
struct Bed {
    dir: tempfile::TempDir,
    base: Sha,
}

impl Bed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut bed = Self { dir, base: Sha(String::new()) };
        bed.git(&["init", "-q", "--initial-branch=main"]);
        bed.base = bed.commit(&[("README", "begin\n")], "Begin");
        bed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn git(&self, args: &[&str]) -> String {
        let us =
            ["-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgSign=false"];
        let out = Command::new("git")
            .arg("-C")
            .arg(self.dir.path())
            .args(us)
            .args(args)
            .output()
            .unwrap();
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn commit(&self, files: &[(&str, &str)], message: &str) -> Sha {
        for (name, text) in files {
            self.write(name, text);
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.head()
    }

    fn head(&self) -> Sha {
        Sha(self.git(&["rev-parse", "HEAD"]))
    }

    async fn try_scan(&self, gate: &GateConfig) -> Result<Vec<Leak>, WorkspaceError> {
        let supervisor = Supervisor::new("afk".into(), "test".into(), Duration::from_secs(1));
        let limit = Duration::from_secs(60);
        let git = Git::new(&self.path(".git"), &supervisor, "test", limit);
        let redactor = Redactor::new([SECRET.to_owned()]);
        scan(&git, &self.base, &self.head(), gate, &redactor, limit).await
    }

    /// The places without their commits.
    async fn places(&self, gate: &GateConfig) -> Vec<String> {
        let found = self.try_scan(gate).await.unwrap();
        let without_commit = |leak: &Leak| {
            let line = leak.summary();
            assert!(!line.contains(SECRET) && !line.contains(GITHUB), "{line}");
            line.split_once(' ').unwrap().1.to_owned()
        };
        found.iter().map(without_commit).collect()
    }
}

fn exempt(globs: &[&str]) -> GateConfig {
    let scan_exempt = globs.iter().map(|&glob| glob.to_owned()).collect();
    GateConfig { scan_exempt, ..GateConfig::default() }
}

#[tokio::test]
async fn scan_finds_a_secret_that_a_later_commit_deletes() {
    let bed = Bed::new();
    let leaking = bed.commit(&[("src/a.sh", &format!("x\ny\ntoken={GITHUB}\n"))], "Add it");
    bed.commit(&[("src/a.sh", "x\ny\n")], "Take it out");
    let found = bed.try_scan(&GateConfig::default()).await.unwrap();
    let place = LeakPlace::Line("src/a.sh".into(), 3);
    let kind = LeakKind::Shape("a GitHub token");
    assert_eq!(found, [Leak { commit: leaking, place, kind }]);
}

#[tokio::test]
async fn scan_finds_known_values_in_every_form_message_and_name() {
    let bed = Bed::new();
    let base64 = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(format!("user:{SECRET}"))
    };
    let (one, two) = base64.split_at(20);
    let hex = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    bed.commit(
        &[
            ("plain", &format!("\n{SECRET}")),
            ("base64", &format!("{one}\n{two}\n")),
            ("json", &serde_json::json!({ "k": SECRET }).to_string()),
            (&format!("dir/{hex}"), "x"),
            ("binary", &format!("\0\u{1}{SECRET}\0")),
        ],
        &format!("Explain\n\nwith {SECRET}"),
    );
    let gate = exempt(&["**"]);
    let mut places = bed.places(&gate).await;
    places.sort();
    let known = |place: &str| format!("{place}: a secret that afk knows");
    assert_eq!(
        places,
        [
            known("base64 line 1"),
            known("binary line 1"),
            known("its message"),
            known("json line 1"),
            known("plain line 2"),
            known("the name of dir/[redacted]"),
        ]
    );
}

#[tokio::test]
async fn scan_names_leftovers() {
    let bed = Bed::new();
    bed.write(".env", "DEBUG=1\nAPI_KEY=q8Zr2LkP0vYt\n");
    bed.write(".env.example", "API_KEY=q8Zr2LkP0vYt\n");
    let core = std::fs::File::create(bed.path("core")).unwrap();
    core.set_len(11 * MIB).unwrap();
    std::os::unix::fs::symlink("/home/me/thing/node_modules", bed.path("node_modules")).unwrap();
    std::os::unix::fs::symlink("../../etc", bed.path("up")).unwrap();
    std::os::unix::fs::symlink("README", bed.path("inside")).unwrap();
    bed.commit(&[], "Leave everything");
    let places = bed.places(&GateConfig::default()).await;
    assert_eq!(
        places,
        [
            ".env line 2: the value of API_KEY",
            "core: a file of 11 MiB, and the limit is 10 MiB",
            "node_modules: a link to a place outside of the repository",
            "up: a link to a place outside of the repository",
        ]
    );
    let gate = exempt(&[".env", "core", "node_modules", "up"]);
    assert_eq!(bed.places(&gate).await, Vec::<String>::new());
    let gate = GateConfig { max_file_mib: 11, ..exempt(&[".env", "node_modules", "up"]) };
    assert_eq!(bed.places(&gate).await, Vec::<String>::new());
}

#[tokio::test]
async fn scan_passes_what_the_base_has_and_what_moves() {
    let mut bed = Bed::new();
    bed.base = bed.commit(&[("a/key", GITHUB), ("big", "")], "Begin with a key");
    bed.commit(&[("a/key", &format!("# a comment\n{GITHUB}\n"))], "Edit beside it");
    bed.git(&["mv", "a/key", "b"]);
    bed.commit(&[("c", "x")], "Move it");
    assert_eq!(bed.places(&GateConfig::default()).await, Vec::<String>::new());
}

#[tokio::test]
async fn scan_reads_the_commits_of_a_merged_branch_once() {
    let bed = Bed::new();
    bed.git(&["checkout", "-q", "-b", "side"]);
    let leaking = bed.commit(&[("side", GITHUB)], "Aside");
    bed.git(&["checkout", "-q", "main"]);
    bed.commit(&[("main", "x")], "Ahead");
    bed.git(&["merge", "-q", "--no-edit", "side"]);
    let found = bed.try_scan(&GateConfig::default()).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].commit, leaking);
}

#[tokio::test]
async fn scan_sees_behind_attributes_replacements_and_grafts() {
    let bed = Bed::new();
    bed.write(".gitattributes", "* -diff filter=hide\n");
    let leaking = bed.commit(&[("a", GITHUB)], "Leak");
    let clean = bed.commit(&[("a", "x")], "Hide");
    bed.git(&["replace", &leaking.0, &bed.base.0]);
    assert_eq!(bed.places(&GateConfig::default()).await, ["a line 1: a GitHub token"]);
    let info = bed.path(".git/info");
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(info.join("grafts"), format!("{} {}\n", clean.0, bed.base.0)).unwrap();
    match bed.try_scan(&GateConfig::default()).await {
        Ok(found) => assert_eq!(found.len(), 1, "a graft hides the commit"),
        Err(error) => assert!(error.to_string().contains("hides the parents"), "{error}"),
    }
}

#[test]
fn leaves_follows_the_parts_of_a_target() {
    for (path, target, outside) in [
        ("a", "b/c", false),
        ("a", "..", true),
        ("a/b", "../c", false),
        ("a/b", "../../c", true),
        ("a/b", "c/../../d", false),
        ("a", "/etc/passwd", true),
        ("a", ".git/config", true),
    ] {
        assert_eq!(leaves(Path::new(path), target.as_bytes()), outside, "{path} -> {target}");
    }
}

#[test]
fn environment_files_are_known_by_their_names() {
    for name in [".env", "a/.env.local", "prod.env"] {
        assert!(is_environment_file(name.as_bytes()), "{name}");
    }
    for name in [".env.example", "sample.env", "env", "a.env/b", ".environment/x"] {
        assert!(!is_environment_file(name.as_bytes()), "{name}");
    }
}
