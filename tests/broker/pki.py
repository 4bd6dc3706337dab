"""A small PKI for tests of TLS and of brokers: root, issuing CA and odd leaves.

Not the product's (certs/): this one also makes what certs/ refuses to make.
"""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.fleet import FleetDirectory
from protocol.fleet import FleetPart
from transport.tls import TlsIdentity

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)


def clock() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - real brokers judge by the real clock


class Pki:
    """One fleet's certificates in a directory."""

    def __init__(self, directory: Path, *, now: datetime) -> None:
        self.directory = directory
        self.now = now
        directory.mkdir(parents=True, exist_ok=True)
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._root = self._authority("root", self._root_key, None)
        self._issuing_key = ec.generate_private_key(ec.SECP256R1())
        self._issuing = self._authority("issuing", self._issuing_key, self._root)
        self.anchors = directory / "trust-anchors.pem"
        self.anchors.write_bytes(_pem(self._root))

    @classmethod
    def of_fleet(cls, directory: Path, fleet: FleetDirectory, *, now: datetime) -> Self:
        """Return the PKI of a fleet directory, to make what its CA refuses to make."""
        made = cls(directory, now=now)
        authority = fleet.issuing_authority()
        made._issuing_key, made._issuing = authority.key, authority.certificate
        made._root = fleet.certificate(FleetPart.ROOT_CERTIFICATE)
        made.anchors.write_bytes(_pem(made._root))
        return made

    def _authority(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
    ) -> x509.Certificate:
        subject = _name(name)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - 30 * DAY)
            .not_valid_after(self.now + 30 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                True,
            )
            .sign(self._root_key, hashes.SHA256())
        )

    def issue(
        self,
        common_name: str,
        *,
        file: str | None = None,
        server: bool = False,
        names: tuple[str, ...] = ("localhost",),
        address: str | None = "127.0.0.1",
        starts: timedelta = -HOUR,
        ends: timedelta = DAY,
        purpose: str | None = None,
        self_signed: bool = False,
    ) -> TlsIdentity:
        """Issue a leaf; `starts` and `ends` are relative to now."""
        key = ec.generate_private_key(ec.SECP256R1())
        usage = (
            ExtendedKeyUsageOID.SERVER_AUTH
            if server
            else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        if purpose is not None:
            usage = x509.ObjectIdentifier(purpose)
        subject = _name(common_name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self_signed else self._issuing.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + starts)
            .not_valid_after(self.now + ends)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)
        )
        if server:
            alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in names]
            if address:
                alternatives.append(x509.IPAddress(IPv4Address(address)))
            builder = builder.add_extension(
                x509.SubjectAlternativeName(alternatives), False
            )
        leaf = builder.sign(key if self_signed else self._issuing_key, hashes.SHA256())
        folder = self.directory / (file or common_name)
        folder.mkdir()
        identity = TlsIdentity(folder / "tls.crt", folder / "tls.key", self.anchors)
        identity.certificate.write_bytes(_pem(leaf) + _pem(self._issuing))
        identity.key.touch(mode=0o600)
        identity.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return identity

    @property
    def root(self) -> x509.Certificate:
        return self._root

    @property
    def issuing(self) -> x509.Certificate:
        return self._issuing

    def certify(
        self,
        request: bytes,
        *,
        starts: datetime,
        ends: datetime,
        name: str | None = None,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    ) -> x509.Certificate:
        """Sign a request in DER as a CA does that believes it."""
        asked = x509.load_der_x509_csr(request)
        return (
            x509.CertificateBuilder()
            .subject_name(asked.subject if name is None else _name(name))
            .issuer_name(self._issuing.subject)
            .public_key(asked.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(ends)
            .add_extension(x509.ExtendedKeyUsage([usage]), False)
            .sign(self._issuing_key, hashes.SHA256())
        )

    def bind(
        self, key: ec.EllipticCurvePublicKey | Ed25519PublicKey, name: str
    ) -> x509.Certificate:
        """Certify a key that is no TLS key."""
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(self._issuing.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - DAY)
            .not_valid_after(self.now + 90 * DAY)
            .sign(self._issuing_key, hashes.SHA256())
        )

    def vouch_for(self, root: x509.Certificate) -> x509.Certificate:
        """Sign another root's key by this one's: NewWithOld."""
        return (
            x509.CertificateBuilder()
            .subject_name(root.subject)
            .issuer_name(self._root.subject)
            .public_key(root.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(root.not_valid_before_utc)
            .not_valid_after(root.not_valid_after_utc)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), True)
            .sign(self._root_key, hashes.SHA256())
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
