"""Replacing the fleet's root while cars are on the road.

The new root bears the old one's name and a key of its own, and the old root certifies
it: a link ("NewWithOld", RFC 4210, 4.4), self-issued and therefore not counted by path
lengths (RFC 5280, 4.2.1.9). Three steps, each with time between them:

1. `prepare`: the new root and the link are made; both roots are trust anchors from now
   on. Copy ``ca/trust-anchors.pem`` to broker and bridges. Cars get the new root with
   their next renewal, vouched for by the link. Nothing is signed by the new root yet,
   and nobody trusts the new root alone.
2. `switch`: the new root certifies the issuing CA, whose name and key stay, so every
   record and certificate below stays valid. Servers send the link behind their chain: a
   car that knows the old root only finds the way.
3. `finish`: the new root alone is trusted, as soon as no running certificate of a car
   comes with the old chain. A garaged car still verifies servers by the link, and comes
   back by the grace path.

Each step writes its files in an order in which it can be run again after a crash.
"""

from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.audit_log import Severity
from certs.authority import Authority, common_name, new_tls_key, pem_chain
from certs.errors import FleetError, RequestError
from certs.files import replace_file, write_new
from certs.fleet import FORMER_ROOTS, FleetDirectory
from certs.profiles import BACKDATING, Kind
from certs.renewing import rewrite_chains, root_authority, write_issuing
from keystore.private_key import PrivateKey
from protocol.fleet import FleetPart
from protocol.keyfile import build_key

NEW_ROOT: Final = "ca/root-new.crt"
NEW_KEY: Final = "ca/root-new.key"
OLD_ROOT: Final = "ca/root-old.crt"
OLD_KEY: Final = "ca/root-old.key"


@unique
class Phase(StrEnum):
    """Where a change of roots stands."""

    NONE = "no change of roots is under way"
    PREPARED = "prepared: both roots are trusted, the old one signs"
    SWITCHED = "switched: both roots are trusted, the new one signs"


@dataclass(frozen=True, slots=True)
class Rollover:
    """A change of roots as it stands."""

    phase: Phase
    """Which step was the last."""
    waiting: int
    """Running certificates of cars that come with the old chain."""


def rollover(fleet: FleetDirectory, *, now: datetime) -> Rollover:
    """Say where a change of roots stands.

    Raises:
        FleetError: a certificate or the books are damaged.
    """
    if (fleet.path / NEW_ROOT).exists():
        return Rollover(Phase.PREPARED, _waiting(fleet, now=now))
    if (fleet.path / OLD_ROOT).exists():
        return Rollover(Phase.SWITCHED, _waiting(fleet, now=now))
    return Rollover(Phase.NONE, 0)


def prepare(
    fleet: FleetDirectory,
    root_key: PrivateKey,
    *,
    new_key: PrivateKey | None = None,
    now: datetime,
) -> None:
    """Make the new root and the link, and trust both roots (step 1).

    Args:
        fleet: whose.
        root_key: of the present root.
        new_key: of the new root, such as one in a token; None makes one in a file.
        now: with a time zone.

    Raises:
        RequestError: a change is switched already, or the new key is no P-256 key.
        FleetError: the key given is not the root's, or a file is damaged.
        OSError: a file could not be written; run it again.
    """
    old = root_authority(fleet, root_key)
    if (fleet.path / OLD_ROOT).exists():
        raise RequestError(
            "a change of roots is under way and switched",
            "end it first: freefloat certs roll-root finish",
        )
    if not (fleet.path / NEW_ROOT).exists():
        new = _new_root(fleet, common_name(old.certificate), new_key, now=now)
        replace_file(fleet.path / NEW_ROOT, pem_chain(new.certificate))
    certificate = fleet.certificate(NEW_ROOT)
    link = old.issue(
        Kind.ROOT,
        common_name(certificate),
        _p256(certificate),
        now=now,
    )
    links = [one for one in fleet.root_links() if one.public_key() != link.public_key()]
    replace_file(fleet.path / FleetPart.ROOT_LINKS, pem_chain(link, *links))
    anchors = pem_chain(old.certificate, certificate)
    replace_file(fleet.path / FleetPart.TRUST_ANCHORS, anchors)
    rewrite_chains(fleet)
    fleet.audit_log.write(Severity.NOTE, "root_prepared", now=now)


def switch(fleet: FleetDirectory, new_root_key: PrivateKey, *, now: datetime) -> None:
    """Let the new root certify the issuing CA, and servers send the link (step 2).

    Raises:
        RequestError: no change is prepared.
        FleetError: the key given is not the new root's, or a file is damaged.
        OSError: a file could not be written; run it again.
    """
    if not (fleet.path / NEW_ROOT).exists():
        raise RequestError(
            "no change of roots is prepared", "begin: freefloat certs roll-root prepare"
        )
    certificate = fleet.certificate(NEW_ROOT)
    if (
        not isinstance(new_root_key, ec.EllipticCurvePrivateKey)
        or new_root_key.public_key() != certificate.public_key()
    ):
        raise FleetError(
            f"the key given is not that of {NEW_ROOT}",
            f"name the new root's key with --root-key; prepare left it in {NEW_KEY}",
        )
    issuing = fleet.issuing_certificate
    renewed = Authority(certificate, new_root_key).issue(
        Kind.ISSUING, common_name(issuing), _p256(issuing), now=now
    )
    write_issuing(fleet, renewed)
    rewrite_chains(fleet)
    present = fleet.certificate(FleetPart.ROOT_CERTIFICATE)
    if present != certificate:
        replace_file(fleet.path / OLD_ROOT, pem_chain(present))
        _rename(fleet, FleetPart.ROOT_KEY, OLD_KEY)
        replace_file(fleet.path / FleetPart.ROOT_CERTIFICATE, pem_chain(certificate))
    _rename(fleet, NEW_KEY, FleetPart.ROOT_KEY)
    (fleet.path / NEW_ROOT).unlink()
    fleet.audit_log.write(Severity.NOTE, "root_switched", now=now)


def finish(fleet: FleetDirectory, *, now: datetime) -> None:
    """Trust the new root alone (step 3).

    Raises:
        RequestError: nothing is switched, or cars would be locked out.
        FleetError, OSError: a file is damaged or could not be written.
    """
    state = rollover(fleet, now=now)
    if state.phase is not Phase.SWITCHED:
        raise RequestError(
            f"{state.phase}", "the steps are prepare, switch and finish, in this order"
        )
    if state.waiting:
        raise RequestError(
            f"{state.waiting} running certificates of cars come with the old chain: "
            "they would be locked out",
            "wait until those cars have renewed, at the longest 14 days after the "
            "switch",
        )
    root = fleet.certificate(FleetPart.ROOT_CERTIFICATE)
    replace_file(fleet.path / FleetPart.TRUST_ANCHORS, pem_chain(root))
    old = fleet.certificate(OLD_ROOT)
    former = [one for one in fleet.evidence_roots if one not in (root, old)]
    replace_file(fleet.path / FORMER_ROOTS, pem_chain(old, *former))
    (fleet.path / OLD_ROOT).unlink()
    fleet.audit_log.write(Severity.NOTE, "root_finished", now=now)


def _new_root(
    fleet: FleetDirectory, name: str, key: PrivateKey | None, *, now: datetime
) -> Authority:
    if key is None:
        key = new_tls_key()
        (fleet.path / NEW_KEY).unlink(missing_ok=True)  # of a run that was cut off
        write_new(fleet.path / NEW_KEY, build_key(key), private=True)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise RequestError("a root's key is of P-256", "make one with certs new-key")
    return Authority.create_root(name, now=now, key=key)


def _waiting(fleet: FleetDirectory, *, now: datetime) -> int:
    """Count the running certificates that were given with the old issuing chain."""
    switched = fleet.issuing_certificate.not_valid_before_utc + BACKDATING
    with closing(fleet.books()) as books:
        return sum(one.signed < switched for one in books.running(now=now))


def _rename(fleet: FleetDirectory, source: str, target: str) -> None:
    if (fleet.path / source).exists():
        (fleet.path / source).rename(fleet.path / target)


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise FleetError(
            f"{common_name(certificate)!r} has no P-256 key",
            "bring the certificate back from a backup",
        )
    return key
