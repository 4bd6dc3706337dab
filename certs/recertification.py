"""Certifying the key that a vehicle rotated to, on the old key's own word.

A vehicle changes its signing key by an entry of its ledger, which the fleet's bridge
follows (FF-ENR-12 to FF-ENR-16). The authority has no ledger: it is shown the entry
itself, KEY_ROTATED, which the old key signed and which carries the new key's proof.
Then the record names the new key too, by a certificate of its own, and the grace path
takes it; the first certificate stays, as it proves what was signed before.

The attacker considered has the old key, from a stolen disk image. Until the authority
has seen the rotation that key counts, so the vehicle shows it at once; whoever comes
second is refused, and an alarm says that two keys claim one place. The entry is good at
one place of one ledger and leads to one key, so showing it again gives nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from cryptography import x509

from certs.authority import Authority, pem_chain
from certs.enrolment import Enrolled, build_record
from certs.errors import ClaimError, DuplicateError, ForkedError
from certs.files import replace_file
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from protocol.enrolment import ROTATIONS_LIMIT, RecordFile, VehicleRecord
from protocol.errors import ProtocolError
from protocol.frame import parse_frame
from protocol.identity import VehicleId
from protocol.rotation import Handover, follow_rotations


@dataclass(frozen=True, slots=True)
class Recertified:
    """What a record says of the present key."""

    certificate: x509.Certificate
    """Of the present signing key."""
    is_new: bool
    """Whether the record was changed; False if it knew the rotations."""


def recertify(
    fleet: FleetDirectory,
    authority: Authority,
    vehicle_id: VehicleId,
    frames: Sequence[bytes],
    *,
    enrolled: Enrolled,
    now: datetime,
) -> Recertified:
    """Follow a vehicle's rotations and certify the key they lead to.

    Call it while holding the registry alone.

    Args:
        fleet: whose.
        authority: the issuing CA.
        vehicle_id: a registered vehicle.
        frames: KEY_ROTATED frames, oldest first; those that the record knows may be
            among them, at the beginning.
        enrolled: what is taken.
        now: with a time zone.

    Raises:
        ForkedError: a key that has been replaced names another successor.
        ClaimError: nothing is shown, it does not hold, or the record is full.
        DuplicateError: the new key belongs, or belonged, to a vehicle.
        FleetError, ProtocolError, OSError: the record or the CA cannot be used. But for
            an OSError, after any of them nothing was signed or written.
    """
    record = fleet.vehicle_record(vehicle_id)
    path = fleet.record_path(vehicle_id)
    file = msgspec.json.decode(path.read_bytes(), type=RecordFile)
    known = [bytes.fromhex(text) for text in file.rotations]
    fresh = _fresh(frames, known)
    if not fresh:
        if not known:
            raise _not_proved(vehicle_id, "no rotation is shown")
        pem = file.present_certificate.encode()
        return Recertified(x509.load_pem_x509_certificate(pem), is_new=False)
    handovers = _followed(record, fresh, fleet_id=fleet.fleet.fleet_id)
    for handover in handovers:
        if handover.new_key.key_id in enrolled.key_ids:
            raise DuplicateError(
                f"{vehicle_id} rotates to key {handover.new_key.key_id.hex()}, which a "
                "vehicle has or had",
                "every vehicle makes keys of its own; a copied key may be an attack",
            )
    if len(known) + len(fresh) > ROTATIONS_LIMIT:
        raise _not_proved(vehicle_id, f"more than {ROTATIONS_LIMIT} rotations")
    certificate = authority.issue(
        Kind.VEHICLE_SIGNING,
        str(vehicle_id),
        handovers[-1].new_key.handle,
        now=now,
    )
    changed = msgspec.structs.replace(
        file,
        rotations=[one.hex() for one in (*known, *fresh)],
        present_certificate=pem_chain(certificate).decode(),
    )
    replace_file(path, build_record(changed))
    enrolled.key_ids.update(one.new_key.key_id for one in handovers)
    return Recertified(certificate, is_new=True)


def _fresh(frames: Sequence[bytes], known: Sequence[bytes]) -> list[bytes]:
    """Return the frames behind the last that the record knows."""
    fresh = list(frames)
    while fresh and fresh[0] in known:
        del fresh[0]
    return fresh


def _followed(
    record: VehicleRecord, fresh: Sequence[bytes], *, fleet_id: bytes
) -> tuple[Handover, ...]:
    vehicle_id = record.vehicle_id
    try:
        signer = parse_frame(fresh[0]).header.key_id
        replaced = {one.old_key.key_id: one.old_key for one in record.handovers}
        if signer in replaced:
            # Only who holds that key can raise this alarm.
            follow_rotations(
                fresh[:1], replaced[signer], fleet_id=fleet_id, vehicle_id=vehicle_id
            )
            raise ForkedError(
                f"key {signer.hex()} of {vehicle_id} was handed over already, and now "
                "names another successor: two hold it",
                "withdraw the vehicle and look at it; one of the two is an attacker",
            )
        return follow_rotations(
            fresh, record.present_key, fleet_id=fleet_id, vehicle_id=vehicle_id
        )
    except ProtocolError as error:
        raise _not_proved(vehicle_id, str(error)) from None


def _not_proved(vehicle_id: VehicleId, detail: str) -> ClaimError:
    return ClaimError(
        f"the rotations of {vehicle_id} do not hold: {detail}",
        "show its KEY_ROTATED entries from the key of its record on, oldest first",
    )
