"""TLS contexts for both ends of a link, and the checks that must come before them.

The attacker considered sits between a car and its broker with a certificate of some
public CA, or owns another car of the fleet. Hence TLS 1.3 only, the fleet's own root as
the only trust anchor, the server's name checked, and no way to switch any of it off
(reliability.md K3 to K5).

OpenSSL says "key values mismatch" or "unknown ca"; who is at the roadside needs the
file, the value and the next step. So every file is looked at before OpenSSL is, and
what OpenSSL says while connecting is put into a sentence by `explain_tls_error`.
"""

import _ssl
import ssl
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from protocol.fleet import FleetPart, TlsPart
from transport.errors import TlsSetupError

_MAX_FILE_SIZE: Final = 64 * 1024
"""Bytes of the largest certificate, key or trust file that is read. A chain has about
1 KB per certificate; a mistaken path to a log or an image must not be read whole."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO

_ISSUE_HINT: Final = (
    "replace it: `freefloat certs issue` makes a car's, `freefloat certs init` a "
    "fleet's own (docs/operations.md, section 10)"
)
"""A car renews its own in time; what it says here is for who made the files by hand."""

_NO_CHECK_TIME: Final = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL (x509_vfy.h), which Python has no name for."""

Floor = Callable[[], datetime]
"""Returns a time, aware, that has certainly passed."""


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """Where one TLS identity lies; the files are read anew for every context."""

    certificate: Path
    """PEM: our certificate first, then its issuing CA's."""
    key: Path
    """PEM: our private key, unencrypted, readable by its owner alone (0600)."""
    trust_anchors: Path
    """PEM: the root certificates that the other side's chain must end in."""

    @classmethod
    def of_fleet(cls, fleet: Path, part: FleetPart) -> Self:
        """Return the identity of one part of a fleet directory: broker, bridge, ..."""
        directory = fleet / part
        return cls(
            certificate=directory / TlsPart.CERTIFICATE,
            key=directory / TlsPart.KEY,
            trust_anchors=fleet / FleetPart.TRUST_ANCHORS,
        )


class FlooredContext(ssl.SSLContext):
    """Verifies signatures, name and purpose, and dates by a floor."""

    floor: Floor

    def judge(self, connection: ssl.SSLSocket | ssl.SSLObject) -> None:
        """Hold the server's dates against the floor, behind a handshake.

        OpenSSL has verified signatures, name and purpose by then, and no date. Call it
        before a byte of ours is sent.

        Raises:
            SSLCertVerificationError: a certificate has certainly expired.
        """
        floor = self.floor()
        for certificate in _verified_chain(connection):
            if floor >= certificate.not_valid_after_utc:
                raise _expired(certificate, floor)


class _FlooredSocket(ssl.SSLSocket):
    """What a floored context makes of a socket; closes itself when that fails.

    For HTTPS: MQTT has its own (`transport.buffered_tls`).
    """

    context: FlooredContext

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
            self.context.judge(self)
        except BaseException:
            self.close()
            raise

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        # Before there is TLS, only `SSLSocket._create` reads here: of a connection that
        # was reset after connect(). Python before 3.11.5 then leaves the socket open.
        try:
            return super().recv(buflen, flags)
        except ConnectionResetError:
            if self.version() is None:
                self.close()
            raise


def _verified_chain(
    connection: ssl.SSLSocket | ssl.SSLObject,
) -> list[x509.Certificate]:
    """Return the chain that OpenSSL verified, leaf first, root last.

    Python 3.13 has a public method for it; the private one is in all versions since
    3.10 (bpo-18233).
    """
    chain = connection._sslobj.get_verified_chain()  # type: ignore[union-attr] # noqa: SLF001 - see above
    return [
        x509.load_der_x509_certificate(one.public_bytes(_ssl.ENCODING_DER))
        for one in chain
    ]


def _expired(
    certificate: x509.Certificate, floor: datetime
) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(
        1,
        f"certificate has expired: {certificate.subject.rfc4514_string()} ended on "
        f"{certificate.not_valid_after_utc.isoformat()}, and {floor.isoformat()} has "
        "certainly passed",
    )
    # OpenSSL's own error has these three (x509_vfy.h, X509_V_ERR_CERT_HAS_EXPIRED).
    error.reason = "CERTIFICATE_VERIFY_FAILED"
    error.verify_code = 10
    error.verify_message = "certificate has expired"
    return error


def floored_client_context(
    identity: TlsIdentity, *, floor: Floor, with_certificate: bool = True
) -> ssl.SSLContext:
    """Return a car's context for connecting, whose dates no wall clock decides.

    As `client_context`, but OpenSSL's look at the machine's clock is switched off: a
    car whose clock is ten years off would be locked out for good by it, or would accept
    a certificate that expired years ago. A certificate counts as expired when it ended
    before the floor. None counts as not yet valid: the floor is the least that the
    time can be, so nothing can be later than the truth by it.

    Args:
        identity: our files; certificate and key are checked if they are used.
        floor: asked now and at each handshake.
        with_certificate: False to show the server no certificate, for when ours has
            expired.

    Raises:
        TlsSetupError: as for `client_context`. Nothing was sent.
    """
    now = floor()
    _require_zone(now)
    if with_certificate:
        _check_own(identity, ExtendedKeyUsageOID.CLIENT_AUTH, now, is_floor=True)
    _check_anchors(identity, now)
    context = FlooredContext(ssl.PROTOCOL_TLS_CLIENT)
    context.floor = floor
    context.sslsocket_class = _FlooredSocket
    context.verify_flags |= _NO_CHECK_TIME
    _load(context, identity, with_certificate=with_certificate)
    return context


def client_context(identity: TlsIdentity, *, now: datetime) -> ssl.SSLContext:
    """Return a context for connecting to a broker as `identity`.

    TLS 1.3, the server's chain and name verified against the fleet's anchors alone.
    Build a new one when the certificate has been renewed.

    Args:
        identity: our files; all three are checked first.
        now: the present time, aware, against which certificates' dates are held.

    Raises:
        TlsSetupError: a file is missing, unreadable, no PEM, of the wrong kind, out of
            its dates, or open to other users. Nothing was sent.
    """
    _check(identity, usage=ExtendedKeyUsageOID.CLIENT_AUTH, now=now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _load(context, identity)
    return context


def server_context(identity: TlsIdentity, *, now: datetime) -> ssl.SSLContext:
    """Return a context for serving as `identity`; clients must show a certificate.

    Args:
        identity: our files; all three are checked first.
        now: the present time, aware, against which certificates' dates are held.

    Raises:
        TlsSetupError: as for `client_context`.
    """
    check_server_identity(identity, now=now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    _load(context, identity)
    return context


def check_server_identity(identity: TlsIdentity, *, now: datetime) -> None:
    """Check the files of a server that another program, such as a broker, will read.

    Raises:
        TlsSetupError: as for `client_context`.
    """
    _check(identity, usage=ExtendedKeyUsageOID.SERVER_AUTH, now=now)


def common_name(identity: TlsIdentity) -> str:
    """Return the name in our certificate: the MQTT user name and client id.

    Raises:
        TlsSetupError: the certificate cannot be read or has not exactly one CN.
    """
    leaf = _certificates(identity.certificate, "certificate")[0]
    names = leaf.subject.get_attributes_for_oid(x509.oid.NameOID.COMMON_NAME)
    if len(names) != 1:
        raise TlsSetupError(
            f"certificate {identity.certificate} has {len(names)} common names, not "
            f"exactly one; {_ISSUE_HINT}"
        )
    return str(names[0].value)


def read_certificates(path: Path) -> Sequence[x509.Certificate]:
    """Return the certificates in a PEM file, at least one, in their order.

    Raises:
        TlsSetupError: there is no such file, or no certificate in it.
    """
    return _certificates(path, "certificate")


def explain_tls_error(error: ssl.SSLError, *, host: str, server: str = "broker") -> str:
    """Put what OpenSSL reported while connecting into a sentence with a next step.

    Args:
        error: OpenSSL's.
        host: where we connected to.
        server: what is there, as the sentence shall call it.
    """
    return _sentence(error, host).replace("the broker", f"the {server}")


def _sentence(error: ssl.SSLError, host: str) -> str:
    text = " ".join([error.reason or "", *map(str, error.args)]).lower()
    text = text.replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        detail = error.verify_message
        if "hostname mismatch" in detail.lower() or "ip address" in detail.lower():
            return (
                f"the broker's certificate does not name {host!r}: connect by a name "
                "that it has, or make the broker a certificate for this name"
            )
        if "expired" in detail:
            return "the broker's certificate has expired: renew it on the broker"
        if "not yet valid" in detail:
            return (
                "the broker's certificate is not valid yet: check this machine's clock"
            )
        return (
            f"the broker at {host!r} is not of this fleet ({detail}): check address "
            "and trust anchors; if both are right, somebody else is answering"
        )
    for phrase, sentence in _ALERTS:
        if phrase in text:
            return sentence
    return f"TLS with {host!r} failed ({error.reason or error}): check host and port"


_CLOSED: Final = (
    "the other side closed during the TLS handshake: check host and port, our "
    "certificate, and the broker's log, which also says if it is full"
)
"""An alert about our certificate may be lost when its sender closes at once."""

_ALERTS: Final[tuple[tuple[str, str], ...]] = (
    # The alerts of RFC 8446, 6.2, as OpenSSL spells them, that a broker sends about
    # the certificate that we showed it.
    (
        "certificate expired",
        (
            "the broker says that our certificate has expired (or, if it is NATS, is "
            f"not valid yet) by its clock: check that clock too; {_ISSUE_HINT}"
        ),
    ),
    (
        "certificate revoked",
        f"the broker says that our certificate is revoked; {_ISSUE_HINT}",
    ),
    (
        "unknown ca",
        (
            "the broker does not know the CA of our certificate: it serves another "
            "fleet, or our certificate file lacks the issuing CA's certificate"
        ),
    ),
    (
        "decrypt error",
        (
            "the broker cannot verify our certificate or its key: it serves another "
            "fleet of the same name, or certificate and key do not belong together"
        ),
    ),
    (
        "certificate required",
        f"the broker wants a client certificate and got none; {_ISSUE_HINT}",
    ),
    (
        "bad certificate",
        (
            "the broker refuses our certificate, perhaps as not valid yet by its "
            f"clock: check that clock; {_ISSUE_HINT}"
        ),
    ),
    (
        "unsupported certificate",
        (
            "the broker refuses our certificate for this use: it is a server's, not a "
            f"client's; {_ISSUE_HINT}"
        ),
    ),
    (
        "certificate unknown",
        f"the broker refuses our certificate; {_ISSUE_HINT}",
    ),
    (
        "wrong version number",
        "the other side does not speak TLS on this port: check the port",
    ),
    (
        "protocol version",
        "the other side does not speak TLS 1.3, which freefloat requires: update it",
    ),
    ("unexpected eof", _CLOSED),
    # SSLEOFError without a reason, if the other side was gone while we wrote.
    ("eof occurred", _CLOSED),
)


def _load(
    context: ssl.SSLContext, identity: TlsIdentity, *, with_certificate: bool = True
) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(identity.trust_anchors)
        if with_certificate:
            context.load_cert_chain(identity.certificate, identity.key)
    except (ssl.SSLError, OSError) as error:
        # What the checks did not foresee, or a file that changed in between.
        raise TlsSetupError(
            f"OpenSSL does not accept certificate {identity.certificate}, key "
            f"{identity.key} and trust anchors {identity.trust_anchors} ({error}); "
            f"{_ISSUE_HINT}"
        ) from error


def _check(
    identity: TlsIdentity, *, usage: x509.ObjectIdentifier, now: datetime
) -> None:
    _require_zone(now)
    _check_own(identity, usage, now)
    _check_anchors(identity, now)


def _require_zone(now: datetime) -> None:
    if now.tzinfo is None:
        raise TlsSetupError(f"the time {now} has no time zone: pass an aware time")


def _check_own(
    identity: TlsIdentity,
    usage: x509.ObjectIdentifier,
    now: datetime,
    *,
    is_floor: bool = False,
) -> None:
    chain = _certificates(identity.certificate, "certificate")
    for certificate in chain:
        _check_dates(certificate, identity.certificate, now=now, is_floor=is_floor)
    _check_usage(chain[0], identity.certificate, usage)
    _check_key(identity, chain)


def _check_anchors(identity: TlsIdentity, now: datetime) -> None:
    anchors = _certificates(identity.trust_anchors, "trust anchors")
    if not any(a.not_valid_after_utc > now for a in anchors):
        latest = max(a.not_valid_after_utc for a in anchors)
        raise TlsSetupError(
            f"every trust anchor in {identity.trust_anchors} has expired, the last on "
            f"{latest.isoformat()}; now is {now.isoformat()}: copy the fleet's current "
            "ca/trust-anchors.pem here, and check this machine's clock"
        )


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_SIZE + 1)
    except FileNotFoundError as error:
        raise TlsSetupError(
            f"{what} {path} does not exist: check the path in the settings, or "
            f"{_ISSUE_HINT}"
        ) from error
    except OSError as error:
        raise TlsSetupError(
            f"{what} {path} cannot be read ({error.strerror}): give it to the user "
            "that runs this program"
        ) from error
    if len(data) > _MAX_FILE_SIZE:
        raise TlsSetupError(
            f"{what} {path} has more than {_MAX_FILE_SIZE} bytes: this is some other "
            "file; check the path in the settings"
        )
    return data


def _certificates(path: Path, what: str) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path, what))
    except ValueError as error:
        raise TlsSetupError(
            f"{what} {path} has no readable PEM certificate: check the path in the "
            f"settings, or {_ISSUE_HINT}"
        ) from error


def _check_dates(
    certificate: x509.Certificate, path: Path, *, now: datetime, is_floor: bool
) -> None:
    if now >= certificate.not_valid_after_utc:
        raise TlsSetupError(
            f"certificate {path} expired on "
            f"{certificate.not_valid_after_utc.isoformat()}, now is "
            f"{now.isoformat()}; {_ISSUE_HINT}"
        )
    if now < certificate.not_valid_before_utc and not is_floor:
        raise TlsSetupError(
            f"certificate {path} is not valid before "
            f"{certificate.not_valid_before_utc.isoformat()}, now is "
            f"{now.isoformat()}: check this machine's clock"
        )


def _check_usage(
    leaf: x509.Certificate, path: Path, usage: x509.ObjectIdentifier
) -> None:
    try:
        allowed = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return  # no restriction: RFC 5280 §4.2.1.12
    if usage not in allowed:
        wanted = "server" if usage == ExtendedKeyUsageOID.SERVER_AUTH else "client"
        raise TlsSetupError(
            f"certificate {path} is not for use as a TLS {wanted}: the settings name "
            f"the wrong file, or {_ISSUE_HINT}"
        )


def _check_key(identity: TlsIdentity, chain: Sequence[x509.Certificate]) -> None:
    data = _read(identity.key, "key")
    mode = stat.S_IMODE(identity.key.stat().st_mode)
    if mode & _OPEN_TO_OTHERS:
        raise TlsSetupError(
            f"key {identity.key} has mode {mode:04o}, so other users can read it: run "
            f"`chmod 600 {identity.key}`, and if others have access to this machine, "
            f"{_ISSUE_HINT}"
        )
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        raise TlsSetupError(
            f"key {identity.key} is encrypted, and a car starts without anybody to "
            "type a pass phrase: store it unencrypted with mode 0600"
        ) from error
    except Exception as error:
        # cryptography raises ValueError, UnsupportedAlgorithm and others of its own;
        # the cause stays in the chain, the message never quotes the file.
        raise TlsSetupError(
            f"key {identity.key} has no readable PEM private key: check the path in "
            f"the settings, or {_ISSUE_HINT}"
        ) from error
    if key.public_key() != chain[0].public_key():
        raise TlsSetupError(
            f"key {identity.key} is not the key of certificate "
            f"{identity.certificate}: the two are of different identities; copy both "
            "from one directory of the fleet"
        )
