//! The commands and paths that each guardrail refuses, and the daily work that none refuses.

use super::guardrail::violated;
use super::shell_words::commands;
use crate::model::guardrail::Guardrail;
use crate::model::permission::{PermissionRequest, Tool};

const WORKTREE: &str = "/w/wt-1";

fn request(tool: Tool, target: &str) -> PermissionRequest {
    PermissionRequest {
        tool,
        title: "".into(),
        detail: "".into(),
        targets: vec![target.into()],
        editable: false,
    }
}

fn shell(command: &str) -> Option<Guardrail> {
    violated(&request(Tool::Shell, command), WORKTREE)
}

#[test]
fn each_guardrail_refuses_its_commands_and_paths() {
    use Guardrail::*;
    for (command, rule) in [
        ("git push --force origin HEAD", ForcePush),
        ("git push -f", ForcePush),
        ("git push -uf origin x", ForcePush),
        ("git push --force-with-lease", ForcePush),
        ("git push origin +HEAD:master", ForcePush),
        ("git push origin :master", ForcePush),
        ("git push --delete origin x", ForcePush),
        ("make && git -c a=b push -f", ForcePush),
        ("bash -lc 'git push --force'", ForcePush),
        ("eval \"git push --force\"", ForcePush),
        ("echo $(git push --force)", ForcePush),
        ("FOO=1 sudo -E git push --mirror", ForcePush),
        ("/usr/bin/git push \"--force\"", ForcePush),
        ("git filter-branch --all", HistoryRewrite),
        ("git branch -f master HEAD~3", HistoryRewrite),
        ("git update-ref refs/heads/master HEAD", HistoryRewrite),
        ("git commit -m 'x [ci skip]'", CiSkip),
        ("git commit -m 'x [Skip CI]'", CiSkip),
        ("git push -o ci.skip", CiSkip),
        ("kubectl delete pvc data", DeleteVolume),
        ("kubectl -n x delete persistentvolumeclaims/data", DeleteVolume),
        ("kubectl delete pod,pvc --all", DeleteVolume),
        ("kubectl delete ns shop", DeleteVolume),
        ("kubectl create secret generic x", SecretStore),
        ("kubectl patch secret x -p y", SecretStore),
        ("vault kv put secret/x a=b", SecretStore),
        ("gh secret set X", SecretStore),
        ("aws secretsmanager put-secret-value --secret-id x", SecretStore),
        ("curl -H 'X-Vault-Token: t' -X PUT http://v/v1/secret/x", SecretStore),
        ("rm -rf /home/ana", LeavesWorktree),
        ("rm -rf ../wt-2", LeavesWorktree),
        ("cd .. && rm -rf wt-2", LeavesWorktree),
        ("echo x > /etc/hosts", LeavesWorktree),
        ("echo x >> ~/.bashrc", LeavesWorktree),
        ("cp a.txt /usr/local/bin/a", LeavesWorktree),
        ("sed -i s/a/b/ /etc/hosts", LeavesWorktree),
        ("git -C /w/wt-2 commit -am x", LeavesWorktree),
        ("tee /etc/x < a", LeavesWorktree),
    ] {
        assert_eq!(shell(command), Some(rule), "{command}");
    }
    for path in ["/etc/passwd", "../wt-2/a", "/w/wt-10/a", "~/.ssh/config", "/w/wt-1/../x"] {
        assert_eq!(violated(&request(Tool::Edit, path), WORKTREE), Some(LeavesWorktree), "{path}");
    }
}

#[test]
fn guardrails_allow_daily_work() {
    for command in [
        "git push origin HEAD",
        "git commit -m 'Fix the force of the push'",
        "git rebase origin/master",
        "git commit --amend --no-edit",
        "git reset --hard HEAD",
        "git log --oneline | head -3",
        "git -C /w/wt-2 log",
        "python3 -m unittest -q 2>&1; true",
        "cargo test >out.txt 2>&1",
        "echo note >> NOTES.md && git add NOTES.md",
        "rm -rf target build/x",
        "rm /tmp/x",
        "cp /usr/share/dict/words fixtures/",
        "cd src && rm old.rs",
        "cat /etc/os-release",
        "echo 'a > b'",
        "grep -r 'ci skip' .",
        "kubectl get pvc",
        "kubectl get secret x",
        "kubectl delete pod x",
        "vault kv get secret/x",
        "mkdir -p \"$TMPDIR/x\"",
        "find . -name '*.rs' | xargs sed -i s/a/b/",
        "for f in *.rs; do rm $f; done",
        "",
    ] {
        assert_eq!(shell(command), None, "{command}");
    }
    for path in ["a", "/w/wt-1/a/b", "./x/../y", "/tmp/x"] {
        assert_eq!(violated(&request(Tool::Edit, path), WORKTREE), None, "{path}");
    }
    assert_eq!(violated(&request(Tool::Read, "/etc/passwd"), WORKTREE), None);
}

proptest::proptest! {
    #[test]
    fn guardrails_read_any_text_without_panicking(text in ".{0,200}") {
        shell(&text);
        let words = commands(&text);
        proptest::prop_assert!(words.iter().all(|words| !words.is_empty()));
    }
}
