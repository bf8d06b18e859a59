"""What a Sax client can do: the Protocol that stands for any implementation, and the values it deals in."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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
    """Number of model servers that had the model loaded a moment ago."""

    overrides: Mapping[str, str]
    """Settings of the model's class by name, as given to publish; values are JSON text."""


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

    async def aclose(self) -> None:
        """Closes every connection; a call that still runs is cancelled. The client cannot be used again."""
        ...
