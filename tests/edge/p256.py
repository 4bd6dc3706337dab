"""ECDSA on P-256 at its edges (FIPS 186-5, SEC 1), made with plain arithmetic.

Where a case needs an r or s that no private key gives, the key is computed from the
signature (SEC 1, 4.1.6); such a message is of no frame, since a frame names its key.
"""

import hashlib
from collections.abc import Iterator
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from protocol.codes import Suite
from tests.edge.case import Edge, Edges, Sign, Verdict
from tests.protocol.plain_p256 import (
    BASE,
    B,
    N,
    P,
    Point,
    add,
    compress,
    sign,
    times,
)
from tools.published_keys import CAR_C_KEY, SERVICE_KEY

SECRET: Final = int.from_bytes(CAR_C_KEY.seed, "big")
RAW: Final = compress(times(SECRET, BASE))
MESSAGE: Final = b"ff-edge-v1: a message of no frame"
HALF: Final = N // 2

ACCEPT, KEY, SIGNATURE = Verdict.ACCEPT, Verdict.REFUSE_KEY, Verdict.REFUSE_SIGNATURE
_EDGES: Final = Edges(Suite.P256)


def _low(message: bytes) -> tuple[int, int]:
    r, s = sign(SECRET, message)
    return r, min(s, N - s)


def _joined(r: int, s: int, size: int = 32) -> bytes:
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")


def edges() -> Iterator[Edge]:
    """Yield every case."""
    yield from _numbers()
    yield from _forms()
    yield from _computed_keys()
    yield from _odd_keys()


def _edge(name: str, why: str, signer: Sign, verdict: Verdict = SIGNATURE) -> Edge:
    return _EDGES.edge(name, why, RAW, signer, verdict)


def _numbers() -> Iterator[Edge]:
    """Numbers outside of their range, beside the good ones."""
    yield _edge(
        "good", "holds; the others differ from it", lambda m: _joined(*_low(m)), ACCEPT
    )
    yield _edge(
        "s high",
        "(r, n - s) holds too in plain ECDSA: a second form of every signature",
        lambda m: _joined(_low(m)[0], N - _low(m)[1]),
    )
    for name, number in (
        ("zero", 0),
        ("one", 1),
        ("the order", N),
        ("the order plus one", N + 1),
        ("the order minus one", N - 1),
        ("the prime", P),
        ("all ones", 2**256 - 1),
    ):
        why = f"{name} in the place of a number: 1 to n - 1, and s to n / 2"
        yield _edge(f"r is {name}", why, lambda m, n=number: _joined(n, _low(m)[1]))  # type: ignore[misc] # bound now
        yield _edge(f"s is {name}", why, lambda m, n=number: _joined(_low(m)[0], n))  # type: ignore[misc] # bound now
        yield _edge(f"both are {name}", why, lambda _, n=number: _joined(n, n))  # type: ignore[misc] # bound now
    yield _edge(
        "r negated", "n - r is another r", lambda m: _joined(N - _low(m)[0], _low(m)[1])
    )


def _forms() -> Iterator[Edge]:
    """The same numbers, written otherwise."""
    yield _edge("exchanged", "r first", lambda m: _joined(*_low(m)[::-1]))
    yield _edge(
        "little-endian",
        "big-endian",
        lambda m: b"".join(part.to_bytes(32, "little") for part in _low(m)),
    )
    yield _edge("der", "raw, no DER", lambda m: encode_dss_signature(*_low(m)))
    yield _edge(
        "der cut to 64",
        "raw, no DER",
        lambda m: encode_dss_signature(*_low(m))[:64],
    )
    yield _edge("leading zeros", "32 bytes each", lambda m: _joined(*_low(m), size=33))
    for size in (0, 32, 63):
        yield _edge(
            f"truncated to {size}",
            "64 bytes, never fewer",
            lambda m, size=size: _joined(*_low(m))[:size],  # type: ignore[misc] # bound now
        )
    yield _edge("extended", "64 bytes, never more", lambda m: _joined(*_low(m)) + b"\0")
    yield _edge(
        "another message", "of one message", lambda m: _joined(*_low(m + b"\0"))
    )
    yield _edge(
        "message hashed twice",
        "the scheme hashes once",
        lambda m: _joined(*_low(hashlib.sha256(m).digest())),
    )
    yield _edge("another key", "of one key", SERVICE_KEY.key.sign)


def _digest(message: bytes) -> int:
    return int.from_bytes(hashlib.sha256(message).digest(), "big")


def _lifted(x: int) -> Point:
    """Return a point with this x, None if there is none."""
    square = (x**3 - 3 * x + B) % P
    y = pow(square, (P + 1) // 4, P)
    return (x, y) if y * y % P == square else None


def _first_point(begin: int) -> tuple[int, int]:
    """Return the first point whose x is at least `begin`."""
    while (point := _lifted(begin)) is None:
        begin += 1
    return point


def _key_of(point: Point, r: int, s: int) -> bytes:
    """Return the key under which (r, s) signs `MESSAGE` with this nonce point."""
    inverse = pow(r, -1, N)
    return compress(
        add(
            times(s * inverse % N, point),
            times(-_digest(MESSAGE) * inverse % N, BASE),
        )
    )


def _computed_keys() -> Iterator[Edge]:
    """Signatures that hold by numbers that chance never gives."""
    small = _first_point(5)
    x = small[0]
    for name, s, verdict in (
        ("s is half the order", HALF, ACCEPT),
        ("s is above half the order", HALF + 1, SIGNATURE),
        ("s is one and holds", 1, ACCEPT),
    ):
        why = "the lower s, up to n / 2 and that included"
        yield Edge(name, why, _key_of(small, x, s), MESSAGE, _joined(x, s), verdict)
    key = _key_of(small, x, HALF)
    why = "r must be below n: r + n stands for the same number"
    yield Edge("r plus the order", why, key, MESSAGE, _joined(x + N, HALF), SIGNATURE)
    large = _first_point(N + 1)
    r = large[0] - N
    why = "the point's x is above n, and r is its rest"
    yield Edge(
        "x above the order", why, _key_of(large, r, 3), MESSAGE, _joined(r, 3), ACCEPT
    )
    yield Edge(
        "x above the order as r",
        "and not x itself",
        _key_of(large, r, 3),
        MESSAGE,
        _joined(large[0], 3),
        SIGNATURE,
    )
    digest = _digest(MESSAGE)
    yield Edge(
        "sum at infinity",
        "both parts cancel: the point at infinity has no x",
        compress(times(-digest * pow(x, -1, N) % N, BASE)),
        MESSAGE,
        _joined(x, 7),
        SIGNATURE,
    )
    nonce = 11
    point = times(nonce, BASE)
    assert point is not None
    r = point[0] % N
    s = 2 * digest * pow(nonce, -1, N) % N
    yield Edge(
        "both parts equal",
        "a doubling in the place of a sum",
        compress(times(digest * pow(r, -1, N) % N, BASE)),
        MESSAGE,
        _joined(r, min(s, N - s)),
        ACCEPT,
    )


def _odd_keys() -> Iterator[Edge]:
    """Keys that are none, or another."""

    def edge(name: str, why: str, raw: bytes, verdict: Verdict = KEY) -> Edge:
        return _EDGES.edge(name, why, raw, lambda m: _joined(*_low(m)), verdict)

    for prefix in (0x00, 0x01, 0x04, 0x05, 0x06, 0x07, 0x82):
        yield edge(
            f"key with prefix {prefix:02x}",
            "a compressed point begins with 02 or 03",
            bytes([prefix]) + RAW[1:],
        )
    point = times(SECRET, BASE)
    assert point is not None
    for prefix, name in ((4, "uncompressed"), (6, "hybrid")):
        yield edge(
            f"key {name}",
            "33 bytes",
            bytes([prefix]) + _joined(*point),
        )
    yield edge("key at infinity", "the point at infinity is no key", bytes(1))
    yield edge("key at infinity, padded", "nor are 33 zeros", bytes(33))
    small = _first_point(5)
    yield edge(
        "key with x above the prime",
        "a second form of a small x",
        bytes([2 | small[1] & 1]) + (small[0] + P).to_bytes(32, "big"),
    )
    yield edge(
        "key no point",
        "no y belongs to this x",
        b"\x02"
        + next(n for n in range(1, 99) if _lifted(n) is None).to_bytes(32, "big"),
    )
    yield edge("key with x all ones", "not below the prime", b"\x03" + b"\xff" * 32)
    yield edge(
        "key negated", "-Q is another key", bytes([RAW[0] ^ 1]) + RAW[1:], SIGNATURE
    )
    for size in (0, 31, 34):
        yield edge(f"key of {size} bytes", "33 bytes", (RAW * 2)[:size])
