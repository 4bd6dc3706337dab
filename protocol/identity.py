"""Who a frame speaks of: vehicles, fleets, keys and sessions.

A vehicle id is 16 random bytes and not the VIN, so that topics and logs say nothing
about a registered car. Its text form is the vehicle's name everywhere else: the
certificate's CN, the MQTT user name and client id, and the topic segment.
"""

import base64
import hashlib
import re
from functools import lru_cache
from typing import Final, Self

import msgspec

from protocol.codes import Code
from protocol.errors import DecodeError

ID_SIZE: Final = 16
"""Bytes of a vehicle, fleet, rental, session or message id."""

KEY_ID_SIZE: Final = 8
"""Bytes of a key id: a truncated hash; the registry refuses collisions."""

VEHICLE_TEXT: Final = re.compile(r"[A-Z2-7]{25}[AEIMQUY4]")
"""The canonical text only: 130 bits of base32 hold 128 bits of id, so three of four last characters would decode to an id that another text has too (reliability.md L7)."""  # noqa: E501 - one sentence


NAMES_KEPT: Final = 65_536
"""Ids whose text form is kept: writing one takes longer than checking a frame's layout,
and a bridge meets the same cars again and again."""


@lru_cache(maxsize=NAMES_KEPT)
def _text_of(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").rstrip("=")


@lru_cache(maxsize=NAMES_KEPT)
def _raw_of(text: str) -> bytes:
    return base64.b32decode(text + "======")


class VehicleId(msgspec.Struct, frozen=True, order=True, gc=False, cache_hash=True):
    """An opaque vehicle id; `str()` gives its 26-character canonical text.

    A struct, because its hash is not computed in Python: a bridge asks for that of its
    car some twenty times for each frame.
    """

    raw: bytes
    """16 bytes."""

    def __post_init__(self) -> None:
        if len(self.raw) != ID_SIZE:
            raise DecodeError(
                Code.BAD_LEN, f"a vehicle id has {ID_SIZE} bytes, not {len(self.raw)}"
            )

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Parse the canonical text.

        Raises:
            DecodeError: the text is not the canonical base32 of 16 bytes.
        """
        if not VEHICLE_TEXT.fullmatch(text):
            raise DecodeError(
                Code.BAD_PARAM,
                f"vehicle id {text[:40]!r} is not 26 characters of canonical base32 "
                "(A-Z and 2-7)",
            )
        return cls(_raw_of(text))

    def __str__(self) -> str:
        return _text_of(self.raw)

    def __repr__(self) -> str:
        return f"VehicleId({self})"

    @property
    def short(self) -> str:
        """The first six characters, for narrow columns of a terminal."""
        return str(self)[:6]


@lru_cache(maxsize=NAMES_KEPT)
def key_id(public_key: bytes) -> bytes:
    """Return the 8-byte id of a public key, given its raw bytes.

    SHA-256("ff-key-v1" || pub), first 8 bytes (protocol-design.md 1).
    """
    return hashlib.sha256(b"ff-key-v1" + public_key).digest()[:KEY_ID_SIZE]


def card_digest(rental_id: bytes, uid: bytes) -> bytes:
    """Return the 16-byte name under which one rental knows one card.

    Bound to the rental, so that frames of two rentals do not show that one card was
    used in both. It is no secret: a card UID can be guessed through it.
    """
    material = b"ff-card-v1\0" + rental_id + bytes([len(uid)]) + uid
    return hashlib.sha256(material).digest()[:ID_SIZE]


def session_id(boot_counter: int, random_bits: bytes) -> bytes:
    """Compose a session id: boot counter u32, then 96 random bits."""
    return boot_counter.to_bytes(4, "big") + random_bits


def boot_counter(session: bytes) -> int:
    """Read the boot counter out of a session id."""
    return int.from_bytes(session[:4], "big")
