//! The presets as the pinned programs run in tests: with the scripted model, dummy keys, and a home of
//! their own.

use std::path::{Path, PathBuf};

use crate::support::model::Model;
use crate::support::world::World;

/// Gives a world its agent, which asks this model.
pub type Make = fn(&Model, World) -> World;

/// A file below the `node_modules` of the folders into which `tests/agents.sh` installed the programs.
pub fn program(path: &str) -> PathBuf {
    let folders = std::env::var("AFK_AGENTS").expect("tests/agents.sh sets AFK_AGENTS");
    let mut all =
        folders.split(':').map(|folder| Path::new(folder).join("node_modules").join(path));
    all.find(|path| path.exists()).unwrap_or_else(|| panic!("{folders} have no {path}"))
}

pub fn claude(model: &Model, world: World) -> World {
    let program = program("@anthropic-ai/claude-code-linux-x64/claude");
    let home = home(&world);
    world.preset("claude", &[program.to_str().unwrap()], &format!(
        "home = '{home}'\nset = {{ ANTHROPIC_BASE_URL = '{}', ANTHROPIC_API_KEY = 'sk-ant-dummy-000000', CLAUDE_CODE_MAX_RETRIES = '2' }}",
        model.address
    ))
}

pub fn codex(model: &Model, world: World) -> World {
    codex_with(model, world, "'-c', 'model=gpt-5.5', '-c', 'model_provider=fake'")
}

/// The same with other settings of its model.
pub fn codex_with(model: &Model, world: World, settings: &str) -> World {
    // This is npm's shim; afk finds the program behind it.
    let program = program(".bin/codex");
    let home = home(&world);
    let provider = format!(
        "model_providers.fake={{name=\"fake\",base_url=\"{}/v1\",env_key=\"FAKE_KEY\",wire_api=\"responses\",request_max_retries=1,stream_max_retries=1}}",
        model.address
    );
    world.preset("codex", &[program.to_str().unwrap()], &format!(
        "home = '{home}'\nset = {{ FAKE_KEY = 'dummy' }}\nargs = [{settings}, '-c', '{provider}']"
    ))
}

pub fn opencode(double: &Model, world: World) -> World {
    let program = program(".bin/opencode");
    let home = home(&world);
    let model = |name: &str| {
        serde_json::json!({"name": name, "limit": {"context": 200_000, "output": 8192},
            "cost": {"input": 3, "output": 15}})
    };
    let config = serde_json::json!({
        "autoupdate": false, "share": "disabled", "model": "fake/m", "small_model": "fake/m",
        "provider": {"fake": {"npm": "@ai-sdk/anthropic", "name": "fake",
            "options": {"baseURL": format!("{}/v1", double.address), "apiKey": "dummy"},
            "models": {"m": model("m"), "n": model("n")}}},
        "permission": {"edit": "ask", "bash": "ask"},
    });
    world.preset(
        "opencode",
        &[program.to_str().unwrap()],
        &format!("home = '{home}'\nset = {{ OPENCODE_CONFIG_CONTENT = '{config}' }}"),
    )
}

pub fn claude_agent_acp(model: &Model, world: World) -> World {
    let node = program(".bin/node");
    let program = program("@agentclientprotocol/claude-agent-acp/dist/index.js");
    let home = home(&world);
    world.preset("claude-agent-acp", &[node.to_str().unwrap(), program.to_str().unwrap()], &format!(
        "home = '{home}'\nset = {{ ANTHROPIC_BASE_URL = '{}', ANTHROPIC_API_KEY = 'sk-ant-dummy-000000', IS_SANDBOX = '1' }}",
        model.address
    ))
}

/// A preset whose npm package is a script for Node.
pub fn on_node(world: World, preset: &str, script: &str, args: &[&str], set: &str) -> World {
    let (node, script) = (program(".bin/node"), program(script));
    let command = [&[node.to_str().unwrap(), script.to_str().unwrap()], args].concat();
    let home = home(&world);
    world.preset(preset, &command, &format!("home = '{home}'\nset = {{ {set} }}"))
}

pub fn codex_acp(model: &Model, world: World) -> World {
    let home = home(&world);
    std::fs::create_dir_all(Path::new(&home).join(".codex")).unwrap();
    let provider = format!(
        "model = 'gpt-5.5'\nmodel_provider = 'fake'\n[model_providers.fake]\nname = 'fake'\n\
         base_url = '{}/v1'\nenv_key = 'FAKE_KEY'\nwire_api = 'responses'\n",
        model.address
    );
    std::fs::write(Path::new(&home).join(".codex/config.toml"), provider).unwrap();
    let script = "@agentclientprotocol/codex-acp/dist/index.js";
    on_node(world, "codex-acp", script, &[], "FAKE_KEY = 'dummy'")
}

pub fn gemini(model: &Model, world: World) -> World {
    let set = format!("GEMINI_API_KEY = 'dummy', GOOGLE_GEMINI_BASE_URL = '{}'", model.address);
    let script = "@google/gemini-cli/bundle/gemini.js";
    // Without a named model it asks the model first which one fits.
    let args = ["--acp", "--skip-trust", "--model", "gemini-2.5-flash"];
    on_node(world, "gemini", script, &args, &set)
}

pub fn qwen(model: &Model, world: World) -> World {
    let set = format!(
        "OPENAI_API_KEY = 'dummy', OPENAI_BASE_URL = '{}/v1', OPENAI_MODEL = 'm'",
        model.address
    );
    let script = "@qwen-code/qwen-code/cli-entry.js";
    on_node(world, "qwen", script, &["--acp", "--auth-type", "openai"], &set)
}

pub fn copilot(model: &Model, world: World) -> World {
    let program = program("@github/copilot-linux-x64/copilot");
    let home = home(&world);
    world.preset("copilot", &[program.to_str().unwrap()], &format!(
        "home = '{home}'\nset = {{ COPILOT_PROVIDER_BASE_URL = '{}/v1', COPILOT_PROVIDER_API_KEY = 'dummy', COPILOT_MODEL = 'm' }}",
        model.address
    ))
}

pub fn home(world: &World) -> String {
    let home = world.path("home");
    std::fs::create_dir_all(&home).unwrap();
    home.display().to_string()
}

pub fn pi(model: &Model, world: World) -> World {
    let home = home(&world);
    std::fs::create_dir_all(Path::new(&home).join(".pi/agent")).unwrap();
    let model_of = |id: &str| {
        serde_json::json!({"id": id,
            "cost": {"input": 3, "output": 15, "cacheRead": 0, "cacheWrite": 0}})
    };
    let models = serde_json::json!({"providers": {"fake": {
        "baseUrl": format!("{}/v1", model.address), "api": "openai-completions",
        "apiKey": "FAKE_KEY", "models": [model_of("m"), model_of("n")]}}});
    std::fs::write(Path::new(&home).join(".pi/agent/models.json"), models.to_string()).unwrap();
    let script = "@mariozechner/pi-coding-agent/dist/cli.js";
    let args = ["--mode", "rpc", "--offline", "--no-extensions"];
    // A model that the test names comes last and wins.
    let args = [&args[..], &["--model", "fake/m"]].concat();
    on_node(world, "pi", script, &args, "FAKE_KEY = 'dummy'")
}
