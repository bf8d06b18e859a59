"""Whether the cell is ready, and each of its models: what health (saxgw/rpc/health.py) looks at."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from saxgw.rpc.condition import READY, Condition, Look, Readiness
from saxgw.sax import SaxError, errors
from saxgw.service.status import status_of

if TYPE_CHECKING:
    from saxgw.rpc.call import Call
    from saxgw.sax import SaxClient

_OUT_OF_REACH = (errors.RootUnavailable, errors.CellNotFound, errors.AdminUnavailable)


def readiness_of(sax: SaxClient) -> Look:
    """Looks at cells and models.

    The server itself is ready if the admin of one of its cells answers: if several are served, one that is broken is no
    reason to keep callers from the others. A model is ready if one model server has it loaded.
    """

    async def look(model: str) -> Condition:
        return await (_look_at_model(sax, model) if model else _look_at_cells(sax))

    return look


def model_of(call: Call) -> str:
    """The model that a call was about; empty if it was about none."""
    return str(getattr(call.request, "model", ""))


def canonical(model: str) -> str:
    """A model's name with its leading slash."""
    return model if not model or model.startswith("/") else f"/{model}"


async def _look_at_cells(sax: SaxClient) -> Condition:
    try:
        cells = await sax.list_cells()
    except SaxError as error:
        return _not_ready(error)
    if not cells:
        return Condition(Readiness.NOT_READY, "there is no cell under SAX_ROOT")
    looks = [asyncio.ensure_future(_look_at_cell(sax, cell)) for cell in cells]
    try:
        for look in asyncio.as_completed(looks):
            if (condition := await look) == READY:
                return READY
        return condition
    finally:
        for running in looks:
            running.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def _look_at_cell(sax: SaxClient, cell: str) -> Condition:
    try:
        await sax.stats(cell)
    except _OUT_OF_REACH as error:
        return _not_ready(error)
    except SaxError:
        pass  # an admin that answers with another error answers
    return READY


async def _look_at_model(sax: SaxClient, model: str) -> Condition:
    try:
        detail = await sax.describe(model)
    except (errors.InvalidName, errors.ModelNotFound, errors.CellNotFound) as error:
        return Condition(Readiness.UNKNOWN, status_of(error).message)
    except SaxError as error:
        return _not_ready(error)
    if not detail.active_replicas:
        reason = f"no model server has {model} loaded; {detail.max_replicas} shall have it"
        return Condition(Readiness.NOT_READY, reason)
    return READY


def _not_ready(error: SaxError) -> Condition:
    return Condition(Readiness.NOT_READY, status_of(error).message)
