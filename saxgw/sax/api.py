"""What a Sax client can do: the Protocol that stands for any implementation, and the values it deals in."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

ExtraInputs = Mapping[str, float | str | Sequence[float]]
"""Values of one request that override a model's defaults: a number, a text or a list of numbers for each name.

They travel as Sax's scalar, string or tensor input of that name, numbers as 32-bit floats. A model takes only names
that it declares.
"""


class Sample(NamedTuple):
    """One text that a model generated."""

    text: str
    """The generated text; without the prompt, unless the model is configured to repeat it."""

    score: float
    """How likely the model finds it: normally the sum of log-probabilities, so higher is better."""


class StreamItem(NamedTuple):
    """What one step of a stream changes about one sample."""

    text: str
    """The new text."""

    prefix_len: int
    """How many code points of the sample's text so far to keep before adding `text`: `text[:prefix_len] + new`. It is
    less than all of it if the model server takes something back."""

    scores: Sequence[float]
    """Log-probabilities of this step; those of all steps add up to the sample's score."""


@dataclass(frozen=True, slots=True)
class ModelDetail:
    """What a cell tells about one published model."""

    model: str
    """Full name, /sax/<cell>/<model>."""

    model_path: str
    """Registry name of the model's class in the model servers."""

    checkpoint: str
    """Where the weights are; "None" for a model without a checkpoint."""

    max_replicas: int
    """Number of replicas asked for; the cell may have fewer."""

    active_replicas: int
    """Number of model servers that had the model loaded a moment ago; with the official client, of those that it is
    assigned to."""

    overrides: Mapping[str, str]
    """Settings of the model's class by name, as given to publish; values are JSON text."""

    methods: tuple[str, ...]
    """What its model servers can do with it, such as "lm.generate", sorted; none until one has told the admin, which
    may take ten seconds from when it has loaded the model. Names that are no Sax method may be among them. The official
    client does not tell any."""


class ServerType(NamedTuple):
    """A kind of model servers; its names are those of Sax's enums, or the number of a value that is newer than this."""

    chip_type: str
    """The accelerators, such as "CHIP_TYPE_TPU_V5E"."""

    chip_topology: str
    """How they are arranged, such as "CHIP_TOPOLOGY_2X2"."""


@dataclass(frozen=True, slots=True)
class ServerStats:
    """How many model servers there are, in a cell or for one model."""

    by_type: Mapping[ServerType, int]
    """Number of servers by kind, sorted by its names."""

    by_model_path: Mapping[str, int]
    """Number of servers that know each class of models, by its registry name, sorted; empty with the official client,
    which does not tell."""


class SaxClient(Protocol):
    """A client for the cells under one SAX_ROOT.

    Names are taken with or without their leading slash. Every method raises InvalidName for a malformed one before
    anything is sent, CellNotFound if there is no such cell, AdminUnavailable if the cell's admin server is needed and
    out of reach, and CellError for answers that no other class of errors stands for.
    """

    async def publish(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        """Publishes a model; the cell then loads it on up to `replicas` model servers, which may take minutes.

        Args:
            model: name of the model; it must not be published.
            model_path: registry name of the model's class. The cell does not check that a server knows it.
            checkpoint: where the weights are, or "None".
            replicas: how many model servers shall load it; 0 loads it nowhere.
            overrides: settings of the class by name, values in JSON; a server ignores names that it does not know.

        Raises:
            ModelExists: it is published already.
            InvalidArgument: the cell refuses the request.
        """
        ...

    async def update(
        self, model: str, model_path: str, checkpoint: str, replicas: int, overrides: Mapping[str, str] | None = None
    ) -> None:
        """Changes checkpoint and number of replicas of a published model; each replica loads it anew.

        Overrides and access lists stay as they are, and so must `model_path`.

        Args:
            model: name of the model.
            model_path: as published.
            checkpoint: where the weights are, or "None".
            replicas: how many model servers shall load it.
            overrides: None, or settings that must be equal to the published ones.

        Raises:
            ModelNotFound: it is not published.
            InvalidArgument: another model path, other overrides, or something else that the cell refuses.
        """
        ...

    async def unpublish(self, model: str) -> None:
        """Takes a model out of the cell. Raises ModelNotFound if it is not published."""
        ...

    async def list_models(self, cell: str) -> list[str]:
        """Returns the full names of all models published in a cell, sorted."""
        ...

    async def describe(self, model: str) -> ModelDetail:
        """Returns what the cell tells about a model. Raises ModelNotFound if it is not published."""
        ...

    async def wait_for_ready(self, model: str, replicas: int = 1) -> None:
        """Waits until so many model servers have loaded a model, which for some models takes hours.

        It has no time limit: cancel it to leave. It asks the admin, and then the model servers that the admin names,
        because Google's admin goes on counting a model server that has quickly restarted and has lost the model (Sax
        protocol §4.7). If they deny it, it looks again every two seconds or sooner. A model that is published anew
        meanwhile is waited for under its new definition.

        Once it waits, it outlasts an admin that restarts or is away.

        Args:
            model: name of the model.
            replicas: how many model servers; 0 is none, so that only the model's being published is checked. Nothing
                makes the cell load more replicas than were asked for in publish or update.

        Raises:
            ModelNotFound: it is not published, or is unpublished meanwhile.
            CellNotFound: there is no such cell, or it is removed meanwhile.
            AdminUnavailable: the admin was out of reach from the beginning.
            InvalidArgument: `replicas` is negative or too large.
        """
        ...

    async def stats(self, name: str) -> ServerStats:
        """Counts model servers, loaded or not: all of a cell, or those that one model is assigned to.

        Args:
            name: name of the cell or of the model.

        Raises:
            ModelNotFound: the model is not published.
        """
        ...

    async def list_cells(self) -> list[str]:
        """Returns the full names of the cells under SAX_ROOT, sorted. Whether they have an admin is not looked at.

        Raises:
            RootUnavailable: SAX_ROOT is missing, forbidden or out of reach.
        """
        ...

    async def generate(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[Sample]:
        """Continues a text. Returns the model's samples in the model server's order, normally best first.

        The call has no time limit of its own once a model server has it: cancel it to leave. The model server then
        finishes the work all the same (Sax protocol §5.7).

        Raises:
            ModelNotFound: the model is not published.
            InvalidArgument: the model refuses the text or an extra input.
            ReplicasUnavailable: no model server was ready or reachable in time.
            Busy: the model servers had as many requests as they take for all that time.
        """
        ...

    def generate_stream(
        self, model: str, text: str, extra_inputs: ExtraInputs | None = None, *, increments: bool = False
    ) -> AsyncGenerator[list[StreamItem]]:
        """Continues a text and yields what there is as it comes: at each step an item for each sample.

        A sample is known by its place. Leave the generator with aclose(), best by contextlib.aclosing(), which cancels
        the call. Nothing is sent to another model server once the first step is there.

        Args:
            model: name of the model.
            text: the text to continue.
            extra_inputs: values that override the model's defaults.
            increments: only ever add text, so that the texts of a sample, joined, are what generate() returns for it;
                an incomplete character at the end is held back until it is complete.

        Raises:
            ModelNotFound, InvalidArgument, ReplicasUnavailable, Busy: as generate(), before the first step.
            StreamBroken: the model server went away in the middle of the stream.
            Revised: with `increments`, the model took back text that was yielded.
        """
        ...

    async def score(
        self, model: str, prefix: str, suffixes: Sequence[str], extra_inputs: ExtraInputs | None = None
    ) -> list[float]:
        """Tells how likely a model finds texts: natural logarithms of their probabilities, normally.

            [late, early] = await sax.score("/sax/test/lm2b", "The White Rabbit was", [" late", " early"])

        The arguments stand as they are read, the prefix before what may follow it, which is also their order in the
        official client. Time limits are those of generate.

        Args:
            model: name of the model.
            prefix: what the texts follow; it is not scored itself. May be empty.
            suffixes: the texts to score. Most of Google's model classes take one at most; an empty sequence is one
                empty text.
            extra_inputs: values of this request.

        Returns:
            One score for each suffix, in their order; models whose scores are vectors return all values in a row.

        Raises:
            ModelNotFound, InvalidArgument, ReplicasUnavailable, Busy: as generate does. A model that cannot score, or
                not so many texts, may say so with CellError, too.
        """
        ...

    async def embed(self, model: str, text: str, extra_inputs: ExtraInputs | None = None) -> list[float]:
        """Returns a vector that stands for what a text says; its length and its scale are the model's.

        Time limits are those of generate.

        Raises:
            ModelNotFound, InvalidArgument, ReplicasUnavailable, Busy: as generate does. A model that cannot embed is
                an InvalidArgument.
        """
        ...

    async def aclose(self) -> None:
        """Closes every connection; a call that still runs is cancelled. The client cannot be used again."""
        ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def warn_unclosed(client: SaxClient) -> None:
    """Warns of a client that is thrown away without having been closed; for its __del__."""
    warnings.warn(
        "a Sax client was not closed; call aclose() or use async with", ResourceWarning, stacklevel=2, source=client
    )
