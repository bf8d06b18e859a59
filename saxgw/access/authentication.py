"""Who calls: an interceptor that reads the caller's credential before anything else of its request."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, TypeAlias

from saxgw.rpc.identity import Identity
from saxgw.rpc.status import Code, RpcError, error_info

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractContextManager

    from saxgw.rpc.call import Call
    from saxgw.rpc.endpoint import Interceptor

Identify: TypeAlias = "Callable[[str], Identity | Awaitable[Identity | None] | None]"
"""Tells whose a credential is; None if it is nobody's. What takes longer, such as asking who signs, is awaited."""

_SCHEME: Final = "bearer"

_NO_CREDENTIAL: Final = ""
"""Looked up as any other, so that a call without a credential takes the way of one with a wrong one."""


def authenticate(identify: Identify) -> Interceptor:
    """Refuses calls with UNAUTHENTICATED unless their `Authorization: Bearer …` is somebody's; sets `call.identity`.

    Over gRPC it is the metadata `authorization`. A credential that is missing, wrong, expired or of another kind is
    answered in the same words.
    """
    known = nullcontext()

    def scope(call: Call) -> AbstractContextManager[Awaitable[None] | None]:
        identity = identify(_credential(call))
        if isinstance(identity, Identity):
            call.identity = identity
            return known
        if identity is None:
            raise _refused()
        return nullcontext(_wait(call, identity))

    return lambda _: scope


async def _wait(call: Call, identifying: Awaitable[Identity | None]) -> None:
    identity = await identifying
    if identity is None:
        raise _refused()
    call.identity = identity


def _credential(call: Call) -> str:
    scheme, _, credential = call.headers.get("authorization", "").partition(" ")
    return credential.strip() if scheme.lower() == _SCHEME else _NO_CREDENTIAL


def _refused() -> RpcError:
    return RpcError(
        Code.UNAUTHENTICATED,
        "this gateway answers nobody whom it does not know; send an API key or a token that is valid now, as "
        '"Authorization: Bearer …"',
        [error_info("UNAUTHENTICATED")],
    )
