"""ECDSA on P-256 in plain numbers (FIPS 186-5, RFC 6979): a second implementation.

For the tests to compare with. It takes its time and leaks its keys through it.
"""

import hashlib
import hmac
from typing import Final

P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
BASE: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)

Point = tuple[int, int] | None
"""None is the point at infinity."""


def add(one: Point, other: Point) -> Point:
    if one is None or other is None:
        return one or other
    (x1, y1), (x2, y2) = one, other
    if x1 == x2 and (y1 + y2) % P == 0:
        return None
    if one == other:
        slope = 3 * (x1 * x1 - 1) * pow(2 * y1, -1, P)
    else:
        slope = (y2 - y1) * pow(x2 - x1, -1, P)
    x = (slope * slope - x1 - x2) % P
    return x, (slope * (x1 - x) - y1) % P


def times(number: int, point: Point) -> Point:
    total: Point = None
    while number:
        if number & 1:
            total = add(total, point)
        point, number = add(point, point), number >> 1
    return total


def decompress(raw: bytes) -> Point:
    x = int.from_bytes(raw[1:], "big")
    y = pow(x**3 - 3 * x + B, (P + 1) // 4, P)
    assert (y * y - x**3 + 3 * x - B) % P == 0
    return x, y if y & 1 == raw[0] & 1 else P - y


def compress(point: Point) -> bytes:
    assert point is not None
    return bytes([2 | point[1] & 1]) + point[0].to_bytes(32, "big")


def holds(raw: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether ECDSA holds, in the strict form of the protocol."""
    r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
    if len(signature) != 64 or not (0 < r < N and 0 < s <= N // 2):
        return False
    digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
    inverse = pow(s, -1, N)
    point = add(
        times(digest * inverse % N, BASE), times(r * inverse % N, decompress(raw))
    )
    return point is not None and point[0] % N == r


def sign(secret: int, message: bytes) -> tuple[int, int]:
    """Return r and s of RFC 6979, 3.2, s as it comes."""
    digest = hashlib.sha256(message).digest()
    number = int.from_bytes(digest, "big")
    material = secret.to_bytes(32, "big") + (number % N).to_bytes(32, "big")
    k, v = bytes(32), b"\1" * 32
    for separator in (b"\0", b"\1"):
        k = hmac.digest(k, v + separator + material, "sha256")
        v = hmac.digest(k, v, "sha256")
    while True:
        v = hmac.digest(k, v, "sha256")
        nonce = int.from_bytes(v, "big")
        if 0 < nonce < N:
            point = times(nonce, BASE)
            assert point is not None
            r = point[0] % N
            return r, pow(nonce, -1, N) * (number + r * secret) % N
        k = hmac.digest(k, v + b"\0", "sha256")
        v = hmac.digest(k, v, "sha256")
