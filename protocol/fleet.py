"""The public files of a fleet directory and of the directory copied into a car.

The PKI writes them; the gateway, the bridge and the emulator read them, and know one
another only through these bytes and names. Everything here is public: no file of this
module holds a key that must be kept.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Annotated, Final, TypeVar

import msgspec

from protocol.codes import Code, Suite
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import ID_SIZE, VehicleId
from protocol.json_file import parse_file, parse_hex
from protocol.key_material import RAW_SIZES
from protocol.keys import VerifyKey
from protocol.trust import ROOTS_LIMIT, TrustRoots

FORMAT: Final = 1
"""Revision of the three files below."""

FILE_LIMIT: Final = 8_192
"""Bytes of any of these files; the largest, eight roots, takes about 600."""

NAME_LIMIT: Final = 32
"""Characters of a fleet's name: with its suffix it must fit a CN of 64 (RFC 5280)."""


GROUP_LIMIT: Final = 0xFFFF
"""Groups are u16 in trust bundles and hellos; 0 is no group."""


@unique
class FleetPart(StrEnum):
    """Where things lie in a fleet directory."""

    IDENTITY = "fleet.json"
    ROOT_CERTIFICATE = "ca/root.crt"
    ROOT_KEY = "ca/root.key"
    ISSUING_CERTIFICATE = "ca/issuing.crt"
    ISSUING_KEY = "ca/issuing.key"
    TRUST_ANCHORS = "ca/trust-anchors.pem"
    ROOT_LINKS = "ca/root-links.pem"
    REVOCATION_LIST = "ca/vehicles.crl"
    BOOKS = "ca/books.sqlite"
    BROKER = "broker"
    BRIDGE = "bridge/1"
    ENGINEER = "engineer/1"
    ENROLMENT = "enrolment"
    TRUST = "trust"
    TRUST_BUNDLE = "trust/bundle-1.bin"
    COMMAND_KEY = "signer/command-1.key"
    RECEIPT_KEY = "signer/receipt-1.key"
    REGISTRY = "registry"
    REVOKED = "revoked"
    AUDIT = "audit/security.jsonl"
    VEHICLES = "vehicles"


@unique
class TlsPart(StrEnum):
    """Names inside every directory that holds a TLS identity, a car's included."""

    CERTIFICATE = "tls.crt"
    KEY = "tls.key"


@unique
class VehiclePart(StrEnum):
    """Names inside the directory that is copied into a car."""

    IDENTITY = "vehicle.json"
    TLS_CERTIFICATE = "tls.crt"
    TLS_KEY = "tls.key"
    SIGNING_KEY = "signing.key"
    SEALING_KEY = "sealing.key"
    TRUST_ANCHORS = "trust-anchors.pem"
    TRUST_ROOTS = "trust-roots.json"
    TRUST_BUNDLE = "trust-bundle.bin"


class _FleetFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    fleet_id: str
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LIMIT)]
    created: Annotated[datetime, msgspec.Meta(tz=True)]


class _VehicleFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    vehicle_id: str
    fleet_id: str
    group: Annotated[int, msgspec.Meta(ge=0, le=GROUP_LIMIT)] = 0


class _TrustRootsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    threshold: int
    roots: Annotated[list[str], msgspec.Meta(min_length=1, max_length=ROOTS_LIMIT)]


F = TypeVar("F", _FleetFile, _VehicleFile, _TrustRootsFile)


@dataclass(frozen=True, slots=True)
class Fleet:
    """One fleet in one environment (``fleet.json``)."""

    fleet_id: bytes
    """16 bytes; part of every frame's signed bytes."""
    name: str
    """For people, 1 to `NAME_LIMIT` characters."""
    created: datetime
    """When its PKI was made, with a time zone."""


@dataclass(frozen=True, slots=True)
class VehicleIdentity:
    """Which car of which fleet a directory belongs to (``vehicle.json``)."""

    vehicle_id: VehicleId
    """The car."""
    fleet_id: bytes
    """16 bytes."""
    group: int = 0
    """The group of vehicles that it belongs to, which keys may be bound to; 0: none."""


def build_fleet(fleet: Fleet) -> bytes:
    """Return the bytes of ``fleet.json``."""
    return _build(_FleetFile(FORMAT, fleet.fleet_id.hex(), fleet.name, fleet.created))


def parse_fleet(data: bytes) -> Fleet:
    """Read ``fleet.json``.

    Raises:
        DecodeError: not such a file; the message names the field.
    """
    read = _parse(data, _FleetFile, FleetPart.IDENTITY)
    fleet_id = parse_hex(read.fleet_id, ID_SIZE, name="fleet_id")
    return Fleet(fleet_id, read.name, read.created)


def build_vehicle(vehicle: VehicleIdentity) -> bytes:
    """Return the bytes of ``vehicle.json``."""
    return _build(
        _VehicleFile(
            FORMAT, str(vehicle.vehicle_id), vehicle.fleet_id.hex(), vehicle.group
        )
    )


def parse_vehicle(data: bytes) -> VehicleIdentity:
    """Read ``vehicle.json``.

    Raises:
        DecodeError: not such a file; the message names the field.
    """
    read = _parse(data, _VehicleFile, VehiclePart.IDENTITY)
    return VehicleIdentity(
        VehicleId.from_text(read.vehicle_id),
        parse_hex(read.fleet_id, ID_SIZE, name="fleet_id"),
        read.group,
    )


def build_trust_roots(roots: TrustRoots) -> bytes:
    """Return the bytes of ``trust-roots.json``."""
    keys = [key.raw.hex() for key in roots.keys]
    return _build(_TrustRootsFile(FORMAT, roots.threshold, keys))


def parse_trust_roots(data: bytes) -> TrustRoots:
    """Read ``trust-roots.json``.

    Raises:
        DecodeError: not such a file, a root twice, a weak root, or a threshold that
            the roots cannot reach or that nobody needs to reach.
    """
    read = _parse(data, _TrustRootsFile, VehiclePart.TRUST_ROOTS)
    raws = [_raw_root(text) for text in read.roots]
    if len(set(raws)) != len(raws):
        # Two entries of one root would let one signature look like two.
        raise DecodeError(Code.BAD_PARAM, "a trust root is listed twice")
    if not 1 <= read.threshold <= len(raws):
        raise DecodeError(
            Code.BAD_PARAM,
            f"threshold {read.threshold} is not between 1 and {len(raws)} roots",
        )
    try:
        keys = tuple(VerifyKey.load(raw) for raw in raws)
    except AuthenticationError as error:
        raise DecodeError(error.code, f"trust root: {error.detail}") from None
    return TrustRoots(keys, read.threshold)


def _raw_root(text: str) -> bytes:
    """Return the raw key of a root; a longer text than Ed25519's is P-256's."""
    is_p256 = len(text) > 2 * RAW_SIZES[Suite.ED25519]
    suite = Suite.P256 if is_p256 else Suite.ED25519
    return parse_hex(text, RAW_SIZES[suite], name="root")


def _parse(data: bytes, kind: type[F], name: str) -> F:
    return parse_file(data, kind, name=name, limit=FILE_LIMIT, revision=FORMAT)


def _build(file: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"
