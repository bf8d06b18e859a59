"""Waiting for replicas: the admin is asked, the model servers are asked, and neither is taken at its first word."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import grpc
import pytest

from saxgw.sax import (
    AdminUnavailable,
    CellClient,
    CellError,
    CellNotFound,
    InvalidArgument,
    InvalidName,
    ModelNotFound,
    SaxClient,
    connect,
)
from saxgw.sax.wire import admin_pb2, common_pb2
from tests.devcell.harness import until
from tests.sax.clients import both_clients, giving_up_soon
from tests.sax.scripted import MODEL, Context, Hold, ScriptedCell, answer, refuse, status

Code = grpc.StatusCode

UNREACHABLE = "127.0.0.1:1"
"""Nothing listens there: a connection is refused at once."""

READY = admin_pb2.WaitForReadyResponse()


async def loaded(cell: ScriptedCell) -> str:
    """The address of a model server that has loaded MODEL."""
    return (await cell.model_server()).address


async def held(cell: ScriptedCell, sax: CellClient) -> tuple[asyncio.Task[None], Hold]:
    """A call that waits, and what its admin waits for."""
    cell.admin.publish(await loaded(cell))
    cell.admin.script["WaitForReady"].append(hold := Hold(READY))
    wait = asyncio.create_task(sax.wait_for_ready(MODEL))
    await hold.begun.wait()
    return wait, hold


@pytest.fixture(autouse=True)
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saxgw.sax.client._LONGEST_LOOK_S", 0.05)


async def test_the_admin_and_then_the_servers_that_it_names_are_asked(cell: ScriptedCell, sax: CellClient) -> None:
    cell.admin.publish(await loaded(cell), await loaded(cell))
    await sax.wait_for_ready("sax/test/lm", 2)
    assert cell.admin.requests["WaitForReady"] == [admin_pb2.WaitForReadyRequest(model_id=MODEL, num_replicas=2)]


async def test_one_replica_is_waited_for_unless_more_are_asked_for(cell: ScriptedCell, sax: CellClient) -> None:
    wait, hold = await held(cell, sax)
    hold.release.set()
    await wait
    assert cell.admin.requests["WaitForReady"] == [admin_pb2.WaitForReadyRequest(model_id=MODEL, num_replicas=1)]


@both_clients
async def test_no_replica_need_not_be_waited_for(cell: ScriptedCell, sax: SaxClient) -> None:
    cell.admin.publish(replicas=0)
    await sax.wait_for_ready(MODEL, 0)


async def test_it_takes_longer_than_other_questions_to_the_admin_may(cell: ScriptedCell) -> None:
    async with connect(cell.root, admin_timeout_s=1) as sax:
        _, hold = await held(cell, sax)
        assert hold.deadline_s is not None
        assert hold.deadline_s > 60


async def test_a_server_that_the_admin_counts_wrongly_is_waited_for(cell: ScriptedCell, sax: CellClient) -> None:
    """One that restarts quickly loses its models, and Google's admin does not notice (§4.7)."""
    server = await cell.model_server()
    server.script["GetStatus"].extend(
        [answer(status(common_pb2.LOADED, "/sax/test/other")), answer(status(common_pb2.LOADING))]
    )
    cell.admin.publish(server.address)
    await sax.wait_for_ready(MODEL)
    assert len(server.requests["GetStatus"]) == 3
    assert len(cell.admin.requests["WaitForReady"]) == 3


async def test_a_cancelled_wait_is_cancelled_at_the_admin(cell: ScriptedCell, sax: CellClient) -> None:
    wait, hold = await held(cell, sax)
    wait.cancel()
    await hold.cancelled.wait()
    with pytest.raises(asyncio.CancelledError):
        await wait


async def test_an_admin_that_restarts_is_asked_again(cell: ScriptedCell, sax: CellClient) -> None:
    wait, _ = await held(cell, sax)
    address = await loaded(cell)
    await cell.admin.stop()
    (await cell.new_admin()).publish(address)
    await wait
    assert len(cell.admin.requests["WaitForReady"]) == 1


async def test_an_admin_that_stays_away_for_long_is_waited_for(
    cell: ScriptedCell, sax: CellClient, caplog: pytest.LogCaptureFixture
) -> None:
    wait, _ = await held(cell, sax)
    address = await loaded(cell)
    with giving_up_soon():
        await cell.admin.stop()
        await until(lambda: "the admin of /sax/test is not available" in caplog.text)
        assert not wait.done()
    (await cell.new_admin()).publish(address)
    await wait


async def test_an_admin_that_fails_between_its_answers_is_asked_again(cell: ScriptedCell, sax: CellClient) -> None:
    """It says that the model is ready, and cannot say where it is."""
    wait, hold = await held(cell, sax)
    cell.admin.script["List"].extend([refuse(Code.UNAVAILABLE, "going away")] * 3)
    hold.release.set()
    await wait
    assert len(cell.admin.requests["WaitForReady"]) == 2


async def test_an_admin_that_vanished_without_a_word_is_noticed(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait ends in time, and the next begins with a look at the location file."""
    monkeypatch.setattr("saxgw.sax.admin._WAIT_S", 0.2)
    wait, _ = await held(cell, sax)
    address = await loaded(cell)
    (await cell.new_admin()).publish(address)
    await wait


@pytest.mark.parametrize("way", ["as Google's admin", "intended code"])
@both_clients
async def test_a_model_that_is_not_published(cell: ScriptedCell, sax: SaxClient, way: str) -> None:
    words = "model {test lm} not found: rpc error: code = NotFound desc = NotFound"
    cell.admin.always["List"] = refuse(Code.NOT_FOUND if way == "intended code" else Code.UNKNOWN, words)
    with pytest.raises(ModelNotFound, match="/sax/test/lm is not published; publish it first"):
        await sax.wait_for_ready(MODEL)


@pytest.mark.parametrize("anew", [False, True], ids=["unpublished", "and published anew"])
async def test_an_admin_that_ends_the_wait_is_asked_why(cell: ScriptedCell, sax: CellClient, *, anew: bool) -> None:
    """Unpublishing ends it with CANCELLED, whatever comes after it (§4.2)."""

    async def unpublish(_: Any, context: Context) -> None:
        if not anew:
            cell.admin.published.clear()
        await context.abort(Code.CANCELLED, "Canceled")

    cell.admin.publish(await loaded(cell))
    cell.admin.script["WaitForReady"].append(unpublish)
    if anew:
        await sax.wait_for_ready(MODEL)
    else:
        with pytest.raises(ModelNotFound, match="/sax/test/lm is not published"):
            await sax.wait_for_ready(MODEL)
    assert len(cell.admin.requests["WaitForReady"]) == 2


async def test_a_model_that_an_admin_forgot_when_it_restarted(cell: ScriptedCell, sax: CellClient) -> None:
    """What was published after Google's admin last saved its state is lost (§2.5)."""
    wait, _ = await held(cell, sax)
    await cell.admin.stop()
    await cell.new_admin()
    with pytest.raises(ModelNotFound):
        await wait


async def test_a_cell_that_is_removed_meanwhile(cell: ScriptedCell, sax: CellClient) -> None:
    wait, _ = await held(cell, sax)
    shutil.rmtree(cell.location_file.parent)
    await cell.admin.stop()
    with pytest.raises(CellNotFound):
        await wait


async def test_an_admin_that_knows_no_waiting(cell: ScriptedCell, sax: CellClient) -> None:
    cell.admin.publish()
    cell.admin.always["WaitForReady"] = refuse(Code.UNIMPLEMENTED, "unknown method WaitForReady")
    with pytest.raises(CellError, match="the admin of /sax/test answered UNIMPLEMENTED: unknown method WaitForReady"):
        await sax.wait_for_ready(MODEL)


@both_clients
async def test_what_cannot_be_right_is_not_sent(cell: ScriptedCell, sax: SaxClient) -> None:
    with pytest.raises(InvalidName):
        await sax.wait_for_ready("lm")
    for replicas in (-1, 2**31):
        with pytest.raises(InvalidArgument, match=f"must be between 0 and 2147483647, got {replicas}"):
            await sax.wait_for_ready(MODEL, replicas)
    assert not cell.admin.requests


async def test_no_such_cell(tmp_path: Path) -> None:
    async with connect(str(tmp_path)) as sax:
        with pytest.raises(CellNotFound):
            await sax.wait_for_ready(MODEL)


async def test_an_admin_out_of_reach_from_the_beginning(cell: ScriptedCell, sax: CellClient) -> None:
    cell.locate(UNREACHABLE)
    with giving_up_soon(), pytest.raises(AdminUnavailable, match="the admin of /sax/test is not available"):
        await sax.wait_for_ready(MODEL)


async def test_closing_the_client_ends_a_wait(cell: ScriptedCell, sax: CellClient) -> None:
    wait, hold = await held(cell, sax)
    await sax.aclose()
    with pytest.raises(asyncio.CancelledError):
        await wait
    await hold.cancelled.wait()


async def test_closing_the_client_ends_a_wait_between_two_questions(cell: ScriptedCell, sax: CellClient) -> None:
    cell.admin.publish(UNREACHABLE)
    wait = asyncio.create_task(sax.wait_for_ready(MODEL))
    await cell.admin.called("WaitForReady", 2)
    await sax.aclose()
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        await wait
