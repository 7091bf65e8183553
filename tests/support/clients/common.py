"""What the tests of all clients share: the dialogue, its answer, and the load of afk."""

import json
import sys
import time
import urllib.request

address, token = sys.argv[1:]
base = f"{address}/v1"
text = "Grüße, 日本\n\n— new"
dialogue = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "hi"},
]
image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
picture = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, image]}]


def asked(content):
    return [{"role": "user", "content": content}]


def active():
    with urllib.request.urlopen(f"{address}/health") as answer:
        return json.load(answer)["active"]


def until_idle():
    """A cancelled chat must give its permit back."""
    end = time.monotonic() + 30
    while active():
        assert time.monotonic() < end, "the agent of a cancelled chat goes on"
        time.sleep(0.05)
