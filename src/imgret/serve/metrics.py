"""Counts and times of a server, in the format of Prometheus."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics", "MetricsMiddleware"]

Message: TypeAlias = MutableMapping[str, Any]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


@final
class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "imgret_requests", "Requests.", ["route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "imgret_request_seconds",
            "Seconds to answer a request.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.batches = Histogram(
            "imgret_batch_images",
            "Images embedded together.",
            buckets=_SIZES,
            registry=self._registry,
        )
        self.running = Gauge(
            "imgret_requests_running", "Requests being answered.", registry=self._registry
        )
        self.items = Gauge("imgret_items", "Items in the gallery.", registry=self._registry)

    def text(self) -> bytes:
        """Return the metrics as Prometheus reads them."""
        return generate_latest(self._registry)


@final
class MetricsMiddleware:
    """ASGI application that measures the requests of another one."""

    def __init__(self, app: Any, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Pass a request on, and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._metrics.running.inc()
        try:
            await self._app(scope, receive, noted)
        finally:
            self._metrics.running.dec()
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)
