#!/bin/sh
# Runs the pinned programs of presets through loop, deny, steer, interrupt, kill, fix-forward and limits
# against a scripted model on loopback, compares each cell of their rows in assets/agents.toml with what
# they did, and prints the table of docs/agents.md.
#
#   tests/conform.sh            every preset, for about half an hour
#   tests/conform.sh pi qwen    these presets
#
# It exits with 1 if a program differs from its row; the row printed is the one that was seen.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${AFK_AGENTS:-}" ]; then
    quick=$(sh tests/agents.sh install quick)
    slow=$(sh tests/agents.sh install slow)
    # The script of the installation says why it printed no folder.
    [ "$quick" ] && [ "$slow" ] || exit 0
    AFK_AGENTS=$quick:$slow
fi
export AFK_AGENTS
AFK_CONFORM=$(mktemp -d)
export AFK_CONFORM
trap 'rm -rf "$AFK_CONFORM"' EXIT
presets=${*:-claude codex opencode claude-agent-acp codex-acp gemini qwen copilot pi}
status=0
for preset in $presets; do
    name=$(echo "$preset" | tr - _)
    cargo test -q --test agents -- --ignored --exact "conform::$name" >&2 || status=1
done
commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD || commit="$commit with changes"
echo "By \`tests/conform.sh\` on $(date -u +%Y-%m-%d), at commit $commit."
echo
{
    echo "|  | version | loop | deny | steer, interrupt | kill | fix-forward | limits | asks permission for" \
        "| runs an edited command | reads a refusal in the turn | asks questions | takes a message" \
        "| can be interrupted | resumes in a new process | reports tokens | reports money" \
        "| stops at a budget | shows a plan | shows diffs | subagents | background work | takes images" \
        "| another model | logins |"
    for preset in $presets; do
        [ -e "$AFK_CONFORM/$preset.md" ] && sed -n '/^|/p' "$AFK_CONFORM/$preset.md"
    done
} | awk -F ' *[|] *' '
    { for (at = 2; at < NF; at++) cell[at, NR] = $at; columns = NF }
    END {
        for (at = 2; at < columns; at++) {
            line = "|"
            for (row = 1; row <= NR; row++) line = line " " cell[at, row] " |"
            print line
            if (at == 2) { line = "|"; for (row = 1; row <= NR; row++) line = line " --- |"; print line }
        }
    }'
echo
echo "† The protocol's documentation says so; no test tries it."
echo
echo "| preset | no | because |"
echo "| --- | --- | --- |"
for preset in $presets; do
    [ -e "$AFK_CONFORM/$preset.md" ] &&
        sed -n 's/^no \([^ ]*\) \([^:]*\): \(.*\)/| \1 | \2 | \3 |/p' "$AFK_CONFORM/$preset.md"
done
exit "$status"
