"""The session of now: its id, how far each lane got, and its counters.

A session is what commands are signed for. A new one at every connect makes every
older command void at once, whatever a broker still holds (protocol-design.md 1.2).
"""

from typing import Final

from gateway.core.moment import Moment
from gateway.ports import LaneKey, RandomBytes
from gateway.runtime.journal import KEPT_MS
from protocol.identity import session_id

_RANDOM_SIZE: Final = 12
"""96 random bits, so that no session of this boot can be guessed or met again."""

_COUNTER_BITS: Final = 32


class Session:
    """Session id, lanes and the counters of frames that are in no ledger.

    The counters rise over restarts without being stored: the boot counter, which is
    stored, stands in their upper half.

    Args:
        boot_counter: how often the agent has started.
        random_bytes: for session ids.
        now: when the first one begins.
    """

    def __init__(
        self, boot_counter: int, random_bytes: RandomBytes, *, now: Moment
    ) -> None:
        self._boot_counter = boot_counter
        self._random_bytes = random_bytes
        self._hellos = 0
        self._batches = 0
        self._began_ms = 0
        self.lanes: dict[LaneKey, int] = {}
        """The last accepted sequence of each key and lane."""
        self.id = b""
        """16 bytes."""
        self.hello_seq = 0
        """The number of the newest HELLO, u64."""
        self.is_open = False
        """Whether the fleet can reach this session."""
        self.renew(now=now)

    @property
    def starts(self) -> int:
        """How often the agent has started, this run included."""
        return self._boot_counter

    def renew(self, *, now: Moment) -> None:
        """Begin a new session; commands of the one before are void."""
        self.id = session_id(self._boot_counter, self._random_bytes(_RANDOM_SIZE))
        self.lanes.clear()
        self._began_ms = now.boot_ms

    def is_in_journal(self, *, now: Moment) -> bool:
        """Return whether the journal still holds all that this session has accepted.

        It forgets nothing that is younger than `KEPT_MS`.
        """
        return now.boot_ms - self._began_ms < KEPT_MS

    def next_hello(self) -> int:
        """Return the next hello counter, u64."""
        self._hellos += 1
        self.hello_seq = self._boot_counter << _COUNTER_BITS | self._hellos
        return self.hello_seq

    def next_batch(self) -> int:
        """Return the next number of a telemetry frame, u64."""
        self._batches += 1
        return self._boot_counter << _COUNTER_BITS | self._batches
