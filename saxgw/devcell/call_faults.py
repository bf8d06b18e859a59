"""The kinds of faults of calls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import grpc

from saxgw.devcell.errors import Refusal
from saxgw.devcell.fault import Fault
from saxgw.sax.wire.common_pb2 import LOADED
from saxgw.sax.wire.modelet_pb2 import (
    GetStatusRequest,
    GetStatusResponse,
    LoadRequest,
    LoadResponse,
    UpdateLoadedRequest,
    UpdateLoadedResponse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.message import Message

    from saxgw.devcell.errors import Context

_LOADS: Final[Mapping[type[Message], Message]] = {
    LoadRequest: LoadResponse(),
    UpdateLoadedRequest: UpdateLoadedResponse(),
}
"""How a model server says that it has loaded a model."""


class Slowness(Fault):
    """Answers come late."""

    def __init__(self, methods: frozenset[str], calls: int | None, seconds: float) -> None:
        super().__init__(methods, calls)
        self._seconds = seconds

    async def after(self, response: Message, context: Context) -> None:  # noqa: ARG002 (whatever the answer is)
        await asyncio.sleep(self._seconds)


class Refusing(Fault):
    """Calls are refused before anything is done for them."""

    def __init__(self, methods: frozenset[str], calls: int | None, code: grpc.StatusCode, text: str) -> None:
        super().__init__(methods, calls)
        self._refusal = Refusal(code, text)

    async def before(self, request: Message, context: Context) -> None:  # noqa: ARG002 (whatever the request is)
        await self._refusal.send(context)


class Disowning(Fault):
    """A model server denies that it has a model."""

    def __init__(self, methods: frozenset[str], calls: int | None, model_id: str) -> None:
        super().__init__(methods, calls)
        self._model_id = model_id

    def concerns(self, request: Message) -> bool:
        return getattr(request, "model_key", "") == self._model_id

    async def before(self, request: Message, context: Context) -> None:  # noqa: ARG002 (it concerns no other)
        text = f"{self._model_id} is still loading or already unloaded. Available models: "
        await Refusal(grpc.StatusCode.NOT_FOUND, text).send(context)


class Claiming(Fault):
    """A model server claims that it has loaded a model, and loads it for nobody."""

    def __init__(self, model_id: str) -> None:
        super().__init__(frozenset({"GetStatus", "Load", "UpdateLoaded"}))
        self._model_id = model_id

    def concerns(self, request: Message) -> bool:
        return isinstance(request, GetStatusRequest) or getattr(request, "model_key", "") == self._model_id

    async def before(self, request: Message, context: Context) -> Message | None:  # noqa: ARG002 (whoever asks)
        return _LOADS.get(type(request))

    async def after(self, response: Message, context: Context) -> None:  # noqa: ARG002 (whoever asks)
        if isinstance(response, GetStatusResponse):
            for status in response.models:
                if status.model_key == self._model_id:
                    break
            else:
                status = response.models.add(model_key=self._model_id)
            status.model_status = LOADED
            status.failure_reason = ""


class Dropping(Fault):
    """Calls are carried out, and the connection breaks before the answer has arrived."""

    def __init__(self, methods: frozenset[str], calls: int | None, drop: Callable[[int], None]) -> None:
        super().__init__(methods, calls)
        self._drop = drop

    async def after(self, response: Message, context: Context) -> None:  # noqa: ARG002 (whatever the answer is)
        # The relay between client and server has the connection by this port: ipv4:127.0.0.1:40000.
        self._drop(int(context.peer().rpartition(":")[2]))
