"""What can be seen of an emulated car, and waiting for it to be seen.

Whoever tells or tests a rental asks the witness, never the gateway's memory: doors and
light are seen at the car, prompts at the display, ledger entries where they are
committed. Waiting is for an event with a deadline, and a deadline that passes says what
was missing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from firmware_emulator.clock import EmulatedClock
from firmware_emulator.errors import StepError
from gateway.core.ledger import SealedEntry
from gateway.core.state import State
from gateway.runtime.step import Step
from protocol.codes import FrameClass
from protocol.entry import split_entry
from protocol.event import EventBody, parse_event
from protocol.frame import parse_frame
from protocol.result import RESULT, Result

ENTRIES_KEPT: Final = 10_000
"""Entries that a witness remembers; a day of random life makes about 200."""


@dataclass(frozen=True, slots=True)
class EntrySeen:
    """A ledger entry, as it was committed."""

    seq: int
    """Its place in the ledger."""
    body: EventBody | Result
    """What it says."""
    at_ms: int
    """The world's time."""

    def __str__(self) -> str:
        return f"#{self.seq} {type(self.body).__name__}"


class Witness:
    """Remembers what was seen and wakes whoever waits for it."""

    def __init__(self, clock: EmulatedClock) -> None:
        """Begin with nothing seen."""
        self._clock = clock
        self._waiting: set[asyncio.Future[None]] = set()
        self.entries: list[EntrySeen] = []
        """Committed ledger entries, oldest first; the newest `ENTRIES_KEPT`."""
        self.state = State()
        """What the gateway committed last; for reports, never for deciding a test."""

    def notice(self) -> None:
        """Something may look different now."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def stepped(self, step: Step) -> None:
        """Take one step of the gateway; it is durable by now.

        This is a `gateway.runtime.step.Observer`. The event is not looked at: it may
        hold a PIN.
        """
        self.state = step.decision.state
        for entry in step.entries:
            body = _body(entry)
            self.entries.append(EntrySeen(entry.seq, body, self._clock.elapsed_ms))
        del self.entries[:-ENTRIES_KEPT]
        self.notice()

    @property
    def last_seq(self) -> int:
        """The newest entry's place in the ledger, 0 before the first."""
        return self.entries[-1].seq if self.entries else 0

    def since(self, seq: int) -> tuple[EntrySeen, ...]:
        """Return the entries after that one."""
        return tuple(entry for entry in self.entries if entry.seq > seq)

    async def until(
        self, condition: Callable[[], bool], *, timeout_s: float, missing: str
    ) -> None:
        """Return as soon as the condition holds, at once if it does.

        Args:
            condition: cheap; asked again whenever something may look different.
            timeout_s: seconds of the event loop's time.
            missing: what to say if it does not come about, as "the light to be red".

        Raises:
            StepError: it did not come about.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.add(future)
                    try:
                        await future
                    finally:
                        self._waiting.discard(future)
        except TimeoutError:
            raise StepError(f"waited {timeout_s:g} s in vain for {missing}") from None


def _body(entry: SealedEntry) -> EventBody | Result:
    frame = parse_frame(entry.frame)
    _, body = split_entry(frame.payload)
    if entry.frame_class is FrameClass.RESULT:
        return RESULT.parse(body)
    return parse_event(frame.header.type, frame.header.schema, body)
