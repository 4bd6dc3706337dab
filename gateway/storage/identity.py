"""Who this car is: the directory that was copied into it when it was enrolled.

`freefloat certs issue` makes the directory. Nothing here writes, and no message holds
what a key file holds. The store adds one file, `LEDGER_MARKER`: it belongs to the car
in which it was written and is never copied into another directory.
"""

import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.core.trust_renewal import TrustInUse
from protocol.errors import ProtocolError
from protocol.fleet import VehiclePart, parse_trust_roots, parse_vehicle
from protocol.identity import VehicleId
from protocol.keyfile import parse_sealing_key, parse_signing_key
from protocol.keys import SigningKey
from protocol.trust import open_bundle

LEDGER_MARKER: Final = "ledger-begun"
"""Name of the file that says that this identity has had a ledger."""

_FILE_LIMIT: Final = 64 * 1024
"""Bytes read of any of these files; the largest, a chain, takes about 3,000."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class IdentityError(Exception):
    """The identity directory cannot be used; the gateway must not start with it."""

    retryable = False
    """A person must put the directory right."""
    may_have_taken_effect = False
    """It is read before anything is done."""


class MissingFileError(IdentityError):
    """A file of the directory is not there or cannot be read."""


class ExposedKeyError(IdentityError):
    """A private key can be read by other users of the machine."""


class WrongContentError(IdentityError):
    """A file does not hold what its name says, or belongs to another car or fleet."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Everything a gateway must know about itself before it starts."""

    vehicle_id: VehicleId
    """This car."""
    fleet_id: bytes
    """16 bytes: its fleet and environment."""
    signing_key: SigningKey
    """Signs everything that the car sends."""
    sealing_key: X25519PrivateKey = field(repr=False)
    """Opens what was sealed to the car."""
    trust: TrustInUse
    """Whose commands and receipts count, verified against the trust roots."""
    directory: Path
    """Where it was read; a new signing key goes there too."""
    certificate: Path
    """TLS certificate chain; read anew at each connection, as it is renewed."""
    certificate_key: Path
    """Its private key."""
    trust_anchors: Path
    """What the broker's certificate must end in."""
    ledger_marker: Path | None = None
    """Written when a ledger begins, so that the loss of the whole data directory is
    told from a first start; None for none."""
    group: int = 0
    """The group of vehicles that it belongs to; 0 for none."""


def load_identity(directory: Path) -> Identity:
    """Read and verify a vehicle directory.

    The TLS files are only looked for; `transport.tls` judges them at each connection.

    Raises:
        IdentityError: the message names the file and the next step.
    """
    if not directory.is_dir():
        raise MissingFileError(
            f"identity directory {directory} does not exist: copy the car's directory "
            "of the fleet here (`freefloat certs issue` makes it), or correct "
            "`identity` in the settings"
        )
    tls = {
        part: _require_file(directory / part)
        for part in (
            VehiclePart.TLS_CERTIFICATE,
            VehiclePart.TLS_KEY,
            VehiclePart.TRUST_ANCHORS,
        )
    }
    signing = _read_key(directory / VehiclePart.SIGNING_KEY)
    sealing = _read_key(directory / VehiclePart.SEALING_KEY)
    try:
        vehicle = parse_vehicle(_read(directory / VehiclePart.IDENTITY))
        roots = parse_trust_roots(_read(directory / VehiclePart.TRUST_ROOTS))
        signed_bundle = _read(directory / VehiclePart.TRUST_BUNDLE)
        bundle = open_bundle(signed_bundle, roots, fleet_id=vehicle.fleet_id)
        signing_key = parse_signing_key(signing, name=VehiclePart.SIGNING_KEY)
        sealing_key = parse_sealing_key(sealing, name=VehiclePart.SEALING_KEY)
    except ProtocolError as error:
        raise WrongContentError(
            f"identity directory {directory}: {error}; copy the car's directory of "
            "the fleet anew"
        ) from error
    return Identity(
        vehicle_id=vehicle.vehicle_id,
        fleet_id=vehicle.fleet_id,
        signing_key=signing_key,
        sealing_key=sealing_key,
        trust=TrustInUse(bundle, signed_bundle),
        directory=directory,
        group=vehicle.group,
        certificate=tls[VehiclePart.TLS_CERTIFICATE],
        certificate_key=tls[VehiclePart.TLS_KEY],
        trust_anchors=tls[VehiclePart.TRUST_ANCHORS],
        ledger_marker=directory / LEDGER_MARKER,
    )


def _require_file(path: Path) -> Path:
    if not path.is_file():
        raise MissingFileError(
            f"{path} does not exist: copy the car's directory of the fleet anew"
        )
    return path


def _read(path: Path) -> bytes:
    _require_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise MissingFileError(
            f"{path} cannot be read ({error.strerror}): give it to the user that runs "
            "the gateway"
        ) from error
    if len(data) > _FILE_LIMIT:
        raise WrongContentError(
            f"{path} has more than {_FILE_LIMIT} bytes: this is some other file"
        )
    return data


def _read_key(path: Path) -> bytes:
    _require_file(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OPEN_TO_OTHERS:
        raise ExposedKeyError(
            f"key {path} has mode {mode:04o}, so other users can read it: run "
            f"`chmod 600 {path}`, and if others have access to this machine, enrol "
            "the car anew"
        )
    return _read(path)
