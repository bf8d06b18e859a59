"""What becomes of the requests to model servers that calls make: an observer of the Sax client."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, Final

import grpc

from saxgw.telemetry.observed import current

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from saxgw.telemetry.metrics import Metrics, ModelMetrics
    from saxgw.telemetry.traces import Span

_SERVICE: Final = "sax.server.lm.LMService"


class RequestObserver:
    """Measures and traces requests; an Observer of saxgw.sax."""

    def __init__(self, metrics: Metrics | None) -> None:
        self._metrics = metrics

    def waiting(self, model: str) -> Callable[[], None]:
        """Notes the wait in the metrics of the model, and in the log line and the trace of the call that it is for."""
        call, metrics = current.get(), self._metrics
        began = time.perf_counter()
        gauge = None if metrics is None else metrics.of_model(model).waiting
        if gauge is not None:
            gauge.inc()
        span = None if call is None or call.span is None else call.span.wait("queue")

        def over() -> None:
            waited_s = time.perf_counter() - began
            if gauge is not None:
                gauge.dec()
            if metrics is not None:
                metrics.of_model(model).waited.observe(waited_s)  # its replicas may be known only now
            if call is not None:
                call.queued_s = (call.queued_s or 0.0) + waited_s
            if span is not None:
                span.end({"gen_ai.request.model": model})

        return over

    def sending(self, model: str, method: str, address: str, attempt: int) -> _Sending:
        """Begins the span of the request, in the trace of the call that it is for."""
        call = current.get()
        metrics = None if self._metrics is None else self._metrics.of_model(model)
        if metrics is not None and attempt > 1:
            metrics.retries.inc()
        if call is None or call.context is None:
            return _Sending(metrics, None)
        if call.span is None:
            return _Sending(metrics, call.context.headers)
        return _TracedSending(metrics, call.span.request(_rpc(method)), model, address, attempt)

    def replicas(self, model: str, known: int, well: int) -> None:
        """Notes how many there are."""
        if self._metrics is not None:
            self._metrics.set_replicas(model, known, well)


class _Sending:
    """One request while it is with a model server."""

    __slots__ = ("_metrics", "metadata")

    def __init__(self, metrics: ModelMetrics | None, metadata: Sequence[tuple[str, str]] | None) -> None:
        self._metrics = metrics
        self.metadata = metadata

    def over(self, code: grpc.StatusCode) -> None:
        if self._metrics is not None:
            self._metrics.request_over(code)


class _TracedSending(_Sending):
    """The same with a span of its own, which the model server is told of."""

    __slots__ = ("_address", "_attempt", "_model", "_span")

    def __init__(self, metrics: ModelMetrics | None, span: Span, model: str, address: str, attempt: int) -> None:
        super().__init__(metrics, span.context.headers)
        self._span = span
        self._model = model
        self._address = address
        self._attempt = attempt

    def over(self, code: grpc.StatusCode) -> None:
        super().over(code)
        host, _, port = self._address.rpartition(":")
        attributes: dict[str, str | int] = {
            "rpc.system.name": "grpc",
            "rpc.method": self._span.name,
            "rpc.response.status_code": code.name,
            "server.address": host.strip("[]"),
            "gen_ai.request.model": self._model,
        }
        if port.isdecimal():
            attributes["server.port"] = int(port)
        if self._attempt > 1:
            attributes["saxgw.request.resend_count"] = self._attempt - 1
        failed = code is not grpc.StatusCode.OK
        if failed:
            attributes["error.type"] = code.name
        self._span.end(attributes, failed=failed)


@cache
def _rpc(method: str) -> str:
    """The RPC of a method of Sax: lm.generate_stream is sax.server.lm.LMService/GenerateStream."""
    return f"{_SERVICE}/{''.join(part.capitalize() for part in method.partition('.')[2].split('_'))}"
