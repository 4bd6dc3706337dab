"""What ends, and when somebody must have done something about it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from certs.errors import FleetError
from certs.finding import Finding, Material, Weight
from certs.profiles import Kind
from certs.renewal_rules import grace_end
from certs.revocation import is_half_over, read_list
from certs.services import services_of
from protocol.codes import Role
from protocol.fleet import FleetPart, TlsPart

AHEAD: Final = {
    Kind.ROOT: timedelta(days=730),
    Kind.ISSUING: timedelta(days=180),
    Kind.BROKER: timedelta(days=30),
    Kind.BRIDGE: timedelta(days=30),
    Kind.ENGINEER: timedelta(days=30),
    Kind.ENROLMENT: timedelta(days=30),
}
"""How long before its end each needs a person."""

ADVICE: Final = {
    Kind.ROOT: "freefloat certs roll-root prepare {fleet}",
    Kind.ISSUING: "freefloat certs renew {fleet} issuing --root-key ...",
    Kind.BROKER: "freefloat certs renew {fleet} broker, copy it and reload the broker",
    Kind.BRIDGE: "freefloat certs renew {fleet} {service}, and copy it to the bridge",
    Kind.ENGINEER: "freefloat certs renew {fleet} engineer",
    Kind.ENROLMENT: "freefloat certs renew {fleet} enrolment",
}

BUNDLE_AHEAD: Final = timedelta(days=60)
"""The roots that must sign the next bundle lie in two places."""

SIGNER_AHEAD: Final = timedelta(days=30)

LATE: Final = timedelta(days=3)
"""A vehicle first asks with 6.3 to 4.9 of 14 days left: it has failed for two days."""


def what_ends(material: Material) -> Iterator[Finding]:
    """Return what has ended or needs a person before it does."""
    yield from _certificates(material)
    yield from _vehicles(material)
    yield from _bundle(material)
    yield from _list(material)


def _certificates(material: Material) -> Iterator[Finding]:
    for seen in material.certificates:
        if seen.kind not in AHEAD:
            continue
        end = seen.certificate.not_valid_after_utc
        if end - material.now < AHEAD[seen.kind]:
            yield _ends(
                "certificate_ends",
                seen.subject,
                f"the {seen.kind} certificate",
                end,
                ADVICE[seen.kind].format(
                    fleet=material.fleet.path, service=_service(material, seen.subject)
                ),
                now=material.now,
            )


def _vehicles(material: Material) -> Iterator[Finding]:
    for newest in material.newest:
        name = str(newest.vehicle_id)
        left = newest.end - material.now
        if left >= LATE:
            continue
        grace = grace_end(newest.end, material.grace.get(newest.vehicle_id))
        if left > timedelta(0):
            yield Finding(
                "vehicle_late",
                name,
                f"has not renewed and ends {newest.end:%Y-%m-%d}",
                "see that the enrolment service runs and that the car has a network",
                Weight.NOTE,
                left.days,
            )
        elif grace is not None and material.now < grace:
            yield Finding(
                "vehicle_garaged",
                name,
                f"ended {newest.end:%Y-%m-%d}; may renew by its signing key until "
                f"{grace:%Y-%m-%d}",
                "nothing: it renews by itself when it has a network again",
                Weight.NOTE,
                left.days,
            )
        else:
            yield Finding(
                "vehicle_past_grace",
                name,
                f"ended {newest.end:%Y-%m-%d}, and its grace period too",
                f"look at the car, then: freefloat certs grace {material.fleet.path} "
                f"{name}; or withdraw it: freefloat certs revoke",
                days=left.days,
            )


def _bundle(material: Material) -> Iterator[Finding]:
    bundle = material.bundle
    if bundle is None:
        return
    end = _moment(bundle.expires_ms)
    if end - material.now < BUNDLE_AHEAD:
        yield _ends(
            "bundle_ends",
            f"trust bundle {bundle.version}",
            "the bundle",
            end,
            f"freefloat certs trust extend {material.fleet.path}",
            now=material.now,
        )
    bridges = sum(
        service.kind is Kind.BRIDGE
        for service in services_of(material.fleet.path).values()
    )
    for key in bundle.keys:
        end = _moment(key.not_after_ms)
        later = sum(
            other.role is key.role
            and other.group == key.group
            and other.not_after_ms > key.not_after_ms
            for other in bundle.keys
        )
        # The key of one bridge does not replace that of another one.
        needed = bridges if key.role in (Role.RENTAL, Role.RECEIPT) else 1
        if end - material.now < SIGNER_AHEAD and later < needed:
            yield _ends(
                "signer_ends",
                f"{key.role.name.lower()} key {key.key_id.hex()}",
                "the signer",
                end,
                f"freefloat certs trust rotate {material.fleet.path} "
                f"{key.key_id.hex()}",
                now=material.now,
            )


def _list(material: Material) -> Iterator[Finding]:
    fleet, part = material.fleet, FleetPart.REVOCATION_LIST.value
    advice = f"freefloat certs crl {fleet.path}; 'certs serve' does it by itself"
    try:
        found = read_list(fleet)
    except (FleetError, OSError) as error:
        yield Finding("list_damaged", part, str(error), advice)
        return
    if found is None or not is_half_over(found, now=material.now):
        return
    until = found.next_update_utc or found.last_update_utc
    over = "is over" if material.now >= until else "is half over"
    yield Finding(
        "list_old",
        part,
        f"the revocation list {over}: brokers that read it would lock every car out "
        f"from {until:%Y-%m-%d %H:%M} on",
        advice,
        days=(until - material.now).days,
    )


def _service(material: Material, part: str) -> str:
    """Return by which name a command calls the owner of a certificate's file."""
    for name, service in services_of(material.fleet.path).items():
        if part == f"{service.part}/{TlsPart.CERTIFICATE}":
            return name
    return ""


def _ends(
    check: str, subject: str, what: str, end: datetime, advice: str, *, now: datetime
) -> Finding:
    verb = "ended" if end <= now else "ends"
    detail = f"{what} {verb} {end:%Y-%m-%d}"
    return Finding(check, subject, detail, advice, days=(end - now).days)


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, tz=UTC)
