"""The configuration body KNOWN_DAMAGE (C9)."""

import pytest

from protocol.damage_list import (
    DAMAGES_LIMIT,
    Damage,
    build_damage_list,
    parse_damage_list,
)
from protocol.errors import DecodeError
from protocol.rental_codes import DamageKind, DamagePlace

SCRATCH = Damage(DamagePlace.LEFT, DamageKind.SCRATCH, "below the handle, 8 cm")
DIRT = Damage(DamagePlace.INTERIOR, DamageKind.DIRT, "")


def test_a_list_survives_its_body() -> None:
    assert parse_damage_list(build_damage_list((SCRATCH, DIRT))) == (SCRATCH, DIRT)


def test_a_note_may_be_left_out() -> None:
    body = b'{"format":1,"damage":[{"place":"interior","kind":"dirt"}]}'

    assert parse_damage_list(body) == (DIRT,)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"no json", "known damage"),
        (b'{"format":2,"damage":[]}', "format 2"),
        (b'{"format":1,"damage":[],"x":1}', "unknown field"),
        (b'{"format":1,"damage":[{"place":"soul","kind":"dent"}]}', "SOUL"),
        (b'{"format":1,"damage":[{"place":"roof","kind":"rust"}]}', "RUST"),
        (build_damage_list((Damage(DamagePlace.ROOF, DamageKind.DENT, "x" * 201),)),
         "over 200 bytes"),
        (build_damage_list((DIRT,) * (DAMAGES_LIMIT + 1)), "limit 64"),
    ],
)  # fmt: skip
def test_what_is_no_list_is_refused_with_the_reason(
    body: bytes, complaint: str
) -> None:
    with pytest.raises(DecodeError, match=complaint):
        parse_damage_list(body)
