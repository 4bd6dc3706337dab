"""One-time claims: what a device must know to be enrolled, once.

A claim is 160 random bits in text, made for one vehicle id and told to a person or a
production line. The books keep its SHA-256; the entropy makes a slow hash pointless.
A claim for a serial number gets a random vehicle id, and the device must name that
number when it enrols: the list of open claims is the allow-list of devices.
"""

import base64
import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from certs.books import Books, Voucher
from certs.errors import DuplicateError, RequestError
from certs.fleet import FleetDirectory
from protocol.identity import VehicleId

CLAIM_SIZE: Final = 20
"""Random bytes in a claim; 160 bits cannot be guessed."""

CLAIM_TEXT: Final = re.compile(r"FF-[A-Z2-7]{32}")
"""A claim as it is told: recognisable, and of letters that can be read out."""

CLAIM_LIFETIME: Final = timedelta(days=7)
"""From making a claim to building the device in."""

CLAIM_LIFETIME_LIMIT: Final = timedelta(days=90)
"""A claim on paper is a key on paper."""

SERIAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}")
"""A device's serial number."""


@dataclass(frozen=True, slots=True, repr=False)
class OpenClaim:
    """A claim that was just made; the only place where its text is."""

    text: str
    """Secret; shown once."""
    voucher: Voucher
    """What the books have of it."""

    def __repr__(self) -> str:
        return f"OpenClaim({self.voucher.vehicle_id})"


def claim_hash(text: str) -> bytes:
    """Return the hash by which the books know a claim."""
    return hashlib.sha256(b"ff-claim-v1\0" + text.encode()).digest()


def make_claim(
    fleet: FleetDirectory,
    books: Books,
    *,
    vehicle_id: VehicleId,
    serial: str = "",
    lifetime: timedelta = CLAIM_LIFETIME,
    now: datetime,
) -> OpenClaim:
    """Make a claim with which one device enrols as one vehicle, once.

    Raises:
        RequestError: the serial number or lifetime is not allowed.
        DuplicateError: the vehicle is registered or was revoked, or another open or
            used claim has its id or serial number.
    """
    if serial and not SERIAL.fullmatch(serial):
        raise RequestError(
            f"serial number {serial[:80]!r} is not 1 to 64 letters, digits or ._:/-",
            "give it as it stands on the device",
        )
    if not timedelta(minutes=1) <= lifetime <= CLAIM_LIFETIME_LIMIT:
        raise RequestError(
            f"lifetime {lifetime} of a claim is not between one minute and "
            f"{CLAIM_LIFETIME_LIMIT}"
        )
    if fleet.record_path(vehicle_id).exists() or fleet.is_revoked(vehicle_id):
        raise DuplicateError(
            f"vehicle {vehicle_id} is registered or was revoked",
            "a vehicle is enrolled once; leave the id out for a new one",
        )
    for other in books.vouchers():
        if other.used is None and other.expires <= now:
            continue
        if other.vehicle_id == vehicle_id or (serial and other.serial == serial):
            state = "used" if other.used is not None else "open"
            raise DuplicateError(
                f"a claim that is {state} exists for vehicle {other.vehicle_id}"
                + (f", serial number {other.serial}" if other.serial else ""),
                "use that one, or let it expire; two claims would enrol two devices "
                "under one name",
            )
    text = f"FF-{base64.b32encode(secrets.token_bytes(CLAIM_SIZE)).decode()}"
    moment = now.replace(microsecond=0)
    voucher = Voucher(
        claim_hash(text), vehicle_id, serial, moment, moment + lifetime, None, None
    )
    books.add_voucher(voucher)
    return OpenClaim(text, voucher)
