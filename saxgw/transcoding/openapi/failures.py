"""The answers of operations that are no success."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from saxgw.transcoding.v1 import options_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.transcoding.openapi.scalars import Schema

SCHEMA_NAME = "Error"
"""The component that is the schema of all errors."""


@dataclass(frozen=True)
class Failure:
    """One way to fail, as callers see it."""

    http_status: int

    description: str
    """Markdown, on one line."""

    example: Any = None
    """A body, as JSON."""

    headers: Mapping[str, Any] = field(default_factory=dict)
    """OpenAPI header objects by name."""


@dataclass(frozen=True)
class Failures:
    """How the operations of a server fail."""

    schema: Schema
    """Of the body of every error."""

    always: Sequence[Failure]
    """What may happen to any request, whatever the method."""

    by_code: Mapping[int, Failure]
    """What the codes are, numbered as in google.rpc.Code, that methods and services name in their options."""

    other: str = ""
    """What the description of a default response is, for codes that nobody named; empty for no such response."""

    def of_method(self, method: MethodDescriptor) -> dict[str, dict[str, Any]]:
        """The responses of a method, by HTTP status and `default`."""
        codes = [
            *method.containing_service.GetOptions().Extensions[options_pb2.common_errors],
            *method.GetOptions().Extensions[options_pb2.errors],
        ]
        made = dict(responses([*self.always, *(self.by_code[code] for code in codes)]))
        return made | {"default": _response(self.other, None, {})} if self.other else made


def responses(failures: Iterable[Failure]) -> Iterator[tuple[str, dict[str, Any]]]:
    """One response for each HTTP status of the failures, sorted, which tells of all that have it."""
    by_status: dict[int, dict[str, Failure]] = {}
    for failure in failures:
        by_status.setdefault(failure.http_status, {}).setdefault(failure.description, failure)
    for status, different in sorted(by_status.items()):
        headers = {name: header for one in different.values() for name, header in one.headers.items()}
        example = next((one.example for one in different.values() if one.example is not None), None)
        yield str(status), _response("\n\n".join(different), example, headers)


def _response(description: str, example: Any, headers: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    media: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{SCHEMA_NAME}"}}
    if example is not None:
        media["example"] = example
    response = {"description": description, "headers": dict(headers), "content": {"application/json": media}}
    return {key: value for key, value in response.items() if value}
