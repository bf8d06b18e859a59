"""The replicas of a model: following the admin, choosing, setting aside, waiting, and letting go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from copy import copy
from typing import TYPE_CHECKING, NamedTuple, cast

import grpc
import pytest
import pytest_asyncio
import uvloop

from saxgw.sax import AdminUnavailable, Busy, CellError, CellNotFound, ModelNotFound, SaxError
from saxgw.sax.channels import Channels
from saxgw.sax.limits import Bounds
from saxgw.sax.replicas import Replica, ReplicaSet
from saxgw.sax.wire import admin_pb2
from tests.devcell.harness import TIMEOUT_S
from tests.sax.scripted import MODEL, changes, full_set

if TYPE_CHECKING:
    from saxgw.sax.admin import Admin


METHOD = "lm.generate"


class News:
    """Stands for the admin: WatchLoc answers with what a test puts in."""

    def __init__(self) -> None:
        self.requests: list[admin_pb2.WatchLocRequest] = []
        self.queue: asyncio.Queue[admin_pb2.WatchLocResponse | Exception | None] = asyncio.Queue()
        self._asked = asyncio.Condition()

    async def watch(self, request: admin_pb2.WatchLocRequest) -> admin_pb2.WatchLocResponse | None:
        async with self._asked:
            self.requests.append(request)
            self._asked.notify_all()
        news = await self.queue.get()
        if isinstance(news, Exception):
            raise news
        return news

    async def tell(self, *news: admin_pb2.WatchLocResponse | SaxError | None) -> None:
        """Answers the next questions and waits until one more is asked."""
        asked = len(self.requests)
        for answer in news:
            self.queue.put_nowait(answer)
        async with self._asked:
            await self._asked.wait_for(lambda: len(self.requests) > max(asked, 1) - 1 + len(news))


class Watched:
    """A ReplicaSet with its surroundings."""

    def __init__(self, idle_s: float = 60) -> None:
        self.news = News()
        self.channels = Channels(2**20)
        self.forgotten: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.replicas = ReplicaSet(
            MODEL,
            cast("Admin", self.news),
            self.channels,
            idle_s=idle_s,
            forget=self.forgotten.set_result,
        )

    def pick(self) -> Replica:
        replica = self.replicas.pick(METHOD)
        assert replica is not None
        return replica

    def soon(self) -> float:
        return asyncio.get_running_loop().time() + 60


@pytest_asyncio.fixture
async def watched() -> AsyncIterator[Watched]:
    watched = Watched()
    yield watched
    await watched.replicas.aclose()
    await watched.channels.aclose()


def picks(watched: Watched, count: int = 50) -> set[str]:
    """The addresses among that many choices, each answered at once."""
    addresses = set()
    for _ in range(count):
        replica = watched.pick()
        addresses.add(replica.server.address)
        watched.replicas.answered(replica, METHOD)
        watched.replicas.done(replica, METHOD)
    return addresses


# Following the admin.


async def test_nothing_is_known_at_first(watched: Watched) -> None:
    assert not watched.replicas.known
    assert watched.replicas.pick(METHOD) is None


async def test_replicas_come_and_go_as_the_admin_says(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1", "b:1", next_seqno=2))
    assert picks(watched) == {"a:1", "b:1"}
    await watched.news.tell(changes("-a:1", "+c:1", next_seqno=4))
    assert picks(watched) == {"b:1", "c:1"}
    assert len(watched.channels) == 2
    assert watched.news.requests[-1].seqno == 4


async def test_silence_for_minutes_changes_nothing(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"), None)
    assert picks(watched) == {"a:1"}


async def test_the_admins_death_changes_nothing(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saxgw.sax.replicas._ADMIN_PAUSE_S", 0.01)
    await watched.news.tell(full_set("a:1"))
    await watched.news.tell(AdminUnavailable("away"), full_set("b:1"))
    assert picks(watched) == {"b:1"}


async def test_a_replica_that_goes_is_closed_after_its_last_call(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    first, second = watched.pick(), watched.pick()
    await watched.news.tell(changes("-a:1", next_seqno=2))
    assert watched.replicas.pick(METHOD) is None
    watched.replicas.done(first, METHOD)
    assert len(watched.channels) == 1
    watched.replicas.done(second, METHOD)
    assert len(watched.channels) == 0


# Choosing and setting aside.


def set_aside_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time aside is over before the test says so, and no try takes too long."""
    for pause in ("_FIRST_PAUSE_S", "_LONGEST_PAUSE_S", "_FIRST_BUSY_PAUSE_S", "_LONGEST_BUSY_PAUSE_S"):
        monkeypatch.setattr(f"saxgw.sax.replicas.{pause}", 10 * TIMEOUT_S)


async def test_of_two_replicas_the_one_with_fewer_calls_is_picked(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1", "b:1"))
    counts = [watched.pick() for _ in range(10)]
    assert {replica.outstanding for replica in counts} == {5}


async def test_a_replica_that_failed_is_set_aside(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1", "b:1"))
    failing = watched.pick()
    watched.replicas.failed(failing)
    failing.aside_until = watched.soon()
    watched.replicas.done(failing, METHOD)
    assert picks(watched) == {"a:1", "b:1"} - {failing.server.address}


async def test_the_time_aside_grows_to_a_second(watched: Watched) -> None:
    """A server that comes back is used within two seconds, as connecting anew may take another."""
    await watched.news.tell(full_set("a:1"))
    pauses = await _pauses(watched, 12, busy=False)
    assert pauses[0].least <= 0.1
    assert pauses[-1].most >= 0.5
    assert pauses[-1].least <= 1
    assert pauses[5].most > pauses[0].least


async def test_a_busy_replica_is_set_aside_for_less(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    pauses = await _pauses(watched, 12, busy=True)
    assert pauses[0].least <= 0.02
    assert pauses[-1].least <= 0.5


class Pause(NamedTuple):
    """How long a replica is set aside, as far as that can be told from without."""

    least: float
    most: float


async def _pauses(watched: Watched, count: int, *, busy: bool) -> list[Pause]:
    now = asyncio.get_running_loop().time
    pauses = []
    for _ in range(count):
        replica = watched.pick()
        before = now()
        if busy:
            watched.replicas.refused(replica, METHOD, None)
        else:
            watched.replicas.failed(replica)
        watched.replicas.done(replica, METHOD)
        pauses.append(Pause(replica.aside_until - now(), replica.aside_until - before))
        replica.aside_until = 0.0  # its time has passed
    return pauses


async def test_many_calls_that_fail_together_count_as_one_failure(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    calls = [watched.pick() for _ in range(10)]
    for replica in calls:
        watched.replicas.failed(replica)
        watched.replicas.done(replica, METHOD)
    assert calls[0].failures == 1


async def test_a_failing_replica_is_tried_with_one_call(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aside_for_long(monkeypatch)
    await watched.news.tell(full_set("a:1"))
    replica = watched.pick()
    watched.replicas.failed(replica)
    watched.replicas.done(replica, METHOD)
    assert watched.replicas.pick(METHOD) is None
    replica.aside_until = 0.0  # its time has passed
    assert watched.pick() is replica
    assert watched.replicas.pick(METHOD) is None
    watched.replicas.answered(replica, METHOD)
    assert watched.pick() is replica
    assert watched.pick() is replica


# Waiting.


async def test_waiting_ends_when_a_replica_appears(watched: Watched) -> None:
    waits = [asyncio.create_task(watched.replicas.wait(watched.soon())) for _ in range(3)]
    await watched.news.tell(full_set("a:1"))
    await asyncio.gather(*waits)


async def test_waiting_ends_in_time(watched: Watched) -> None:
    await watched.replicas.wait(asyncio.get_running_loop().time() + 0.01)


def test_waiting_on_uvloop() -> None:
    """The gateway's event loop has timers of its own kind; one whose time has passed already is the odd one."""

    async def wait_twice() -> None:
        watched = Watched()
        await watched.news.tell(full_set("a:1"))
        replica = watched.pick()
        watched.replicas.failed(replica)
        replica.aside_until = 0.0  # its time has passed
        first, second = (asyncio.create_task(watched.replicas.wait(watched.soon())) for _ in range(2))
        await first
        watched.replicas.answered(replica, METHOD)
        await second
        watched.replicas.done(replica, METHOD)
        await watched.replicas.aclose()
        await watched.channels.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wait_twice())


async def test_waiting_ends_when_a_replica_may_be_tried_again(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1", "b:1"))
    replicas = [watched.pick(), watched.pick()]
    for replica in replicas:
        watched.replicas.failed(replica)
        replica.aside_until = watched.soon()
        watched.replicas.done(replica, METHOD)
    assert watched.replicas.pick(METHOD) is None
    replicas[0].aside_until = asyncio.get_running_loop().time() + 0.02
    await watched.replicas.wait(watched.soon())
    assert watched.replicas.pick(METHOD) is not None


async def test_an_answer_lets_all_go_on_who_wait_for_a_replica_to_be_well(watched: Watched) -> None:
    """How many are sent at a time is up to its limit."""
    replica, waits = await _wait_for_an_ailing_replica(watched, 3)
    replica.aside_until = 0.0  # its time has passed
    probe = watched.pick()
    watched.replicas.answered(probe, METHOD)
    await asyncio.gather(*waits)


async def test_one_who_was_woken_but_leaves_wakes_the_next(watched: Watched) -> None:
    _, waits = await _wait_for_an_ailing_replica(watched, 3)
    watched.replicas._wake(1)  # noqa: SLF001 - what the timer does
    waits[0].cancel()
    await waits[1]
    assert (waits[0].cancelled(), waits[2].done()) == (True, False)
    waits[2].cancel()


async def _wait_for_an_ailing_replica(watched: Watched, count: int) -> tuple[Replica, list[asyncio.Task[None]]]:
    """Lets so many wait for a replica that failed."""
    await watched.news.tell(full_set("a:1"))
    replica = watched.pick()
    watched.replicas.failed(replica)
    replica.aside_until = watched.soon()
    watched.replicas.done(replica, METHOD)
    waits = [asyncio.create_task(watched.replicas.wait(watched.soon())) for _ in range(count)]
    await asyncio.sleep(0)
    return replica, waits


# Limits, and the line of those for whom there is no room.


def fill(watched: Watched, method: str = METHOD) -> list[Replica]:
    """Takes all the room that there is."""
    taken = []
    while (replica := watched.replicas.pick(method)) is not None:
        taken.append(replica)
    return taken


async def queue(watched: Watched, count: int, *, again: bool = False) -> list[asyncio.Task[Replica | None]]:
    """Requests that stand in line."""
    tasks = [asyncio.create_task(watched.replicas.queue(METHOD, again=again)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_replica_is_sent_no_more_than_its_limit(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1", "b:1"))
    taken = fill(watched)
    assert len(taken) == 2 * Bounds().first
    assert watched.replicas.are_full
    assert fill(watched, "lm.score"), "each method has a limit of its own"


async def test_who_comes_first_is_served_first(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    taken = fill(watched)
    first, second = await queue(watched, 2)
    watched.replicas.done(taken[0], METHOD)
    assert await first is taken[0]
    assert watched.replicas.pick(METHOD) is None, "nobody overtakes the second"
    assert not second.done()
    watched.replicas.done(taken[0], METHOD)
    assert await second is taken[0]


async def test_who_was_refused_goes_first(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    taken = fill(watched)
    (late,) = await queue(watched, 1)
    (refused,) = await queue(watched, 1, again=True)
    watched.replicas.done(taken[0], METHOD)
    assert await refused is taken[0]
    late.cancel()


@pytest.mark.parametrize("with_place", [False, True], ids=["waiting", "just served"])
async def test_who_leaves_the_line_makes_room_for_the_next(watched: Watched, with_place: bool) -> None:  # noqa: FBT001 - a parameter
    await watched.news.tell(full_set("a:1"))
    taken = fill(watched)
    first, second = await queue(watched, 2)
    if not with_place:
        first.cancel()
        await asyncio.sleep(0)
    watched.replicas.done(taken[0], METHOD)
    if with_place:
        first.cancel()
    assert await second is taken[0]
    assert first.cancelled()
    assert taken[0].outstanding == len(taken)
    assert watched.replicas.waiting == 0


async def test_a_full_line_refuses(watched: Watched) -> None:
    watched.replicas._max_waiting = 2  # noqa: SLF001 - as given at the start
    await watched.news.tell(full_set("a:1"))
    fill(watched)
    watched.replicas.admit()
    tasks = await queue(watched, 2)
    with pytest.raises(Busy, match="2 requests for /sax/test/lm wait already"):
        watched.replicas.admit()
    for task in tasks:
        task.cancel()


async def test_new_replicas_serve_the_line(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    fill(watched)
    tasks = await queue(watched, 2)
    await watched.news.tell(full_set("a:1", "b:1", next_seqno=2))
    replicas = await asyncio.gather(*tasks)
    assert {replica.server.address for replica in replicas if replica} == {"b:1"}


@pytest.mark.parametrize("how", ["failed", "gone"])
async def test_the_line_is_dismissed_when_no_replica_is_well(watched: Watched, how: str) -> None:
    """They wait for a replica that is well then, which does not take for ever."""
    await watched.news.tell(full_set("a:1"))
    taken = fill(watched)
    tasks = await queue(watched, 2)
    if how == "failed":
        watched.replicas.failed(taken[0])
        watched.replicas.done(taken[0], METHOD)
    else:
        await watched.news.tell(changes("-a:1", next_seqno=2))
    assert await asyncio.gather(*tasks) == [None, None]
    assert not watched.replicas.are_full


async def test_a_replica_that_comes_back_serves_the_line(watched: Watched) -> None:
    """One whose time aside is over gets the first of those who wait for another, full one."""
    await watched.news.tell(full_set("a:1", "b:1"))
    ailing = watched.pick()
    watched.replicas.failed(ailing)
    watched.replicas.done(ailing, METHOD)
    fill(watched)
    (first,) = await queue(watched, 1)
    assert await first is ailing
    watched.replicas.answered(ailing, METHOD)
    assert fill(watched), "and then as many as it takes"


@pytest.mark.parametrize("least", [1, 4])
async def test_a_replica_that_refuses_what_is_always_tried_is_set_aside(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, least: int
) -> None:
    """Others have its room; it is not asked again and again at once."""
    set_aside_for_long(monkeypatch)
    watched.replicas._bounds = Bounds(least=least, first=least)  # noqa: SLF001 - as given at the start
    await watched.news.tell(full_set("a:1"))
    (replica, *_) = fill(watched)
    watched.replicas.refused(replica, METHOD, None)
    watched.replicas.done(replica, METHOD)
    assert replica.limit(METHOD).current == least
    assert watched.replicas.pick(METHOD) is None
    assert not watched.replicas.are_full


async def test_refusals_find_the_limit(watched: Watched) -> None:
    """A server that takes five at a time is soon sent five at a time, and hardly any more in vain."""
    await watched.news.tell(full_set("a:1"))
    (replica, *_) = taken = fill(watched)
    for _ in taken[5:]:
        watched.replicas.refused(replica, METHOD, None)
        watched.replicas.done(replica, METHOD)
    assert replica.limit(METHOD).current == 5
    assert fill(watched) == []
    refused = 0
    for _ in range(500):
        watched.replicas.answered(replica, METHOD)
        watched.replicas.done(replica, METHOD)
        while watched.replicas.pick(METHOD):
            if replica.limit(METHOD).in_flight > 5:
                refused += 1
                watched.replicas.refused(replica, METHOD, None)
                watched.replicas.done(replica, METHOD)
    assert 5 <= replica.limit(METHOD).in_flight <= 5
    assert refused <= 15


@pytest.mark.parametrize("error", [ModelNotFound("no"), CellNotFound("no")])
async def test_an_end_is_told_to_those_who_wait(watched: Watched, error: SaxError) -> None:
    waits = [asyncio.create_task(watched.replicas.wait(watched.soon())) for _ in range(2)]
    await asyncio.sleep(0)
    watched.news.queue.put_nowait(error)
    for wait in waits:
        with pytest.raises(type(error)):
            await wait
    assert await watched.forgotten == MODEL


async def test_a_lost_admin_is_told_to_those_who_wait_for_a_first_replica(watched: Watched) -> None:
    wait = asyncio.create_task(watched.replicas.wait(watched.soon()))
    await asyncio.sleep(0)
    watched.news.queue.put_nowait(AdminUnavailable("away"))
    with pytest.raises(AdminUnavailable):
        await wait
    assert not watched.forgotten.done(), "it is looked for again"


async def test_a_fault_of_our_own_is_logged_and_told(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    wait = asyncio.create_task(watched.replicas.wait(watched.soon()))
    await asyncio.sleep(0)
    watched.news.queue.put_nowait(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await wait
    assert "watching /sax/test/lm failed" in caplog.text


# Letting go.


async def _tell_in_use(watched: Watched, news: admin_pb2.WatchLocResponse) -> Replica:
    """Tells news to one who waits for them, so that the model is not let go before; returns what he picks."""

    async def use() -> Replica:
        await watched.replicas.wait(watched.soon())
        return watched.pick()

    using = asyncio.create_task(use())
    await asyncio.sleep(0)
    await watched.news.tell(news)
    return await using


async def test_an_unused_model_is_let_go() -> None:
    watched = Watched(idle_s=0.01)
    watched.replicas.done(await _tell_in_use(watched, full_set("a:1", "b:1")), METHOD)
    assert await watched.forgotten == MODEL
    assert len(watched.channels) == 0
    await watched.channels.aclose()


async def test_a_model_that_somebody_waits_for_is_kept() -> None:
    watched = Watched(idle_s=0.01)
    await watched.replicas.wait(asyncio.get_running_loop().time() + 0.1)
    assert not watched.forgotten.done()
    assert await watched.forgotten == MODEL
    await watched.channels.aclose()


async def test_a_model_with_a_running_call_is_kept() -> None:
    watched = Watched(idle_s=0.01)
    replica = await _tell_in_use(watched, full_set("a:1"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.shield(watched.forgotten)
    watched.replicas.done(replica, METHOD)
    assert await watched.forgotten == MODEL
    await watched.channels.aclose()


async def test_closing_ends_the_wait_and_the_channels(watched: Watched) -> None:
    await watched.news.tell(full_set("a:1"))
    wait = asyncio.create_task(watched.replicas.wait(watched.soon()))
    await asyncio.sleep(0)
    await watched.replicas.aclose()
    await wait
    assert len(watched.channels) == 0


async def test_closing_at_once() -> None:
    """Before the background task has even begun."""
    watched = Watched()
    await watched.replicas.aclose()
    assert watched.forgotten.done()


async def test_errors_of_the_cell_can_be_copied() -> None:
    """Each who waits for replicas raises one of its own: a copy has the class, the code and the words."""
    error = copy(CellError(grpc.StatusCode.ABORTED, "no"))
    assert (type(error), error.code, str(error)) == (CellError, grpc.StatusCode.ABORTED, "no")
