"""Scripts: steps that say what is done and what must then be seen.

A step is done by a customer and is over when everything that it promises has really
come about: a light at the board, bolts, a word on the display, an entry in the ledger.
If something does not come in its time, the script ends with the name of what was
missing. `play` yields a report after every step; nothing in it is made up.

`firmware_emulator.rental_script` has the steps of a rental::

    customer = Customer(vehicle.devices, card, pin="2468")
    async for report in play(rental_steps(RentalPlan()), customer):
        print(report)
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_emulator.board_firmware import Indicator
from firmware_emulator.customer import Customer
from firmware_emulator.devices import EmulatedDevices
from firmware_emulator.errors import StepError
from firmware_emulator.witness import EntrySeen
from gateway.catalogue.words import menu_of, words_of
from gateway.core.prompts import Prompt, PromptKey
from protocol.codes import Light, RentalMode
from protocol.event import EventBody

STEP_TIMEOUT_S: Final = 10.0
"""For what must be seen after a deed: actuation takes 0.15 s, a PIN check 0.1 s, a
word on the display stands 5 s before the next; slow machines get the rest."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """Something that must be seen before a step is over."""

    what: str
    """As in "waited for ...": "the light to be red"."""
    holds: Callable[[EmulatedDevices, int], bool]
    """Takes the devices and the ledger's newest sequence before the step."""


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """One deed and what must come of it."""

    title: str
    """A sentence about the deed, without the customer's name: "taps the card"."""
    deed: Callable[[Customer], Awaitable[None]]
    """What the customer does."""
    expects: tuple[Expectation, ...]
    """What must then be seen, all of it."""


@dataclass(frozen=True, slots=True)
class StepReport:
    """What was seen when a step was over."""

    title: str
    """The step's."""
    started_ms: int
    """The world's time before the deed."""
    took_ms: int
    """Until everything expected was seen."""
    indicator: Indicator
    """The lamp behind the windscreen."""
    locked: bool
    """Whether the bolts are closed."""
    engine_running: bool
    """Whether the engine runs."""
    prompt: Prompt
    """What stands on the display."""
    mode: RentalMode
    """The gateway's mode."""
    entries: tuple[EntrySeen, ...]
    """Ledger entries committed during the step."""
    odometer_m: int
    """Distance ever driven."""
    energy_pct: int
    """Level of the tank."""
    washer_pct: int
    """Level of the washer tank."""

    @property
    def words(self) -> str:
        """The display's English words in a line; the fuel card's PIN is not in them."""
        return " / ".join(words_of(self.prompt).splitlines())

    @property
    def menu(self) -> tuple[str, ...]:
        """What can be filled in and chosen, in English words."""
        return menu_of(self.prompt)

    def __str__(self) -> str:
        bolts = "locked" if self.locked else "open"
        names = ", ".join(type(entry.body).__name__ for entry in self.entries)
        return (
            f"{self.title}: light {self.indicator}, doors {bolts}, "
            f"{self.mode.name.lower()}, ledger + {names or 'nothing'} "
            f"[{self.took_ms / 1_000:.1f} s]"
        )


async def play(
    steps: Sequence[ScriptStep],
    customer: Customer,
    *,
    timeout_s: float = STEP_TIMEOUT_S,
) -> AsyncIterator[StepReport]:
    """Play steps one after another and yield what was seen after each.

    Args:
        steps: from `rental_steps`, or your own.
        customer: who plays.
        timeout_s: for each expectation after the deed.

    Raises:
        StepError: something did not come about; earlier steps stay done.
        DeedError: a deed was impossible.
    """
    for step in steps:
        yield await play_step(step, customer, timeout_s=timeout_s)


async def play_step(
    step: ScriptStep, customer: Customer, *, timeout_s: float = STEP_TIMEOUT_S
) -> StepReport:
    """Play one step and return what was seen.

    Raises:
        StepError: something did not come about.
        DeedError: the deed was impossible.
    """
    devices = customer.devices
    seq = devices.witness.last_seq
    started_ms = devices.clock.elapsed_ms
    await step.deed(customer)
    for expectation in step.expects:
        try:
            await devices.witness.until(
                lambda expected=expectation: expected.holds(devices, seq),  # type: ignore[misc] # a default of a lambda has no annotation
                timeout_s=timeout_s,
                missing=expectation.what,
            )
        except StepError as error:
            raise StepError(f"{step.title}: {error}; {_seen(devices, seq)}") from error
    return _report(step.title, devices, seq, started_ms)


def _report(
    title: str, devices: EmulatedDevices, seq: int, started_ms: int
) -> StepReport:
    car = devices.car
    return StepReport(
        title=title,
        started_ms=started_ms,
        took_ms=devices.clock.elapsed_ms - started_ms,
        indicator=devices.world.firmware.indicator,
        locked=car.locked,
        engine_running=car.engine_running,
        prompt=devices.display.prompt,
        mode=devices.witness.state.mode,
        entries=devices.witness.since(seq),
        odometer_m=car.odometer_m,
        energy_pct=car.energy_pct,
        washer_pct=car.washer_pct,
    )


def _seen(devices: EmulatedDevices, seq: int) -> str:
    names = [type(entry.body).__name__ for entry in devices.witness.since(seq)]
    return (
        f"seen was light {devices.world.firmware.indicator}, doors "
        f"{'locked' if devices.car.locked else 'open'}, display "
        f"{devices.display.prompt.key.value!r}, "
        f"ledger + {', '.join(names) or 'nothing'}"
    )


# --- what can be expected -----------------------------------------------------------


def light(colour: Light, *, blinking: bool = False) -> Expectation:
    """Expect the lamp behind the windscreen to show this."""
    wanted = Indicator(colour, blinking)
    return Expectation(
        f"the light to be {wanted}",
        lambda devices, _: devices.world.firmware.indicator == wanted,
    )


def bolts(*, locked: bool) -> Expectation:
    """Expect the bolts to be closed or open."""
    return Expectation(
        f"the doors to be {'locked' if locked else 'unlocked'}",
        lambda devices, _: devices.car.locked is locked,
    )


def prompt(*keys: PromptKey) -> Expectation:
    """Expect these words on the display, or the same for another kind of car."""
    return Expectation(
        f"the display to say {' or '.join(repr(key.value) for key in keys)}",
        lambda devices, _: devices.display.prompt.key in keys,
    )


def entry(kind: type[EventBody]) -> Expectation:
    """Expect an event of this kind to be in the ledger since the step began."""
    return Expectation(
        f"{kind.__name__} in the ledger",
        lambda devices, seq: any(
            isinstance(seen.body, kind) for seen in devices.witness.since(seq)
        ),
    )


def starter(*, released: bool) -> Expectation:
    """Expect the engine's start to be released or held."""
    return Expectation(
        f"the engine to be {'released' if released else 'held'}",
        lambda devices, _: devices.car.starter_released is released,
    )
