"""Statistics of one data method over the past minute, as GetStatus tells them (Sax protocol §5.5)."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from saxgw.sax.wire.modelet_pb2 import GetStatusResponse

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_S: Final = 60
"""What "the past minute" is."""

_MOST_LATENCIES: Final = 1000
"""Latest successes that percentiles are taken of, at most."""


@dataclass
class _Second:
    """What ended within one second."""

    second: int
    successes: int = 0
    errors: int = 0
    latency_s: float = 0.0
    """Summed over the successes."""


class MethodStats:
    """Counts ended requests of one method.

    Args:
        method: The method, such as "lm.generate".
        clock: Returns seconds that never go back.
    """

    def __init__(self, method: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._method = method
        self._clock = clock
        self._seconds: deque[_Second] = deque()
        self._latencies_s: deque[tuple[float, float]] = deque(maxlen=_MOST_LATENCIES)

    def succeeded(self, latency_s: float) -> None:
        """Counts a request that was answered; of a stream, each message counts."""
        now = self._clock()
        second = self._second(now)
        second.successes += 1
        second.latency_s += latency_s
        self._latencies_s.append((now, latency_s))

    def failed(self) -> None:
        """Counts a request that was not."""
        self._second(self._clock()).errors += 1

    def report(self) -> GetStatusResponse.MethodStats:
        """Returns the statistics; latencies only if there were successes."""
        now = self._clock()
        self._second(now)
        successes = sum(second.successes for second in self._seconds)
        report = GetStatusResponse.MethodStats(
            method=self._method,
            errors_per_second=sum(second.errors for second in self._seconds) / WINDOW_S,
            successes_per_second=successes / WINDOW_S,
        )
        latencies_s = sorted(latency_s for ended_at, latency_s in self._latencies_s if ended_at > now - WINDOW_S)
        if successes and latencies_s:
            report.mean_latency_on_success_per_second = sum(second.latency_s for second in self._seconds) / successes
            report.p50_latency_on_success_per_second = _percentile(latencies_s, 0.50)
            report.p95_latency_on_success_per_second = _percentile(latencies_s, 0.95)
            report.p99_latency_on_success_per_second = _percentile(latencies_s, 0.99)
        return report

    def _second(self, now: float) -> _Second:
        """Returns the counts of the current second and drops those of more than a minute ago."""
        second = int(now)
        while self._seconds and self._seconds[0].second <= second - WINDOW_S:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1].second != second:
            self._seconds.append(_Second(second))
        return self._seconds[-1]


def _percentile(ordered: list[float], share: float) -> float:
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
