"""The name of a key in a token: a PKCS#11 URI (RFC 7512).

::

    pkcs11:token=fleet;object=command-1?module-path=/usr/lib/p11.so&pin-source=/etc/pin

Every attribute that is given must be understood: one that was skipped could be the one
that tells two keys apart. A PIN inside the URI (``pin-value``) is refused, because URIs
stand in settings and logs.
"""

import re
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, unquote_to_bytes

from keystore.errors import UriError

SCHEME: Final = "pkcs11:"
"""How every such URI begins; a path never does, as nobody names a file so."""

URI_LIMIT: Final = 2_048
"""Characters of a URI."""

ID_LIMIT: Final = 64
"""Bytes of an object's id."""

_PATH: Final = frozenset({"token", "serial", "object", "id", "type"})
_QUERY: Final = frozenset({"module-path", "pin-source"})
_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Which key in which token, through which module."""

    module_path: str
    """The PKCS#11 library of the token's maker."""
    token: str
    """The token's label; empty if `serial` says which."""
    serial: str
    """The token's serial number; empty if `token` says which."""
    label: str
    """The key's label; empty if `object_id` says which."""
    object_id: bytes
    """The key's id (CKA_ID); empty if `label` says which."""
    pin_source: str
    """File that holds the PIN; empty for a token that asks for none."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI.

        Raises:
            UriError: not one, or it does not say which key of which token.
        """
        if not text.startswith(SCHEME) or len(text) > URI_LIMIT:
            raise UriError(
                f"{text[:40]!r} is no PKCS#11 URI of at most {URI_LIMIT} characters",
                "it begins with pkcs11: (RFC 7512)",
            )
        path, _, query = text.removeprefix(SCHEME).partition("?")
        given = _attributes(path, ";", _PATH) | _attributes(query, "&", _QUERY)
        if given.get("type", b"private") != b"private":
            raise UriError("the URI's type is not private", "name the private key")
        uri = cls(
            module_path=_text(given, "module-path"),
            token=_text(given, "token"),
            serial=_text(given, "serial"),
            label=_text(given, "object"),
            object_id=given.get("id", b""),
            pin_source=_text(given, "pin-source").removeprefix("file:"),
        )
        for name, value in (
            ("module-path", uri.module_path),
            ("token or serial", uri.token or uri.serial),
            ("object or id", uri.label or uri.object_id),
        ):
            if not value:
                raise UriError(
                    f"the PKCS#11 URI has no {name}",
                    "write pkcs11:token=LABEL;object=LABEL?module-path=FILE"
                    "&pin-source=FILE",
                )
        if len(uri.object_id) > ID_LIMIT:
            raise UriError(f"the URI's id has more than {ID_LIMIT} bytes")
        return uri

    def __str__(self) -> str:
        path = {"token": self.token, "serial": self.serial, "object": self.label}
        parts = [f"{name}={quote(value)}" for name, value in path.items() if value]
        if self.object_id:
            parts.append("id=" + "".join(f"%{byte:02X}" for byte in self.object_id))
        query = [f"module-path={quote(self.module_path)}"]
        if self.pin_source:
            query.append(f"pin-source={quote(self.pin_source)}")
        return f"{SCHEME}{';'.join(parts)}?{'&'.join(query)}"


def is_token_uri(text: str) -> bool:
    """Return whether a setting names a key in a token, and not a file."""
    return text.startswith(SCHEME)


def _attributes(text: str, mark: str, known: frozenset[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in text.split(mark) if text else []:
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise UriError(
                "the PKCS#11 URI holds the PIN itself",
                "write the PIN into a file of mode 0600 and name it by pin-source",
            )
        if not equals or name not in known or name in found or _PERCENT.search(value):
            raise UriError(
                f"attribute {name[:40]!r} of the PKCS#11 URI is unknown, given twice "
                "or not well formed",
                f"allowed are {', '.join(sorted(_PATH | _QUERY))}, each once",
            )
        found[name] = unquote_to_bytes(value)
    return found


def _text(given: dict[str, bytes], name: str) -> str:
    try:
        return given.get(name, b"").decode()
    except UnicodeDecodeError:
        raise UriError(f"attribute {name} of the PKCS#11 URI is not UTF-8") from None
