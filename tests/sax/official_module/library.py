"""What the Go library under Google's module does (Sax protocol §6), over gRPC that blocks.

Where the real one follows WatchLoc in the background, this asks the admin with each call; where it goes round a ring
of hashes, this goes round the addresses.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import grpc
from google.protobuf import descriptor_pool

from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2, modelet_pb2
from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from tests.sax.official_module.abseil import StatusNotOk

T = TypeVar("T")

Code = grpc.StatusCode

Callback: TypeAlias = Callable[[bool, list[tuple[str, int, list[float]]]], None]

_NEVER_RAN: Final = "No admin server has been started for this Sax cell."

_REMEMBERED_S: Final = 30.0
"""How long it is remembered that a model could not be looked up."""

_LOOKUP_S: Final = 10.0
"""Time limit of a look at a model's addresses, which is not the caller's."""

_ADMIN_RETRIES: Final = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)
_DATA_RETRIES: Final = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND)
_FAIL_FAST_RETRIES: Final = (Code.NOT_FOUND,)


class Library:
    """Finds cells under a root, and calls their servers.

    Like Google's generated modules it has the messages of package `sax` in Python's default pool.
    """

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._lookups: dict[str, tuple[float, StatusNotOk] | None] = {}
        """Models that were looked up, and how it failed if it did."""
        self._turns = itertools.count()
        for file in (common_pb2, admin_pb2, modelet_pb2, lm_pb2):
            descriptor_pool.Default().AddSerializedFile(file.DESCRIPTOR.serialized_pb)

    def admin(self, cell: str, rpc: str, request: Any, timeout_s: float) -> Any:
        """Asks the admin of a cell, as long as it takes it to answer."""
        until = _until(timeout_s)

        def ask() -> Any:
            with grpc.insecure_channel(self._admin_address(cell)) as channel:
                return _sent(getattr(AdminStub(channel), rpc), request, until)

        return _retried(ask, _ADMIN_RETRIES, until)

    def published(self, model: str, timeout_s: float) -> admin_pb2.PublishedModel:
        """How one model is published."""
        request = admin_pb2.ListRequest(model_id=model)
        listed: list[admin_pb2.PublishedModel] = list(
            self.admin(model.rpartition("/")[0], "List", request, timeout_s).published_models
        )
        if len(listed) != 1:
            raise StatusNotOk(Code.NOT_FOUND, f"one model expected for {model}")
        return listed[0]

    def data(self, rpc: str, request: Any, timeout_s: float, *, fail_fast: bool) -> Any:
        """Asks a model server."""
        until = _until(timeout_s)

        def ask() -> Any:
            with grpc.insecure_channel(self._address(request.model_key)) as channel:
                return _sent(getattr(LMServiceStub(channel), rpc), request, until)

        return _retried(ask, _FAIL_FAST_RETRIES if fail_fast else _DATA_RETRIES, until)

    def stream(self, request: lm_pb2.GenerateRequest, callback: Callback, timeout_s: float, *, fail_fast: bool) -> None:
        """Has a model server write, and calls back with each message. Errors after the first one lose their code."""
        until = _until(timeout_s)

        def begin() -> tuple[grpc.Channel, Iterator[lm_pb2.GenerateStreamResponse], Any]:
            channel = grpc.insecure_channel(self._address(request.model_key))
            try:
                messages = LMServiceStub(channel).GenerateStream(request, timeout=_left(until))
                return channel, messages, next(messages, None)
            except grpc.RpcError as error:
                channel.close()
                raise _not_ok(error) from error

        channel, messages, message = _retried(begin, _FAIL_FAST_RETRIES if fail_fast else _DATA_RETRIES, until)
        with channel:
            while message is not None:
                callback(
                    False,  # noqa: FBT003 -- the module calls it so
                    [(item.text, item.prefix_len, list(item.scores or [item.score])) for item in message.items],
                )
                try:
                    message = next(messages, None)
                except grpc.RpcError as error:
                    raise StatusNotOk(Code.UNKNOWN, _not_ok(error).status.message()) from error
        callback(True, [])  # noqa: FBT003 -- the same

    def _admin_address(self, cell: str) -> str:
        folder = self._root / cell.removeprefix("/")
        if not folder.is_dir():
            raise StatusNotOk(Code.FAILED_PRECONDITION, f'"{folder}" is not a directory')
        try:
            location = admin_pb2.Location.FromString((folder / "location.proto").read_bytes()).location
        except OSError:
            raise StatusNotOk(Code.UNKNOWN, f"open {folder}/location.proto: no such file or directory") from None
        if location in ("", _NEVER_RAN):
            reason = "no admin server has ever run" if location else "got an empty location"
            raise StatusNotOk(Code.FAILED_PRECONDITION, reason)
        return location

    def _address(self, model: str) -> str:
        if model not in self._lookups:
            self._lookups[model] = None
            raise StatusNotOk(Code.UNAVAILABLE, f"no address of {model} yet")
        failed = self._lookups[model]
        if failed and time.monotonic() - failed[0] < _REMEMBERED_S:
            raise failed[1]
        try:
            addresses = self.published(model, _LOOKUP_S).modelet_addresses
        except StatusNotOk as error:
            lost = StatusNotOk(Code.UNKNOWN, error.status.message())
            self._lookups[model] = (time.monotonic(), lost)
            raise lost from error
        if not addresses:
            raise StatusNotOk(Code.UNAVAILABLE, f"no address of {model}")
        return addresses[next(self._turns) % len(addresses)]


def _sent(rpc: Callable[..., T], request: Any, until: float) -> T:
    try:
        return rpc(request, timeout=_left(until))
    except grpc.RpcError as error:
        raise _not_ok(error) from error


def _not_ok(error: Any) -> StatusNotOk:
    go_name = "".join(part.capitalize() for part in error.code().name.split("_")).replace("Cancelled", "Canceled")
    words = error.details().replace("CLIENT: Received message larger", "grpc: received message larger")
    return StatusNotOk(error.code(), f"rpc error: code = {go_name} desc = {words}")


def _retried(attempt: Callable[[], T], retriable: Collection[grpc.StatusCode], until: float) -> T:
    interval_s = 0.01
    for tries in itertools.count(1):
        try:
            return attempt()
        except StatusNotOk as error:
            code = grpc.StatusCode[error.status.code().name]
            if time.monotonic() >= until:
                raise StatusNotOk(Code.DEADLINE_EXCEEDED, "context deadline exceeded") from error
            if code not in retriable:
                raise
            wait_s = interval_s * random.uniform(0.5, 1.5)  # noqa: S311 -- no secret
            if time.monotonic() + wait_s >= until:
                raise StatusNotOk(code, f"retries({tries}): {error.status.message()}") from error
        time.sleep(wait_s)
        interval_s = min(interval_s * 1.1, 20)
    raise AssertionError


def _until(timeout_s: float) -> float:
    return time.monotonic() + timeout_s if timeout_s > 0 else float("inf")


def _left(until: float) -> float | None:
    return None if until == float("inf") else max(until - time.monotonic(), 0.001)
