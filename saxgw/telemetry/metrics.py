"""The metrics for Prometheus; docs/observability.md tells what each means to an operator.

Where several workers serve the same ports, each of them writes its numbers to files in PROMETHEUS_MULTIPROC_DIR, which
must be set before this is imported, and any of them adds up those of all. Without it the numbers are in memory.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from saxgw.rpc.status import Code
from saxgw.telemetry.shared_metrics import FILES_VARIABLE

if TYPE_CHECKING:
    import grpc
    from google.protobuf.descriptor import MethodDescriptor

    from saxgw.telemetry.observed import ObservedCall

# When each series began; nothing uses it, and with workers the library does not tell it anyway.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has types for most

_DURATIONS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_INTERVALS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

MOST_MODELS: Final = 100
"""How many models have series of their own, in the order in which they were first used; each has about 30."""

OTHER: Final = "other"
"""The label of all other models: of names that may be anything, as callers say them, nothing gets into metrics."""

_REFUSALS: Final = frozenset({Code.RESOURCE_EXHAUSTED, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED})


class Metrics:
    """All metrics of one gateway. Each that has labels gets its series when they are first needed.

    Args:
        version: Of the gateway.
    """

    def __init__(self, version: str) -> None:
        self.registry: Final = CollectorRegistry()
        """Where they are registered; with workers it knows the numbers of this one alone."""

        counter: Any = partial(Counter, registry=self.registry)
        histogram: Any = partial(Histogram, registry=self.registry)
        # Gauges are of the workers that live: the sum of what they have, or what the best informed of them knows.
        total: Any = partial(Gauge, registry=self.registry, multiprocess_mode="livesum")
        common: Any = partial(Gauge, registry=self.registry, multiprocess_mode="livemax")

        by_call = ("method", "door")
        self.calls: Counter = counter("saxgw_calls_total", "Calls that are over.", (*by_call, "code"))
        self.duration: Histogram = histogram(
            "saxgw_call_duration_seconds", "How long calls took.", by_call, buckets=_DURATIONS_S
        )
        self.first_message: Histogram = histogram(
            "saxgw_time_to_first_message_seconds",
            "How long streams took until their first message was sent.",
            by_call,
            buckets=_DURATIONS_S,
        )
        self.message_interval: Histogram = histogram(
            "saxgw_message_interval_seconds",
            "How long after the one before each message of a stream was sent.",
            by_call,
            buckets=_INTERVALS_S,
        )
        self.in_flight: Gauge = total("saxgw_calls_in_flight", "Calls that are running.", by_call)
        self.held: Gauge = total("saxgw_held_request_bytes", "Bytes of requests that are held, in steps of 64 KiB.")
        self.refused: Counter = counter("saxgw_calls_refused_total", "Calls that were refused.", ("reason",))
        self._http_responses: Counter = counter(
            "saxgw_http_other_responses_total", "HTTP answers to what was no call.", ("status",)
        )

        by_model = ("model",)
        self.waiting: Gauge = total("saxgw_queue_length", "Requests that wait for a model server.", by_model)
        self.waited: Histogram = histogram(
            "saxgw_queue_wait_seconds", "How long requests that had to wait did so.", by_model, buckets=_DURATIONS_S
        )
        self.requests: Counter = counter(
            "saxgw_model_requests_total", "Requests to model servers that are over.", (*by_model, "code")
        )
        self.retries: Counter = counter(
            "saxgw_model_retries_total", "How many of the requests to model servers were sent once more.", by_model
        )
        self._replicas: Gauge = common("saxgw_replicas", "Replicas that the cell names.", by_model)
        self._replicas_ready: Gauge = common("saxgw_replicas_ready", "Replicas that are not set aside.", by_model)
        self._models: dict[str, ModelMetrics] = {}
        self._other_models = ModelMetrics(self, OTHER)

        common("saxgw_build_info", "The version of the gateway; always 1.", ("version",)).labels(version).set(1)

    def of_method(self, method: MethodDescriptor, door: str) -> MethodMetrics:
        """The series of one method at one door."""
        return MethodMetrics(self, method, door)

    def of_model(self, model: str) -> ModelMetrics:
        """The series of one model; those of all others together if it is not known to be published."""
        return self._models.get(model, self._other_models)

    def set_replicas(self, model: str, known: int, well: int) -> None:
        """Notes how many replicas a model has, which makes it one that is known to be published."""
        if model not in self._models:
            if not known or len(self._models) >= MOST_MODELS:
                return
            self._models[model] = ModelMetrics(self, model)
        self._replicas.labels(model).set(known)
        self._replicas_ready.labels(model).set(well)

    def count_http_response(self, status: int) -> None:
        """Counts an HTTP answer to what was no call."""
        self._http_responses.labels(status).inc()

    def readable(self) -> CollectorRegistry:
        """The metrics as they are to be told, with those of all workers."""
        if FILES_VARIABLE not in os.environ:
            return self.registry
        of_all = CollectorRegistry()
        MultiProcessCollector(of_all)  # type: ignore[no-untyped-call]  # the library has types for most
        return of_all


class MethodMetrics:
    """The series of one method at one door, so that nothing has to be looked up for a call."""

    __slots__ = ("_by_code", "_duration", "_labels", "_metrics", "first_message", "in_flight", "message_interval")

    def __init__(self, metrics: Metrics, method: MethodDescriptor, door: str) -> None:
        self._metrics = metrics
        self._labels = labels = (method.name, door)
        self._by_code: dict[Code, Counter] = {}
        self._duration = metrics.duration.labels(*labels)
        self.in_flight = metrics.in_flight.labels(*labels)
        if method.server_streaming:
            self.first_message = metrics.first_message.labels(*labels)
            self.message_interval = metrics.message_interval.labels(*labels)

    def over(self, call: ObservedCall) -> None:
        """Notes how a call went."""
        self.in_flight.dec()
        self._duration.observe(call.duration_s)
        counter = self._by_code.get(call.code)
        if counter is None:
            counter = self._by_code[call.code] = self._metrics.calls.labels(*self._labels, call.code.name)
        counter.inc()
        if call.code in _REFUSALS:
            self._metrics.refused.labels(call.reason or call.code.name).inc()


class ModelMetrics:
    """The series of one model."""

    __slots__ = ("_by_code", "_metrics", "_model", "retries", "waited", "waiting")

    def __init__(self, metrics: Metrics, model: str) -> None:
        self._metrics = metrics
        self._model = model
        self._by_code: dict[grpc.StatusCode, Counter] = {}
        self.waiting = metrics.waiting.labels(model)
        self.waited = metrics.waited.labels(model)
        self.retries = metrics.retries.labels(model)

    def request_over(self, code: grpc.StatusCode) -> None:
        """Counts a request to a model server."""
        counter = self._by_code.get(code)
        if counter is None:
            counter = self._by_code[code] = self._metrics.requests.labels(self._model, code.name)
        counter.inc()


def forget_worker(pid: int) -> None:
    """Takes a worker that has died out of what is true of living ones; what it has counted stays."""
    mark_process_dead(pid)  # type: ignore[no-untyped-call]  # the library has types for most
