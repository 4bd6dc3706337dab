"""What operators write about prices and stations, and what is refused of it."""

import re
from pathlib import Path
from typing import Final

import pytest

from bridge.errors import SettingsError
from bridge.settings import Settings, check_settings, parse_settings

OPERATIONS: Final = Path(__file__).parents[2] / "docs/operations.md"
API: Final = '[fleet]\ndirectory = "fleet"\n[api]\nkeys_file = "keys"\n'


def settings_of(text: str) -> Settings:
    made = parse_settings((API + text).encode(), directory=Path())
    check_settings(made)
    return made


def example() -> str:
    """Return the settings that docs/operations.md shows."""
    text = OPERATIONS.read_text(encoding="utf-8")
    found = re.search(r"```toml\n(\[mds\]\n.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1)


def test_the_settings_that_the_manual_shows_are_good() -> None:
    made = settings_of(example())

    assert made.gbfs is not None
    [plan] = made.gbfs.plans
    [minute], [kilometre] = plan.per_minute, plan.per_km
    assert (minute.rate, minute.interval, kilometre.start) == (0.31, 1, 100)
    [station] = made.stations
    assert (station.id, station.places, station.has_chargers) == ("bahnhof", 12, False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('currency = "EUR"', 'currency = "Euro"', r"\$.gbfs.plans\[[^]]*\].currency"),
        ("rate = 0.31", "cost = 0.31", r"\$.gbfs.plans\[[^]]*\].per_minute"),
        ("places = 12", "places = 0", r"\$.stations\[[^]]*\].places"),
        ("[48.14, 11.58]]", "[148.14, 11.58]]", r"\$.stations\[[^]]*\].area"),
        (", [48.14, 11.58]]", "]", r"length >= 3.*\$.stations\[[^]]*\].area"),
    ],
)
def test_a_price_or_station_that_is_wrong_is_named(
    old: str, new: str, said: str
) -> None:
    text = example()
    assert old in text

    with pytest.raises(SettingsError, match=said):
        settings_of(text.replace(old, new))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[[stations]]", "two stations have the id bahnhof"),
        ("[[gbfs.plans]]", "two gbfs.plans have the id minute"),
    ],
)
def test_two_of_one_id_are_refused(table: str, said: str) -> None:
    text = example()
    part = table + text.split(table)[1].split("\n[")[0] + "\n"

    with pytest.raises(SettingsError, match=said):
        settings_of(text.replace(table, part + table, 1))
