"""Keys of the API's callers, and what each may do (K28).

A line of the key file is ``name:role:key``, or a key alone, which is an operator's.
"""

import hashlib
import hmac
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from pathlib import Path
from typing import Final

from bridge.errors import SettingsError
from bridge.names import NAME

KEY_LENGTHS: Final = range(24, 257)
"""Characters of a key: 24 of base64url hold 144 bits."""

KEYS_LIMIT: Final = 64
FILE_LIMIT: Final = 32_768

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


@unique
class Role(StrEnum):
    """What a caller may do."""

    AGENCY = "agency"
    """Read what a city is given (MDS), and nothing else."""
    VIEWER = "viewer"
    """Look at everything but the audit trail."""
    APPROVER = "approver"
    """Look, and decide about orders that need a second person; order nothing."""
    SERVICE = "service"
    """Order what belongs to rentals."""
    OPERATOR = "operator"
    """Order everything of every car, and look after the bridge."""
    ADMIN = "admin"
    """Everything, and read the audit trail."""

    def includes(self, other: "Role") -> bool:
        """Return whether this role may do what the other one may."""
        return other is self or other in _BENEATH[self]


_BENEATH: Final = {
    Role.AGENCY: frozenset[Role](),
    Role.VIEWER: frozenset({Role.AGENCY}),
    Role.APPROVER: frozenset({Role.AGENCY, Role.VIEWER}),
    Role.SERVICE: frozenset({Role.AGENCY, Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.AGENCY, Role.VIEWER, Role.SERVICE}),
    Role.ADMIN: frozenset(Role),
}
"""Whose rights each role has besides its own. Who orders does not approve: an operator
has no part of an approver, nor the reverse."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls."""

    name: str
    """As the key file says; a key without a name gets one of its digest."""
    role: Role
    """What they may do."""


Keys = Mapping[bytes, Principal]
"""Digest of a key: whose it is."""

ANYBODY: Final = Principal("anybody", Role.ADMIN)
"""Who calls a bridge without keys."""


def load_keys(path: Path) -> Keys:
    """Read a key file: one key a line, ``#`` begins a comment.

    Raises:
        SettingsError: the file is missing, open to others, empty or not such a file.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise SettingsError(
            f"API key file {path} cannot be read: {error.strerror}",
            advice="write one key on a line of it, with mode 0600, and give it to the "
            "bridge's user",
        ) from error
    if mode & _OPEN_TO_OTHERS:
        raise SettingsError(
            f"API key file {path} has mode {mode:04o}, so other users can read it",
            advice=f"run `chmod 600 {path}`, and change the keys if others had access",
        )
    lines = data.decode("ascii", "replace").splitlines()
    lines = [line.strip() for line in lines if line.strip() and line[0] != "#"]
    if len(data) > FILE_LIMIT or not 1 <= len(lines) <= KEYS_LIMIT:
        raise SettingsError(
            f"API key file {path} holds {len(lines)} keys, 1 to {KEYS_LIMIT} are "
            f"allowed"
        )
    keys: dict[bytes, Principal] = {}
    for number, line in enumerate(lines, 1):
        digest, principal = _of_line(line, f"API key {number} of {path}")
        if digest in keys:
            raise SettingsError(
                f"API key {number} of {path} is there twice",
                advice="make each caller a key of its own",
            )
        keys[digest] = principal
    return keys


def principal_of(given: bytes, keys: Keys) -> Principal | None:
    """Compare a key with all that are allowed, in a time that tells nothing."""
    digest = _digest(given)
    found = None
    for allowed, principal in keys.items():
        if hmac.compare_digest(digest, allowed):
            found = principal
    return found


def _of_line(line: str, what: str) -> tuple[bytes, Principal]:
    parts = line.split(":")
    key = parts[-1]
    if len(key) not in KEY_LENGTHS or not key.isprintable() or " " in key:
        raise SettingsError(
            f"{what} is not {KEY_LENGTHS.start} to {KEY_LENGTHS.stop - 1} printable "
            f"characters without spaces and colons",
            advice="make one with `openssl rand -base64 32`",
        )
    digest = _digest(key.encode())
    if len(parts) == 1:
        return digest, Principal(f"key-{digest.hex()[:8]}", Role.OPERATOR)
    # Never taken for a key with colons: a slip in a viewer's role would make an
    # operator of them.
    if len(parts) != len(("name", "role", "key")) or parts[1] not in set(Role):
        raise SettingsError(
            f"{what} is neither a key nor name:role:key",
            advice=f"the roles are {', '.join(Role)}",
        )
    if not re.fullmatch(NAME, parts[0]):
        raise SettingsError(
            f"{what} has a name that is not 1 to 64 of a-z, 0-9, _ and -",
        )
    return digest, Principal(parts[0], Role(parts[1]))


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(b"ff-api-key-v1\0" + key).digest()
