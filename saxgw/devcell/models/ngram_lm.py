"""The built-in language model: small and honest."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from math import isfinite, log
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

from saxgw.devcell.language_model import ExtraInput, LanguageModel, Piece, Settings
from saxgw.devcell.models.embedding import Embedding
from saxgw.devcell.models.ngram import NgramModel
from saxgw.devcell.models.sampling import Decoding, Start, sample
from saxgw.devcell.models.spelling import Spelling
from saxgw.devcell.models.tokens import END, UNKNOWN, Boundary, boundary_after, paragraphs, tokenize

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NO_CHECKPOINT: Final = "None"

_TEMPERATURE: Final = 0.7
"""By default a little colder than the model, whose tail is mostly noise."""

_ENDED: Final = Piece("", 0.0)


@dataclass(frozen=True, kw_only=True)
class NgramLmSettings(Settings):
    """Settings of the built-in model."""

    NUM_SAMPLES: int = 4
    """Samples that each generate returns, at least 1."""

    MAX_DECODE_STEPS: int = 128
    """Tokens in a sample at most, at least 1; also the default of per_example_max_decode_steps."""

    TOP_K: int = 40
    """Samples are drawn from so many of the likeliest tokens at most; also the default of per_example_top_k.

    0 is the whole vocabulary, which takes milliseconds a token.
    """

    SEED: int = 0
    """Decides, together with the prompt, what is drawn: the same request gets the same answer."""

    def __post_init__(self) -> None:
        for name, least in (("NUM_SAMPLES", 1), ("MAX_DECODE_STEPS", 1), ("TOP_K", 0)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")


class Learned:
    """What a text teaches; nothing changes it afterwards. Raises ValueError if there is nothing in the text."""

    def __init__(self, text: str) -> None:
        texts = [tokenize(paragraph) for paragraph in paragraphs(text)]
        if not texts:
            raise ValueError("the text is empty")
        self.model: Final = NgramModel(texts)
        self.spelling: Final = Spelling(self.model.vocabulary)
        self.embedding: Final = Embedding(self.model)


class NgramLm(LanguageModel):
    """An n-gram language model of the text that the checkpoint names.

    The checkpoint is the path of a UTF-8 text file whose paragraphs blank lines divide; "None" is Lewis Carroll's
    "Alice's Adventures in Wonderland", which comes with the package. Loading reads and counts the text; that one is
    counted once, and all servers of a process share what came of it.

    Extra inputs of a request:

    - `temperature` (default 0.7): at least 0; 0 always takes the likeliest token.
    - `per_example_top_k` (default TOP_K): 0 to TOP_K; 0 is TOP_K.
    - `per_example_top_p` (default 1): above 0, at most 1.
    - `per_example_max_decode_steps` (default MAX_DECODE_STEPS): 1 to MAX_DECODE_STEPS.

    Values outside these ranges are refused rather than clamped, so that nobody is misled about what they get.

    A score is the natural logarithm of a text's probability under the model, whatever the filters were; `score` of a
    text that was generated after the same prompt is the score that it was generated with. A space that ends a prompt
    belongs to the first token behind it, because words carry their leading space: what follows is conditioned on it.

    An embedding has 256 numbers and the length 1, so that the similarity of two texts is the sum of the products; texts
    without any word in common are at about 0. A text of white space only is refused.
    """

    settings_class: ClassVar[type[Settings]] = NgramLmSettings
    methods: ClassVar[frozenset[str]] = LanguageModel.methods | {"lm.embed"}

    def __init__(self, learned: Learned, settings: NgramLmSettings) -> None:
        self.learned: Final = learned
        """What it goes by."""
        self._settings = settings

    @classmethod
    def load(cls, checkpoint: str, settings: Settings) -> Self:
        """Trains the model on the text that the checkpoint names; raises ValueError if it cannot be read."""
        if not isinstance(settings, NgramLmSettings):
            raise TypeError(f"settings must be NgramLmSettings, got {type(settings).__name__}")
        if checkpoint == NO_CHECKPOINT:
            with _one_at_a_time:
                return cls(_alice(), settings)
        try:
            return cls(Learned(Path(checkpoint).read_text("utf-8")), settings)
        except UnicodeDecodeError:
            raise ValueError(f'checkpoint "{checkpoint}" cannot be loaded: it is not a UTF-8 text') from None
        except OSError as error:
            raise ValueError(f'checkpoint "{checkpoint}" cannot be loaded: {error.strerror}') from None
        except ValueError as error:
            raise ValueError(f'checkpoint "{checkpoint}" cannot be loaded: {error}') from None

    @property
    def extra_inputs(self) -> Mapping[str, ExtraInput]:
        """See the class."""
        return {
            "temperature": _TEMPERATURE,
            "per_example_top_k": self._settings.TOP_K,
            "per_example_top_p": 1.0,
            "per_example_max_decode_steps": self._settings.MAX_DECODE_STEPS,
        }

    def generate(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> Iterator[Sequence[Piece]]:
        """Draws NUM_SAMPLES continuations, a token of each at a time."""
        decoding = self._decoding(extra_inputs)
        start = self._start(text)
        # Sample n of a prompt draws by the same random numbers whatever the extra inputs are.
        samples = [
            sample(self.learned.model, start, decoding, random.Random(f"{self._settings.SEED} {n} {text}"))  # noqa: S311 (no secret)
            for n in range(self._settings.NUM_SAMPLES)
        ]
        return self._steps(samples, drop_space=start.boundary is Boundary.OPEN_SPACE)

    def score(self, prefix: str, suffixes: Sequence[str], extra_inputs: Mapping[str, ExtraInput]) -> list[float]:
        """Returns the natural logarithm of the probability of each suffix after the prefix; 0 for an empty one."""
        self._decoding(extra_inputs)
        start = self._start(prefix)
        return [self._score(start, suffix) for suffix in suffixes]

    def embed(self, text: str, extra_inputs: Mapping[str, ExtraInput]) -> list[float]:
        """Returns the vector of a text; the extra inputs make no difference to it."""
        self._decoding(extra_inputs)
        return self.learned.embedding.embed(text)

    @staticmethod
    def _steps(samples: Sequence[Iterator[tuple[str, float]]], *, drop_space: bool) -> Iterator[Sequence[Piece]]:
        while True:
            step = [next(one, None) for one in samples]
            if not any(step):
                return
            drawn = [_ENDED if one is None else Piece(*one) for one in step]
            yield [piece._replace(text=piece.text[1:]) for piece in drawn] if drop_space else drawn
            drop_space = False

    def _start(self, prompt: str) -> Start:
        tokens = [END, *tokenize(prompt)]
        if tokens[-1] != " ":
            return Start(tokens, boundary_after(tokens[-1]), 0.0)
        tokens.pop()
        context = self.learned.model.context(tokens)
        spelled = self.learned.model.probability(UNKNOWN, context) * self.learned.spelling.probability(" ")
        return Start(tokens, Boundary.OPEN_SPACE, log(self.learned.model.open_space_probability(context) + spelled))

    def _score(self, start: Start, text: str) -> float:
        if not text:
            return 0.0
        total = -start.log_condition
        context = self.learned.model.context(start.tokens)
        for token in tokenize(f" {text}" if start.boundary is Boundary.OPEN_SPACE else text):
            known = self.learned.model.known(token)
            total += log(self.learned.model.probability(known, context))
            if known == UNKNOWN:
                total += self.learned.spelling.log_probability(token)
            context = self.learned.model.context((*context, known))
        return total

    def _decoding(self, extra_inputs: Mapping[str, ExtraInput]) -> Decoding:
        """Reads the extra inputs; raises ValueError for one that is out of range."""

        def number(name: str) -> float:
            value = extra_inputs[name]
            if isinstance(value, str | list) or not isfinite(value):
                raise ValueError(f"{name} must be a number, got {value!r}")
            return value

        def integer(name: str, least: int, most: int | None, limit: str) -> int:
            value = number(name)
            if value != int(value) or value < least or (most is not None and value > most):
                bounds = f"at least {least}" if most is None else f"from {least} to {most}, the model's {limit}"
                raise ValueError(f"{name} must be an integer {bounds}, got {value:g}")
            return int(value)

        settings = self._settings
        temperature = number("temperature")
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {temperature:g}")
        top_p = number("per_example_top_p")
        if not 0 < top_p <= 1:
            raise ValueError(f"per_example_top_p must be above 0 and at most 1, got {top_p:g}")
        top_k = integer("per_example_top_k", 0, settings.TOP_K or None, "TOP_K")
        max_steps = integer("per_example_max_decode_steps", 1, settings.MAX_DECODE_STEPS, "MAX_DECODE_STEPS")
        return Decoding(
            temperature=temperature,
            top_k=top_k or settings.TOP_K or len(self.learned.model.vocabulary),
            top_p=top_p,
            max_steps=max_steps,
        )


_one_at_a_time: Final = threading.Lock()
"""Servers that load at the same time wait for the first, instead of doing what it does."""


@cache
def _alice() -> Learned:
    return Learned(files(__package__).joinpath("corpus.txt").read_text("utf-8"))
