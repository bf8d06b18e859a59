"""The streams that streaming is measured with: for each a model whose model server sends it to every call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import orjson

from bench.example import CELL
from bench.instant import Answer
from saxgw.sax.wire import lm_pb2
from saxgw.v1 import sax_service_pb2

_QUERY: Final = "Q: Who is Harry Potter's mom? A: "

_PHRASES: Final = (
    " Lily Potter, who was born Lily Evans,",
    " and who gave her life to save him",
    " when he was a year old.",
)
_TOKENS: Final = (" her", " name", " is", " Li", "ly", ".")


@dataclass(frozen=True)
class Stream:
    """What the model server of one model sends: steps of one sample, each of one text and its score."""

    model: str
    texts: tuple[str, ...]

    ends: bool = True
    """Whether the stream ends after them; otherwise it stays open."""

    interval_s: float = 0
    """Seconds between steps of a stream; 0 is as fast as they are taken."""

    @property
    def answer(self) -> Answer:
        """What a model server sends."""
        messages = (message.SerializeToString() for message in self.model_server_messages)
        return Answer(messages, ends=self.ends, interval_s=self.interval_s)

    @property
    def request(self) -> sax_service_pb2.GenerateStreamRequest:
        """What asks the gateway for it."""
        return sax_service_pb2.GenerateStreamRequest(model=self.model, query=_QUERY)

    @property
    def json_request(self) -> bytes:
        """The same as JSON."""
        return orjson.dumps({"model": self.model, "query": _QUERY})

    @property
    def model_server_request(self) -> lm_pb2.GenerateRequest:
        """What asks a model server for it."""
        return lm_pb2.GenerateRequest(model_key=self.model, text=_QUERY)

    @cached_property
    def messages(self) -> list[sax_service_pb2.GenerateStreamResponse]:
        """What the gateway is to send."""
        return [
            sax_service_pb2.GenerateStreamResponse(results=[sax_service_pb2.StreamedResult(**step)])
            for step in self._steps
        ]

    @cached_property
    def model_server_messages(self) -> list[lm_pb2.GenerateStreamResponse]:
        """What the model server sends."""
        return [lm_pb2.GenerateStreamResponse(items=[lm_pb2.GenerateStreamItem(**step)]) for step in self._steps]

    @cached_property
    def json_values(self) -> list[Any]:
        """What the gateway is to send as JSON."""
        return [{"results": [step]} for step in self._steps]

    @cached_property
    def _steps(self) -> list[dict[str, Any]]:
        steps = []
        prefix_len = 0
        for number, text in enumerate(self.texts):
            steps.append({"text": text, "prefix_len": prefix_len, "scores": [-0.25 - number % 64 / 7]})
            prefix_len += len(text)
        return steps


def _repeated(texts: tuple[str, ...], count: int) -> tuple[str, ...]:
    return tuple(texts[at % len(texts)] for at in range(count))


PHRASES: Final = Stream(f"{CELL}/phrases", _repeated(_PHRASES, 100))
"""A hundred items of about thirty characters."""

TOKENS: Final = Stream(f"{CELL}/tokens", _repeated(_TOKENS, 1000))
"""A thousand items of a few characters."""

PACED: Final = Stream(f"{CELL}/paced", PHRASES.texts, interval_s=0.02)
"""The hundred, each when a model might have it, so that every item finds all parties asleep."""

HELD: Final = Stream(f"{CELL}/held", _PHRASES[:1], ends=False)
"""One item, and nothing after it."""

STREAMS: Final = {stream.model: stream for stream in (PHRASES, TOKENS, PACED, HELD)}
