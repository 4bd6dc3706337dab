"""An agent that crashes again and again: wait, then do less, and never give up (I-30).

Each start costs the 12 V battery seconds of a busy computer, and a customer at the car
a door that does not open. So a start that follows a crash waits, longer each time.
After some of them the agent starts without all that a running rental can do without,
since what crashes is far more likely there than in reader, board and ledger. After a
while the whole agent is tried once more. Crashes of the reduced agent wait too, up to a
limit, for ever: a car is never given up.

A crash is the end of a run that nobody ordered. One that comes long after its start is
the first of its own. Power that goes in the first minute counts too, since a computer
that resets itself empties a battery as well; later it does not, since a starter motor
may take it.

Everything here is decided from a note of a few bytes that outlives process and boot. It
is written at most `WRITES_PER_START` times a start, and starts are rare by what is
decided here.
"""

from dataclasses import dataclass, replace
from enum import Enum, unique
from typing import Final

FREE_CRASHES: Final = 1
"""After so many the agent starts at once: the ledger is opened anew after an I/O error
(L13), and a crash by chance costs a customer no second."""

WHOLE_CRASHES: Final = 3
"""After more in a row the agent starts reduced."""

ENDINGS_LIMIT: Final = 8
"""Runs of which the end is remembered, for who asks what happened to the car."""

WRITES_PER_START: Final = 5
"""Of the note: counted, begun, settled, stable, ended."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what; the defaults are a car's."""

    first_wait_ms: int = 5_000
    """Before the start after the second crash in a row; doubles with each."""
    longest_wait_ms: int = 900_000
    """Before any start: then 96 starts a day at most, of some seconds each."""
    settled_ms: int = 60_000
    """A run as long as this is no loop of a computer that resets itself."""
    stable_ms: int = 600_000
    """A run as long as this has no fault of its start: what comes is another story."""
    reduced_ms: int = 600_000
    """How long the agent runs reduced before all of it is tried again; doubles with
    each try that failed."""
    longest_reduced_ms: int = 21_600_000
    """The longest of these: a car is whole again within six hours of its healing."""


@unique
class Stage(Enum):
    """How far the last run came."""

    ENDED = "ended"
    """In order, or it has not begun."""
    STARTING = "starting"
    SETTLED = "settled"
    STABLE = "stable"


@unique
class Ending(Enum):
    """How a run ended: why the agent was started anew."""

    ORDERED = "ordered"
    """In order: by the fleet, an update or whoever stopped it."""
    CRASH = "crash"
    """While the machine ran on."""
    MACHINE = "machine"
    """With the machine: power was lost, or it reset itself."""


@dataclass(frozen=True, slots=True)
class RunNote:
    """What is known of the runs before; the same bytes until the next change."""

    crashes: int = 0
    """In a row."""
    tries: int = 0
    """How often all of the agent was tried again in this storm."""
    reduced: bool = False
    """Whether the last run was reduced."""
    tries_whole: bool = False
    """Whether the next run tries all of the agent, whatever was."""
    stage: Stage = Stage.ENDED
    """How far the last run came."""
    boot_mark: str = ""
    """Of the machine's boot that it ran in."""
    endings: tuple[Ending, ...] = ()
    """How the runs before ended, oldest first, at most `ENDINGS_LIMIT`."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the agent starts."""

    wait_ms: int
    """To sleep before."""
    reduced: bool
    """Without uplink, renewal and recorder: what a running rental needs, no more."""
    in_storm: bool
    """Whether the storm that was told lasts, so that no rental begins."""


def plan_start(
    note: RunNote, *, boot_mark: str, patience: Patience
) -> tuple[Start, RunNote]:
    """Return how to start, and the note to keep before the wait.

    Args:
        note: as the last run left it.
        boot_mark: of the machine's present boot.
        patience: how long to wait.
    """
    same_boot = note.boot_mark == boot_mark
    crashes, tries = note.crashes, note.tries
    crashed = note.stage is Stage.STARTING or (
        note.stage in {Stage.SETTLED, Stage.STABLE} and same_boot
    )
    crashes += crashed
    in_storm = crashes > WHOLE_CRASHES
    # An ordered try comes at once, and so does a run of which nothing is wrong.
    waits = crashed and not note.tries_whole
    wait_ms = _wait_ms(crashes, patience) if waits else 0
    reduced = in_storm and not note.tries_whole
    planned = RunNote(
        crashes=crashes,
        tries=tries + note.tries_whole,
        reduced=reduced,
        stage=Stage.ENDED,
        boot_mark=boot_mark,
        endings=_endings(note, same_boot=same_boot),
    )
    return Start(wait_ms, reduced, in_storm), planned


def _endings(note: RunNote, *, same_boot: bool) -> tuple[Ending, ...]:
    """Return how runs ended, the last one included; a first start has none."""
    if not note.boot_mark:
        return note.endings
    unasked = Ending.CRASH if same_boot else Ending.MACHINE
    ending = Ending.ORDERED if note.stage is Stage.ENDED else unasked
    return (*note.endings, ending)[-ENDINGS_LIMIT:]


def _wait_ms(crashes: int, patience: Patience) -> int:
    doublings = crashes - FREE_CRASHES - 1
    if doublings < 0:
        return 0
    # Thirty doublings are longer than any limit, and no larger number is made.
    return min(patience.first_wait_ms << min(doublings, 30), patience.longest_wait_ms)


def begin(note: RunNote) -> RunNote:
    """Return the note of a run that begins now: its end counts from here."""
    return replace(note, stage=Stage.STARTING)


def settle(note: RunNote) -> RunNote:
    """Return the note of a run that came through its first minute."""
    return replace(note, stage=Stage.SETTLED)


def stabilise(note: RunNote) -> RunNote:
    """Return the note of a run that has shown that it can run.

    All crashes before a whole run are over. Those before a reduced one are not, but the
    wait begins anew.
    """
    if note.reduced:
        crashes = min(note.crashes, WHOLE_CRASHES + 1)
        return replace(note, stage=Stage.STABLE, crashes=crashes)
    return RunNote(stage=Stage.STABLE, boot_mark=note.boot_mark, endings=note.endings)


def end(note: RunNote, *, tries_whole: bool = False) -> RunNote:
    """Return the note of a run that ends in order.

    Args:
        note: of the run.
        tries_whole: whether it ends so that all of the agent is tried again.
    """
    return replace(note, stage=Stage.ENDED, tries_whole=tries_whole)


def reduced_for_ms(note: RunNote, patience: Patience) -> int:
    """Return how long a reduced run lasts before all of the agent is tried again."""
    doubled = patience.reduced_ms << min(note.tries, 30)
    return min(doubled, patience.longest_reduced_ms)
