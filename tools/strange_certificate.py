"""A certificate of a car's name that the fleet's authority did not sign.

Whoever can run a program can make one; a broker must not let it in.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from transport.tls import TlsIdentity

LIFE: Final = timedelta(hours=1)
PRIVATE: Final = 0o600


def strange_identity(
    directory: Path, *, name: str, anchors: Path, now: datetime
) -> TlsIdentity:
    """Write a self-signed client certificate and its key, and return the identity.

    Args:
        directory: empty, and readable by nobody else.
        name: common name that it claims.
        anchors: PEM, whom the client trusts as broker.
        now: the present time, aware.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFE)
        .not_valid_after(now + LIFE)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    chain, secret = directory / "tls.crt", directory / "tls.key"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.touch(mode=PRIVATE)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return TlsIdentity(chain, secret, anchors)
