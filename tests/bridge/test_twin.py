"""The last known state: each field by its own stamp, with its age."""

from typing import Final

import pytest

from bridge.presence import SILENCE_MS
from bridge.twin import Field, Stamp, Twin, advance, age_ms, is_stale

NOW: Final = 1_800_000_000_000


def test_an_older_word_that_comes_later_changes_nothing() -> None:
    known: Twin = {"energy_pct": Field(60, NOW, NOW, Stamp(2, 500))}

    older = advance(
        known,
        {"energy_pct": 90, "washer_pct": 10},
        stamp=Stamp(1, 900),
        observed_ms=NOW - 9_000,
        received_ms=NOW + 5_000,
    )

    assert older["energy_pct"].value == 60
    assert older["washer_pct"] == Field(10, NOW - 9_000, NOW + 5_000, Stamp(1, 900))


@pytest.mark.parametrize(
    ("name", "age", "is_online", "expected"),
    [
        ("latitude_deg", SILENCE_MS, True, False),
        ("latitude_deg", SILENCE_MS + 1, True, True),
        ("locked", SILENCE_MS + 1, True, True),
        ("mode", 10 * SILENCE_MS, True, False),
        ("light", 10 * SILENCE_MS, True, False),
        ("mode", 0, False, True),
        ("latitude_deg", 0, False, True),
    ],
)
def test_a_field_is_stale_when_it_may_be_otherwise_by_now(
    name: str, age: int, is_online: bool, expected: bool
) -> None:
    field = Field(1, NOW - age, NOW, Stamp(1, 1))

    assert is_stale(name, field, is_online=is_online, now=NOW) is expected


def test_an_age_is_that_of_the_observation_and_never_below_nothing() -> None:
    observed = Field(1, NOW - 7_000, NOW - 1_000, Stamp(1, 1))
    unknown = Field(1, None, NOW - 1_000, Stamp(1, 1))
    ahead = Field(1, NOW + 9_000, NOW, Stamp(1, 1))

    ages = [age_ms(field, now=NOW) for field in (observed, unknown, ahead)]

    assert ages == [7_000, 1_000, 0]
