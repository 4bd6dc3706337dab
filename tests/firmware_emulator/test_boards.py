"""The board port in memory: serial frames between production link and firmware."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from firmware_emulator import virtual_time
from firmware_emulator.board_firmware import BoardFirmware, Indicator
from firmware_emulator.boards import EmulatedBoard
from firmware_emulator.car import Car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.witness import Witness
from firmware_emulator.world import CarWorld
from gateway.core.events import (
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
    Event,
)
from protocol.board.link import BoardLink, OrderTaken
from protocol.board.message import SetLocks
from protocol.codes import Light


class Cable:
    """A car, its board and the port at the other end, in virtual time."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.clock = EmulatedClock(loop.time, lambda: 0.0)
        self.witness = Witness(self.clock)
        self.world = CarWorld(Car(seeded(1), locked=True), self.clock, self.witness)
        self.board = EmulatedBoard(self.world, self.clock)
        self.events: list[Event] = []

    async def live(self, story: Callable[["Cable"], Awaitable[None]]) -> None:
        life = asyncio.create_task(self.world.run())
        port = asyncio.create_task(self.board.run(self.events.append))
        try:
            await self.clock.sleep(100)
            await story(self)
        finally:
            life.cancel()
            port.cancel()


def live(story: Callable[[Cable], Awaitable[None]]) -> None:
    async def main() -> None:
        await Cable().live(story)

    virtual_time.run(main())


def test_an_order_is_read_back_as_an_event() -> None:
    async def story(cable: Cable) -> None:
        await cable.board.drive_locks(locked=False)
        await cable.clock.sleep(300)

        locked = [
            event.reading.locked
            for event in cable.events
            if isinstance(event, BoardReported)
        ]
        assert locked[0] is True
        assert locked[-1] is False

    live(story)


def test_a_refusal_of_the_board_is_an_event_with_its_reason() -> None:
    # I-1
    async def story(cable: Cable) -> None:
        with cable.world.hands() as car:
            car.open_door(inside=True)
        await cable.board.drive_locks(locked=True)
        await cable.clock.sleep(100)

        assert BoardRefused(BoardRefusal.DOOR_OPEN) in cable.events

    live(story)


def test_a_pulled_cable_is_one_loss_and_its_return_shows_the_light_again() -> None:
    # H15, I-16
    async def story(cable: Cable) -> None:
        await cable.board.show_light(Light.GREEN, blinking=False)
        cable.board.cable_cut = True
        await cable.clock.sleep(20_000)
        assert cable.world.firmware.indicator == Indicator(Light.FAULT_PATTERN)
        assert cable.events.count(BoardLost()) == 1

        await cable.board.show_light(Light.YELLOW, blinking=False)
        cable.board.cable_cut = False
        await cable.clock.sleep(5_000)

        assert cable.world.firmware.indicator == Indicator(Light.YELLOW)
        assert isinstance(cable.events[-1], BoardReported)

    live(story)


def test_an_order_given_while_the_cable_is_out_is_never_done_late() -> None:
    # domain-facts.md 7.2: late execution of queued safety commands.
    async def story(cable: Cable) -> None:
        cable.board.cable_cut = True
        await cable.clock.sleep(10_000)
        await cable.board.drive_locks(locked=False)
        await cable.clock.sleep(3_000)
        cable.board.cable_cut = False
        await cable.clock.sleep(30_000)

        assert cable.world.car.locked

    live(story)


def test_reports_arrive_in_the_order_in_which_the_car_changed() -> None:
    async def story(cable: Cable) -> None:
        await cable.board.drive_locks(locked=False)
        await cable.clock.sleep(300)
        cable.events.clear()
        for _ in range(50):
            with cable.world.hands() as car:
                car.open_door()
            with cable.world.hands() as car:
                car.close_door()
        await cable.clock.sleep(300)

        opened = [
            event.reading.door_open
            for event in cable.events
            if isinstance(event, BoardReported)
        ]
        assert opened[:100] == [True, False] * 50

    live(story)


def lossy(data: bytes, rng: Random, rate: float) -> bytes:
    """Lose, double and spoil bytes."""
    out = bytearray()
    for byte in data:
        fate = rng.random()
        if fate < rate:
            continue
        out.append(byte ^ 0x10 if fate < 2 * rate else byte)
        if 2 * rate <= fate < 3 * rate:
            out.append(byte)
    return bytes(out)


@pytest.mark.parametrize("seed", range(8))
def test_orders_get_through_a_line_that_spoils_one_byte_in_a_hundred(seed: int) -> None:
    # I-4, I-5: repeated until answered, carried out at most once each.
    rng = seeded(seed, "line")
    car = Car(seeded(seed), locked=True)
    firmware = BoardFirmware(car, now_ms=0)
    link = BoardLink(now_ms=0)
    taken = 0
    now_ms = 0

    def pass_time(duration_ms: int) -> int:
        nonlocal now_ms
        end_ms = now_ms + duration_ms
        orders_taken = 0
        while now_ms < end_ms:
            now_ms += 50
            car.advance(50)
            said = firmware.tick(now_ms=now_ms)
            said += firmware.receive(lossy(link.outgoing(), rng, 0.003), now_ms=now_ms)
            events = link.receive(lossy(said, rng, 0.003), now_ms=now_ms)
            events += link.advance(now_ms=now_ms)
            orders_taken += sum(isinstance(event, OrderTaken) for event in events)
        return orders_taken

    pass_time(2_500)  # until they have found each other
    for order in range(20):
        wanted = order % 2 == 1
        link.order(SetLocks(wanted), now_ms=now_ms)
        taken += pass_time(2_000)
        assert car.locked is wanted

    assert taken <= firmware.orders_carried_out <= 20
