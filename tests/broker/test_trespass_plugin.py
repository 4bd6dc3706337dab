"""mosquitto names who tries what it refuses, by deploy/mosquitto-plugin (row 23)."""

import asyncio
import contextlib
import functools
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.broker import test_deployment
from tests.broker.pki import Pki
from tests.broker.room import BRIDGE, ENGINEER, VEHICLE_A, VEHICLE_B, down, up
from tests.broker.test_deployment import deployed, link_of
from tests.broker.test_full_broker import connected
from tests.mosquitto_plugin import build_plugin
from transport.errors import PublishRefusedError
from transport.link import MqttLink

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.plugin]

SAID = re.compile(
    r'"(.*)" - (Publish|Subscription) Violation - Subject "(.*)"$', re.MULTILINE
)
STRANGER = "somebody"

Said = tuple[str, str, str]


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_plugin(tmp_path_factory.mktemp("plugin"))


async def said_of(
    pki: Pki, folder: Path, plugin: Path, *deeds: tuple[str, str, str]
) -> list[Said]:
    """Have each name publish or subscribe; return what mosquitto's log says of it."""
    identities = {name: pki.issue(name) for name in {deed[0] for deed in deeds}}
    async with (
        deployed(pki, folder, last=f"plugin {plugin}") as broker,
        asyncio.timeout(30),
    ):

        def link(name: str) -> MqttLink:
            return link_of(broker.port, name, identities[name])

        for name, what, topic in deeds:
            # A connection each: Debian's mosquitto hangs up after it has refused one.
            one = await connected(functools.partial(link, name))
            if what == "Publish":
                with contextlib.suppress(PublishRefusedError):
                    await one.publish(topic, b"x")
            else:
                await one.subscribe(topic)
            await one.__aexit__(None, None, None)
    found = SAID.findall(broker.log.read_text())
    return [(name, what, topic) for name, what, topic in found]


async def test_a_rogue_car_is_named_once_for_each_deed_and_honest_ones_never(
    pki: Pki, tmp_path: Path, plugin: Path
) -> None:
    honest = [
        *((VEHICLE_B, "Publish", up(VEHICLE_B, k)) for k in ("event", "telem")),
        (VEHICLE_B, "Subscription", f"ff/v1/{VEHICLE_B}/down/+"),
        (BRIDGE, "Publish", down(VEHICLE_B)),
        (BRIDGE, "Subscription", "$share/bridges/ff/v1/+/up/+"),
        (ENGINEER, "Subscription", "ff/v1/#"),
    ]
    rogue = [
        (VEHICLE_A, "Publish", up(VEHICLE_B)),
        (VEHICLE_A, "Subscription", "ff/v1/+/up/+"),
        (BRIDGE, "Publish", up(VEHICLE_B)),
        (ENGINEER, "Publish", down(VEHICLE_B)),
        (STRANGER, "Publish", up(STRANGER)),
        (STRANGER, "Subscription", "#"),
    ]
    again = [(VEHICLE_A, "Publish", down(VEHICLE_A))] * 5

    assert await said_of(pki, tmp_path, plugin, *honest, *rogue, *again) == rogue


@pytest.mark.parametrize(
    "topic",
    [
        f"ff/v1/{VEHICLE_A}/down/cmd",  # a command to itself
        f"ff/v1/{VEHICLE_A}A/up/event",
        f"ff/v1/{VEHICLE_A[:-1]}/up/event",
        f"ff/v1/{VEHICLE_A}/upwards/event",
        f"ff/v1//{VEHICLE_A}/up/event",
        f"xf/v1/{VEHICLE_A}/up/event",
        "f",
    ],
)
async def test_what_only_looks_like_an_own_topic_is_named(
    pki: Pki, tmp_path: Path, plugin: Path, topic: str
) -> None:
    [said] = await said_of(pki, tmp_path, plugin, (VEHICLE_A, "Publish", topic))

    assert said == (VEHICLE_A, "Publish", topic)


async def test_a_topic_is_cut_and_cannot_break_the_line_that_shows_it(
    pki: Pki, tmp_path: Path, plugin: Path
) -> None:
    topic = 'a" - "' + "ö" + "x" * 500
    [said] = await said_of(pki, tmp_path, plugin, (VEHICLE_A, "Publish", topic))

    assert said[2] == "a?" + "?-??" + "??" + "x" * 112


async def test_the_observer_decides_nothing(
    pki: Pki, tmp_path: Path, plugin: Path
) -> None:
    """What the access list allows arrives, what it refuses does not (L6 to L8)."""
    car, bridge = pki.issue(VEHICLE_A), pki.issue(BRIDGE)
    received: list[tuple[str, bytes]] = []
    async with (
        deployed(pki, tmp_path, last=f"plugin {plugin}") as broker,
        asyncio.timeout(30),
    ):
        above = await connected(lambda: link_of(broker.port, BRIDGE, bridge))
        await above.subscribe("ff/v1/+/up/#")
        for vehicle in (VEHICLE_B, VEHICLE_A):
            async with link_of(broker.port, VEHICLE_A, car) as link:
                with contextlib.suppress(PublishRefusedError):
                    await link.publish(up(vehicle), vehicle.encode())
        async for message in above.messages():
            message.done()
            received.append((message.topic, message.payload))
            break
        await above.__aexit__(None, None, None)

    assert received == [(up(VEHICLE_A), VEHICLE_A.encode())]


def broken(access_list: Path) -> None:
    access_list.write_bytes(b"garbage\n\0\xff")


@pytest.mark.parametrize("damage", [Path.unlink, broken])
async def test_a_damaged_access_list_allows_nobody_anything_beside_the_observer(
    pki: Pki,
    tmp_path: Path,
    plugin: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    """L5: without it mosquitto 2.0.11 then allows everybody everything."""
    access_list = Path(shutil.copy(test_deployment.ACCESS_LIST, tmp_path))
    monkeypatch.setattr(test_deployment, "ACCESS_LIST", access_list)
    car = pki.issue(VEHICLE_A)
    async with (
        deployed(pki, tmp_path, last=f"plugin {plugin}") as broker,
        asyncio.timeout(30),
    ):
        link = await connected(lambda: link_of(broker.port, VEHICLE_A, car))
        await link.publish(up(VEHICLE_A), b"allowed")
        damage(access_list)
        broker.process.send_signal(signal.SIGHUP)
        while b"Reloading config" not in broker.log.read_bytes():  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.02)
        with pytest.raises(PublishRefusedError):
            await link.publish(up(VEHICLE_B), b"refused")
        await link.__aexit__(None, None, None)
