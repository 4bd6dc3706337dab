"""The configuration body KNOWN_DAMAGE: what the fleet knows of this car's damage (C9).

JSON, so that who inspects cars can write it. The car shows it to each customer before
the drive, so that what comes on top can be told from what was there.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from protocol.codes import Code
from protocol.errors import DecodeError
from protocol.json_file import parse_file
from protocol.rental_codes import DamageKind, DamagePlace
from protocol.rental_event import NOTE_LIMIT
from protocol.sync import CONFIG_LIMIT

DAMAGE_LIST_FORMAT: Final = 1
"""The body's own revision."""

DAMAGES_LIMIT: Final = 64
"""Damages of one car: more would be read by no customer, and such a car is not rented
out (assumed)."""


@dataclass(frozen=True, slots=True)
class Damage:
    """One damage that is known."""

    place: DamagePlace
    """Where on the car."""
    kind: DamageKind
    """What it is."""
    note: str
    """For the customer; up to 200 bytes, may be empty."""


class _Damage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    place: str
    kind: str
    note: str = ""


class _DamageList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    damage: list[_Damage]


def parse_damage_list(body: bytes) -> tuple[Damage, ...]:
    """Read a body.

    Raises:
        DecodeError: not such a body; the message names the field.
    """
    read = parse_file(
        body,
        _DamageList,
        name="the list of known damage",
        limit=CONFIG_LIMIT,
        revision=DAMAGE_LIST_FORMAT,
    )
    if len(read.damage) > DAMAGES_LIMIT:
        raise DecodeError(
            Code.TOO_LARGE, f"{len(read.damage)} damages, limit {DAMAGES_LIMIT}"
        )
    return tuple(_parse(each) for each in read.damage)


def _parse(read: _Damage) -> Damage:
    if len(read.note.encode()) > NOTE_LIMIT:
        raise DecodeError(Code.TOO_LARGE, f"a note of over {NOTE_LIMIT} bytes")
    try:
        place = DamagePlace[read.place.upper()]
        kind = DamageKind[read.kind.upper()]
    except KeyError as error:
        raise DecodeError(
            Code.BAD_PARAM, f"unknown place or kind of damage: {error}"
        ) from None
    return Damage(place, kind, read.note)


def build_damage_list(damages: tuple[Damage, ...]) -> bytes:
    """Return the body."""
    return msgspec.json.encode(
        _DamageList(
            DAMAGE_LIST_FORMAT,
            [
                _Damage(each.place.name.lower(), each.kind.name.lower(), each.note)
                for each in damages
            ],
        )
    )
