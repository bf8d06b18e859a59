"""Publishing, updating, unpublishing, listing and describing; and what happens while the admin is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
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
    ModelDetail,
    ModelExists,
    ModelNotFound,
    SaxClient,
    ServerStats,
    connect,
)
from saxgw.sax.wire import admin_pb2, common_pb2
from tests.devcell.harness import TIMEOUT_S
from tests.patience import limits
from tests.sax.clients import both_clients, giving_up_soon
from tests.sax.scripted import CELL, MODEL, Context, Hold, ScriptedCell, Step, answer, refuse, status

Code = grpc.StatusCode

UNREACHABLE = "127.0.0.1:1"
"""Nothing listens there: a connection is refused at once."""

NOT_AVAILABLE = "the admin of /sax/test is not available; try again later, or check that it runs"

Operation = Callable[[SaxClient], Awaitable[object]]

WRITES: dict[str, Operation] = {
    "Publish": lambda sax: sax.publish(MODEL, "a.B", "None", 1),
    "Update": lambda sax: sax.update(MODEL, "a.B", "None", 1),
    "Unpublish": lambda sax: sax.unpublish(MODEL),
}

READS: dict[str, Operation] = {
    "list_models": lambda sax: sax.list_models(CELL),
    "describe": lambda sax: sax.describe(MODEL),
    "stats of a cell": lambda sax: sax.stats(CELL),
    "stats of a model": lambda sax: sax.stats(MODEL),
}

every_write = pytest.mark.parametrize("rpc", WRITES)
every_read = pytest.mark.parametrize(
    ("rpc", "read"),
    [("Stats" if name.startswith("stats") else "List", read) for name, read in READS.items()],
    ids=READS,
)
every_operation = pytest.mark.parametrize("operation", [*WRITES.values(), *READS.values()], ids=[*WRITES, *READS])


def wrapped(name: str, words: str) -> str:
    """How Google's admin spells an error, with code UNKNOWN."""
    return f"{words}: rpc error: code = {name} desc = {name}"


@both_clients
async def test_publish_sends_what_it_is_given(cell: ScriptedCell, sax: SaxClient) -> None:
    await sax.publish("sax/test/lm", "a.B", "gs://b/c", 2, {"BATCH_SIZE": "1"})
    assert cell.admin.requests["Publish"] == [
        admin_pb2.PublishRequest(
            model=admin_pb2.Model(
                model_id=MODEL,
                model_path="a.B",
                checkpoint_path="gs://b/c",
                requested_num_replicas=2,
                overrides={"BATCH_SIZE": "1"},
            )
        )
    ]


@both_clients
async def test_unpublish_sends_the_full_name(cell: ScriptedCell, sax: SaxClient) -> None:
    await sax.unpublish("sax/test/lm")
    assert cell.admin.requests["Unpublish"] == [admin_pb2.UnpublishRequest(model_id=MODEL)]


@both_clients
async def test_a_listing_is_sorted(cell: ScriptedCell, sax: SaxClient) -> None:
    for name in ("b", "c", "a"):
        cell.admin.publish(model=f"/sax/test/{name}")
    assert await sax.list_models("sax/test") == ["/sax/test/a", "/sax/test/b", "/sax/test/c"]


@both_clients
async def test_a_cell_without_models(sax: SaxClient) -> None:
    assert await sax.list_models(CELL) == []


@pytest.mark.parametrize(
    ("rpc", "refusal", "kind"),
    [
        ("Publish", wrapped("AlreadyExists", "model {test lm} already exists"), ModelExists),
        ("Publish", wrapped("InvalidArgument", 'model path "?" must match "^[a-z]+$"'), InvalidArgument),
        ("Publish", wrapped("Unimplemented", "ACL check is not supported"), CellError),
        ("Update", wrapped("InvalidArgument", "invalid model update: model path can't be changed"), InvalidArgument),
        ("Unpublish", wrapped("NotFound", "model {test lm} not found"), ModelNotFound),
    ],
)
@both_clients
async def test_refusals_as_googles_admin_spells_them(
    cell: ScriptedCell, sax: SaxClient, rpc: str, refusal: str, kind: type[Exception]
) -> None:
    cell.admin.publish()
    cell.admin.script[rpc].append(refuse(Code.UNKNOWN, refusal))
    with pytest.raises(kind) as raised:
        await WRITES[rpc](sax)
    if kind is InvalidArgument:
        assert str(raised.value) == f"/sax/test refused the request: {refusal.partition(': rpc')[0]}"
    assert len(cell.admin.requests[rpc]) == 1


@both_clients
async def test_updating_or_describing_a_model_that_is_not_published(cell: ScriptedCell, sax: SaxClient) -> None:
    for operation in (WRITES["Update"], READS["describe"], READS["stats of a model"]):
        with pytest.raises(ModelNotFound, match="/sax/test/lm is not published"):
            await operation(sax)
    cell.admin.script["List"].append(answer(admin_pb2.ListResponse()))
    with pytest.raises(ModelNotFound, match="/sax/test/lm is not published"):
        await sax.describe(MODEL)


@both_clients
async def test_what_cannot_be_right_is_not_sent(cell: ScriptedCell, sax: SaxClient) -> None:
    for operation in (sax.publish, sax.update):
        with pytest.raises(InvalidName):
            await operation("lm", "a.B", "None", 1)
        with pytest.raises(InvalidName):
            await operation(MODEL, "a/B", "None", 1)
        with pytest.raises(InvalidName):
            await operation(MODEL, "a.B", "", 1)
        with pytest.raises(InvalidArgument, match="must be between 0 and 2147483647, got -1"):
            await operation(MODEL, "a.B", "None", -1)
        with pytest.raises(InvalidArgument, match="must be between 0 and 2147483647, got 2147483648"):
            await operation(MODEL, "a.B", "None", 2**31)
    assert not cell.admin.requests


# Updating.


async def test_an_update_keeps_all_that_it_does_not_name(cell: ScriptedCell, sax: CellClient) -> None:
    listed = admin_pb2.Model(
        model_id=MODEL,
        model_path="a.B",
        checkpoint_path="None",
        requested_num_replicas=1,
        acls=common_pb2.AccessControlLists(items={"lm.generate": ""}),
        admin_acl="acl/x",
        overrides={"BATCH_SIZE": "1"},
        uuid=b"0123456789abcdef",
        method_names=["lm.generate"],
    )
    unknown_field = b"\xfa\x07\x03new"  # field 127
    listed.MergeFromString(unknown_field)
    cell.admin.published[MODEL] = admin_pb2.PublishedModel(model=listed)

    await sax.update(MODEL, "other.Path", "gs://b/c", 3)

    expected = admin_pb2.Model(
        model_id=MODEL,
        model_path="other.Path",
        checkpoint_path="gs://b/c",
        requested_num_replicas=3,
        acls=common_pb2.AccessControlLists(items={"lm.generate": ""}),
        admin_acl="acl/x",
        overrides={"BATCH_SIZE": "1"},
    )
    expected.MergeFromString(unknown_field)
    assert [request.model for request in cell.admin.requests["Update"]] == [expected]


@pytest.mark.parametrize("overrides", [None, {}, {"BATCH_SIZE": "1"}, {"BATCH_SIZE": "1", "TOP_K": "40"}])
@both_clients
async def test_an_update_may_repeat_the_overrides(
    cell: ScriptedCell, sax: SaxClient, overrides: dict[str, str] | None
) -> None:
    cell.admin.publish()
    cell.admin.published[MODEL].model.overrides.update({"BATCH_SIZE": "1", "TOP_K": "40"})
    await sax.update(MODEL, "a.B", "None", 1, overrides)
    assert len(cell.admin.requests["Update"]) == 1


@pytest.mark.parametrize(
    ("overrides", "was"), [({"BATCH_SIZE": "2"}, '"1"'), ({"BATCH_SIZE": "1", "TOP_K": "2"}, "unset")]
)
@both_clients
async def test_an_update_cannot_change_overrides(
    cell: ScriptedCell, sax: SaxClient, overrides: dict[str, str], was: str
) -> None:
    cell.admin.publish()
    cell.admin.published[MODEL].model.overrides.update({"BATCH_SIZE": "1"})
    with pytest.raises(InvalidArgument) as raised:
        await sax.update(MODEL, "a.B", "None", 1, overrides)
    name = list(overrides)[-1]
    assert str(raised.value) == (
        f'an update cannot change overrides, but {name} is {was} and was to be "2"; '
        "unpublish /sax/test/lm and publish it with the new overrides"
    )
    assert not cell.admin.requests["Update"]


@both_clients
async def test_writes_to_one_model_wait_for_each_other(cell: ScriptedCell, sax: SaxClient) -> None:
    hold = Hold(admin_pb2.PublishResponse())
    cell.admin.script["Publish"].append(hold)
    first = asyncio.create_task(sax.publish(MODEL, "a.B", "None", 1))
    await hold.begun.wait()
    second = asyncio.create_task(sax.unpublish(MODEL))
    await sax.publish("/sax/test/other", "a.B", "None", 1)
    assert not cell.admin.requests["Unpublish"]
    hold.release.set()
    await first
    await second


# Describing.


async def test_describe_counts_the_servers_that_have_loaded_the_model(cell: ScriptedCell, sax: CellClient) -> None:
    servers = [await cell.model_server() for _ in range(5)]
    servers[0].always["GetStatus"] = answer(status(common_pb2.LOADED))
    servers[1].always["GetStatus"] = answer(status(common_pb2.LOADING))
    servers[2].always["GetStatus"] = answer(status(common_pb2.FAILED))
    servers[3].always["GetStatus"] = answer(status(common_pb2.LOADED, "/sax/test/other"))
    servers[4].always["GetStatus"] = refuse(Code.INTERNAL, "no")
    cell.admin.publish(*(server.address for server in servers), servers[0].address, UNREACHABLE, replicas=7)
    cell.admin.published[MODEL].model.overrides.update({"BATCH_SIZE": "1"})
    cell.admin.published[MODEL].model.method_names[:] = ["lm.score", "lm.generate"]
    assert await sax.describe("sax/test/lm") == ModelDetail(
        model=MODEL,
        model_path="a.B",
        checkpoint="None",
        max_replicas=7,
        active_replicas=1,
        overrides={"BATCH_SIZE": "1"},
        methods=("lm.generate", "lm.score"),
    )


async def test_a_frozen_model_server_holds_a_description_up_for_a_moment_only(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saxgw.sax.client._STATUS_TIMEOUT_S", 0.1)
    server = await cell.model_server()
    server.always["GetStatus"] = Hold()
    cell.admin.publish(server.address)
    assert (await sax.describe(MODEL)).active_replicas == 0


# Counting servers.


@pytest.mark.parametrize(("name", "sent"), [("sax/test", ""), ("sax/test/lm", MODEL)])
async def test_stats(cell: ScriptedCell, sax: CellClient, name: str, sent: str) -> None:
    specs = admin_pb2.ModelServer
    counts = [
        (specs.CHIP_TYPE_TPU_V5E, specs.CHIP_TOPOLOGY_4X4, 3),
        (specs.CHIP_TYPE_CPU, specs.CHIP_TOPOLOGY_1, 2),
        (specs.CHIP_TYPE_TPU_V5E, specs.CHIP_TOPOLOGY_2X2, 1),
    ]
    stats = [
        admin_pb2.ModelServerTypeStat(chip_type=chip, chip_topology=topology, num_replicas=count)
        for chip, topology, count in counts
    ]
    newer = admin_pb2.ModelServerTypeStat.FromString(bytes.fromhex("086310e3071804"))  # chip 99 in topology 995
    response = admin_pb2.StatsResponse(
        model_server_type_stats=[*stats, newer], num_servers_by_servable_model_path={"b.C": 2, "a.B": 6}
    )
    cell.admin.script["Stats"].append(answer(response))
    found = await sax.stats(name)
    assert list(found.by_type.items()) == [
        (("99", "995"), 4),
        (("CHIP_TYPE_CPU", "CHIP_TOPOLOGY_1"), 2),
        (("CHIP_TYPE_TPU_V5E", "CHIP_TOPOLOGY_2X2"), 1),
        (("CHIP_TYPE_TPU_V5E", "CHIP_TOPOLOGY_4X4"), 3),
    ]
    assert list(found.by_model_path.items()) == [("a.B", 6), ("b.C", 2)]
    assert cell.admin.requests["Stats"] == [admin_pb2.StatsRequest(model_id=sent)]


@both_clients
async def test_stats_of_nothing(cell: ScriptedCell, sax: SaxClient) -> None:
    with pytest.raises(InvalidName, match="names neither a cell nor a model"):
        await sax.stats("lm")
    assert not cell.admin.requests
    assert await sax.stats(CELL) == ServerStats(by_type={}, by_model_path={})


@both_clients
async def test_stats_while_a_model_server_is_taken_out(cell: ScriptedCell, sax: SaxClient) -> None:
    """Google's admin then answers NOT_FOUND about the server, which says nothing of the model (§4.2)."""
    cell.admin.publish()
    words = wrapped("NotFound", "model server 10.0.0.1:14000 not found")
    cell.admin.script["Stats"].append(refuse(Code.UNKNOWN, words))
    with pytest.raises(AdminUnavailable) as raised:
        await sax.stats(MODEL)
    assert str(raised.value) == "the admin of /sax/test is just taking a model server out; try again in a moment"


# An admin that is not there.


@every_operation
async def test_no_such_cell(tmp_path: Path, operation: Operation) -> None:
    async with connect(str(tmp_path)) as sax:
        with pytest.raises(CellNotFound, match="there is no cell /sax/test under SAX_ROOT"):
            await operation(sax)


@every_operation
async def test_an_admin_out_of_reach(cell: ScriptedCell, sax: CellClient, operation: Operation) -> None:
    cell.locate(UNREACHABLE)
    with giving_up_soon(), pytest.raises(AdminUnavailable) as raised:
        async with asyncio.timeout(TIMEOUT_S / 2):
            await operation(sax)
    assert str(raised.value) == NOT_AVAILABLE


@both_clients
async def test_an_admin_that_has_never_run(cell: ScriptedCell, sax: SaxClient) -> None:
    cell.location_file.unlink()
    with (
        giving_up_soon(),
        pytest.raises(AdminUnavailable, match="no admin has ever run for /sax/test; start its admin server"),
    ):
        await sax.list_models(CELL)


async def test_a_location_file_that_is_being_rewritten(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is empty for a moment; the client looks again."""
    location = cell.location_file.read_bytes()
    cell.location_file.write_bytes(b"")

    sleep = asyncio.sleep

    async def rewrite(_: float) -> None:
        cell.location_file.write_bytes(location)
        await sleep(0)  # whoever else sleeps meanwhile must not keep all others from running

    monkeypatch.setattr("saxgw.sax.connection.asyncio.sleep", rewrite)
    assert await sax.list_models(CELL) == []


@every_operation
@both_clients
async def test_an_admin_that_moved_is_found(cell: ScriptedCell, sax: SaxClient, operation: Operation) -> None:
    old = cell.admin
    await sax.list_models(CELL)
    await old.stop()
    (await cell.new_admin()).publish()
    await operation(sax)


@every_read
async def test_a_question_is_asked_again_when_the_connection_breaks(
    cell: ScriptedCell, sax: CellClient, rpc: str, read: Operation
) -> None:
    cell.admin.publish()
    cell.admin.script[rpc].extend([refuse(Code.UNAVAILABLE, "going away")] * 2)
    await read(sax)
    assert len(cell.admin.requests[rpc]) == 3


@every_read
async def test_questions_are_not_asked_for_ever(cell: ScriptedCell, sax: CellClient, rpc: str, read: Operation) -> None:
    cell.admin.always[rpc] = refuse(Code.UNAVAILABLE, "going away")
    with pytest.raises(AdminUnavailable) as raised:
        await read(sax)
    assert str(raised.value) == NOT_AVAILABLE
    assert len(cell.admin.requests[rpc]) == 3


def carry_out(cell: ScriptedCell, rpc: str, *, model_path: str = "a.B", and_then: Step) -> Step:
    """A step that does what it is asked for, and then something else than to say so."""

    async def step(request: Any, context: Any) -> Any:
        if rpc == "Unpublish":
            del cell.admin.published[MODEL]
        else:
            cell.admin.publish(replicas=request.model.requested_num_replicas)
            cell.admin.published[MODEL].model.model_path = model_path
        return await and_then(request, context)

    return step


def before(cell: ScriptedCell, rpc: str) -> None:
    """Has the model published, or not, as it must be for a write to change something."""
    if rpc != "Publish":
        cell.admin.publish(replicas=7)


LOST = refuse(Code.UNAVAILABLE, "Socket closed")


@every_write
async def test_a_write_whose_answer_is_lost(cell: ScriptedCell, sax: CellClient, rpc: str) -> None:
    """The admin is asked what happened: it was carried out, so it is not sent again."""
    before(cell, rpc)
    cell.admin.script[rpc].append(carry_out(cell, rpc, and_then=LOST))
    await WRITES[rpc](sax)
    assert len(cell.admin.requests[rpc]) == 1


@every_write
async def test_a_write_that_is_lost_on_its_way(cell: ScriptedCell, sax: CellClient, rpc: str) -> None:
    """The admin is asked what happened: nothing, so it is sent again."""
    before(cell, rpc)
    cell.admin.script[rpc].extend([LOST, LOST])
    await WRITES[rpc](sax)
    assert len(cell.admin.requests[rpc]) == 3


async def test_a_publish_that_was_lost_while_another_was_not(cell: ScriptedCell, sax: CellClient) -> None:
    """What is published is not what was asked for, so somebody else was first."""
    cell.admin.script["Publish"].append(carry_out(cell, "Publish", model_path="x.Y", and_then=LOST))
    with pytest.raises(ModelExists, match="is published already"):
        await sax.publish(MODEL, "a.B", "None", 1)
    assert len(cell.admin.requests["Publish"]) == 1


async def test_a_publish_that_is_late_and_then_refused(cell: ScriptedCell, sax: CellClient) -> None:
    """The first one arrives after the question what had become of it: the second finds the model as asked for."""
    exists = refuse(Code.ALREADY_EXISTS, "model already exists")
    cell.admin.script["Publish"].extend([LOST, carry_out(cell, "Publish", and_then=exists)])
    await sax.publish(MODEL, "a.B", "None", 1)
    assert len(cell.admin.requests["Publish"]) == 2


async def test_an_update_of_a_model_that_is_unpublished_meanwhile(cell: ScriptedCell, sax: CellClient) -> None:
    cell.admin.publish(replicas=7)
    cell.admin.script["Update"].append(carry_out(cell, "Unpublish", and_then=LOST))
    with pytest.raises(ModelNotFound):
        await WRITES["Update"](sax)


@every_write
async def test_a_write_that_is_lost_again_and_again(cell: ScriptedCell, rpc: str) -> None:
    """In the end it is not known what became of the last one."""
    before(cell, rpc)
    cell.admin.always[rpc] = LOST
    for limit_s in limits(0.3):
        async with connect(cell.root, admin_timeout_s=limit_s) as sax:
            with pytest.raises(AdminUnavailable) as raised:
                await WRITES[rpc](sax)
        if cell.admin.requests[rpc]:
            break
    assert "is not known; look at /sax/test/lm" in str(raised.value)


@every_write
async def test_a_write_whose_admin_dies_under_it(cell: ScriptedCell, sax: CellClient, rpc: str) -> None:
    cell.admin.publish()
    hold = Hold()
    cell.admin.script[rpc].append(hold)
    write = asyncio.ensure_future(WRITES[rpc](sax))
    await hold.begun.wait()
    with giving_up_soon():
        await cell.admin.stop()
        with pytest.raises(AdminUnavailable, match="whether it carried out the request is not known; look at /sax/tes"):
            await write


@every_write
async def test_a_write_whose_answer_is_late(cell: ScriptedCell, sax: CellClient, rpc: str) -> None:
    """Its own time limit leaves time to ask the admin, which says that it was carried out."""
    left_s: list[float] = []

    async def late(_: Any, context: Context) -> None:
        left_s.append(context.time_remaining() or 0)
        await context.abort(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")  # what gRPC says when that time has passed

    before(cell, rpc)
    cell.admin.script[rpc].append(carry_out(cell, rpc, and_then=late))
    await WRITES[rpc](sax)
    assert len(cell.admin.requests[rpc]) == 1
    assert left_s[0] < 0.7 * TIMEOUT_S


@every_write
async def test_a_write_without_an_answer_in_time(cell: ScriptedCell, rpc: str) -> None:
    before(cell, rpc)
    cell.admin.always[rpc] = hold = Hold()
    listing, cell.admin.always["List"] = cell.admin.always["List"], Hold()
    for limit_s in limits(0.3):
        if rpc == "Update":  # which begins with a question
            cell.admin.script["List"].append(listing)
        async with connect(cell.root, admin_timeout_s=limit_s) as sax:
            with pytest.raises(AdminUnavailable) as raised:
                await WRITES[rpc](sax)
        if hold.begun.is_set():
            break
    assert "did not answer in time, and whether it carried out the request" in str(raised.value)
    assert hold.deadline_s is not None


@every_read
async def test_a_read_without_an_answer_in_time(cell: ScriptedCell, rpc: str, read: Operation) -> None:
    cell.admin.script[rpc].append(Hold())
    async with connect(cell.root, admin_timeout_s=0.3) as sax:
        with pytest.raises(AdminUnavailable, match="did not answer in time; try again later"):
            await read(sax)


@pytest.mark.parametrize(
    "refusal",
    [
        refuse(Code.UNAVAILABLE, "model {test lm} is being unpublished, please retry later"),
        refuse(Code.UNKNOWN, wrapped("Unavailable", "model {test lm} is being unpublished, please retry later")),
    ],
    ids=["intended code", "as Google's admin"],
)
@both_clients
async def test_publishing_right_after_unpublishing_waits_for_the_name(
    cell: ScriptedCell, sax: SaxClient, refusal: Step
) -> None:
    """The admin has done nothing then (§9.1.19), so the request may be repeated."""
    cell.admin.script["Publish"].extend([refusal] * 2)
    await sax.publish(MODEL, "a.B", "None", 1)
    assert len(cell.admin.requests["Publish"]) == 3


async def test_a_name_that_does_not_become_free(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for as long as there is time for one more pause."""

    async def refuse_thrice(_: Any, context: Context) -> None:
        if len(cell.admin.requests["Publish"]) == 3:
            monkeypatch.setattr("saxgw.sax.admin._FIRST_PAUSE_S", 10 * TIMEOUT_S)
            monkeypatch.setattr("saxgw.sax.admin._LONGEST_PAUSE_S", 10 * TIMEOUT_S)
        await context.abort(Code.UNAVAILABLE, "model is being unpublished, please retry later")

    cell.admin.always["Publish"] = refuse_thrice
    with pytest.raises(AdminUnavailable, match="was just unpublished and its name is not free yet"):
        await sax.publish(MODEL, "a.B", "None", 1)
    assert len(cell.admin.requests["Publish"]) == 3


async def test_the_log_tells_once_that_the_admin_is_lost_and_once_that_it_is_back(
    cell: ScriptedCell, sax: CellClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "saxgw.sax")
    location = cell.location_file.read_bytes()
    cell.location_file.unlink()
    with giving_up_soon():
        for _ in range(2):
            with pytest.raises(AdminUnavailable):
                await sax.list_models(CELL)
    cell.location_file.write_bytes(location)
    for _ in range(2):
        await sax.list_models(CELL)
    told = ["no admin has ever run for /sax/test; start its admin server", "the admin of /sax/test is back"]
    messages = [record.getMessage() for record in caplog.records]  # those of other clients are among them
    assert [message for message in messages if message in told] == told


async def test_many_who_need_a_lost_admin_look_for_it_together(
    cell: ScriptedCell, sax: CellClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        if path == cell.location_file:
            reads.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    assert await asyncio.gather(*(sax.list_models(CELL) for _ in range(50))) == [[]] * 50
    assert reads == [cell.location_file]


async def test_one_who_leaves_does_not_stop_the_others_search(sax: CellClient) -> None:
    first, second = (asyncio.create_task(sax.list_models(CELL)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == []
    assert first.cancelled()
