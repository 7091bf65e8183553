"""The OpenAI client against afk: its address and token are all that differs from OpenAI's."""

import sys

from openai import BadRequestError, InternalServerError, OpenAI

address, token = sys.argv[1:]
client = OpenAI(base_url=f"{address}/v1", api_key=token, max_retries=0)
dialogue = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
]

whole = client.chat.completions.create(model="sonnet", messages=dialogue, temperature=0.1)
text = "Grüße, 日本\n\n— new"
assert whole.choices[0].message.content == text, whole
assert whole.choices[0].finish_reason == "stop" and whole.id.startswith("chatcmpl-"), whole
assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (120, 7), whole

pieces, role, last, usage = [], None, None, None
for chunk in client.chat.completions.create(
    model="opus", messages=dialogue, stream=True, stream_options={"include_usage": True}
):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        role = choice.delta.role or role
        last = choice.finish_reason or last
        pieces.append(choice.delta.content or "")
assert "".join(pieces) == text and len([p for p in pieces if p]) == 5, pieces
assert (role, last, usage.total_tokens) == ("assistant", "stop", 127), (role, last, usage)

try:
    client.chat.completions.create(model="gpt-5", messages=dialogue)
    raise SystemExit("an unknown model was taken")
except BadRequestError as error:
    assert "sonnet" in error.response.json()["supported"], error.response.text

try:
    client.chat.completions.create(model="haiku", messages=[{"role": "user", "content": "fail"}])
    raise SystemExit("a failure was an answer")
except InternalServerError as error:
    assert error.status_code == 503, error

print("openai: all as expected")
