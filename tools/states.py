"""Write docs/states.md from the car's own table: ``python -m tools.states``.

The document is what the code does, since it is made from `gateway.core.table.TABLE`; a
test makes it again and compares. The theory of operation is the table's own docstring.
"""

import inspect
from pathlib import Path
from typing import Final

import click

from gateway.core import table
from gateway.core.actuation import ACTUATION_MS
from gateway.core.appearance import light_of
from gateway.core.reading import Reading
from gateway.core.state import State
from gateway.core.table import TABLE, Trigger
from protocol.codes import EnergyKind, RentalMode

PATH: Final = Path(__file__).parent.parent / "docs" / "states.md"
"""The document."""

_MEANINGS: Final = {
    RentalMode.AVAILABLE: "free",
    RentalMode.RESERVED: "kept for one customer until an instant of the car's clock",
    RentalMode.STOPPED: "rented, engine off",
    RentalMode.DRIVING: "rented, engine running",
    RentalMode.PARKED: "rented, locked, engine held; parking minutes count",
    RentalMode.REFUELLING: "rented, at a station; the fuel card's PIN is shown",
}

_HEALTHY: Final = Reading(
    locked=True,
    door_open=False,
    boot_open=False,
    window_open=False,
    engine_running=False,
    engine_released=False,
    ignition_on=False,
    lights_on=False,
    hazards_on=False,
    key_present=True,
    fuel_card_present=True,
    energy_kind=EnergyKind.FUEL,
    speed_dkmh=0,
    odometer_m=None,
    energy_pct=None,
    washer_pct=None,
    range_km=None,
    supply_mv=None,
)


def generate() -> str:
    """Return the text of docs/states.md."""
    return "\n".join(
        (
            "# The states of a car",
            "",
            "Made by `python -m tools.states` from `gateway/core/table.py`. Do not",
            "edit; a test compares.",
            "",
            *_prose(),
            "",
            "## Modes",
            "",
            *_modes(),
            "",
            "## Transitions",
            "",
            "```mermaid",
            *_diagram(),
            "```",
            "",
            *_transitions(),
            "",
            "A cell with a dash cannot happen: such a trigger raises",
            "`IllegalTransitionError`, changes nothing and is logged.",
            "",
            "## From a wish to a transition",
            "",
            "Doors and engine are orders to the board. Between the order and its",
            "read-back the mode stays, and one `Pending` at a time waits for at most",
            f"{ACTUATION_MS // 1_000} s. It ends in one of three ways:",
            "",
            "- the wanted state is read back: the trigger, and `OK` to a command;",
            "- the board refuses: its reason, executed *no*;",
            "- the time is over: `ACTUATOR_TIMEOUT`, executed *maybe*, and a fault,",
            "  told once.",
            "",
            "Should the engine start under a lock, the lock fails with `IGNITION_ON`",
            "and the rental goes on.",
            "",
        )
    )


def _prose() -> list[str]:
    """Return the table's docstring, whose rules are a list in Markdown too."""
    text = inspect.getdoc(table) or ""
    _title, _, rest = text.partition("\n")
    return rest.strip().splitlines()


def _modes() -> list[str]:
    rows = ["| Mode | Means | Indicator |", "|---|---|---|"]
    for mode in TABLE:
        light, _blinking = light_of(State(mode=mode, reading=_HEALTHY))
        rows.append(f"| {mode.name} | {_MEANINGS[mode]} | {light.name.lower()} |")
    return rows


def _diagram() -> list[str]:
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(TABLE)).name}"]
    for mode, row in TABLE.items():
        lines += [
            f"    {mode.name} --> {target.name}: {trigger.value}"
            for trigger, target in row.items()
        ]
    return lines


def _transitions() -> list[str]:
    modes = list(TABLE)
    rows = [
        "| What has become true | " + " | ".join(mode.name for mode in modes) + " |",
        "|---" * (len(modes) + 1) + "|",
    ]
    for trigger in Trigger:
        targets = (TABLE[mode].get(trigger) for mode in modes)
        cells = (target.name if target is not None else "-" for target in targets)
        rows.append(f"| {trigger.value} | " + " | ".join(cells) + " |")
    return rows


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if the file differs.")
def main(check: bool) -> None:
    """Write docs/states.md from the table."""
    text = generate()
    if not check:
        PATH.write_text(text, encoding="utf-8")
        click.echo(f"wrote docs/{PATH.name}")
    elif not PATH.exists() or PATH.read_text(encoding="utf-8") != text:
        raise click.ClickException("docs/states.md is not up to date: run make docs")


if __name__ == "__main__":
    main()
