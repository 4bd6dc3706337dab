"""What callers get: vehicles, commands and rentals as JSON."""

import base64
from collections.abc import Mapping

from bridge.commands import CommandRecord, CommandState, Part
from bridge.compound import STEPS, meaning_of_absent
from bridge.instants import rfc3339
from bridge.orders import KINDS
from bridge.presence import LinkState
from bridge.rows.configurations import Configuration
from bridge.rows.letters import StoredLetter
from bridge.rows.rentals import Rental
from bridge.twin import age_ms, is_stale
from bridge.vehicle import VehicleState
from protocol.codes import Code, ConfigKind, Opcode
from protocol.command import COMMAND_SCHEMA
from protocol.identity import VehicleId, boot_counter
from protocol.snapshot import NO_RENTAL

Document = dict[str, object]

_MEANINGS = {
    CommandState.REQUESTED: "not signed yet",
    CommandState.DEFERRED: "waits unsigned for the vehicle, until it expires",
    CommandState.SIGNED: "on its way to the broker; not known to have arrived",
    CommandState.PUBLISHED: "sent; not known to have arrived",
    CommandState.RECEIVED: "the vehicle has it, as it signed; not known to be done",
    CommandState.ACCEPTED: "the vehicle is at it, as it signed; not known to be done",
    CommandState.TIMED_OUT: "unknown: no answer came; the next hello settles it",
    CommandState.UNDER_WAY: "one part after the other: each says how far it is",
    CommandState.PARTIAL: "one part was done and another was not, or is not known",
    CommandState.SUCCEEDED: "done: the vehicle read the state back and signed it",
    CommandState.FAILED: "tried and failed, as the vehicle signed",
    CommandState.REJECTED: "refused by the vehicle, signed",
    CommandState.EXPIRED: "not executed and never will be: signed, or never sent",
    CommandState.SUPERSEDED: "not executed: a newer command came before it, signed",
    CommandState.CANCELLED: "stopped before it was done, as was signed, or taken back",
    CommandState.INDETERMINATE: "the vehicle lost power in the act; see its state",
}


def of_vehicle(
    vehicle_id: VehicleId, state: VehicleState | None, *, now: int
) -> Document:
    """Return a vehicle; one that never spoke has no session and no state."""
    document: Document = {
        "id": str(vehicle_id),
        "online": state is not None and state.is_online(now=now),
        "last_seen": None,
        "link": {
            "state": LinkState.UNKNOWN.value,
            "since": None,
            "hello": None,
            "death": None,
        },
        "doubt": None,
        "alerts": [],
        "session": None,
        "capabilities": [],
        "faults": [],
        "state": {},
    }
    if state is None:
        return document
    known = state.presence
    document["last_seen"] = rfc3339(known.heard_ms or None)
    document["link"] = {
        "state": known.state(now=now).value,
        "since": rfc3339(known.since_ms(now=now) or None),
        "hello": rfc3339(known.hello_ms or None),
        "death": rfc3339(known.death_ms or None),
    }
    document["doubt"] = None if state.doubt is None else state.doubt.reason
    document["alerts"] = list(state.alerts)
    if state.session_id:
        document["session"] = {
            "id": state.session_id.hex(),
            "boot_counter": boot_counter(state.session_id),
            "since": rfc3339(known.hello_ms),
            "firmware": state.firmware,
            "trust_bundle_version": state.bundle_version,
            "ledger_id": state.ledger_id.hex(),
            "storage_free_kib": state.storage_free_kib,
            "group": state.group,
            "configurations": {
                _kind(kind): version for kind, version in sorted(state.configs)
            },
        }
    kinds = {int(opcode): name for opcode, name in KINDS.items()}
    told = [
        kinds.get(opcode, f"0x{opcode:04x}") for opcode, _schema in state.capabilities
    ]
    composed = [
        KINDS[compound]
        for compound, steps in STEPS.items()
        if all(state.understands(step, COMMAND_SCHEMA) for step in steps)
    ]
    document["capabilities"] = [*dict.fromkeys((*told, *composed))]
    document["faults"] = list(state.faults)
    is_online = state.is_online(now=now)
    document["state"] = {
        name: {
            "value": field.value,
            "observed": rfc3339(field.observed_ms),
            "received": rfc3339(field.received_ms),
            "age_s": age_ms(field, now=now) // 1_000,
            "stale": is_stale(name, field, is_online=is_online, now=now),
        }
        for name, field in sorted(state.twin.items())
    }
    return document


def of_command(
    record: CommandRecord, parts: Mapping[bytes, CommandRecord] | None = None
) -> Document:
    """Return a command with its trail and its signed frames.

    Args:
        record: the command.
        parts: those of a compound that exist, by id.
    """
    return {
        "id": record.command_id.hex(),
        "vehicle_id": str(record.vehicle_id),
        "kind": record.kind,
        "rental_id": None if record.rental_id == NO_RENTAL else record.rental_id.hex(),
        "state": record.state.value,
        "is_final": record.state.is_terminal,
        "meaning": _MEANINGS[record.state],
        "code": _name(record.code),
        "executed": _name(record.executed),
        "retry": _name(record.retry),
        "settled_by": record.settled_by,
        "retry_of": record.retry_of.hex() or None,
        "part_of": record.part_of.hex() or None,
        "snapshot": record.snapshot,
        "requested": rfc3339(record.requested_ms),
        "expires": rfc3339(record.expires_ms),
        "sends": record.sends,
        "version": record.version,
        "trail": [
            {"state": state, "at": rfc3339(at_ms)} for state, at_ms in record.trail
        ],
        "parts": [_of_part(record, part, parts or {}) for part in record.parts],
        "frames": {
            "command": _base64(record.frame),
            "result": _base64(record.result_frame),
        },
    }


def _of_part(
    compound: CommandRecord, part: Part, known: Mapping[bytes, CommandRecord]
) -> Document:
    """Return a part: a command, or why there is none."""
    record = known.get(part.command_id)
    if record is not None:
        return of_command(record)
    return {
        "id": part.command_id.hex(),
        "kind": KINDS[Opcode(part.opcode)],
        "state": None,
        "is_final": compound.state.is_terminal,
        "meaning": meaning_of_absent(compound, known),
    }


def of_rental(rental: Rental) -> Document:
    """Return a rental with its evidence."""
    receipt = rental.receipt
    return {
        "rental_id": rental.rental_id.hex(),
        "vehicle_id": str(rental.vehicle_id),
        "state": rental.state,
        "updated": rfc3339(rental.updated_ms),
        "needs_close": rental.needs_close,
        "report": rental.report,
        "evidence": {
            "ledger_id": rental.ledger_id.hex(),
            "seq": rental.seq,
            "frame": _base64(rental.frame),
            "receipt": {
                "state": "due" if receipt is None else "signed",
                "upto": None if receipt is None else receipt.upto,
                "signed": None if receipt is None else rfc3339(receipt.signed_ms),
                "frame": None if receipt is None else _base64(receipt.data),
            },
        },
    }


def of_configuration(wanted: Configuration, state: VehicleState) -> Document:
    """Return a wanted configuration and what the vehicle acts by."""
    return {
        "kind": wanted.kind.name.lower(),
        "version": wanted.version,
        "length": len(wanted.body),
        "sha256": wanted.sha256.hex(),
        "state": wanted.state.value,
        "code": None if wanted.code is None else _name(Code(wanted.code)),
        "changed": rfc3339(wanted.changed_ms),
        "vehicle_has": state.config_version(wanted.kind) or None,
    }


def of_letter(letter: StoredLetter) -> Document:
    """Return a dead letter; nothing in it is proved."""
    return {
        "id": letter.letter_id,
        "kind": letter.kind.value,
        "topic": letter.topic,
        "reason": letter.reason,
        "received": rfc3339(letter.received_ms),
        "frame": _base64(letter.data),
    }


def _kind(number: int) -> str:
    known = {int(kind): kind.name.lower() for kind in ConfigKind}
    return known.get(number, f"0x{number:02x}")


def _name(code: object) -> str | None:
    name = getattr(code, "name", None)
    return None if name is None else str(name).lower()


def _base64(data: bytes) -> str | None:
    return base64.b64encode(data).decode("ascii") if data else None
