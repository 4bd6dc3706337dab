"""Performing a scenario: its steps one after another, and a verdict.

A step is an acting line with the expectations behind it. What is shown of it was seen
at the car, in its ledger and in the air; nothing is made up. The first expectation that
fails ends the scenario: what comes after it would tell about another story.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from firmware_emulator.errors import EmulatorError
from firmware_emulator.saying import Stage
from firmware_emulator.scenario import Scenario
from firmware_emulator.spoken import Line, say
from protocol.codes import FrameClass

SETTLE_MS: Final = 300
"""After a step, for frames that are still in the air; shown with their step then."""

_UNTOLD: Final = frozenset({FrameClass.TELEM, FrameClass.RECEIPT})
"""Frames that come all the time and belong to no step."""


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation and what became of it."""

    what: str
    """The line of the script."""
    why: str = ""
    """Why it failed; empty if it came about."""
    is_expectation: bool = True
    """False for a deed that was impossible."""

    @property
    def passed(self) -> bool:
        """Whether it came about."""
        return not self.why


@dataclass(frozen=True, slots=True)
class StepSeen:
    """One step and what was seen of it."""

    at_ms: int
    """When it began, from the scenario's beginning on."""
    who: str
    """Who acted: customer, fleet, stranger or world."""
    what: str
    """In words, or the line of the script."""
    line: str
    """The line of the script."""
    light_before: str
    """The lamp behind the windscreen."""
    light: str
    """The same, afterwards."""
    display_before: str
    """What a driver read before; no fuel card's PIN."""
    display: str
    """The same, afterwards."""
    menu: tuple[str, ...]
    """What could then be filled in and chosen."""
    frames: tuple[str, ...]
    """What crossed the air: "< RESERVE", "> RentalStarted"."""
    checks: tuple[Check, ...]
    """What had to come of it."""

    @property
    def passed(self) -> bool:
        """Whether all of it came about."""
        return all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a scenario."""

    name: str
    """Which."""
    checks: int
    """Expectations that were looked at."""
    failed: tuple[str, ...]
    """What did not come about, with the reason."""
    not_reached: int
    """Expectations behind the first that failed."""
    took_ms: int
    """Of the world's time."""

    @property
    def passed(self) -> bool:
        """Whether everything came about."""
        return not self.failed and not self.not_reached


async def perform(
    scenario: Scenario, stage: Stage
) -> AsyncIterator[StepSeen | Verdict]:
    """Play a scenario; yield each step when it is over, and the verdict at the end."""
    clock = stage.vehicle.devices.clock
    # What the car tells of its start belongs to no step.
    await clock.sleep(SETTLE_MS)
    began_ms = clock.elapsed_ms
    groups = _steps(scenario.steps)
    checked, failed = 0, tuple[str, ...]()
    for group in groups:
        seen = await _perform_step(group, stage, began_ms)
        yield seen
        checked += sum(check.is_expectation for check in seen.checks)
        failed = tuple(f"{each.what}: {each.why}" for each in seen.checks if each.why)
        if failed:
            break
    total = sum(line.who == "watch" for line in scenario.steps)
    yield Verdict(
        name=scenario.name,
        checks=checked,
        failed=failed,
        not_reached=total - checked,
        took_ms=clock.elapsed_ms - began_ms,
    )


def _steps(lines: Sequence[Line]) -> list[list[Line]]:
    """Group each acting line with the expectations behind it."""
    groups: list[list[Line]] = []
    for line in lines:
        if line.who == "watch" and groups:
            groups[-1].append(line)
        else:
            groups.append([line])
    return groups


async def _perform_step(group: Sequence[Line], stage: Stage, began_ms: int) -> StepSeen:
    devices = stage.vehicle.devices
    at_ms = devices.clock.elapsed_ms - began_ms
    before = str(devices.world.firmware.indicator)
    read_before = devices.display.public_words
    mark = 0 if stage.backend is None else len(stage.backend.frames)
    checks: list[Check] = []
    for line in group:
        try:
            await say(line, stage)
        except EmulatorError as error:
            checks.append(Check(line.text, str(error), line.who == "watch"))
            break
        if line.who == "watch":
            checks.append(Check(line.text))
    await devices.clock.sleep(SETTLE_MS)
    first = group[0]
    return StepSeen(
        at_ms=at_ms,
        who="" if first.who == "watch" else first.who,
        what=first.comment or first.text,
        line=first.text,
        light_before=before,
        light=str(devices.world.firmware.indicator),
        display_before=read_before,
        display=devices.display.public_words,
        menu=devices.display.menu,
        frames=_frames(stage, mark),
        checks=tuple(checks),
    )


def _frames(stage: Stage, mark: int) -> tuple[str, ...]:
    if stage.backend is None:
        return ()
    return tuple(
        str(note)
        for note in stage.backend.frames[mark:]
        if note.frame_class not in _UNTOLD
    )
