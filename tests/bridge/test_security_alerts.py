"""What concerns security moves a metric that an alert watches within a minute (K24)."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import promql_parser
import pytest
import yaml

from bridge.figures import HOSTILE, Figures
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, DeathReason, FrameClass
from protocol.event import AgentStarted, Parked
from protocol.identity import VehicleId
from tests.bridge.car import RENTAL, Car
from tests.bridge.running import Running, running_bridge
from tests.bridge.scraping import Labels, Samples, at, scraped
from tests.bridge.test_metrics import settings_of
from tests.bridge.test_monitoring_files import ROOT, RULES, selectors_in
from tests.bridge.world import BOOT_MS

pytestmark = pytest.mark.broker

GLOBAL: Final[dict[str, str]] = yaml.safe_load(
    (ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8")
)["global"]

LIMIT: Final = re.compile(r"> (\d+)$")


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600}[text[-1]]


def prompt() -> Iterator[dict[str, Any]]:
    """Yield the rules that are raised a minute after what they look at, at most."""
    looks = sum(
        map(seconds, (GLOBAL["scrape_interval"], GLOBAL["evaluation_interval"]))
    )
    for rule in RULES:
        if looks + seconds(rule.get("for", "0s")) <= 60:
            yield rule


def chosen(labels: Labels, selector: promql_parser.VectorSelector) -> bool:
    has = dict(labels)
    return all(
        re.fullmatch(matcher.value, has.get(matcher.name, "")) is not None
        for matcher in selector.matchers.matchers
    )


def raised(before: Samples, after: Samples) -> set[str]:
    """Return the alerts whose metric rose by more than they allow."""
    found = set()
    for rule in prompt():
        limit = LIMIT.search(rule["expr"])
        if limit is None:
            continue
        rise = sum(
            after[name, labels] - before[name, labels]
            for used in selectors_in(promql_parser.parse(rule["expr"]))
            # A series that was not there before has no rise that anybody sees.
            for name, labels in before.keys() & after.keys()
            if name == used.name and chosen(labels, used)
        )
        if rise > int(limit[1]):
            found.add(rule["alert"])
    return found


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    settings = settings_of(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        yield running


async def a_forged_frame(running: Running, _fleet: FleetDirectory) -> None:
    """Authentication failed: changed on its way, or signed by another key."""
    entry = bytearray(running.car.event(AgentStarted(1, bytes(4))))
    entry[-1] ^= 1
    await running.say(FrameClass.EVENT, bytes(entry))


async def a_frame_of_another_car(running: Running, fleet: FleetDirectory) -> None:
    other = Car(
        fleet.vehicle_directory(fleet.vehicle_ids()[1]), boot_ms=lambda: BOOT_MS
    )
    await running.say(FrameClass.HELLO, other.hello())


async def a_withdrawn_car(running: Running, fleet: FleetDirectory) -> None:
    """A revoked attempt: its record is in the registry no more."""
    car = Car(fleet.vehicle_directory(fleet.vehicle_ids()[1]), boot_ms=lambda: BOOT_MS)
    car.id = VehicleId(bytes(15) + b"\x10")
    message = running.broker.deliver(car.topic(FrameClass.HELLO), car.hello())
    await message.is_done.wait()


async def a_retained_frame(running: Running, _fleet: FleetDirectory) -> None:
    topic, data = running.car.topic(FrameClass.DEATH), running.car.death()
    message = running.broker.deliver(topic, data, retain=True)
    await message.is_done.wait()


async def a_replayed_hello(running: Running, _fleet: FleetDirectory) -> None:
    car = running.car
    old = car.hello()
    await running.say(FrameClass.HELLO, car.hello())
    await running.say(FrameClass.HELLO, old)


async def a_forked_chain(running: Running, _fleet: FleetDirectory) -> None:
    car = running.car
    await running.say(FrameClass.EVENT, car.event(AgentStarted(1, bytes(4))))
    car.seq, car.head = 0, bytes(32)
    other = car.event(Parked(RENTAL, AccessMeans.CARD, 1_005_000))
    await running.say(FrameClass.EVENT, other)


async def keys_that_somebody_tries(running: Running, _fleet: FleetDirectory) -> None:
    for number in range(12):
        headers = {"X-Api-Key": f"{number:040}"}
        url = f"{running.bridge.api_url}/v1/vehicles"
        async with running.client.get(url, headers=headers) as answer:
            assert answer.status == 401


EVENTS: Final = (
    # First, while the car's ledger is as the bridge knows it.
    (a_forked_chain, "EvidenceContradicted"),
    (a_forged_frame, "ForeignFrames"),
    (a_frame_of_another_car, "ForeignFrames"),
    (a_withdrawn_car, "ForeignFrames"),
    (a_retained_frame, "ForeignFrames"),
    (a_replayed_hello, "EvidenceContradicted"),
    (keys_that_somebody_tries, "ApiStrangers"),
)


async def test_each_event_of_security_raises_an_alert_within_a_minute(
    running: Running, fleet: FleetDirectory
) -> None:
    """K24: failed authentication, a revoked attempt, replay, a forked chain."""
    for event, alert in EVENTS:
        _, before = await scraped(running.bridge)

        await event(running, fleet)

        # A look into the store is a second old at most.
        for _ in range(300):
            _, after = await scraped(running.bridge)
            if alert in raised(before, after):
                break
            await asyncio.sleep(0.1)
        else:
            raise TimeoutError(event.__name__)


async def test_what_honest_cars_say_raises_none_of_them(running: Running) -> None:
    """K24: an alarm that rings always is heard by nobody."""
    car = running.car
    _, before = await scraped(running.bridge)

    entry = car.event(AgentStarted(1, bytes(4)))
    for _ in range(2):
        # Twice, as after a receipt that was lost.
        await running.say(FrameClass.EVENT, entry)
    await running.say(FrameClass.DEATH, car.death(reason=DeathReason.LOST))
    again = car.hello()
    for _ in range(2):
        await running.say(FrameClass.HELLO, again)

    _, after = await scraped(running.bridge)
    quiet = at("freefloat_frames_verified_total", frame_class="event")
    assert after[quiet] == 2
    assert raised(before, after) == set()


def test_codes_of_enemies_are_counted_from_nothing() -> None:
    """K24: `increase` does not see the first rise of a series that begins with it."""
    registry = Figures().registry
    for code in HOSTILE:
        labels = {"code": code.name.lower()}
        name = "freefloat_frames_rejected_total"
        assert registry.get_sample_value(name, labels) == 0
