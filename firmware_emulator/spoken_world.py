"""Words of scripts for what no customer does: faults, power, the way to the fleet.

Wear, weather and strangers too.
"""

from collections.abc import Callable
from typing import Final

from firmware_emulator.car import Car
from firmware_emulator.chance import seeded
from firmware_emulator.errors import StepError
from firmware_emulator.reader import Card
from firmware_emulator.saying import Deed, Stage, Verb, among, none, number, one, two
from gateway.core.events import UpdateBegan, UpdateEnded
from protocol.board.message import TROUBLE_CODES_LIMIT, Tyres

_ON_OFF: Final = ("off", "on")


def _to_car(change: Callable[[Car], None]) -> Deed:
    async def deed(stage: Stage) -> None:
        with stage.vehicle.devices.world.hands() as car:
            change(car)

    return deed


def _read_stranger(rest: list[str]) -> Deed:
    none(rest)
    card = Card.random(seeded(0, "stranger"))

    async def deed(stage: Stage) -> None:
        stage.vehicle.devices.reader.tap(card)

    return deed


def _read_link(rest: list[str]) -> Deed:
    word = among(rest, ("down", "up", "stall"))

    async def deed(stage: Stage) -> None:
        link = stage.vehicle.link
        if link is None:
            raise StepError("this car's link cannot be cut")
        {"down": link.cut, "up": link.restore, "stall": link.stall}[word]()

    return deed


def _read_power(rest: list[str]) -> Deed:
    among(rest, ("cut",))

    async def deed(stage: Stage) -> None:
        await stage.vehicle.power_cut()
        await stage.vehicle.wait_ready()

    return deed


def _read_restart(rest: list[str]) -> Deed:
    none(rest)

    async def deed(stage: Stage) -> None:
        await stage.vehicle.restart()

    return deed


def _read_update(rest: list[str]) -> Deed:
    word = among(rest, ("begin", "end"))

    async def deed(stage: Stage) -> None:
        gateway = stage.vehicle.gateway
        if gateway is None:
            raise StepError("the gateway does not run: nobody could ask it")
        gateway.report(UpdateBegan() if word == "begin" else UpdateEnded())

    return deed


def _read_reader(rest: list[str]) -> Deed:
    word = among(rest, _ON_OFF)

    async def deed(stage: Stage) -> None:
        reader = stage.vehicle.devices.reader
        (reader.fail if word == "off" else reader.repair)()

    return deed


def _read_board(rest: list[str]) -> Deed:
    word = among(rest, _ON_OFF)

    async def deed(stage: Stage) -> None:
        stage.vehicle.devices.board.cable_cut = word == "off"

    return deed


def _read_sky(rest: list[str]) -> Deed:
    word = among(rest, _ON_OFF)

    async def deed(stage: Stage) -> None:
        stage.vehicle.devices.positioning.sky = word == "on"

    return deed


def _read_disk(rest: list[str]) -> Deed:
    left = None if rest == ["free"] else round(number(rest, 0, 1_000_000))

    async def deed(stage: Stage) -> None:
        stage.vehicle.crowd_disk(left)

    return deed


def _read_bolts(rest: list[str]) -> Deed:
    word = among(rest, ("jam", "free"))

    def change(car: Car) -> None:
        car.faults.bolts_jammed = word == "jam"

    return _to_car(change)


def _read_supply(rest: list[str]) -> Deed:
    volts = None if rest == ["battery"] else number(rest, 0, 20)

    def change(car: Car) -> None:
        car.faults.supply_mv = None if volts is None else round(volts * 1_000)

    return _to_car(change)


def _read_energy(rest: list[str]) -> Deed:
    pct = number(rest, 0, 100)

    def change(car: Car) -> None:
        car.fuel_l = car.model.tank_l * pct / 100

    return _to_car(change)


def _read_wear(rest: list[str]) -> Deed:
    what, amount = two(rest)
    among([what.lower()], tuple(_WEAR))
    field, most = _WEAR[what.lower()]
    value = round(number([amount], 0, most))

    def change(car: Car) -> None:
        setattr(car.upkeep, field, value)

    return _to_car(change)


_WEAR: Final[dict[str, tuple[str, int]]] = {
    "oil": ("oil_pct", 100),
    "brakes": ("brake_pct", 100),
    "tread": ("tread_dmm", 254),
    "service-km": ("service_km", 65_000),
    "service-days": ("service_days", 10_000),
}


def _read_tyres(rest: list[str]) -> Deed:
    kinds = {kind.name.lower().replace("_", "-"): kind for kind in Tyres}
    kind = kinds[among(rest, tuple(kinds))]

    def change(car: Car) -> None:
        car.upkeep.tyres = kind

    return _to_car(change)


def _read_trouble(rest: list[str]) -> Deed:
    code = 0 if rest == ["none"] else _trouble(one(rest).upper())

    def change(car: Car) -> None:
        known = car.upkeep.trouble_codes
        newest_first = (code, *(each for each in known if each != code))
        car.upkeep.trouble_codes = newest_first[:TROUBLE_CODES_LIMIT] if code else ()

    return _to_car(change)


def _trouble(text: str) -> int:
    """Return the two bytes of a code as workshops write it (SAE J2012)."""
    system = "PCBU".find(text[:1])
    if system < 0 or len(text) != 5 or text[1] not in "0123":  # noqa: PLR2004 - P0301
        raise ValueError("a trouble code is written as P0301")
    return system << 14 | int(text[1]) << 12 | int(text[2:], 16)  # noqa: FURB166 - no prefix of a number


WORLD_VERBS: Final = (
    Verb("stranger", "hold somebody else's card to it", _read_stranger, "stranger"),
    Verb("link down|up|stall", "cut or restore the way", _read_link, "world"),
    Verb("power cut", "take the power away for a second", _read_power, "world"),
    Verb("restart", "end the agent in order and start it", _read_restart, "world"),
    Verb("update begin|end", "exchange the car's program", _read_update, "world"),
    Verb("reader off|on", "unplug the card reader", _read_reader, "world"),
    Verb("board off|on", "pull the board's cable", _read_board, "world"),
    Verb("disk KIB|free", "fill the car's disk but for so much", _read_disk, "world"),
    Verb("bolts jam|free", "jam the bolts", _read_bolts, "world"),
    Verb("sky off|on", "take the satellites away", _read_sky, "world"),
    Verb("supply VOLTS|battery", "force the 12 V supply", _read_supply, "world"),
    Verb("energy PERCENT", "set the level of tank or battery", _read_energy, "world"),
    Verb(
        "wear oil|brakes|tread|service-km|service-days AMOUNT",
        "set how worn something is",
        _read_wear,
        "world",
    ),
    Verb("tyres summer|winter|all-season|unknown", "fit tyres", _read_tyres, "world"),
    Verb("trouble CODE|none", "raise a trouble code", _read_trouble, "world"),
)
"""Everything of this kind, in the order of the help."""
