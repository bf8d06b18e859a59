"""What /metrics answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from saxgw.compute import Compute

if TYPE_CHECKING:
    from types import TracebackType

    from saxgw.telemetry.metrics import Metrics
METRICS_PATH: Final = "/metrics"


class MetricsPage:
    """Tells metrics to scrapers, in the form that they ask for: `async with MetricsPage(metrics) as page`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # In a thread: with workers there are files to read, and there may be thousands of series.
        self._thread = Compute(1, "saxgw-metrics")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._thread.close()

    def __contains__(self, path: object) -> bool:
        return path == METRICS_PATH

    async def respond(self, request: web.BaseRequest, path: str, query: str) -> web.Response:  # noqa: ARG002 - as all pages
        """The answer to GET or HEAD."""
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version that is no version
            encode, content_type = choose_encoder("")
        body = await self._thread.run(lambda: encode(self._metrics.readable()))
        return web.Response(body=body, headers={"Content-Type": content_type})
