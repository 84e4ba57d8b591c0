"""Counts and times of a server, in the format of Prometheus."""

from __future__ import annotations

from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

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
