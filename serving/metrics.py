"""What Prometheus reads from `/metrics`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bundle.errors import require
from .admission import Admission
from .messages import SegmentAnswer

if TYPE_CHECKING:
    import prometheus_client as prometheus
else:
    prometheus = require("prometheus_client", "ray")

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # bounds of the histograms


class Metrics:
    """Counts requests, and how long they and their steps took."""

    def __init__(self, admission: Admission) -> None:
        registry = self._registry = prometheus.CollectorRegistry()
        self._requests = prometheus.Counter(
            "ovs_serve_requests", "Answers to POST /segment by HTTP status.", ["status"], registry=registry
        )
        self._seconds = prometheus.Histogram(
            "ovs_serve_request_seconds", "From a request's headers to its answer.", buckets=_SECONDS, registry=registry
        )
        self._steps = prometheus.Histogram(
            "ovs_serve_step_seconds", "A replica's work by step.", ["step"], buckets=_SECONDS, registry=registry
        )
        self._lists = prometheus.Counter(
            "ovs_serve_class_lists", "Lists of classes by whether their vectors were cached.", ["cache"],
            registry=registry,
        )  # fmt: skip
        self._replicas = prometheus.Gauge("ovs_serve_replicas", "Replicas that can answer.", registry=registry)
        gauges = (
            ("ovs_serve_in_flight", "Requests that wait or are worked on.", lambda: admission.requests),
            ("ovs_serve_in_flight_limit", "The most there may be.", lambda: admission.limit),
            ("ovs_serve_body_bytes", "Bytes of bodies in memory.", lambda: admission.body_bytes),
        )
        for name, about, read in gauges:
            prometheus.Gauge(name, about, registry=registry).set_function(read)

    def answered(self, status: int, seconds: float) -> None:
        """A request has its answer."""
        self._requests.labels(str(status)).inc()
        if status == 200:
            self._seconds.observe(seconds)

    def worked(self, answer: SegmentAnswer) -> None:
        """A replica has segmented a picture."""
        self._lists.labels("hit" if answer.cached else "miss").inc()
        for step, seconds in answer.steps:
            self._steps.labels(step).observe(seconds)

    def text(self, replicas: int) -> bytes:
        """All of it in Prometheus' text format."""
        self._replicas.set(replicas)
        return prometheus.generate_latest(self._registry)
