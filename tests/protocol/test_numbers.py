"""No number of the protocol is ever used again for another meaning.

``numbers_v1.json`` is the record: it only grows. A member that falls away stays in it,
and whoever adds one adds it there.
"""

import json
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Final

import pytest

from protocol import codes, rental_codes

RECORD: Final[dict[str, dict[str, str]]] = json.loads(
    (Path(__file__).parent / "numbers_v1.json").read_text(encoding="utf-8")
)
SPACES: Final[dict[str, type[IntEnum] | type[IntFlag]]] = {
    name: space
    for module in (codes, rental_codes)
    for name, space in vars(module).items()
    if isinstance(space, type) and issubclass(space, IntEnum | IntFlag) and list(space)
}


def numbers_of(space: type[IntEnum] | type[IntFlag]) -> dict[str, str]:
    return {f"0x{member.value:X}": str(member.name) for member in space}


def test_every_enumeration_is_on_record() -> None:
    """FF-EVO-01."""
    assert set(SPACES) == set(RECORD)


@pytest.mark.parametrize("name", RECORD)
def test_a_number_means_what_it_has_always_meant(name: str) -> None:
    """FF-EVO-01: what is in the code is on record, under the same number."""
    recorded = RECORD[name]

    present = numbers_of(SPACES[name])

    assert {number: recorded.get(number) for number in present} == present


@pytest.mark.parametrize("name", RECORD)
def test_no_name_stands_for_two_numbers(name: str) -> None:
    """FF-EVO-01."""
    names = list(RECORD[name].values())

    assert len(names) == len(set(names))
