"""Waiting for model servers to load a model, until just before the caller stops waiting."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from saxgw.rpc.status import Code, RpcError, error_info

if TYPE_CHECKING:
    from saxgw.rpc.call import Call
    from saxgw.sax import SaxClient

_LONGEST_TO_TELL_S: Final = 1.0
"""How long before the deadline waiting ends, so that there is time to say how far it has come."""

_SHARE_TO_TELL: Final = 0.25
"""The same as a share of the time that the caller gave, where that is less."""


async def wait_for_replicas(sax: SaxClient, model: str, replicas: int, call: Call, *, or_fail: bool = False) -> int:
    """Waits until so many replicas of a model are ready, or just before the call's deadline; tells how many are.

    Raises RpcError with DEADLINE_EXCEEDED if they are too few and that is a failure (`or_fail`), or if it cannot be
    told any more how many they are; SaxError as SaxClient.wait_for_ready().
    """
    wait_until = tell_until = None
    if call.deadline is not None:
        to_tell_s = min(_LONGEST_TO_TELL_S, call.deadline.timeout_s * _SHARE_TO_TELL)
        wait_until, tell_until = call.deadline.at - to_tell_s, call.deadline.at - to_tell_s / 2
    try:
        async with asyncio.timeout_at(wait_until):
            await sax.wait_for_ready(model, replicas)
    except TimeoutError:
        ready = False
    else:
        ready = True
    try:
        async with asyncio.timeout_at(tell_until):
            active = (await sax.describe(model)).active_replicas
    except TimeoutError:
        raise RpcError(
            Code.DEADLINE_EXCEEDED,
            f"{model} is published, but how many model servers have loaded it could not be found out in time",
            [error_info("REPLICAS_UNKNOWN")],
        ) from None
    if or_fail and not ready:
        raise RpcError(
            Code.DEADLINE_EXCEEDED,
            f"{active} of {replicas} replicas of {model} are ready; give the call more time, or look at the model "
            "servers' logs",
            [error_info("REPLICAS_NOT_READY")],
        )
    return active
