"""All of it, as far as the settings ask for it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final, Self

from saxgw.sax.observer import NOBODY, Observer
from saxgw.settings import InvalidSetting
from saxgw.telemetry.metrics import Metrics
from saxgw.telemetry.observed import observe
from saxgw.telemetry.page import MetricsPage
from saxgw.telemetry.requests import RequestObserver

if TYPE_CHECKING:
    from types import TracebackType

    from saxgw.rpc.endpoint import Interceptor
    from saxgw.settings import Settings
    from saxgw.telemetry.traces import Traces

_log: Final = logging.getLogger("saxgw.telemetry")


class Telemetry:
    """What a gateway tells of its work: `async with Telemetry(settings, version) as telemetry`.

    Leaving it sends the spans that are left.
    """

    def __init__(self, settings: Settings, version: str) -> None:
        self.metrics: Final = None if settings.admin_port is None else Metrics(version)
        """The metrics; None if nobody can ask for them."""
        self._traces = _traces(settings.otlp_endpoint, version) if settings.otlp_endpoint else None
        self._log_calls = settings.log_calls
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        if self._traces is not None:
            self._stack.push_async_callback(self._traces.aclose)
        if self.metrics is not None:
            self.page = await self._stack.enter_async_context(MetricsPage(self.metrics))
            """What /metrics answers; there only if there are metrics."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def interceptors(self) -> list[Interceptor]:
        """What watches calls, if anything does."""
        return [observe(self.metrics, self._traces, log=self._log_calls)] if self._is_on else []

    @property
    def observer(self) -> Observer:
        """What watches the requests to model servers that they make."""
        return RequestObserver(self.metrics) if self._is_on else NOBODY

    @property
    def _is_on(self) -> bool:
        return self.metrics is not None or self._traces is not None or self._log_calls


def _traces(endpoint: str, version: str) -> Traces | None:
    """Traces, if what they need is installed; the variable that asks for them may be there for all processes.

    Raises InvalidSetting for what the SDK's own variables say.
    """
    try:
        from saxgw.telemetry.traces import Traces  # noqa: PLC0415 - it needs an extra, and takes long
    except ModuleNotFoundError as error:
        _log.warning("there are no traces for %s: install saxgw[otel] to have them (%s)", endpoint, error)
        return None
    try:
        return Traces(endpoint, version)
    except ValueError as error:
        raise InvalidSetting(f"the variables OTEL_* make no sense to OpenTelemetry's SDK: {error}") from error
