"""The models of a model server: loading them, unloading them, and telling how they are (Sax protocol §5.3–5.5)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import grpc

from saxgw.compute import Compute
from saxgw.devcell import overrides
from saxgw.devcell.admission import Admission
from saxgw.devcell.background import Background
from saxgw.devcell.errors import INVALID_ARGUMENT, NOT_FOUND, Refusal
from saxgw.devcell.method_stats import MethodStats
from saxgw.sax.wire.common_pb2 import FAILED, LOADED, LOADING, ModelStatus
from saxgw.sax.wire.modelet_pb2 import GetStatusResponse, LoadRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saxgw.devcell.language_model import LanguageModel
    from saxgw.devcell.pace import Pace

_log = logging.getLogger("saxgw.devcell")

_MOST_LOADS: Final = 4
"""Loads that may run or wait at a time."""


@dataclass
class Method:
    """A data method of a loaded model."""

    admission: Admission
    stats: MethodStats


@dataclass
class Loaded:
    """A model that is ready for requests. One that is unloaded meanwhile ends the requests it has."""

    model: LanguageModel
    methods: Mapping[str, Method]


@dataclass
class _Entry:
    """A model that the server was told to load."""

    request: LoadRequest
    status: ModelStatus.ValueType = LOADING
    failure_reason: str = ""
    loaded: Loaded | None = None


class LoadedModels:
    """What one model server has loaded.

    Args:
        models: Model classes by model path.
        pace: How fast they work.
        google: Whether updating and unloading are done as Google's model servers do it.
    """

    def __init__(self, models: Mapping[str, type[LanguageModel]], pace: Pace, *, google: bool = False) -> None:
        self._google = google
        self._classes = models
        self._pace = pace
        self._entries: dict[str, _Entry] = {}
        self._compute = Compute(1, "saxgw-devcell-load")
        self._background = Background()
        # One change at a time, as in Sax: what comes while a model loads waits for it.
        self._turn = asyncio.Lock()

    async def close(self) -> None:
        """Drops all models; a load that runs is waited for."""
        await self._background.cancel()
        await self._compute.close()

    def get(self, model_key: str) -> Loaded:
        """Returns a model that is ready for requests; refuses any other."""
        entry = self._entries.get(model_key)
        if entry is None or entry.loaded is None:
            available = ", ".join(key for key, other in self._entries.items() if other.loaded)
            text = f"{model_key} is still loading or already unloaded. Available models: {available}"
            raise Refusal(NOT_FOUND, text)
        return entry.loaded

    async def load(self, request: LoadRequest) -> None:
        """Loads a model and returns when it is loaded; refuses if that fails. One that is there is left alone."""
        _check_key(request.model_key)
        if request.model_key in self._entries:
            return
        if sum(entry.status == LOADING for entry in self._entries.values()) >= _MOST_LOADS:
            raise Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Too many requests: load {_MOST_LOADS}")
        entry = self._entries[request.model_key] = _Entry(request)
        await self._load_in_turn(entry)

    async def update(self, model_key: str, checkpoint_path: str, acls: Mapping[str, str]) -> None:
        """Replaces access lists, and loads the model again if the checkpoint is given and another one.

        Google's loads it again in any case, and answers OK even if that fails; the latter is so here too.
        """
        _check_key(model_key)
        entry = self._entries.get(model_key)
        if checkpoint_path:
            if entry is None or entry.loaded is None:
                raise Refusal(NOT_FOUND, f"Model {model_key} not found.")
            entry.request.acls.items.clear()
        if entry is None:
            return
        entry.request.acls.items.update(acls)
        if checkpoint_path and (self._google or checkpoint_path != entry.request.checkpoint_path):
            entry.request.checkpoint_path = checkpoint_path
            entry.loaded = None
            entry.status = LOADING
            try:
                await self._load_in_turn(entry)
            except Refusal as refusal:
                _log.warning("update of %s failed: %s", model_key, refusal.text)

    async def unload(self, model_key: str) -> None:
        """Unloads a model, after a load of it that runs. The requests that it has go on to their end.

        A model that is not here is as good as unloaded. Google's refuses that, and its admin then believes for ever
        that the model is still here (Sax protocol §4.8).
        """
        _check_key(model_key)
        if self._google and model_key not in self._entries:
            raise Refusal(INVALID_ARGUMENT, f"{model_key} not found, cannot unload.")
        async with self._turn:
            self._entries.pop(model_key, None)

    def status(self, *, failure_reasons: bool, method_stats: bool) -> list[GetStatusResponse.ModelWithStatus]:
        """Returns the status of each model, with more about it if asked."""
        return [
            GetStatusResponse.ModelWithStatus(
                model_key=model_key,
                model_status=entry.status,
                failure_reason=entry.failure_reason if failure_reasons else "",
                method_stats=[method.stats.report() for method in entry.loaded.methods.values()]
                if method_stats and entry.loaded
                else [],
            )
            for model_key, entry in self._entries.items()
        ]

    async def _load_in_turn(self, entry: _Entry) -> None:
        # In a task of its own: a load goes on although the admin that asked for it goes away.
        name = f"load of {entry.request.model_key}"
        if refusal := await asyncio.shield(self._background.start(self._load(entry), name)):
            raise refusal

    async def _load(self, entry: _Entry) -> Refusal | None:
        request = entry.request
        async with self._turn:
            try:
                model = await self._compute.run(lambda: self._make(request))
            except Exception as error:  # noqa: BLE001 (a model class may raise anything: a failed load)
                invalid = isinstance(error, ValueError)
                refusal = (
                    Refusal(INVALID_ARGUMENT, str(error))
                    if invalid
                    else Refusal(grpc.StatusCode.INTERNAL, f"Loading error: {error}")
                )
                _log.warning("load of %s failed: %s", request.model_key, error, exc_info=None if invalid else error)
                entry.status = FAILED
                entry.failure_reason = refusal.text
                return refusal
            entry.loaded = Loaded(*model)
            entry.status = LOADED
            entry.failure_reason = ""
        return None

    def _make(self, request: LoadRequest) -> tuple[LanguageModel, Mapping[str, Method]]:
        """Makes a model; runs in a thread."""
        if request.model_path not in self._classes:
            raise ValueError(f"Model path {request.model_path} is not registered on this server.")
        model_class = self._classes[request.model_path]
        settings = overrides.apply(request.overrides, model_class.settings_class)
        limit = max(1, settings.BATCH_SIZE * settings.MAX_LIVE_BATCHES)
        return model_class.load(request.checkpoint_path, settings), {
            method: Method(Admission(request.model_key, method, limit, self._pace), MethodStats(method))
            for method in sorted(model_class.methods)
        }


def _check_key(model_key: str) -> None:
    # Google's server hangs on an empty key to load (Sax protocol §5.3); to the others it answers this.
    if not model_key:
        raise Refusal(INVALID_ARGUMENT, "model_key is not specified.")
