"""Telling what really happens, while it happens, to a person at a terminal.

A `Story` prints steps with what was seen at the car, and between them the frames that
crossed the wire. It only prints what it is given; whoever plays the rental gives it
what was seen. Colour adds and never carries: each light is named in words. What is as
it was after the step before is not said again.
"""

import shutil
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import Final

import click

from bridge.ports import Direction, FrameSeen
from firmware_emulator.board_firmware import Indicator
from firmware_emulator.script import StepReport
from protocol.codes import FrameClass, Light
from protocol.identity import VehicleId
from protocol.receipt import RECEIPT
from protocol.rendering import render_bytes
from tools.console import heading

COLOURS: Final = {
    Light.GREEN: "green",
    Light.YELLOW: "yellow",
    Light.RED: "red",
    Light.BLUE: "blue",
}
"""Colours of a terminal for the lights that have one."""

TAKEN: Final = frozenset({"", "duplicate"})
"""What the bridge says of a frame that it verified."""

INDENT: Final = " " * 10
"""Under the text of a step, behind its time."""

_NARROWEST: Final = 80


class Story:
    """Prints a demonstration; remembers the frames of the cars that it follows."""

    def __init__(self) -> None:
        """Begin the clock."""
        self._began = time.monotonic()
        self._followed: set[VehicleId] = set()
        self._frames: list[FrameSeen] = []
        self._last_light: dict[VehicleId, Indicator] = {}
        self._last_seen: tuple[str, ...] = ()
        self._receipted: dict[VehicleId, int] = {}
        self.frames_up = 0
        """Frames of all cars that the bridge verified."""
        self.frames_down = 0
        """Frames to all cars."""
        self.frames_refused: list[str] = []
        """Why the bridge did not take others."""

    def observe(self, seen: FrameSeen) -> None:
        """Take a frame from the bridge; it is printed before the next step."""
        if seen.direction is Direction.OUT:
            self.frames_down += 1
        elif seen.note in TAKEN:
            self.frames_up += 1
        else:
            self.frames_refused.append(seen.note)
        if seen.frame is None:
            return
        vehicle_id = seen.frame.header.vehicle_id
        if seen.frame.header.frame_class is FrameClass.RECEIPT:
            self._receipted[vehicle_id] = RECEIPT.parse(seen.frame.payload).upto
        if vehicle_id in self._followed:
            self._frames.append(seen)

    def follow(self, vehicle_id: VehicleId) -> None:
        """Print this car's frames from now on."""
        self._followed.add(vehicle_id)

    def unfollow(self, vehicle_id: VehicleId) -> None:
        """Print this car's frames no more, after those that are waiting."""
        self.tell_frames()
        self._followed.discard(vehicle_id)

    def chapter(self, title: str) -> None:
        """Begin a part."""
        self.tell_frames()
        click.echo()
        heading(title)

    def line(self, text: str, detail: str = "") -> None:
        """Print one thing that was done."""
        self.tell_frames()
        click.echo(f"{self._time()}  {_folded(text)}{_aside(text, detail)}")

    def seen(self, vehicle_id: VehicleId, report: StepReport) -> None:
        """Print what was seen at the car after a step, as far as it is news."""
        seen = (
            self._light(vehicle_id, report.indicator),
            "doors locked" if report.locked else "doors unlocked",
            "engine runs" if report.engine_running else "engine off",
            f"display: {report.words}" if report.words else "display: empty",
        )
        before, self._last_seen = self._last_seen, (str(report.indicator), *seen[1:])
        is_same_light = str(report.indicator) in before
        news = [now for now in seen if now not in before]
        if is_same_light:
            news = [now for now in news if now is not seen[0]]
        if news:
            click.echo(f"{INDENT}{_joined(news)}")

    def light_change(self, vehicle_id: VehicleId, light: Indicator) -> None:
        """Print what the lamp behind the windscreen shows now."""
        click.echo(f"{INDENT}{self._light(vehicle_id, light)}")

    def facts(self, *pairs: tuple[str, str]) -> None:
        """Print labelled facts."""
        self.tell_frames()
        for label, text in pairs:
            click.echo(f"{INDENT}{_dim(label.ljust(13))}{text}")

    def check(self, text: str) -> None:
        """Print something that was checked and held."""
        self.tell_frames()
        mark = click.style("ok", fg="green")
        click.echo(f"{INDENT}{mark}  {_folded(text, indent=f'{INDENT}    ')}")

    def tell_frames(self) -> None:
        """Print the frames that have crossed the wire since the last step."""
        frames, self._frames = self._frames, []
        for seen in frames:
            way = "car >" if seen.direction is Direction.IN else "car <"
            note = f"  ({seen.note})" if seen.note else ""
            text = f"{INDENT}{way} {render_bytes(seen.data)}{note}"
            click.echo(click.style(_fitted(text), fg="cyan", dim=True))

    def receipted(self, vehicle_id: VehicleId) -> int:
        """Return up to which entry the bridge has sent a receipt to this car."""
        return self._receipted.get(vehicle_id, 0)

    @property
    def elapsed_s(self) -> float:
        """Since the story began."""
        return time.monotonic() - self._began

    def _time(self) -> str:
        return _dim(f"{self.elapsed_s:6.1f} s")

    def _light(self, vehicle_id: VehicleId, light: Indicator) -> str:
        before = self._last_light.get(vehicle_id)
        self._last_light[vehicle_id] = light
        now = _lamp(light)
        if before is None or before == light:
            return f"light {now}"
        return f"light {_lamp(before)} -> {now}"


def _lamp(light: Indicator) -> str:
    colour = COLOURS.get(light.light)
    return click.style(f"● {light}", fg=colour, bold=True)


def _dim(text: str) -> str:
    return click.style(text, dim=True)


def _width() -> int | None:
    """Return the terminal's columns; a file or a pipe has none."""
    if not sys.stdout.isatty():
        return None
    return max(_NARROWEST, shutil.get_terminal_size().columns)


def _fitted(text: str) -> str:
    """Keep a line within the terminal; a file or a pipe gets all of it."""
    width = _width()
    return text if width is None or len(text) <= width else text[: width - 3] + "..."


def _folded(text: str, *, indent: str = INDENT) -> str:
    """Break a sentence between words where the terminal ends."""
    width = _width()
    if width is None:
        return text
    return f"\n{indent}".join(textwrap.wrap(text, width - len(indent)))


def _aside(text: str, detail: str) -> str:
    """Put a detail behind a sentence, or below it where the line has no room."""
    if not detail:
        return ""
    width = _width()
    has_room = width is None or len(INDENT) + len(text) + 2 + len(detail) <= width
    return _dim(f"  {detail}" if has_room else f"\n{INDENT}{detail}")


def _joined(parts: Sequence[str]) -> str:
    """Put what was seen in a line, or in two where the terminal is too narrow."""
    width = _width()
    line = ", ".join(parts)
    if width is None or len(INDENT) + len(click.unstyle(line)) <= width:
        return line
    *first, last = parts
    return ", ".join(first) + f",\n{INDENT}{last}" if first else last
