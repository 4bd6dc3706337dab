"""One car that floods harms itself alone; its ledger loses nothing (I-31, K23)."""

import asyncio
from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.admission import (
    BUSY_LIMIT,
    MODEST,
    OWN_LIMIT,
    REFUSED,
    SPARE,
    WAITING_LIMIT,
    IntakeRates,
    Turnstile,
)
from bridge.allowance import Rate
from bridge.credit import CREDIT_MOST
from bridge.figures import Figures
from bridge.settings import IntakeSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass, FrameType
from protocol.identity import VehicleId
from protocol.topic import topic_of
from tests.bridge.car import Car, receipt_of, sample
from tests.bridge.memory_broker import MemoryBroker, MemoryLink, Message
from tests.bridge.running import running_bridge, until
from tests.bridge.scraping import at, scraped
from tests.bridge.stream import entries_of
from tests.bridge.test_metrics import settings_of
from tests.bridge.world import BOOT_MS
from tests.depth import times

CARS = [VehicleId(bytes([number]) * 16) for number in range(3)]
RATES = IntakeRates(telemetry=Rate(10, 5), entries=Rate(2, 4))
LIMIT = 20


class Gate:
    """A turnstile with a clock and a link of its own."""

    def __init__(
        self, rates: IntakeRates = RATES, *, waiting_limit: int = LIMIT
    ) -> None:
        self.now_s = 100.0
        self.figures = Figures()
        self.turnstile = Turnstile(
            rates,
            figures=self.figures,
            clock_s=lambda: self.now_s,
            waiting_limit=waiting_limit,
        )
        self.link = MemoryLink(MemoryBroker())
        self.numbers = 0

    def send(self, car: VehicleId, frame_class: FrameClass, kind: int = 0) -> Message:
        self.numbers += 1
        payload = bytes(6) + kind.to_bytes(2, "big") + self.numbers.to_bytes(4, "big")
        message = Message(topic_of(car, frame_class), payload)
        self.link.inbox.put_nowait(message)
        return message

    async def admitted(self) -> list[Message]:
        """Take what comes in without time going on."""
        found: list[Message] = []
        while True:
            take = asyncio.ensure_future(self.turnstile.take(self.link, 256))
            for _ in range(10):
                await asyncio.sleep(0)
            if not take.done():
                take.cancel()
                return found
            found += take.result()  # type: ignore[arg-type] # what we sent

    def counted(self, name: str) -> float:
        return self.figures.registry.get_sample_value(f"freefloat_frames_{name}") or 0


async def test_telemetry_above_its_rate_is_dropped_and_counted() -> None:
    gate = Gate()
    sent = [gate.send(CARS[0], FrameClass.TELEM, FrameType.TELEMETRY) for _ in range(9)]

    assert await gate.admitted() == sent[:5]
    # Who dropped it must not get it again.
    assert [one.is_done.is_set() for one in sent] == [False] * 5 + [True] * 4
    assert gate.counted("dropped_total") == 4
    gate.now_s += 0.1
    later = gate.send(CARS[0], FrameClass.TELEM, FrameType.TELEMETRY)
    assert await gate.admitted() == [later]


@pytest.mark.parametrize(
    ("frame_class", "kind"),
    [
        (FrameClass.EVENT, FrameType.TELEMETRY),
        (FrameClass.RESULT, FrameType.RESULT),
        (FrameClass.HELLO, FrameType.HELLO),
        (FrameClass.TELEM, FrameType.PLACE),
    ],
)
async def test_what_must_not_be_lost_waits_unacknowledged_for_its_rate(
    frame_class: FrameClass, kind: int
) -> None:
    """I-23: a place too, though it comes where telemetry comes."""
    gate = Gate()
    sent = [gate.send(CARS[0], frame_class, kind) for _ in range(9)]

    assert await gate.admitted() == sent[:4]
    assert gate.turnstile.waiting == 5
    for position in range(4, 9):
        gate.now_s += 0.5
        assert await gate.admitted() == [sent[position]]
    assert not any(one.is_done.is_set() for one in sent)
    assert gate.counted("delayed_total") == 5


async def test_a_car_of_which_much_is_refused_loses_what_is_above_its_rate() -> None:
    """K23, I-31: a flood that nobody signed costs its rate of checks and no more."""
    gate = Gate()
    for _ in range(REFUSED.burst):
        gate.turnstile.refused(CARS[0])
    sent = [gate.send(CARS[0], FrameClass.EVENT) for _ in range(9)]
    other = [gate.send(CARS[1], FrameClass.EVENT) for _ in range(9)]

    assert await gate.admitted() == sent[:4] + other[:4]
    assert [one.is_done.is_set() for one in sent] == [False] * 4 + [True] * 5
    assert not any(one.is_done.is_set() for one in other)
    assert gate.turnstile.waiting == 5
    assert gate.counted("dropped_total") == 5

    # Once nothing was refused for two seconds it waits like everybody.
    gate.now_s += 2
    assert await gate.admitted() == other[4:8]
    gate.send(CARS[0], FrameClass.EVENT)
    more = [gate.send(CARS[0], FrameClass.EVENT) for _ in range(4)]
    await gate.admitted()
    assert not more[-1].is_done.is_set()


async def test_a_car_of_which_too_much_waits_already_loses_what_comes_on_top() -> None:
    """K23, I-31: no honest car has as much under way; what it signed comes again."""
    gate = Gate(waiting_limit=10 * OWN_LIMIT)
    sent = [gate.send(CARS[0], FrameClass.EVENT) for _ in range(4 + OWN_LIMIT + 3)]
    other = gate.send(CARS[1], FrameClass.EVENT)

    assert await gate.admitted() == [*sent[:4], other]
    assert gate.turnstile.waiting == OWN_LIMIT
    assert [one.is_done.is_set() for one in sent[-4:]] == [False, True, True, True]
    assert gate.counted("dropped_total") == 3
    gate.now_s += 0.5
    assert await gate.admitted() == [sent[4]]
    assert OWN_LIMIT > 2 * CREDIT_MOST


async def test_another_car_does_not_wait_behind_one_that_floods() -> None:
    """I-31, K23."""
    gate = Gate()
    for _ in range(15):
        gate.send(CARS[0], FrameClass.EVENT)
    other = gate.send(CARS[1], FrameClass.EVENT)

    assert (await gate.admitted())[-1] is other
    assert gate.turnstile.waiting == 11


async def test_when_too_many_wait_the_oldest_come_in_rather_than_stop_the_broker() -> (
    None
):
    """I-31: a broker stops serving who leaves too much unacknowledged."""
    gate = Gate()
    first = [gate.send(CARS[0], FrameClass.EVENT) for _ in range(4 + LIMIT + 1)]
    other = [gate.send(CARS[1], FrameClass.EVENT) for _ in range(4 + 3)]

    # Each car's in its order; the other one has none that waits.
    assert await gate.admitted() == [*first[:5], *other]
    assert gate.turnstile.waiting == LIMIT
    assert not any(one.is_done.is_set() for one in [*first, *other])


async def test_cars_that_flood_together_come_in_no_faster_than_one_by_one() -> None:
    """K23, I-31, I-22: two fill the room for what waits, a third goes on as it may.

    What is lost of it was no honest car's, and has no receipt.
    """
    gate = Gate(waiting_limit=2 * OWN_LIMIT)
    for car in CARS[:2]:
        for _ in range(4 + OWN_LIMIT):
            gate.send(car, FrameClass.EVENT)
    assert len(await gate.admitted()) == 2 * 4
    assert gate.turnstile.waiting == 2 * OWN_LIMIT

    third = [gate.send(CARS[2], FrameClass.EVENT) for _ in range(2_000)]
    came = await gate.admitted()
    for _ in range(20):
        gate.now_s += 0.5
        third += [gate.send(car, FrameClass.EVENT) for car in CARS for _ in range(100)]
        came += await gate.admitted()

    mine = [one for one in came if str(CARS[2]) in one.topic]
    assert mine == sorted(mine, key=third.index), "in their order"
    rate = RATES.entries
    assert len(mine) <= rate.burst + SPARE.burst + 10 * (rate.per_s + SPARE.per_s)
    assert (
        len(came) - len(mine) <= 2 * 10 * (rate.per_s + SPARE.per_s) + 2 * SPARE.burst
    )
    lost = [one for one in third if one.is_done.is_set()]
    assert len(lost) == gate.counted("dropped_total")


async def test_a_car_that_says_little_is_let_in_beside_few_frames_of_busy_ones() -> (
    None
):
    """K23, I-31: busy cars have their part of a batch together, and take turns."""
    fast = Rate(1_000, 10_000)
    gate = Gate(IntakeRates(fast, fast), waiting_limit=WAITING_LIMIT)
    for car in CARS[:2]:
        sent = [gate.send(car, FrameClass.EVENT) for _ in range(MODEST.burst)]
        assert await gate.admitted() == sent
    busy = [gate.send(car, FrameClass.EVENT) for _ in range(200) for car in CARS[:2]]
    honest = gate.send(CARS[2], FrameClass.EVENT)

    first = await gate.turnstile.take(gate.link, 512)
    second = await gate.turnstile.take(gate.link, 512)

    assert list(first) == [*busy[:BUSY_LIMIT], honest]
    assert list(second) == busy[BUSY_LIMIT : 2 * BUSY_LIMIT]
    assert not any(one.is_done.is_set() for one in busy)
    assert len(await gate.admitted()) == len(busy) - 2 * BUSY_LIMIT


async def test_what_a_lost_connection_left_waits_no_more() -> None:
    gate = Gate()
    for _ in range(9):
        gate.send(CARS[0], FrameClass.EVENT)
    await gate.admitted()

    gate.turnstile.forget()
    gate.now_s += 100

    assert gate.turnstile.waiting == 0
    assert await gate.admitted() == []


SAID = st.tuples(
    st.sampled_from(CARS),
    st.sampled_from([FrameClass.EVENT, FrameClass.TELEM, FrameClass.HELLO]),
    st.floats(0, 2),
)


@given(said=st.lists(SAID, max_size=60))
@hypothesis.settings(max_examples=times(30, deep=2_000))
def test_nothing_but_telemetry_is_lost_and_each_car_keeps_its_order(
    said: list[tuple[VehicleId, FrameClass, float]],
) -> None:
    """I-31 (P), I-25 (P): whatever cars send, and when."""

    async def run() -> None:
        gate, sent, came = Gate(), [], []
        for car, frame_class, step_s in said:
            sent.append(gate.send(car, frame_class, FrameType.TELEMETRY))
            gate.now_s += step_s
            came += await gate.admitted()
        while gate.turnstile.waiting:
            gate.now_s += 1
            came += await gate.admitted()

        assert len(came) == len(set(map(id, came)))
        lost = [one for one in sent if one not in came]
        assert all(one.is_done.is_set() and "telem" in one.topic for one in lost)
        assert len(lost) == gate.counted("dropped_total")
        for car in CARS:
            mine = [
                one.payload
                for one in came
                if str(car) in one.topic and "telem" not in one.topic
            ]
            assert mine == sorted(mine)

    asyncio.run(run())


@pytest.mark.broker
async def test_a_bridge_holds_a_car_to_its_rate_and_loses_no_entry_of_it(
    fleet: FleetDirectory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 5, point 1: per-car token buckets, in a running bridge (I-31)."""
    settings = msgspec.structs.replace(
        settings_of(fleet, tmp_path),
        intake=IntakeSettings(
            telemetry_per_s=0.1, telemetry_burst=2, entries_per_s=100, entries_burst=1
        ),
    )
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        car, broker = running.car, running.broker
        await running.say(FrameClass.HELLO, car.hello())
        entries = entries_of(car)
        waiting = [
            broker.deliver(car.topic(FrameClass.EVENT), entry) for entry in entries
        ]
        for _ in range(5):
            await running.say(FrameClass.TELEM, car.telemetry(sample()))
        other = Car(
            fleet.vehicle_directory(fleet.vehicle_ids()[1]), boot_ms=lambda: BOOT_MS
        )
        message = broker.deliver(other.topic(FrameClass.HELLO), other.hello())
        await message.is_done.wait()
        for one in waiting:
            await one.is_done.wait()

        def all_receipted() -> bool:
            said = map(receipt_of, broker.sent_of(FrameClass.RECEIPT))
            return any(receipt.upto == len(entries) for receipt in said)

        await until(all_receipted)
        _, found = await scraped(running.bridge)

    assert found[at("freefloat_frames_dropped_total")] == 3
    assert found[at("freefloat_frames_verified_total", frame_class="telem")] == 2
    assert found[at("freefloat_frames_delayed_total")] >= 1
    assert f"more than its rate is sent by: {car.id}" in caplog.text
