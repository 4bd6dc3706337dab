"""Who tries what the embedded broker refuses is named in our log (row 23, K24)."""

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.broker import trespass
from bridge.broker.trespass import AGAIN_S, CHUNK, NAMES_LIMIT, TrespassWatch
from tests.broker.room import VEHICLE_A, VEHICLE_B, Room, up
from transport.errors import SubscriptionRefusedError

REFUSED = (
    '[9] 2026/11/26 18:03:54.93 [ERR] 127.0.0.1:4 - mid:15 - "{}" - {} Violation - '
    'Subject "ff.v1.B.up.event"\n'
)
THROWN = "2026-11-26T18:00:00: Client {} already connected, closing old connection.\n"


class Log:
    """A broker's log and who reads it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "broker.log"
        self.path.touch()
        self.now_s = 1_000.0
        self.watch = TrespassWatch(self.path, clock_s=lambda: self.now_s)

    def add(self, text: str) -> list[str]:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text)
        return [str(each) for each in self.watch.look()]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_a_refused_publish_and_a_refused_subscription_are_said_once_a_minute(
    log: Log,
) -> None:
    publish, subscribe = (REFUSED.format("A", x) for x in ("Publish", "Subscription"))

    assert log.add(publish * 3) == [
        "A was refused: it tried to publish to topics of others"
    ]
    assert log.add(publish + subscribe) == [
        "A was refused: it tried to subscribe to topics of others"
    ]
    log.now_s += AGAIN_S
    assert len(log.add(publish)) == 1


def test_a_car_that_changes_its_network_is_not_called_stolen(log: Log) -> None:
    assert log.add(THROWN.format("A")) == []
    log.now_s += AGAIN_S
    assert log.add(THROWN.format("A")) == []
    [said] = log.add(THROWN.format("A") + THROWN.format("B"))

    assert said.startswith("A threw itself off again and again")


def test_a_withdrawn_car_that_the_guard_throws_out_is_not_called_stolen(
    log: Log,
) -> None:
    """As mosquitto 2.0.11 writes it; each withdrawal raised BrokerTrespass."""
    guard = (
        "2026-11-27T20:23:00: New client connected from 127.0.0.1:51425 as A "
        "(p2, c1, k15, u'freefloat broker service').\n"
    )
    itself = guard.replace("freefloat broker service", "A")

    assert log.add((THROWN.format("A") + guard) * 3) == []
    assert log.add(THROWN.format("A") + itself) == []
    assert len(log.add(THROWN.format("A") + itself)) == 1


def test_half_a_line_is_read_when_it_is_whole(log: Log) -> None:
    line = REFUSED.format("A", "Publish")

    assert log.add(line[:60]) == []
    assert len(log.add(line[60:])) == 1


def test_a_log_that_is_gone_or_has_no_line_s_end_stops_nobody(log: Log) -> None:
    assert log.add("x" * CHUNK) == []
    assert log.add("\n" + REFUSED.format("A", "Publish")) != []
    log.path.unlink()
    assert log.watch.look() == []


def test_names_that_are_remembered_are_bounded(log: Log) -> None:
    lines = [REFUSED.format(f"n{n}", "Publish") for n in range(NAMES_LIMIT + 5)]
    log.add("".join(lines))
    while log.watch.look():
        pass

    assert len(log.watch._judge._told_s) == NAMES_LIMIT


def test_a_long_log_begins_anew_and_its_newest_half_is_kept(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 23: who is refused decides how many lines come, and not how many stay."""
    monkeypatch.setattr(trespass, "LOG_LIMIT", 1_000)
    kept = log.path.with_name("broker.log.1")

    assert log.add(REFUSED.format("A", "Publish") * 20) != []
    assert log.path.stat().st_size == 0
    assert kept.stat().st_size == 500
    assert kept.stat().st_mode & 0o777 == 0o600
    [said] = log.add(REFUSED.format("B", "Publish"))
    assert said.startswith("B was refused")


def test_a_log_is_cut_also_where_its_copy_cannot_be_written(
    log: Log, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trespass, "LOG_LIMIT", 1_000)
    log.path.with_name("broker.log.1").mkdir()
    log.add(REFUSED.format("A", "Publish") * 20)

    assert log.path.stat().st_size == 0
    assert "cannot be bounded" in caplog.text


@given(st.binary(max_size=300))
def test_whatever_is_in_a_log_ends_no_watch(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("log") / "broker.log"
    path.write_bytes(data + b"\n")

    TrespassWatch(path, clock_s=lambda: 0.0).look()


@pytest.mark.broker
async def test_a_rogue_car_cannot_fill_the_disk_by_the_log_of_a_real_broker(
    fresh_room: Room, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 23: by what is refused on NATS, by coming and going on mosquitto."""
    monkeypatch.setattr(trespass, "LOG_LIMIT", 8_000)
    monkeypatch.setattr(trespass, "LOOK_S", 0.02)
    room, written = fresh_room, 0
    log = room.broker.log
    for _ in range(60):
        async with room.link(VEHICLE_A) as rogue:
            if not room.is_mosquitto:
                for _ in range(5):
                    await rogue.publish(up(VEHICLE_B), b"x")
        size = log.stat().st_size
        written = max(written, size)
    await asyncio.sleep(0.1)

    kept = log.with_name("broker.log.1")
    assert kept.stat().st_size == 4_000
    assert log.stat().st_size <= 8_000
    assert written < 16_000  # a look's worth more, never all of it
    # The broker goes on writing into the file that was cut, from its first byte on.
    async with room.link(VEHICLE_B):
        pass
    await asyncio.sleep(0.1)
    assert not (log.read_bytes() or kept.read_bytes()).startswith(b"\0")
    if not room.is_mosquitto:
        assert f"{VEHICLE_A} was refused" in caplog.text


@pytest.mark.broker
async def test_a_rogue_car_at_a_real_broker_is_named(
    fresh_room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 23, L6 to L8: publishing as another, listening to all, one name twice."""
    room = fresh_room  # whom another test had made a rogue is not named again
    expected = [f"{VEHICLE_A} threw itself off again and again"]
    async with contextlib.AsyncExitStack() as stack:
        rogue = await stack.enter_async_context(room.link(VEHICLE_A))
        if not room.is_mosquitto:
            expected = [
                f"{VEHICLE_A} was refused: it tried to {deed} topics of others"
                for deed in ("publish to", "subscribe to")
            ]
            await rogue.publish(up(VEHICLE_B), b"x")
            with pytest.raises(SubscriptionRefusedError):
                await rogue.subscribe("ff/v1/#")
        else:
            for _ in range(2):
                await stack.enter_async_context(room.link(VEHICLE_A))
        for _ in range(100):
            if all(one in caplog.text for one in expected):
                return
            await asyncio.sleep(0.1)
    raise AssertionError(caplog.text)
