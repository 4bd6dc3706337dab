"""A fleet and a car that sign, and the evidence file that comes of it."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from certs.fleet import FleetDirectory
from protocol.anchors import EvidenceAnchors
from protocol.codes import AccessMeans, FrameClass, FrameType, Opcode
from protocol.command import COMMANDS, Command, Unlock
from protocol.errors import AuthenticationError, DecodeError, ProtocolError
from protocol.event import RentalStarted
from protocol.evidence import (
    Exhibit,
    build_evidence,
    verify_evidence,
)
from protocol.fleet import FleetPart
from protocol.identity import VehicleId
from protocol.keyfile import parse_signing_key
from protocol.keys import SigningKey
from protocol.place import EVENT_PLACE, EventPlace, Place, commitment_of
from protocol.receipt import RECEIPT, Receipt
from protocol.rotation import rotation_message
from protocol.vehicle_event import KeyRotated
from tests.bridge.car import REPORT, Car
from tools.published_keys import CAR_A_NEXT_KEY

MADE: Final = datetime(2027, 1, 15, tzinfo=UTC)
YEAR_MS: Final = 365 * 24 * 3_600_000

Change = Callable[[Exhibit], Exhibit]


class Court:
    """A fleet, a car and what they signed; `exhibit` is what the fleet would show."""

    def __init__(
        self,
        fleet: FleetDirectory,
        *,
        now_ms: int,
        vehicle_id: VehicleId | None = None,
    ) -> None:
        self.fleet = fleet
        self.now_ms = now_ms
        if vehicle_id is None:
            vehicle_id = fleet.vehicle_ids()[0]
        self.car = Car(fleet.vehicle_directory(vehicle_id), boot_ms=lambda: 1_000)
        self.car.wall_ms = now_ms
        self.fleet_id = fleet.fleet.fleet_id

    def key(self, part: FleetPart) -> SigningKey:
        return parse_signing_key((self.fleet.path / part).read_bytes(), name=part)

    def sign(
        self,
        frame_class: FrameClass,
        number: int,
        payload: bytes,
        key: SigningKey,
        *,
        wall_ms: int | None = None,
    ) -> bytes:
        own, self.car.key = self.car.key, key
        try:
            return self.car.sign(
                frame_class,
                number,
                payload,
                seq=1,
                suite=key.suite,
                wall_ms=self.now_ms if wall_ms is None else wall_ms,
            )
        finally:
            self.car.key = own

    def receipt(self, key: SigningKey | None = None, **changes: object) -> bytes:
        wall_ms = changes.pop("wall_ms", None)
        receipt = Receipt(self.car.ledger_id, self.car.seq, self.car.head, 1, (), ())
        receipt = replace(receipt, **changes)  # type: ignore[arg-type] # a test's fields
        return self.sign(
            FrameClass.RECEIPT,
            FrameType.RECEIPT,
            RECEIPT.build(receipt),
            key or self.key(FleetPart.RECEIPT_KEY),
            wall_ms=wall_ms,  # type: ignore[arg-type] # an int or None
        )

    def command(self, command: Command, key: SigningKey | None = None) -> bytes:
        payload = COMMANDS[Opcode.UNLOCK].layout.build(command)
        return self.sign(
            FrameClass.CMD,
            Opcode.UNLOCK,
            payload,
            key or self.key(FleetPart.COMMAND_KEY),
        )

    def rotate(self) -> bytes:
        new = CAR_A_NEXT_KEY.key
        message = rotation_message(
            fleet_id=self.fleet_id,
            vehicle_id=self.car.id,
            old_key_id=self.car.key.key_id,
            ledger_id=self.car.ledger_id,
            seq=self.car.seq + 1,
        )
        entry = self.car.event(KeyRotated(new.verify_key.raw, new.sign(message)))
        self.car.key = new
        return entry

    def exhibit(self, *entries: bytes, **parts: object) -> Exhibit:
        record = json.loads(
            (self.fleet.path / FleetPart.REGISTRY / f"{self.car.id}.json").read_bytes()
        )
        whole = Exhibit(
            fleet_id=self.fleet_id,
            vehicle_id=self.car.id,
            issuing_certificate=der(self.fleet.path / FleetPart.ISSUING_CERTIFICATE),
            signing_certificate=pem_der(record["signing_certificate"].encode()),
            bundles=(self.fleet.trust_bundle(),),
            rotations=(),
            entries=entries,
            receipt=b"" if "receipt" in parts else self.receipt(),
        )
        return replace(whole, **parts)  # type: ignore[arg-type] # a test's own parts

    @property
    def anchors(self) -> EvidenceAnchors:
        root = (self.fleet.path / FleetPart.ROOT_CERTIFICATE).read_bytes()
        return EvidenceAnchors(
            self.fleet_id,
            (x509.load_pem_x509_certificate(root),),
            self.fleet.open_trust_bundle().trust_roots,
        )

    def refusal(self, exhibit: Exhibit) -> ProtocolError:
        with pytest.raises((AuthenticationError, DecodeError)) as refused:
            verify_evidence(build_evidence(exhibit), self.anchors)
        return refused.value


def der(path: Path) -> bytes:
    return pem_der(path.read_bytes())


def pem_der(pem: bytes) -> bytes:
    body = b"".join(line for line in pem.split(b"\n") if not line.startswith(b"-----"))
    return base64.b64decode(body)


def rental_of(court: Court) -> Exhibit:
    """Return what a fleet shows of one rental, with all kinds of parts."""
    place = EventPlace(
        court.car.ledger_id, 1, bytes(range(16)), Place(481_000_000, 115_000_000, 50, 3)
    )
    start = court.car.event(
        RentalStarted(
            rental_id=REPORT.rental_id,
            means=AccessMeans.CARD,
            odometer_m=1_000_000,
            energy_pct=60,
            washer_pct=80,
            range_km=400,
            place_commitment=commitment_of(court.car.id, place),
        )
    )
    command = court.command(Unlock(REPORT.rental_id, 0xFFFF_FFFF))
    result = court.car.result(command)
    end = court.car.event(REPORT)
    return court.exhibit(
        start, result, end, commands=(command,), places=(EVENT_PLACE.build(place),)
    )
