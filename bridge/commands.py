r"""The life of a command, from the order to its signed end.

Theory of operation (protocol-design.md 2)::

    REQUESTED -> SIGNED -> PUBLISHED -> RECEIVED -> ACCEPTED -> an end
     (or first DEFERRED)
                    \          \           \           \
                     +----------+-----------+-----------+-> TIMED_OUT -> an end

An end is SUCCEEDED, FAILED, REJECTED, EXPIRED, SUPERSEDED, CANCELLED or INDETERMINATE.
Every state may be skipped: words of the car arrive together, reversed or never.

A compound (`bridge.compound`) is UNDER_WAY while its parts are, which are commands of
their own, and then ends as they did; PARTIAL if one was done and another was not.

A DEFERRED one is wanted of a car that is offline. It stays unsigned, has a deadline of
its own, and is signed fresh when the car is there: no frame ever waits for a car.

Rule 1: only a signed word of the car ends a command: a RESULT, the outcome list of a
HELLO, or a HELLO that proves that it can never be executed. "Published" is not "done".
Rule 2: TIMED_OUT means *unknown*, never *failed*, and is no end.
Rule 3: a signed end is never changed again, whatever comes later.
Rule 4: every change raises `version`; a store writes one only over the version that it
was made from, so results and notes may arrive together or reversed.
Rule 5: an intent has one token. Until the command expires its identical bytes are sent
again, whoever says "busy"; a new command in its place needs the proof that it was not
executed (`is_proved_undone`), and names it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum, unique
from typing import Final

from bridge.errors import BridgeError
from bridge.ports import SignedCommand
from bridge.twin import Values, values_of_snapshot
from protocol.codes import Code, Executed, Retry
from protocol.frame import Header
from protocol.hello import OUTCOMES_LIMIT, Hello
from protocol.identity import ID_SIZE, VehicleId
from protocol.result import Result, retry_of
from protocol.signing import request_hash


@unique
class CommandState(StrEnum):
    """Where a command stands."""

    REQUESTED = "requested"
    DEFERRED = "deferred"
    SIGNED = "signed"
    PUBLISHED = "published"
    RECEIVED = "received"
    ACCEPTED = "accepted"
    TIMED_OUT = "timed_out"
    UNDER_WAY = "under_way"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    CANCELLED = "cancelled"
    INDETERMINATE = "indeterminate"
    PARTIAL = "partial"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can change it any more."""
        return self in _TERMINAL


_ENDS_OF_ONE: Final = frozenset(
    {
        CommandState.SUCCEEDED,
        CommandState.FAILED,
        CommandState.REJECTED,
        CommandState.EXPIRED,
        CommandState.SUPERSEDED,
        CommandState.CANCELLED,
        CommandState.INDETERMINATE,
    }
)

_TERMINAL: Final = _ENDS_OF_ONE | {CommandState.PARTIAL}

_SENT: Final = (
    CommandState.SIGNED,
    CommandState.PUBLISHED,
    CommandState.RECEIVED,
    CommandState.ACCEPTED,
)
"""States that have a frame and wait for its answer, in their order."""

TRANSITIONS: Final = {
    CommandState.REQUESTED: frozenset(
        {CommandState.SIGNED, CommandState.DEFERRED, CommandState.UNDER_WAY}
    ),
    # Nothing was signed, so the fleet's own word may end it.
    CommandState.DEFERRED: frozenset(
        {CommandState.SIGNED, CommandState.EXPIRED, CommandState.CANCELLED}
    ),
    **{
        state: frozenset({*_SENT[place + 1 :], CommandState.TIMED_OUT, *_ENDS_OF_ONE})
        for place, state in enumerate(_SENT)
    },
    CommandState.TIMED_OUT: _ENDS_OF_ONE,
    CommandState.UNDER_WAY: _TERMINAL,
    **dict.fromkeys(_TERMINAL, frozenset[CommandState]()),
}
"""Which state may follow which; everything else is an error of this program."""

OPEN: Final = tuple(state for state in CommandState if not state.is_terminal)
"""States that still wait for a signed word."""

ANSWER_GRACE_MS: Final = 2_000
"""How long after its expiry a command may still be answered before it counts as
unknown: the car acts up to the last instant and the answer needs a way back."""

RESEND_MS: Final = 2_500
"""Silence after which the identical bytes are sent again: a mobile link answers within
2 s or has lost something (reliability.md row 15)."""

SENDS_LIMIT: Final = 4
"""How often the same bytes are sent at most."""

_FIRST_EXECUTION_CODE: Final = 0x0500
_LAST_EXECUTION_CODE: Final = 0x05FF
_AGAIN: Final = frozenset({Code.BUSY, Code.RATE_LIMITED, Code.QUEUE_FULL})
_UNDER_WAY: Final = frozenset({Code.ACCEPTED, Code.IN_PROGRESS})


class CommandStateError(BridgeError):
    """A transition that the table does not have; the command is unchanged."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose word a command goes back to."""

    audit_row: int = 0
    """The row of the audit trail that asked for it; 0 for none."""
    approval_id: bytes = b""
    """16 bytes: the approval that it was carried out by; empty for none."""
    caller: str = ""
    """Who asked for it, as the API calls them; empty for the bridge itself."""

    def command_id(self, vehicle_id: VehicleId) -> bytes:
        """Return the id of the one command of an approval to a vehicle, or nothing.

        It is made of the approval, so whoever carries it out again after a crash asks
        the signer for the same command, for which the consent was used.
        """
        if not self.approval_id:
            return b""
        named = b"ff-approved-v1\0" + self.approval_id + vehicle_id.raw
        return hashlib.sha256(named).digest()[:ID_SIZE]


@dataclass(frozen=True, slots=True)
class Part:
    """One command of a compound, which may not exist yet."""

    command_id: bytes
    """16 bytes: its id once it exists."""
    opcode: int
    """As the protocol numbers it."""
    payload: bytes
    """What is signed; holds no secret."""


@dataclass(frozen=True, slots=True)
class CommandRecord:
    """One command; a value."""

    command_id: bytes
    """16 bytes: the frame's message id."""
    vehicle_id: VehicleId
    """Whom it addresses."""
    kind: str
    """What it asks for, as the API names it."""
    opcode: int
    """As the protocol numbers it."""
    rental_id: bytes
    """16 bytes; zeros for none."""
    requested_ms: int
    """UTC ms."""
    state: CommandState = CommandState.REQUESTED
    """Where it stands."""
    version: int = 1
    """Rises with every change."""
    idempotency_key: str | None = None
    """The caller's, unique for its vehicle."""
    request_digest: bytes = b""
    """32 bytes: what was asked, without secrets; tells a repeat from another order."""
    session_id: bytes = b""
    """16 bytes: the car's session that it was signed for."""
    ledger_id: bytes = b""
    """8 bytes: the car's ledger when it was signed."""
    key_id: bytes = b""
    """8 bytes: who signed."""
    lane: int = 0
    """Its lane."""
    seq: int = 0
    """Its sequence in key, session and lane."""
    not_after_ms: int = 0
    """On the car's boot clock."""
    expires_ms: int = 0
    """The same in UTC ms, estimated."""
    intent: bytes = b""
    """The payload, while it is deferred; holds no secret."""
    frame: bytes = b""
    """The signed bytes; every sending sends exactly these."""
    sends: int = 0
    """How often they were sent."""
    sent_ms: int = 0
    """When last, UTC ms."""
    code: Code | None = None
    """The car's code, the last one if there were several."""
    executed: Executed | None = None
    """Whether anything moved, as far as the car knew."""
    retry: Retry | None = None
    """What the caller may do next."""
    settled_by: str | None = None
    """``result``, ``hello``, ``parts`` for a compound, or ``fleet`` for one that was
    never signed."""
    snapshot: Values | None = None
    """The car's state after it."""
    result_frame: bytes = b""
    """The signed answer."""
    retry_of: bytes = b""
    """16 bytes: the command in whose place this one stands; empty for none."""
    parts: tuple[Part, ...] = ()
    """Of a compound, in the order in which they are done; empty for one command."""
    origin: Origin = Origin()
    """Whose word it goes back to."""
    checks: tuple[tuple[str, str], ...] = ()
    """What was looked at before it was signed, and what was found."""
    hello_frame: bytes = b""
    """The signed HELLO that settled it; empty if none did."""
    part_of: bytes = b""
    """16 bytes: the compound that this one is a part of; empty for none."""
    trail: tuple[tuple[str, int], ...] = field(default_factory=tuple)
    """(state, UTC ms), the oldest first."""


def request(record: CommandRecord) -> CommandRecord:
    """Return the record with its trail begun."""
    return replace(record, trail=((CommandState.REQUESTED.value, record.requested_ms),))


def signed(
    record: CommandRecord, frame: SignedCommand, *, expires_ms: int, now: int
) -> CommandRecord:
    """Note that its frame exists and is about to be stored."""
    bound = replace(
        record,
        frame=frame.data,
        key_id=frame.key_id,
        lane=frame.lane,
        seq=frame.seq,
        not_after_ms=frame.not_after_ms,
        expires_ms=expires_ms,
    )
    return move(bound, CommandState.SIGNED, now)


def deferred(
    record: CommandRecord, payload: bytes, *, deadline_ms: int, now: int
) -> CommandRecord:
    """Keep it unsigned until the car is there, at most until the deadline, UTC ms."""
    kept = replace(record, intent=payload, expires_ms=deadline_ms)
    return move(kept, CommandState.DEFERRED, now)


def given_up(record: CommandRecord, state: CommandState, *, now: int) -> CommandRecord:
    """End a deferred one: EXPIRED at its deadline, CANCELLED by its caller."""
    told = replace(
        record, executed=Executed.NO, retry=Retry.NEW_COMMAND, settled_by="fleet"
    )
    return move(told, state, now)


def published(record: CommandRecord, *, now: int) -> CommandRecord:
    """Note that the broker took it; after an end that came first, only the sending."""
    counted = replace(record, sends=record.sends + 1, sent_ms=now)
    if record.state is CommandState.SIGNED:
        return move(counted, CommandState.PUBLISHED, now)
    return replace(counted, version=record.version + 1)


def timed_out(record: CommandRecord, *, now: int) -> CommandRecord:
    """Note that nobody knows how it ended (rule 2)."""
    return move(record, CommandState.TIMED_OUT, now)


def may_resend(record: CommandRecord, *, now: int) -> bool:
    """Return whether the identical bytes should be sent again now."""
    return (
        record.state in _SENT
        and record.sends < SENDS_LIMIT
        and now - record.sent_ms >= RESEND_MS
        and now < record.expires_ms
    )


def is_overdue(record: CommandRecord, *, now: int) -> bool:
    """Return whether its answer is so late that it counts as unknown.

    One that was sent later than now was so by a clock that has been set back since: by
    how much it is late nobody knows, and it must not seem under way for as long.
    """
    is_late = now > record.expires_ms + ANSWER_GRACE_MS
    begun_ms = max(record.requested_ms, record.sent_ms)
    return record.state in _SENT and (is_late or now < begun_ms - ANSWER_GRACE_MS)


_ENDS: Final = {
    Code.EXPIRED: CommandState.EXPIRED,
    Code.SUPERSEDED: CommandState.SUPERSEDED,
    Code.CANCELLED: CommandState.CANCELLED,
    Code.INDETERMINATE_AFTER_REBOOT: CommandState.INDETERMINATE,
}
"""Codes with an end of their own."""


def end_of(code: Code) -> CommandState | None:
    """Return the end that a car's code means; None while it is none."""
    if code.succeeded:
        return CommandState.SUCCEEDED
    if code in _UNDER_WAY or code in _AGAIN:
        return None
    if code in _ENDS:
        return _ENDS[code]
    if _FIRST_EXECUTION_CODE <= code <= _LAST_EXECUTION_CODE:
        return CommandState.FAILED
    return CommandState.REJECTED


def is_proved_undone(record: CommandRecord) -> bool:
    """Return whether the car's signed word proves that nothing was or will be done.

    Only then may a new command stand in its place. A refusal in a HELLO's list has no
    word of its own about execution: its code comes before anything is moved.
    """
    if not record.state.is_terminal:
        return False
    if record.executed is None:
        return record.state in {
            CommandState.REJECTED,
            CommandState.EXPIRED,
            CommandState.SUPERSEDED,
        }
    return record.executed is Executed.NO


def answered(
    record: CommandRecord, result: Result, frame: bytes, *, in_ledger: bool, now: int
) -> CommandRecord | None:
    """Apply a verified RESULT.

    Args:
        record: the command that the result names.
        result: what the car says.
        frame: its bytes, kept as evidence.
        in_ledger: whether it is a ledger entry; a refusal that is none and says
            "maybe" proves nothing, because the entry may still be on its way.
        now: UTC ms.

    Returns:
        The command afterwards; the same object if nothing changed; None if the result
        answers other bytes than ours, which is an alarm.
    """
    if record.frame and result.request_hash != request_hash(record.frame):
        return None
    if record.state.is_terminal:
        return record
    told = replace(
        record,
        code=result.code,
        executed=result.executed,
        retry=result.retry,
        snapshot=values_of_snapshot(result.snapshot),
        result_frame=frame,
    )
    end = end_of(result.code)
    if end is None or (not in_ledger and result.executed is Executed.MAYBE):
        return _progressed(told, result.code, now)
    return move(replace(told, settled_by="result"), end, now)


def _progressed(record: CommandRecord, code: Code, now: int) -> CommandRecord:
    """Apply a signed word that is no end: at least, the car has got the command."""
    under_way = code in _UNDER_WAY
    state = CommandState.ACCEPTED if under_way else CommandState.RECEIVED
    if state in TRANSITIONS[record.state]:
        return move(record, state, now)
    return replace(record, version=record.version + 1)


def greeted(
    record: CommandRecord,
    hello: Hello,
    header: Header,
    *,
    frame: bytes,
    lists_older: bool,
    now: int,
) -> CommandRecord:
    """Apply an accepted HELLO: it may know the end, or prove that there is none.

    Args:
        record: an open command of the car.
        hello: what the car says.
        header: its frame's header: the car's session and boot clock now.
        frame: its bytes, kept as evidence where it settles the command.
        lists_older: whether it lists a command that had expired before this one was
            signed. The list is the end of the car's journal in order of acceptance, so
            then this one would be in it too if it had been accepted.
        now: UTC ms.

    Returns:
        The command afterwards; the same object if the HELLO does not settle it.
    """
    if record.state.is_terminal:
        return record
    for outcome in reversed(hello.outcomes):
        if outcome.msg_id == record.command_id:
            end = end_of(outcome.code)
            # A list has no word about execution, and an earlier BUSY counts no more:
            # the same bytes were sent again, and accepted then.
            if end is None:
                if CommandState.ACCEPTED in TRANSITIONS[record.state]:
                    listed = replace(record, executed=None)
                    return move(listed, CommandState.ACCEPTED, now)
                return record
            told = replace(
                record,
                code=outcome.code,
                executed=None,
                retry=retry_of(outcome.code),
                settled_by="hello",
                hello_frame=frame,
            )
            return move(told, end, now)
    if not _proves_not_executed(record, hello, header, lists_older=lists_older):
        return record
    told = replace(
        record,
        code=Code.EXPIRED,
        executed=Executed.NO,
        retry=Retry.NEW_COMMAND,
        settled_by="hello",
        hello_frame=frame,
    )
    return move(told, CommandState.EXPIRED, now)


def _proves_not_executed(
    record: CommandRecord, hello: Hello, header: Header, *, lists_older: bool
) -> bool:
    """Return whether a command that the HELLO does not list can never be executed.

    "not in journal and seq > last, expired -> proven NOT executed"
    (protocol-design.md 1.4). In a later session every older command is dead; that it
    was not executed before follows only from a list that is complete, under the same
    ledger: after flash loss the list is empty and proves nothing.
    """
    if record.state not in {*_SENT, CommandState.TIMED_OUT}:
        return False
    if header.session_id == record.session_id:
        if header.mono_ms <= record.not_after_ms:
            return False
        last = max(
            (
                progress.seq
                for progress in hello.lanes
                if progress.key_id == record.key_id and progress.lane == record.lane
            ),
            default=0,
        )
        if record.seq > last:
            return True
    is_complete = len(hello.outcomes) < OUTCOMES_LIMIT or lists_older
    return is_complete and hello.ledger_id == record.ledger_id


def move(record: CommandRecord, state: CommandState, now: int) -> CommandRecord:
    """Return the record in another state, with its trail.

    Raises:
        CommandStateError: that state may not follow.
    """
    if state not in TRANSITIONS[record.state]:
        raise CommandStateError(f"a command that is {record.state} cannot be {state}")
    return replace(
        record,
        state=state,
        version=record.version + 1,
        trail=(*record.trail, (state.value, now)),
    )


class Sendings:
    """Sendings of commands that no transaction has noted yet.

    A sending is noted with the next batch and not by a transaction of its own, which
    would stand between a command and its answer. If the process dies in between, the
    command is "signed" in the store, and that is treated as "perhaps sent".
    """

    def __init__(self) -> None:
        self._at_ms: dict[bytes, int] = {}

    def note(self, command_id: bytes, *, now: int) -> None:
        """Note that the broker took a command's frame."""
        self._at_ms[command_id] = now

    def unwritten(self) -> dict[bytes, int]:
        """Return what is to be written: command id to UTC ms."""
        return dict(self._at_ms)

    def forget(self, command_id: bytes) -> None:
        """Forget a command's sending: it was written by itself."""
        self._at_ms.pop(command_id, None)

    def written(self, sendings: Mapping[bytes, int]) -> None:
        """Forget what a committed transaction holds now."""
        for command_id, at_ms in sendings.items():
            if self._at_ms.get(command_id) == at_ms:
                del self._at_ms[command_id]

    def apply(self, record: CommandRecord) -> CommandRecord:
        """Return a record as it will be once its sending is written."""
        at_ms = self._at_ms.get(record.command_id)
        return record if at_ms is None else published(record, now=at_ms)
