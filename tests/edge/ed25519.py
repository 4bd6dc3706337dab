"""Ed25519 at its edges (RFC 8032; eprint 2020/823), made with plain arithmetic."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from protocol.codes import Suite
from tests.edge.case import Edge, Edges, Sign, Verdict
from tests.edge.plain_ed25519 import (
    BASE,
    IDENTITY,
    ORDER,
    TORSION,
    P,
    Point,
    add,
    encode,
    hash_of,
    negated,
    secret_of,
    times,
)
from tools.published_keys import CAR_A_KEY, CAR_B_KEY

SECRET: Final = secret_of(CAR_A_KEY.seed)
PUBLIC: Final = times(SECRET, BASE)
RAW: Final = encode(PUBLIC)
NONCE: Final = 0x0FED_CBA9_8765_4321
"""The same for all: these keys are published anyway."""
RIGHT: Final = encode(times(NONCE, BASE))

ACCEPT, KEY, SIGNATURE = Verdict.ACCEPT, Verdict.REFUSE_KEY, Verdict.REFUSE_SIGNATURE
_EDGES: Final = Edges(Suite.ED25519)

SMALL_ORDER: Final = tuple(
    bytes([*raw[:31], raw[31] & 0x7F | sign])
    for raw in (
        *(encode(times(number, TORSION)) for number in (0, 1, 2, 3, 4)),
        P.to_bytes(32, "little"),
        (P + 1).to_bytes(32, "little"),
    )
    for sign in (0x00, 0x80)
)
"""All encodings of the eight points whose order divides 8, canonical or not."""


def signed(
    message: bytes, *, r: bytes = RIGHT, public: bytes = RAW, nonce: int = NONCE
) -> tuple[bytes, int]:
    """Return R and the S that belongs to it."""
    return r, (nonce + hash_of(r, public, message) * SECRET) % ORDER


def _with(change: Callable[[bytes, int], bytes]) -> Sign:
    """Return a signer whose good R and S are changed."""
    return lambda message: change(*signed(message))


def _joined(r: bytes, s: int) -> bytes:
    return r + s.to_bytes(32, "little")


def edges() -> Iterator[Edge]:
    """Yield every case."""
    yield from _forms()
    yield from _odd_nonce_points()
    yield from _odd_keys()


def _forms() -> Iterator[Edge]:
    """Signatures of a good key that are written otherwise."""

    def edge(name: str, why: str, sign: Sign, verdict: Verdict = SIGNATURE) -> Edge:
        return _EDGES.edge(name, why, RAW, sign, verdict)

    yield edge("good", "holds; the others differ from it", _with(_joined), ACCEPT)
    for shift in (1, 2, 7, 15):
        yield edge(
            f"s plus {shift} orders",
            "S must be below the order: else every signature has more forms",
            _with(lambda r, s, shift=shift: _joined(r, s + shift * ORDER)),  # type: ignore[misc] # bound now
        )
    yield edge("s negated", "-S is not S", _with(lambda r, s: _joined(r, ORDER - s)))
    yield edge("s is the order", "0 in another form", lambda _: _joined(RIGHT, ORDER))
    yield edge("s is zero", "signs nothing", lambda _: _joined(RIGHT, 0))
    yield edge("s is one", "signs nothing", lambda _: _joined(RIGHT, 1))
    yield edge(
        "s big-endian",
        "S is little-endian",
        _with(lambda r, s: r + s.to_bytes(32, "big")),
    )
    yield edge("r and s exchanged", "R first", _with(lambda r, s: _joined(r, s)[::-1]))
    yield edge("all zeros", "an empty field is no signature", lambda _: bytes(64))
    yield edge("all ones", "neither is a full one", lambda _: b"\xff" * 64)
    yield edge(
        "sign of r flipped",
        "-R is another point",
        _with(lambda r, s: _joined(bytes([*r[:31], r[31] ^ 0x80]), s)),
    )
    for size in (0, 1, 32, 63):
        yield edge(
            f"truncated to {size}",
            "64 bytes, never fewer",
            _with(lambda r, s, size=size: _joined(r, s)[:size]),  # type: ignore[misc] # bound now
        )
    yield edge(
        "extended", "64 bytes, never more", _with(lambda r, s: _joined(r, s) + b"\0")
    )
    yield edge(
        "another message",
        "a signature is of one message",
        lambda message: _joined(*signed(message + b"\0")),
    )
    yield edge(
        "prehashed",
        "Ed25519ph is another scheme (RFC 8032, 5.1)",
        _prehashed,
    )
    other = CAR_B_KEY.key
    yield edge("another key", "a signature is of one key", other.sign)


def _prehashed(message: bytes) -> bytes:
    domain = b"SigEd25519 no Ed25519 collisions\x01\x00"
    digest = hashlib.sha512(message).digest()
    h = hash_of(domain, RIGHT, RAW, digest)
    return _joined(RIGHT, (NONCE + h * SECRET) % ORDER)


def _odd_nonce_points() -> Iterator[Edge]:
    """A good key, an R that is none of the group's."""

    def edge(
        name: str, why: str, r: bytes, verdict: Verdict = SIGNATURE, nonce: int = NONCE
    ) -> Edge:
        return _EDGES.edge(
            name, why, RAW, lambda m: _joined(*signed(m, r=r, nonce=nonce)), verdict
        )

    for number in range(1, 8):
        yield edge(
            f"r plus torsion {number}",
            "holds with the cofactor only: libraries would disagree about it",
            encode(add(times(NONCE, BASE), times(number, TORSION))),
        )
    for raw in SMALL_ORDER:
        is_identity = raw == encode(IDENTITY)
        yield edge(
            f"r small {raw.hex()}",
            "R is compared as it was written; the nonce 0 gives away the key, and holds"
            if is_identity
            else "R of small order, or written otherwise than it is computed",
            raw,
            ACCEPT if is_identity else SIGNATURE,
            nonce=0,
        )
    for offset in range(2, 19):
        yield edge(
            f"r not canonical {offset}",
            "R's y is not below the prime",
            (P + offset).to_bytes(32, "little"),
        )


def _odd_keys() -> Iterator[Edge]:
    """Keys that prove less than they seem to."""

    def edge(name: str, why: str, raw: bytes, verdict: Verdict = KEY) -> Edge:
        return _EDGES.edge(
            name, why, raw, lambda m: _joined(*signed(m, public=raw)), verdict
        )

    for raw in SMALL_ORDER:
        yield _EDGES.edge(
            f"key small {raw.hex()}",
            "one signature fits many messages",
            raw,
            lambda _: _joined(encode(IDENTITY), 0),
            KEY,
        )
    for number in range(1, 8):
        mixed = encode(add(PUBLIC, times(number, TORSION)))
        yield edge(
            f"key plus torsion {number}",
            "a key of mixed order: libraries disagree about what it signs",
            mixed,
        )
        twisted: Point = add(times(NONCE, BASE), times(number, TORSION))
        yield _EDGES.edge(
            f"key and r plus torsion {number}",
            "the torsion may cancel",
            mixed,
            lambda m, mixed=mixed, twisted=twisted: _joined(  # type: ignore[misc] # bound now
                *signed(m, r=encode(twisted), public=mixed)
            ),
            KEY,
        )
    for offset in range(2, 19):
        yield edge(
            f"key not canonical {offset}",
            "its y is not below the prime",
            (P + offset).to_bytes(32, "little"),
        )
    yield edge("key no point", "no x belongs to this y", (2).to_bytes(32, "little"))
    yield edge("key negated", "-A is another key", encode(negated(PUBLIC)), SIGNATURE)
    for size in (0, 31, 34, 64):
        yield edge(f"key of {size} bytes", "32 bytes", (RAW * 2)[:size])
