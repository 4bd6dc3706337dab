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
from collections.abc import Sequence
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


class Verifier:
    """Judges claims; used by one thread at a time."""

    def __init__(self, *, program: Sequence[str] | None = None) -> None:
        """Begin without a process.

        Args:
            program: what to start, for tests; it has the socket as standard input.
        """
        self._program = program or (sys.executable, "-m", "bridge.verifier_process")
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._failures = 0
        self._pause = 0
        self._generation = 0

    @property
    def pid(self) -> int | None:
        """The process's id, while there is one."""
        return None if self._process is None else self._process.pid

    def judge(self, claims: Sequence[Claim]) -> list[bool]:
        """Return for each claim whether it holds, as `holds` does; blocks."""
        return self.answers(claims, self.ask(claims))

    def ask(self, claims: Sequence[Claim]) -> int:
        """Send claims to the process, so that it judges while we do something else.

        Whoever asks again before the answers collects them in the same order.

        Returns:
            What `answers` is to be given: which process has them, or 0 for none.
        """
        if len(claims) < LARGE or (self._connection is None and not self._start()):
            return 0
        connection = self._connection
        if connection is None:
            raise AssertionError("it was started")
        try:
            connection.send_bytes(pack(claims))
        except OSError as error:
            # What is not taken in time is a BlockingIOError.
            self._give_up(f"{type(error).__name__}: {error}")
            return 0
        return self._generation

    def answers(self, claims: Sequence[Claim], asked: int) -> list[bool]:
        """Return for each claim whether it holds; blocks.

        Args:
            claims: what `ask` was given.
            asked: what it returned.
        """
        answer = None
        if asked and asked == self._generation and self._connection is not None:
            answer = self._receive(self._connection, len(claims))
        if answer is None:
            return [holds(claim) for claim in claims]
        return [one == HOLDS for one in answer]

    def close(self) -> None:
        """End the process; the verifier can be used again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                # It ends by itself when the socket does.
                self._process.wait(timeout=1.0)
            self._process.kill()
            self._process.wait()
            self._process = None

    def _receive(self, connection: Connection, count: int) -> bytes | None:
        try:
            answer = connection.recv_bytes(count)
        except (EOFError, OSError) as error:
            # No answer in time is a BlockingIOError.
            self._give_up(f"{type(error).__name__}: {error}")
            return None
        if len(answer) != count:
            self._give_up(f"{len(answer)} answers to {count} claims")
            return None
        self._failures = 0
        return answer

    def _give_up(self, reason: str) -> None:
        self._failures += 1
        self._pause = min(2**self._failures, PAUSE_MOST)
        LOG.warning(
            "= the verifying process failed (%s); started again in %d large batches",
            reason,
            self._pause,
        )
        self.close()

    def _start(self) -> bool:
        if self._pause:
            self._pause -= 1
            return False
        ours, theirs = socket.socketpair()
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, _PATIENCE)
        try:
            self._process = subprocess.Popen(self._program, stdin=theirs.fileno())  # noqa: S603 - our own program
        except OSError as error:
            ours.close()
            self._give_up(str(error))
            return False
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._generation += 1
        return True
