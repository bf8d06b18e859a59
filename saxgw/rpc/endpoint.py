"""Endpoints: one for each method of the service, with its handler and interceptors folded in.

The table is made once, from the service descriptor, and both doors are built from it. Whatever an interceptor does is
therefore true of a call whichever door it came through.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from saxgw.rpc.call import Call

if TYPE_CHECKING:
    from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

Handler: TypeAlias = Callable[[Any, Call], Awaitable[Message]]
"""Answers one call: request message and call in, response message out; raises RpcError. The request is of the method's
input type, which the type checker cannot know here."""


Interceptor: TypeAlias = Callable[["MethodDescriptor", Handler], Handler]
"""Wraps a method's handler, once, when the table is made; returns the handler itself where it has nothing to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method, ready to be called."""

    method: MethodDescriptor
    request_class: type[Message]
    response_class: type[Message]

    handler: Handler
    """The method's handler with all interceptors around it."""

    @property
    def name(self) -> str:
        """The method's full name as gRPC spells it, `package.Service/Method`."""
        return f"{self.method.containing_service.full_name}/{self.method.name}"


def make_endpoints(
    service: ServiceDescriptor, servicer: object, interceptors: Iterable[Interceptor] = ()
) -> tuple[Endpoint, ...]:
    """Makes the table: `servicer` has a coroutine method for each method of `service`, ListAll as `list_all`.

    `interceptors` are given outermost first. Raises TypeError for a method without a handler, or one that streams.
    """
    layers = tuple(interceptors)
    endpoints = []
    for method in service.methods:
        if method.client_streaming or method.server_streaming:
            raise TypeError(f"{method.full_name} streams; endpoints are unary")
        handler: Handler | None = getattr(servicer, _snake_case(method.name), None)
        if handler is None:
            raise TypeError(f"{type(servicer).__name__} has no {_snake_case(method.name)}() for {method.full_name}")
        for layer in reversed(layers):
            handler = layer(method, handler)
        endpoints.append(
            Endpoint(method, GetMessageClass(method.input_type), GetMessageClass(method.output_type), handler)
        )
    return tuple(endpoints)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
