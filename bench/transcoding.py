"""What transcoding costs: `python -m bench.transcoding`.

The JSON codec stands beside protobuf's json_format and beside mapping by hand, which is what one would write for just
these messages with the same JSON library, without a check but those that protobuf makes. Routing is measured with
tables of several sizes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from timeit import Timer
from typing import TYPE_CHECKING, Any, Final

import click
import orjson
from google.protobuf import json_format, struct_pb2, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from saxgw.transcoding import Codec
from saxgw.transcoding.router import Router
from saxgw.transcoding.template import parse_template

if TYPE_CHECKING:
    from collections.abc import Callable

_RUNS: Final = 5
"""Runs of each measurement, of which the best counts: what else the machine does only ever adds to a time."""

_SCHEMA: Final = """
    name: "bench.proto" package: "bench" syntax: "proto3" dependency: "google/protobuf/struct.proto"
    message_type {
      name: "Request"
      field { name: "model" number: 1 type: TYPE_STRING }
      field { name: "query" number: 2 type: TYPE_STRING }
      field { name: "extra_inputs" number: 3 type: TYPE_MESSAGE type_name: ".google.protobuf.Struct" }
    }
    message_type {
      name: "Result"
      field { name: "text" number: 1 type: TYPE_STRING }
      field { name: "score" number: 2 type: TYPE_DOUBLE }
    }
    message_type {
      name: "Response"
      field { name: "results" number: 1 type: TYPE_MESSAGE label: LABEL_REPEATED type_name: ".bench.Result" }
    }
"""
"""Messages like those of Generate."""


def _message_class(name: str) -> Any:  # noqa: ANN401 - made at run time
    return GetMessageClass(Default().FindMessageTypeByName(f"bench.{name}"))


def _read_request(data: bytes) -> Any:  # noqa: ANN401 - a Request
    value = orjson.loads(data)
    return REQUEST(model=value["model"], query=value["query"], extra_inputs=value.get("extra_inputs"))


def _write_request(request: Any) -> bytes:  # noqa: ANN401 - a Request
    value = {"model": request.model, "query": request.query}
    if request.HasField("extra_inputs"):
        value["extra_inputs"] = json_format.MessageToDict(request.extra_inputs)
    return orjson.dumps(value)


def _read_response(data: bytes) -> Any:  # noqa: ANN401 - a Response
    response = RESPONSE()
    for result in orjson.loads(data)["results"]:
        response.results.add(text=result["text"], score=result["score"])
    return response


def _write_response(response: Any) -> bytes:  # noqa: ANN401 - a Response
    return orjson.dumps({"results": [{"text": result.text, "score": result.score} for result in response.results]})


def _read_with_json_format(message_class: Any, data: bytes) -> Any:  # noqa: ANN401 - made at run time
    return json_format.Parse(data, message_class())


@dataclass(frozen=True)
class Case:
    """A message to read and to write."""

    name: str
    message_class: Any
    value: dict[str, Any]
    read_by_hand: Callable[[bytes], Any]
    write_by_hand: Callable[[Any], bytes]


def _cases() -> list[Case]:
    request = {"model": "/sax/test/lm2b", "query": "Q: Who is Harry Potter's mom? A: "}
    inputs = {
        "temperature": 0.1,
        "per_example_max_decode_steps": 32,
        "per_example_top_k": 40,
        "per_example_top_p": 0.95,
    }
    return [
        Case("request", REQUEST, request, _read_request, _write_request),
        Case("request, 4 inputs", REQUEST, {**request, "extra_inputs": inputs}, _read_request, _write_request),
        *(
            Case(
                f"response, {results}",
                RESPONSE,
                {"results": [{"text": f"some text {at:8}", "score": -at / 7} for at in range(results)]},
                _read_response,
                _write_response,
            )
            for results in (2, 36, 20_000)
        ),
    ]


def _measure(call: Callable[[], object]) -> float:
    """The time of a call in microseconds."""
    timer = Timer(call)
    number, _ = timer.autorange()
    return min(timer.repeat(_RUNS, number)) / number * 1e6


def _codec() -> None:
    codec = Codec()
    click.echo(f"{'':24}{'bytes':>9}{'codec µs':>12}{'json_format':>18}{'by hand':>18}")
    for case in _cases():
        data = orjson.dumps(case.value)
        message = codec.decode(data, case.message_class)
        calls: dict[str, list[Callable[[], object]]] = {
            "read": [
                partial(codec.decode, data, case.message_class),
                partial(_read_with_json_format, case.message_class, data),
                partial(case.read_by_hand, data),
            ],
            "write": [
                partial(codec.encode, message),
                partial(json_format.MessageToJson, message),
                partial(case.write_by_hand, message),
            ],
        }
        for what, three in calls.items():
            ours, theirs, by_hand = map(_measure, three)
            click.echo(
                f"{f'{what} {case.name}':24}{len(data):>9}{ours:>12.2f}"
                f"{theirs:>12.2f} ({theirs / ours:4.1f}){by_hand:>12.2f} ({by_hand / ours:4.2f})"
            )


def _routing() -> None:
    rules = (("GET", ""), ("POST", ""), ("GET", "/{id}"), ("DELETE", "/{id}"), ("POST", "/{id}:run"))
    click.echo(f"\n{'':24}{'routes':>9}{'literal µs':>12}{'variable and verb':>18}")
    for routes in (10, 1_000, 100_000):
        router: Router[int] = Router()
        for at in range(routes // len(rules)):
            for http_method, rest in rules:
                router.add(http_method, parse_template(f"/v1/things{at}{rest}"), at)
        literal = _measure(partial(router.find, "POST", "/v1/things1"))
        variable = _measure(partial(router.find, "POST", "/v1/things1/some-id:run"))
        click.echo(f"{'find':24}{routes:>9}{literal:>12.2f}{variable:>18.2f}")


Default().AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
Default().AddSerializedFile(text_format.Parse(_SCHEMA, FileDescriptorProto()).SerializeToString())
REQUEST: Final = _message_class("Request")
RESPONSE: Final = _message_class("Response")

if __name__ == "__main__":
    _codec()
    _routing()
