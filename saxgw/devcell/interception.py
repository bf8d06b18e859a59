"""Where faults of calls strike: around the handlers of a server."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from google.protobuf.message import Message

    from saxgw.devcell.errors import Context
    from saxgw.devcell.fault import Fault


Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Interceptor(grpc.aio.ServerInterceptor):
    """Lets faults have their way with each call.

    Args:
        faults: The faults there are; others may be there at the next call.
    """

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Wraps a handler, unless there is nothing to do."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method).rpartition("/")[2]
        if not self._faults or handler is None:
            return handler
        coders = (handler.request_deserializer, handler.response_serializer)
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), *coders)
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream), *coders)
        return handler  # reflection is a stream in both directions

    def _unary(self, method: str, handle: Any) -> Any:  # noqa: ANN401 (gRPC's types are those of its other API)
        async def unary(request: Message, context: Context) -> Message:
            striking = self._striking(method, request)
            response: Message | None = None
            for fault in striking:
                response = await fault.before(request, context) or response
            response = response or await handle(request, context)
            for fault in striking:
                await fault.after(response, context)
            return response

        return unary

    def _stream(self, method: str, handle: Any) -> Any:  # noqa: ANN401 (the same)
        async def stream(request: Message, context: Context) -> AsyncIterator[Message]:
            striking = self._striking(method, request)
            for fault in striking:
                await fault.before(request, context)
            async with aclosing(handle(request, context)) as responses:
                async for response in responses:
                    for fault in striking:
                        await fault.after(response, context)
                    yield response

        return stream

    def _striking(self, method: str, request: Message) -> list[Fault]:
        return [fault for fault in tuple(self._faults) if fault.strike(method, request)]
