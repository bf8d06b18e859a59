"""Streams of any service through both doors: framings, flow, errors before and after the first message, callers who go.

The service is one of the transcoder's own tests; what it sends is up to each test.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import aiohttp
import grpc
import orjson
import pytest

from saxgw.doors import http_stream
from saxgw.doors.grpc import GrpcDoor
from saxgw.doors.http import HttpDoor
from saxgw.rpc.call import Call
from saxgw.rpc.endpoint import Interceptor, make_endpoints
from saxgw.rpc.expiry import Timeouts, enforce_deadline
from saxgw.rpc.interceptors import report_unexpected
from saxgw.rpc.status import Code, RpcError
from tests.devcell.harness import until
from tests.patience import limits
from tests.transcoding.schema import POOL, message_class

SERVICE = POOL.FindServiceByName("transcoding.test.Shelves")
Shelf = message_class("Shelf")
RoomWatch = message_class("RoomWatch")
HttpBody = message_class("google.api.HttpBody")

Stream = Callable[[Any, Call], AsyncGenerator[Any]]


class Shelves:
    """Streams what it is told."""

    def __init__(self, stream: Stream) -> None:
        self.watch = self.download = stream

    async def get(self, request: Any, _: Call) -> Any:
        return Shelf(name=str(request.shelf_id))

    async def search(self, request: Any, _: Call) -> Any:
        return message_class("ListShelvesResponse")(shelves=[Shelf(name=request.query)])


class Serving:
    """Both doors before a stream."""

    def __init__(self, http: aiohttp.ClientSession, channel: grpc.aio.Channel, http_port: int) -> None:
        self.http = http
        self.http_port = http_port
        self.watch: Any = channel.unary_stream(
            f"/{SERVICE.full_name}/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=Shelf.FromString,
        )

    def get(self, accept: str = "*/*", path: str = "/v1/rooms/1/titles") -> Any:
        return self.http.get(path, headers={"Accept": accept})


@asynccontextmanager
async def serving(
    stream: Stream, *interceptors: Interceptor, keepalive_s: float = 60.0, read_bufsize: int = 2**16
) -> AsyncIterator[Serving]:
    table = make_endpoints(SERVICE, Shelves(stream), [report_unexpected, *interceptors])
    async with (
        HttpDoor(table, "127.0.0.1", 0, keepalive_s=keepalive_s) as http,
        GrpcDoor(table, "127.0.0.1", 0) as door,
        aiohttp.ClientSession(
            f"http://127.0.0.1:{http.port}", connector=aiohttp.TCPConnector(limit=0), read_bufsize=read_bufsize
        ) as session,
        grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel,
    ):
        yield Serving(session, channel, http.port)


async def titles(request: Any, _: Call) -> AsyncGenerator[Any]:
    for number in range(3):
        yield Shelf(title=f"{request.room}.{number}")


async def failing(_: Any, __: Call) -> AsyncGenerator[Any]:
    yield Shelf(title="good")
    raise RpcError(Code.UNAVAILABLE, "the shelf has fallen")


async def refused(error: Exception) -> Any:
    """What a generator yields that fails before its first message."""
    raise error


BODIES = {
    "application/x-ndjson": (b'"1.0"\n"1.1"\n"1.2"\n', b'"good"\n%b\n'),
    "application/json": (b'["1.0",\n"1.1",\n"1.2"]\n', b'["good",\n%b]\n'),
    "text/event-stream": (
        b'id: 1\ndata: "1.0"\n\nid: 2\ndata: "1.1"\n\nid: 3\ndata: "1.2"\n\nevent: end\ndata: {}\n\n',
        b'id: 1\ndata: "good"\n\nevent: error\ndata: %b\n\n',
    ),
}
STREAMS = 500
"""As many as stand open at once; test_streaming.py has more of them, with a model behind."""

ERROR = b'{"error":{"code":503,"status":"UNAVAILABLE","message":"the shelf has fallen","details":[]}}'


@pytest.mark.parametrize("accept", BODIES)
async def test_framings(accept: str) -> None:
    """The caller chooses the framing; nothing on the way may keep, change or hold back what is streamed."""
    async with serving(titles) as doors, doors.get(accept) as response:
        assert (response.status, response.content_type) == (200, accept)
        assert response.headers["Cache-Control"] == "no-store, no-transform"
        assert response.headers["X-Accel-Buffering"] == "no"
        assert response.headers["Server"] == "saxgw"
        assert await response.read() == BODIES[accept][0]


@pytest.mark.parametrize("accept", BODIES)
async def test_error_after_the_first_message(accept: str) -> None:
    """It is the last thing in the body, in the one shape of errors, and the connection is good for more."""
    async with serving(failing) as doors:
        async with doors.get(accept) as response:
            assert response.status == 200
            assert await response.read() == BODIES[accept][1] % ERROR
        async with doors.get(path="/v1/shelf/7") as response:
            assert (await response.json())["name"] == "7"


@pytest.mark.parametrize("accept", BODIES)
async def test_error_before_the_first_message(accept: str) -> None:
    """It has its own status and is no stream."""

    async def fail(_: Any, __: Call) -> AsyncGenerator[Any]:
        yield await refused(RpcError(Code.NOT_FOUND, "no such room"))

    async with serving(fail) as doors, doors.get(accept) as response:
        assert (response.status, response.content_type) == (404, "application/json")
        assert (await response.json())["error"]["message"] == "no such room"


@pytest.mark.parametrize("accept", BODIES)
async def test_empty_stream(accept: str) -> None:
    """A stream without messages is one nevertheless."""

    async def nothing(_: Any, __: Call) -> AsyncGenerator[Any]:
        no_shelves: list[Any] = []
        for shelf in no_shelves:
            yield shelf

    expected = {"application/json": b"[]\n", "text/event-stream": b"event: end\ndata: {}\n\n"}
    async with serving(nothing) as doors, doors.get(accept) as response:
        assert (response.status, response.content_type) == (200, accept)
        assert await response.read() == expected.get(accept, b"")


async def test_over_grpc() -> None:
    """The same streams and errors over gRPC."""
    async with serving(titles) as doors:
        assert [shelf.title async for shelf in doors.watch(RoomWatch(room=1))] == ["1.0", "1.1", "1.2"]
    async with serving(failing) as doors:
        call = doors.watch(RoomWatch(room=1))
        assert (await call.read()).title == "good"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the shelf has fallen")


async def test_unexpected_failure_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    """Callers are told that, and no more, through either door."""

    async def fail(_: Any, __: Call) -> AsyncGenerator[Any]:
        yield Shelf(title="good")
        raise KeyError("secret")

    async with serving(fail) as doors:
        async with doors.get() as response:
            last = orjson.loads((await response.read()).splitlines()[-1])
        call = doors.watch(RoomWatch())
        await call.read()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert last["error"]["status"] == "INTERNAL"
    assert "secret" not in str(last)
    assert "request id" in (caught.value.details() or "")
    assert caplog.text.count("\nKeyError: 'secret'") == 2


async def test_raw_bytes() -> None:
    """A stream of google.api.HttpBody is its bytes, of the first one's type; what fails is cut off."""

    async def parts(request: Any, _: Call) -> AsyncGenerator[Any]:
        yield HttpBody(content_type="image/png", data=b"\x89P")
        yield HttpBody(data=b"NG")
        if request.query == "fail":
            raise RpcError(Code.DATA_LOSS, "torn")

    async with serving(parts) as doors:
        async with doors.get(path="/v1/rooms/1/picture") as response:
            assert (response.status, response.content_type, await response.read()) == (200, "image/png", b"\x89PNG")
        async with doors.get(path="/v1/rooms/1/picture?query=fail") as response:
            assert response.status == 200
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()


async def test_message_that_cannot_be_written() -> None:
    """A message without a JSON form ends the stream as an error."""

    async def impossible(_: Any, __: Call) -> AsyncGenerator[Any]:
        yield Shelf(title="good")
        bad = Shelf()
        bad.opened.seconds = 10**12
        yield bad

    async with serving(impossible) as doors, doors.http.post("/v1/rooms/1:watch", json={}) as response:
        good, error = (await response.read()).splitlines()
    assert orjson.loads(good)["title"] == "good"
    assert "the answer cannot be written" in orjson.loads(error)["error"]["message"]


async def test_events_of_a_unary_route() -> None:
    """A route that answers whole answers bit by bit if events are asked for, and only then."""
    async with serving(titles) as doors:
        body = {"query": "q"}
        async with doors.http.post("/v1/rooms/1:search", json=body) as response:
            assert await response.json() == [shelf_json("q")]
        events = {"Accept": "text/event-stream"}
        async with doors.http.post("/v1/rooms/1:search", json=body | {"follow": True}, headers=events) as response:
            assert response.content_type == "text/event-stream"
            assert (await response.read()).count(b"id: ") == 3
        async with doors.http.post("/v1/rooms/1:search", json={"follow": True}) as response:
            assert response.status == 400


def shelf_json(name: str) -> dict[str, Any]:
    return {"name": name, "title": "", "labels": {}, "tags": []}


async def test_messages_arrive_as_they_are_made() -> None:
    """Each message is with the caller before the next one is made, and the first before the answer is complete."""
    go_on = asyncio.Semaphore(0)

    async def gated(_: Any, __: Call) -> AsyncGenerator[Any]:
        for number in range(3):
            yield Shelf(title=str(number))
            await go_on.acquire()

    async with serving(gated) as doors:
        async with doors.get() as response:
            for number in range(3):
                assert await response.content.readline() == b'"%d"\n' % number
                go_on.release()
            assert await response.content.readline() == b""
        call = doors.watch(RoomWatch())
        for number in range(3):
            assert (await call.read()).title == str(number)
            go_on.release()
        assert await call.read() is grpc.aio.EOF


async def test_keepalive() -> None:
    """An event stream shows that it is alive: before the first message and between messages, but not after the end."""
    go_on = asyncio.Semaphore(0)

    async def gated(_: Any, __: Call) -> AsyncGenerator[Any]:
        await go_on.acquire()
        yield Shelf(title="late")
        await go_on.acquire()
        raise RpcError(Code.UNAVAILABLE, "the shelf has fallen")

    async with serving(gated, keepalive_s=0.01) as doors, doors.get("text/event-stream") as response:
        assert response.status == 200
        for expected in (b'id: 1\ndata: "late"\n\n', b"event: error\ndata: " + ERROR + b"\n\n"):
            assert await response.content.readuntil(b"\n\n") == b": keepalive\n\n"
            assert await response.content.readuntil(b"\n\n") == b": keepalive\n\n"
            go_on.release()
            while (event := await response.content.readuntil(b"\n\n")) == b": keepalive\n\n":
                pass
            assert event == expected
        assert await response.read() == b""


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
async def test_no_keepalive_where_there_is_none(accept: str) -> None:
    """Other framings have nothing to send between messages, and keep errors their status."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def late(_: Any, __: Call) -> AsyncGenerator[Any]:
        begun.set()
        await go_on.wait()
        yield await refused(RpcError(Code.UNAVAILABLE, "the shelf has fallen"))

    async def answer(doors: Serving) -> tuple[int, bytes]:
        async with doors.get(accept) as response:
            return response.status, await response.read()

    async with serving(late, keepalive_s=0.01) as doors:
        answering = asyncio.ensure_future(answer(doors))
        await asyncio.wait_for(begun.wait(), 60)
        async with doors.get("text/event-stream") as later:
            for _ in range(5):
                assert await later.content.readuntil(b"\n\n") == b": keepalive\n\n"
            go_on.set()
            assert await answering == (503, ERROR)


async def test_browser_that_connects_again() -> None:
    """An EventSource whose stream has ended is told that there is no other: 204 stops it."""
    async with (
        serving(titles) as doors,
        doors.http.get("/v1/rooms/1/titles", headers={"Accept": "text/event-stream", "Last-Event-ID": "3"}) as response,
    ):
        assert (response.status, await response.read()) == (204, b"")


async def test_head() -> None:
    """HEAD tells the type of a stream without making one."""

    async def never(_: Any, __: Call) -> AsyncGenerator[Any]:
        yield await refused(AssertionError())

    async with serving(never) as doors:
        async with doors.http.head("/v1/rooms/1/titles", headers={"Accept": "text/event-stream"}) as response:
            assert (response.status, response.content_type) == (200, "text/event-stream")
        async with doors.http.head("/v1/rooms/x/titles") as response:
            assert response.status == 400


async def test_http_1_0() -> None:
    """A client that knows no chunks gets the same body, ended by the end of the connection."""
    async with serving(titles) as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.http_port)
        writer.write(b"GET /v1/rooms/1/titles HTTP/1.0\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    assert b"chunked" not in head
    assert body == BODIES["application/x-ndjson"][0]


class Endless:
    """A stream that goes on as long as it is read, and tells how far it is and whether it was closed."""

    def __init__(self, bytes_each: int) -> None:
        self.made = 0
        self.stood_still_s = 0.0
        """How long the last message took to be taken, or was waited for in vain."""
        self.closed = asyncio.Event()
        self._text = "x" * bytes_each

    async def __call__(self, _: Any, __: Call) -> AsyncGenerator[Any]:
        made_at = time.monotonic()
        try:
            while True:
                self.made += 1
                made_at = time.monotonic()
                yield Shelf(title=self._text)
        finally:
            self.stood_still_s = time.monotonic() - made_at
            self.closed.set()

    async def stands_still(self) -> int:
        """How many messages were made once no more are made, because nobody reads them."""
        made, since = -1, 0
        async with asyncio.timeout(60):
            while since < 50:
                since = since + 1 if made == self.made else 0
                made = self.made
                await asyncio.sleep(0.002)
        return made


async def test_slow_reader_over_http() -> None:
    """Who does not read stops the model, and memory is not filled; who reads on gets all; who leaves ends it."""
    endless = Endless(10_000)
    async with serving(endless) as doors:
        reader, writer = await asyncio.open_connection("127.0.0.1", doors.http_port, limit=2**16)
        writer.write(b"GET /v1/rooms/1/titles HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        made = await endless.stands_still()
        assert made * 10_000 < 20 * 2**20  # what sockets hold on loopback is a few megabytes
        await reader.readexactly(made * 10_000)
        await until(lambda: endless.made > made)
        writer.transport.abort()
        await asyncio.wait_for(endless.closed.wait(), 60)


async def test_slow_reader_over_grpc() -> None:
    """The same over gRPC, whose flow control reaches the model too."""
    endless = Endless(10_000)
    async with serving(endless) as doors:
        call = doors.watch(RoomWatch())
        await call.read()
        made = await endless.stands_still()
        assert made * 10_000 < 20 * 2**20
        for _ in range(made):
            await call.read()
        await until(lambda: endless.made > made)
        call.cancel()
        await asyncio.wait_for(endless.closed.wait(), 60)


@pytest.mark.parametrize("reads_on", [True, False])
async def test_deadline_of_a_slow_reader(
    reads_on: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A deadline passes for a caller who does not read: told so if it reads on, and otherwise cut off."""
    if reads_on:  # however slowly
        monkeypatch.setattr(http_stream, "_FAREWELL_S", 60.0)
    for timeout_s in limits(0.3):
        endless = Endless(100_000)
        deadline = enforce_deadline(dict.fromkeys(SERVICE.methods_by_name, Timeouts(timeout_s, timeout_s)))
        async with serving(endless, deadline) as doors:
            tasks = len(asyncio.all_tasks())
            reader, writer = await asyncio.open_connection("127.0.0.1", doors.http_port, limit=2**16)
            writer.write(b"GET /v1/rooms/1/titles HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await asyncio.wait_for(endless.closed.wait(), 60)
            if not reads_on:
                await until(lambda: len(asyncio.all_tasks()) <= tasks)  # noqa: B023 - it is called here
            received = await asyncio.wait_for(reader.read(), 60)
            writer.close()
            await writer.wait_closed()
        if endless.stood_still_s > timeout_s / 4:  # it did so before its time was up
            break
    assert received.startswith(b"HTTP/1.1 200 ")
    assert (b'"status":"DEADLINE_EXCEEDED"' in received) == reads_on
    assert received.endswith(b"0\r\n\r\n") == reads_on


@pytest.mark.parametrize("accept", BODIES)
async def test_deadline_in_the_middle(accept: str) -> None:
    """A deadline that passes between messages is the stream's error."""

    async def hang(_: Any, __: Call) -> AsyncGenerator[Any]:
        yield Shelf(title="good")
        await asyncio.get_running_loop().create_future()

    deadline = enforce_deadline(dict.fromkeys(SERVICE.methods_by_name, Timeouts(60, 60)))
    async with serving(hang, deadline) as doors:
        for timeout_s in limits(0.3):
            headers = {"Accept": accept, "X-Request-Timeout": str(timeout_s)}
            async with doors.http.get("/v1/rooms/1/titles", headers=headers) as response:
                answer = response.status, await response.read()
            if answer[0] != 504:  # which is for one that passes before the first message
                break
    assert answer[0] == 200
    assert b"good" in answer[1]
    assert b'"status":"DEADLINE_EXCEEDED"' in answer[1]


@pytest.mark.parametrize("messages", [0, 1, 3], ids=["before the first message", "after it", "in the middle"])
async def test_callers_who_leave(messages: int) -> None:
    """The stream is closed at once when its caller goes, wherever it is."""
    begun, closed = asyncio.Event(), asyncio.Event()

    async def some(_: Any, __: Call) -> AsyncGenerator[Any]:
        begun.set()
        try:
            for number in range(messages):
                yield Shelf(title=str(number))
            await asyncio.get_running_loop().create_future()
        finally:
            closed.set()

    async with serving(some) as doors:
        for leave in (leave_http, leave_grpc):
            begun.clear()
            closed.clear()
            leaving = asyncio.ensure_future(leave(doors, messages))
            await asyncio.wait_for(begun.wait(), 60)
            if not messages:
                leaving.cancel()
            await asyncio.wait((leaving,))
            await asyncio.wait_for(closed.wait(), 60)


@pytest.mark.parametrize("accept", BODIES)
@pytest.mark.parametrize("messages", [0, 1, 2])
async def test_caller_leaves_as_the_stream_ends(accept: str, messages: int, caplog: pytest.LogCaptureFixture) -> None:
    """Who goes just before the end or the beginning is no failure of the gateway's."""
    caller = socket.socket()
    caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing it resets
    closed = asyncio.Event()

    async def some(_: Any, __: Call) -> AsyncGenerator[Any]:
        try:
            for number in range(messages):
                if number == messages - 1:
                    caller.close()
                yield Shelf(title=str(number))
            caller.close()
        finally:
            closed.set()

    async with serving(some) as doors:
        tasks = len(asyncio.all_tasks())
        caller.connect(("127.0.0.1", doors.http_port))
        caller.sendall(f"GET /v1/rooms/1/titles HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n".encode())
        await asyncio.wait_for(closed.wait(), 60)
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
    assert not caplog.records


async def leave_http(doors: Serving, messages: int) -> None:
    async with doors.get() as response:
        for _ in range(messages):
            await response.content.readline()
        response.close()


async def leave_grpc(doors: Serving, messages: int) -> None:
    call = doors.watch(RoomWatch())
    try:
        for _ in range(messages or 1):
            await call.read()
    finally:
        call.cancel()


async def test_many_streams() -> None:
    """They all stand open at once, and each gets its own messages."""
    count, at_once = STREAMS, 0
    all_open = asyncio.Event()

    async def held(request: Any, _: Call) -> AsyncGenerator[Any]:
        nonlocal at_once
        at_once += 1
        yield Shelf(title=f"{request.room} begins")
        if at_once == count:
            all_open.set()
        await all_open.wait()
        yield Shelf(title=f"{request.room} ends")

    async def over_http(doors: Serving, room: int) -> list[str]:
        async with doors.get(path=f"/v1/rooms/{room}/titles") as response:
            return [orjson.loads(line) for line in (await response.read()).splitlines()]

    async def over_grpc(doors: Serving, room: int) -> list[str]:
        async with aclosing(titles_of(doors.watch(RoomWatch(room=room)))) as received:
            return [title async for title in received]

    async with serving(held) as doors:
        answers = await asyncio.gather(*((over_http if room % 2 else over_grpc)(doors, room) for room in range(count)))
    assert answers == [[f"{room} begins", f"{room} ends"] for room in range(count)]


async def titles_of(call: Any) -> AsyncGenerator[str]:
    async for shelf in call:
        yield shelf.title
