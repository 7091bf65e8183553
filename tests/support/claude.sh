# What Claude Code 2.1.330 writes with stream-json, as far as a test needs it: the shapes were
# recorded from the program. A test's script is read after this.
SESSION=session-1
before=
for word; do
    [ "$before" = --resume ] && SESSION=$word && RESUMED=$word
    before=$word
done
# The adapter's messages have their keys in order, so that the end of a line is known.
US='-c user.name=agent -c user.email=agent@localhost -c commit.gpgSign=false'

line() { printf '%s\n' "$1"; }
init() {
    line '{"type":"system","subtype":"init","cwd":"'"$PWD"'","session_id":"'"$SESSION"'","model":"claude-x","permissionMode":"default","claude_code_version":"2.1.330"}'
}
# Reads a message and says that it was taken.
taken() {
    read -r MESSAGE || exit 0
    line "${MESSAGE%\}},\"isReplay\":true}"
}
say() {
    line '{"type":"assistant","message":{"id":"m'"$#$1"'","role":"assistant","content":[{"type":"text","text":"'"$1"'"}]},"parent_tool_use_id":null,"session_id":"'"$SESSION"'"}'
}
# ask ID TOOL INPUT: asks leave and reads the answer.
ask() {
    line '{"type":"assistant","message":{"id":"mt","role":"assistant","content":[{"type":"tool_use","id":"tool-'"$1"'","name":"'"$2"'","input":'"$3"'}]},"session_id":"'"$SESSION"'"}'
    line '{"type":"control_request","request_id":"'"$1"'","request":{"subtype":"can_use_tool","tool_name":"'"$2"'","display_name":"'"$2"'","input":'"$3"',"tool_use_id":"tool-'"$1"'"}}'
    read -r ANSWER || exit 0
}
# The command that an answer allows.
allowed() { printf '%s' "$ANSWER" | sed -n 's/.*"behavior":"allow".*"command":"\([^"]*\)".*/\1/p'; }
tool_result() {
    line '{"type":"user","message":{"role":"user","content":[{"tool_use_id":"tool-'"$1"'","type":"tool_result","content":"'"$2"'","is_error":false}]},"session_id":"'"$SESSION"'","tool_use_result":{"stdout":"'"$2"'","stderr":"","interrupted":false}}'
}
result() {
    line '{"duration_api_ms":1,"stop_reason":"end_turn","session_id":"'"$SESSION"'","total_cost_usd":'"${1:-0.01}"',"usage":{"input_tokens":100,"cache_creation_input_tokens":0,"cache_read_input_tokens":20,"output_tokens":7},"subtype":"success","is_error":false,"result":"done","terminal_reason":"completed","type":"result"}'
}
# failed STATUS: the model's API failed for good.
failed() {
    line '{"type":"result","subtype":"success","is_error":true,"terminal_reason":"api_error","api_error_status":'"$1"',"result":"API Error: '"$1"' scripted","session_id":"'"$SESSION"'","total_cost_usd":0,"usage":{"input_tokens":0,"output_tokens":0}}'
    exit 1
}
retry() {
    line '{"type":"system","subtype":"api_retry","attempt":'"$1"',"max_retries":10,"retry_delay_ms":'"$2"',"error_status":'"$3"',"session_id":"'"$SESSION"'"}'
}
work() {
    mkdir -p tests && echo 'grep -q done state' > tests/state.sh && git add tests && git $US commit -qm 'Test it'
    echo done > state && git add state && git $US commit -qm 'Do it'
}
