"""The bridge's end of the process that verifies signatures.

Rule 1: that process is a matter of speed alone. Without it, or when it ends or does not
answer, the claims are judged here, as every small batch is.
Rule 2: it is started when the first large batch comes, and again after it failed, so a
bridge that has little to do has no second process.
"""

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final

from bridge.verification import Claim, holds
from bridge.verifier_process import HOLDS, pack
from bridge.wire import LOG

LARGE: Final = 16
"""Claims from which it pays to send them: below, the way there and back, 0.2 ms, is
more than what the other process takes off us."""

ANSWER_S: Final = 10.0
"""How long an answer may take: a full batch is 20 ms of work, and Python starts within
a second on a machine that is busy."""

PAUSE_MOST: Final = 1_024
"""Large batches, or parts of them, judged here before it is started again, after the
tenth failure in a row; 2 after the first, 4 after the second."""

_PATIENCE: Final = struct.pack("@ll", int(ANSWER_S), 0)
"""The same as a `struct timeval` (socket(7), SO_RCVTIMEO)."""


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One process that verifies, and the way to it."""

    process: subprocess.Popen[bytes]
    """Has the other end."""
    connection: Connection
    """Our end. Closed with the last reference and not before: a descriptor that is
    closed while the other thread is in a call with it may be another file by then."""

    def end(self) -> None:
        """End the process; whoever sends or receives just now gets an error."""
        descriptor = self.connection.fileno()
        with (
            socket.fromfd(descriptor, socket.AF_UNIX, socket.SOCK_STREAM) as ours,
            contextlib.suppress(OSError),  # the other end may be gone
        ):
            ours.shutdown(socket.SHUT_RDWR)
        # It ends by itself when the socket does.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=1.0)
        self.process.kill()
        self.process.wait()


class Verifier:
    """Judges claims; one thread may ask while another one collects answers."""

    def __init__(self, *, program: Sequence[str] | None = None) -> None:
        """Begin without a process.

        Args:
            program: what to start, for tests; it has the socket as standard input.
        """
        self._program = program or (sys.executable, "-m", "bridge.verifier_process")
        self._lock = threading.Lock()
        self._line: Line | None = None
        self._failures = 0
        self._pause = 0

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        line = self._line
        return None if line is None else line.process.pid

    def ask(self, claims: Sequence[Claim]) -> Line | None:
        """Send claims to the process, so that it judges while we do something else.

        Whoever asks again before the answers collects them in the same order. Blocks
        while the process takes nothing, for `ANSWER_S` at most.

        Returns:
            What `answers` is to be given: who has them, or None for nobody.
        """
        if len(claims) < LARGE:
            return None
        with self._lock:
            line = self._line or self._start()
        if line is None:
            return None
        try:
            line.connection.send_bytes(pack(claims))
        except OSError as error:
            # What is not taken in time is a BlockingIOError.
            self._give_up(line, f"{type(error).__name__}: {error}")
            return None
        return line

    def answers(self, claims: Sequence[Claim], asked: Line | None) -> list[bool]:
        """Return for each claim whether it holds; blocks.

        Args:
            claims: what `ask` was given.
            asked: what it returned.
        """
        answer = None
        if asked is not None and asked is self._line:
            answer = self._receive(asked, len(claims))
        if answer is None:
            return [holds(claim) for claim in claims]
        return [one == HOLDS for one in answer]

    def close(self) -> None:
        """End the process; the verifier can be used again."""
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.end()

    def _receive(self, line: Line, count: int) -> bytes | None:
        try:
            answer = line.connection.recv_bytes(count)
        except (EOFError, OSError) as error:
            # No answer in time is a BlockingIOError.
            self._give_up(line, f"{type(error).__name__}: {error}")
            return None
        if len(answer) != count:
            self._give_up(line, f"{len(answer)} answers to {count} claims")
            return None
        self._failures = 0
        return answer

    def _give_up(self, line: Line, reason: str) -> None:
        with self._lock:
            if line is not self._line:
                return  # the other thread did, or it was closed
            self._line = None
            self._fail(reason)
        line.end()

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._pause = min(2**self._failures, PAUSE_MOST)
        LOG.warning(
            "= the verifying process failed (%s); started again in %d large batches",
            reason,
            self._pause,
        )

    def _start(self) -> Line | None:
        if self._pause:
            self._pause -= 1
            return None
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, _PATIENCE)
        try:
            process = subprocess.Popen(self._program, stdin=theirs.fileno())  # noqa: S603 - our own program
        except OSError as error:
            ours.close()
            self._fail(str(error))
            return None
        finally:
            theirs.close()
        self._line = Line(process, Connection(ours.detach()))
        return self._line
