"""Batches: many queries in one call, side by side, each with its own answer or error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

from saxgw.rpc.status import RpcError, invalid_argument
from saxgw.sax import SaxError
from saxgw.service.status import status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from google.protobuf.message import Message

Query = TypeVar("Query")
Outcome = TypeVar("Outcome", bound="Message")

_MOST: Final = 1000
"""How many queries one call may have, as sax_service.proto says."""

_AT_ONCE: Final = 64
"""How many of a batch are with model servers at a time: enough to fill their batches, not so many that one caller takes
all their room."""


async def side_by_side(
    field: str,
    queries: Sequence[Query],
    answer: Callable[[Query], Awaitable[Message]],
    outcome: Callable[..., Outcome],
) -> list[Outcome]:
    """What became of each query, in their order: `outcome` made with `answer=` or, if it failed, with `error=`.

    Raises RpcError if there are too many queries, naming `field`.
    """
    if len(queries) > _MOST:
        raise invalid_argument([(field, f"expected at most {_MOST} of them, got {len(queries)}; make several calls")])
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(query: Any) -> Outcome:  # noqa: ANN401 - a Query
        async with room:
            try:
                return outcome(answer=await answer(query))
            except SaxError as error:
                return outcome(error=status_of(error).to_proto())
            except RpcError as error:
                return outcome(error=error.to_proto())

    async with asyncio.TaskGroup() as group:  # which cancels the others if one fails as nobody foresaw, or all of them
        tasks = [group.create_task(one(query)) for query in queries]
    return [task.result() for task in tasks]
