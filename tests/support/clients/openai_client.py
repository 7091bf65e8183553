"""The OpenAI client against afk: its address and token are all that differs from OpenAI's."""

from common import address, asked, base, dialogue, picture, text, token, until_idle
from openai import APIError, AuthenticationError, BadRequestError, NotFoundError, OpenAI

client = OpenAI(base_url=base, api_key=token, max_retries=0)
chat = client.chat.completions.create

whole = chat(model="sonnet", messages=dialogue, temperature=0.1, n=1, max_tokens=100)
assert whole.choices[0].message.content == text, whole
assert whole.choices[0].finish_reason == "stop" and whole.id.startswith("chatcmpl-"), whole
assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (120, 7), whole

pieces, role, last, usage = [], None, None, None
for chunk in chat(
    model="opus", messages=dialogue, stream=True, stream_options={"include_usage": True}
):
    usage = chunk.usage or usage
    for choice in chunk.choices:
        role = choice.delta.role or role
        last = choice.finish_reason or last
        pieces.append(choice.delta.content or "")
assert "".join(pieces) == text and len([p for p in pieces if p]) == 5, pieces
assert (role, last, usage.total_tokens) == ("assistant", "stop", 127), (role, last, usage)

assert "sonnet" in [model.id for model in client.models.list()]
assert client.models.retrieve("opus").id == "opus"


def refused(kind, said, **more):
    """The error of a call, which must show the client what is wrong."""
    arguments = {"model": "haiku", "messages": dialogue} | more
    try:
        answer = chat(**arguments)
        if more.get("stream"):
            list(answer)
    except kind as error:
        assert said in str(error), error
        return error
    raise SystemExit(f"{more} was taken")


assert "sonnet" in refused(BadRequestError, "gpt-5", model="gpt-5").response.json()["supported"]
assert refused(BadRequestError, "image_url", messages=picture).param == "messages[0].content[1]"
assert refused(BadRequestError, "one answer", n=2).param == "n"
assert refused(BadRequestError, "format", response_format={"type": "json_object"}).code
tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
assert refused(BadRequestError, "tools", tools=[tool], tool_choice="required").type
refused(BadRequestError, "image_url", messages=picture, stream=True)
# Before the stream begins a failure has a status; afterwards it is an event.
refused(APIError, "529", messages=asked("fail"))
refused(APIError, "529", messages=asked("fail"), stream=True)
refused(APIError, "529", messages=asked("late failure"), stream=True)

try:
    client.models.retrieve("gpt-5")
    raise SystemExit("an unknown model was found")
except NotFoundError as error:
    assert "gpt-5" in str(error), error
try:
    OpenAI(base_url=base, api_key="wrong-token-0123456789", max_retries=0).models.list()
    raise SystemExit("a wrong token was taken")
except AuthenticationError as error:
    assert "Invalid token" in str(error), error

stream = chat(model="opus", messages=asked("for ever"), stream=True)
for chunk in stream:
    if chunk.choices and chunk.choices[0].delta.content:
        break
stream.close()
until_idle()

print("all as expected")
