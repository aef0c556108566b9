"""What the registry tells Prometheus.

Each worker counts in files of its own under one folder (prometheus-client's multiprocess mode);
whichever worker is asked adds them up. What the database knows already is read from there when
asked, never counted. Who may ask is decided in `access`.
"""

from __future__ import annotations

import os
import re
from collections import Counter as Counts
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from aar.registry import Registry
from regkit.blobs import UNBOUNDED

#: The folder that the workers of one server share; prometheus-client reads it once, at import.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: Upper bounds in seconds: small reads take about a millisecond, long-polls up to a minute.
DURATIONS = (0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 300)
_LIVE_FILE = re.compile(r"gauge_live\w+_([0-9]+)\.db")


class Metrics:
    """The counters of one worker, and the page with those of all.

    Args:
        registry: whose database says what is true now.
    """

    def __init__(self, registry: Registry) -> None:
        self._facts = _Facts(registry)
        self._own = CollectorRegistry()
        self._folder = os.environ.get(FOLDER_VARIABLE)
        self.requests = Counter(
            "aar_http_requests",
            "Requests answered",
            ("method", "route", "status"),
            registry=self._own,
        )
        self.seconds = Histogram(
            "aar_http_request_seconds",
            "Time until the answer's head was ready",
            ("route",),
            buckets=DURATIONS,
            registry=self._own,
        )
        self.received = Counter(
            "aar_http_received_bytes", "Bytes of request bodies read", registry=self._own
        )
        self.sent = Counter(
            "aar_http_sent_bytes", "Bytes of response bodies written", registry=self._own
        )
        self.refused = Counter(
            "aar_refusals", "Requests refused for want of trust", registry=self._own
        )
        self.waiting = Gauge(
            "aar_waiting_clients",
            "Clients in a long-poll for changes",
            registry=self._own,
            multiprocess_mode="livesum",
        )

    def page(self) -> bytes:
        """Return the metrics of all workers in Prometheus' text format."""
        if self._folder is None:
            return generate_latest(self._own) + generate_latest(_registry_of(self._facts))
        _forget_dead(Path(self._folder))
        registry = _registry_of(self._facts)
        MultiProcessCollector(registry, path=self._folder)
        return generate_latest(registry)


class _Facts:
    """A prometheus collector over what the database says at the moment of asking."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def describe(self) -> list[Metric]:
        """Return nothing: registering must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the facts."""
        applications = self._registry.applications.list()
        versions = GaugeMetricFamily(
            "aar_versions", "Published application versions", labels=("architecture",)
        )
        counts = Counts(v.key.architecture for a in applications for v in a.versions)
        for architecture, count in sorted(counts.items()):
            versions.add_metric([architecture], count)
        yield versions
        yield GaugeMetricFamily(
            "aar_applications", "Applications with a published version", value=len(applications)
        )
        head = self._registry.feed.head()
        yield GaugeMetricFamily("aar_feed_sequence", "Number of the last change", value=head.seq)
        free = self._registry.blobs.free()
        if free != UNBOUNDED:
            yield GaugeMetricFamily("aar_free_bytes", "Bytes free for new blobs", value=free)


def _registry_of(facts: _Facts) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(facts)
    return registry


def _forget_dead(folder: Path) -> None:
    """Drop the live gauges of workers that died without saying so, as after kill -9."""
    for file in folder.glob("gauge_live*.db"):
        if (match := _LIVE_FILE.fullmatch(file.name)) and not _runs(int(match[1])):
            mark_process_dead(int(match[1]), str(folder))


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
