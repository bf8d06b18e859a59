"""One streaming answer over HTTP: it begins with the first message, stays alive between messages, and ends in its form.

Until the first message is there nothing is sent, so that an error can still be the answer's status. Event streams are
the exception: proxies and browsers give up on connections that stay silent, so theirs begins after one interval of
keepalive even without a message.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.http import StreamWriter

from saxgw.rpc.status import Code, RpcError
from saxgw.transcoding import InvalidMessage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from google.protobuf.message import Message

    from saxgw.transcoding import Framing, Match

_HEADERS: Final = {
    # A proxy shall neither keep what is meant for one caller, nor change it, nor hold it back (nginx's own header).
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}

_BUFFER_BYTES: Final = 64 * 2**10
"""How much may wait for a caller who reads slowly before the stream stands still; what asyncio takes for too much."""

_FAREWELL_S: Final = 0.2
"""How long a caller who does not read may take to be told how its stream ended."""


class HttpStream:
    """The answer to one request. `send` messages, then `finish` or `fail`; leave it with `close` however it ended.

    Args:
        request: What is answered.
        begin: Sends the head of the answer.
        framing: How messages are framed; None if they are bytes as they are.
        match: The request's route, which encodes messages.
        encode: Encodes a message; what it returns is to be waited for if the message is large.
        keepalive_s: Seconds of silence after which an event stream shows that it is alive.
    """

    def __init__(  # noqa: PLR0913 - one for each part that has its own reason to change
        self,
        request: web.BaseRequest,
        begin: Callable[[web.BaseRequest, web.StreamResponse], Awaitable[None]],
        *,
        framing: Framing | None,
        match: Match,
        encode: Callable[[Match, Message], bytes | Awaitable[bytes]],
        keepalive_s: float,
    ) -> None:
        self._request = request
        assert isinstance(request.writer, StreamWriter)  # noqa: S101 - for the type checker: aiohttp has no other one
        self._writer = request.writer
        self._begin = begin
        self._framing = framing
        self._match = match
        self._encode = encode
        self.response: web.StreamResponse | None = None
        """The answer, once its head was sent."""
        self._loop = asyncio.get_running_loop()
        self._wrote_at = self._loop.time()
        self._keepalive_s = keepalive_s
        self._keepalive: asyncio.TimerHandle | None = None
        self._beating: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None
        if framing is not None and framing.keepalive is not None:
            self._keepalive = self._loop.call_later(keepalive_s, self._beat_if_silent)

    async def send(self, message: Message) -> None:
        """Sends a message; returns when the caller has room for more.

        Raises RpcError if the caller has left, or if the message has no JSON form.
        """
        try:
            data = self._encode(self._match, message)
            if not isinstance(data, bytes):
                data = await data
        except InvalidMessage as error:
            raise unwritable(error) from error
        content_type = None if self._framing is not None else self._match.response_type(message)
        await self._write(data if self._framing is None else self._framing.message(data), content_type)

    async def finish(self) -> web.StreamResponse:
        """Ends a stream that has succeeded; returns the answer. Raises RpcError if the caller has left."""
        self._stop_keepalive()
        if self._framing is not None:
            await self._write(self._framing.end())
        try:
            response = self.response or await self._start("application/octet-stream")
            await response.write_eof()
        except ConnectionError:
            raise _left() from None
        return response

    async def fail(self, error: bytes) -> web.StreamResponse | None:
        """Ends a stream that has failed, telling why as far as its form can; None if it has not begun.

        A stream without framing, or whose caller does not read, is cut off: that is how its caller sees the failure.
        """
        self._stop_keepalive()
        if self.response is None:
            return None
        if self._framing is not None:
            try:
                async with asyncio.timeout(_FAREWELL_S):
                    await self._writer.write(self._framing.error(error), drain=False)
                    await self.response.write_eof()
            except (TimeoutError, ConnectionError):
                pass
            else:
                return self.response
        if self._request.transport is not None:
            self._request.transport.abort()
        self.response.force_close()
        return self.response

    async def close(self) -> None:
        """Ends what runs beside the stream."""
        self._stop_keepalive()
        for beside in filter(None, (self._beating, self._draining)):
            beside.cancel()
            await asyncio.gather(beside, return_exceptions=True)

    async def _write(self, data: bytes, content_type: str | None = None) -> None:
        self._wrote_at = self._loop.time()
        try:
            if self.response is None:
                await self._start(content_type or "")
            await self._writer.write(data, drain=False)
            transport = self._request.transport
            if transport is not None and transport.get_write_buffer_size() > _BUFFER_BYTES:
                # A cancelled drain() would leave aiohttp with one that is cancelled for ever, so it is none of ours.
                self._draining = asyncio.ensure_future(self._writer.drain())
                await asyncio.shield(self._draining)
        except ConnectionError:
            raise _left() from None

    async def _start(self, content_type: str) -> web.StreamResponse:
        if self._framing is not None:
            content_type = self._framing.content_type
        response = self.response = web.StreamResponse(headers={"Content-Type": content_type, **_HEADERS})
        await self._begin(self._request, response)
        return response

    def _stop_keepalive(self) -> None:
        if self._keepalive is not None:
            self._keepalive.cancel()
            self._keepalive = None

    def _beat_if_silent(self) -> None:
        # Messages do not touch the timer, which would cost each of them more than this costs the stream.
        due = self._wrote_at + self._keepalive_s
        if self._loop.time() < due:
            self._keepalive = self._loop.call_at(due, self._beat_if_silent)
        else:
            self._beating = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        assert self._framing is not None  # noqa: S101 - for the type checker: only then is there a timer
        assert self._framing.keepalive is not None  # noqa: S101 - likewise
        try:
            await self._write(self._framing.keepalive)
        except RpcError:
            return
        if self._keepalive is not None:
            self._keepalive = self._loop.call_later(self._keepalive_s, self._beat_if_silent)


def _left() -> RpcError:
    return RpcError(Code.CANCELLED, "the caller has left")


def unwritable(error: InvalidMessage) -> RpcError:
    """What a caller is told of an answer that JSON cannot express."""
    return RpcError(Code.INTERNAL, f"the answer cannot be written: {error}")
