"""The log that WatchLoc tells from (Sax protocol §4.6)."""

from __future__ import annotations

import asyncio

import pytest

from saxgw.devcell.watch import WatchLog
from saxgw.sax.wire.admin_pb2 import WatchResult


def added(*addresses: str) -> list[WatchResult.Mutation]:
    return [WatchResult.Mutation(addition=address) for address in addresses]


def deleted(*addresses: str) -> list[WatchResult.Mutation]:
    return [WatchResult.Mutation(deletion=address) for address in addresses]


async def blocked(reading: asyncio.Task[WatchResult]) -> bool:
    """Tells whether a reading waits, after everything that could happen has happened."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not reading.done()


async def test_the_first_reader_waits_for_the_first_address_and_gets_a_full_set() -> None:
    log = WatchLog()
    reading = asyncio.create_task(log.read(0, from_scratch=True))
    assert await blocked(reading)
    log.add("a")
    assert await reading == WatchResult(next_seqno=1, has_fullset=True, changelog=added("a"))


async def test_a_reader_gets_what_it_lacks_and_waits_for_more() -> None:
    log = WatchLog()
    log.add("a")
    assert await log.read(0) == WatchResult(next_seqno=1, changelog=added("a"))
    reading = asyncio.create_task(log.read(1))
    assert await blocked(reading)
    log.delete("a")
    assert await reading == WatchResult(next_seqno=2, changelog=deleted("a"))


async def test_old_mutations_are_folded_into_the_base_set() -> None:
    """After n mutations, base = n - len(log), where half the log is folded when it is longer than twice the set."""
    log = WatchLog()
    log.add("a")
    log.add("b")  # 2 > 2 * 0: the first is folded
    assert await log.read(0) == WatchResult(next_seqno=2, has_fullset=True, values=["a"], changelog=added("b"))
    assert await log.read(1) == WatchResult(next_seqno=2, changelog=added("b"))
    log.delete("a")  # 2 > 2 * 1 is false
    assert await log.read(0) == WatchResult(
        next_seqno=3, has_fullset=True, values=["a"], changelog=added("b") + deleted("a")
    )
    log.add("c")  # 3 > 2 * 1: one of three is folded
    assert await log.read(1) == WatchResult(
        next_seqno=4, has_fullset=True, values=["a", "b"], changelog=deleted("a") + added("c")
    )
    assert await log.read(2) == WatchResult(next_seqno=4, changelog=deleted("a") + added("c"))


async def test_a_reader_from_the_future_gets_an_empty_answer_at_once() -> None:
    log = WatchLog()
    log.add("a")
    assert await log.read(7) == WatchResult(next_seqno=1)


async def test_a_reader_from_another_admin_gets_the_full_set_whatever_it_has_seen() -> None:
    log = WatchLog()
    log.add("a")
    log.add("b")
    full = WatchResult(next_seqno=2, has_fullset=True, values=["a"], changelog=added("b"))
    assert [await log.read(seqno, from_scratch=True) for seqno in (0, 1, 2, 9)] == [full] * 4


@pytest.mark.parametrize("seqno", [0, 1])
async def test_closing_tells_readers_that_there_is_nothing_left(seqno: int) -> None:
    log = WatchLog()
    if seqno:
        log.add("a")
    reading = asyncio.create_task(log.read(seqno))
    assert await blocked(reading)
    log.close()
    assert await reading == WatchResult(has_fullset=True)
