"""The RPCs of sax.server.lm.LMService: checks in Sax's order, then the model's work in threads (Sax protocol §5.6)."""
# ruff: noqa: N802 (the methods have the names of the RPCs)

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from saxgw.devcell import extra_inputs
from saxgw.devcell.errors import INVALID_ARGUMENT, Context, Refusal, sends_refusals
from saxgw.sax.wire import lm_pb2
from saxgw.sax.wire.lm_pb2_grpc import LMServiceServicer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

    from saxgw.compute import Compute
    from saxgw.devcell.language_model import ExtraInput, LanguageModel, Piece
    from saxgw.devcell.loaded import LoadedModels, Method
    from saxgw.sax.wire.common_pb2 import ExtraInputs

_log = logging.getLogger("saxgw.devcell")


@dataclass(slots=True)
class _Sample:
    """One sample, as far as it is generated."""

    text: str = ""
    score: float = 0.0

    def add(self, piece: Piece) -> None:
        self.text = self.text[: piece.prefix_len] + piece.text
        self.score += piece.score


@dataclass(slots=True)
class _Admitted:
    """A request that passed all checks and holds a slot."""

    model: LanguageModel
    method: Method
    inputs: Mapping[str, ExtraInput]
    left: threading.Event = field(default_factory=threading.Event)
    """Set when nobody waits for the answer any longer."""


class LMService(LMServiceServicer):
    """The service of one model server.

    Args:
        models: The models that requests may name.
        compute: Threads for the models' work.
    """

    def __init__(self, models: LoadedModels, compute: Compute) -> None:
        self._models = models
        self._compute = compute

    @sends_refusals
    async def Score(self, request: lm_pb2.ScoreRequest, context: Context) -> lm_pb2.ScoreResponse:
        """Scores each suffix; without any, an empty one."""
        async with self._admitted(context, request.model_key, "lm.score", request.extra_inputs) as admitted:
            suffixes = list(request.suffix) or [""]
            began_s = time.monotonic()
            logp = await self._compute.run(lambda: admitted.model.score(request.prefix, suffixes, admitted.inputs))
            admitted.method.stats.succeeded(time.monotonic() - began_s)
            return lm_pb2.ScoreResponse(logp=logp)

    @sends_refusals
    async def Generate(self, request: lm_pb2.GenerateRequest, context: Context) -> lm_pb2.GenerateResponse:
        """Generates all samples, the best first."""
        async with self._admitted(context, request.model_key, "lm.generate", request.extra_inputs) as admitted:
            began_s = time.monotonic()
            samples = await self._generate(admitted, request.text)
            admitted.method.stats.succeeded(time.monotonic() - began_s)
            samples.sort(key=lambda sample: -sample.score)
            return lm_pb2.GenerateResponse(
                texts=[lm_pb2.DecodedText(text=sample.text, score=sample.score) for sample in samples]
            )

    async def GenerateStream(
        self, request: lm_pb2.GenerateRequest, context: Context
    ) -> AsyncIterator[lm_pb2.GenerateStreamResponse]:
        """Sends what each step does to each sample. The next step is made when the last one is on its way."""
        try:
            async with self._admitted(
                context, request.model_key, "lm.generate_stream", request.extra_inputs
            ) as admitted:
                began_s = time.monotonic()
                lengths: list[int] = []
                async with aclosing(self._steps(admitted, request.text)) as steps:
                    async for step in steps:
                        response = _stream_response(step, lengths or [0] * len(step))
                        yield response
                        lengths = [item.prefix_len + len(item.text) for item in response.items]
                        admitted.method.stats.succeeded(time.monotonic() - began_s)
                        began_s = time.monotonic()
        except Refusal as refusal:
            await refusal.send(context)

    @sends_refusals
    async def Embed(self, request: lm_pb2.EmbedRequest, context: Context) -> lm_pb2.EmbedResponse:
        """Embeds a text."""
        async with self._admitted(context, request.model_key, "lm.embed", request.extra_inputs) as admitted:
            began_s = time.monotonic()
            embedding = await self._compute.run(lambda: admitted.model.embed(request.text, admitted.inputs))
            admitted.method.stats.succeeded(time.monotonic() - began_s)
            return lm_pb2.EmbedResponse(embedding=embedding)

    @sends_refusals
    async def Gradient(self, request: lm_pb2.GradientRequest, _context: Context) -> lm_pb2.GradientResponse:
        """Refused: no model here has gradients."""
        self._models.get(request.model_key)
        raise Refusal(INVALID_ARGUMENT, f"{request.model_key} does not support lm.gradient")

    async def _generate(self, admitted: _Admitted, text: str) -> list[_Sample]:
        """Generates all samples; what is computed, in one go."""
        samples: list[_Sample] = []
        steps = await self._compute.run(lambda: admitted.model.generate(text, admitted.inputs))
        if isinstance(steps, AsyncGenerator):
            async with aclosing(steps):
                async for step in steps:
                    _add(step, samples)
        else:
            await self._compute.run(lambda: _add_all(steps, samples, admitted.left))
        return samples

    async def _steps(self, admitted: _Admitted, text: str) -> AsyncGenerator[Sequence[Piece], None]:
        """Makes each step when it is asked for."""
        steps = await self._compute.run(lambda: admitted.model.generate(text, admitted.inputs))
        if isinstance(steps, AsyncGenerator):
            async with aclosing(steps):
                async for step in steps:
                    yield step
        else:
            while (computed := await self._compute.run(lambda: next(steps, None))) is not None:
                yield computed

    @asynccontextmanager
    async def _admitted(
        self, context: Context, model_key: str, method_name: str, inputs: ExtraInputs
    ) -> AsyncIterator[_Admitted]:
        """Checks a request in Sax's order, holds a slot for it, and counts it unless its caller goes away."""
        loaded = self._models.get(model_key)
        method = loaded.methods.get(method_name)
        if method is None:
            raise Refusal(INVALID_ARGUMENT, f"{model_key} does not support {method_name}")
        try:
            values = extra_inputs.complete(inputs, loaded.model.extra_inputs)
            async with method.admission.slot(context):
                admitted = _Admitted(loaded.model, method, values)
                try:
                    yield admitted
                finally:
                    admitted.left.set()
        except Refusal:
            method.stats.failed()
            raise
        except ValueError as error:
            method.stats.failed()
            raise Refusal(INVALID_ARGUMENT, str(error)) from None
        except Exception as error:  # noqa: BLE001 (a model class may raise anything; the caller gets an answer)
            method.stats.failed()
            # Sax sends the traceback to the caller; it is of use to the one who reads the log. The error's own text
            # stays out of both, since it may quote the prompt.
            place = "".join(traceback.format_tb(error.__traceback__))
            _log.error("%s of %s failed with %s at\n%s", method_name, model_key, type(error).__name__, place)
            raise Refusal(grpc.StatusCode.INTERNAL, f"{method_name} of {model_key} failed") from None


def _add(step: Sequence[Piece], samples: list[_Sample]) -> None:
    """Adds a step to the samples; the first step tells how many there are."""
    if not samples:
        samples.extend(_Sample() for _ in step)
    for sample, piece in zip(samples, step, strict=True):
        sample.add(piece)


def _add_all(steps: Iterable[Sequence[Piece]], samples: list[_Sample], left: threading.Event) -> None:
    """Adds all steps, or what there is when the caller goes away; runs in a thread."""
    for step in steps:
        _add(step, samples)
        if left.is_set():
            break


def _stream_response(step: Sequence[Piece], lengths: Sequence[int]) -> lm_pb2.GenerateStreamResponse:
    """Returns the message for one step; `lengths` are those of the texts so far, in code points."""
    return lm_pb2.GenerateStreamResponse(
        items=[
            lm_pb2.GenerateStreamItem(
                text=piece.text,
                prefix_len=length if piece.prefix_len is None else min(piece.prefix_len, length),
                scores=[piece.score],
            )
            for piece, length in zip(step, lengths, strict=True)
        ]
    )
