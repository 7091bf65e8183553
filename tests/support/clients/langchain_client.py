"""langchain's chat model for OpenAI against afk."""

from common import base, picture, text, token, until_idle
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import APIError, BadRequestError


def model(**more):
    arguments = {"model": "sonnet"} | more
    return ChatOpenAI(base_url=base, api_key=token, max_retries=0, **arguments)


dialogue = [SystemMessage("Be brief."), HumanMessage("hi")]
whole = model(temperature=0.1).invoke(dialogue)
assert whole.content == text, whole
assert whole.usage_metadata["total_tokens"] == 127, whole
assert "".join(chunk.content for chunk in model().stream(dialogue)) == text


def refused(kind, said, call):
    try:
        call()
    except kind as error:
        assert said in str(error), error
        return
    raise SystemExit(f"{said}: it was taken")


refused(BadRequestError, "gpt-5", lambda: model(model="gpt-5").invoke(dialogue))
refused(BadRequestError, "image_url", lambda: model().invoke([HumanMessage(picture[0]["content"])]))
refused(BadRequestError, "format", lambda: model().bind(response_format={"type": "json_object"}).invoke(dialogue))
refused(APIError, "529", lambda: model().invoke("fail"))
refused(APIError, "529", lambda: list(model().stream("late failure")))

stream = model().stream("for ever")
for chunk in stream:
    if chunk.content:
        break
stream.close()
until_idle()

print("all as expected")
