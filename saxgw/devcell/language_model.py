"""What a model server can serve: the base of every model class, and the settings that a publish may override."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

ExtraInput: TypeAlias = float | str | list[float]
"""The value of an extra input: a scalar, a string or a tensor."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a model. A publish overrides them by name, with values in JSON of the same type (Sax protocol §5.3).

    Model classes extend it with fields of type bool, int, float or str, each with a default.
    """

    BATCH_SIZE: int = 16
    """Requests in a batch. There are no real batches here; it counts for the admission limit only."""

    MAX_LIVE_BATCHES: int = 4
    """Batches at a time. Each method admits max(1, BATCH_SIZE * MAX_LIVE_BATCHES) requests and refuses further ones."""


class Piece(NamedTuple):
    """What one step of generation does to the text of one sample."""

    text: str
    """The new text; "" when the sample has ended."""

    score: float
    """Natural logarithm of its probability; 0 when the sample has ended."""

    prefix_len: int | None = None
    """How many code points of the text so far are kept before `text` is appended; None is all of them.

    A model that takes back what it wrote keeps fewer; a sample's score is the sum over all steps nevertheless.
    """


Steps: TypeAlias = "Iterator[Sequence[Piece]] | AsyncGenerator[Sequence[Piece], None]"
"""The steps of a generation: one piece for each sample, always in the same order."""


class LanguageModel(ABC):
    """Base of the model classes that a model server can load, each registered under one or more model paths.

    Its methods run in worker threads, of which there are few, several at a time. A ValueError from any of them is
    answered with INVALID_ARGUMENT and its text; any other exception with INTERNAL.
    """

    settings_class: ClassVar[type[Settings]] = Settings
    """Names, types and defaults of the settings."""

    methods: ClassVar[frozenset[str]] = frozenset({"lm.score", "lm.generate", "lm.generate_stream"})
    """The data methods that the class has; not all need be able to embed."""

    @classmethod
    @abstractmethod
    def load(cls, checkpoint: str, settings: Settings) -> Self:
        """Loads the model.

        Args:
            checkpoint: Where the weights are; "None" where there are none.
            settings: An instance of `settings_class`, with overrides applied.
        """

    @property
    @abstractmethod
    def extra_inputs(self) -> Mapping[str, ExtraInput]:
        """The extra inputs that requests may carry, and their defaults. Any other one is refused."""

    @abstractmethod
    def generate(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> Steps:
        """Continues a text.

        Args:
            text: The prompt.
            extra_inputs: Every extra input of the model: what the request carries, defaults for the rest.

        Returns:
            The steps. An iterator holds a worker thread while it makes a step, and is left unfinished if the caller
            goes away. A model that waits more than it computes returns an asynchronous generator: that runs on the
            event loop, and is closed if the caller goes away.
        """

    @abstractmethod
    def score(self, prefix: str, suffixes: Sequence[str], extra_inputs: Mapping[str, ExtraInput]) -> Sequence[float]:
        """Returns the natural logarithm of the probability of each suffix after the prefix."""

    def embed(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> Sequence[float]:
        """Returns a vector for a text. A class that has it names "lm.embed" in `methods`; no other is asked."""
        raise NotImplementedError
