"""What a HELLO does to the store: session, settled commands, lost ledgers."""

from bridge import cloud_event, commands
from bridge.ingest import VerifiedHello
from bridge.ledger import Ledger, contradicts
from bridge.twin import rental_of, values_of_snapshot
from bridge.vehicle import HelloJudgement, VehicleState
from bridge.workspace import (
    DeadLetter,
    LedgerKey,
    LetterKind,
    Workspace,
    change,
    raise_alarm,
)
from protocol.entry import entry_hash


def absorb_hello(space: Workspace, record: VerifiedHello, now: int) -> str:
    """Fold a verified HELLO into the batch; return what became of it, if unusual."""
    header, hello = record.frame.header, record.hello
    vehicle_id = header.vehicle_id
    before = space.vehicles.get(vehicle_id, VehicleState())
    digest = entry_hash(record.frame.data)
    judgement = before.judge(header, hello.ledger_id, digest)
    if judgement is HelloJudgement.REGRESSED:
        reason = "HELLO whose session went back"
        letter = DeadLetter.of(LetterKind.REGRESSED, record.frame, reason)
        space.dead.append(letter)
        return judgement.value
    if judgement is HelloJudgement.SAME:
        return judgement.value
    after = before.greeted(header, hello, digest, now=now).heard(header, now=now)
    values = values_of_snapshot(hello.snapshot)
    space.vehicles[vehicle_id] = after.observed(header, values, now=now)
    listed = [
        space.commands[outcome.msg_id].expires_ms
        for outcome in hello.outcomes
        if outcome.msg_id in space.commands
    ]
    for command in list(space.commands.values()):
        if command.vehicle_id == vehicle_id:
            settled = commands.greeted(
                command,
                hello,
                header,
                lists_older=min(listed, default=now) < command.requested_ms,
                now=now,
            )
            if settled is not command:
                change(space, settled)
    key = (vehicle_id, hello.ledger_id)
    if before.ledger_id and before.ledger_id != hello.ledger_id:
        _alarm_replaced(space, before, key, now)
    # The receipt tells the car at once how far it need not send again.
    space.receipts.setdefault(key, [])
    return _compare_head(space, record, key, now)


def _alarm_replaced(
    space: Workspace, before: VehicleState, key: LedgerKey, now: int
) -> None:
    """Tell that a car lost its ledger, and what it was in as far as is known."""
    detail = (
        f"the car began this ledger in place of {before.ledger_id.hex()}; what it had "
        "not sent of that one is lost"
    )
    rental = rental_of(before.twin)
    if rental is not None:
        detail += f"; rental {rental} was open: close it by hand"
    raise_alarm(space, cloud_event.REPLACED_TYPE, (*key, 0), detail, now=now)


def _compare_head(
    space: Workspace, record: VerifiedHello, key: LedgerKey, now: int
) -> str:
    hello = record.hello
    wrong = contradicts(
        space.ledgers.get(key, Ledger()),
        hello.head_seq,
        hello.head_hash,
        known_hash=space.known.get((*key, hello.head_seq)),
    )
    if wrong is None:
        return ""
    raise_alarm(space, cloud_event.FORKED_TYPE, (*key, hello.head_seq), wrong, now=now)
    return wrong
