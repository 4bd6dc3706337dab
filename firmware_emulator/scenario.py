"""Scenarios: named stories of a car as data that a person can read, and their files.

A file of `firmware_emulator/scenarios` holds one family as TOML, a table for each
scenario::

    [blink]
    title = "The app makes a reserved car blink"
    shows = ["F5", "C6", "H16"]
    steps = '''
    fleet reserve           # Anna reserves the car
      expect answer ok
    '''

`steps` is a script (`firmware_emulator.spoken`): a line that acts is a step, the
`expect` and `never` lines behind it are what must come of it, and what stands behind
``#`` is how a person tells it.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, Final

import msgspec

from firmware_emulator.errors import ScriptError
from firmware_emulator.spoken import Line, parse_script
from protocol.codes import EnergyKind

FOLDER: Final = "scenarios"
"""Beside this file."""

NAME: Final = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"
"""How a scenario may be called."""

_Percent = Annotated[float, msgspec.Meta(ge=0, le=100)]


class CarSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the car stands there when the story begins."""

    electric: bool = False
    """Whether it has a battery instead of a tank (H13)."""
    energy_pct: _Percent = 80.0
    """Level of tank or battery."""
    washer_pct: _Percent = 60.0
    """Level of the washer tank."""

    @property
    def energy_kind(self) -> EnergyKind:
        """What it runs on."""
        return EnergyKind.ELECTRIC if self.electric else EnergyKind.FUEL


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    title: str
    shows: list[str]
    steps: str
    car: CarSettings = CarSettings()


@dataclass(frozen=True, slots=True)
class Scenario:
    """One story."""

    name: str
    """As it is called on the command line."""
    family: str
    """The file that it stands in."""
    title: str
    """In a sentence."""
    shows: tuple[str, ...]
    """Sequences, requirements and invariants: F8, C21, I-13."""
    car: CarSettings
    """The car."""
    steps: tuple[Line, ...]
    """What happens and what must be seen."""


def parse_family(family: str, text: str) -> dict[str, Scenario]:
    """Read one file.

    Raises:
        ScriptError: it is not understood; the message names scenario and line.
    """
    try:
        tables = msgspec.convert(
            tomllib.loads(text),
            dict[Annotated[str, msgspec.Meta(pattern=NAME)], _Table],
        )
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ScriptError(f"{family}: {error}") from None
    return {name: _scenario(family, name, table) for name, table in tables.items()}


def _scenario(family: str, name: str, table: _Table) -> Scenario:
    try:
        lines = parse_script(table.steps)
    except ScriptError as error:
        raise ScriptError(f"{name}: {error}") from None
    if not any(line.who == "watch" for line in lines):
        raise ScriptError(f"{name}: it expects nothing, so it cannot fail")
    if lines[0].who == "watch" and len(lines) == 1:
        raise ScriptError(f"{name}: nothing happens in it")
    return Scenario(
        name=name,
        family=family,
        title=table.title,
        shows=tuple(table.shows),
        car=table.car,
        steps=tuple(lines),
    )


@cache
def scenarios() -> dict[str, Scenario]:
    """Return all scenarios by name, in the order of their files.

    Raises:
        ScriptError: a file is not understood, or two have one name.
    """
    found: dict[str, Scenario] = {}
    folder = files(__package__).joinpath(FOLDER)
    paths = [path for path in folder.iterdir() if path.name.endswith(".toml")]
    for path in sorted(paths, key=lambda path: path.name):
        family = path.name.removesuffix(".toml")
        for name, each in parse_family(family, path.read_text("utf-8")).items():
            if name in found:
                raise ScriptError(f"{name} stands in {family} and before")
            found[name] = each
    return found
