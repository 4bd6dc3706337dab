"""Write docs/states.md and docs/states.svg: ``python -m tools.states``.

The document is what the code does, since it is made from `gateway.core.table.TABLE`; a
test makes it again and compares. The theory of operation is the table's own docstring.
"""

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from gateway.core import table
from gateway.core.actuation import ACTUATION_MS
from gateway.core.appearance import CONDITIONS, light_of
from gateway.core.reading import Reading
from gateway.core.state import HandoverStage, Inspection, PaymentStage, State, Workshop
from gateway.core.table import TABLE, Trigger
from protocol.codes import EnergyKind, FaultKind, RentalMode
from tools.state_diagram import draw

PATH: Final = Path(__file__).parent.parent / "docs" / "states.md"
"""The document."""

DIAGRAM_PATH: Final = PATH.with_suffix(".svg")
"""Its diagram."""

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
            "![Modes and what leads from one to the next](states.svg)",
            "",
            *_transitions(),
            "",
            "A cell with a dash cannot happen: such a trigger raises",
            "`IllegalTransitionError`, changes nothing and is logged.",
            "",
            "## Conditions",
            "",
            "The technical axis; the first row that holds counts. The indicator is a",
            "function of both axes, and green only for AVAILABLE and OK (H15).",
            "",
            *_conditions(),
            "",
            "A refused card blinks red for 2 s before all of these.",
            "",
            "## Inside a rental",
            "",
            "STOPPED begins with the inspection; the right PIN ends it at the latest:",
            "",
            *(f"- {each.name}: {each.value};" for each in Inspection),
            "",
            "Paying at the pump stands beside the mode, which is REFUELLING or what",
            "follows it:",
            "",
            *(f"- {each.name}: {each.value};" for each in PaymentStage),
            "",
            "A handover stands beside the mode too. Until the second driver's PIN was",
            "right the car is the first's, and the mode changes by it only in STOPPED:",
            "",
            *(f"- {each.name}: {each.value};" for each in HandoverStage),
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


_EXAMPLES: Final = (
    (State(), True),
    (State(reading=_HEALTHY, faults=frozenset({FaultKind.LEDGER_LOST})), False),
    (State(reading=_HEALTHY, updating=True), False),
    (State(reading=_HEALTHY, workshop=Workshop(until_ms=1)), False),
    (State(reading=_HEALTHY, faults=frozenset({FaultKind.READER_GONE})), True),
    (State(reading=_HEALTHY), True),
)
"""A state for each row of the conditions, and whether a rental can be in it."""


def _conditions() -> list[str]:
    rows = [
        "| Condition | When | Indicator, AVAILABLE | Indicator, in a rental |",
        "|---|---|---|---|",
    ]
    for row, (example, is_in_rental) in zip(CONDITIONS, _EXAMPLES, strict=True):
        lamps = [
            _lamp(replace(example, mode=mode))
            for mode in (RentalMode.AVAILABLE, RentalMode.STOPPED)
        ]
        if not is_in_rental:
            lamps[1] = "does not begin"
        rows.append(f"| {row.condition.name} | {row.words} | {' | '.join(lamps)} |")
    return rows


def _lamp(state: State) -> str:
    light, blinking = light_of(state)
    return light.name.lower() + (" (alternating)" if blinking else "")


def generate_diagram() -> str:
    """Return the text of docs/states.svg."""
    return draw(
        {mode: light_of(State(mode=mode, reading=_HEALTHY))[0] for mode in TABLE}
    )


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
    """Write docs/states.md and docs/states.svg from the tables."""
    texts = {PATH: generate(), DIAGRAM_PATH: generate_diagram()}
    for path, text in texts.items():
        if not check:
            path.write_text(text, encoding="utf-8")
            click.echo(f"wrote docs/{path.name}")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            raise click.ClickException(
                f"docs/{path.name} is not up to date: run make docs"
            )


if __name__ == "__main__":
    main()
