"""Starting and stopping a cell and its servers."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import threading
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from saxgw.devcell import AdminServer, DevCell, DevCellError, ModelServer, Timing
from saxgw.sax.errors import InvalidName
from saxgw.sax.wire import admin_pb2
from saxgw.sax.wire.admin_pb2_grpc import AdminStub
from saxgw.sax.wire.lm_pb2 import GenerateRequest
from tests.devcell.harness import QUICK, admin_at, lm_at, model, until

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"


async def reflect(address: str, request: ServerReflectionRequest) -> ServerReflectionResponse:
    """Asks a server's reflection service one question."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_stream(
            f"/{REFLECTION}/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        (answer,) = [answer async for answer in call(iter([request]))]
    return answer


async def services_of(address: str) -> set[str]:
    answer = await reflect(address, ServerReflectionRequest(list_services=""))
    return {service.name for service in answer.list_services_response.service}


async def knows(address: str, symbol: str) -> bool:
    answer = await reflect(address, ServerReflectionRequest(file_containing_symbol=symbol))
    return answer.HasField("file_descriptor_response")


async def test_servers_reflect_what_they_serve(cell: DevCell) -> None:
    assert await services_of(cell.admin.address) == {"sax.Admin", REFLECTION}
    server = cell.model_servers[0].address
    assert await services_of(server) == {"sax.Modelet", "sax.server.lm.LMService", REFLECTION}
    assert await knows(cell.admin.address, "sax.Admin")
    assert await knows(server, "sax.server.lm.LMService")


async def test_the_example_in_the_docstring_runs() -> None:
    example = inspect.cleandoc(DevCell.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    assert example.lstrip().startswith("async with DevCell()")
    names = {**vars(admin_pb2), "DevCell": DevCell, "AdminStub": AdminStub, "grpc": grpc}
    exec(f"async def run():\n{example}", names)  # noqa: S102 (it is ours)
    await names["run"]()


def is_folder(path: str) -> bool:
    return Path(path).is_dir()


async def test_everything_is_gone_afterwards() -> None:
    tasks, threads = len(asyncio.all_tasks()), set(threading.enumerate())
    async with DevCell(model_servers=2, timing=QUICK) as cell:
        root = cell.root
        async with admin_at(cell.admin.address) as admin, lm_at(cell.model_servers[0]):
            await admin.publish(model("alice", replicas=2))
            await admin.ready("/sax/test/alice", 2)
        assert is_folder(root)
    assert not is_folder(root)
    await until(lambda: len(asyncio.all_tasks()) <= tasks)  # those of other cells come and go

    def new_threads() -> list[threading.Thread]:
        new = set(threading.enumerate()) - threads
        return [thread for thread in new if thread.name.startswith("saxgw-devcell")]

    await until(lambda: not new_threads())  # they have been told to end, and are about to


async def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    cell = DevCell(tmp_path, timing=QUICK)
    await cell.stop()
    await cell.start()
    await cell.model_servers[0].stop()
    await cell.stop()
    await cell.stop()
    await cell.start()
    await cell.stop()


async def test_a_cell_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    async with AdminServer(tmp_path, "first") as other:
        tasks = len(asyncio.all_tasks())
        port = int(other.address.rpartition(":")[2])
        with pytest.raises(DevCellError, match=f"cannot listen on {other.address}; is the port in use?"):
            await DevCell(tmp_path, "second", admin_port=port, timing=QUICK).start()
        await until(lambda: len(asyncio.all_tasks()) <= tasks)  # those of other cells come and go


async def test_a_model_server_that_cannot_join_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saxgw.devcell.cell._START_S", 0.01)
    wait = DevCell._all_joined  # noqa: SLF001 (its time begins when the server has tried)

    async def wait_later(cell: DevCell) -> None:
        (server,) = cell.model_servers
        await until(lambda: "DEADLINE" in server.join_failure)
        await wait(cell)

    monkeypatch.setattr(DevCell, "_all_joined", wait_later)
    # Its admin is never reached: the time to call back is over at once.
    late = Timing(connect_back_s=1e-6)
    tasks = len(asyncio.all_tasks())
    with pytest.raises(DevCellError, match=r"cannot join the cell: the admin server at .* says DEADLINE"):
        await DevCell(tmp_path, timing=late).start()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)  # those of other cells come and go


async def test_a_server_keeps_its_port_unless_told_otherwise(tmp_path: Path, port: int) -> None:
    for server in (AdminServer(tmp_path), ModelServer(tmp_path)):
        assert server.address == "127.0.0.1:0"
        await server.start()
        first = server.address
        await server.stop()
        assert server.address == first
        await server.start(port)
        await server.stop()
        await server.start()
        assert server.address == f"127.0.0.1:{port}"
        await server.stop()
        with socket.create_server(("127.0.0.1", port)):
            with pytest.raises(DevCellError, match="is the port in use"):
                await server.start()
            await server.start(0)
        assert server.address != f"127.0.0.1:{port}"
        await server.stop()


async def test_a_model_server_waits_for_its_admin(tmp_path: Path) -> None:
    async with ModelServer(tmp_path, timing=QUICK) as server:
        assert server.join_failure == "no admin server has been started"
        async with AdminServer(tmp_path, timing=QUICK):
            await server.wait_joined()
            assert not server.join_failure


async def test_a_location_that_leads_nowhere_is_tried_again(tmp_path: Path, port: int) -> None:
    async with AdminServer(tmp_path, port=port, timing=QUICK) as admin:
        pass
    async with ModelServer(tmp_path, timing=QUICK) as server:
        await until(lambda: admin.address in server.join_failure)
        await admin.start()
        await server.wait_joined()
        await admin.stop()


@pytest.mark.parametrize("cell", ["", "Test", "a/b", "a.b"])
def test_the_cell_must_have_a_name(cell: str) -> None:
    with pytest.raises(InvalidName):
        DevCell(cell=cell)


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="model_servers must be at least 0, got -1"):
        DevCell(model_servers=-1)
    with pytest.raises(ValueError, match="poll_s must be above 0, got 0"):
        Timing(poll_s=0)


async def test_a_cell_without_model_servers_publishes_and_loads_nothing() -> None:
    async with DevCell(model_servers=0, timing=QUICK) as cell, admin_at(cell.admin.address) as admin:
        await admin.publish(model("alice"))
        assert not (await admin.list_one("/sax/test/alice")).modelet_addresses


async def test_logs_hold_no_prompts(cell: DevCell, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "saxgw"):
        async with admin_at(cell.admin.address) as admin, lm_at(cell.model_servers[0]) as lm:
            await admin.publish(model("alice"))
            await admin.ready("/sax/test/alice")
            answer = await lm.Generate(GenerateRequest(model_key="/sax/test/alice", text="a confidence"))
    logged = " ".join(record.getMessage() for record in caplog.records if record.name.startswith("saxgw"))
    assert "a confidence" not in logged
    assert not any(decoded.text in logged for decoded in answer.texts)
