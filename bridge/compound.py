"""Compound orders: two commands, one after the other, as one order with one honest end.

``unlock_and_enable`` opens the doors and then lets the engine start without a PIN;
``lock_and_disable`` closes the doors and then keeps the engine from starting. Each part
is a command of its own, signed by itself, with its own result of the car.

Rule 1: the second part is signed only after the car's signed word that the first one is
done. An engine is never enabled in a car that did not open for its customer. And a car
that could not be locked is never disabled: somebody may stand in its open door, or the
bolt may be stuck; disabled, it could neither be guarded nor be moved out of the way,
whereas a locked car that is not disabled yet is as safe as any parked one.
Rule 2: if the second part is not done, that is said as such: PARTIAL, never an error
that hides what was done, never a success.
Rule 3: the second part has its own life and a last instant to be signed: what opens or
starts a car must not happen when nobody expects it any more.
Rule 4: parts have their ids before anything is sent, and they are stored with the
compound. So whoever carries on after a crash, or beside another bridge, makes the same
command or finds it; there are never two.
Rule 5: a second part that the car's own snapshot says is needless is not sent: a lock
that ended the rental has held the engine too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from bridge.commands import (
    ANSWER_GRACE_MS,
    CommandRecord,
    CommandState,
    Part,
    move,
)
from protocol.codes import Executed, HoldReason, Opcode, Retry
from protocol.command import (
    ANY_VERSION,
    COMMANDS,
    Command,
    EngineHold,
    EngineRelease,
    Lock,
    LockAndDisable,
    Unlock,
    UnlockAndEnable,
    build_command,
)

CompoundOrder = UnlockAndEnable | LockAndDisable

STEPS: Final = {
    Opcode.UNLOCK_AND_ENABLE: (Opcode.UNLOCK, Opcode.ENGINE_RELEASE),
    Opcode.LOCK_AND_DISABLE: (Opcode.LOCK, Opcode.ENGINE_HOLD),
}
"""What each compound order consists of, in the order in which it is done."""


PARTS: Final = 2
"""Of every compound."""


def opcodes_for(opcode: Opcode) -> tuple[Opcode, ...]:
    """Return what a car must understand so that this can be ordered of it."""
    return STEPS.get(opcode, (opcode,))


def steps_of(order: CompoundOrder) -> tuple[Command, Command]:
    """Return the commands of an order.

    The caller's state version counts for the first: that one changes it.
    """
    if isinstance(order, UnlockAndEnable):
        return (
            Unlock(order.rental_id, order.expected_version),
            EngineRelease(order.rental_id, ANY_VERSION, HoldReason.RENTAL),
        )
    return (
        Lock(order.rental_id, order.expected_version, order.lock_mode),
        EngineHold(order.rental_id, ANY_VERSION, HoldReason.RENTAL),
    )


def composed(
    record: CommandRecord, order: CompoundOrder, ids: Sequence[bytes], *, now: int
) -> CommandRecord:
    """Return a compound with its parts; nothing of it is sent yet.

    Args:
        record: as `bridge.commands.request` made it.
        order: what is wanted.
        ids: 16 unpredictable bytes for each part.
        now: UTC ms.
    """
    steps = zip(ids, STEPS[Opcode(record.opcode)], steps_of(order), strict=True)
    parts = tuple(
        Part(name, int(opcode), build_command(step)) for name, opcode, step in steps
    )
    life_ms = COMMANDS[Opcode(parts[0].opcode)].ttl_limit_ms
    whole = replace(record, parts=parts, expires_ms=now + life_ms + ANSWER_GRACE_MS)
    return move(whole, CommandState.UNDER_WAY, now)


def key_of(compound_id: bytes, number: int) -> str:
    """Return a part's idempotency key; no caller's has a space."""
    return f"part {number} of {compound_id.hex()}"


@dataclass(frozen=True, slots=True)
class Send:
    """A part is to be signed and sent now."""

    number: int
    """Its place among the parts."""


@dataclass(frozen=True, slots=True)
class End:
    """The compound has ended so."""

    record: CommandRecord


Step = Send | End | None
"""What is to be done next; None to wait for the car."""


def next_step(
    compound: CommandRecord, known: Mapping[bytes, CommandRecord], *, now: int
) -> Step:
    """Return what a compound that is under way needs next.

    Args:
        compound: its record.
        known: those of its parts that exist.
        now: UTC ms.
    """
    first = known.get(compound.parts[0].command_id)
    if first is None:
        if now <= compound.expires_ms:
            return Send(0)
        return End(_ended(compound, None, CommandState.EXPIRED, now))
    if first.state is CommandState.SUCCEEDED:
        return _after_first(compound, first, known, now=now)
    if first.state.is_terminal:
        return End(_ended(compound, first, first.state, now))
    return None


def _after_first(
    compound: CommandRecord,
    first: CommandRecord,
    known: Mapping[bytes, CommandRecord],
    *,
    now: int,
) -> Step:
    second = known.get(compound.parts[1].command_id)
    if second is not None:
        if not second.state.is_terminal:
            return None
        is_done = second.state is CommandState.SUCCEEDED
        state = CommandState.SUCCEEDED if is_done else CommandState.PARTIAL
        return End(_ended(compound, second, state, now))
    if is_needless(compound, first):
        return End(_ended(compound, first, CommandState.SUCCEEDED, now))
    if now <= compound.expires_ms:
        return Send(1)
    return End(_ended(compound, first, CommandState.PARTIAL, now))


def is_needless(compound: CommandRecord, first: CommandRecord | None) -> bool:
    """Return whether the first part's signed snapshot says that the second is done."""
    if compound.opcode != Opcode.LOCK_AND_DISABLE or first is None:
        return False
    shown = first.snapshot
    if first.state is not CommandState.SUCCEEDED or shown is None:
        return False
    return shown.get("rental_id") is None and shown.get("engine_released") is False


def meaning_of_absent(
    compound: CommandRecord, known: Mapping[bytes, CommandRecord]
) -> str:
    """Return why there is no command of a part that does not exist."""
    first = known.get(compound.parts[0].command_id)
    if not compound.state.is_terminal:
        return "waits for the part before it"
    if is_needless(compound, first):
        return "not needed: the vehicle's signed state says that it is so"
    if first is not None and first.state is CommandState.SUCCEEDED:
        return "not sent: the vehicle could not be asked in time after the first part"
    return "not sent: the part before it was not done"


def _ended(
    compound: CommandRecord,
    last: CommandRecord | None,
    state: CommandState,
    now: int,
) -> CommandRecord:
    """Return a compound with the end that its last part gave it."""
    if last is None:
        told = replace(compound, executed=Executed.NO, retry=Retry.NEW_COMMAND)
    else:
        is_first_only = state is CommandState.PARTIAL and (
            last.command_id == compound.parts[0].command_id
        )
        told = replace(
            compound,
            code=None if is_first_only else last.code,
            executed=Executed.YES if state is CommandState.PARTIAL else last.executed,
            retry=Retry.AFTER_RESYNC if state is CommandState.PARTIAL else last.retry,
            snapshot=last.snapshot,
        )
    return move(replace(told, settled_by="parts"), state, now)
