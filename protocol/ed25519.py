"""Ed25519 public keys: refusing those that prove less than they seem to.

The attacker considered: someone who enrols an odd public key. With a small-order key
one signature fits many messages (protocol-design.md 7: 64 of 64 verified with the
identity point), so a "signed" rental report would prove nothing. With a key of mixed
order, a good one plus a small-order point, libraries disagree about the same signature
(eprint 2020/823, section 3), so a report could hold today and not in front of a court.
OpenSSL loads all such encodings, therefore they are refused where a public key enters.
"""

from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.codes import Code
from protocol.errors import AuthenticationError

FIELD_PRIME: Final = 2**255 - 19
"""The field of the curve (RFC 8032, 5.1)."""

GROUP_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
"""The order of the base point, a prime (RFC 8032, 5.1)."""

KEYS_KEPT: Final = 4_096
"""Loaded keys that are remembered: those of a trust bundle, or of a busy fleet."""

_SIGN_BIT: Final = 1 << 255

_ORDER_8_Y: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
"""y of two points of order 8; the other two have p - y."""

SMALL_ORDER_Y: Final = frozenset(
    {0, 1, FIELD_PRIME - 1, _ORDER_8_Y, FIELD_PRIME - _ORDER_8_Y}
)
"""y of the eight points whose order divides 8 (eprint 2020/823, table 6)."""

_CURVE_D: Final = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME
"""d of the curve -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032, 5.1)."""

_ROOT_OF_MINUS_1: Final = pow(2, (FIELD_PRIME - 1) // 4, FIELD_PRIME)

_Point = tuple[int, int, int, int]
"""X, Y, Z and T with x = X / Z, y = Y / Z, x y = T / Z (RFC 8032, 5.1.4)."""

_IDENTITY: Final[_Point] = (0, 1, 1, 0)


@lru_cache(maxsize=KEYS_KEPT)
def load_ed25519(raw: bytes) -> Ed25519PublicKey:
    """Load 32 bytes; the same bytes a second time cost nothing.

    Raises:
        AuthenticationError: as `require_strong_public_key` raises it.
    """
    require_strong_public_key(raw)
    return Ed25519PublicKey.from_public_bytes(raw)


def require_strong_public_key(raw: bytes) -> None:
    """Refuse 32 bytes that are not the canonical encoding of a point of prime order.

    Raises:
        AuthenticationError: the key must not be enrolled, loaded or used.
    """
    y = int.from_bytes(raw, "little") & ~_SIGN_BIT
    if y >= FIELD_PRIME:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key is not canonical: its y is not below the prime"
        )
    if y in SMALL_ORDER_Y:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key has small order; make a new key pair"
        )
    x = _x_of(y)
    if x is None:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key is no point of the curve; make a new key pair"
        )
    # Both points of this y have the same order, so the sign of x does not matter.
    if not _has_prime_order((x, y, 1, x * y % FIELD_PRIME)):
        raise AuthenticationError(
            Code.BAD_PARAM,
            "public key has mixed order, not that of the group; make a new key pair",
        )


def _x_of(y: int) -> int | None:
    """Return one of the two x of a point, None if there is none (RFC 8032, 5.1.3)."""
    u, v = (y * y - 1) % FIELD_PRIME, (_CURVE_D * y * y + 1) % FIELD_PRIME
    x = u * pow(v, 3, FIELD_PRIME)
    x = x * pow(u * pow(v, 7, FIELD_PRIME), (FIELD_PRIME - 5) // 8, FIELD_PRIME)
    square = v * x * x % FIELD_PRIME
    if square == u:
        return x % FIELD_PRIME
    if square == FIELD_PRIME - u:
        return x * _ROOT_OF_MINUS_1 % FIELD_PRIME
    return None


def _has_prime_order(point: _Point) -> bool:
    """Return whether the group order times a point is the identity.

    Four bits at a time: the order has 124 zeros in a row, which cost doublings only.
    """
    multiples = [_IDENTITY, point]
    for _ in range(14):
        multiples.append(_sum(multiples[-1], point))
    total = _IDENTITY
    for digit in f"{GROUP_ORDER:x}":
        for _ in range(4):
            total = _doubled(total)
        if digit != "0":
            total = _sum(total, multiples[int(digit, 16)])
    x, y, z, _ = total
    return x == 0 and y == z


def _sum(one: _Point, other: _Point) -> _Point:
    """Add two points; complete on this curve (RFC 8032, 5.1.4)."""
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a = (y1 - x1) * (y2 - x2) % FIELD_PRIME
    b = (y1 + x1) * (y2 + x2) % FIELD_PRIME
    c = 2 * _CURVE_D * t1 * t2 % FIELD_PRIME
    d = 2 * z1 * z2 % FIELD_PRIME
    return _joined(b - a, d - c, d + c, b + a)


def _doubled(point: _Point) -> _Point:
    x, y, z, _ = point
    a, b = x * x % FIELD_PRIME, y * y % FIELD_PRIME
    h = a + b
    g = a - b
    return _joined(h - (x + y) ** 2, 2 * z * z % FIELD_PRIME + g, g, h)


def _joined(e: int, f: int, g: int, h: int) -> _Point:
    return (
        e * f % FIELD_PRIME,
        g * h % FIELD_PRIME,
        f * g % FIELD_PRIME,
        e * h % FIELD_PRIME,
    )
