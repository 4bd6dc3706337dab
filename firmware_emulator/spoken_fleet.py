"""Words of scripts for the fleet's side: reserve, order, tell the car of the world.

``fleet reserve park``, ``fleet blink 5``, ``fleet area away``. The car's signed answer
is looked at by ``expect answer ok``.
"""

import json
from collections.abc import Callable
from typing import Final

from firmware_emulator.backend import Backend, Fields
from firmware_emulator.errors import StepError
from firmware_emulator.saying import Deed, Stage, Verb, among, none, number, two
from firmware_emulator.street import MM_PER_M, Place
from protocol.business_area import AREA_FORMAT
from protocol.codes import ConfigKind
from protocol.damage_list import DAMAGE_LIST_FORMAT
from protocol.place import E7
from protocol.station_list import STATION_LIST_FORMAT

RESERVED_S: Final = 900
"""N1."""

AREA_DEGREES: Final = 0.02
"""Half the side of a square business area; about 2 km."""

SEARCH_S: Final = 60
"""How long the driver has to answer somebody who searches."""

AWAY_DEGREES: Final = 1.0
"""How far an area lies that the car is not in."""


def _backend(stage: Stage) -> Backend:
    if stage.backend is None:
        raise StepError("nobody is here who could order: this car has no fleet")
    return stage.backend


def _orders(kind: str, read: Callable[[list[str]], Fields]) -> Callable[..., Deed]:
    def make(rest: list[str]) -> Deed:
        fields = read(rest)

        async def deed(stage: Stage) -> None:
            stage.answer = await _backend(stage).order(kind, fields)

        return deed

    return make


def _nothing(rest: list[str]) -> Fields:
    none(rest)
    return {}


def _seconds(rest: list[str]) -> Fields:
    return {"seconds": round(number(rest, 1, 30))}


def _mode_of_lock(rest: list[str]) -> Fields:
    return {"mode": among(rest or ["default"], ("default", "park", "end", "plain"))}


def _mode(rest: list[str]) -> Fields:
    return {"mode": among(rest, ("park", "resume", "refuel", "refuel_done", "end"))}


def _default(rest: list[str]) -> Fields:
    return {"lock_default": among(rest, ("park", "end"))}


def _reason(rest: list[str]) -> Fields:
    allowed = ("rental", "operator", "pin_block_lifted")
    return {"reason": among(rest or ["rental"], allowed)}


def _reserve(rest: list[str]) -> Deed:
    lock_default = among(rest[:1] or ["end"], ("park", "end"))
    hold_s = round(number(rest[1:], 1, 3_600)) if rest[1:] else RESERVED_S
    fields: Fields = {"lock_default": lock_default, "hold_s": hold_s}

    async def deed(stage: Stage) -> None:
        spoken: Fields = {**fields, "language": stage.customer.language}
        stage.answer = await _backend(stage).reserve(stage.customer, spoken)

    return deed


def _area(rest: list[str]) -> Deed:
    word = among(rest, ("here", "away"))

    async def deed(stage: Stage) -> None:
        car = stage.vehicle.devices.car
        latitude_e7, longitude_e7 = car.city.coordinates(car.place)
        away = AWAY_DEGREES if word == "away" else 0.0
        north, east = latitude_e7 / 1e7 + away, longitude_e7 / 1e7
        half = AREA_DEGREES
        square = [
            (north - half, east - half),
            (north - half, east + half),
            (north + half, east + half),
            (north + half, east - half),
        ]
        body = {"format": AREA_FORMAT, "inside": [square], "outside": []}
        await _backend(stage).configure(
            ConfigKind.BUSINESS_AREA, json.dumps(body).encode()
        )

    return deed


def _damage(rest: list[str]) -> Deed:
    note = " ".join(rest)

    async def deed(stage: Stage) -> None:
        damage = [{"place": "rear", "kind": "dent", "note": note}]
        body = {"format": DAMAGE_LIST_FORMAT, "damage": damage}
        await _backend(stage).configure(
            ConfigKind.KNOWN_DAMAGE, json.dumps(body).encode()
        )

    return deed


def _place(words: list[str]) -> Place:
    """Read a place of the city, metres from its south-west corner."""
    east, north = (number([word], 0, 100_000) for word in two(words))
    return Place(round(east * MM_PER_M), round(north * MM_PER_M))


def _station(rest: list[str]) -> Deed:
    goal = _place(rest[:2])
    pays = among(rest[2:] or ["cash"], ("cash", "online")) == "online"

    async def deed(stage: Stage) -> None:
        car = stage.vehicle.devices.car
        latitude_e7, longitude_e7 = car.city.coordinates(goal)
        station = {
            "id": 7,
            "name": "Partner 7",
            "at": [latitude_e7 / 1e7, longitude_e7 / 1e7],
            "energy": car.model.energy_kind.name.lower(),
            "pays_online": pays,
        }
        body = {"format": STATION_LIST_FORMAT, "stations": [station]}
        await _backend(stage).configure(ConfigKind.STATIONS, json.dumps(body).encode())

    return deed


def _grant(rest: list[str]) -> Deed:
    word = among(rest or ["drive"], ("drive", "service"))

    async def deed(stage: Stage) -> None:
        backend = _backend(stage)
        fields: Fields = {
            "rights": word,
            "card": stage.customer.card.uid.hex(),
            "pin": stage.customer.pin,
            "language": stage.customer.language,
        }
        stage.answer = await backend.order("grant", fields)

    return deed


def _handover(rest: list[str]) -> Deed:
    for_s = round(number(rest[:1] or ["900"], 1, 3_600))
    goal = _place(rest[1:]) if rest[1:] else None

    async def deed(stage: Stage) -> None:
        place = stage.vehicle.devices.car.place if goal is None else goal
        fields: Fields = {
            "for_s": for_s,
            "card": stage.second.card.uid.hex(),
            "pin": stage.second.pin,
            **_at(stage, place),
        }
        stage.answer = await _backend(stage).order("handover_offer", fields)

    return deed


def _search(rest: list[str]) -> Deed:
    distance_m = round(number(rest or ["300"], 0, 10_000))

    async def deed(stage: Stage) -> None:
        fields: Fields = {
            "for_s": SEARCH_S,
            "distance_m": distance_m,
            "name": "Ben",
            **_at(stage, stage.vehicle.devices.car.place),
        }
        stage.answer = await _backend(stage).order("handover_request", fields)

    return deed


def _at(stage: Stage, place: Place) -> Fields:
    """Return a place of the city as the fleet says where two drivers meet."""
    city = stage.vehicle.devices.car.city
    latitude_e7, longitude_e7 = city.coordinates(place)
    return {"latitude_deg": latitude_e7 / E7, "longitude_deg": longitude_e7 / E7}


def _payment(rest: list[str]) -> Fields:
    return {"decision": among(rest, ("paid", "refused")), "amount_minor": 1_780}


def _component(rest: list[str]) -> Fields:
    return {"component": among(rest, ("reader", "board", "uplink", "agent"))}


def _service(rest: list[str]) -> Fields:
    return {"request": among(rest, ("on", "off"))}


_ORDERS: Final[dict[str, Callable[[list[str]], Deed]]] = {
    "reserve": _reserve,
    "cancel": _orders("cancel", _nothing),
    "unlock": _orders("unlock", _nothing),
    "lock": _orders("lock", _mode_of_lock),
    "blink": _orders("flash_hazards", _seconds),
    "ping": _orders("ping", _nothing),
    "mode": _orders("set_mode", _mode),
    "default": _orders("set_default_mode", _default),
    "hold": _orders("engine_hold", _reason),
    "release": _orders("engine_release", _reason),
    "grant": _grant,
    "service": _orders("service", _service),
    "payment": _orders("payment_decision", _payment),
    "handover": _handover,
    "search": _search,
    "restart": _orders("restart", _component),
    "area": _area,
    "station": _station,
    "damage": _damage,
}
"""What the fleet can be told to do, by its word."""


def _read(rest: list[str]) -> Deed:
    word = among(rest[:1], tuple(_ORDERS))
    return _ORDERS[word](rest[1:])


FLEET_VERBS: Final = (
    Verb(
        "fleet ORDER",
        f"let the fleet act: {', '.join(_ORDERS)}",
        _read,
        "fleet",
    ),
)
"""Everything of this kind, in the order of the help."""
