"""The objects that Google's module `sax` deals in, as far as they are used (Sax protocol §7.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class AdminOptions(Protocol):
    """Options of a call to an admin."""

    timeout: float
    """Seconds; 0 and less are no limit."""


class Options(Protocol):
    """Options of a model."""

    fail_fast: bool
    """Whether only NOT_FOUND is tried again by the module, and not UNAVAILABLE and RESOURCE_EXHAUSTED as well."""


class ModelOptions(Protocol):
    """Options of a call to a model."""

    def SetTimeout(self, seconds: float, /) -> None: ...
    def SetExtraInput(self, name: str, value: float, /) -> None: ...
    def SetExtraInputTensor(self, name: str, values: list[float], /) -> None: ...
    def SetExtraInputString(self, name: str, value: str, /) -> None: ...


Step = list[tuple[str, int, list[float]]]
"""What one message of a stream has for each sample: text, prefix_len and scores."""


class LanguageModel(Protocol):
    """The methods of a language model; all of them block."""

    def Generate(self, text: str, options: ModelOptions, /) -> list[tuple[str, float]]: ...
    def GenerateStream(self, text: str, callback: Callable[[bool, Step], None], options: ModelOptions, /) -> None: ...
    def Score(self, prefix: str, suffix: list[str], options: ModelOptions, /) -> list[float]: ...
    def Embed(self, text: str, options: ModelOptions, /) -> list[float]: ...


class Model(Protocol):
    """A model that was opened; it must live as long as its LM() is used."""

    def LM(self) -> LanguageModel: ...


class ModelDetail(Protocol):
    """How a model is published."""

    @property
    def model(self) -> str: ...
    @property
    def ckpt(self) -> str: ...
    @property
    def max_replicas(self) -> int: ...
    @property
    def active_replicas(self) -> int: ...
    @property
    def overrides(self) -> Mapping[str, str]: ...


class ModelServerTypeStat(Protocol):
    """How many model servers there are of one kind."""

    @property
    def chip_type(self) -> str: ...
    @property
    def chip_topology(self) -> str: ...
    @property
    def num_replicas(self) -> int: ...
