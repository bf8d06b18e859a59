"""What goes wrong with the official client, what callers are told, and what it refuses."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from saxgw.sax import (
    AdminUnavailable,
    CellError,
    CellNotFound,
    ModelNotFound,
    ReplicasUnavailable,
    RootUnavailable,
    official,
)
from saxgw.sax.official.status import status_of
from saxgw.sax.wire import admin_pb2, common_pb2, lm_pb2
from tests.devcell.harness import TIMEOUT_S
from tests.patience import limits
from tests.sax.clients import official_client
from tests.sax.official_module.abseil import StatusNotOk
from tests.sax.scripted import CELL, MODEL, Context, Hold, ScriptedCell, answer, refuse

Code = grpc.StatusCode

UNREACHABLE = "127.0.0.1:1"
"""Nothing listens there: a connection is refused at once."""

NOT_LOADED = refuse(Code.NOT_FOUND, f"{MODEL} is still loading or already unloaded. Available models: /sax/test/secret")

pytestmark = pytest.mark.usefixtures("google")


@pytest_asyncio.fixture
async def sax(cell: ScriptedCell) -> AsyncIterator[official.OfficialClient]:
    async with official_client(cell.root, admin_timeout_s=TIMEOUT_S, replica_wait_s=TIMEOUT_S) as sax:
        yield sax


@pytest_asyncio.fixture
async def hasty_sax(cell: ScriptedCell) -> AsyncIterator[official.OfficialClient]:
    """Hardly waits for a replica."""
    async with official_client(cell.root, admin_timeout_s=TIMEOUT_S, replica_wait_s=0.2) as sax:
        yield sax


@pytest.mark.parametrize(
    ("code", "message", "meant"),
    [
        (Code.INVALID_ARGUMENT, "rpc error: code = InvalidArgument desc = no", (Code.INVALID_ARGUMENT, "no")),
        (Code.UNAVAILABLE, "retries(35): rpc error: code = Unavailable desc = gone", (Code.UNAVAILABLE, "gone")),
        (Code.UNKNOWN, "rpc error: code = NotFound desc = model x not found", (Code.NOT_FOUND, "model x not found")),
        (
            Code.UNKNOWN,
            "rpc error: code = Unknown desc = model x not found: rpc error: code = NotFound desc = NotFound",
            (Code.NOT_FOUND, "model x not found"),
        ),
        (
            Code.RESOURCE_EXHAUSTED,
            "retries(2): retries(1): rpc error: code = ResourceExhausted desc = Too many requests",
            (Code.RESOURCE_EXHAUSTED, "Too many requests"),
        ),
        (Code.DEADLINE_EXCEEDED, "context deadline exceeded", (Code.DEADLINE_EXCEEDED, "context deadline exceeded")),
        (Code.UNKNOWN, "plain words", (Code.UNKNOWN, "plain words")),
    ],
    ids=["plain", "retried", "lost code", "as Google's admin", "retried twice", "no layer", "unknown"],
)
def test_the_status_that_was_meant(code: Code, message: str, meant: tuple[Code, str]) -> None:
    assert status_of(StatusNotOk(code, message)) == meant


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_every_code_is_known(code: Code) -> None:
    assert status_of(StatusNotOk(code, "words")) == (code, "words")


@pytest.mark.parametrize("error", [TypeError("incompatible function arguments"), OSError(2, "no such file")])
def test_other_exceptions_are_no_statuses(error: Exception) -> None:
    assert status_of(error) is None


async def test_an_exception_of_another_kind_comes_through(
    sax: official.OfficialClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in calling the module is one of ours, and not the cell's."""

    def list_all(_: str) -> None:
        """Takes too few arguments."""

    monkeypatch.setattr(sys.modules["sax"], "ListAll", list_all)
    with pytest.raises(TypeError, match="positional argument"):
        await sax.list_models(CELL)


# Cells.


async def test_what_is_wrong_with_a_cell(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    """The module's words have paths of the machine in them; these are those of the other client."""
    cell.location_file.write_bytes(b"")
    with pytest.raises(AdminUnavailable, match="the location file of /sax/test is empty; its admin may be starting"):
        await sax.list_models(CELL)
    never = "No admin server has been started for this Sax cell."
    cell.locate(never)
    with pytest.raises(AdminUnavailable, match="no admin has ever run for /sax/test; start its admin server"):
        await sax.publish(MODEL, "a.B", "None", 1)
    cell.location_file.unlink()
    with pytest.raises(AdminUnavailable, match="no admin has ever run for /sax/test; start its admin server"):
        await sax.generate(MODEL, "x")
    shutil.rmtree(cell.location_file.parent)
    with pytest.raises(CellNotFound, match="there is no cell /sax/test under SAX_ROOT"):
        await sax.describe(MODEL)


@pytest.mark.parametrize(
    ("code", "words"),
    [(Code.FAILED_PRECONDITION, "got an empty location"), (Code.UNKNOWN, "open /x/location.proto: no such file")],
)
async def test_a_location_file_that_the_module_has_read_too_early(
    sax: official.OfficialClient, monkeypatch: pytest.MonkeyPatch, code: Code, words: str
) -> None:
    def list_all(_cell: str, _options: object) -> None:
        raise StatusNotOk(code, words)

    monkeypatch.setattr(sys.modules["sax"], "ListAll", list_all)
    with pytest.raises(AdminUnavailable, match="did not find the admin of /sax/test under SAX_ROOT; try again"):
        await sax.list_models(CELL)


async def test_an_admin_out_of_reach(cell: ScriptedCell) -> None:
    cell.locate(UNREACHABLE)
    async with official_client(cell.root, admin_timeout_s=0.5) as sax:
        # Which of the two depends on whether the module was trying or pausing when the time was up.
        with pytest.raises(AdminUnavailable, match=r"/sax/test (is not available|did not answer in time);"):
            await sax.list_models(CELL)
        with pytest.raises(AdminUnavailable, match="whether it carried out the request is not known"):
            await sax.unpublish(MODEL)


async def test_cells_are_listed_without_the_module(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    """It has no function for it."""
    assert await sax.list_cells() == [CELL]
    shutil.rmtree(cell.root)
    with pytest.raises(RootUnavailable, match="SAX_ROOT does not exist"):
        await sax.list_cells()


async def test_a_name_that_does_not_become_free(cell: ScriptedCell) -> None:
    words = "model {test lm} is being unpublished, please retry later"
    cell.admin.always["Publish"] = refuse(Code.UNKNOWN, f"{words}: rpc error: code = Unavailable desc = Unavailable")
    for limit_s in limits(0.3):
        cell.admin.requests.clear()
        async with official_client(cell.root, admin_timeout_s=limit_s) as sax:
            # The other if the time was up while it asked once more.
            with pytest.raises(AdminUnavailable, match=r"its name is not free yet|did not answer in time"):
                await sax.publish(MODEL, "a.B", "None", 1)
        if len(cell.admin.requests["Publish"]) > 1:
            break


# Models.


async def test_the_module_is_not_asked_for_a_model_before_it_is_published(
    cell: ScriptedCell, sax: official.OfficialClient
) -> None:
    """It would take it for missing for half a minute (§6.4)."""
    for _ in range(2):
        with pytest.raises(ModelNotFound, match="/sax/test/lm is not published; publish it first"):
            await sax.generate(MODEL, "x")
    server = await cell.model_server()
    cell.admin.serve(server.address)
    assert await sax.generate(MODEL, "x") == [("x", -0.5)]


async def test_a_model_that_was_published_anew_while_the_module_looks_away(
    cell: ScriptedCell, sax: official.OfficialClient
) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address)
    await sax.generate(MODEL, "x")
    listed = dict(cell.admin.published)
    cell.admin.published.clear()
    with pytest.raises(ModelNotFound):
        await sax.generate(MODEL, "x")
    cell.admin.published.update(listed)
    with pytest.raises(ReplicasUnavailable, match=r"not known yet to the official Sax client, .* after 30 seconds"):
        await sax.generate(MODEL, "x")


async def test_no_model_server_in_time(cell: ScriptedCell, hasty_sax: official.OfficialClient) -> None:
    cell.admin.publish(replicas=3)
    with pytest.raises(ReplicasUnavailable) as raised:
        await hasty_sax.generate(MODEL, "x")
    assert str(raised.value) == (
        "no model server took the request for /sax/test/lm in time (replicas asked for: 3, assigned: 0); "
        "try again later"
    )
    cell.admin.publish(replicas=0)
    with pytest.raises(ReplicasUnavailable, match="is published with 0 replicas; update it to have 1 or more"):
        await hasty_sax.generate(MODEL, "x")


async def test_model_servers_out_of_reach(cell: ScriptedCell, hasty_sax: official.OfficialClient) -> None:
    cell.admin.serve(UNREACHABLE)
    with pytest.raises(ReplicasUnavailable, match="assigned: 1"):
        await hasty_sax.embed(MODEL, "x")


async def test_a_model_that_is_still_loading_is_waited_for(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    """The module does so by itself."""
    server = await cell.model_server()
    cell.admin.serve(server.address)
    server.script["Generate"].extend([NOT_LOADED] * 5)
    assert await sax.generate(MODEL, "x") == [("x", -0.5)]
    assert len(server.requests["Generate"]) == 6


async def test_a_model_that_is_still_loading_when_the_time_is_up(cell: ScriptedCell) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address)
    server.always["Generate"] = NOT_LOADED
    async with official_client(cell.root, call_timeout_s=0.3) as sax:
        with pytest.raises((ReplicasUnavailable, CellError)) as raised:
            await sax.generate(MODEL, "x")
    assert "secret" not in str(raised.value)
    if isinstance(raised.value, CellError):  # the module looked at the clock just after its last try
        assert raised.value.code is Code.DEADLINE_EXCEEDED


async def test_an_answer_too_large_for_the_module(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    server = await cell.model_server()
    cell.admin.serve(server.address)
    large = lm_pb2.GenerateResponse(texts=[lm_pb2.DecodedText(text="x" * 5 * 2**20, score=-1)])
    server.script["Generate"].append(answer(large))
    with pytest.raises(CellError, match="over the limit of 4194304; ask for less, or use saxgw's own client"):
        await sax.generate(MODEL, "x")
    assert len(server.requests["Generate"]) == 1


# Updates.


@pytest.mark.parametrize(
    "lists",
    [{"admin_acl": "acl/x"}, {"acls": common_pb2.AccessControlLists(items={"lm.generate": "acl/x"})}],
    ids=["of the model", "of a method"],
)
async def test_an_update_that_would_erase_access_lists_is_refused(
    cell: ScriptedCell, sax: official.OfficialClient, lists: dict[str, object]
) -> None:
    cell.admin.publish()
    cell.admin.published[MODEL].model.MergeFrom(admin_pb2.Model(**lists))  # type: ignore[arg-type]  # one field each
    with pytest.raises(CellError) as raised:
        await sax.update(MODEL, "a.B", "None", 2)
    assert raised.value.code is Code.UNIMPLEMENTED
    assert str(raised.value) == (
        "/sax/test/lm has access lists, which an update by the official Sax client would erase; "
        "use saxgw's own client, which keeps them"
    )
    assert not cell.admin.requests["Update"]


async def test_an_update_keeps_overrides(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    cell.admin.publish()
    listed = cell.admin.published[MODEL].model
    listed.overrides.update({"BATCH_SIZE": "1"})
    listed.acls.items["lm.generate"] = ""  # no list at all
    await sax.update(MODEL, "a.B", "gs://b/c", 3)
    [request] = cell.admin.requests["Update"]
    assert request.model == admin_pb2.Model(
        model_id=MODEL,
        model_path="a.B",
        checkpoint_path="gs://b/c",
        requested_num_replicas=3,
        overrides={"BATCH_SIZE": "1"},
    )


async def test_a_module_too_old_to_update_safely(
    cell: ScriptedCell, sax: official.OfficialClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Builds that cannot tell of access lists may erase overrides as well (§9.4)."""
    cell.admin.publish()
    monkeypatch.delattr(sys.modules["sax"], "GetACL")
    with pytest.raises(CellError, match=r"too old to update a model .*; build one of October 2024 or later"):
        await sax.update(MODEL, "a.B", "None", 2)
    assert not cell.admin.requests["Update"]


# Waiting.


async def test_a_wait_is_taken_up_again_when_its_time_is_up(
    cell: ScriptedCell, sax: official.OfficialClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that its thread is free for others now and then, and soon if its caller has left."""
    monkeypatch.setattr("saxgw.sax.official.admin._LOOK_S", 0.1)
    cell.admin.publish()
    cell.admin.script["WaitForReady"].extend([Hold(), Hold()])
    await sax.wait_for_ready(MODEL, 2)
    looks = cell.admin.requests["WaitForReady"]
    assert len(looks) >= 3  # the answer to a look may come too late itself
    assert looks == [admin_pb2.WaitForReadyRequest(model_id=MODEL, num_replicas=2)] * len(looks)


async def test_a_wait_for_a_model_that_is_unpublished(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    async def unpublish(_: object, context: Context) -> None:
        cell.admin.published.clear()
        await context.abort(Code.CANCELLED, "Canceled")

    cell.admin.publish()
    cell.admin.script["WaitForReady"].append(unpublish)
    with pytest.raises(ModelNotFound):
        await sax.wait_for_ready(MODEL)


async def test_a_wait_outlasts_an_admin_that_is_away(cell: ScriptedCell) -> None:
    cell.admin.publish()
    cell.admin.script["WaitForReady"].append(hold := Hold())
    async with official_client(cell.root, admin_timeout_s=TIMEOUT_S) as sax:
        wait = asyncio.create_task(sax.wait_for_ready(MODEL))
        await hold.begun.wait()
        location = cell.location_file.read_bytes()
        cell.location_file.write_bytes(b"")
        await cell.admin.stop()
        with pytest.raises(AdminUnavailable):
            await sax.describe(MODEL)
        assert not wait.done()
        (await cell.new_admin()).publish()
        assert cell.location_file.read_bytes() != location
        await wait


async def test_an_admin_that_knows_no_waiting(cell: ScriptedCell, sax: official.OfficialClient) -> None:
    cell.admin.publish()
    cell.admin.always["WaitForReady"] = refuse(Code.UNIMPLEMENTED, "unknown method WaitForReady")
    with pytest.raises(CellError, match="the admin of /sax/test answered UNIMPLEMENTED: unknown method WaitForReady"):
        await sax.wait_for_ready(MODEL)


async def test_waits_do_not_hold_up_questions(cell: ScriptedCell) -> None:
    cell.admin.publish()
    cell.admin.always["WaitForReady"] = hold = Hold(admin_pb2.WaitForReadyResponse())
    async with official_client(cell.root, admin_timeout_s=TIMEOUT_S) as sax:
        waits = [asyncio.create_task(sax.wait_for_ready(MODEL)) for _ in range(40)]
        await cell.admin.called("WaitForReady", 16)
        assert await sax.list_models(CELL) == [MODEL]
        hold.release.set()
        await asyncio.gather(*waits)
