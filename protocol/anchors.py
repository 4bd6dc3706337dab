"""Anchors: what a verifier of evidence knows of a fleet, and believes without the file.

A fleet publishes them once; who settles a dispute years later took them from there, and
not from whoever shows the evidence (FF-EVI-01).
"""

from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from protocol.codes import Code
from protocol.errors import AuthenticationError, DecodeError
from protocol.identity import ID_SIZE
from protocol.json_file import parse_file, parse_hex
from protocol.key_material import RAW_SIZES
from protocol.keys import VerifyKey
from protocol.trust import ROOTS_LIMIT, TrustRoots

ANCHORS_FORMAT: Final = 1
"""Revision of the anchors file."""

ANCHORS_LIMIT: Final = 65_536
"""Bytes of an anchors file; a root certificate in PEM has about 700."""

CERTIFICATES_LIMIT: Final = 8
"""Root certificates: the present one and former ones."""


class AnchorsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file; everything in it is public."""

    format: int
    """`ANCHORS_FORMAT`."""
    fleet_id: str
    """32 hex digits."""
    root_certificates: Annotated[
        list[str], msgspec.Meta(min_length=1, max_length=CERTIFICATES_LIMIT)
    ]
    """PEM."""
    threshold: int
    """How many trust roots must sign a bundle."""
    trust_roots: Annotated[
        list[str], msgspec.Meta(min_length=1, max_length=ROOTS_LIMIT)
    ]
    """Raw public keys in hex."""


@dataclass(frozen=True, slots=True)
class EvidenceAnchors:
    """What a verifier knows from elsewhere."""

    fleet_id: bytes
    """16 bytes."""
    root_certificates: tuple[x509.Certificate, ...]
    """The fleet's root authorities, the former ones included."""
    trust_roots: TrustRoots
    """The offline keys that signed the first of the bundles that count."""


def build_anchors(anchors: EvidenceAnchors) -> bytes:
    """Return the file's bytes."""
    file = AnchorsFile(
        format=ANCHORS_FORMAT,
        fleet_id=anchors.fleet_id.hex(),
        root_certificates=[
            certificate.public_bytes(Encoding.PEM).decode()
            for certificate in anchors.root_certificates
        ],
        threshold=anchors.trust_roots.threshold,
        trust_roots=[key.raw.hex() for key in anchors.trust_roots.keys],
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def parse_anchors(data: bytes) -> EvidenceAnchors:
    """Read the file.

    Raises:
        DecodeError: not such a file, a root twice, a weak root, or a threshold that
            the roots cannot reach.
    """
    file = parse_file(
        data,
        AnchorsFile,
        name="anchors",
        limit=ANCHORS_LIMIT,
        revision=ANCHORS_FORMAT,
    )
    if len(set(file.trust_roots)) < len(file.trust_roots):
        raise DecodeError(Code.BAD_PARAM, "anchors: a trust root is listed twice")
    if not 1 <= file.threshold <= len(file.trust_roots):
        raise DecodeError(
            Code.BAD_PARAM,
            f"anchors: threshold {file.threshold} is not between 1 and "
            f"{len(file.trust_roots)} roots",
        )
    try:
        certificates = tuple(
            x509.load_pem_x509_certificate(pem.encode())
            for pem in file.root_certificates
        )
        keys = tuple(VerifyKey.load(_raw(text)) for text in file.trust_roots)
    except (ValueError, AuthenticationError) as error:
        raise DecodeError(Code.BAD_PARAM, f"anchors: {error}") from None
    return EvidenceAnchors(
        parse_hex(file.fleet_id, ID_SIZE, name="fleet_id"),
        certificates,
        TrustRoots(keys, file.threshold),
    )


def _raw(text: str) -> bytes:
    sizes = {2 * size: size for size in RAW_SIZES.values()}
    return parse_hex(text, sizes.get(len(text), 32), name="trust root")
