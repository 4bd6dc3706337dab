"""The flight recorder at work: takes the car's steps and never holds it up.

It is shown each step after the commit. It works in a thread of its own, loses steps
rather than let the car wait, and gives up for a while when its disk takes nothing: a
recording is for people who ask afterwards, and no door waits for it.
"""

import asyncio
import logging
import threading
from collections import deque
from pathlib import Path
from typing import Final

from gateway.ports import Clock, Worker
from gateway.recorder.replay import Replayed
from gateway.recorder.ring import Ring
from gateway.recorder.tape import Tape
from gateway.runtime.step import Step

_LOG: Final = logging.getLogger(__name__)

WAITING_LIMIT: Final = 1_024
"""Steps that wait to be written; what comes on top is lost and a frame follows."""

PAUSE_MS: Final = 60_000
"""How long a disk that takes nothing is left alone."""


class FlightRecorder:
    """Records what the mind is told.

    Args:
        directory: of its files.
        tape: makes lines of steps.
        worker: writes; None writes in place.
        clock: time.
    """

    def __init__(
        self, directory: Path, *, tape: Tape, worker: Worker, clock: Clock
    ) -> None:
        self._ring = Ring(directory)
        self._tape = tape
        self._worker = worker
        self._clock = clock
        self._waiting: deque[Step] = deque()
        self._lost = False
        self._woken = asyncio.Event()
        self._quiet_until_ms = 0
        # The last write is made by the loop, while the worker may still be at one.
        self._writing = threading.Lock()

    def take(self, step: Step) -> None:
        """Take a step, as `gateway.runtime.step.Observer`; never blocks."""
        if len(self._waiting) < WAITING_LIMIT:
            self._waiting.append(step)
        else:
            self._lost = True
        self._woken.set()

    @property
    def written(self) -> int:
        """Bytes written by this run."""
        return self._ring.written

    def remembered(self) -> tuple[Replayed, ...]:
        """Return the newest steps as they were kept, all that were taken included."""
        self._write()
        with self._writing:
            return tuple(self._tape.remembered)

    async def run(self) -> None:
        """Record until cancelled; what has been taken until then is written."""
        try:
            while True:
                await self._woken.wait()
                self._woken.clear()
                await self._worker.run(self._write)
        finally:
            self._write()
            with self._writing:
                self._ring.close()

    def _write(self) -> None:
        with self._writing:
            self._write_waiting()

    def _write_waiting(self) -> None:
        now_ms = self._clock.now().boot_ms
        lines: list[bytes] = []
        while self._waiting:
            if self._ring.needs_file and not lines:
                self._tape.begin_anew("file")
            lines += self._tape.take(self._waiting.popleft())
        if self._lost:
            self._lost = False
            self._tape.begin_anew("gap")
        if not lines or now_ms < self._quiet_until_ms:
            return
        try:
            if not self._ring.append(b"".join(lines), now_ms=now_ms):
                self._tape.begin_anew("gap")
        except OSError as error:
            self._quiet_until_ms = now_ms + PAUSE_MS
            _LOG.warning("= the flight recorder pauses: %s", error)
