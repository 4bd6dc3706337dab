"""What was decided while the disk takes nothing, held in memory until it does (L13).

Nothing here has been told to anybody as done, and nothing of it is sent: an entry that
the fleet has and the disk has not would be followed, after a power cut, by another one
with its sequence (I-27). If the power goes first, all of it is lost, and the fleet ends
the rental by hand, as the last hello said that the car is in service mode.

What could not be told apart is settled by the ledger itself: a commit that failed may
have taken effect, and then the disk's head is the one that it leads to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.key_rotation import Fix
from gateway.core.ledger import LedgerHead, SealedEntry, Signatory, seal_entry
from gateway.core.moment import Moment
from gateway.ports import Commit, StoreError
from protocol.event import EventBody
from protocol.result import Result

HELD_LIMIT: Final = 256
"""Decisions: one rental to its end and a day of faults beside it."""

RETRY_MS: Final = 60_000
"""Boot clock between two attempts to write: a disk that is dying is not hurried."""


class HoldingFullError(StoreError):
    """Too much waits for the disk; nothing of this was kept."""

    retryable = True


Body = tuple[EventBody | Result, Fix | None]
"""What belongs in the ledger, and where the car was, if that belongs to it."""


@dataclass(frozen=True, slots=True)
class _Held:
    commit: Commit
    bodies: tuple[Body, ...]
    now: Moment


class Holding:
    """Decisions that wait for the disk, in order.

    Args:
        head: the ledger's head on the disk.
        now: when it began.
    """

    def __init__(self, head: LedgerHead, *, now: Moment) -> None:
        self._head = head
        self._waiting: list[_Held] = []
        self._sealed: list[tuple[LedgerHead, Commit]] = []
        self.retry_at_ms = now.boot_ms + RETRY_MS
        """Boot clock: when the disk is tried next."""

    def hold(self, commit: Commit, bodies: Sequence[Body], *, now: Moment) -> None:
        """Keep a decision.

        Args:
            commit: what must become durable, without its entries.
            bodies: what will be sealed into them.
            now: when it was decided.

        Raises:
            HoldingFullError: it was not kept; nothing must be done of it.
        """
        if commit.configuration is not None:
            raise HoldingFullError("no configuration while the disk takes nothing")
        if len(self._waiting) + len(self._sealed) >= HELD_LIMIT:
            raise HoldingFullError(
                f"{HELD_LIMIT} decisions wait for the disk: exchange it"
            )
        self._waiting.append(_Held(commit, tuple(bodies), now))

    def commits_after(
        self, head: LedgerHead, signatory: Signatory
    ) -> tuple[Commit, ...] | None:
        """Return what the disk lacks, sealed into its chain, in order.

        What has been sealed once keeps its bytes.

        Args:
            head: the ledger's head as the disk has it now.
            signatory: in whose name what was never sealed is signed.

        Returns:
            None if the disk has another ledger than the one that this began with.
        """
        self._seal(signatory)
        heads = [self._head, *(after for after, _ in self._sealed)]
        if head not in heads:
            return None
        # The first one with this head: a commit without an entry does not move it, and
        # doing it twice is doing it once.
        place = heads.index(head)
        return tuple(commit for _, commit in self._sealed[place:])

    @property
    def head(self) -> LedgerHead:
        """The head that all that was sealed leads to."""
        return self._sealed[-1][0] if self._sealed else self._head

    def _seal(self, signatory: Signatory) -> None:
        for held in self._waiting:
            head, entries = self.head, list[SealedEntry]()
            for body, fix in held.bodies:
                entry, head = seal_entry(body, head, signatory, now=held.now, fix=fix)
                entries.append(entry)
            self._sealed.append((head, replace(held.commit, entries=tuple(entries))))
        self._waiting.clear()
