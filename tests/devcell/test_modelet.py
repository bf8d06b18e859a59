"""How the admin rules a model server: loading, updating, unloading, status (Sax protocol §5.3–5.5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import ModelServer
from saxgw.devcell.method_stats import MethodStats
from saxgw.sax.wire.common_pb2 import FAILED, LOADED, LOADING, ExtraInputs
from saxgw.sax.wire.lm_pb2 import GenerateRequest
from saxgw.sax.wire.modelet_pb2 import (
    ExportRequest,
    GetStatusRequest,
    GetStatusResponse,
    LoadRequest,
    SaveRequest,
    UnloadRequest,
    UpdateLoadedRequest,
    WakeUpRequest,
    WakeUpResponse,
)
from tests.devcell.harness import GATED, NGRAM, QUICK, Gate, gated, lm_at, modelet_at, refusal, until

if TYPE_CHECKING:
    from saxgw.sax.wire.modelet_pb2_grpc import ModeletAsyncStub

ALICE = "/sax/test/alice"
INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest_asyncio.fixture
async def server(tmp_path: Path, gate: Gate) -> AsyncIterator[ModelServer]:
    """A model server without an admin."""
    async with ModelServer(tmp_path, models=gated(gate), timing=QUICK) as server:
        yield server
        gate.open()


@pytest_asyncio.fixture
async def modelet(server: ModelServer) -> AsyncIterator[ModeletAsyncStub]:
    """Its ruling methods."""
    async with modelet_at(server) as modelet:
        yield modelet


def load(path: str = GATED, key: str = ALICE, checkpoint: str = "None", **overrides: str) -> LoadRequest:
    return LoadRequest(model_key=key, model_path=path, checkpoint_path=checkpoint, overrides=overrides)


async def status(modelet: ModeletAsyncStub) -> list[tuple[str, int, str]]:
    answer = await modelet.GetStatus(GetStatusRequest(include_failure_reasons=True))
    assert answer.server_status.state == GetStatusResponse.ServerStatus.ACTIVE
    return [(model.model_key, model.model_status, model.failure_reason) for model in answer.models]


async def until_status(modelet: ModeletAsyncStub, wanted: list[tuple[str, int, str]]) -> None:
    async def reached() -> bool:
        return await status(modelet) == wanted

    await until(reached)


async def test_a_load_answers_when_the_model_is_loaded(modelet: ModeletAsyncStub, gate: Gate) -> None:
    assert await status(modelet) == []
    loading = asyncio.ensure_future(modelet.Load(load()))
    await until_status(modelet, [(ALICE, LOADING, "")])
    gate.loads.release()
    await loading
    assert await status(modelet) == [(ALICE, LOADED, "")]
    # Again, in whatever form: it is there.
    await modelet.Load(load(path="No.such"))
    assert gate.loaded == 1


async def test_a_load_goes_on_when_its_caller_goes_away(modelet: ModeletAsyncStub, gate: Gate) -> None:
    loading = modelet.Load(load())
    await until_status(modelet, [(ALICE, LOADING, "")])
    loading.cancel()
    gate.loads.release()
    await until_status(modelet, [(ALICE, LOADED, "")])


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        (load(path="No.such"), INVALID, "Model path No.such is not registered on this server."),
        (load(BATCH_SIZE='"2"'), INVALID, 'override of BATCH_SIZE must be of type int, got "2"'),
        (load(BATCH_SIZE="true"), INVALID, "override of BATCH_SIZE must be of type int, got true"),
        (load(NGRAM, NUM_SAMPLES="0"), INVALID, "NUM_SAMPLES must be at least 1, got 0"),
        (
            load(NGRAM, checkpoint="missing"),
            INVALID,
            'checkpoint "missing" cannot be loaded: No such file or directory',
        ),
        (load(checkpoint="broken"), INVALID, "the checkpoint is broken"),
        (load(checkpoint="hostile"), grpc.StatusCode.INTERNAL, "Loading error: the checkpoint bites"),
    ],
)
async def test_a_load_that_fails(
    modelet: ModeletAsyncStub, gate: Gate, request_: LoadRequest, code: grpc.StatusCode, text: str
) -> None:
    gate.loads.release()
    assert await refusal(modelet.Load(request_)) == (code, text)
    assert await status(modelet) == [(ALICE, FAILED, text)]
    (model,) = (await modelet.GetStatus(GetStatusRequest())).models
    assert not model.failure_reason
    # It stays so until it is unloaded.
    await modelet.Load(load(NGRAM))
    assert await status(modelet) == [(ALICE, FAILED, text)]
    await modelet.Unload(UnloadRequest(model_key=ALICE))
    await modelet.Load(load(NGRAM))
    assert await status(modelet) == [(ALICE, LOADED, "")]


async def test_overrides(server: ModelServer, modelet: ModeletAsyncStub, caplog: pytest.LogCaptureFixture) -> None:
    """Values are JSON; what is no setting or no JSON is ignored with a warning."""
    with caplog.at_level(logging.WARNING, "saxgw.devcell"):
        await modelet.Load(load(NGRAM, NUM_SAMPLES="2", NO_SUCH="1", BATCH_SIZE="{", MAX_DECODE_STEPS="3"))
    messages = {record.getMessage() for record in caplog.records}  # those of other cells are among them
    assert {message for message in messages if "override" in message} == {
        "override of NO_SUCH is ignored: NgramLmSettings has no such setting",
        "override of BATCH_SIZE is ignored: its value is not JSON",
    }
    async with lm_at(server) as lm:
        assert len((await lm.Generate(GenerateRequest(model_key=ALICE))).texts) == 2
        assert len([step async for step in lm.GenerateStream(GenerateRequest(model_key=ALICE))]) <= 3
        beyond = ExtraInputs(items={"per_example_max_decode_steps": 4})
        code, text = await refusal(lm.Generate(GenerateRequest(model_key=ALICE, extra_inputs=beyond)))
        assert (code, text) == (
            INVALID,
            "per_example_max_decode_steps must be an integer from 1 to 3, the model's MAX_DECODE_STEPS, got 4",
        )


async def test_an_empty_key_is_refused(modelet: ModeletAsyncStub) -> None:
    expected = (INVALID, "model_key is not specified.")
    assert await refusal(modelet.Load(load(key=""))) == expected
    assert await refusal(modelet.UpdateLoaded(UpdateLoadedRequest())) == expected
    assert await refusal(modelet.Unload(UnloadRequest())) == expected


async def test_only_4_loads_at_a_time(modelet: ModeletAsyncStub, gate: Gate) -> None:
    loads = [asyncio.ensure_future(modelet.Load(load(key=f"/sax/test/m{number}"))) for number in range(4)]

    async def all_there() -> bool:
        return len(await status(modelet)) == 4

    await until(all_there)
    code, _ = await refusal(modelet.Load(load()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    gate.loads.release(5)
    await asyncio.gather(*loads)
    await modelet.Load(load())


async def test_an_update_without_a_checkpoint_or_with_the_same_loads_nothing(
    modelet: ModeletAsyncStub, gate: Gate
) -> None:
    gate.loads.release(5)
    await modelet.Load(load(checkpoint="good"))
    await modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE))
    await modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE, checkpoint_path="good"))
    assert gate.loaded == 1
    await modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE, checkpoint_path="other"))
    await modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE, checkpoint_path="other"))
    assert gate.loaded == 2


async def test_an_update_to_a_broken_checkpoint_is_ok_and_the_model_has_failed(
    modelet: ModeletAsyncStub, gate: Gate
) -> None:
    gate.loads.release(5)
    await modelet.Load(load())
    await modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE, checkpoint_path="broken"))
    assert await status(modelet) == [(ALICE, FAILED, "the checkpoint is broken")]
    again = UpdateLoadedRequest(model_key=ALICE, checkpoint_path="good")
    assert await refusal(modelet.UpdateLoaded(again)) == (grpc.StatusCode.NOT_FOUND, f"Model {ALICE} not found.")


async def test_while_a_model_is_updated_it_is_not_found(
    server: ModelServer, modelet: ModeletAsyncStub, gate: Gate
) -> None:
    gate.loads.release()
    await modelet.Load(load())
    updating = asyncio.ensure_future(
        modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE, checkpoint_path="other"))
    )
    await until_status(modelet, [(ALICE, LOADING, "")])
    async with lm_at(server) as lm:
        assert (await refusal(lm.Generate(GenerateRequest(model_key=ALICE))))[0] is grpc.StatusCode.NOT_FOUND
    gate.loads.release()
    await updating
    assert await status(modelet) == [(ALICE, LOADED, "")]


async def test_an_unknown_key_may_be_updated_without_a_checkpoint_and_unloaded(modelet: ModeletAsyncStub) -> None:
    await modelet.UpdateLoaded(UpdateLoadedRequest(model_key=ALICE))
    update = UpdateLoadedRequest(model_key=ALICE, checkpoint_path="other")
    assert await refusal(modelet.UpdateLoaded(update)) == (grpc.StatusCode.NOT_FOUND, f"Model {ALICE} not found.")
    await modelet.Unload(UnloadRequest(model_key=ALICE))


async def test_requests_outlive_the_unloading_of_their_model(
    server: ModelServer, modelet: ModeletAsyncStub, gate: Gate
) -> None:
    gate.loads.release()
    await modelet.Load(load())
    async with lm_at(server) as lm:
        generating = asyncio.ensure_future(_await(lm.Generate(GenerateRequest(model_key=ALICE))))
        await until(lambda: gate.begun == 1)
        await modelet.Unload(UnloadRequest(model_key=ALICE))
        assert await status(modelet) == []
        assert (await refusal(lm.Generate(GenerateRequest(model_key=ALICE))))[0] is grpc.StatusCode.NOT_FOUND
        gate.steps.release(3)
        await generating


async def _await(call: Awaitable[object]) -> object:
    return await call


async def test_what_the_server_cannot_do(modelet: ModeletAsyncStub) -> None:
    assert (await refusal(modelet.Export(ExportRequest(model_key=ALICE))))[0] is grpc.StatusCode.UNIMPLEMENTED
    code, text = await refusal(modelet.Save(SaveRequest(model_key=ALICE)))
    assert (code, text) == (grpc.StatusCode.INTERNAL, f"Saving checkpoint error: {ALICE} cannot be saved")
    assert await modelet.WakeUp(WakeUpRequest()) == WakeUpResponse()


def test_stats_are_those_of_the_past_minute() -> None:
    now_s = 1000.0
    stats = MethodStats("lm.score", clock=lambda: now_s)
    empty = stats.report()
    assert (empty.method, empty.successes_per_second, empty.errors_per_second) == ("lm.score", 0, 0)
    assert not empty.HasField("mean_latency_on_success_per_second")
    for latency_s in (0.1, 0.2, 0.3, 1.0):
        stats.succeeded(latency_s)
        now_s += 0.5
    stats.failed()
    report = stats.report()
    assert report.successes_per_second == pytest.approx(4 / 60)
    assert report.errors_per_second == pytest.approx(1 / 60)
    assert report.mean_latency_on_success_per_second == pytest.approx(0.4)
    assert report.p50_latency_on_success_per_second == pytest.approx(0.3)
    assert report.p99_latency_on_success_per_second == pytest.approx(1.0)
    now_s += 58
    assert stats.report().successes_per_second == pytest.approx(2 / 60)
    now_s += 3
    assert stats.report() == empty
