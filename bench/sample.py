"""What load generators are told to do and what they tell, and what all of them have in common."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass


class WrongAnswer(Exception):
    """Something was answered that should not have been, or not at all."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What to send, and what to measure meanwhile."""

    kind: str
    """One of bench.load.KINDS."""

    address: str
    """Host and port."""

    model: str
    """Whom to ask for; one of bench.cell.MODELS."""

    in_flight: int
    """How many requests are waiting for their answers at any time."""

    warm_up_s: float
    seconds: float
    """How long the figures are taken, after the warm-up."""

    core: int
    """Where the measured process runs."""

    pid: int | None = None
    """The process whose CPU time counts; if None the load generator's own, which tells the cost of a client call."""

    other_pids: tuple[int, ...] = ()
    """Further processes whose CPU time counts as well."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What was seen in one run."""

    count: float
    """What was received: answers, or items of streams."""

    seconds: float

    cpu_seconds: float
    """What the measured process spent, in user and in system mode, in all its threads."""

    others_seconds: float
    """What others took of the measured process's core meanwhile, which should be next to nothing."""

    p50_ms: float
    p99_ms: float
    """How long a request took, or a stream to its first item."""

    @property
    def cpu_us(self) -> float:
        """CPU time per answer or item, in microseconds."""
        return self.cpu_seconds / self.count * 1e6

    @property
    def per_second(self) -> float:
        """Answers or items per second."""
        return self.count / self.seconds

    @property
    def busy(self) -> float:
        """How much of its core the measured process used, 0 to 1.

        At well under 1 it waited for the load generator or the model server, and had to wake up more often.
        """
        return self.cpu_seconds / self.seconds

    @property
    def disturbed(self) -> float:
        """How much of its core others took, 0 to 1."""
        return self.others_seconds / self.seconds


class Load(ABC):
    """Keeps a number of requests in flight."""

    def __init__(self, model: str) -> None:
        """Asks for `model`."""
        self.model = model
        self.latencies_s: list[float] = []
        """How long each answered request took, or each stream to its first item; whoever reads them may clear them."""

        self.count = 0.0
        """How many answers, or items of streams, have come."""

        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Gets the exception that has ended the load."""

    @abstractmethod
    async def start(self, address: str, in_flight: int) -> None:
        """Sends the first requests; each answer is followed by another request. More may be started later."""

    async def run_for(self, seconds: float) -> None:
        """Waits; raises what ends the load."""
        await asyncio.wait((self.failure,), timeout=seconds)
        if self.failure.done():
            self.failure.result()

    def fail(self, error: BaseException) -> None:
        if not self.failure.done():
            self.failure.set_exception(error)
