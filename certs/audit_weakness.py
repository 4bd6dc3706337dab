"""What is weaker than this authority would make it, and what should not be there."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)

from certs.audit_log import Severity
from certs.errors import FleetError
from certs.files import OTHERS
from certs.finding import Finding, Material, Seen, Weight
from certs.issuing_rollover import OLD_KEY, issuing_rollover
from certs.issuing_rollover import Phase as Issuing
from certs.profiles import BACKDATING, PROFILES, Kind
from certs.revocation import read_list
from certs.rollover import Phase, rollover
from protocol.errors import ProtocolError
from protocol.fleet import FleetPart
from protocol.keyfile import raw_public_key
from protocol.keys import VerifyKey

RSA_BITS: Final = 3072
"""As strong as P-256 (NIST SP 800-57, table 2)."""

ALARM_WINDOW: Final = timedelta(days=7)
"""How long an alarm of the enrolment service stays a finding."""

SWITCHED_LIMIT: Final = timedelta(days=30)
"""How long after a switch of roots the old one may stay trusted."""

_TLS_KINDS: Final = frozenset(
    {Kind.BROKER, Kind.BRIDGE, Kind.ENGINEER, Kind.ENROLMENT, Kind.VEHICLE_TLS}
)


def what_is_weak(material: Material) -> Iterator[Finding]:
    """Return weak keys, certificates against their template, and open files."""
    for seen in material.certificates:
        yield from _weak_key(seen)
        yield from _against_template(seen)
    for issued in material.running:
        subject = f"certificate of {issued.vehicle_id} in the books"
        seen = Seen(subject, Kind.VEHICLE_TLS, issued.certificate)
        yield from _against_template(seen)
    yield from _modes(material)


def what_is_active(material: Material) -> Iterator[Finding]:
    """Return what is withdrawn and counts still, and what somebody tried."""
    yield from _revoked(material)
    yield from _anchors(material)
    yield from _alarms(material)
    yield from _old_issuing_key(material)
    for part in sorted(material.fleet.path.glob("ca/root*.key")):
        yield _offline(str(part.relative_to(material.fleet.path)))
    for part in sorted(material.fleet.path.glob("trust/root-*.key")):
        yield _offline(str(part.relative_to(material.fleet.path)))


def _weak_key(seen: Seen) -> Iterator[Finding]:
    advice = "withdraw it with 'freefloat certs revoke' and enrol it with new keys"
    try:
        key = seen.certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        yield Finding("weak_key", seen.subject, f"its key is unusable: {error}", advice)
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_BITS:
        detail = f"RSA of {key.key_size} bits, less than {RSA_BITS}"
        yield Finding("weak_key", seen.subject, detail, advice)
    elif isinstance(key, ec.EllipticCurvePublicKey) and not isinstance(
        key.curve, ec.SECP256R1
    ):
        detail = f"curve {key.curve.name}, not P-256"
        yield Finding("weak_key", seen.subject, detail, advice)
    elif isinstance(key, Ed25519PublicKey):
        try:
            VerifyKey.load(raw_public_key(key, name="key"))
        except ProtocolError as error:
            yield Finding("weak_key", seen.subject, str(error), advice)
    elif isinstance(key, X25519PublicKey):
        try:
            X25519PrivateKey.generate().exchange(key)
        except ValueError:
            detail = "a sealing key of small order: what is sealed to it, anybody opens"
            yield Finding("weak_key", seen.subject, detail, advice)
    digest = seen.certificate.signature_hash_algorithm
    if isinstance(digest, (hashes.SHA1, hashes.MD5)):
        yield Finding(
            "weak_signature",
            seen.subject,
            f"is signed with {digest.name.upper()}",
            "let this authority sign it anew",
        )


def _against_template(seen: Seen) -> Iterator[Finding]:
    profile = PROFILES[seen.kind]
    certificate, advice = seen.certificate, "let this authority make it anew"
    constraints = _extension(certificate, x509.BasicConstraints)
    is_ca = isinstance(constraints, x509.BasicConstraints) and constraints.ca
    if is_ca and not profile.is_ca:
        yield Finding(
            "leaf_is_ca",
            seen.subject,
            "may sign certificates (CA:TRUE)",
            "find out who made it: this authority makes none such",
        )
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    found = set(usage) if isinstance(usage, x509.ExtendedKeyUsage) else set()
    if found != set(profile.purposes):
        yield Finding(
            "wrong_usage",
            seen.subject,
            f"is for {_names(found)}, a {seen.kind} certificate for "
            f"{_names(set(profile.purposes))}",
            advice,
        )
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if life > profile.lifetime + BACKDATING:
        yield Finding(
            "long_life",
            seen.subject,
            f"lives {life.days} days, a {seen.kind} certificate at most "
            f"{profile.lifetime.days}",
            advice,
        )


def _extension(
    certificate: x509.Certificate, kind: type[x509.ExtensionType]
) -> x509.ExtensionType | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _names(purposes: set[x509.ObjectIdentifier]) -> str:
    return ", ".join(sorted(one._name for one in purposes)) or "no named purpose"  # noqa: SLF001 - the library's own text form has it


def _modes(material: Material) -> Iterator[Finding]:
    books = material.fleet.path / FleetPart.BOOKS
    private = [*material.fleet.path.rglob("*.key"), books]
    for path in sorted(private):
        if not path.exists():
            continue
        mode = path.stat().st_mode & 0o777
        if mode & OTHERS:
            yield Finding(
                "open_file",
                str(path.relative_to(material.fleet.path)),
                f"can be read by others (mode {mode:04o})",
                f"chmod 600 {path}; replace the key if somebody may have read it",
            )


def _revoked(material: Material) -> Iterator[Finding]:
    fleet = material.fleet
    withdrawn = set(fleet.revoked_ids())
    for vehicle_id in sorted(withdrawn & set(fleet.vehicle_ids())):
        yield Finding(
            "revoked_active",
            str(vehicle_id),
            "was withdrawn and is in the registry still",
            f"freefloat certs revoke {fleet.path} {vehicle_id}",
        )
    try:
        found = read_list(fleet)
    except (FleetError, OSError):
        return  # the check of what ends says so
    for issued in material.running:
        if issued.vehicle_id not in withdrawn:
            continue
        serial = issued.certificate.serial_number
        if found is None or not found.get_revoked_certificate_by_serial_number(serial):
            yield Finding(
                "revoked_active",
                str(issued.vehicle_id),
                f"was withdrawn; its certificate runs until {issued.end:%Y-%m-%d} and "
                "is not on the revocation list",
                f"freefloat certs crl {fleet.path}",
            )


def _anchors(material: Material) -> Iterator[Finding]:
    fleet, now = material.fleet, material.now
    try:
        anchors = fleet.certificates(FleetPart.TRUST_ANCHORS)
        root = fleet.certificate(FleetPart.ROOT_CERTIFICATE)
        state = rollover(fleet, now=now)
        switched = fleet.issuing_certificate.not_valid_before_utc
    except FleetError as error:
        yield Finding("unreadable", FleetPart.TRUST_ANCHORS.value, str(error), "")
        return
    others = [one for one in anchors if one != root]
    if state.phase is Phase.NONE and others:
        yield Finding(
            "old_root_trusted",
            FleetPart.TRUST_ANCHORS.value,
            f"{len(others)} roots are trusted beside {FleetPart.ROOT_CERTIFICATE}, and "
            "no change of roots is under way",
            f"copy {FleetPart.ROOT_CERTIFICATE} over it, here and at broker and "
            "bridges",
        )
    elif state.phase is Phase.SWITCHED and now - switched > SWITCHED_LIMIT:
        yield Finding(
            "old_root_trusted",
            FleetPart.TRUST_ANCHORS.value,
            f"the old root is trusted {(now - switched).days} days after the switch",
            f"freefloat certs roll-root finish {fleet.path}",
        )


def _alarms(material: Material) -> Iterator[Finding]:
    counts: dict[tuple[str, str], int] = {}
    for event in material.fleet.audit_log.read():
        if (
            event.severity is Severity.ALARM
            and material.now - event.time < ALARM_WINDOW
        ):
            name = (event.event, event.vehicle_id)
            counts[name] = counts.get(name, 0) + 1
    for (event_name, vehicle_id), count in sorted(counts.items()):
        yield Finding(
            "alarm",
            vehicle_id or FleetPart.AUDIT.value,
            f"{event_name}, {count} times in {ALARM_WINDOW.days} days",
            f"read {FleetPart.AUDIT}: somebody may have tried a stolen claim or key",
        )


def _old_issuing_key(material: Material) -> Iterator[Finding]:
    phase = issuing_rollover(material.fleet).phase
    if phase is Issuing.SWITCHED:
        yield Finding(
            "old_key_here",
            OLD_KEY,
            "the issuing key of before is still here, and what it signs counts",
            f"freefloat certs roll-issuing finish {material.fleet.path}",
        )


def _offline(part: str) -> Finding:
    return Finding(
        "keep_offline",
        part,
        "is needed for nothing of every day",
        "keep it on two media in two places, and remove it here",
        Weight.NOTE,
    )
