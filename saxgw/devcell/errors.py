"""What goes wrong in a dev cell.

DevCellError     the cell, or one of its servers, cannot start; the message says why
Refusal          a call is refused, with a gRPC code and the text that Sax uses
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote

import grpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

INVALID_ARGUMENT: Final = grpc.StatusCode.INVALID_ARGUMENT
NOT_FOUND: Final = grpc.StatusCode.NOT_FOUND

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
"""What a handler knows of its call; the handlers here need no messages from it."""

_LONGEST_TEXT_BYTES: Final = 6000
"""Of a status text as it is sent, where a character takes up to 12 bytes."""

Service = TypeVar("Service")
Request = TypeVar("Request")
Response = TypeVar("Response")


class DevCellError(Exception):
    """A dev cell, or a server of it, cannot start."""


class Refusal(Exception):
    """A call is refused. Raised by the logic behind the services, sent by `sends_refusals`.

    Args:
        code: Why.
        text: The same in words.
        google_text: What Google's admin says, where that is not the text and then the code.
    """

    def __init__(self, code: grpc.StatusCode, text: str, *, google_text: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self._google_text = google_text

    def like_google(self) -> Refusal:
        """Returns it as Google's admin sends it: as UNKNOWN, with the code in the text (Sax protocol §4.1)."""
        if self.code is grpc.StatusCode.CANCELLED:
            return self
        name = go_name(self.code)
        text = self._google_text or f"{self.text}: rpc error: code = {name} desc = {name}"
        return Refusal(grpc.StatusCode.UNKNOWN, text)

    async def send(self, context: Context) -> NoReturn:
        """Ends a call with this refusal."""
        await context.abort(self.code, _shortened(self.text))


def sends_refusals(
    handler: Callable[[Service, Request, Context], Awaitable[Response]],
) -> Callable[[Service, Request, Context], Coroutine[Any, Any, Response]]:
    """Decorates the handler of a unary call: a Refusal that it raises becomes the call's status.

    A service that has a true attribute `like_google` sends it as Google's does.
    """

    @wraps(handler)
    async def handle(service: Service, request: Request, context: Context) -> Response:
        try:
            return await handler(service, request, context)
        except Refusal as refusal:
            like_google = getattr(service, "like_google", False)
            await (refusal.like_google() if like_google else refusal).send(context)

    return handle


def go_name(code: grpc.StatusCode) -> str:
    """Returns what Go calls a status code: INVALID_ARGUMENT is InvalidArgument."""
    return code.name.title().replace("_", "")


def _shortened(text: str) -> str:
    """Cuts a text that quotes too much of a request: clients refuse a status longer than some 8 KiB as it is sent."""
    return text if len(quote(text)) <= _LONGEST_TEXT_BYTES else f"{text[: _LONGEST_TEXT_BYTES // 12]} … (cut)"
