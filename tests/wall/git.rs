//! git repositories that a hostile agent has prepared for afk's git: none of them has afk run a
//! program, read a file or take an object with rights that the agent doesn't have.
//!
//! `tests/it/workspace_wall.rs` holds replaced objects, the filters of a proof, hooks, a broken or
//! replaced repository, unsound objects and nested repositories in the loop without these attacks on
//! afk's own files.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use afk::core::model::run::Outcome;
use afk::sandbox::Level;

use crate::prison::{ORDINARY, SECRET, User, places};
use crate::support::world::{END, Up, WORK, World, ended, wait_until};
use crate::support::{git, repository_folder, text, try_git};

/// Shell: `settings` writes every setting that has git run a program into the repository of the
/// working folder. Each program leaves `$WORLD/owned-…` and passes its
/// input on, beside ssh: git would wait for it.
const SETTINGS: &str = r#"
run() { printf "sh -c 'touch %s/owned-%s; [ %s = ssh ] || cat' #" "$WORLD" "$1" "$1"; }
settings() {
    for pair in core.fsmonitor:fsmonitor core.sshCommand:ssh core.gitProxy:proxy core.askPass:askpass \
        core.alternateRefsCommand:alternate-refs diff.external:external diff.evil.textconv:textconv \
        diff.evil.command:command filter.evil.clean:clean filter.evil.smudge:smudge \
        filter.lfs.clean:lfs-clean filter.lfs.smudge:lfs-smudge filter.proc.process:process \
        merge.evil.driver:merge credential.helper:credential gpg.program:gpg gpg.ssh.program:gpg-ssh \
        uploadpack.packObjectsHook:pack-hook remote.origin.uploadpack:upload-pack \
        remote.origin.receivepack:receive-pack submodule.sub.update:submodule-update; do
        git config --file .git/config "${pair%%:*}" "$(run "${pair##*:}")"
    done
    mkdir -p .git/evil .git/hooks
    for hook in pre-commit commit-msg post-commit pre-push post-checkout post-merge post-rewrite pre-rebase \
        reference-transaction post-index-change pre-auto-gc update pre-receive post-receive fsmonitor-watchman; do
        for folder in .git/hooks .git/evil; do
            printf '#!/bin/sh\ntouch %s/owned-hook\n' "$WORLD" > $folder/$hook; chmod 755 $folder/$hook
        done
    done
    printf '[core]\n\thooksPath = .git/evil\n\tpager = touch %s/owned-pager\n' "$WORLD" > .git/more
    printf '[core]\n\tfsmonitor = touch %s/owned-worktree-config\n' "$WORLD" > .git/config.worktree
    git config --file .git/config include.path more
    git config --file .git/config includeIf.gitdir:/.path "$PWD/.git/more"
    git config --file .git/config commit.gpgSign true
    git config --file .git/config protocol.ext.allow always
    git config --file .git/config "url.ext::sh -c touch% $WORLD/owned-instead-of% #.insteadOf" "$WORLD/remote.git"
    git config --file .git/config remote.origin.promisor true
    mkdir -p .git/info
    echo '*.evil filter=evil diff=evil merge=evil' >> .git/info/attributes
}
"#;

/// Shell: files that the filters of `SETTINGS` apply to.
const ATTRIBUTES: &str = "\
printf '%s\\n' '*.evil filter=evil diff=evil merge=evil' '*.lfs filter=lfs diff=lfs merge=lfs' '*.proc filter=proc' > .gitattributes
for end in evil lfs proc; do echo content > file.$end; done";

/// The marks that programs have left in a folder.
fn owned(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("owned")).collect()
}

/// git in a repository that may belong to another user.
fn any(dir: &Path, args: &[&str]) -> String {
    text(&try_git(dir, &[&["-c", "safe.directory=*"], args].concat()).stdout)
}

/// What an attack must not have left anywhere.
fn assert_nothing_came_of(world: &World, what: &str) {
    assert_eq!(owned(world.root()), BTreeSet::new(), "{what}");
    let base = repository_folder(&world.state(), "acme/thing").join("base.git");
    for repository in [world.remote(), base.clone()] {
        for line in any(&repository, &["cat-file", "--batch-all-objects", "--batch-check"]).lines()
        {
            let object = line.split(' ').next().unwrap();
            let content = any(&repository, &["cat-file", "-p", object]);
            assert!(!content.contains(SECRET), "{what}: {} has the secret", repository.display());
        }
    }
    let refs = any(&base, &["for-each-ref"]);
    assert!(!refs.contains("evil"), "{what}: {refs}");
    assert!(!base.join("index").exists() && !base.join("evil").exists(), "{what}");
    for folder in ["transcripts", "logs"] {
        let entries = std::fs::read_dir(world.state().join(folder)).into_iter().flatten().flatten();
        for entry in entries {
            let content = std::fs::read(entry.path()).unwrap_or_default();
            assert!(!text(&content).contains(SECRET), "{what}: {}", entry.path().display());
        }
    }
}

/// A world with a secret beside it: a file, and a repository that holds it.
fn world(script: &str) -> World {
    let world = World::new(&format!("{SETTINGS}\n{script}\n{END}")).walled();
    std::fs::write(world.path("key"), format!("{SECRET}\n")).unwrap();
    git(world.root(), &["init", "-q", "--initial-branch=master", "secret"]);
    let secret = world.path("secret");
    std::fs::write(secret.join("key"), format!("{SECRET}\n")).unwrap();
    git(&secret, &["add", "key"]);
    git(&secret, &["commit", "-q", "-m", "Secret"]);
    let set = [
        ("WORLD", world.root().display().to_string()),
        (
            "BASE",
            repository_folder(&world.state(), "acme/thing").join("base.git").display().to_string(),
        ),
        ("BLOB", git(&secret, &["rev-parse", "HEAD:key"])),
        ("COMMIT", git(&secret, &["rev-parse", "HEAD"])),
    ];
    let set: Vec<String> = set.iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
    world.agent(&format!("set = {{ {} }}", set.join(", ")))
}

#[test]
fn settings_of_a_repository_run_programs_where_git_obeys_them() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "{SETTINGS}\nexport WORLD=\"$PWD\"\ngit init -q --initial-branch=master repository && cd repository || exit 1\n\
         git config user.name a; git config user.email a@localhost\n{ATTRIBUTES}\n\
         git add --all && git -c commit.gpgSign=false commit -qm One && settings || exit 1\n\
         git config remote.origin.url \"$WORLD/remote.git\"\n\
         echo more >> file.evil; echo more >> file.lfs; git status; git diff; git --no-pager diff --no-ext-diff; git add --all; git commit -m Two; git -c commit.gpgSign=false commit -m Two\n\
         rm file.evil file.lfs; git checkout -- .; git fetch origin; git -c core.fsmonitor=false fetch ssh://localhost/x; true"
    );
    let mut command = Command::new("timeout");
    command.args(["60", "sh", "-c", &script]).current_dir(dir.path()).stdin(Stdio::null());
    let output = command.env("HOME", dir.path()).env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let owned = owned(dir.path());
    for name in [
        "fsmonitor",
        "external",
        "command",
        "clean",
        "smudge",
        "lfs-clean",
        "hook",
        "instead-of",
        "ssh",
    ] {
        assert!(owned.contains(&format!("owned-{name}")), "{name}: {owned:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_an_agent_and_filters_of_the_user_run_nothing() {
    for (level, user) in places() {
        let what = format!("{level} {user:?}");
        let world = world(&format!(
            "env | grep -E 'SSH_AUTH_SOCK|AFK_WALL_SECRET|{SECRET}' && echo '{{\"type\":\"text\",\"text\":\"SEEN\"}}'\n\
             {ATTRIBUTES}\nsed -i s/filter=lfs/filter=large/ .gitattributes\n\
             git add --all; git $US commit -qm Files; {WORK}\necho more >> file.evil; echo more >> file.lfs; echo loose > loose\n\
             git config --file .git/config extensions.worktreeConfig true\nsettings"
        ));
        world.config();
        let file = world.path("afk.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        let config = config.replace("[sandbox]\n", &format!("[sandbox]\nlevel = '{level}'\n"));
        std::fs::write(&file, config).unwrap();
        // A user with a filter like that of git-lfs, whose plain files the gate would refuse.
        let home = world.path("home");
        std::fs::create_dir(&home).unwrap();
        let evil = format!("sh -c 'touch {}/owned-user-lfs; cat' #", world.root().display());
        let filter = format!(
            "[filter \"large\"]\n\tclean = \"{evil}\"\n\tsmudge = \"{evil}\"\n\trequired = true\n"
        );
        std::fs::write(home.join(".gitconfig"), filter).unwrap();
        let launcher = world.path("afk");
        if std::fs::hard_link(env!("CARGO_BIN_EXE_afk"), &launcher).is_err() {
            std::fs::copy(env!("CARGO_BIN_EXE_afk"), &launcher).unwrap();
        }
        let mut command = Command::new(&launcher);
        command.args(world.places()).arg("up").env_clear().stdin(Stdio::null());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", &home);
        command.env("SSH_AUTH_SOCK", world.path("agent")).env("AFK_WALL_SECRET", SECRET);
        if user == User::Ordinary {
            let owner = format!("{ORDINARY}:{ORDINARY}");
            let mut chown = Command::new("find");
            chown.arg(world.root()).args(["!", "-name", "afk", "-exec", "chown", "-h", &owner]);
            assert!(chown.args(["{}", "+"]).status().unwrap().success());
            command.uid(ORDINARY).gid(ORDINARY);
        }
        let up = Up(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_until(&format!("the push as {what}"), || {
            any(&world.remote(), &["rev-list", "--count", "master"]).trim() != "1"
        })
        .await;
        drop(up);
        assert_nothing_came_of(&world, &what);
        let files = any(&world.remote(), &["ls-tree", "-r", "--name-only", "master"]);
        assert!(files.contains("loose") && files.contains("file.lfs"), "{what}: {files}");
        let transcript = world.transcript(1);
        assert!(
            !transcript.contains("SEEN") && transcript.contains("done"),
            "{what}: {transcript}"
        );
    }
}

/// A repository that an agent leaves, and what may come of its run.
struct Left {
    name: &'static str,
    script: &'static str,
    /// Whether the change itself is in order, and must reach the remote.
    is_pushed: bool,
}

const LEFT: &[Left] = &[
    Left {
        name: "a file in place of .git that names afk's base",
        script: "rm -rf .git; echo \"gitdir: $BASE\" > .git",
        is_pushed: false,
    },
    Left {
        name: "a link in place of .git to afk's base",
        script: "rm -rf .git; ln -s \"$BASE\" .git",
        is_pushed: false,
    },
    Left {
        name: "a common folder elsewhere",
        script: "echo \"$BASE\" > .git/commondir; git update-ref refs/heads/evil HEAD; git config core.evil true",
        is_pushed: false,
    },
    Left {
        name: "objects of a secret repository by an alternate",
        script: "echo \"$WORLD/secret/.git/objects\" >> .git/objects/info/alternates\n\
                 git update-index --add --cacheinfo 100644,$BLOB,stolen\n\
                 evil=$(git $US commit-tree $(git write-tree --missing-ok) -p HEAD -m Stolen); git update-ref HEAD $evil",
        is_pushed: false,
    },
    Left {
        name: "the objects of a secret repository in place of the own ones",
        script: "mv .git/objects .git/own; ln -s \"$WORLD/secret/.git/objects\" .git/objects; echo \"$COMMIT\" > .git/HEAD",
        is_pushed: false,
    },
    Left {
        name: "links to a secret file in place of references",
        script: "ln -s \"$WORLD/key\" .git/refs/heads/leak; ln -sf \"$WORLD/key\" .git/packed-refs; ln -sf \"$WORLD/key\" .git/HEAD",
        is_pushed: false,
    },
    Left {
        name: "submodules of a secret repository",
        script: "for n in 1 2 3; do git update-index --add --cacheinfo 160000,$COMMIT,sub$n; done\n\
                 printf '[submodule \"%s\"]\\n\\tpath = sub1\\n\\turl = %s\\n[submodule \"b\"]\\n\\tpath = sub2\\n\\turl = file://%s\\n[submodule \"c\"]\\n\\tpath = sub3\\n\\turl = ext::touch %s/owned-ext\\n' a \"$WORLD/secret\" \"$WORLD/secret\" \"$WORLD\" > .gitmodules\n\
                 cat > tests/submodules.sh <<'TEST'\n\
                 for n in a b c; do git -c protocol.file.allow=always -c protocol.ext.allow=always submodule update --init; done\n\
                 cat sub1/key sub2/key sub3/key; git config --get-all remote.origin.url; true\n\
                 TEST\n\
                 sed -i 's/^ *//' tests/submodules.sh; git add .gitmodules tests; git $US commit -qm Submodules",
        is_pushed: true,
    },
    Left {
        name: "an upload-pack in the address of a submodule",
        script: "printf '[submodule \"a\"]\\n\\tpath = a\\n\\turl = --upload-pack=touch owned\\n\\tupdate = !touch owned\\n' > .gitmodules\n\
                 git update-index --add --cacheinfo 160000,$COMMIT,a; git add .gitmodules; git $US commit -qm Submodule",
        is_pushed: false,
    },
    Left {
        name: "links to afk's files in a commit",
        script: "ln -s \"$WORLD/key\" stolen; ln -s \"$WORLD\" world; rm .afk.toml; ln -s \"$WORLD/afk.toml\" .afk.toml\n\
                 echo 'cat stolen world/key world/state/* 2>/dev/null; touch world/owned; true' > tests/links.sh; git add --all; git $US commit -qm Links",
        is_pushed: false,
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn repository_that_an_agent_leaves_leads_afk_nowhere() {
    let mut levels: Vec<Level> = places().into_iter().map(|(level, _)| level).collect();
    levels.dedup();
    for level in levels {
        for left in LEFT {
            let world = world(&format!("{WORK}\n{}", left.script));
            let mut config = world.config();
            config.sandbox.level = Some(level);
            let runtime = world.try_start(config, None).await.unwrap();
            let run = ended(&runtime).await;
            runtime.stop().await;
            let what = format!("{} at {level}: {}", left.name, world.transcript(1));
            assert_nothing_came_of(&world, &what);
            let pushed = run.progress.outcome == Some(Outcome::Done);
            assert!(pushed || !left.is_pushed, "{what}");
            let commits = any(&world.remote(), &["rev-list", "--count", "master"]);
            assert!(pushed || commits.trim() == "1", "{what}");
        }
    }
}
