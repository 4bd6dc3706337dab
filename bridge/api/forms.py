"""Forms of the texts that callers send, and what a person is told who misses one.

A regular expression says nothing to most people; each has a sentence beside it.
"""

import re
from base64 import b64decode
from typing import Annotated, Final

from fastapi import Path
from pydantic import AwareDatetime, BeforeValidator

HEX_ID: Final = r"^[0-9a-f]{32}$"
HexId = Annotated[str, Path(pattern=HEX_ID)]
"""An id in a path."""
CARD_UID: Final = r"^([0-9a-f]{8}|[0-9a-f]{14}|[0-9a-f]{20})$"
PIN: Final = r"^[0-9]{4,8}$"
FUEL_CARD_PIN: Final = r"^[0-9]{1,8}$"
LANGUAGE: Final = r"^[a-z]{2}$"
CURRENCY: Final = r"^[A-Z]{3}$"
PLAIN_TEXT: Final = r"^[^\u0000-\u001f\u007f-\u009f]*$"

_RFC_3339: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}"
"""How one begins; the rest is read after it."""

SENTENCES: Final = {
    HEX_ID: "must be 32 lower-case hexadecimal digits",
    CARD_UID: "must be 8, 14 or 20 lower-case hexadecimal digits",
    PIN: "must be 4 to 8 digits",
    FUEL_CARD_PIN: "must be 1 to 8 digits",
    LANGUAGE: "must be two lower-case letters, such as en",
    CURRENCY: "must be three capital letters of ISO 4217, such as EUR",
    PLAIN_TEXT: "must have no control characters",
}
"""What is said of a text that has not the form."""


def _require_text(value: object) -> object:
    """Refuse numbers: seconds to one reader are milliseconds to the next."""
    if not isinstance(value, str) or re.match(_RFC_3339, value) is None:
        raise ValueError("must be a time of RFC 3339, such as 2027-01-15T08:00:00Z")
    return value


Instant = Annotated[AwareDatetime, BeforeValidator(_require_text)]
"""A time in a body."""


def require_base64(value: object) -> object:
    """Refuse base64 with anything else in it, which pydantic's reader passes over.

    Raises:
        ValueError: it has, or is none.
    """
    try:
        b64decode(value if isinstance(value, str) else "?", validate=True)
    except ValueError:
        raise ValueError("must be base64 (RFC 4648, 4) and nothing else") from None
    return value


def require_utf8(text: str, limit: int, name: str) -> None:
    """Refuse a text that the wire has no room for.

    Args:
        text: what came.
        limit: bytes of UTF-8.
        name: the field's.

    Raises:
        ValueError: it has more, or half a surrogate pair, which UTF-8 cannot write.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{name} has at most {limit} bytes of UTF-8")
