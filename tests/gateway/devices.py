"""Devices of a car in memory: they implement the ports and do what a test says."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from gateway.core.events import (
    BoardRefusal,
    BoardRefused,
    BoardReported,
    CardPresented,
    DestinationEntered,
    Event,
    MenuChosen,
    PinEntered,
    PinVerdict,
    PumpEntered,
)
from gateway.core.prompts import NO_PROMPT, Choice, Prompt
from gateway.core.reading import Position
from gateway.ports import Clock, Report
from protocol.codes import Light
from tests.gateway.core.scene import RESTING

PARKED_CAR = replace(RESTING, odometer_m=12_000_000, range_km=500)


class FakeBoard:
    """Locks, engine hold and light; reports each second and after each movement."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._report: Report | None = None
        self.car = PARKED_CAR
        self.light: tuple[Light, bool] = (Light.OFF, False)
        self.orders: list[str] = []
        """Every actuation asked for, in order."""
        self.is_stuck = False
        """Orders are taken and nothing moves."""
        self.refusal: BoardRefusal | None = None
        self.hazards_s = 0
        self.is_mute = False
        """Nothing that it is asked is answered."""
        self.starts: int | None = 17

    @property
    def locked(self) -> bool:
        return self.car.locked

    async def run(self, report: Report) -> None:
        self._report = report
        try:
            while True:
                report(BoardReported(self.car))
                await self._clock.sleep_until(self._clock.now().boot_ms + 1_000)
        finally:
            self._report = None

    def change(self, **changes: object) -> None:
        """Change the car; it is told at once."""
        self.car = replace(self.car, **changes)  # type: ignore[arg-type] # by name
        self._tell(BoardReported(self.car))

    async def drive_locks(self, *, locked: bool) -> None:
        self.orders.append("lock" if locked else "unlock")
        self._obey(lambda: self.change(locked=locked))

    async def allow_engine(self, *, released: bool) -> None:
        self.orders.append("release" if released else "hold")
        self._obey(lambda: self.change(engine_released=released), of_engine=True)

    async def show_light(self, light: Light, *, blinking: bool) -> None:
        self.light = (light, blinking)

    async def flash_hazards(self, seconds: int) -> None:
        self.orders.append("hazards")
        self.hazards_s = seconds

    async def probe(self) -> None:
        if self.is_mute:
            await asyncio.Event().wait()

    def _obey(self, move: Callable[[], None], *, of_engine: bool = False) -> None:
        if self.refusal is not None:
            self._tell(BoardRefused(self.refusal, of_engine))
        elif not self.is_stuck:
            move()

    def _tell(self, event: Event) -> None:
        if self._report is not None:
            self._report(event)


class FakeReader:
    """Cards are held to it by the test."""

    def __init__(self) -> None:
        self._report: Report | None = None

    async def run(self, report: Report) -> None:
        self._report = report
        await asyncio.Event().wait()

    async def probe(self) -> None:
        assert self._report is not None, "start the world first"

    def present(self, uid: bytes) -> None:
        assert self._report is not None, "start the world first"
        self._report(CardPresented(uid))


class FakeDisplay:
    """Shows and takes what the test says."""

    def __init__(self) -> None:
        self._report: Report | None = None
        self.prompt: Prompt = NO_PROMPT
        self.secret = ""

    async def run(self, report: Report) -> None:
        self._report = report
        await asyncio.Event().wait()

    async def show(self, prompt: Prompt, *, secret: str) -> None:
        self.prompt, self.secret = prompt, secret

    def type_pin(self, pin: str) -> None:
        assert self._report is not None, "start the world first"
        self._report(PinEntered(pin))

    def choose(self, choice: Choice) -> None:
        assert self._report is not None, "start the world first"
        self._report(MenuChosen(choice))

    def type_pump(self, pump: int) -> None:
        assert self._report is not None, "start the world first"
        self._report(PumpEntered(pump))

    def type_destination(self, words: str) -> None:
        assert self._report is not None, "start the world first"
        self._report(DestinationEntered(words))


class FakePositioning:
    """A car that stands in one place."""

    def __init__(self) -> None:
        self.position: Position | None = Position(484_000_000, 99_900_000, 30, 90)

        self.sky_ms: int | None = None
        """What the satellites say; None while there is none in sight."""

    def fix(self) -> Position | None:
        return self.position

    def utc_ms(self) -> int | None:
        return self.sky_ms


class FakeVault:
    """Knows the PIN without any mathematics; answers at once or when told to."""

    def __init__(self, pin: str = "4711", fuel_pin: str = "0815") -> None:
        self._pin = pin
        self._fuel_pin = fuel_pin
        self.wait: Callable[[], Awaitable[object]] | None = None

    async def check_pin(self, sealed: bytes, rental_id: bytes, pin: str) -> PinVerdict:
        del rental_id
        if self.wait is not None:
            await self.wait()
        if not sealed:
            return PinVerdict.UNREADABLE
        return PinVerdict.RIGHT if pin == self._pin else PinVerdict.WRONG

    async def fuel_card_pin(self, sealed: bytes, rental_id: bytes) -> str:
        del rental_id
        return self._fuel_pin if sealed else ""
