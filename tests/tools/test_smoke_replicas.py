"""`freefloat smoke`, metrics and feeds with two bridges on one PostgreSQL."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from bridge.api.mds import HOUR_MS
from bridge.bootstrap import Bridge, open_bridge
from bridge.settings import MetricsSettings
from protocol.fleet import VehiclePart
from tests.bridge.publishing import GBFS, MDS
from tests.bridge.scraping import figures_of
from tests.bridge.site import Site, open_site
from tests.postgres import Server, running_server
from tests.published import mistakes_in
from tools.bridge_api import BridgeApi
from tools.bridge_settings import KEYS_FILE
from tools.canary import LIMIT_S, Canary, Outcome
from tools.clock import wall_s

pytestmark = [
    *(pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.postgres),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@contextlib.asynccontextmanager
async def replica(site: Site, number: int) -> AsyncIterator[Bridge]:
    settings = msgspec.structs.replace(
        site.settings(number), metrics=MetricsSettings(port=0), mds=MDS, gbfs=GBFS
    )
    async with open_bridge(settings) as bridge:
        await bridge.wait_connected()
        yield bridge


async def test_a_canary_passes_at_either_bridge_and_both_say_the_same_of_it(
    tmp_path: Path, server: Server
) -> None:
    """The broker gives each frame to either bridge; the store makes them one."""
    async with (
        open_site(tmp_path, server, cars=1, bridges=2) as site,
        replica(site, 1) as first,
        replica(site, 2) as second,
    ):
        address = (site.broker.host, site.broker.port)
        car = site.fleet.vehicle_directory(site.fleet.vehicle_ids()[0])
        # As the manual says: the canary's directory was made before the second bridge.
        (car / VehiclePart.TRUST_BUNDLE).write_bytes(site.fleet.trust_bundle())
        took_s = 0.0
        for number, bridge in enumerate((first, second), 1):
            key_file = tmp_path / f"state-{number}" / KEYS_FILE
            api = BridgeApi.at(bridge.api_url, key_file)
            steps = await Canary(car, address, api, days=7).run(lambda _: None)
            failed = [step for step in steps if step.outcome is not Outcome.PASS]
            assert failed == []
            took_s = max(took_s, sum(step.took_s for step in steps))
        assert took_s < LIMIT_S

        told = [await figures_of(bridge) for bridge in (first, second)]
        both = {name: told[0][name] + told[1][name] for name in told[0]}
        assert both["freefloat_commands_total"] >= 2, "a ping at each"
        assert both["freefloat_frames_verified_total"] > 10
        assert [one["freefloat_link_up"] for one in told] == [1, 1]
        assert [one["freefloat_cars_online"] for one in told] == [1, 1]
        at_ms = round(wall_s() * 1_000)
        of_first = await of_city(tmp_path / "state-1", first, at_ms)
        assert await of_city(tmp_path / "state-2", second, at_ms) == of_first
        told_of = [one.get("event_types") for one in of_first]
        assert told_of.count(["customer_cancellation"]) == 2, "it drives nowhere"


async def of_city(state: Path, bridge: Bridge, at_ms: int) -> list[Any]:
    """Return what a city was told of the canary's rentals until UTC ms."""
    key = (state / KEYS_FILE).read_text().strip()
    found: list[Any] = []
    async with aiohttp.ClientSession(
        bridge.api_url, headers={"X-Api-Key": key}
    ) as client:
        for path, name in (
            (
                f"/mds/events/recent?start_time={at_ms - HOUR_MS}&end_time={at_ms}",
                "events",
            ),
            ("/mds/vehicles", "vehicles"),
            ("/mds/vehicles/status", "vehicles_status"),
        ):
            async with client.get(path) as answer:
                document = await answer.json(content_type=None)
            mistakes = mistakes_in(document, "mds-2.0/provider", f"{name}_answer")
            assert (answer.status, mistakes) == (200, [])
            found += document[name]
        async with client.get("/gbfs/3.0/vehicle_status.json") as answer:
            document = await answer.json(content_type=None)
        assert mistakes_in(document, "gbfs-3.0/vehicle_status") == []
    return found
