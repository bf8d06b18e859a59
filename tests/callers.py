"""One way to call the gateway through any of its doors, so that one body of tests serves them all.

A request is a dict as protobuf's JSON has it, with the names of the .proto; so is what comes back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
import grpc
import orjson
from google.api import annotations_pb2, http_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2, status_pb2

from saxgw.gateway import SERVICE
from saxgw.transcoding.v1 import options_pb2

_DETAILS = (error_details_pb2.BadRequest, error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo)
"""Detail types that callers see; named so that they are in the descriptor pool when details are printed."""


class CallError(Exception):
    """The gateway answered with an error."""

    def __init__(self, code: str, message: str, details: list[dict[str, Any]]) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.details = details

    @property
    def fields(self) -> list[str]:
        """The fields that the error names as wrong."""
        return [v["field"] for d in self.details for v in d.get("field_violations", [])]

    @property
    def reason(self) -> str | None:
        """The reason of its ErrorInfo."""
        return next((d["reason"] for d in self.details if "reason" in d), None)


class Caller(Protocol):
    """Calls a method of SaxService; raises CallError."""

    async def __call__(self, method: str, request: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        """The answer; of a method that streams, the list of all messages."""
        ...

    def stream(
        self, method: str, request: dict[str, Any], *, timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        """The messages of a method that streams, as they come."""
        ...


class GrpcCaller:
    """Calls as a gRPC client does."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Sequence[tuple[str, str]] = ()) -> None:
        self._metadata = tuple(metadata)
        self._calls: dict[str, Any] = {
            method.name: (
                GetMessageClass(method.input_type),
                (channel.unary_stream if method.server_streaming else channel.unary_unary)(
                    f"/{SERVICE.full_name}/{method.name}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=GetMessageClass(method.output_type).FromString,
                ),
            )
            for method in SERVICE.methods
        }

    async def __call__(self, method: str, request: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        if SERVICE.methods_by_name[method].server_streaming:
            return [message async for message in self.stream(method, request, timeout_s=timeout_s)]
        message_class, call = self._calls[method]
        try:
            response = await call(
                json_format.ParseDict(request, message_class()), timeout=timeout_s, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            raise _from_grpc(error) from error
        return _as_dict(response)

    async def stream(
        self, method: str, request: dict[str, Any], *, timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        message_class, call = self._calls[method]
        messages = call(json_format.ParseDict(request, message_class()), timeout=timeout_s, metadata=self._metadata)
        try:
            async for message in messages:
                yield _as_dict(message)
        except grpc.aio.AioRpcError as error:
            raise _from_grpc(error) from error
        finally:
            messages.cancel()


class HttpCaller:
    """Calls as an HTTP client does, by the n-th rule of each method's google.api.http; -1 is the last one."""

    def __init__(self, session: aiohttp.ClientSession, address: str, rule: int) -> None:
        self._session = session
        self._address = address
        self._rule = rule

    async def __call__(self, method: str, request: dict[str, Any], *, timeout_s: float | None = None) -> Any:
        descriptor = SERVICE.methods_by_name[method]
        if descriptor.server_streaming:
            return [message async for message in self.stream(method, request, timeout_s=timeout_s)]
        async with self._send(descriptor, request, timeout_s) as response:
            payload = orjson.loads(await response.read())
            assert response.content_type == "application/json"
        if response.status != 200:
            raise _from_http(payload, response.status)
        return _from_rule(descriptor, http_rules(descriptor)[self._rule], payload)

    async def stream(
        self, method: str, request: dict[str, Any], *, timeout_s: float | None = None
    ) -> AsyncGenerator[dict[str, Any]]:
        async with self._send(SERVICE.methods_by_name[method], request, timeout_s) as response:
            if response.status != 200:
                raise _from_http(orjson.loads(await response.read()), response.status)
            assert response.content_type == "application/x-ndjson"
            async for line in response.content:
                message = orjson.loads(line)
                if "error" in message:
                    raise _from_http(message, message["error"]["code"])
                yield message

    def _send(self, method: MethodDescriptor, request: dict[str, Any], timeout_s: float | None) -> Any:
        rule = http_rules(method)[self._rule]
        verb, path, fields = _expand(rule, request)
        headers = {"Content-Type": "application/json"}
        if timeout_s is not None:
            headers["X-Request-Timeout"] = str(timeout_s)
        if rule.body:
            return self._session.request(verb, self._address + path, data=orjson.dumps(fields), headers=headers)
        query = {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
        return self._session.request(verb, self._address + path, params=query, headers=headers)


async def active_replicas(call: Caller, model: str, wanted: int) -> dict[str, Any]:
    """Describes the model once it has so many active replicas."""
    async with asyncio.timeout(60):
        while True:
            answer: dict[str, Any] = await call("ListCell", {"model": model})
            if answer["active_replicas"] == wanted:
                return answer


async def code_of(call: Caller) -> str:
    """What becomes of a call for which the scope `read` will do."""
    try:
        await call("ListCells", {})
    except CallError as error:
        return error.code
    return "OK"


def http_rules(method: MethodDescriptor) -> list[http_pb2.HttpRule]:
    """All HTTP rules of a method, the documented one first."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    return [rule, *rule.additional_bindings]


def _expand(rule: http_pb2.HttpRule, request: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """HTTP method, path with its variables filled in, and the fields that are left."""
    kind = rule.WhichOneof("pattern")
    assert kind is not None
    fields = dict(request)

    def fill(variable: re.Match[str]) -> str:
        return quote(str(fields.pop(variable[1])).removeprefix("/"), safe="/")

    return kind.upper(), re.sub(r"\{(\w+)=[^}]*\}", fill, getattr(rule, kind)), fields


def _from_rule(method: MethodDescriptor, rule: http_pb2.HttpRule, payload: Any) -> Any:
    """The response message as a dict, from what the rule made of it."""
    if not rule.response_body:
        return payload
    field = method.output_type.fields_by_name[rule.response_body]
    if field.GetOptions().Extensions[options_pb2.response_body_form] == options_pb2.RESPONSE_BODY_FORM_ARRAYS:
        assert field.message_type is not None
        payload = [dict(zip(field.message_type.fields_by_name, row, strict=True)) for row in payload]
    return {rule.response_body: payload}


def _from_http(payload: Any, status: int) -> CallError:
    error = payload["error"]
    assert list(payload) == ["error"]
    assert error["code"] == status
    return CallError(error["status"], error["message"], error["details"])


def _from_grpc(error: grpc.aio.AioRpcError) -> CallError:
    status = status_pb2.Status(code=error.code().value[0], message=error.details() or "")
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
    assert status.message == error.details()
    return CallError(code_pb2.Code.Name(status.code), status.message, _as_dict(status)["details"])


def _as_dict(message: Any) -> Any:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
