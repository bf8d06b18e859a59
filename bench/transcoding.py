"""What transcoding costs: `python -m bench.transcoding`.

The JSON codec stands beside protobuf's json_format and beside mapping by hand, which is what one would write for just
these messages with the same JSON library, without a check but those that protobuf makes. Routing is measured with
tables of several sizes. All take turns in each round, so that what else the machine does befalls them alike; a ratio is
one of a round.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from statistics import median
from timeit import Timer
from typing import TYPE_CHECKING, Any, Final

import click
import orjson
from google.protobuf import __version__ as protobuf_version
from google.protobuf import json_format, struct_pb2, text_format
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClass

from bench.markdown import row, spread
from saxgw.transcoding import Codec
from saxgw.transcoding.router import Router
from saxgw.transcoding.template import parse_template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_ROUNDS: Final = 11
_SLICE_S: Final = 0.02
"""How long a contender runs in one round, if one call does not take longer."""

_FASTER_THAN_JSON_FORMAT: Final = 8.0
_OF_BY_HAND: Final = 1.5
_OF_SMALLER: Final = 1.25
"""What a byte of more bytes and a path among more routes may cost, if costs are linear and constant within noise."""

_RESULTS: Final = (2, 36, 20_000)
"""In responses: a small one, one of 2 KB and one of 1 MB."""

_ROUTES: Final = (10, 1_000, 100_000)

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
    request = REQUEST(model=value["model"], query=value["query"])
    if "extra_inputs" in value:
        request.extra_inputs.update(value["extra_inputs"])
    return request


def _write_request(request: Any) -> bytes:  # noqa: ANN401 - a Request
    value = {"model": request.model, "query": request.query}
    if request.HasField("extra_inputs"):
        value["extra_inputs"] = dict(request.extra_inputs.items())
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
class Contest:
    """One thing to do, in three ways."""

    name: str
    size: int
    """In bytes of JSON."""

    codec: Callable[[], object]
    json_format: Callable[[], object]
    by_hand: Callable[[], object]


def _contests() -> Iterator[Contest]:
    codec = Codec()

    def read(name: str, data: bytes, message_class: Any, by_hand: Callable[[bytes], object]) -> Contest:  # noqa: ANN401 - made at run time
        return Contest(
            f"read {name}",
            len(data),
            partial(codec.decode, data, message_class),
            partial(_read_with_json_format, message_class, data),
            partial(by_hand, data),
        )

    def write(name: str, message: Any, by_hand: Callable[[Any], bytes]) -> Contest:  # noqa: ANN401 - made at run time
        return Contest(
            f"write {name}",
            len(codec.encode(message)),
            partial(codec.encode, message),
            partial(json_format.MessageToJson, message),
            partial(by_hand, message),
        )

    request: dict[str, Any] = {"model": "/sax/test/lm2b", "query": "Q: Who is Harry Potter's mom? A: "}
    inputs = {
        "temperature": 0.1,
        "per_example_max_decode_steps": 32,
        "per_example_top_k": 40,
        "per_example_top_p": 0.95,
    }
    yield read("request", orjson.dumps(request), REQUEST, _read_request)
    yield read("request, spaces", json.dumps(request).encode(), REQUEST, _read_request)
    yield write("request", REQUEST(**request), _write_request)
    request["extra_inputs"] = inputs
    yield read("request, 4 inputs", orjson.dumps(request), REQUEST, _read_request)
    yield write("request, 4 inputs", REQUEST(**request), _write_request)
    for results in _RESULTS:
        response = {"results": [{"text": f"some text {at:8}", "score": -at / 7} for at in range(results)]}
        yield read(f"response, {results:,}", orjson.dumps(response), RESPONSE, _read_response)
        yield write(f"response, {results:,}", RESPONSE(**response), _write_response)


def _measure(calls: Sequence[Callable[[], object]]) -> list[list[float]]:
    """The times of calls in microseconds, one of each round."""
    timers = [Timer(call) for call in calls]
    numbers = []
    for timer in timers:
        number, took_s = timer.autorange()
        numbers.append(max(1, round(number * _SLICE_S / took_s)))
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(_ROUNDS):
        for timer, number, taken in zip(timers, numbers, times, strict=True):
            taken.append(timer.timeit(number) / number * 1e6)
    return times


def _ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _at_least(aim: float, ratios: Sequence[float]) -> str:
    return f"{spread(ratios, '.1f')}, {'reached' if median(ratios) >= aim else 'missed'}"


def _at_most(aim: float, ratios: Sequence[float]) -> str:
    return f"{spread(ratios, '.2f')}, {'reached' if median(ratios) <= aim else 'missed'}"


def _codec() -> Iterator[str]:
    """The tables of the codec, line by line."""
    contests = list(_contests())
    times = iter(_measure([call for each in contests for call in (each.codec, each.json_format, each.by_hand)]))
    three = [(next(times), next(times), next(times)) for _ in contests]
    yield row(
        "message",
        "bytes",
        "codec µs",
        f"json_format ÷ codec, aim ≥ {_FASTER_THAN_JSON_FORMAT:g}",
        f"codec ÷ by hand, aim ≤ {_OF_BY_HAND:g}",
    )
    yield row("---", *["---:"] * 4)
    for each, (codec, theirs, by_hand) in zip(contests, three, strict=True):
        yield row(
            each.name,
            f"{each.size:,}",
            f"{median(codec):,.2f}",
            _at_least(_FASTER_THAN_JSON_FORMAT, _ratios(theirs, codec)),
            _at_most(_OF_BY_HAND, _ratios(codec, by_hand)),
        )
    yield ""
    yield row(
        "response, ns per byte",
        *(f"{size:,} bytes" for size in (each.size for each in contests[-2 * len(_RESULTS) :: 2])),
        f"last ÷ the one before, aim ≤ {_OF_SMALLER:g}",
    )
    yield row("---", *["---:"] * (len(_RESULTS) + 1))
    for offset, what in enumerate(("read", "write")):
        for contender, name in enumerate(("codec", "json_format", "by hand")):
            per_byte = [
                [time * 1e3 / contests[at].size for time in three[at][contender]]
                for at in range(len(contests) - 2 * len(_RESULTS) + offset, len(contests), 2)
            ]
            ratios = _ratios(per_byte[-1], per_byte[-2])
            yield row(
                f"{what}, {name}",
                *(f"{median(each):.1f}" for each in per_byte),
                spread(ratios, ".2f") if contender else _at_most(_OF_SMALLER, ratios),
            )


def _routing() -> Iterator[str]:
    """The table of the router, line by line."""
    rules = (("GET", ""), ("POST", ""), ("GET", "/{id}"), ("DELETE", "/{id}"), ("POST", "/{id}:run"))
    calls: list[Callable[[], object]] = []
    for routes in _ROUTES:
        router: Router[int] = Router()
        for at in range(routes // len(rules)):
            for http_method, rest in rules:
                router.add(http_method, parse_template(f"/v1/things{at}{rest}"), at)
        calls += [
            partial(router.find, "POST", "/v1/things1"),
            partial(router.find, "POST", "/v1/things1/some-id:run"),
        ]
    times = _measure(calls)
    yield row(
        "finding a route, µs", *(f"{routes:,} routes" for routes in _ROUTES), f"last ÷ first, aim ≤ {_OF_SMALLER:g}"
    )
    yield row("---", *["---:"] * (len(_ROUTES) + 1))
    for offset, name in enumerate(("literals", "variable and verb")):
        of_name = times[offset::2]
        yield row(
            name,
            *(f"{median(each):.2f}" for each in of_name),
            _at_most(_OF_SMALLER, _ratios(of_name[-1], of_name[0])),
        )


Default().AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
Default().AddSerializedFile(text_format.Parse(_SCHEMA, FileDescriptorProto()).SerializeToString())
REQUEST: Final = _message_class("Request")
RESPONSE: Final = _message_class("Response")

if __name__ == "__main__":
    click.echo(f"Python {sys.version.split()[0]}, protobuf {protobuf_version}, medians of {_ROUNDS} rounds\n")
    for line in (*_codec(), "", *_routing()):
        click.echo(line)
