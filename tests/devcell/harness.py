"""What the tests of the dev cell share: quick timing, stubs, and a model that does what the test says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, ClassVar, Self

import grpc
import pytest

from saxgw.devcell import ExtraInput, LanguageModel, ModelServer, Piece, Settings, Timing
from saxgw.sax.wire.admin_pb2 import (
    ListRequest,
    Model,
    PublishedModel,
    PublishRequest,
    UnpublishRequest,
    UpdateRequest,
    WaitForReadyRequest,
    WatchLocRequest,
    WatchLocResponse,
)
from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from saxgw.sax.wire.lm_pb2_grpc import LMServiceStub
from saxgw.sax.wire.modelet_pb2_grpc import ModeletStub

if TYPE_CHECKING:
    from saxgw.sax.wire.admin_pb2_grpc import AdminAsyncStub
    from saxgw.sax.wire.lm_pb2_grpc import LMServiceAsyncStub
    from saxgw.sax.wire.modelet_pb2_grpc import ModeletAsyncStub

NGRAM = "saxgw.devcell.NgramLm"
GATED = "test.Gated"
TIMEOUT_S = 60.0
"""No call takes nearly as long; without it a failure would be a test that hangs."""
QUICK = Timing(poll_s=0.05, prune_after_s=TIMEOUT_S, connect_back_s=TIMEOUT_S, join_s=0.2, location_s=0.02)
"""Often, but not hasty: no server is given up that is only slow. A `Clock` is for tests of what is given up."""


async def until(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Waits for what threads or other servers do, and no event tells."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            held = condition()
            if held if isinstance(held, bool) else await held:
                return
            await asyncio.sleep(0.002)


class Clock:
    """Stands for the module `time` where admins look how long a model server has been silent."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._ahead_s

    def advance(self) -> None:
        """Lets a minute and more pass at once."""
        self._ahead_s += 2 * TIMEOUT_S


@contextmanager
def undebugged() -> Iterator[None]:
    """Turns asyncio's debug mode off: it records a traceback at each step, which thousands of calls would wait for."""
    loop = asyncio.get_running_loop()
    debug = loop.get_debug()
    loop.set_debug(False)
    try:
        yield
    finally:
        loop.set_debug(debug)


async def refusal(call: Awaitable[object]) -> tuple[grpc.StatusCode, str | None]:
    """Returns code and text of the error that a call must end with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


class Gate:
    """Lets a model pass one step at a time, and tells how far it has come."""

    def __init__(self) -> None:
        self.steps = threading.Semaphore(0)
        self.loads = threading.Semaphore(0)
        self.loaded = 0
        self.begun = 0
        self.ended = 0
        self.lock = threading.Lock()

    def open(self) -> None:
        """Lets everything pass from now on."""
        self.steps.release(1000)
        self.loads.release(1000)


class Gated(LanguageModel):
    """Writes "0 1 2 …" as the test's gate lets it; the checkpoint "broken" cannot be loaded, "hostile" least of all."""

    gate: ClassVar[Gate]
    step_text: ClassVar[Callable[[int], str]] = "{} ".format

    @classmethod
    def load(cls, checkpoint: str, settings: Settings) -> Self:  # noqa: ARG003 (it has none of its own)
        assert cls.gate.loads.acquire(timeout=TIMEOUT_S)
        cls.gate.loaded += 1
        if checkpoint == "broken":
            raise ValueError("the checkpoint is broken")
        if checkpoint == "hostile":
            raise RuntimeError("the checkpoint bites")
        return cls()

    @property
    def extra_inputs(self) -> Mapping[str, ExtraInput]:
        return {"steps": 3.0, "style": "plain", "weights": [0.5, 0.5]}

    def generate(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> Iterator[Sequence[Piece]]:
        if text == "refuse":
            raise ValueError("the prompt is refused")
        if text == "fail":
            raise RuntimeError("the prompt is a secret")
        steps = extra_inputs["steps"]
        assert isinstance(steps, float)
        return self._steps(int(steps))

    def score(
        self,
        prefix: str,  # noqa: ARG002 (all texts are alike to it)
        suffixes: Sequence[str],
        extra_inputs: Mapping[str, ExtraInput],  # noqa: ARG002 (the same)
    ) -> list[float]:
        return [-1.0 for _ in suffixes]

    def _steps(self, count: int) -> Iterator[Sequence[Piece]]:
        with self.gate.lock:
            self.gate.begun += 1
        try:
            for step in range(count):
                assert self.gate.steps.acquire(timeout=TIMEOUT_S)
                yield [Piece(type(self).step_text(step), -1.0)]
        finally:
            with self.gate.lock:
                self.gate.ended += 1


def gated(gate: Gate, step_text: Callable[[int], str] = "{} ".format) -> dict[str, type[LanguageModel]]:
    """Returns model classes for a cell: Gated behind this gate."""
    return {GATED: type("Gated", (Gated,), {"gate": gate, "step_text": staticmethod(step_text)})}


def model(name: str, path: str = NGRAM, checkpoint: str = "None", replicas: int = 1, **overrides: str) -> Model:
    """Returns a model of the cell "test"."""
    return Model(
        model_id=f"/sax/test/{name}",
        model_path=path,
        checkpoint_path=checkpoint,
        requested_num_replicas=replicas,
        overrides=overrides,
    )


class Admin:
    """The calls of an admin server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.stub: AdminAsyncStub = AdminStub(channel)

    async def publish(self, published: Model) -> None:
        await self.stub.Publish(PublishRequest(model=published), timeout=TIMEOUT_S)

    async def update(self, updated: Model) -> None:
        await self.stub.Update(UpdateRequest(model=updated), timeout=TIMEOUT_S)

    async def unpublish(self, model_id: str) -> None:
        await self.stub.Unpublish(UnpublishRequest(model_id=model_id), timeout=TIMEOUT_S)

    async def list_one(self, model_id: str) -> PublishedModel:
        (listed,) = (await self.stub.List(ListRequest(model_id=model_id), timeout=TIMEOUT_S)).published_models
        return listed

    async def ready(self, model_id: str, replicas: int = 1) -> None:
        request = WaitForReadyRequest(model_id=model_id, num_replicas=replicas)
        await self.stub.WaitForReady(request, timeout=TIMEOUT_S)

    async def watch(self, model_id: str, seqno: int = 0, admin_server_id: str = "") -> WatchLocResponse:
        request = WatchLocRequest(model_id=model_id, seqno=seqno, admin_server_id=admin_server_id)
        return await self.stub.WatchLoc(request, timeout=TIMEOUT_S)

    async def watch_until(self, model_id: str, condition: Callable[[set[str]], bool]) -> set[str]:
        """Follows a model's addresses, as a client does, until the condition holds for them."""
        addresses: set[str] = set()
        seen = WatchLocResponse()
        while not condition(addresses):
            answer = await self.watch(model_id, seen.result.next_seqno, seen.admin_server_id)
            if answer.result.has_fullset:
                addresses = set(answer.result.values)
            for mutation in answer.result.changelog:
                if mutation.WhichOneof("kind") == "addition":
                    addresses.add(mutation.addition)
                else:
                    addresses.discard(mutation.deletion)
            seen = answer
        return addresses


@asynccontextmanager
async def admin_at(address: str) -> AsyncIterator[Admin]:
    """Opens a channel to an admin server."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Admin(channel)


@asynccontextmanager
async def lm_at(server: ModelServer) -> AsyncIterator[LMServiceAsyncStub]:
    """Opens a channel to a model server's data methods."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield LMServiceStub(channel)


@asynccontextmanager
async def modelet_at(server: ModelServer) -> AsyncIterator[ModeletAsyncStub]:
    """Opens a channel to a model server's ruling methods."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield ModeletStub(channel)
