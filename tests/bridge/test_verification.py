"""vodozemac may answer first, but never differently: Ed25519's odd corners.

The signatures are made here with the curve's plain arithmetic, since no library makes
such ones. Cases as in eprint 2020/823, section 5, and in Wycheproof.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.verification import Claim, verify_frame
from bridge.verification import holds as holds_claim
from protocol import signing
from protocol.codes import Code, Suite
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame, parse_frame
from protocol.keys import Ed25519SigningKey, VerifyKey
from tests import depth
from tests.edge.plain_ed25519 import BASE, ORDER, TORSION, add, encode, times
from tests.protocol.test_keys import SMALL_ORDER
from tests.protocol.vector_file import FRAMES, VECTORS, frame_of
from tools.published_keys import CAR_A_KEY, CAR_B_KEY, FLEET_ID, OTHER_FLEET_ID

Verify = Callable[..., None]

SECRET: Final = 0x1234_5678_9ABC_DEF0
NONCE: Final = 0x0FED_CBA9_8765_4321
MESSAGE: Final = b"a rental report"


PUBLIC: Final = times(SECRET, BASE)


def _key(raw: bytes) -> VerifyKey:
    """Return a key as it is, weak or not."""
    return VerifyKey(raw, Ed25519PublicKey.from_public_bytes(raw))


def _signed(r: bytes, public: bytes, nonce: int = NONCE, shift: int = 0) -> bytes:
    """Sign with this R, whatever it is; `shift` many group orders above the true S."""
    digest = hashlib.sha512(r + public + MESSAGE).digest()
    s = (nonce + int.from_bytes(digest, "little") * SECRET) % ORDER + shift * ORDER
    return r + s.to_bytes(32, "little")


def _odd_signatures() -> Iterator[tuple[str, bytes, bytes]]:
    """Yield what is odd, the public key and the signature."""
    public = encode(PUBLIC)
    right = encode(times(NONCE, BASE))
    yield "nothing", public, _signed(right, public)
    for shift in (1, 2, 7, 15):
        yield f"S + {shift} orders", public, _signed(right, public, shift=shift)
    yield "all ones", public, b"\xff" * 64
    yield "zeros", public, bytes(64)
    for size in (0, 1, 32, 63):
        yield f"{size} bytes", public, _signed(right, public)[:size]
    yield "65 bytes", public, _signed(right, public) + b"\0"
    for k in range(1, 8):
        twisted = encode(add(times(NONCE, BASE), times(k, TORSION)))
        yield f"R + {k} T", public, _signed(twisted, public)
        mixed = encode(add(PUBLIC, times(k, TORSION)))
        yield f"A + {k} T", mixed, _signed(right, mixed)
        for j in range(1, 8):
            twisted = encode(add(times(NONCE, BASE), times(j, TORSION)))
            yield f"A + {k} T, R + {j} T", mixed, _signed(twisted, mixed)
    for raw in SMALL_ORDER:
        yield f"R {raw.hex()}", public, _signed(raw, public, nonce=0)
        yield f"A {raw.hex()}", raw, _signed(right, raw)
        for other in SMALL_ORDER:
            yield f"A {raw.hex()}, R {other.hex()}", raw, other + bytes(32)


ODD: Final = {
    what: (public, signature) for what, public, signature in _odd_signatures()
}


def holds(signature: bytes, message: bytes, key: VerifyKey) -> bool:
    return holds_claim(Claim(key.raw, signature, message))


def _opens(key: VerifyKey, signature: bytes) -> bool:
    try:
        key.verify(signature, MESSAGE)
    except AuthenticationError:
        return False
    return True


def test_what_vodozemac_holds_openssl_holds() -> None:
    # Every other case is judged by OpenSSL in both verifiers.
    wrong = [
        what
        for what, (public, signature) in ODD.items()
        if holds(signature, MESSAGE, _key(public))
        and not _opens(_key(public), signature)
    ]

    assert wrong == []


def test_the_odd_signatures_are_what_they_are_called() -> None:
    accepted = {what for what, (raw, s) in ODD.items() if _opens(_key(raw), s)}
    held = {what for what, (raw, s) in ODD.items() if holds(s, MESSAGE, _key(raw))}

    assert "nothing" in held & accepted
    # A point of mixed order that cancels: both libraries take it, one in eight.
    assert any(", R +" in what for what in held & accepted)
    # With a key of small order one signature fits many messages.
    assert any(what.startswith("A 0") for what in accepted)
    # Where the two differ, and why vodozemac may only say yes.
    assert {what[0] for what in accepted - held} == {"A", "R"}


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=bytes.hex)
def test_no_key_of_small_order_reaches_either(raw: bytes) -> None:
    with pytest.raises(AuthenticationError):
        VerifyKey.load(raw)
    assert not any(
        holds(signature, MESSAGE, _key(public))
        for public, signature in ODD.values()
        if public == raw
    )


@settings(max_examples=depth.times(100, deep=2_000), deadline=None)
@given(signature=st.binary(max_size=70), message=st.binary(max_size=100))
def test_arbitrary_bytes_do_not_hold(signature: bytes, message: bytes) -> None:
    assert not holds(signature, message, CAR_A_KEY.key.verify_key)


def _judgement(verify: Verify, frame: Frame, fleet_id: bytes, key: VerifyKey) -> object:
    try:
        verify(frame, fleet_id=fleet_id, key=key)
    except AuthenticationError as error:
        return error.code
    return "holds"


@pytest.mark.parametrize("name", FRAMES)
def test_every_vector_is_judged_as_the_protocol_judges_it(name: str) -> None:
    # K11
    vector = VECTORS[name]
    try:
        frame = parse_frame(frame_of(name))
    except DecodeError:
        return
    keys = (
        VerifyKey.load(bytes.fromhex(vector["key"]["public"])),
        CAR_A_KEY.key.verify_key,
        CAR_B_KEY.key.verify_key,
    )

    for fleet_id in (FLEET_ID, OTHER_FLEET_ID):
        for key in keys:
            assert _judgement(verify_frame, frame, fleet_id, key) == _judgement(
                signing.verify_frame, frame, fleet_id, key
            )


def test_every_flipped_bit_of_a_signature_is_refused() -> None:
    # K11
    frame = parse_frame(frame_of("event_rental_ended"))
    key = CAR_A_KEY.key.verify_key
    assert _judgement(verify_frame, frame, FLEET_ID, key) == "holds"

    for bit in range(512):
        flipped = int.from_bytes(frame.signature, "big") ^ 1 << bit
        other = replace(frame, signature=flipped.to_bytes(64, "big"))
        assert _judgement(verify_frame, other, FLEET_ID, key) is Code.BAD_SIGNATURE


def test_another_suite_and_another_key_are_refused_before_any_arithmetic() -> None:
    frame = parse_frame(frame_of("event_rental_ended"))
    key = CAR_A_KEY.key.verify_key
    p256 = replace(frame, header=replace(frame.header, suite=Suite.P256))
    stranger = Ed25519SigningKey.from_seed(bytes(32)).verify_key

    assert _judgement(verify_frame, p256, FLEET_ID, key) is Code.SUITE_FORBIDDEN
    assert _judgement(verify_frame, frame, FLEET_ID, stranger) is Code.UNKNOWN_KEY
