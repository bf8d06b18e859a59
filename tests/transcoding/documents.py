"""OpenAPI documents of the tests' services, and validators of what they say of bodies."""

from __future__ import annotations

from typing import Any

from google.api.http_pb2 import HttpRule
from jsonschema import Draft202012Validator

from saxgw.transcoding import Transcoder
from saxgw.transcoding.openapi import Failure, Failures, document
from tests.transcoding.schema import FILES, POOL, methods, methods_for

KINDS = (
    "Scalars",
    "Presence",
    "Repeated",
    "Maps",
    "Leaf",
    "OneOf",
    "WellKnown",
    "Wrapped",
    "Names",
    "Everything",
)

FAILURES = Failures(
    schema={"type": "object"},
    always=[Failure(400, "Malformed."), Failure(500, "Broken.")],
    by_code={
        5: Failure(404, "Nothing there."),
        6: Failure(409, "There already."),
        9: Failure(400, "Not now."),
        14: Failure(503, "Down.", {"error": 1}, {"Retry-After": {"schema": {"type": "integer"}}}),
    },
)

LIBRARY = document(Transcoder(methods(), pool=POOL).routes, title="Library", version="1", files=FILES)

LENDING = document(
    Transcoder(methods("Lending"), pool=POOL).routes,
    title="Lending",
    version="2",
    description="All about lending.",
    files=FILES,
    failures=FAILURES,
    parameters={"Trace": {"name": "Trace", "in": "header", "schema": {"type": "string"}}},
)

ECHOES = document(
    Transcoder(methods_for((kind, HttpRule(post=f"/{kind}", body="*")) for kind in KINDS)).routes,
    title="Echoes",
    version="3",
)


def operation(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The operation of a name: the method's, with the number of the rule from the second one on."""
    for item in document["paths"].values():
        for found in item.values():
            if found["operationId"].partition("_")[2] == name:
                made: dict[str, Any] = found
                return made
    raise AssertionError(name)


def request_schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of an operation's JSON body."""
    made: dict[str, Any] = operation(document, name)["requestBody"]["content"]["application/json"]["schema"]
    return made


def response_schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The schema of an operation's successful answer."""
    made: dict[str, Any] = operation(document, name)["responses"]["200"]["content"]["application/json"]["schema"]
    return made


def component(document: dict[str, Any], name: str) -> dict[str, Any]:
    made: dict[str, Any] = document["components"]["schemas"][name]
    return made


def validator(document: dict[str, Any], schema: dict[str, Any]) -> Draft202012Validator:
    """Checks values against a schema of the document, and refuses properties that it does not name."""
    return Draft202012Validator({**schema, "components": _closed(document["components"])})


def _closed(tree: Any) -> Any:
    if isinstance(tree, list):
        return [_closed(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    made = {key: _closed(value) for key, value in tree.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object" and "if" not in made:
        made.setdefault("additionalProperties", False)
    return made
