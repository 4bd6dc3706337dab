"""Making a decision durable, and letting it stand.

Rule 1: entries are sealed and committed together with the new state, in one
transaction; only then the state counts (L12). If the commit fails, the old state
stands.
Rule 2: while the disk takes nothing, decisions are held in memory instead and nothing
of them is sent (`gateway.runtime.holding`); they are written in order when it does.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gateway.core.key_rotation import seal_entries
from gateway.core.ledger import LedgerHead, SealedEntry, sign_refusal
from gateway.core.moment import Moment
from gateway.core.places import has_place
from gateway.core.reading import Position
from gateway.core.turn import Decision
from gateway.ports import (
    AcceptedCommand,
    Commit,
    Outlet,
    Positioning,
    RandomBytes,
    Store,
    StoreError,
)
from gateway.runtime.attached import Attached
from gateway.runtime.holding import RETRY_MS, Holding
from gateway.runtime.room import is_kept_for_rental
from gateway.runtime.standing import Standing
from protocol.codes import FrameClass
from protocol.diagnosis import Diagnosed
from protocol.entry import entry_hash
from protocol.event import (
    AgentStarted,
    CardRefused,
    EventBody,
    FaultCleared,
    FaultRaised,
)
from protocol.identity import ID_SIZE
from protocol.result import Result
from protocol.vehicle_event import KeyRotated

SAVE_PERIOD_MS: Final = 60_000
"""Longest time that a rental's clock runs without being stored: a power cut makes at
most so much of the bill an estimate (protocol-design.md 1.3). A commit a minute wears
no flash."""

FLOOR_PERIOD_MS: Final = 3_600_000
"""How far the floor of the time may be ahead of the stored one: after a power cut the
car trusts a key at most so much longer than it should."""


DISPENSABLE: Final = (AgentStarted, CardRefused, FaultRaised, FaultCleared, Diagnosed)
"""Entries that can come without end, and that a fleet can do without: a hello tells a
start and the condition of a car. Strangers at the windscreen, restarts and a loose
cable must not fill a rental's room."""


class Committer:
    """Seals, commits and adopts.

    Args:
        standing: what stands; a decision that is durable changes it.
        store: what survives.
        outlet: takes answers that the ledger cannot take yet.
        positioning: where the car is, for entries that are committed to their place.
        random_bytes: for their salts.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        store: Store,
        outlet: Outlet,
        positioning: Positioning,
        random_bytes: RandomBytes,
    ) -> None:
        self._standing = standing
        self._store = store
        self._outlet = outlet
        self._positioning = positioning
        self._random_bytes = random_bytes
        vehicle = standing.persona.vehicle_id.short
        self._log = logging.getLogger(f"{__name__}.{vehicle}")
        self._saved_ms = 0
        self._saved_floor_ms = 0
        self._holding: Holding | None = None
        self._boot_mark = ""

    async def commit(
        self, decision: Decision, attached: Attached, now: Moment
    ) -> tuple[SealedEntry, ...]:
        """Make a decision durable and adopt it; returns its entries.

        While the disk takes nothing it is held, and there are no entries yet.

        Raises:
            StoreError: the old state stands, and nothing of it was kept.
        """
        if self._holding is not None:
            self._hold(self._holding, decision, attached, now)
            return ()
        decision = self._thinned(decision)
        entries, _ = seal_entries(
            decision.entries,
            self._standing.head,
            self._standing.signatory,
            successor=attached.successor,
            fix_for=self._fix_for,
            now=now,
        )
        if self._must_commit(decision, now):
            commit = self._commit_of(decision, attached, entries, now)
            await self._store.commit(commit)
            self._note_saved(commit, now)
        self._adopt(decision, now)
        for body, entry in zip(decision.entries, entries, strict=True):
            ledger_id = self._standing.head.ledger_id
            self._standing.head = LedgerHead(ledger_id, entry.seq, entry.hash)
            if isinstance(body, Result):
                self._standing.journal.close(body, entry)
        return entries

    def _thinned(self, decision: Decision) -> Decision:
        """Leave out what can be done without where room is for the rental alone."""
        spare = [body for body in decision.entries if isinstance(body, DISPENSABLE)]
        if not spare or not is_kept_for_rental(self._store):
            return decision
        self._log.warning("= no room to record %s", type(spare[0]).__name__)
        kept = tuple(body for body in decision.entries if body not in spare)
        return replace(decision, entries=kept)

    def _commit_of(
        self,
        decision: Decision,
        attached: Attached,
        entries: Sequence[SealedEntry],
        now: Moment,
    ) -> Commit:
        rotates = any(isinstance(body, KeyRotated) for body in decision.entries)
        successor = attached.successor if rotates else None
        return Commit(
            state=decision.state.kept(),
            entries=tuple(entries),
            accepted=self._accepted(decision, now),
            configuration=attached.configuration,
            time=self._standing.time.known.anchored(now),
            trust=None if attached.trust is None else attached.trust.data,
            expiry_told=attached.expiry_told,
            key_id=None if successor is None else successor.key_id,
        )

    def _accepted(self, decision: Decision, now: Moment) -> AcceptedCommand | None:
        command = decision.accepted
        if command is None:
            return None
        passed_ms = self._standing.time.known.floor(now)
        return AcceptedCommand(command.msg_id, command.request_hash, passed_ms)

    def _note_saved(self, commit: Commit, now: Moment) -> None:
        self._saved_ms = now.boot_ms
        if commit.time is not None:
            self._saved_floor_ms = commit.time.floor_ms

    def _fix_for(self, body: EventBody | Result) -> tuple[Position, bytes] | None:
        if not has_place(body):
            return None
        position = self._positioning.fix()
        return None if position is None else (position, self._random_bytes(ID_SIZE))

    def _must_commit(self, decision: Decision, now: Moment) -> bool:
        """Return whether a restart must find this decision (see `State.essence`)."""
        return (
            bool(decision.entries)
            or decision.accepted is not None
            or decision.state.essence() != self._standing.state.essence()
            or (
                decision.state.rental is not None
                and now.boot_ms - self._saved_ms >= SAVE_PERIOD_MS
            )
            or (
                self._standing.time.known.floor(now) - self._saved_floor_ms
                >= FLOOR_PERIOD_MS
            )
        )

    def _adopt(self, decision: Decision, now: Moment) -> None:
        standing = self._standing
        if decision.state.mode is not standing.state.mode:
            self._log.info(
                "= %s -> %s", standing.state.mode.name, decision.state.mode.name
            )
        standing.state = decision.state
        if decision.accepted is not None:
            accepted = decision.accepted
            standing.journal.accept(accepted, now=now)
            standing.session.lanes[accepted.key_id, accepted.lane] = accepted.seq

    # -- service mode -----------------------------------------------------------------

    def begin_holding(self, *, boot_mark: str, now: Moment) -> None:
        """Hold decisions from now on: the ledger that stands was only looked at."""
        self._holding = Holding(self._standing.head, now=now)
        self._boot_mark = boot_mark

    @property
    def retry_at_ms(self) -> int | None:
        """Boot clock: when `try_disk` is due, None if nothing is held."""
        return None if self._holding is None else self._holding.retry_at_ms

    def _hold(
        self, holding: Holding, decision: Decision, attached: Attached, now: Moment
    ) -> None:
        if self._must_commit(decision, now):
            commit = self._commit_of(decision, attached, (), now)
            bodies = [(body, self._fix_for(body)) for body in decision.entries]
            holding.hold(commit, bodies, now=now)
            self._note_saved(commit, now)
        self._adopt(decision, now)
        # Results that the ledger cannot take yet go as answers of no ledger.
        standing = self._standing
        for body in decision.entries:
            if isinstance(body, Result):
                frame = sign_refusal(body, standing.head, standing.signatory, now=now)
                answer = SealedEntry(
                    seq=0,
                    frame_class=FrameClass.RESULT,
                    frame=frame,
                    hash=entry_hash(frame),
                    request_id=body.request_id,
                )
                standing.journal.close(body, answer)
                self._outlet.offer(FrameClass.RESULT, frame)

    async def try_disk(self, *, now: Moment) -> bool:
        """Write what is held, if it is time; returns whether the disk took it.

        Raises:
            StoreError: the disk has another ledger than was looked at; start anew.
        """
        holding = self._holding
        if holding is None or holding.retry_at_ms > now.boot_ms:
            return False
        holding.retry_at_ms = now.boot_ms + RETRY_MS
        try:
            stored = await self._store.open(boot_mark=self._boot_mark)
            commits = holding.commits_after(stored.head, self._standing.signatory)
            for commit in commits or ():
                await self._store.commit(commit)
        except StoreError as error:
            self._log.warning("= the disk still takes nothing: %s", error)
            await self._store.look(boot_mark=self._boot_mark)
            return False
        if commits is None:
            raise StoreError(
                "the disk can be written again and has another ledger than was read: "
                "start again"
            )
        self._holding = None
        self._standing.head = holding.head
        self._standing.receipted = stored.receipted
        self._log.warning("= the disk takes the ledger again")
        return True
