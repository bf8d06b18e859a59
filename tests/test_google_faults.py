"""A cell of Google's behind the gateway: its errors, which have lost their codes, and what its admin forgets."""

from __future__ import annotations

from typing import Any

import pytest

from saxgw.devcell import Timing
from tests.callers import CallError, active_replicas
from tests.conftest import DOORS, definition
from tests.devcell.harness import NGRAM, until
from tests.faulty_cell import CELL, MODEL, REQUEST, bare_cell, cell_behind, steady_load

OTHER = "/sax/test/other"
BY_HAND = Timing(poll_s=0.05, prune_after_s=3600, connect_back_s=60, join_s=3600, location_s=0.02, tick_s=3600)
"""Ticks come when the test says so, and nobody joins again of their own accord."""

PUBLISHED = definition(MODEL, model_path=NGRAM, replicas=2)


@pytest.mark.parametrize("door", DOORS[:2])
async def test_errors_are_what_they_were_meant_to_be(door: str) -> None:
    """All are UNKNOWN on the wire; callers are told what the words say."""
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("Publish", PUBLISHED, "ALREADY_EXISTS MODEL_EXISTS"),
        ("Update", {**PUBLISHED, "model_path": "a.B"}, "INVALID_ARGUMENT REFUSED_BY_CELL"),
        ("Update", definition(OTHER), "NOT_FOUND MODEL_NOT_FOUND"),
        ("Unpublish", {"model": OTHER}, "NOT_FOUND MODEL_NOT_FOUND"),
        ("ListCell", {"model": OTHER}, "NOT_FOUND MODEL_NOT_FOUND"),
        ("Stats", {"name": OTHER}, "NOT_FOUND MODEL_NOT_FOUND"),
        ("WaitForReady", {"model": OTHER}, "NOT_FOUND MODEL_NOT_FOUND"),
        ("Generate", {**REQUEST, "model": OTHER}, "NOT_FOUND MODEL_NOT_FOUND"),
        ("GenerateStream", {**REQUEST, "model": OTHER}, "NOT_FOUND MODEL_NOT_FOUND"),
    ]
    async with cell_behind(google=True) as cell:
        call = cell.callers[door]
        for method, request, expected in refused:
            with pytest.raises(CallError) as caught:
                await call(method, request)
            assert f"{caught.value.code} {caught.value.reason}" == expected, method


@pytest.mark.parametrize("door", DOORS[:2])
async def test_a_name_may_be_published_again_at_once(door: str) -> None:
    """The admin frees it at its next tick, and the gateway waits for that."""
    async with cell_behind(google=True) as cell:
        call = cell.callers[door]
        await call("Unpublish", {"model": MODEL})
        await call("Publish", PUBLISHED)
        assert (await call("Generate", REQUEST))["results"]


async def test_what_has_changed_since_the_last_tick_dies_with_the_admin() -> None:
    """Callers are told what is, and those of a model that was there before do not notice."""
    async with bare_cell(google=True, timing=BY_HAND) as cell:
        first, second = cell.callers.values()
        await first("Publish", PUBLISHED)
        cell.admin.tick()
        await active_replicas(first, MODEL, 2)
        async with steady_load(cell) as load:
            await first("Publish", definition(OTHER))
            await second("Update", {**PUBLISHED, "replicas": 3})
            await cell.admin.faults.restart()
            await load.progress()
        for call in (first, second):
            assert (await call("ListAll", CELL))["models"] == [MODEL]
            assert (await call("ListCell", {"model": MODEL}))["max_replicas"] == 2
            with pytest.raises(CallError) as caught:
                await call("Generate", {**REQUEST, "model": OTHER})
            assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")


async def test_what_was_unpublished_since_the_last_tick_comes_back_with_the_admin() -> None:
    """The model servers have it still, and it is served again."""
    async with bare_cell(google=True, timing=BY_HAND) as cell:
        first, second = cell.callers.values()
        await first("Publish", PUBLISHED)
        cell.admin.tick()
        assert (await second("Generate", REQUEST))["results"]
        await first("Unpublish", {"model": MODEL})
        with pytest.raises(CallError) as caught:
            await second("Generate", REQUEST)
        assert (caught.value.code, caught.value.reason) == ("NOT_FOUND", "MODEL_NOT_FOUND")
        await cell.admin.faults.restart(port=0)

        async def adopted() -> bool:
            cell.admin.tick()
            return bool((await first("ListCell", {"model": MODEL}))["active_replicas"] == 2)

        await until(adopted)
        for call in (first, second):
            assert (await call("Generate", REQUEST))["results"]
