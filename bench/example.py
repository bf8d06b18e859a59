"""The one call that everything is measured with: the documented example of /generate, and an answer of four samples."""

from __future__ import annotations

from typing import Any, Final

import orjson

from saxgw.sax.wire import common_pb2, lm_pb2
from saxgw.v1 import sax_service_pb2

CELL: Final = "/sax/test"
MODEL: Final = "/sax/test/lm2b"

_QUERY: Final = "Q: Who is Harry Potter's mom? A: "

_EXTRA_INPUTS: Final = {
    "temperature": 0.1,
    "per_example_max_decode_steps": 32,
    "per_example_top_k": 40,
    "per_example_top_p": 0.95,
}

_SAMPLES: Final = (
    ("Lily Potter, who was born Lily Evans, and who gave her life to save him when he was a year old.", -8.251953125),
    ("Lily Potter. Q: Who is Harry Potter's father? A: James Potter. Q: Who is his aunt? A: Petunia.", -9.0322265625),
    ("Her name is Lily; she was a witch of great talent, liked by nearly everyone who had met her.", -14.65625),
    ("Lily Evans, later Lily Potter, a Gryffindor of the same year as James Potter and Severus Snape.", -15.41796875),
)

JSON_REQUEST: Final = orjson.dumps({"model": MODEL, "query": _QUERY, "extra_inputs": _EXTRA_INPUTS})
JSON_RESPONSE: Final[Any] = [list(sample) for sample in _SAMPLES]

REQUEST: Final = sax_service_pb2.GenerateRequest(model=MODEL, query=_QUERY)
REQUEST.extra_inputs.update(_EXTRA_INPUTS)
RESPONSE: Final = sax_service_pb2.GenerateResponse(
    results=[sax_service_pb2.Result(text=text, score=score) for text, score in _SAMPLES]
)

MODEL_SERVER_REQUEST: Final = lm_pb2.GenerateRequest(
    model_key=MODEL, text=_QUERY, extra_inputs=common_pb2.ExtraInputs(items=_EXTRA_INPUTS)
)
MODEL_SERVER_RESPONSE: Final = lm_pb2.GenerateResponse(
    texts=[lm_pb2.DecodedText(text=text, score=score) for text, score in _SAMPLES]
)
