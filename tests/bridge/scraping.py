"""What a running bridge tells Prometheus."""

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.bootstrap import Bridge

Labels = frozenset[tuple[str, str]]

Samples = dict[tuple[str, Labels], float]
"""Every sample by name and labels."""


async def scraped(bridge: Bridge) -> tuple[str, Samples]:
    """Return the text, and what is in it."""
    assert bridge.metrics_url is not None
    # A client of its own: it must not need the API's key.
    async with (
        aiohttp.ClientSession() as monitor,
        monitor.get(bridge.metrics_url) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=")
        text = await response.text()
    return text, {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def figures_of(bridge: Bridge) -> dict[str, float]:
    """Return every metric, summed over its labels."""
    _, samples = await scraped(bridge)
    found: dict[str, float] = {}
    for (name, _labels), value in samples.items():
        found[name] = found.get(name, 0) + value
    return found


def at(name: str, /, **labels: str) -> tuple[str, Labels]:
    return name, frozenset(labels.items())
