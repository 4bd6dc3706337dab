"""Who may use the API: keys in a file, and a bound on what a request may weigh."""

import hashlib
import hmac
import re
import stat
from http import HTTPStatus
from pathlib import Path
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.problems import ProblemError, respond
from bridge.errors import SettingsError

KEY_LENGTHS: Final = range(24, 257)
"""Characters of a key: 24 of base64url hold 144 bits."""

KEYS_LIMIT: Final = 64
FILE_LIMIT: Final = 32_768
BODY_LIMIT: Final = 16_384
"""Bytes of a request's body; the largest order has about 500."""

LARGE_BODY_LIMIT: Final = 262_145
"""Bytes of a configuration's body, and one more, so that its own route says no."""

_LARGE: Final = re.compile(r"/v1/vehicles/[A-Z2-7]{26}/configurations/[a-z_]+")

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def load_keys(path: Path) -> tuple[bytes, ...]:
    """Read the keys' digests from a file: one key a line, ``#`` begins a comment.

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
            advice="write one key on a line of it, with mode 0600",
        ) from error
    if mode & _OPEN_TO_OTHERS:
        raise SettingsError(
            f"API key file {path} has mode {mode:04o}, so other users can read it",
            advice=f"run `chmod 600 {path}`, and change the keys if others had access",
        )
    lines = data.decode("ascii", "replace").splitlines()
    keys = [line.strip() for line in lines if line.strip() and line[0] != "#"]
    if len(data) > FILE_LIMIT or not 1 <= len(keys) <= KEYS_LIMIT:
        raise SettingsError(
            f"API key file {path} holds {len(keys)} keys, 1 to {KEYS_LIMIT} are allowed"
        )
    for number, key in enumerate(keys, 1):
        if len(key) not in KEY_LENGTHS or not key.isprintable() or " " in key:
            raise SettingsError(
                f"API key {number} of {path} is not {KEY_LENGTHS.start} to "
                f"{KEY_LENGTHS.stop - 1} printable characters without spaces",
                advice="make one with `openssl rand -base64 32`",
            )
    return tuple(_digest(key.encode()) for key in keys)


def is_allowed(given: bytes, digests: tuple[bytes, ...]) -> bool:
    """Compare a key with all that are allowed, in a time that tells nothing."""
    digest = _digest(given)
    found = False
    for allowed in digests:
        found |= hmac.compare_digest(digest, allowed)
    return found


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(b"ff-api-key-v1\0" + key).digest()


class Gate:
    """Stands before the application: size first, then the key.

    Args:
        app: what stands behind.
        digests: of the keys; empty lets everybody in, which `bridge.bootstrap` allows
            on loopback only.
        open_paths: paths that need no key.
    """

    def __init__(
        self, app: ASGIApp, digests: tuple[bytes, ...], open_paths: frozenset[str]
    ) -> None:
        self._app = app
        self._digests = digests
        self._open_paths = open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        problem = self._refuse(scope["path"], headers)
        if problem is not None:
            await respond(problem)(scope, receive, send)
            return
        await self._app(scope, _bounded(receive, _limit_of(scope["path"])), send)

    def _refuse(self, path: str, headers: dict[bytes, bytes]) -> ProblemError | None:
        length = headers.get(b"content-length", b"0")
        limit = _limit_of(path)
        if not length.isdigit() or len(length) > len(str(limit)) + 1:
            return _too_large(limit)
        if int(length) > limit:
            return _too_large(limit)
        if not self._digests or path in self._open_paths:
            return None
        if is_allowed(headers.get(b"x-api-key", b""), self._digests):
            return None
        return ProblemError(
            HTTPStatus.UNAUTHORIZED,
            "api-key-required",
            "send a key of this bridge in the header X-Api-Key",
            headers={"WWW-Authenticate": "ApiKey"},
        )


def _limit_of(path: str) -> int:
    return LARGE_BODY_LIMIT if _LARGE.fullmatch(path) else BODY_LIMIT


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"a body has at most {limit} bytes",
    )


def _bounded(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            # A body without a length, in chunks.
            raise _too_large(limit)
        return message

    return bounded
