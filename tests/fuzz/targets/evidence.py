"""Evidence files: proved, or refused by a typed error (K13, FF-EVI-02).

Input: one byte, then the file as it is (0); or a part's number and the bytes that stand
in its place, whose digest is mended here (1); or such a part that is a frame or a
bundle's body, signed here by whom it should be (2). The last finds what a fleet or a
car can do to a verifier with its own keys.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from protocol.errors import AuthenticationError, DecodeError, ProtocolError
from protocol.evidence import Exhibit, build_evidence, verify_evidence
from protocol.frame import parse_frame
from protocol.keys import SIGNATURE_SIZE
from protocol.signing import to_be_signed
from protocol.trust import (
    BUNDLE_LIMIT,
    SIGNED_BUNDLE,
    TRUST_CONTEXT,
    RootSignature,
    SignedBundle,
)
from tests.fuzz.exhibit import ANCHORS, receipt_of, whole
from tests.fuzz.target import Target
from tests.fuzz.targets.frames import with_length
from tests.protocol.vector_file import frame_of
from tools.published_keys import (
    CAR_A_KEY,
    COMMAND_KEY,
    FLEET_ID,
    RECEIPT_KEY,
    ROOT_KEYS,
)

_FILE, _PART, _SIGNED = 0, 1, 2
_WHOLE: Final = whole()
_PARTS: Final = (
    "issuing_certificate",
    "signing_certificate",
    "bundles",
    "rotations",
    "entries",
    "receipt",
    "commands",
    "places",
)
_KEYS: Final = {
    "rotations": CAR_A_KEY,
    "entries": CAR_A_KEY,
    "receipt": RECEIPT_KEY,
    "commands": COMMAND_KEY,
}


def _check(data: bytes) -> None:
    kind, rest = (data[0] if data else 0), data[1:]
    if kind not in {_PART, _SIGNED}:
        _judge(rest)
    elif rest:
        _judge(build_evidence(_bent(kind, _PARTS[rest[0] % len(_PARTS)], rest[1:])))


def _judge(file: bytes) -> None:
    try:
        proof = verify_evidence(file, ANCHORS)
    except (DecodeError, AuthenticationError):
        return
    assert proof.vehicle_id == _WHOLE.vehicle_id
    seqs = [entry.frame.header.seq for entry in proof.entries]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert proof.receipt.upto == seqs[-1]


def _bent(kind: int, name: str, part: bytes) -> Exhibit:
    if kind == _SIGNED:
        part = _signed(name, part)
    value = getattr(_WHOLE, name)
    if isinstance(value, bytes):
        return replace(_WHOLE, **{name: part})  # type: ignore[arg-type] # its field
    bent: Exhibit = replace(_WHOLE, **{name: (*value[:-1], part)})  # type: ignore[arg-type] # its field
    if name == "entries" and kind == _SIGNED:
        try:
            return replace(bent, receipt=receipt_of(bent.entries))
        except ProtocolError:
            return bent  # no receipt can be made of such an entry
    return bent


def _signed(name: str, part: bytes) -> bytes:
    if name == "bundles":
        body = part[:BUNDLE_LIMIT]
        signatures = tuple(
            RootSignature(root.key.key_id, root.key.sign(TRUST_CONTEXT + body))
            for root in ROOT_KEYS[:2]
        )
        return SIGNED_BUNDLE.build(SignedBundle(body, signatures))
    if name not in _KEYS:
        return part
    key = _KEYS[name].key
    frame = with_length(part + bytes(SIGNATURE_SIZE))
    try:
        frame_class = parse_frame(frame).header.frame_class
    except DecodeError:
        return frame
    unsigned = frame[:-SIGNATURE_SIZE]
    return unsigned + key.sign(to_be_signed(frame_class, FLEET_ID, unsigned))


def _seeds() -> Iterator[bytes]:
    yield bytes([_FILE]) + build_evidence(_WHOLE)
    for number, name in enumerate(_PARTS):
        value = getattr(_WHOLE, name)
        parts = [value] if isinstance(value, bytes) else list(value[-1:])
        if name == "rotations":
            parts.append(frame_of("event_key_rotated"))
        if name == "commands":
            parts.append(frame_of("cmd_unlock"))
        if name == "places":
            parts.append(parse_frame(frame_of("place_parked")).payload)
        for part in parts:
            yield bytes([_PART, number]) + part
            if name in _KEYS:
                yield bytes([_SIGNED, number]) + part[:-SIGNATURE_SIZE]
            if name == "bundles":
                yield bytes([_SIGNED, number]) + SIGNED_BUNDLE.parse(part).body


TARGET: Final = Target(_check, _seeds, longest=16_384, measured=("protocol",))
