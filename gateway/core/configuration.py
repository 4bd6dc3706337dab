"""Configuration bodies: larger than a command, activated at once and whole, or not.

The fleet offers a body (kind, version, length, hash) and sends its chunks, in any order
and any of them again. What counts is the body whose hash is right; nothing of a part
ever takes effect (protocol-design.md 6). Signature, session and sequence of the frames
have been judged before they come here.

The half-sent bodies are in memory alone: after a restart the fleet learns from the
HELLO which versions the car has, and offers anew. The bounds on them hold whatever
comes: one body of each kind, none longer than `BODY_LIMIT`, none older than
`PATIENCE_MS`.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from protocol.codes import Code

BODY_LIMIT: Final = 262_144
"""Bytes of the longest body: five kinds cost a car 1.25 MiB while they come."""

KINDS_LIMIT: Final = 8
"""Kinds that a car remembers, as many as a HELLO tells."""

PATIENCE_MS: Final = 600_000
"""Boot clock, from the last chunk that brought something: 328 chunks of the longest
body pass a poor link in a minute or two, and a tunnel fits in between."""


@dataclass(frozen=True, slots=True)
class Active:
    """A configuration in force."""

    kind: int
    """Which (`protocol.codes.ConfigKind`)."""
    version: int
    """u32; only rises."""
    sha256: bytes
    """32 bytes: hash of its body."""


@dataclass(frozen=True, slots=True)
class Complete:
    """A body is there and is the one that was offered: commit it, then `adopt` it."""

    active: Active
    """What it becomes."""
    body: bytes
    """All of it."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A body will not be taken: record it once and forget it."""

    kind: int
    """Which."""
    version: int
    """The version that was offered."""
    code: Code
    """Why."""


@dataclass(frozen=True, slots=True)
class Stray:
    """A frame that belongs to nothing: count it, as a dropped one."""

    code: Code
    """Why."""
    detail: str
    """One sentence."""


Outcome = Complete | Rejected | Stray | None
"""None: taken, and there is nothing to do yet."""


@dataclass(slots=True)
class _Draft:
    active: Active
    """What it would become."""
    since_ms: int
    body: bytearray
    spans: list[tuple[int, int]] = field(default_factory=list)
    """What of it has come: ascending, apart, ends excluded."""

    @property
    def is_whole(self) -> bool:
        return self.spans == [(0, len(self.body))]

    def is_for(self, active: Active, length: int) -> bool:
        return (self.active, len(self.body)) == (active, length)

    def disagrees(self, offset: int, data: bytes) -> bool:
        """Return whether bytes that have come before were others."""
        end = offset + len(data)
        return any(
            self.body[max(first, offset) : min(last, end)]
            != data[max(first, offset) - offset : min(last, end) - offset]
            for first, last in self.spans
            if first < end and offset < last
        )

    def put(self, offset: int, data: bytes) -> bool:
        """Take a chunk; returns whether it brought anything."""
        first, last = offset, offset + len(data)
        before = list(self.spans)
        self.body[first:last] = data
        apart = [span for span in self.spans if span[1] < first or span[0] > last]
        touched = [
            span for span in self.spans if not (span[1] < first or span[0] > last)
        ]
        merged = (
            min([first, *(span[0] for span in touched)]),
            max([last, *(span[1] for span in touched)]),
        )
        self.spans = sorted([*apart, merged])
        return self.spans != before


class Configurations:
    """What is in force, and what is on its way.

    Args:
        active: what the store holds.
    """

    def __init__(self, active: Iterable[Active] = ()) -> None:
        self._active = {each.kind: each for each in active}
        self._drafts: dict[int, _Draft] = {}
        self._told: dict[int, Rejected] = {}

    @property
    def active(self) -> tuple[Active, ...]:
        """What is in force, by kind, as a HELLO tells it."""
        return tuple(self._active[kind] for kind in sorted(self._active))

    def take_offer(
        self, *, kind: int, version: int, length: int, sha256: bytes, now_ms: int
    ) -> Outcome:
        """Begin a body, or go on with the same one.

        An offer of what is in force changes nothing. A newer offer takes the place of
        one that is on its way, and one of the same version with another hash does so
        too: the fleet has corrected itself.

        Args:
            kind: `protocol.codes.ConfigKind`.
            version: u32.
            length: bytes of the body.
            sha256: 32 bytes.
            now_ms: boot clock.
        """
        active = Active(kind, version, sha256)
        draft = self._drafts.get(kind)
        if self._active.get(kind) == active:
            return None
        code = self._why_not(active, length)
        if code is not None:
            return self._reject(kind, version, code)
        if draft is None or not draft.is_for(active, length):
            self._drafts[kind] = _Draft(active, now_ms, bytearray(length))
        return None

    def _why_not(self, offered: Active, length: int) -> Code | None:
        current = self._active.get(offered.kind)
        draft = self._drafts.get(offered.kind)
        # What is in force is spent; what is on its way may be corrected.
        in_force = 0 if current is None else current.version + 1
        on_its_way = 0 if draft is None else draft.active.version
        known = {*self._active, *self._drafts, offered.kind}
        checks = (
            (len(known) > KINDS_LIMIT, Code.QUEUE_FULL),
            (offered.version < max(in_force, on_its_way), Code.SUPERSEDED),
            (not 1 <= length <= BODY_LIMIT, Code.TOO_LARGE),
        )
        return next((code for fails, code in checks if fails), None)

    def take_chunk(
        self, *, kind: int, version: int, offset: int, data: bytes, now_ms: int
    ) -> Outcome:
        """Take a part of a body that was offered.

        Returns:
            `Complete` with the last part: the caller commits it with the ledger entry
            that tells it, and calls `adopt`; if the commit fails, `forget`.

        Args:
            kind: `protocol.codes.ConfigKind`.
            version: the offer's.
            offset: where it stands in the body.
            data: at least a byte.
            now_ms: boot clock.
        """
        current = self._active.get(kind)
        if current is not None and current.version == version:
            return None
        draft = self._drafts.get(kind)
        if draft is None or draft.active.version != version:
            return Stray(
                Code.CONFIG_INCOMPLETE,
                f"a chunk of configuration {kind}, version {version}, that nobody "
                "offered in this run of the car",
            )
        if not data or offset + len(data) > len(draft.body):
            return self._end(kind, Code.BAD_PARAM)
        if draft.disagrees(offset, data):
            return self._end(kind, Code.BAD_HASH)
        if draft.put(offset, data):
            draft.since_ms = now_ms
        return self._conclude(draft) if draft.is_whole else None

    def _conclude(self, draft: _Draft) -> Outcome:
        body = bytes(draft.body)
        if hashlib.sha256(body).digest() != draft.active.sha256:
            return self._end(draft.active.kind, Code.BAD_HASH)
        return Complete(draft.active, body)

    def adopt(self, complete: Complete) -> None:
        """Note that a body is in force: it has been committed."""
        active = complete.active
        self._active[active.kind] = active
        self.forget(active.kind)
        self._told.pop(active.kind, None)

    def forget(self, kind: int) -> None:
        """Give up the body of this kind that is on its way, if any."""
        self._drafts.pop(kind, None)

    def refuse(self, kind: int, code: Code) -> Outcome:
        """Give up the body of this kind for a reason of the shell's, as a full disk."""
        return self._end(kind, code)

    def next_deadline(self) -> int | None:
        """Return the boot instant at which `pass_time` is due, if any."""
        return min(
            (draft.since_ms + PATIENCE_MS for draft in self._drafts.values()),
            default=None,
        )

    def pass_time(self, *, now_ms: int) -> tuple[Rejected, ...]:
        """Give up bodies that no chunk brought on for too long."""
        overdue = [
            kind
            for kind, draft in self._drafts.items()
            if now_ms - draft.since_ms >= PATIENCE_MS
        ]
        ended = (self._end(kind, Code.CONFIG_INCOMPLETE) for kind in overdue)
        return tuple(each for each in ended if each is not None)

    def _end(self, kind: int, code: Code) -> Rejected | None:
        draft = self._drafts.pop(kind)
        return self._reject(kind, draft.active.version, code)

    def _reject(self, kind: int, version: int, code: Code) -> Rejected | None:
        """Tell a refusal once: a repeated offer must not make the ledger grow."""
        rejected = Rejected(kind, version, code)
        if self._told.get(kind) == rejected:
            return None
        if len(self._told) >= KINDS_LIMIT and kind not in self._told:
            self._told.clear()
        self._told[kind] = rejected
        return rejected
