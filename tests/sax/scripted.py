"""A cell whose servers do what a test tells them to, over real gRPC on loopback."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2, modelet_pb2

CELL = "/sax/test"
MODEL = "/sax/test/lm"

Context = grpc.aio.ServicerContext[Any, Any]

Step = Callable[[Any, Context], Awaitable[Any]]
"""What a server does with one call instead of what it does by default."""


def refuse(code: grpc.StatusCode, words: str) -> Step:
    """A step that answers with an error."""

    async def step(_: Any, context: Context) -> None:
        await context.abort(code, words)

    return step


def answer(response: Any) -> Step:
    """A step that answers so."""

    async def step(_: Any, __: Context) -> Any:
        return response

    return step


class Hold:
    """A step that says when it has begun, and then waits to be released before it answers."""

    def __init__(self, response: Any = None) -> None:
        self._response = response or lm_pb2.GenerateResponse(texts=[lm_pb2.DecodedText(text="held", score=-1)])
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.deadline_s: float | None = None

    async def __call__(self, _: Any, context: Context) -> Any:
        self.deadline_s = context.time_remaining()
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self._response


class Scripted:
    """A server on a free port of loopback: keeps all requests, and takes steps from a script before its defaults."""

    services: ClassVar[list[ServiceDescriptor]] = []

    def __init__(self) -> None:
        self.requests: dict[str, list[Any]] = defaultdict(list)
        self.script: dict[str, deque[Step]] = defaultdict(deque)
        """What is done with the next calls, by RPC."""
        self.always: dict[str, Step] = {}
        """What is done with all other calls, by RPC."""
        self.address = ""
        self._called = asyncio.Condition()
        self._server: grpc.aio.Server | None = None

    async def start(self, address: str = "127.0.0.1:0") -> Self:
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        for service in self.services:
            handlers = {method.name: self._handler(method) for method in service.methods}
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(address)}"
        await self._server.start()
        return self

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def called(self, rpc: str, times: int) -> None:
        """Waits until `rpc` was called that often."""
        async with self._called:
            await self._called.wait_for(lambda: len(self.requests[rpc]) >= times)

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        async def perform(request: Any, context: Context) -> Any:
            async with self._called:
                self.requests[method.name].append(request)
                self._called.notify_all()
            script = self.script[method.name]
            step = script.popleft() if script else self.always[method.name]
            return await step(request, context)

        return grpc.unary_unary_rpc_method_handler(
            perform,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )


class ScriptedAdmin(Scripted):
    """An admin whose news for WatchLoc, of its only model, a test puts into `news`."""

    services: ClassVar = [admin_pb2.DESCRIPTOR.services_by_name["Admin"]]

    def __init__(self) -> None:
        super().__init__()
        self.published: dict[str, admin_pb2.PublishedModel] = {}
        self.news: asyncio.Queue[admin_pb2.WatchLocResponse | Step] = asyncio.Queue()
        self.always = {
            "Publish": answer(admin_pb2.PublishResponse()),
            "Update": answer(admin_pb2.UpdateResponse()),
            "Unpublish": answer(admin_pb2.UnpublishResponse()),
            "List": self._list,
            "WatchLoc": self._watch,
            "WaitForReady": self._wait_for_ready,
            "Stats": self._stats,
        }

    def serve(self, *addresses: str, model: str = MODEL, replicas: int | None = None) -> None:
        """Lists a model, and names its replicas to the next WatchLoc."""
        self.publish(*addresses, model=model, replicas=replicas)
        self.news.put_nowait(full_set(*addresses))

    def publish(self, *addresses: str, model: str = MODEL, replicas: int | None = None) -> None:
        """Lists a model from now on."""
        self.published[model] = admin_pb2.PublishedModel(
            model=admin_pb2.Model(
                model_id=model,
                model_path="a.B",
                checkpoint_path="None",
                requested_num_replicas=len(addresses) if replicas is None else replicas,
            ),
            modelet_addresses=addresses,
        )

    async def _list(self, request: admin_pb2.ListRequest, context: Context) -> admin_pb2.ListResponse:
        if not request.model_id:
            return admin_pb2.ListResponse(published_models=self.published.values())
        await self._must_be_published(request.model_id, context)
        return admin_pb2.ListResponse(published_models=[self.published[request.model_id]])

    async def _watch(self, request: admin_pb2.WatchLocRequest, context: Context) -> Any:
        await self._must_be_published(request.model_id, context)
        news = await self.news.get()
        return news if isinstance(news, admin_pb2.WatchLocResponse) else await news(request, context)

    async def _wait_for_ready(self, request: admin_pb2.WaitForReadyRequest, context: Context) -> Any:
        """All replicas are ready from the beginning."""
        await self._must_be_published(request.model_id, context)
        return admin_pb2.WaitForReadyResponse()

    async def _stats(self, request: admin_pb2.StatsRequest, context: Context) -> admin_pb2.StatsResponse:
        """There are no model servers."""
        if request.model_id:
            await self._must_be_published(request.model_id, context)
        return admin_pb2.StatsResponse()

    async def _must_be_published(self, model: str, context: Context) -> None:
        if model not in self.published:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"model {model} not found")


class ScriptedModelServer(Scripted):
    """A model server that has loaded MODEL and repeats what it is given."""

    services: ClassVar = [
        lm_pb2.DESCRIPTOR.services_by_name["LMService"],
        modelet_pb2.DESCRIPTOR.services_by_name["Modelet"],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.always = {
            "Generate": self._repeat,
            "Score": self._score,
            "Embed": answer(lm_pb2.EmbedResponse(embedding=[0.6, -0.8])),
            "GetStatus": answer(status(common_pb2.LOADED)),
        }

    async def _repeat(self, request: lm_pb2.GenerateRequest, _: Context) -> lm_pb2.GenerateResponse:
        return lm_pb2.GenerateResponse(texts=[lm_pb2.DecodedText(text=request.text, score=-0.5)])

    async def _score(self, request: lm_pb2.ScoreRequest, _: Context) -> lm_pb2.ScoreResponse:
        return lm_pb2.ScoreResponse(logp=[-float(len(suffix)) for suffix in request.suffix or [""]])


def status(status: common_pb2.ModelStatus.ValueType, model: str = MODEL) -> modelet_pb2.GetStatusResponse:
    """What GetStatus says of a server with one model."""
    entry = modelet_pb2.GetStatusResponse.ModelWithStatus(model_key=model, model_status=status)
    return modelet_pb2.GetStatusResponse(models=[entry])


class ScriptedCell:
    """A SAX_ROOT with the cell /sax/test, its admin, and model servers as a test starts them."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.location_file = root / "sax" / "test" / "location.proto"
        self.admin = ScriptedAdmin()
        self._servers: list[Scripted] = []

    async def model_server(self) -> ScriptedModelServer:
        server = ScriptedModelServer()
        self._servers.append(server)
        return await server.start()

    async def new_admin(self) -> ScriptedAdmin:
        """Starts another admin on another port, and points the location file to it."""
        self.admin = ScriptedAdmin()
        self._servers.append(self.admin)
        await self.admin.start()
        self.locate(self.admin.address)
        return self.admin

    def locate(self, address: str) -> None:
        self.location_file.write_bytes(admin_pb2.Location(location=address).SerializeToString())

    async def stop(self) -> None:
        for server in self._servers:
            await server.stop()


@asynccontextmanager
async def scripted_cell(root: Path) -> AsyncIterator[ScriptedCell]:
    cell = ScriptedCell(root)
    cell.location_file.parent.mkdir(parents=True)
    await cell.new_admin()
    try:
        yield cell
    finally:
        await cell.stop()


def full_set(*addresses: str, admin: str = "admin-1", next_seqno: int | None = None) -> admin_pb2.WatchLocResponse:
    """WatchLoc's answer with all addresses."""
    return admin_pb2.WatchLocResponse(
        admin_server_id=admin,
        result=admin_pb2.WatchResult(
            has_fullset=True, values=addresses, next_seqno=len(addresses) if next_seqno is None else next_seqno
        ),
    )


def changes(*mutations: str, admin: str = "admin-1", next_seqno: int = 0) -> admin_pb2.WatchLocResponse:
    """WatchLoc's answer with changes only, such as "+10.0.0.1:80" and "-10.0.0.2:80"."""
    return admin_pb2.WatchLocResponse(
        admin_server_id=admin,
        result=admin_pb2.WatchResult(
            next_seqno=next_seqno,
            changelog=[
                admin_pb2.WatchResult.Mutation(addition=mutation[1:])
                if mutation.startswith("+")
                else admin_pb2.WatchResult.Mutation(deletion=mutation[1:])
                for mutation in mutations
            ],
        ),
    )
