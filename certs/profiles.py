"""X.509 templates: for each kind of certificate what it may be used for and how long.

The table `PROFILES` is data to be read; `certs.authority` applies it and knows no
exceptions. Three rules stand behind it:

Rule 1: a name is one of a closed pattern (reliability.md L7). A broker turns a CN into
an MQTT user name and pastes it into topic rules, so ``CAR1/cmd`` would be an attack.
Rule 2: one purpose per certificate. A broker's certificate is of no use as a client's
and a signing certificate of no use in TLS, because both name other purposes.
Rule 3: what opens connections lives briefly; what proves reports lives as long as
reports must be proved.
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, unique
from typing import Final

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from protocol.fleet import NAME_LIMIT
from protocol.identity import VEHICLE_TEXT

BACKDATING: Final = timedelta(hours=1)
"""How far before `now` a certificate begins: a peer's clock may lag behind ours."""

ROOT_LIFETIME: Final = timedelta(days=20 * 365)
"""As long as a car lives: the root is built into it and cannot be changed over MQTT."""

ISSUING_LIFETIME: Final = timedelta(days=5 * 365)
"""Its key is online; five years bound a theft that nobody noticed, and renewing it
needs the offline root, so not every year."""

SERVER_LIFETIME: Final = timedelta(days=397)
"""Broker, bridge, engineers and enrolment service: a year and the month in which one
renews. Longer server certificates are refused by some TLS stacks (CA/Browser Forum
ballot SC31: 398 days)."""

VEHICLE_TLS_LIFETIME: Final = timedelta(days=14)
"""A stolen car's identity ends by itself (reliability.md, row of step-ca: 7 to 14
days). The longest of these, so that an office that is closed from Friday to Wednesday
strands no car: a third of it, the time from renewal to end, is four days and 16 h."""

EVIDENCE_LIFETIME: Final = timedelta(days=20 * 365)
"""Signing and sealing: a rental report must verify years after the rental (K13), also
when the TLS certificate and even the issuing CA have expired."""


@unique
class KeyKind(StrEnum):
    """Which key a certificate binds."""

    P256 = "P-256"
    """TLS, where every stack and every secure element has it, and suite 2 of frames."""
    ED25519 = "Ed25519"
    """Frames: suite 1."""
    X25519 = "X25519"
    """Sealed secrets: HPKE (RFC 9180)."""


@unique
class KeyUse(StrEnum):
    """Bits of key usage (RFC 5280, 4.2.1.3), as cryptography names them."""

    DIGITAL_SIGNATURE = "digital_signature"
    CONTENT_COMMITMENT = "content_commitment"
    KEY_ENCIPHERMENT = "key_encipherment"
    DATA_ENCIPHERMENT = "data_encipherment"
    KEY_AGREEMENT = "key_agreement"
    KEY_CERT_SIGN = "key_cert_sign"
    CRL_SIGN = "crl_sign"
    ENCIPHER_ONLY = "encipher_only"
    DECIPHER_ONLY = "decipher_only"


@unique
class Kind(StrEnum):
    """The certificates of a fleet."""

    ROOT = "root"
    ISSUING = "issuing CA"
    BROKER = "broker server"
    BRIDGE = "bridge client"
    ENGINEER = "engineer client"
    ENROLMENT = "enrolment server"
    VEHICLE_TLS = "vehicle TLS client"
    VEHICLE_SIGNING = "vehicle signing"
    VEHICLE_SEALING = "vehicle sealing"


FLEET_NAME: Final = re.compile(
    rf"[A-Za-z0-9](?:[A-Za-z0-9 ._-]{{0,{NAME_LIMIT - 2}}}[A-Za-z0-9])?"
)
"""A fleet's name: printable ASCII without DN or shell punctuation."""

_CA_NAME: Final = re.compile(rf"{FLEET_NAME.pattern} (?:root|issuing) CA [0-9a-f]{{8}}")

DOCUMENT_SIGNING: Final = ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""id-kp-documentSigning (RFC 9336): a registered purpose that is not TLS."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What one kind of certificate is."""

    kind: Kind
    """Whose template this is."""
    name: re.Pattern[str]
    """Its CN, matched whole; the subject has no other attribute."""
    keys: tuple[KeyKind, ...]
    """The kinds of key that it may bind."""
    lifetime: timedelta
    """The longest; a caller may ask for less."""
    uses: frozenset[KeyUse]
    """Key usage, critical."""
    purposes: tuple[ObjectIdentifier, ...] = ()
    """Extended key usage; empty leaves the extension out."""
    path_length: int | None = None
    """CAs that may follow below a CA; None for a leaf."""
    has_hosts: bool = False
    """Whether it carries host names (SAN) and needs at least one. Vehicles carry none:
    NATS would match a SAN before the CN (embedded-broker.md)."""
    outlives_issuer: bool = False
    """Whether it may end after its issuer (rule 3); others are cut to the issuer's end.
    The record is checked against the issuing key itself (`protocol.enrolment`)."""

    @property
    def is_ca(self) -> bool:
        """Whether it may sign certificates."""
        return self.path_length is not None


_CA_USES: Final = frozenset({KeyUse.KEY_CERT_SIGN, KeyUse.CRL_SIGN})
_TLS_USES: Final = frozenset({KeyUse.DIGITAL_SIGNATURE})

PROFILES: Final = {
    profile.kind: profile
    for profile in (
        Profile(
            Kind.ROOT,
            name=_CA_NAME,
            keys=(KeyKind.P256,),
            lifetime=ROOT_LIFETIME,
            uses=_CA_USES,
            path_length=1,
        ),
        Profile(
            Kind.ISSUING,
            name=_CA_NAME,
            keys=(KeyKind.P256,),
            lifetime=ISSUING_LIFETIME,
            uses=_CA_USES,
            path_length=0,
        ),
        Profile(
            Kind.BROKER,
            name=re.compile(r"ff-broker"),
            keys=(KeyKind.P256,),
            lifetime=SERVER_LIFETIME,
            uses=_TLS_USES,
            purposes=(ExtendedKeyUsageOID.SERVER_AUTH,),
            has_hosts=True,
        ),
        Profile(
            Kind.BRIDGE,
            name=re.compile(r"ff-bridge-[0-9]{1,4}"),
            keys=(KeyKind.P256,),
            lifetime=SERVER_LIFETIME,
            uses=_TLS_USES,
            purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,),
        ),
        Profile(
            Kind.ENGINEER,
            name=re.compile(r"ff-engineer-[0-9]{1,4}"),
            keys=(KeyKind.P256,),
            lifetime=SERVER_LIFETIME,
            uses=_TLS_USES,
            purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,),
        ),
        Profile(
            Kind.ENROLMENT,
            name=re.compile(r"ff-enrolment"),
            keys=(KeyKind.P256,),
            lifetime=SERVER_LIFETIME,
            uses=_TLS_USES,
            purposes=(ExtendedKeyUsageOID.SERVER_AUTH,),
            has_hosts=True,
        ),
        Profile(
            Kind.VEHICLE_TLS,
            name=VEHICLE_TEXT,
            keys=(KeyKind.P256,),
            lifetime=VEHICLE_TLS_LIFETIME,
            uses=_TLS_USES,
            purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,),
        ),
        Profile(
            Kind.VEHICLE_SIGNING,
            name=VEHICLE_TEXT,
            keys=(KeyKind.ED25519, KeyKind.P256),
            lifetime=EVIDENCE_LIFETIME,
            uses=frozenset({KeyUse.DIGITAL_SIGNATURE, KeyUse.CONTENT_COMMITMENT}),
            purposes=(DOCUMENT_SIGNING,),
            outlives_issuer=True,
        ),
        Profile(
            Kind.VEHICLE_SEALING,
            name=VEHICLE_TEXT,
            keys=(KeyKind.X25519,),
            lifetime=EVIDENCE_LIFETIME,
            uses=frozenset(
                {KeyUse.KEY_AGREEMENT}
            ),  # RFC 8410, 5: X25519 allows it only
            outlives_issuer=True,
        ),
    )
}
"""Every certificate that a fleet's authority will ever sign."""
