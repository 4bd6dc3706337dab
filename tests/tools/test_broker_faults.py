"""A broker that is killed, frozen or wiped in the middle of a rental (rows 19 to 21).

Real mosquitto, a real bridge and an emulated car with its journal. The renter notices
nothing, and the rental is reported exactly once when a broker is there again.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.broker import mosquitto
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.mosquitto import mosquitto_settings
from bridge.ports import Direction, FrameSeen
from firmware_emulator.customer import Customer
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    choose_to_end,
    drive,
    end_by_card,
    enter_pin,
    get_in,
    start_engine,
    stop_engine,
    tap_to_open,
)
from firmware_emulator.script import play
from protocol.codes import EventType, FrameClass
from protocol.fleet import FleetPart
from protocol.frame import parse_frame
from protocol.topic import parse_topic
from tests.depth import DEEP, times
from tests.tools.test_rental_over_brokers import PIN, online, order, reserve
from tools.clock import wall_clock
from tools.rig import Rig, open_rig
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity

pytestmark = [
    pytest.mark.broker,
    pytest.mark.mosquitto,
    pytest.mark.timeout(240),
]

CARD = Card(bytes.fromhex("04a1b2c3d4e5f6"))
FROZEN_S = times(1, deep=60)
"""A minute by the matrix; the short form goes on for a second once it is noticed."""


SEEN: list[FrameSeen] = []
"""What the bridge of this test has seen."""


KEEPALIVE_S = 4
"""Instead of 15: both sides notice a silent broker while the short form lasts. Less
would take a loaded machine that stands still for some seconds for a silent broker."""


@pytest.fixture
def soon_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let car and bridge notice a silent broker soon; to be asked for before `rig`."""
    for module in ("gateway.uplink.mqtt_links", "bridge.bootstrap"):
        monkeypatch.setattr(
            f"{module}.LinkSettings", partial(LinkSettings, keepalive_s=KEEPALIVE_S)
        )


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    SEEN.clear()
    async with open_rig(
        tmp_path / "rig",
        broker="mosquitto",
        observer=SEEN.append,
        is_bridge_cuttable=True,
    ) as system:
        yield system


@pytest.fixture
async def api(rig: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        rig.bridge.api_url, headers={"X-Api-Key": rig.api_key}
    ) as session:
        yield session


async def eventually(condition: Callable[[], bool], *, seconds: int = 90) -> None:
    for _ in range(10 * seconds):
        if condition():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


def events(rig: Rig, kind: str) -> int:
    return rig.events_file.read_text(encoding="utf-8").count(f'"freefloat.{kind}"')


def send(rig: Rig, number: signal.Signals) -> None:
    assert rig.broker.pid is not None
    os.kill(rig.broker.pid, number)


@contextlib.asynccontextmanager
async def another_broker(rig: Rig) -> AsyncIterator[None]:
    """Start it anew where the dead one was."""
    known = frozenset(map(str, rig.fleet.vehicle_ids()))
    async with EmbeddedBroker(
        directory=rig.directory / "broker",
        identity=TlsIdentity.of_fleet(rig.fleet.path, FleetPart.BROKER),
        access=BrokerAccess(is_vehicle=known.__contains__),
        clock=wall_clock,
        kind="mosquitto",
        port=rig.broker.port,
    ):
        yield


async def begin(rig: Rig, api: aiohttp.ClientSession) -> Customer:
    await online(api, rig.cars[0])
    await reserve(api, rig.cars[0], CARD)
    customer = Customer(rig.cars[0].devices, CARD, pin=PIN)
    steps = (tap_to_open(), get_in(), enter_pin(), start_engine())
    _ = [report async for report in play(steps, customer)]
    return customer


async def end(customer: Customer) -> None:
    """End the rental at the car, which needs no broker (I-13, I-19)."""
    steps = (drive(5.0), stop_engine(), choose_to_end(), end_by_card())
    reports = [report async for report in play(steps, customer)]
    assert str(reports[-1].indicator) == "green"


async def require_told_once(rig: Rig, api: aiohttp.ClientSession) -> None:
    await eventually(lambda: events(rig, "rental.ended") > 0)
    await online(api, rig.cars[0])
    _, outcome = await reserve(api, rig.cars[0], CARD)
    if outcome["state"] == "expired":
        # Signed for a session that was just over: the car did nothing, and says so.
        _, outcome = await reserve(api, rig.cars[0], CARD)
    # A whole order later, whatever was sent twice is here.
    assert outcome["state"] == "succeeded"
    assert events(rig, "rental.started") == 1
    assert events(rig, "rental.ended") == 1


OURS = (
    "max_",
    "retain_available ",
    "set_tcp_nodelay ",
    "tls_version ",
    "sys_interval ",
)
"""Lines that a settings file from before ours would not have."""


def downgraded(**settings: Any) -> str:
    """Return the settings with mosquitto's defaults in place of ours, and TLS 1.2."""
    lines = mosquitto_settings(**settings).splitlines()
    left = [line for line in lines if not line.startswith(OURS)]
    assert len(left) <= len(lines) - len(OURS)
    listener = next(n for n, line in enumerate(left) if line.startswith("listener "))
    left.insert(listener + 1, "tls_version tlsv1.2")
    return "\n".join([*left, ""])


FATES = ["killed", "wiped", "downgraded"] if DEEP else ["killed", "downgraded"]
"""One that is downgraded is wiped as well."""


@pytest.mark.parametrize("fate", FATES)
async def test_a_broker_that_dies_with_what_it_had_taken_costs_nothing(
    rig: Rig, api: aiohttp.ClientSession, fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault row 19; row 21 where its memory is gone too, or its settings are older.

    I-21, I-13 (F), L1: sessions are made anew, and each car says HELLO.
    """
    customer = await begin(rig, api)
    if fate == "killed":
        # The broker acknowledges what the car says, and the bridge hears none of it.
        assert rig.bridge_link is not None
        rig.bridge_link.deafen()
        taken = note_acknowledged(monkeypatch)
        await end(customer)
        await eventually(lambda: EventType.RENTAL_ENDED in taken)
    else:
        # What the car says is taken by the system, and read by nobody.
        send(rig, signal.SIGSTOP)
        await end(customer)
    send(rig, signal.SIGKILL)
    await eventually(lambda: not rig.bridge.is_connected)
    refused: dict[str, Any] = await order(api, rig.cars[0], kind="ping")
    assert events(rig, "rental.ended") == 0
    if fate != "killed":
        shutil.rmtree(rig.directory / "broker")
    if fate == "downgraded":
        monkeypatch.setattr(mosquitto, "mosquitto_settings", downgraded)
    before = hellos()

    async with another_broker(rig):
        # An order that is signed before it would be for a session that is over.
        await eventually(lambda: hellos() > before)
        await require_told_once(rig, api)

    # Never "done" for what nobody has sent.
    assert refused.get("state") != "succeeded"


def note_acknowledged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the type of each frame that the broker has taken."""
    seen: list[int] = []
    publish = MqttLink.publish

    async def noted(self: MqttLink, topic: str, payload: bytes, **options: Any) -> None:
        await publish(self, topic, payload, **options)
        seen.append(parse_frame(payload).header.type)

    monkeypatch.setattr(MqttLink, "publish", noted)
    return seen


def hellos() -> int:
    return sum(
        one.direction is Direction.IN
        and parse_topic(one.topic).frame_class is FrameClass.HELLO
        for one in SEEN
    )


@pytest.mark.usefixtures("soon_noticed")
async def test_a_broker_that_froze_is_no_news_for_the_renter_and_doubles_nothing(
    rig: Rig, api: aiohttp.ClientSession
) -> None:
    """Fault row 20, I-21, I-13 (F), L10: who got no answer connects anew."""
    customer = await begin(rig, api)
    before = hellos()
    send(rig, signal.SIGSTOP)
    try:
        await end(customer)
        # Told while both sides still take the broker for a living one.
        silent = await order(api, rig.cars[0], wait_s=2, kind="ping")
        await eventually(lambda: not rig.bridge.is_connected)
        await asyncio.sleep(FROZEN_S)
    finally:
        send(rig, signal.SIGCONT)

    await eventually(lambda: hellos() > before)
    await require_told_once(rig, api)

    assert silent.get("state") != "succeeded"
    assert rig.bridge.is_connected
