"""Numbers for Prometheus, read from plain counts when it asks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response


class Sample(NamedTuple):
    """One number now. Samples of one name have the same kind, help and label names."""

    name: str
    """A counter's ends in `_total`."""
    kind: Literal["counter", "gauge"]
    help: str
    labels: Mapping[str, str]
    value: float


class Histogram(NamedTuple):
    """How often a measure fell where."""

    name: str
    help: str
    bounds: Sequence[float]
    """Upper bounds, rising, without infinity."""
    counts: Sequence[int]
    """How many fell into each bucket alone, one more than the bounds: the last is for all above."""
    sum: float
    """Of all that was measured."""


Source = Callable[[], Iterable[Sample | Histogram]]
_FAMILIES: Final = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


class _Sources(Collector):
    """Turns what the sources say into metric families."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterable[Metric]:
        """Ask all sources."""
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        histograms: list[Metric] = []
        for source in self._sources:
            for item in source():
                if isinstance(item, Histogram):
                    histograms.append(_histogram(item))
                else:
                    family = families.get(item.name)
                    if family is None:
                        labels = sorted(item.labels)
                        family = families[item.name] = _FAMILIES[item.kind](item.name, item.help, labels=labels)
                    family.add_metric([value for _, value in sorted(item.labels.items())], item.value)
        return [*families.values(), *histograms]


def _histogram(item: Histogram) -> HistogramMetricFamily:
    """Return the family of one histogram, whose buckets add up."""
    total, buckets = 0, []
    for bound, count in zip([*map(str, item.bounds), "+Inf"], item.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family = HistogramMetricFamily(item.name, item.help)
    family.add_metric([], buckets, item.sum)
    return family


class Metrics:
    """The /metrics page."""

    def __init__(self, sources: Sequence[Source]) -> None:
        """Take what to ask at each reading."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Sources(sources))
        for ours in (ProcessCollector, PlatformCollector, GCCollector):
            ours(registry=self._registry)

    async def page(self, request: Request) -> Response:
        """Answer with all numbers in Prometheus's text format."""
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE_LATEST})
