"""Ed25519 in plain numbers (RFC 8032, 5.1): what no library makes or shows.

For the tests to compare with. It takes its time and leaks its keys through it.
"""

import hashlib
from typing import Final

P: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
D: Final = -121665 * pow(121666, -1, P) % P

Point = tuple[int, int]

IDENTITY: Final[Point] = (0, 1)


def add(one: Point, other: Point) -> Point:
    (x1, y1), (x2, y2) = one, other
    product = D * x1 * x2 * y1 * y2 % P
    return (
        (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P,
        (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P,
    )


def times(number: int, point: Point) -> Point:
    total = IDENTITY
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def negated(point: Point) -> Point:
    return (P - point[0]) % P, point[1]


def decode(raw: bytes) -> Point | None:
    """Return the point, whether its encoding is canonical or not; None for none."""
    number = int.from_bytes(raw, "little")
    sign, y = number >> 255, (number & (1 << 255) - 1) % P
    x_squared = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(x_squared, (P + 3) // 8, P)
    if x * x % P != x_squared:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x * x % P != x_squared:
        return None
    return (P - x if x & 1 != sign else x) % P, y


def point_of(raw: bytes) -> Point:
    point = decode(raw)
    assert point is not None
    return point


def encode(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


BASE: Final = point_of((4 * pow(5, -1, P) % P).to_bytes(32, "little"))
TORSION: Final = point_of(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"))  # fmt: skip # noqa: E501 - one number
"""A point of order 8; its multiples are all eight points of small order."""


def hash_of(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little")


def secret_of(seed: bytes) -> int:
    """Return the private number of a seed (RFC 8032, 5.1.5)."""
    number = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return number & ((1 << 254) - 8) | 1 << 254


def holds(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature holds: no cofactor, R compared as it was written."""
    key = decode(public)
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER or key is None:
        return False
    h = hash_of(signature[:32], public, message)
    return encode(add(times(s, BASE), times(h, negated(key)))) == signature[:32]


def holds_times_8(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether it holds with the cofactor, as RFC 8032 allows and we do not."""
    key, r = decode(public), decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER or key is None or r is None:
        return False
    h = hash_of(signature[:32], public, message)
    return times(8 * s, BASE) == add(times(8, r), times(8 * h, key))
