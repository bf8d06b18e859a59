"""The data methods of a model server: checks, limits, streams, and callers that go away (Sax protocol §5.6, §5.7)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from importlib.resources import files
from math import hypot
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest
import pytest_asyncio

from saxgw.devcell import ExtraInput, ModelServer
from saxgw.sax.wire.common_pb2 import ExtraInputs, Tensor
from saxgw.sax.wire.lm_pb2 import (
    EmbedRequest,
    GenerateRequest,
    GenerateStreamResponse,
    GradientRequest,
    ScoreRequest,
)
from saxgw.sax.wire.modelet_pb2 import GetStatusRequest, GetStatusResponse, LoadRequest
from tests.devcell.harness import GATED, NGRAM, QUICK, TIMEOUT_S, Gate, Gated, gated, lm_at, modelet_at, refusal, until

ALICE, BOB = "/sax/test/alice", "/sax/test/bob"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
BUSY = f"Too many requests: MethodKey(name='lm.generate', service_id='lm', model_key='{BOB}') 1"


@pytest_asyncio.fixture
async def server(tmp_path: Path, gate: Gate) -> AsyncIterator[ModelServer]:
    """A model server with two models: alice is the built-in one; the gate holds bob, who takes one request."""
    gate.loads.release()
    async with ModelServer(tmp_path, models=gated(gate), timing=QUICK) as server, modelet_at(server) as modelet:
        (tmp_path / "alice.txt").write_text(files("saxgw.devcell.models").joinpath("corpus.txt").read_text()[:20_000])
        checkpoint = str(tmp_path / "alice.txt")
        await modelet.Load(LoadRequest(model_key=ALICE, model_path=NGRAM, checkpoint_path=checkpoint))
        limits = {"BATCH_SIZE": "1", "MAX_LIVE_BATCHES": "1"}
        await modelet.Load(LoadRequest(model_key=BOB, model_path=GATED, checkpoint_path="None", overrides=limits))
        yield server
        gate.open()


async def stats_of(server: ModelServer, method: str, model_key: str = BOB) -> GetStatusResponse.MethodStats:
    async with modelet_at(server) as modelet:
        models = (await modelet.GetStatus(GetStatusRequest(include_method_stats=True))).models
    (found,) = (model for model in models if model.model_key == model_key)
    (stats,) = (stats for stats in found.method_stats if stats.method == method)
    return stats


async def test_a_model_that_is_not_here_is_not_found(server: ModelServer) -> None:
    text = f"/sax/test/eve is still loading or already unloaded. Available models: {ALICE}, {BOB}"
    expected = (grpc.StatusCode.NOT_FOUND, text)
    async with lm_at(server) as lm:
        key = "/sax/test/eve"
        assert await refusal(lm.Generate(GenerateRequest(model_key=key))) == expected
        assert await refusal(lm.Score(ScoreRequest(model_key=key))) == expected
        assert await refusal(lm.Embed(EmbedRequest(model_key=key))) == expected
        assert await refusal(lm.Gradient(GradientRequest(model_key=key))) == expected
        with pytest.raises(grpc.aio.AioRpcError, match="Available models"):
            await lm.GenerateStream(GenerateRequest(model_key=key)).read()


async def test_a_method_that_a_model_lacks_is_refused_before_its_extra_inputs(server: ModelServer) -> None:
    wrong = ExtraInputs(items={"nonsense": 1})
    async with lm_at(server) as lm:
        embed = lm.Embed(EmbedRequest(model_key=BOB, extra_inputs=wrong))
        assert await refusal(embed) == (INVALID, f"{BOB} does not support lm.embed")
        gradient = lm.Gradient(GradientRequest(model_key=ALICE, extra_inputs=wrong))
        assert await refusal(gradient) == (INVALID, f"{ALICE} does not support lm.gradient")


NOT_DEFINED = (
    "The extra_inputs key `nonsense` in the RPC request is not defined in ServableModel.extra_inputs. "
    "Current ServableModel.extra_inputs is {'steps': 3.0, 'style': 'plain', 'weights': [0.5, 0.5]}."
)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            ExtraInputs(items={"nonsense": 1}),
            NOT_DEFINED,
        ),
        (
            ExtraInputs(strings={"nonsense": "1"}),
            NOT_DEFINED,
        ),
        (
            ExtraInputs(items={"steps": 1}, strings={"steps": "1"}),
            "The extra_inputs key `steps` is in strings and in another field of the RPC request.",
        ),
        (
            ExtraInputs(items={"weights": 1}, tensors={"weights": Tensor(values=[1, 2])}),
            "The extra_inputs key `weights` is in tensors and in another field of the RPC request.",
        ),
        (
            ExtraInputs(tensors={"weights": Tensor(values=[1])}),
            "The extra_inputs key `weights` has 1 values in the RPC request, but must have 2.",
        ),
        (
            ExtraInputs(tensors={"steps": Tensor(values=[1])}),
            "The extra_inputs key `steps` is a tensor in the RPC request, but its default is 3.0.",
        ),
    ],
)
async def test_extra_inputs_that_the_model_does_not_take(server: ModelServer, inputs: ExtraInputs, text: str) -> None:
    async with lm_at(server) as lm:
        assert await refusal(lm.Generate(GenerateRequest(model_key=BOB, extra_inputs=inputs))) == (INVALID, text)
        assert await refusal(lm.Score(ScoreRequest(model_key=BOB, extra_inputs=inputs))) == (INVALID, text)


async def test_extra_inputs_that_the_model_takes(server: ModelServer, gate: Gate) -> None:
    gate.steps.release(5)
    inputs = ExtraInputs(items={"steps": 2}, strings={"style": "odd"}, tensors={"weights": Tensor(values=[1, 2])})
    async with lm_at(server) as lm:
        assert (await lm.Generate(GenerateRequest(model_key=BOB, extra_inputs=inputs))).texts[0].text == "0 1 "
        assert (await lm.Generate(GenerateRequest(model_key=BOB))).texts[0].text == "0 1 2 "


async def test_what_the_model_refuses_is_invalid_and_what_it_cannot_do_is_internal(
    server: ModelServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with lm_at(server) as lm:
        refused = lm.Generate(GenerateRequest(model_key=BOB, text="refuse"))
        assert await refusal(refused) == (INVALID, "the prompt is refused")
        failed = lm.Generate(GenerateRequest(model_key=BOB, text="fail"))
        assert await refusal(failed) == (grpc.StatusCode.INTERNAL, f"lm.generate of {BOB} failed")
        stream = lm.GenerateStream(GenerateRequest(model_key=BOB, text="fail"))
        with pytest.raises(grpc.aio.AioRpcError, match=f"lm.generate_stream of {BOB} failed"):
            await stream.read()
    assert (await stats_of(server, "lm.generate")).errors_per_second == pytest.approx(2 / 60)
    assert f"lm.generate of {BOB} failed with RuntimeError" in caplog.text
    assert "secret" not in caplog.text.replace('raise RuntimeError("the prompt is a secret")', "")


async def test_requests_beyond_the_limit_of_a_method_are_refused(server: ModelServer, gate: Gate) -> None:
    async with lm_at(server) as lm:
        request = GenerateRequest(model_key=BOB)
        running = asyncio.ensure_future(_unary(lm.Generate(request)))
        await until(lambda: gate.begun == 1)
        assert await refusal(lm.Generate(request)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY)
        # A refusal for what the request says comes first; other methods and models have limits of their own.
        wrong = GenerateRequest(model_key=BOB, extra_inputs=ExtraInputs(items={"nonsense": 1}))
        assert (await refusal(lm.Generate(wrong)))[0] is INVALID
        assert (await lm.Score(ScoreRequest(model_key=BOB))).logp == [-1.0]
        assert len((await lm.Generate(GenerateRequest(model_key=ALICE))).texts) == 4
        gate.steps.release(6)
        await running
        await lm.Generate(request)


@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize("way", ["cancel", "deadline"])
async def test_a_caller_that_goes_away_gives_its_slot_back(
    server: ModelServer, gate: Gate, way: str, *, streaming: bool
) -> None:
    """Five callers leave, and each had the only slot.

    One whose deadline passes before the model has begun, on a busy machine, does not count; the next has more time.
    """
    request = GenerateRequest(model_key=BOB)
    probe = GenerateRequest(model_key=BOB, text="refuse")
    async with lm_at(server) as lm:
        method: Callable[..., grpc.aio.Call] = lm.GenerateStream if streaming else lm.Generate

        async def free() -> bool:
            return (await refusal(_first(method(probe))))[0] is INVALID

        def begun_or_over(before: int, reading: asyncio.Future[object]) -> bool:
            return gate.begun > before or reading.done()

        turns, patience_s = 0, 0.3
        while turns < 5:
            before = gate.begun
            call = method(request, timeout=patience_s if way == "deadline" else None)
            # A call is under way only when somebody waits for it.
            reading = asyncio.ensure_future(_first(call))
            await until(partial(begun_or_over, before, reading))
            if way == "cancel":
                call.cancel()
            with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
                await reading
            # The slot is free when the probe is refused for what it says, though the step is not over.
            await until(free)
            if gate.begun == before:
                patience_s *= 2
                assert patience_s < TIMEOUT_S
                continue
            turns += 1
            assert gate.ended < gate.begun
            gate.steps.release(gate.begun - gate.ended)
            await until(lambda: gate.ended == gate.begun)
        gate.open()
        await lm.Generate(request)


async def _first(call: Any) -> object:
    return await (call.read() if hasattr(call, "read") else call)


async def _unary(call: Awaitable[object]) -> object:
    return await call


async def test_a_request_that_waits_for_a_thread_can_be_cancelled(tmp_path: Path, gate: Gate) -> None:
    gate.loads.release()
    async with ModelServer(tmp_path, models=gated(gate), timing=QUICK) as server, lm_at(server) as lm:
        async with modelet_at(server) as modelet:
            await modelet.Load(LoadRequest(model_key=BOB, model_path=GATED, checkpoint_path="None"))
        request = GenerateRequest(model_key=BOB)
        calls = [asyncio.ensure_future(_unary(lm.Generate(request))) for _ in range(20)]
        await until(lambda: gate.begun == 4)
        for call in calls[10:]:
            call.cancel()
        gate.steps.release(3 * 20)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 10
        assert gate.begun >= 10
        gate.open()


async def test_scores(server: ModelServer) -> None:
    async with lm_at(server) as lm:
        request = GenerateRequest(model_key=ALICE, text="Alice was ")
        texts = (await lm.Generate(request)).texts
        scores = [decoded.score for decoded in texts]
        assert scores == sorted(scores, reverse=True)
        suffixes = [decoded.text for decoded in texts]
        logp = (await lm.Score(ScoreRequest(model_key=ALICE, prefix="Alice was ", suffix=suffixes))).logp
        assert logp == pytest.approx(scores)
        assert (await lm.Score(ScoreRequest(model_key=ALICE, prefix="Alice was "))).logp == [0]


async def test_embeddings(server: ModelServer) -> None:
    async with lm_at(server) as lm:
        vector = (await lm.Embed(EmbedRequest(model_key=ALICE, text="The White Rabbit"))).embedding
        assert hypot(*vector) == pytest.approx(1)
        nothing = lm.Embed(EmbedRequest(model_key=ALICE, text=" "))
        assert await refusal(nothing) == (INVALID, "there is no text to embed")
        unknown = EmbedRequest(model_key=ALICE, text="x", extra_inputs=ExtraInputs(items={"nonsense": 1}))
        code, text = await refusal(lm.Embed(unknown))
        assert code is INVALID
        assert str(text).startswith("The extra_inputs key `nonsense` in the RPC request is not defined")
        wrong = EmbedRequest(model_key=ALICE, text="x", extra_inputs=ExtraInputs(items={"temperature": -1}))
        assert await refusal(lm.Embed(wrong)) == (INVALID, "temperature must be at least 0, got -1")
    stats = await stats_of(server, "lm.embed", ALICE)
    assert stats.successes_per_second == pytest.approx(1 / 60)
    assert stats.errors_per_second == pytest.approx(3 / 60)


class GatedEmbedder(Gated):
    """Embeds a text when the test's gate lets it."""

    methods: ClassVar[frozenset[str]] = Gated.methods | {"lm.embed"}

    def embed(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> list[float]:  # noqa: ARG002 (all are alike)
        with self.gate.lock:
            self.gate.begun += 1
        assert self.gate.steps.acquire(timeout=TIMEOUT_S)
        return [1.0]


async def test_embedding_has_a_limit_of_its_own(tmp_path: Path, gate: Gate) -> None:
    gate.loads.release()
    models = {GATED: type("GatedEmbedder", (GatedEmbedder,), {"gate": gate})}
    async with ModelServer(tmp_path, models=models, timing=QUICK) as server, lm_at(server) as lm:
        async with modelet_at(server) as modelet:
            limits = {"BATCH_SIZE": "1", "MAX_LIVE_BATCHES": "1"}
            await modelet.Load(LoadRequest(model_key=BOB, model_path=GATED, checkpoint_path="None", overrides=limits))
        request = EmbedRequest(model_key=BOB, text="The Queen of Hearts")
        running = asyncio.ensure_future(_unary(lm.Embed(request)))
        await until(lambda: gate.begun == 1)
        busy = BUSY.replace("lm.generate", "lm.embed")
        assert await refusal(lm.Embed(request)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, busy)
        gate.steps.release(3 + 2)
        assert len((await lm.Generate(GenerateRequest(model_key=BOB))).texts) == 1
        await running
        assert (await lm.Embed(request)).embedding == [1.0]


@pytest.mark.parametrize("text", ["Alice was", "Q: Who is Harry Potter's mom? A: ", "日本 🐇 said"])
async def test_a_stream_joined_is_what_generate_returns(server: ModelServer, text: str) -> None:
    async with lm_at(server) as lm:
        inputs = ExtraInputs(items={"temperature": 1.5, "per_example_max_decode_steps": 20})
        request = GenerateRequest(model_key=ALICE, text=text, extra_inputs=inputs)
        samples = [("", 0.0)] * 4
        async for response in lm.GenerateStream(request):
            for number, item in enumerate(response.items):
                joined, score = samples[number]
                assert item.prefix_len == len(joined)
                assert not item.score
                samples[number] = (joined[: item.prefix_len] + item.text, score + sum(item.scores))
        expected = (await lm.Generate(request)).texts
        samples.sort(key=lambda sample: -sample[1])
        assert [text for text, _ in samples] == [decoded.text for decoded in expected]
        assert [score for _, score in samples] == pytest.approx([decoded.score for decoded in expected])


async def test_prefix_len_counts_code_points(tmp_path: Path, gate: Gate) -> None:
    models = gated(gate, ["hé", "llo", "🐇", "日本", "!"].__getitem__)
    gate.open()
    async with ModelServer(tmp_path, models=models, timing=QUICK) as server, lm_at(server) as lm:
        async with modelet_at(server) as modelet:
            await modelet.Load(LoadRequest(model_key=BOB, model_path=GATED, checkpoint_path="None"))
        request = GenerateRequest(model_key=BOB, extra_inputs=ExtraInputs(items={"steps": 5}))
        items = [response.items[0] async for response in lm.GenerateStream(request)]
    assert [(item.prefix_len, item.text) for item in items] == [(0, "hé"), (2, "llo"), (5, "🐇"), (6, "日本"), (8, "!")]


async def test_a_stream_sends_each_step_when_it_is_made(server: ModelServer, gate: Gate) -> None:
    async with lm_at(server) as lm:
        stream = lm.GenerateStream(GenerateRequest(model_key=BOB))
        for step in range(3):
            gate.steps.release()
            response = await stream.read()
            assert isinstance(response, GenerateStreamResponse)
            assert response.items[0].text == f"{step} "
        assert await stream.read() is grpc.aio.EOF
    assert (await stats_of(server, "lm.generate_stream")).successes_per_second == pytest.approx(3 / 60)


async def test_a_slow_reader_slows_the_stream_down(tmp_path: Path, gate: Gate) -> None:
    made: list[int] = []

    def text(step: int) -> str:
        made.append(step)
        return "x" * 100_000

    gate.open()
    async with ModelServer(tmp_path, models=gated(gate, text), timing=QUICK) as server, lm_at(server) as lm:
        async with modelet_at(server) as modelet:
            await modelet.Load(LoadRequest(model_key=BOB, model_path=GATED, checkpoint_path="None"))
        stream = lm.GenerateStream(GenerateRequest(model_key=BOB, extra_inputs=ExtraInputs(items={"steps": 500})))
        await stream.read()
        # Nothing is read, and other calls are answered: what fills the connection's windows is made, and no more.
        for _ in range(50):
            await lm.Score(ScoreRequest(model_key=BOB))
        assert len(made) < 200
        stream.cancel()


async def test_a_request_of_more_than_4_mib_is_refused(server: ModelServer) -> None:
    async with lm_at(server) as lm:
        code, text = await refusal(lm.Generate(GenerateRequest(model_key=ALICE, text="x" * (4 * 1024 * 1024))))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert text
    assert "eceived message larger than max" in text


async def test_many_requests_at_once(server: ModelServer) -> None:
    """As many as are admitted succeed, and the others are refused; none is lost or shed in another way."""
    async with lm_at(server) as lm:
        request = GenerateRequest(model_key=ALICE, extra_inputs=ExtraInputs(items={"per_example_max_decode_steps": 2}))
        calls = (_unary(lm.Generate(request)) for _ in range(1100))
        results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert len(results) - len(refused) >= 64
