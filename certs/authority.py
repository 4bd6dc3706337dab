"""Signing certificates: applies `certs.profiles` and makes no exceptions.

Everything here is values in, values out, but for the randomness of new keys and serial
numbers. Files are the business of `certs.fleet`.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certs.errors import RequestError
from certs.profiles import BACKDATING, PROFILES, KeyKind, KeyUse, Kind, Profile

PublicKey = ec.EllipticCurvePublicKey | Ed25519PublicKey | X25519PublicKey
"""The keys that a profile can bind."""

HOSTS_LIMIT: Final = 32
"""Names and addresses in one broker certificate."""

_HOST_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*"
)
"""A DNS name in lower case (RFC 1123, 2.1); no wildcard: it would cover hosts that
nobody decided about."""

_SECOND: Final = timedelta(seconds=1)


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """Make a P-256 key, for TLS and for the CAs."""
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate with its key; the text form shows no key."""

    certificate: x509.Certificate
    """Of the CA itself."""
    key: ec.EllipticCurvePrivateKey
    """Signs."""

    @classmethod
    def create_root(
        cls,
        name: str,
        *,
        now: datetime,
        lifetime: timedelta | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Self:
        """Make a self-signed root.

        Args:
            name: its CN.
            now: with a time zone.
            lifetime: shorter than the profile's, or None for the profile's.
            key: of P-256, such as one in a token; None makes one.

        Raises:
            RequestError: name or lifetime are not the profile's.
        """
        profile = PROFILES[Kind.ROOT]
        key = key or new_tls_key()
        _require_key(profile, key.public_key())
        subject = _subject(profile, name)
        begin, end = _span(profile, now, lifetime)
        builder = _builder(profile, subject, key.public_key(), begin, end)
        certificate = _signed(builder.issuer_name(subject), key, key.public_key())
        return cls(certificate, key)

    def create_issuing(
        self, name: str, *, now: datetime, lifetime: timedelta | None = None
    ) -> "Authority":
        """Make the CA below this one that signs from day to day.

        Raises:
            RequestError: as `issue`.
        """
        key = new_tls_key()
        certificate = self.issue(
            Kind.ISSUING, name, key.public_key(), now=now, lifetime=lifetime
        )
        return Authority(certificate, key)

    def issue(
        self,
        kind: Kind,
        name: str,
        public_key: PublicKey,
        *,
        now: datetime,
        lifetime: timedelta | None = None,
        hosts: Iterable[str] = (),
    ) -> x509.Certificate:
        """Sign a certificate of one kind.

        It is the caller who makes sure that the key belongs to who bears the name.

        Args:
            kind: which profile applies.
            name: the CN; the profile's pattern decides.
            public_key: the key to bind; the profile names its kind.
            now: with a time zone; the certificate begins `BACKDATING` earlier.
            lifetime: shorter than the profile's, or None for the profile's.
            hosts: DNS names and IP addresses, for the broker only.

        Raises:
            RequestError: the profile does not allow it, or this CA is not valid at
                `now`. Nothing was signed.
        """
        profile = PROFILES[kind]
        subject = _subject(profile, name)
        _require_key(profile, public_key)
        names = host_names(hosts)
        if profile.has_hosts != bool(names):
            wants = "needs at least one host name" if profile.has_hosts else "has none"
            raise RequestError(
                f"{len(names)} host names given, a {kind} certificate {wants}"
            )
        begin, end = self._span(profile, now, lifetime)
        builder = _builder(profile, subject, public_key, begin, end)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(names), critical=False
            )
        builder = builder.issuer_name(self.certificate.subject)
        return _signed(builder, self.key, self.key.public_key())

    def _span(
        self, profile: Profile, now: datetime, lifetime: timedelta | None
    ) -> tuple[datetime, datetime]:
        first = self.certificate.not_valid_before_utc
        last = self.certificate.not_valid_after_utc
        begin, end = _span(profile, now, lifetime)
        if not first <= now < last:
            raise RequestError(
                f"the signing CA is valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}, "
                f"not on {now:%Y-%m-%d}",
                "check this machine's clock; an expired CA must be renewed first",
            )
        return max(begin, first), end if profile.outlives_issuer else min(end, last)

    def __repr__(self) -> str:
        return f"Authority({common_name(self.certificate)!r})"


def common_name(certificate: x509.Certificate) -> str:
    """Return the CN of a certificate's subject; empty if it has none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def pem_chain(*certificates: x509.Certificate) -> bytes:
    """Return certificates in PEM, in the order given: leaf first."""
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def host_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Return hosts as they stand in a certificate, each once, in the order given.

    Raises:
        RequestError: one is neither a DNS name nor an IP address, or too many.
    """
    unique = list(dict.fromkeys(host.lower() for host in hosts))
    if len(unique) > HOSTS_LIMIT:
        raise RequestError(f"{len(unique)} hosts given, at most {HOSTS_LIMIT} fit")
    return [_host(host) for host in unique]


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        if not _HOST_NAME.fullmatch(host):
            raise RequestError(
                f"host {host[:80]!r} is neither a DNS name nor an IP address",
                "give the name by which clients reach it, without scheme, port or *",
            ) from None
        return x509.DNSName(host)


def _subject(profile: Profile, name: str) -> x509.Name:
    if not profile.name.fullmatch(name):
        raise RequestError(
            f"{name[:80]!r} is no name of a {profile.kind} certificate, which matches "
            f"{profile.name.pattern}"
        )
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _require_key(profile: Profile, key: PublicKey) -> None:
    match key:
        case Ed25519PublicKey():
            found = KeyKind.ED25519.value
        case X25519PublicKey():
            found = KeyKind.X25519.value
        case _ if isinstance(key.curve, ec.SECP256R1):
            found = KeyKind.P256.value
        case _:
            found = key.curve.name
    if found not in profile.keys:
        wanted = " or ".join(profile.keys)
        raise RequestError(
            f"a {profile.kind} certificate binds a {wanted} key, not {found}"
        )


def _span(
    profile: Profile, now: datetime, lifetime: timedelta | None
) -> tuple[datetime, datetime]:
    lifetime = profile.lifetime if lifetime is None else lifetime
    if not _SECOND <= lifetime <= profile.lifetime:
        raise RequestError(
            f"lifetime {lifetime} of a {profile.kind} certificate is not between one "
            f"second and {profile.lifetime}"
        )
    now = now.replace(microsecond=0)  # X.509 counts seconds
    return now - BACKDATING, now + lifetime


def _builder(
    profile: Profile,
    subject: x509.Name,
    key: PublicKey,
    begin: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(
            x509.BasicConstraints(profile.is_ca, profile.path_length), critical=True
        )
        .add_extension(
            x509.KeyUsage(**{use.value: use in profile.uses for use in KeyUse}),
            critical=True,
        )
        # OpenSSL's strict mode (the default since Python 3.13) wants both key ids.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )
    if profile.purposes:
        builder = builder.add_extension(
            x509.ExtendedKeyUsage(profile.purposes), critical=False
        )
    return builder


def _signed(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePublicKey,
) -> x509.Certificate:
    return builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False
    ).sign(key, hashes.SHA256())
