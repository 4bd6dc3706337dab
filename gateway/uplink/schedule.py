"""What the car sends first, how much of it at once, and when it sends again; no I/O.

Rules:

1. Entries go in the order of the ledger, from the oldest without a receipt, as many as
   the fleet gives credit for. Before them goes only what the fleet asked for again.
2. Frames of no ledger go when no entry can: answers at once, telemetry a few frames at
   a time. Entries and telemetry have windows of their own, so a rental's end never
   waits behind a backlog of telemetry, here or at the broker (protocol-design.md 3).
   Telemetry also waits for entries that only lack credit, as after a long outage:
   what the rental was comes first (reliability.md row 13). Where the receipts stay
   away it waits no longer, since a fleet that stores nothing may still want to see.
3. An entry has arrived when its receipt says so. The broker's acknowledgement says
   nothing (reliability.md L1): a bridge that was away when an entry passed never saw
   it, and nobody else will tell. So what has no receipt after a while is sent again,
   ever more rarely, and a session that nobody answers is announced again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final

from transport.backoff import Backoff

FIRST_CREDIT: Final = 32
"""Entries under way before the first receipt of a session names a number: 32 results
are 10 KiB, a few seconds of a poor link."""

BATCH: Final = 16
"""Entries read and published together: enough to hide one round trip."""

TELEMETRY_WINDOW: Final = 2
"""Frames of telemetry under way: 2 KiB, half a second of a poor link, which is all that
an entry can find before it."""

AGAIN_LIMIT: Final = 64
"""Ranges that wait to be sent again, twice as many as a receipt can name."""

PATIENCE_MS: Final = 15_000
"""First wait for a receipt: a bridge answers within a second; three of its restarts fit
into fifteen."""

HELLO_BACKOFF: Final = Backoff(initial_s=6.0, maximum_s=300.0, jitter=0.25)
"""Waits for an answer to a hello, 4.5 to 6 s at first: a bridge answers in a second,
and a link whose round trips take longer than 3 s is not made within its connect
timeout. Nobody can order anything of the car meanwhile, so it is less than the patience
with a receipt; and a hello is no connection, which a broker pays for (K22)."""

PATIENCE_LIMIT_MS: Final = 300_000
"""Longest wait, so that a bridge which was away for a day hears everything within five
minutes of its return."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Entries to read from the store and publish."""

    first: int
    """Sequence of the first one."""
    limit: int
    """How many at most."""


@unique
class Overdue(Enum):
    """What nobody has answered."""

    HELLO = "the session"
    RECEIPT = "entries"


class Schedule:
    """What was sent in this session and what is next."""

    def __init__(self, *, random: Callable[[], float]) -> None:
        """Begin with nothing sent.

        Args:
            random: returns a number within 0 and 1, for the jitter.
        """
        self._random = random
        self._next = 1
        self._credit = FIRST_CREDIT
        self._under_way: set[int] = set()
        self._again: list[tuple[int, int]] = []
        self._has_more = True
        self._was_heard = False
        self._waiting_since_ms = 0
        self._patience_ms = PATIENCE_MS
        self._unanswered = 0
        """Hellos since one was answered."""
        self._hello_patience_ms = 0
        self._telemetry = 0
        self._is_unanswered = False

    def begin_session(self, *, now_ms: int) -> None:
        """Forget what was sent: every entry without a receipt is sent again."""
        self._next = 1
        self._credit = FIRST_CREDIT
        self._under_way.clear()
        self._again.clear()
        self._has_more = True
        self._was_heard = False
        self._waiting_since_ms = now_ms
        self._is_unanswered = False
        self._unanswered += 1
        patience_s = HELLO_BACKOFF.delay_s(self._unanswered, random=self._random)
        self._hello_patience_ms = round(patience_s * 1000)

    def entries_grew(self) -> None:
        """Note that the store has new entries."""
        self._has_more = True

    def heard(self) -> None:
        """Note that a frame of the fleet came for this session."""
        self._was_heard = True
        self._unanswered = 0

    def receipted(
        self, upto: int, *, credit: int, gaps: Iterable[tuple[int, int]], now_ms: int
    ) -> None:
        """Take a receipt that the ledger has accepted.

        Args:
            upto: everything up to here is safe.
            credit: how many entries may be under way from now on.
            gaps: ranges to send again, both ends included.
            now_ms: boot clock.
        """
        if any(seq <= upto for seq in self._under_way):
            self._is_unanswered = False
            if self._was_heard:
                self._patience_ms = PATIENCE_MS
                self._waiting_since_ms = now_ms
        self._under_way = {seq for seq in self._under_way if seq > upto}
        self._credit = credit
        self._next = max(self._next, upto + 1)
        # What was not sent yet is no gap: it is on its way in the order of the ledger.
        again = (
            (max(first, upto + 1), min(last, self._next - 1)) for first, last in gaps
        )
        self._again = [(first, last) for first, last in again if first <= last]
        for first, last in self._again:
            self._under_way -= {seq for seq in self._under_way if first <= seq <= last}
        self._has_more = True

    def resend(self, first: int, last: int) -> None:
        """Take a range that the fleet asks for beside its receipts.

        What was not sent yet comes by itself.
        """
        last = min(last, self._next - 1)
        if first > last or len(self._again) >= AGAIN_LIMIT:
            return
        self._again.append((first, last))
        self._under_way -= {seq for seq in self._under_way if first <= seq <= last}
        self._has_more = True

    def may_send_telemetry(self) -> bool:
        """Return whether another frame of telemetry may be under way.

        Asked when `wanted` gave nothing: what is left then waits for a receipt.
        """
        has_entries = bool(self._under_way) and (self._has_more or bool(self._again))
        is_behind = has_entries and not self._is_unanswered
        return not is_behind and self._telemetry < TELEMETRY_WINDOW

    def telemetry_sent(self) -> None:
        """Note a frame of telemetry that goes out."""
        self._telemetry += 1

    def telemetry_arrived(self) -> None:
        """Note that the broker has it, or that its link is gone."""
        self._telemetry -= 1

    def wanted(self) -> Wanted | None:
        """Return the entries to send now; None when other frames may go."""
        room = min(self._credit - len(self._under_way), BATCH)
        if room <= 0:
            return None
        if self._again:
            first, last = self._again[0]
            return Wanted(first, min(room, last - first + 1))
        return Wanted(self._next, room) if self._has_more else None

    def sent(self, wanted: Wanted, seqs: Sequence[int], *, now_ms: int) -> None:
        """Note what was published of what was wanted.

        Args:
            wanted: as `wanted` returned it.
            seqs: what the store had of it, in order; a rejected entry is missing.
            now_ms: boot clock.
        """
        if seqs and not self._under_way and self._was_heard:
            self._waiting_since_ms = now_ms
        if self._again and self._again[0][0] == wanted.first:
            _, last = self._again[0]
            inside = [seq for seq in seqs if seq <= last]
            self._under_way.update(inside)
            reached = inside[-1] if inside else last
            self._again[0:1] = [(reached + 1, last)] if reached < last else []
            return
        self._under_way.update(seqs)
        if seqs:
            self._next = seqs[-1] + 1
        else:
            self._has_more = False

    def overdue_at_ms(self) -> int | None:
        """Return when `overdue` must be asked, None when nothing is awaited."""
        if not self._was_heard:
            return self._waiting_since_ms + self._hello_patience_ms
        if not self._under_way:
            return None
        return self._waiting_since_ms + self._patience_ms

    def overdue(self, *, now_ms: int) -> Overdue | None:
        """Return what has been awaited for too long, and become more patient.

        On RECEIPT everything under way is wanted again. On HELLO the caller begins a
        new session and announces it.
        """
        at_ms = self.overdue_at_ms()
        if at_ms is None or now_ms < at_ms:
            return None
        self._waiting_since_ms = now_ms
        if not self._was_heard:
            return Overdue.HELLO
        self._patience_ms = min(2 * self._patience_ms, PATIENCE_LIMIT_MS)
        self._next = min(self._under_way)
        self._under_way.clear()
        self._again.clear()
        self._has_more = True
        self._is_unanswered = True
        return Overdue.RECEIPT
