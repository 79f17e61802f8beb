"""The metrics of a serving process for Prometheus: read from the counters at the moment when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import Metric

    from registry.endpoints.answering import Service
    from registry.endpoints.catalog import LoadedVersion
    from registry.endpoints.statistics import Histogram

_OF_VERSION = ("model", "version")
_MS_IN_S = 1000.0


class Metrics:
    """The metrics of one service and of its process."""

    def __init__(self, service: Service) -> None:
        """Take the service; nothing is read before it is asked for."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collected(service))
        ProcessCollector(registry=self._registry)

    def exposed(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics and their content type, in the form that the ``Accept`` header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Collected(Collector):
    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """Give every metric of the service as it stands now."""
        service, versions = self._service, self._service.catalog.versions
        yield GaugeMetricFamily("modelway_generation", "Generation that is served", service.catalog.generation)
        yield GaugeMetricFamily("modelway_in_flight", "Requests under way", service.slots.in_flight)
        yield CounterMetricFamily("modelway_refused", "Requests refused as too many at once", service.slots.refused)
        yield _info(versions)
        yield _shares(versions)
        yield _requests(versions)
        yield _labelled(versions)
        yield _correct(versions)
        yield from _histograms(versions)


def _names(loaded: LoadedVersion) -> list[str]:
    return [loaded.served.model, loaded.served.address]


def _info(versions: tuple[LoadedVersion, ...]) -> Metric:
    family = InfoMetricFamily("modelway_version", "Versions that are open", labels=_OF_VERSION)
    for loaded in versions:
        served = loaded.served
        opened = {"label": served.version, "digest": served.digest, "role": served.role}
        family.add_metric(_names(loaded), {**opened, "runtime": served.runtime, "precision": served.precision})
    return family


def _shares(versions: tuple[LoadedVersion, ...]) -> Metric:
    family = GaugeMetricFamily("modelway_version_share", "Share of the requests, 0 to 1", labels=_OF_VERSION)
    for loaded in versions:
        family.add_metric(_names(loaded), 0.0 if loaded.served.role == "candidate" else loaded.served.share)
    return family


def _requests(versions: tuple[LoadedVersion, ...]) -> Metric:
    labels = (*_OF_VERSION, "role", "outcome")
    family = CounterMetricFamily("modelway_requests", "Requests by what became of them", labels=labels)
    for loaded in versions:
        for (role, outcome), count in sorted(loaded.counters.requests.items()):
            family.add_metric([*_names(loaded), role, outcome], count)
    return family


def _labelled(versions: tuple[LoadedVersion, ...]) -> Metric:
    family = CounterMetricFamily("modelway_labelled", "Samples whose right class came back", labels=_OF_VERSION)
    for loaded in versions:
        family.add_metric(_names(loaded), loaded.counters.labelled)
    return family


def _correct(versions: tuple[LoadedVersion, ...]) -> Metric:
    family = CounterMetricFamily("modelway_correct", "Samples that were answered rightly", labels=_OF_VERSION)
    for loaded in versions:
        family.add_metric(_names(loaded), loaded.counters.correct)
    return family


def _histograms(versions: tuple[LoadedVersion, ...]) -> Iterable[Metric]:
    latency = HistogramMetricFamily("modelway_request_seconds", "From read to answered", labels=_OF_VERSION)
    queue = HistogramMetricFamily("modelway_queue_seconds", "Waiting for the engine", labels=_OF_VERSION)
    batches = HistogramMetricFamily("modelway_batch_samples", "Samples run together", labels=_OF_VERSION)
    for loaded in versions:
        counters = loaded.counters
        for family, histogram, unit in (
            (latency, counters.latency_ms, _MS_IN_S),
            (queue, counters.queue_ms, _MS_IN_S),
            (batches, counters.batches, 1.0),
        ):
            family.add_metric(_names(loaded), _buckets(histogram, unit), histogram.total / unit)
    return latency, queue, batches


def _buckets(histogram: Histogram, unit: float) -> list[tuple[str, float]]:
    *bounded, (_, total) = histogram.cumulative()
    return [*((repr(bound / unit), float(count)) for bound, count in bounded), ("+Inf", float(total))]
