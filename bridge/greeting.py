"""What a HELLO does to the store: session, doubt, settled commands, lost ledgers."""

from typing import Final

import msgspec

from bridge import cloud_event, commands
from bridge.doubt import Doubt
from bridge.ingest import NUMBER_LIMIT, VerifiedHello
from bridge.ledger import Ledger, contradicts, falls_behind
from bridge.mds.standing import greeted
from bridge.twin import rental_of, values_of_snapshot
from bridge.vehicle import HelloJudgement, VehicleState
from bridge.workspace import (
    DeadLetter,
    LedgerKey,
    LetterKind,
    Workspace,
    change,
    note_steps,
    raise_alarm,
    set_alert,
)
from protocol.codes import HelloFlags
from protocol.entry import entry_hash
from protocol.identity import VehicleId

IN_DOUBT: Final = "in_doubt"
LEDGER_RESTORED: Final = "ledger_restored"

ALERT_OF_FLAG: Final = {
    HelloFlags.BUNDLE_EXPIRED: (
        "bundle_expired",
        "the car's trust bundle has expired: somebody may be keeping news from it",
    ),
    HelloFlags.SERVICE_MODE: ("service_mode", "the car is in service mode"),
    HelloFlags.LEDGER_WAS_RESET: (
        "ledger_was_reset",
        "the car began its ledger anew since it was last told that this is known",
    ),
}
"""The alert of each flag, and its sentence."""


def absorb_hello(space: Workspace, record: VerifiedHello, now: int) -> str:
    """Fold a verified HELLO into the batch; return what became of it, if unusual."""
    header, hello = record.frame.header, record.hello
    vehicle_id = header.vehicle_id
    before = space.vehicles.get(vehicle_id, VehicleState())
    digest = entry_hash(record.frame.data)
    judgement = before.judge(header, hello, digest)
    if judgement is HelloJudgement.SAME:
        return judgement.value
    space.greeted.add(vehicle_id)
    if judgement is HelloJudgement.REGRESSED:
        reason = "HELLO whose session went back"
        letter = DeadLetter.of(LetterKind.REGRESSED, record.frame, reason)
        space.dead.append(letter)
        _doubt(space, record, reason, now)
        return judgement.value
    if judgement is HelloJudgement.BARRED:
        _bar(space, record, now)
        return judgement.value
    after = before.greeted(header, hello, digest, now=now).heard(header, at=space.at)
    values = values_of_snapshot(hello.snapshot)
    after = after.observed(header, values, at=space.at)
    key = (vehicle_id, hello.ledger_id)
    told = greeted(
        after.standing,
        hello.snapshot.mode,
        hello.snapshot.rental_id,
        head_seq=hello.head_seq,
        upto=space.ledgers.get(key, Ledger()).upto,
        at_ms=now,
        is_fit=not after.faults,
    )
    space.vehicles[vehicle_id] = note_steps(space, vehicle_id, after, told)
    _settle_commands(space, record, now)
    _set_alerts(space, record, now)
    if before.ledger_id and before.ledger_id != hello.ledger_id:
        _alarm_replaced(space, before, key, now)
    # The receipt tells the car at once how far it need not send again.
    space.receipts.setdefault(key, [])
    answered = before.doubt if judgement is HelloJudgement.PROVED else None
    late = falls_behind(space.ledgers.get(key, Ledger()), hello.head_seq)
    known_hash = space.known.get((*key, hello.head_seq))
    wrong = contradicts(hello.head_seq, hello.head_hash, known_hash=known_hash)
    if answered and answered.proves_loss(hello.ledger_id, hello.head_seq):
        wrong = wrong or late
    if late and not wrong:
        # Entries may have overtaken it; the answer to the challenge tells (FF-HEL-11).
        # They may have overtaken an answer too: then it is asked with a fresh nonce.
        _doubt(space, record, late, now, is_answered=answered is not None)
        return late
    if answered:
        _trust_again(space, vehicle_id, now)
    if wrong:
        kind = cloud_event.FORKED_TYPE
        raise_alarm(space, kind, (*key, hello.head_seq), wrong, now=now)
        # A disk image was put back. Once the car has proved that it speaks now, it is
        # commanded again: whoever rents it is not locked out, and its new session kills
        # every older command. What it writes beside stored entries is kept as forks;
        # receipts show the car that its ledger is behind, so that it begins another.
        space.replaced[vehicle_id] = (hello.ledger_id, hello.head_seq)
        set_alert(space, vehicle_id, LEDGER_RESTORED, wrong, now=now)
        if not answered:
            _doubt(space, record, wrong, now)
        return wrong
    set_alert(space, vehicle_id, LEDGER_RESTORED, "", now=now)
    return judgement.value if answered else ""


def _settle_commands(space: Workspace, record: VerifiedHello, now: int) -> None:
    header, hello = record.frame.header, record.hello
    listed = [
        space.commands[outcome.msg_id].expires_ms
        for outcome in hello.outcomes
        if outcome.msg_id in space.commands
    ]
    for command in list(space.commands.values()):
        if command.vehicle_id == header.vehicle_id:
            settled = commands.greeted(
                command,
                hello,
                header,
                frame=record.frame.data,
                lists_older=min(listed, default=now) < command.requested_ms,
                now=now,
            )
            if settled is not command:
                change(space, settled)


def _set_alerts(space: Workspace, record: VerifiedHello, now: int) -> None:
    for flag, (name, detail) in ALERT_OF_FLAG.items():
        said = detail if flag in record.hello.flags else ""
        set_alert(space, record.frame.header.vehicle_id, name, said, now=now)


def _doubt(
    space: Workspace,
    record: VerifiedHello,
    reason: str,
    now: int,
    *,
    is_answered: bool = False,
) -> None:
    """Sign nothing for this car until it answers (FF-SYN-10).

    Args:
        space: the batch.
        record: the HELLO that causes it.
        reason: in a few words.
        now: UTC ms.
        is_answered: whether that HELLO answers the doubt before, which is over then.
    """
    header = record.frame.header
    vehicle_id = header.vehicle_id
    before = space.vehicles.get(vehicle_id, VehicleState())
    key = (vehicle_id, record.hello.ledger_id)
    known = None if is_answered else before.doubt
    # The same nonce as long as it is not answered: the answer may be on its way.
    doubt = Doubt.of(
        header,
        reason,
        nonce=space.fresh_nonce() if known is None else known.nonce,
        at=space.at,
        ledger_id=key[1] if known is None else known.ledger_id,
        upto=(space.ledgers.get(key, Ledger()).upto if known is None else known.upto),
    )
    space.vehicles[vehicle_id] = msgspec.structs.replace(before, doubt=doubt)
    set_alert(space, vehicle_id, IN_DOUBT, reason, now=now)


def _bar(space: Workspace, record: VerifiedHello, now: int) -> None:
    header, ledger_id = record.frame.header, record.hello.ledger_id
    vehicle_id = header.vehicle_id
    detail = (
        f"the car came back with ledger {ledger_id.hex()}, which had been replaced; "
        "nothing is signed for it until its storage is reset"
    )
    before = space.vehicles.get(vehicle_id, VehicleState())
    if before.doubt is not None:
        barred = msgspec.structs.replace(before.doubt, is_barred=True, reason=detail)
        space.vehicles[vehicle_id] = msgspec.structs.replace(before, doubt=barred)
    key = (vehicle_id, ledger_id, record.hello.head_seq)
    raise_alarm(space, cloud_event.FORKED_TYPE, key, detail, now=now)


def _trust_again(space: Workspace, vehicle_id: VehicleId, now: int) -> None:
    vehicle = space.vehicles[vehicle_id]
    space.vehicles[vehicle_id] = msgspec.structs.replace(vehicle, doubt=None)
    set_alert(space, vehicle_id, IN_DOUBT, "", now=now)


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
    space.replaced[key[0]] = (key[1], NUMBER_LIMIT)
