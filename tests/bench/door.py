"""How long a renter stands at the door while the networks are down: I-13, 2 s at p99.

In real time, with everything between the card and the bolts: the gateway, its ledger
with fsync, the board's protocol and bolts, and a real broker and bridge behind the car,
which fail in the ways that a car can tell apart. A renter parks by card and comes back
by card, again and again; measured is from the card to open bolts.
"""

import asyncio
import logging
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

from firmware_emulator.car import ACTUATION_MS
from firmware_emulator.customer import Customer
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    choose_to_park,
    enter_pin,
    get_in,
    park_by_card,
    start_engine,
    stop_engine,
    tap_to_open,
)
from firmware_emulator.script import play_step
from firmware_emulator.vehicle import EmulatedVehicle, Way
from gateway.core.access import DEBOUNCE_MS
from protocol.codes import LockDefault
from tests.bench.figure import Figure, percentile
from tests.orders import api_of
from tools.rig import Rig, open_rig

CARS: Final = 10
"""At the same time, in one process: slower than a car that has a computer to itself."""

RETURNS: Final = 10
"""Of each car; so the 99th percentile is the second slowest of 100."""

LIMIT_MS: Final = 2_000.0
"""I-13."""

PATIENCE_S: Final = 10.0
"""How long bolts may take before the measurement is given up."""

_CARD: Final = Card(bytes.fromhex("04a1b2c3d4e5f6"))
_PIN: Final = "2468"
_NEXT_TAP_S: Final = DEBOUNCE_MS / 1e3 + 0.1
"""After a tap, before the next one is another tap and not the same."""

_AND_PARKS: Final = (
    get_in(),
    enter_pin(),
    start_engine(),
    stop_engine(),
    choose_to_park(),
    park_by_card(),
)
"""What a renter does who has got in."""


async def measure(returns: int = RETURNS) -> AsyncIterator[Figure]:
    """Yield p50, p99 and the slowest for each condition of the networks."""
    for name, strike in CONDITIONS.items():
        logging.disable(logging.WARNING)  # that there is no link is the point here
        try:
            with tempfile.TemporaryDirectory() as directory:
                async with open_rig(Path(directory) / "rig", cars=CARS) as rig:
                    waits = await _returns(rig, strike, returns)
        finally:
            logging.disable(logging.NOTSET)
        share = f"{len(waits)} taps; {ACTUATION_MS} ms of it are the bolts'"
        yield Figure(f"{name}, p50", percentile(waits, 0.5), "ms", 0.0, share)
        limit = f"at most {LIMIT_MS:.0f} (I-13)"
        yield Figure(f"{name}, p99", percentile(waits, 0.99), "ms", 0.0, limit)
        yield Figure(f"{name}, slowest", max(waits), "ms", 0.0)


def _nothing(_rig: Rig) -> None:
    """All is well: what the others are compared with."""


def _refuse(rig: Rig) -> None:
    """The network refuses every connection."""
    for car in rig.cars:
        _way(car).cut()


def _swallow(rig: Rig) -> None:
    """The network takes everything and passes nothing on (rows 14 and 15)."""
    for car in rig.cars:
        _way(car).stall()


def _freeze(rig: Rig) -> None:
    """The broker stands still with its connections open (row 20)."""
    os.kill(_broker(rig), signal.SIGSTOP)


def _kill(rig: Rig) -> None:
    """The broker is gone, and with it the way to the backend (row 19)."""
    os.kill(_broker(rig), signal.SIGKILL)


CONDITIONS: Final[dict[str, Callable[[Rig], None]]] = {
    "everything up": _nothing,
    "connections refused": _refuse,
    "a link that swallows everything": _swallow,
    "a broker that stands still": _freeze,
    "a broker that was killed": _kill,
}
"""What happens once the rental has begun, by its name in the table."""


async def _returns(
    rig: Rig, strike: Callable[[Rig], None], returns: int
) -> list[float]:
    """Begin a rental with each car, let the fault strike, and measure in ms."""
    customers = [Customer(car.devices, _CARD, _PIN) for car in rig.cars]
    api = api_of(rig)
    for car in rig.cars:
        await api.wait_online(car.vehicle_id)
        await api.reserve(car.vehicle_id, _CARD, _PIN, lock_default=LockDefault.PARK)
    await asyncio.gather(*map(_begin, customers))
    strike(rig)
    try:
        waits = await asyncio.gather(*(_come_back(one, returns) for one in customers))
    finally:
        for car in rig.cars:
            _way(car).restore()
        if strike is _freeze:
            os.kill(_broker(rig), signal.SIGCONT)
    return [wait for of_car in waits for wait in of_car]


async def _begin(customer: Customer) -> None:
    """Begin a rental and park the car."""
    await play_step(tap_to_open(), customer)
    await _park(customer)


async def _come_back(customer: Customer, returns: int) -> list[float]:
    return [await _return(customer) for _ in range(returns)]


async def _return(customer: Customer) -> float:
    """Come back to the parked car and park it again; return the ms at the door.

    Raises:
        StepError: something did not come about.
    """
    await asyncio.sleep(_NEXT_TAP_S)
    devices = customer.devices
    begin = time.perf_counter()
    customer.tap()
    await devices.witness.until(
        lambda: not devices.car.locked, timeout_s=PATIENCE_S, missing="open bolts"
    )
    took_ms = (time.perf_counter() - begin) * 1e3
    await _park(customer)
    return took_ms


async def _park(customer: Customer) -> None:
    await asyncio.sleep(_NEXT_TAP_S)
    for step in _AND_PARKS:
        await play_step(step, customer)


def _way(car: EmulatedVehicle) -> Way:
    way = car.link
    if way is None:
        raise RuntimeError("the rig's cars have a way that can be cut")
    return way


def _broker(rig: Rig) -> int:
    pid = rig.broker.pid
    if pid is None:
        raise RuntimeError("the rig's broker runs")
    return pid
