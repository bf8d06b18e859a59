"""The operations: check the request, call Sax, return the answer. Knows no transport.

Every method takes a request message and the call, and raises RpcError for a request that it refuses and SaxError for
what goes wrong with the cell; status.py says what callers see of the latter.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from saxgw.rpc.status import invalid_argument
from saxgw.sax import errors, names
from saxgw.service import extra_inputs
from saxgw.service.batch import side_by_side
from saxgw.service.waiting import wait_for_replicas
from saxgw.v1 import sax_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from saxgw.rpc.call import Call
    from saxgw.sax import ExtraInputs, SaxClient

T = TypeVar("T")

_HasExtraInputs: TypeAlias = (
    pb.GenerateRequest
    | pb.GenerateStreamRequest
    | pb.BatchGenerateRequest
    | pb.ScoreRequest
    | pb.BatchScoreRequest
    | pb.EmbedRequest
)


class SaxService:
    """The handlers of saxgw.v1.SaxService over a Sax client."""

    def __init__(self, sax: SaxClient) -> None:
        self._sax = sax

    async def publish(self, request: pb.PublishRequest, call: Call) -> pb.PublishResponse:
        model = _model(request.model)
        _check_definition(request)
        _check_replicas("wait_for_replicas", request.wait_for_replicas)
        await self._sax.publish(
            model, request.model_path, request.checkpoint, request.replicas, dict(request.overrides)
        )
        response = pb.PublishResponse(
            model=model, path=request.model_path, checkpoint=request.checkpoint, replicas=request.replicas
        )
        if request.HasField("wait_for_replicas"):
            response.active_replicas = await wait_for_replicas(self._sax, model, request.wait_for_replicas, call)
        return response

    async def update(self, request: pb.UpdateRequest, _: Call) -> pb.UpdateResponse:
        model = _model(request.model)
        _check_definition(request)
        await self._sax.update(
            model, request.model_path, request.checkpoint, request.replicas, dict(request.overrides) or None
        )
        return pb.UpdateResponse(
            model=model, model_path=request.model_path, checkpoint=request.checkpoint, replicas=request.replicas
        )

    async def unpublish(self, request: pb.UnpublishRequest, _: Call) -> pb.UnpublishResponse:
        model = _model(request.model)
        await self._sax.unpublish(model)
        return pb.UnpublishResponse(model=model)

    async def list_all(self, request: pb.ListAllRequest, call: Call) -> pb.ListAllResponse:
        cell = _checked("sax_cell", names.parse_cell, request.sax_cell)
        models = await self._sax.list_models(cell)
        return pb.ListAllResponse(models=filter(call.identity.may_use, models) if call.identity else models)

    async def list_cell(self, request: pb.ListCellRequest, _: Call) -> pb.ListCellResponse:
        model = _model(request.model)
        detail = await self._sax.describe(model)
        response = pb.ListCellResponse(
            model=detail.model,
            model_path=detail.model_path,
            checkpoint=detail.checkpoint,
            max_replicas=detail.max_replicas,
            active_replicas=detail.active_replicas,
        )
        if request.details:
            response.details.MergeFrom(pb.ListCellResponse.Details(overrides=detail.overrides, methods=detail.methods))
        return response

    async def generate(self, request: pb.GenerateRequest, _: Call) -> pb.GenerateResponse:
        return await self._generate(_model(request.model), request.query, await _inputs(request))

    async def generate_stream(
        self, request: pb.GenerateStreamRequest, _: Call
    ) -> AsyncGenerator[pb.GenerateStreamResponse]:
        stream = self._sax.generate_stream(
            _model(request.model), request.query, await _inputs(request), increments=request.increments
        )
        async with aclosing(stream) as steps:
            async for items in steps:
                response = pb.GenerateStreamResponse()
                add = response.results.add  # in place; messages made beforehand would be copied
                for text, prefix_len, scores in items:
                    add(text=text, prefix_len=prefix_len, scores=scores)
                yield response

    async def batch_generate(self, request: pb.BatchGenerateRequest, _: Call) -> pb.BatchGenerateResponse:
        model, inputs = _model(request.model), await _inputs(request)
        outcomes = await side_by_side(
            "queries", request.queries, lambda query: self._generate(model, query, inputs), pb.GenerateOutcome
        )
        return pb.BatchGenerateResponse(outcomes=outcomes)

    async def score(self, request: pb.ScoreRequest, _: Call) -> pb.ScoreResponse:
        return await self._score(_model(request.model), request, await _inputs(request))

    async def batch_score(self, request: pb.BatchScoreRequest, _: Call) -> pb.BatchScoreResponse:
        model, inputs = _model(request.model), await _inputs(request)
        for at, query in enumerate(request.queries):
            if not query.suffixes:
                raise invalid_argument([(f"queries[{at}].suffixes", "is required but missing or empty")])
        outcomes = await side_by_side(
            "queries", request.queries, lambda query: self._score(model, query, inputs), pb.ScoreOutcome
        )
        return pb.BatchScoreResponse(outcomes=outcomes)

    async def embed(self, request: pb.EmbedRequest, _: Call) -> pb.EmbedResponse:
        embedding = await self._sax.embed(_model(request.model), request.text, await _inputs(request))
        return pb.EmbedResponse(embedding=embedding)

    async def wait_for_ready(self, request: pb.WaitForReadyRequest, call: Call) -> pb.WaitForReadyResponse:
        model = _model(request.model)
        replicas = request.replicas if request.HasField("replicas") else 1
        _check_replicas("replicas", replicas)
        active = await wait_for_replicas(self._sax, model, replicas, call, or_fail=True)
        return pb.WaitForReadyResponse(model=model, active_replicas=active)

    async def stats(self, request: pb.StatsRequest, _: Call) -> pb.StatsResponse:
        _checked("name", names.parse_cell_or_model, request.name)
        stats = await self._sax.stats(request.name)
        return pb.StatsResponse(
            servers=[
                pb.StatsResponse.Servers(chip_type=kind.chip_type, chip_topology=kind.chip_topology, count=count)
                for kind, count in stats.by_type.items()
            ],
            servers_by_model_path=stats.by_model_path,
        )

    async def list_cells(self, _: pb.ListCellsRequest, call: Call) -> pb.ListCellsResponse:
        cells = await self._sax.list_cells()
        return pb.ListCellsResponse(cells=filter(call.identity.may_see, cells) if call.identity else cells)

    async def _generate(self, model: str, query: str, inputs: ExtraInputs | None) -> pb.GenerateResponse:
        samples = await self._sax.generate(model, query, inputs)
        response = pb.GenerateResponse()
        add = response.results.add  # as above
        for text, score in samples:
            add(text=text, score=score)
        return response

    async def _score(
        self, model: str, query: pb.ScoreRequest | pb.BatchScoreRequest.Query, inputs: ExtraInputs | None
    ) -> pb.ScoreResponse:
        return pb.ScoreResponse(scores=await self._sax.score(model, query.prefix, query.suffixes, inputs))


async def _inputs(request: _HasExtraInputs) -> ExtraInputs | None:
    return await extra_inputs.to_sax(request.extra_inputs) if request.HasField("extra_inputs") else None


def _model(name: str) -> str:
    return _checked("model", names.parse_model, name)


def _checked(field: str, check: Callable[[str], T], value: str) -> T:
    try:
        return check(value)
    except errors.InvalidName as error:
        raise invalid_argument([(field, str(error))]) from error


def _check_definition(request: pb.PublishRequest | pb.UpdateRequest) -> None:
    _checked("model_path", names.check_model_path, request.model_path)
    _checked("checkpoint", names.check_checkpoint, request.checkpoint)
    _check_replicas("replicas", request.replicas)


def _check_replicas(field: str, replicas: int) -> None:
    if replicas < 0:
        raise invalid_argument([(field, f"must be 0 or more, got {replicas}")])
