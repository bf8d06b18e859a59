"""Load whose every request must be answered, while those who answer come and go."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import aiohttp
import grpc
import orjson

from saxgw.v1 import sax_service_pb2 as pb
from saxgw.v1 import sax_service_pb2_grpc

_EXTRA_INPUTS: Final = {"per_example_max_decode_steps": 8, "temperature": 0}


class Load:
    """Clients of Generate that go on until they are left. A request that is not answered, or wrongly, ends them all.

        async with Load(model) as load:
            load.http([first, second])
            load.grpc([first, second])
            await load.answers(10)

    Args:
        model: A published model.
        resend: Whether a request is sent again if its connection breaks, as it does when a gateway is killed.
        may_cross: Whether a request that crosses with the news that its gateway stops is sent again; see `crossed`.
    """

    def __init__(self, model: str, *, resend: bool = False, may_cross: bool = False) -> None:
        self._model = model
        self._resend = resend
        self._may_cross = may_cross
        self.crossed: list[str] = []
        """The request ids of those that were; no gateway may have taken one of them."""
        self._answered: Counter[asyncio.Task[None]] = Counter()
        self._news = asyncio.Condition()
        self._clients = asyncio.TaskGroup()
        self._leaving = False
        self._may_be_refused = False

    async def __aenter__(self) -> Self:
        await self._clients.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        await self._clients.__aexit__(kind, error, trace)

    def http(self, addresses: Sequence[str]) -> None:
        """Adds a client with one connection. When told that it closes, or refused one, it turns to the next address."""
        self._add(self._http(addresses))

    def grpc(self, addresses: Sequence[str]) -> None:
        """Adds a client with one channel to all addresses, which asks one after the other."""
        self._add(self._grpc(addresses))

    async def answers(self, count: int) -> None:
        """Waits until each client has had so many more answers."""
        wanted = {client: answered + count for client, answered in self._answered.items()}
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: all(self._answered[client] >= wanted[client] for client in wanted))

    def last(self) -> None:
        """From now on there may be nobody left to ask, which ends a client."""
        self._may_be_refused = True

    def _add(self, work: Coroutine[Any, Any, None]) -> None:
        self._answered[self._clients.create_task(work)] = 0

    async def _note(self) -> None:
        client = asyncio.current_task()
        assert client is not None
        async with self._news:
            self._answered[client] += 1
            self._news.notify_all()

    async def _http(self, addresses: Sequence[str]) -> None:
        body = orjson.dumps({"model": self._model, "query": "x", "extra_inputs": _EXTRA_INPUTS})
        at = refused = 0
        async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
            while not self._leaving and refused < len(addresses):
                closes = False
                request_id = uuid4().hex
                try:
                    async with session.post(
                        f"http://{addresses[at]}/generate", data=body, headers={"X-Request-Id": request_id}
                    ) as response:
                        answer = await response.read()
                except aiohttp.ClientConnectorError:
                    closes = True
                    refused += 1
                except aiohttp.ClientError:
                    if self._may_cross:
                        self.crossed.append(request_id)
                    elif not self._resend:
                        raise
                else:
                    assert response.status == 200, answer
                    await self._note()
                    refused = 0
                    closes = response.headers.get("Connection") == "close"
                if closes:
                    at = (at + 1) % len(addresses)
        assert self._leaving or self._may_be_refused, "nobody took a connection"

    async def _grpc(self, addresses: Sequence[str]) -> None:
        request = pb.GenerateRequest(model=self._model, query="x")
        request.extra_inputs.update(_EXTRA_INPUTS)
        options = [
            ("grpc.lb_policy_name", "round_robin"),
            ("grpc.use_local_subchannel_pool", 1),  # connections of its own
        ]
        async with grpc.aio.insecure_channel(f"ipv4:{','.join(addresses)}", options) as channel:
            stub = sax_service_pb2_grpc.SaxServiceStub(channel)
            while not self._leaving:
                request_id = uuid4().hex
                try:
                    # A channel takes a second or more to find out that a gateway is back.
                    await stub.Generate(
                        request, metadata=[("x-request-id", request_id)], wait_for_ready=len(addresses) > 1
                    )
                except grpc.aio.AioRpcError as error:
                    if self._may_cross and error.code() == grpc.StatusCode.CANCELLED:
                        self.crossed.append(request_id)
                        continue
                    if error.code() != grpc.StatusCode.UNAVAILABLE:
                        raise
                    if self._may_be_refused and "connect" in (error.details() or "").lower():
                        return
                    if not self._resend:
                        raise
                else:
                    await self._note()
