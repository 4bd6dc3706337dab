"""Metrics: they tell how the bridge is, on a port of their own, and name no car."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from bridge.errors import SigningError, StoreError
from bridge.settings import (
    JsonLinesSettings,
    MetricsSettings,
    Settings,
    SinkSettings,
    parse_settings,
)
from bridge.signer import InProcessReceiptSigner
from bridge.survey import FRESH_S
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import AgentStarted
from tests.bridge.car import receipt_of
from tests.bridge.running import Running, running_bridge, until
from tests.bridge.scraping import at, scraped
from tests.bridge.stream import TYPES, entries_of
from tools.bridge_settings import local_settings

pytestmark = pytest.mark.broker


LABELS: Final = frozenset(
    {"frame_class", "code", "kind", "state", "sink", "outcome", "name", "le"}
)
"""All labels that there may be; the values of each are few and known before."""


def settings_of(fleet: FleetDirectory, folder: Path) -> Settings:
    made = local_settings(
        fleet.path, state=folder, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    sink = JsonLinesSettings(name="lines", path=str(folder / "lines"))
    return msgspec.structs.replace(
        made, sinks=SinkSettings((sink,)), metrics=MetricsSettings(port=0)
    )


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    settings = settings_of(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        yield running


async def test_what_a_car_says_is_counted(
    running: Running, fleet: FleetDirectory
) -> None:
    """Issue 5, point 8: frames by fate, batches, commits, receipts, cars online."""
    car = running.car
    entries = entries_of(car)
    await running.say(FrameClass.HELLO, car.hello())
    for entry in entries:
        await running.say(FrameClass.EVENT, entry)
    forged = bytearray(entries[0])
    forged[-1] ^= 1
    await running.say(FrameClass.EVENT, bytes(forged))
    await running.say(FrameClass.EVENT, b"no frame")
    receipts = running.broker.sent_of
    # A car gets ten a second at most, and the last one says all.
    await until(
        lambda: receipt_of(receipts(FrameClass.RECEIPT)[-1]).upto == len(entries)
    )

    _, found = await scraped(running.bridge)

    told = len(entries) + 3
    assert found[at("freefloat_frames_received_total")] == told
    assert found[at("freefloat_frames_verified_total", frame_class="hello")] == 1
    verified = found[at("freefloat_frames_verified_total", frame_class="event")]
    assert verified == len(entries) == len(TYPES)
    assert found[at("freefloat_frames_rejected_total", code="bad_signature")] == 1
    assert found[at("freefloat_frames_rejected_total", code="bad_len")] == 1
    assert found[at("freefloat_batch_frames_sum")] == told
    batches = found[at("freefloat_batch_frames_count")]
    assert found[at("freefloat_commit_seconds_count")] == batches
    assert found[at("freefloat_commit_seconds_sum")] > 0
    signed = found[at("freefloat_receipts_signed_total")]
    assert signed == len(receipts(FrameClass.RECEIPT)) > 1
    assert found[at("freefloat_cars_online")] == 1
    assert found[at("freefloat_cars_registered")] == len(fleet.vehicle_ids())
    assert found[at("freefloat_dead_letters", kind="unverified")] == 2
    assert found[at("freefloat_dead_letters", kind="fork")] == 0
    assert found[at("freefloat_verify_queue_frames")] == 0
    assert found[at("freefloat_link_up")] == found[at("freefloat_store_up")] == 1


async def test_how_far_a_sink_is_and_what_ends_when_is_told(
    running: Running, tmp_path: Path
) -> None:
    """Issue 5, points 5 and 8."""
    for entry in entries_of(running.car):
        await running.say(FrameClass.EVENT, entry)
    lines = tmp_path / "lines"
    await until(lambda: lines.exists() and len(lines.read_text().splitlines()) > 3)

    _, found = await scraped(running.bridge)

    assert found[at("freefloat_sink_served", sink="lines")] == 1
    assert found[at("freefloat_sink_breaker", sink="lines", state="closed")] == 1
    assert found[at("freefloat_sink_breaker", sink="lines", state="open")] == 0
    assert found[at("freefloat_sink_attempts_total", sink="lines", outcome="taken")] > 3
    assert at("freefloat_outbox_waiting", sink="lines") in found
    assert found[at("freefloat_outbox_age_seconds", sink="lines")] >= 0
    assert found[at("freefloat_given_up_events", sink="lines")] == 0
    days = running.bridge.days_left()
    for name in ("bridge certificate", "issuing CA", "trust anchors", "trust bundle"):
        assert found[at("freefloat_expiry_days", name=name)] == days[name]
    assert found[at("freefloat_alarm", name="clock")] == 0
    assert found[at("freefloat_alarm", name="registry")] == 0


async def test_a_command_is_counted_at_its_end_and_once(running: Running) -> None:
    """C27: how long until an order had its signed end."""
    car = running.car
    await running.say(FrameClass.HELLO, car.hello())
    status, command = await running.order({"kind": "ping"})
    assert status == 202
    _, before = await scraped(running.bridge)
    sent = await running.broker.next_sent(FrameClass.CMD)
    await running.say(FrameClass.RESULT, car.result(sent))
    await running.say(FrameClass.HELLO, car.hello())
    status, command = await running.get(f"/v1/commands/{command['id']}?wait_s=20")
    assert command["state"] == "succeeded"

    # A look may be a second old.
    await asyncio.sleep(FRESH_S)
    _, found = await scraped(running.bridge)

    open_now = ("requested", "deferred", "signed", "published")
    assert sum(before[at("freefloat_commands_open", state=s)] for s in open_now) == 1
    assert sum(found[at("freefloat_commands_open", state=s)] for s in open_now) == 0
    ended = at("freefloat_commands_total", kind="ping", state="succeeded")
    assert found[ended] == 1
    assert found[at("freefloat_command_seconds_count", kind="ping")] == 1


async def test_no_label_and_no_value_names_a_car_or_a_customer(
    running: Running,
) -> None:
    """K25: labels are few, known, and hold nothing of a vehicle, a user or a place."""
    car = running.car
    await running.say(FrameClass.HELLO, car.hello())
    await running.order({"kind": "ping"})
    for entry in entries_of(car):
        await running.say(FrameClass.EVENT, entry)
    await running.say(FrameClass.EVENT, entries_of(car)[0][:-1])

    text, found = await scraped(running.bridge)

    assert {name for _, labels in found for name, _ in labels} <= LABELS
    assert str(car.id) not in text
    assert car.id.raw.hex() not in text
    assert running.bridge.fleet.fleet_id.hex() not in text


async def test_a_store_that_fails_is_told_and_nothing_of_it_is_made_up(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics are never those of some time before."""
    await running.say(FrameClass.HELLO, running.car.hello())
    monkeypatch.setattr(running.bridge.store, "_is_open", False)

    _, found = await scraped(running.bridge)

    assert found[at("freefloat_store_up")] == 0
    assert at("freefloat_cars_online") not in found
    assert at("freefloat_outbox_waiting", sink="lines") not in found
    assert found[at("freefloat_frames_received_total")] == 1
    monkeypatch.undo()


async def test_a_database_that_hangs_does_not_hang_its_own_alarm(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else Prometheus would say that the bridge is down, and not why."""

    async def hang() -> bool:
        await asyncio.Event().wait()
        return True

    monkeypatch.setattr("bridge.survey.LOOK_S", 0.2)
    monkeypatch.setattr(running.bridge.store, "is_writable", hang)

    _, found = await scraped(running.bridge)

    assert found[at("freefloat_store_up")] == 0
    assert found[at("freefloat_link_up")] == 1
    assert at("freefloat_cars_online") not in found


async def test_a_commit_and_a_receipt_that_fail_are_counted(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not committed comes again, and an alert tells why cars collect."""
    car = running.car
    await running.say(FrameClass.HELLO, car.hello())
    real = running.bridge.store.commit_batch

    async def full_disk(*_: object, **__: object) -> object:
        raise StoreError("the store did not commit: disk I/O error")

    def refuse(*_: object) -> bytes:
        raise SigningError("not in the bundle")

    monkeypatch.setattr(running.bridge.store, "commit_batch", full_disk)
    monkeypatch.setattr(InProcessReceiptSigner, "sign", refuse)
    running.broker.subscribed.clear()
    message = running.broker.deliver(
        car.topic(FrameClass.EVENT), car.event(AgentStarted(1, bytes(4)))
    )
    await running.broker.subscribed.wait()
    monkeypatch.setattr(running.bridge.store, "commit_batch", real)
    running.broker.cut()
    await message.is_done.wait()
    await running.say(FrameClass.HELLO, car.hello())

    _, found = await scraped(running.bridge)

    assert found[at("freefloat_commit_failures_total")] >= 1
    assert found[at("freefloat_receipts_refused_total")] >= 1
    assert found[at("freefloat_store_up")] == 1


async def test_metrics_are_not_at_the_apis_port(running: Running) -> None:
    """A monitor gets no key that opens cars, and no route but its own."""
    status, _ = await running.get("/metrics")
    assert status == 404
    url = str(running.bridge.metrics_url).removesuffix("/metrics")
    for path in ("/v1/vehicles", "/health"):
        async with running.client.get(url + path) as response:
            assert response.status == 404


def test_nothing_listens_without_the_section_and_loopback_is_its_default() -> None:
    text = '[fleet]\ndirectory = "fleet"\n[api]\nkeys_file = "api.keys"\n'

    without = parse_settings(text.encode(), directory=Path())
    given = parse_settings(f"{text}[metrics]\n".encode(), directory=Path())

    assert without.metrics is None
    assert given.metrics == MetricsSettings(host="127.0.0.1", port=9464)
