"""litellm against afk, as an endpoint of OpenAI's kind."""

import os

# Without it litellm fetches a list of prices from the Internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from common import asked, base, dialogue, picture, text, token, until_idle

litellm.suppress_debug_info = True


def chat(**more):
    arguments = {"model": "openai/sonnet", "messages": dialogue} | more
    return litellm.completion(api_base=base, api_key=token, num_retries=0, max_retries=0, **arguments)


whole = chat()
assert whole.choices[0].message.content == text, whole
assert whole.usage.total_tokens == 127, whole
pieces = [chunk.choices[0].delta.content or "" for chunk in chat(stream=True)]
assert "".join(pieces) == text, pieces


def refused(kind, said, **more):
    try:
        answer = chat(**more)
        if more.get("stream"):
            list(answer)
    except kind as error:
        assert said in str(error), error
        return
    raise SystemExit(f"{more} was taken")


refused(litellm.BadRequestError, "gpt-5", model="openai/gpt-5")
refused(litellm.BadRequestError, "image_url", messages=picture)
refused(litellm.BadRequestError, "one answer", n=2)
refused(Exception, "529", messages=asked("fail"))
refused(Exception, "529", messages=asked("late failure"), stream=True)
refused(litellm.AuthenticationError, "Invalid token", **{"extra_headers": {"Authorization": "Bearer wrong-token-0123456789"}})

stream = chat(messages=asked("for ever"), stream=True)
for chunk in stream:
    if chunk.choices[0].delta.content:
        break
stream.completion_stream.close()
until_idle()

print("all as expected")
