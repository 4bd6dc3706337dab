"""Physics is judged when the bolts move, not when the lock was asked for (I-1, I-2).

Between a card and the bolts lie a decision, a commit, a serial line and the board. Two
ways of looking at what may happen in between: a car's mind and its board stepped
through every order of events that is short enough, and whole cars in which the engine
starts, the ignition goes on or a door opens at each turn of the event loop once. The
judge is the car's own body (`WatchedCar`). Boards without their look at the physics,
which would act on what was true when the order was given, are found by both.
"""

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from firmware_emulator.board_firmware import BoardFirmware
from firmware_emulator.car import Car, Leaf
from firmware_emulator.chance import seeded
from firmware_emulator.rental_script import RentalPlan, rental_steps
from firmware_emulator.script import play
from firmware_emulator.virtual_time import VirtualTimeLoop
from gateway.core.access import BOARDING_MS
from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.actuation import ACTUATION_MS
from gateway.core.board_report import event_of
from gateway.core.events import BoardReported, CardPresented, Event
from gateway.core.prompts import Choice
from gateway.core.state import State
from gateway.core.vehicle import handle
from protocol.board.framing import BoardDecoder, build_frame
from protocol.board.link import OrderRefused
from protocol.board.message import Ack, BoardFrame, Refused, SetLocks
from protocol.board.message import AllowEngine as EngineOrder
from tests.firmware_emulator import test_rental
from tests.firmware_emulator.test_rental import Scene as Stage
from tests.gateway.core.abstraction import NOW, plain
from tests.gateway.core.scene import CARD, RESTING, Scene
from tests.simulation.watched_car import WatchedCar

CHANCE: Final = seeded(1)
Order = SetLocks | EngineOrder


class RaceLostError(AssertionError):
    """Bolts closed, or the engine was held, over what forbids it."""


def _lose(why: str) -> None:
    raise RaceLostError(why)


def judged(car: Car, complain: Callable[[str], None] = _lose) -> WatchedCar:
    """Return a body that complains when it is locked or held in an unsafe moment."""
    watched = WatchedCar.of(car)

    def bolts(locked: bool) -> None:
        unsafe = (
            watched.engine_running
            or watched.ignition_on
            or bool(watched.open_leaves)
            or watched.speed_mm_per_s > 0
        )
        if locked and unsafe:
            complain("I-1: bolts set off over what forbids them")

    def starter(released: bool) -> None:
        if not released and (watched.engine_running or watched.speed_mm_per_s > 0):
            complain("I-2: the engine was held while it runs")

    watched.on_bolts, watched.on_starter = bolts, starter
    return watched


# --- every order of events ------------------------------------------------------------


@dataclass(frozen=True)
class Body:
    """What of a car matters here."""

    locked: bool = False
    released: bool = True
    engine: bool = False
    ignition: bool = False
    door: bool = False


@dataclass(frozen=True)
class Place:
    """A mind, a body, and the orders between them."""

    mind: State
    body: Body = Body()
    line: tuple[Order, ...] = ()


def _told(place: Place, event: Event) -> Place:
    """Let the mind take an event; its orders go onto the line."""
    decision = handle(place.mind, event, now=NOW)
    orders = list(place.line)
    for action in decision.actions:
        if isinstance(action, DriveLocks):
            orders.append(SetLocks(action.locked))
        elif isinstance(action, AllowEngine):
            orders.append(EngineOrder(action.released))
    return replace(place, mind=plain(decision.state), line=tuple(orders))


def _tap(place: Place) -> Place:
    return _told(place, CardPresented(CARD))


def _report(place: Place) -> Place:
    body = place.body
    reading = replace(
        RESTING,
        locked=body.locked,
        engine_released=body.released,
        engine_running=body.engine,
        ignition_on=body.ignition,
        door_open=body.door,
    )
    return _told(place, BoardReported(reading))


def _arrive(place: Place) -> Place:
    """Let the board get the first order; what it refuses is told to the mind."""
    if not place.line:
        return place
    order, *others = place.line
    body, answer = _obeyed(place.body, order)
    reached = replace(place, body=body, line=tuple(others))
    if isinstance(answer, Ack):
        return reached
    refused = event_of(OrderRefused(order, answer.reason))
    assert refused is not None
    return _told(reached, refused)


@functools.cache
def _obeyed(body: Body, order: Order) -> tuple[Body, Ack | Refused]:
    """Return what the board's production program makes of a body, and its answer."""
    car = judged(
        Car(
            CHANCE,
            locked=body.locked,
            starter_released=body.released,
            engine_running=body.engine,
            ignition_on=body.ignition,
            open_leaves={Leaf.DRIVER} if body.door else set(),
        )
    )
    firmware = BoardFirmware(car, now_ms=0)
    said = firmware.receive(build_frame(BoardFrame(1, order)), now_ms=0)
    car.advance(1_000)
    answer = BoardDecoder().feed(said)[0].message
    assert isinstance(answer, Ack | Refused)
    return replace(body, locked=car.locked, released=car.starter_released), answer


def _engine_starts(place: Place) -> Place:
    engine = place.body.released
    return replace(place, body=replace(place.body, engine=engine, ignition=True))


def _engine_stops(place: Place) -> Place:
    return replace(place, body=replace(place.body, engine=False, ignition=False))


def _door_opens(place: Place) -> Place:
    return replace(place, body=replace(place.body, door=True, locked=False))


def _door_closes(place: Place) -> Place:
    return replace(place, body=replace(place.body, door=False))


STEPS: Final[tuple[tuple[str, Callable[[Place], Place]], ...]] = (
    ("the card", _tap),
    ("the board reports", _report),
    ("an order arrives", _arrive),
    ("the engine starts", _engine_starts),
    ("the engine stops", _engine_stops),
    ("a door opens", _door_opens),
    ("a door closes", _door_closes),
)

MOST_ORDERS: Final = 3
"""On the line at once; the link holds one of each kind."""


def explore() -> tuple[int, str | None]:
    """Visit every place that can be reached; return how many, and a lost race."""
    stopped = Scene()
    stopped.rent_and_release()
    begin = Place(plain(stopped.state))
    _obeyed.cache_clear()
    came_from: dict[Place, tuple[str, ...]] = {begin: ()}
    waiting = deque([begin])
    while waiting:
        place = waiting.popleft()
        for name, step in STEPS:
            way = (*came_from[place], name)
            try:
                after = step(place)
            except RaceLostError as lost:
                return len(came_from), f"{lost}: {', '.join(way)}"
            if after not in came_from and len(after.line) <= MOST_ORDERS:
                came_from[after] = way
                waiting.append(after)
    return len(came_from), None


def _locks_blindly(self: BoardFirmware, *, locked: bool) -> Ack:
    """Plant: what the gateway saw when it ordered is good enough."""
    self.car.move_bolts(locked=locked)
    return Ack()


def _holds_blindly(self: BoardFirmware, *, released: bool) -> Ack:
    """Plant: the same for the engine."""
    self.car.set_starter(released=released)
    return Ack()


def test_no_order_of_events_moves_bolts_over_an_engine_or_an_open_door() -> None:
    """I-1 (M), I-2: mind and board through all that may happen between them."""
    places, lost = explore()

    assert lost is None
    assert places > 1_000


def test_a_board_that_believes_the_gateway_loses_a_race_that_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I-1 (M): the race is planted, and comes with a shortest way to it."""
    monkeypatch.setattr(BoardFirmware, "_set_locks", _locks_blindly)

    _, lost = explore()

    assert lost is not None
    *begin, last_but_one, last = lost.rpartition(": ")[2].split(", ")
    assert begin == ["the card", "an order arrives"]  # the engine's, of two
    assert last_but_one in {"the engine starts", "a door opens"}
    assert last == "an order arrives"


# --- every turn of the loop -----------------------------------------------------------


class StruckLoop(VirtualTimeLoop):
    """A loop in virtual time that does something before one of its turns."""

    def __init__(self) -> None:
        super().__init__()
        self._left = 0
        self._blow: Callable[[], None] | None = None

    def strike(self, turns: int, blow: Callable[[], None]) -> None:
        """Do it after so many turns."""
        self._left, self._blow = turns, blow

    def _run_once(self) -> None:
        self._left -= 1
        if self._left <= 0 and self._blow is not None:
            blow, self._blow = self._blow, None
            blow()
        super()._run_once()  # type: ignore[misc] # of BaseEventLoop, which has no stub


def _start(car: Car) -> None:
    car.ignition_on, car.engine_running = True, car.starter_released


def _switch_on(car: Car) -> None:
    car.ignition_on = True


def _open(car: Car) -> None:
    car.open_door(inside=True)


MOST_TURNS: Final = 500

FEWEST_TURNS: Final = 3
"""That lie between a card and the bolts at the least; else nothing was tried."""

UP_TO_THE_PIN: Final = 6
"""Steps of a rental."""


async def race(stage: Stage, blow: Callable[[Car], None]) -> int:
    """Strike at the first turn behind a tap that parks, at the second, and so on.

    Returns:
        How many locks it came before.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StruckLoop)
    devices, customer, clock = stage.devices, stage.customer, stage.devices.clock

    is_late = False

    def hit() -> None:
        nonlocal is_late
        with devices.world.hands() as car:
            is_late = car.locked or car.bolts_moving
            blow(car)

    for turns in range(MOST_TURNS):
        customer.choose(Choice.PARK)
        await clock.sleep(BOARDING_MS + 1_000)
        assert devices.car.starter_released
        loop.strike(turns, hit)
        customer.tap()
        await clock.sleep(ACTUATION_MS + 1_000)
        if is_late:
            return turns
        with devices.world.hands() as car:
            car.engine_running = car.ignition_on = False
            car.close_door()
        customer.type_pin()
        await clock.sleep(1_000)
    raise AssertionError("no lock was ever quicker than what was done to it")


def run_races(
    directory: Path, monkeypatch: pytest.MonkeyPatch, blow: Callable[[Car], None]
) -> tuple[int, list[str]]:
    """Return how many locks were struck in time, and what was wrong with them."""
    complaints: list[str] = []
    make = test_rental.car
    monkeypatch.setattr(
        test_rental, "car", lambda seed: judged(make(seed), complaints.append)
    )

    async def main() -> int:
        async with test_rental.scene(directory) as stage:
            await stage.reserve()
            async for _ in play(
                rental_steps(RentalPlan())[:UP_TO_THE_PIN], stage.customer
            ):
                pass
            return await race(stage, blow)

    with asyncio.Runner(loop_factory=StruckLoop) as runner:
        return runner.run(main()), complaints


BLOWS: Final = (_start, _switch_on, _open)


@pytest.mark.parametrize("blow", BLOWS)
def test_whatever_happens_at_whichever_await_no_bolt_closes_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blow: Callable[[Car], None]
) -> None:
    """I-1 (D), I-2: the whole gateway, struck at each turn between card and bolts."""
    struck, complaints = run_races(tmp_path, monkeypatch, blow)

    assert complaints == []
    assert struck > FEWEST_TURNS


def test_a_whole_car_whose_board_believes_the_gateway_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-1 (D), I-2: the same faults, planted."""
    monkeypatch.setattr(BoardFirmware, "_set_locks", _locks_blindly)
    monkeypatch.setattr(BoardFirmware, "_allow_engine", _holds_blindly)

    _, complaints = run_races(tmp_path, monkeypatch, _start)

    assert {complaint[:3] for complaint in complaints} == {"I-1", "I-2"}
