"""Renewing what the authority itself runs on: servers' certificates and issuing CA."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.authority import Authority, common_name, new_tls_key, pem_chain
from certs.errors import FleetError, RequestError
from certs.files import make_directory, replace_file
from certs.fleet import LOCAL_HOSTS, FleetDirectory
from certs.profiles import PROFILES, Kind
from certs.services import services_of
from keystore.private_key import PrivateKey
from protocol.fleet import FleetPart, TlsPart
from protocol.keyfile import build_key


@dataclass(frozen=True, slots=True)
class Renewed:
    """A certificate that was put in the place of another."""

    name: str
    """Its CN."""
    part: str
    """Its file in the fleet directory."""
    expires: datetime
    """Until when it counts."""


def renew_service(
    fleet: FleetDirectory, service: str, *, hosts: Iterable[str] = (), now: datetime
) -> Renewed:
    """Make a new key and certificate for broker, bridge, engineer or enrolment service.

    The key is replaced first: a crash in between leaves a certificate that does not fit
    its key, which every program says at its next start and a second call mends.

    Args:
        fleet: whose.
        service: a name of `certs.services.services_of`.
        hosts: names and addresses of a server; those of the present certificate if
            none are given, and always `LOCAL_HOSTS`.
        now: with a time zone.

    Raises:
        RequestError: there is no such service, or a name is not allowed.
        FleetError: the CA cannot be used.
        OSError: a file could not be written.
    """
    known = services_of(fleet.path)
    if service not in known:
        raise RequestError(
            f"{service[:40]!r} is no service of {fleet.path}",
            f"choose one of {', '.join(known)}",
        )
    kind, part, name = known[service]
    directory = fleet.path / part
    given = list(hosts) or _present_hosts(fleet, part)
    names = (*LOCAL_HOSTS, *given) if PROFILES[kind].has_hosts else tuple(hosts)
    key = new_tls_key()
    leaf = fleet.issuing_authority().issue(
        kind, name, key.public_key(), now=now, hosts=names
    )
    if not directory.is_dir():
        make_directory(directory, private=True)
    replace_file(directory / TlsPart.KEY, build_key(key), private=True)
    replace_file(directory / TlsPart.CERTIFICATE, fleet.chain(leaf))
    return Renewed(name, f"{part}/{TlsPart.CERTIFICATE}", leaf.not_valid_after_utc)


def renew_issuing(
    fleet: FleetDirectory, root_key: PrivateKey, *, now: datetime
) -> Renewed:
    """Let the root certify the issuing CA's key for another term.

    Name and key stay, so that every record and certificate below goes on being valid.

    Raises:
        FleetError: the key is not this fleet's root's, or a file is damaged.
        RequestError: the root has expired.
    """
    root = root_authority(fleet, root_key)
    issuing = fleet.issuing_authority()
    certificate = root.issue(
        Kind.ISSUING,
        common_name(issuing.certificate),
        issuing.certificate.public_key(),  # type: ignore[arg-type]
        now=now,
    )
    write_issuing(fleet, certificate)
    rewrite_chains(fleet)
    return Renewed(
        common_name(certificate),
        FleetPart.ISSUING_CERTIFICATE.value,
        certificate.not_valid_after_utc,
    )


def write_issuing(fleet: FleetDirectory, present: x509.Certificate) -> None:
    """Make a certificate of the issuing CA the present one, and keep the others.

    Raises:
        OSError: it could not be written; the file is as it was.
    """
    others = [one for one in fleet.issuing_certificates if one != present]
    path = fleet.path / FleetPart.ISSUING_CERTIFICATE
    replace_file(path, pem_chain(present, *others))


def root_authority(fleet: FleetDirectory, key: PrivateKey) -> Authority:
    """Return the fleet's root with its key.

    Raises:
        FleetError: it is not the key of the root's certificate.
    """
    certificate = fleet.certificate(FleetPart.ROOT_CERTIFICATE)
    if (
        not isinstance(key, ec.EllipticCurvePrivateKey)
        or key.public_key() != certificate.public_key()
    ):
        raise FleetError(
            f"the key given is not that of {FleetPart.ROOT_CERTIFICATE}",
            "fetch the root key of this very fleet from where it is kept offline",
        )
    return Authority(certificate, key)


def rewrite_chains(fleet: FleetDirectory) -> None:
    """Write each service's certificate anew with the present chain behind it.

    Raises:
        FleetError: a certificate is damaged.
        OSError: a file could not be written.
    """
    for _kind, part, _name in services_of(fleet.path).values():
        path = fleet.path / part / TlsPart.CERTIFICATE
        if path.exists():
            leaf = fleet.certificate(f"{part}/{TlsPart.CERTIFICATE}")
            replace_file(path, fleet.chain(leaf))


def _present_hosts(fleet: FleetDirectory, part: str) -> list[str]:
    try:
        leaf = fleet.certificate(f"{part}/{TlsPart.CERTIFICATE}")
        names = leaf.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except (FleetError, x509.ExtensionNotFound):
        return []
    return [str(name.value) for name in names]
