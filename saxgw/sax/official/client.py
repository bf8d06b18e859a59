"""Google's client as a SaxClient."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from saxgw.sax.api import (
    ExtraInputs,
    ModelDetail,
    Sample,
    SaxClient,
    ServerStats,
    ServerType,
    StreamItem,
    warn_unclosed,
)
from saxgw.sax.backoff import pause_s
from saxgw.sax.definition import check_definition, check_replicas, refuse_other_overrides
from saxgw.sax.errors import AdminUnavailable
from saxgw.sax.increments import Increments
from saxgw.sax.names import cell_of, parse_cell, parse_cell_or_model, parse_model
from saxgw.sax.official.admin import Admins
from saxgw.sax.official.models import Models
from saxgw.sax.official.module import load
from saxgw.sax.root import Root
from saxgw.sax.samples import to_samples

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from saxgw.sax.official.module import SaxModule

_OVERHEAD_BYTES: Final = 1024
"""What a request may have beside its texts."""

_FIRST_LOOK_S: Final = 0.05
_LONGEST_LOOK_S: Final = 2.0
"""Pauses of wait_for_ready between two looks."""


def connect(  # noqa: PLR0913 -- all but the first have defaults, and are told apart by name
    root: str,
    *,
    admin_timeout_s: float = 10.0,
    call_timeout_s: float = 600.0,
    replica_wait_s: float = 10.0,
    threads: int = 64,
    waiting: int = 1000,
) -> OfficialClient:
    """Returns a client for the cells under `root` that has Google's module do the work. Nothing is contacted yet.

    Sets the environment variable SAX_ROOT, from which the module takes its root; there is one root in a process.

    Args:
        root: SAX_ROOT, a path or gs://bucket/path.
        admin_timeout_s: time limit of publish, update, unpublish, list_models, describe and stats, in seconds.
        call_timeout_s: time limit of generate, generate_stream, score and embed, in seconds. It goes to the model
            server, which may lose a slot for ever if it passes in its queue (Sax protocol §5.7), so it should be far
            above what an answer takes.
        replica_wait_s: how long these try to find a model server that can be reached and has room, in seconds. One
            that is still loading the model is waited for as long as `call_timeout_s`: that is the module's own doing.
        threads: how many calls to models run at a time.
        waiting: how many more may wait for a thread; what comes then is Busy.

    Raises:
        ModuleMissing: there is no official client in this Python.
        InvalidName: `root` cannot be its SAX_ROOT.
    """
    own = Root(root)
    module = load(root)
    admins = Admins(module, own, timeout_s=admin_timeout_s, waiting=waiting)
    models = Models(
        module, admins, timeout_s=call_timeout_s, replica_wait_s=replica_wait_s, threads=threads, waiting=waiting
    )
    return OfficialClient(module, own, admins, models)


class OfficialClient(SaxClient):
    """A SaxClient over Google's module `sax`. Made by connect().

    It does what SaxClient says, but for this:

    - Who leaves a call, by cancelling it, by closing its stream or by closing the client, is free at once. The call
      goes on in its thread until it has its answer or its time limit passes, and what it asked for may still be done.
      A call that waits for a thread is withdrawn.
    - The module repeats what an admin did not answer, writes too, until the time limit. So ModelExists may mean that
      this very call has published the model.
    - update() refuses models with access lists, because the module would erase them. It is several requests, and what
      others write in between is lost.
    - describe() counts in `active_replicas` the model servers that are assigned, loaded or not, and knows no `methods`;
      stats() knows no `by_model_path`. The module does not tell.
    - wait_for_ready() believes the admin, which goes on counting a model server that restarted without its models.
    - Answers are limited to 4 MiB.
    - A model that was unpublished while in use, and published anew, is ReplicasUnavailable for up to 30 seconds.
    """

    def __init__(self, module: SaxModule, root: Root, admins: Admins, models: Models) -> None:
        self._module = module
        self._root = root
        self._admins = admins
        self._models = models
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __del__(self) -> None:
        if self._admins.threads.in_use:
            warn_unclosed(self)
            self._close()

    async def publish(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = check_definition(model, model_path, checkpoint, replicas)
        given = dict(overrides) if overrides else None
        publish = partial(self._module.Publish, model, model_path, checkpoint, replicas, given)
        async with self._writes_to(model):
            await self._admins.ask(cell_of(model), model, publish, wrote=True)

    async def update(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        model = check_definition(model, model_path, checkpoint, replicas)
        update = partial(self._module.Update, model, model_path, checkpoint, replicas)
        async with self._writes_to(model):
            refuse_other_overrides(model, (await self._admins.detail(model)).overrides, overrides)
            await self._admins.refuse_access_lists(model)
            await self._admins.ask(cell_of(model), model, update, wrote=True)

    async def unpublish(self, model: str) -> None:
        model = parse_model(model)
        async with self._writes_to(model):
            await self._admins.ask(cell_of(model), model, partial(self._module.Unpublish, model), wrote=True)

    async def list_models(self, cell: str) -> list[str]:
        cell = parse_cell(cell)
        return sorted(await self._admins.ask(cell, None, partial(self._module.ListAll, cell)))

    async def describe(self, model: str) -> ModelDetail:
        model = parse_model(model)
        detail = await self._admins.detail(model)
        return ModelDetail(
            model=model,
            model_path=detail.model,
            checkpoint=detail.ckpt,
            max_replicas=detail.max_replicas,
            active_replicas=detail.active_replicas,
            overrides=dict(detail.overrides),
            methods=(),
        )

    async def wait_for_ready(self, model: str, replicas: int = 1) -> None:
        model = parse_model(model)
        check_replicas(replicas)
        await self._admins.detail(model)
        for looks in itertools.count(1):
            try:
                if await self._admins.wait(model, replicas):
                    return
                await self._admins.detail(model)
            except AdminUnavailable:
                pass  # it was there, so it restarts
            await asyncio.sleep(pause_s(looks, _FIRST_LOOK_S, _LONGEST_LOOK_S))

    async def stats(self, name: str) -> ServerStats:
        cell, model = parse_cell_or_model(name)
        counted = await self._admins.ask(cell, model, partial(self._module.Stats, model or cell))
        by_type = {ServerType(stat.chip_type, stat.chip_topology): stat.num_replicas for stat in counted}
        return ServerStats(by_type=dict(sorted(by_type.items())), by_model_path={})

    async def list_cells(self) -> list[str]:
        self._admins.threads.check_open()
        return await self._root.cells()  # the module has no function for it

    async def generate(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[Sample]:
        texts = await self._models.ask(
            parse_model(model), lambda lm, options: lm.Generate(text, options), extra_inputs, _size(text)
        )
        return to_samples(texts)

    async def generate_stream(
        self, model: str, text: str, extra_inputs: ExtraInputs | None = None, *, increments: bool = False
    ) -> AsyncGenerator[list[StreamItem]]:
        only_adds = Increments() if increments else None
        async with aclosing(self._models.stream(parse_model(model), text, extra_inputs, _size(text))) as steps:
            async for items in steps:
                yield items if only_adds is None else only_adds.add(items)
        if only_adds is not None and (rest := only_adds.rest()):
            yield rest

    async def score(
        self, model: str, prefix: str, suffixes: Sequence[str], extra_inputs: ExtraInputs | None = None
    ) -> list[float]:
        if isinstance(suffixes, str):
            raise TypeError("suffixes must be a sequence of texts, not one text")
        texts = list(suffixes)
        return await self._models.ask(
            parse_model(model),
            lambda lm, options: lm.Score(prefix, texts, options),
            extra_inputs,
            _size(prefix, *texts),
        )

    async def embed(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[float]:
        return await self._models.ask(
            parse_model(model), lambda lm, options: lm.Embed(text, options), extra_inputs, _size(text)
        )

    async def aclose(self) -> None:
        self._close()

    def _close(self) -> None:
        self._admins.close()
        self._models.close()

    def _writes_to(self, model: str) -> asyncio.Lock:
        """One write at a time to each model: an update is a read and a write."""
        return self._writing.setdefault(model, asyncio.Lock())


def _size(*texts: str) -> int:
    """How many bytes a request with these texts may be."""
    return sum(len(text.encode()) for text in texts) + _OVERHEAD_BYTES
