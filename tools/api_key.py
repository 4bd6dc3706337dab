"""What opens the bridge's API to a command: an API key, or a bearer token.

A file with keys is the one that the bridge reads (``api.keys_file``), so the same rules
hold: nobody else may read it, a line that begins with ``#`` is a comment, and the first
key counts. A file may hold a token of an OpenID provider instead, and so may the
environment. Neither is ever an argument: every user of a machine sees those.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.errors import OperatorError

FILE_LIMIT: Final = 32_768
"""Bytes of a key file that are read; the bridge takes no longer one."""

TOKEN_VARIABLE: Final = "FREEFLOAT_TOKEN"  # noqa: S105 - its name, not a token
"""Environment variable that may hold a bearer token."""

_TOKEN: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""A signed JSON web token (RFC 7519): its header is a JSON object, ``{"``."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def headers_of(path: Path | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that open the API; none without a file and a variable.

    Args:
        path: of a file with a key or a token, which goes before the environment.
        environment: may hold a token.

    Raises:
        OperatorError: the file or the variable cannot be used.
    """
    if path is not None:
        found = read_api_key(path)
        if _TOKEN.fullmatch(found):
            return {"Authorization": f"Bearer {found}"}
        return {"X-Api-Key": found}
    token = environment.get(TOKEN_VARIABLE, "").strip()
    if not token:
        return {}
    if not _TOKEN.fullmatch(token):
        raise OperatorError(
            f"{TOKEN_VARIABLE} holds no token of three parts",
            "get a new one of your provider; an API key belongs into a file",
        )
    return {"Authorization": f"Bearer {token}"}


def read_api_key(path: Path) -> str:
    """Return the first key of a file, or the token in it.

    Raises:
        OperatorError: it cannot be read, others can read it, or it holds no key.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT)
    except OSError as error:
        raise OperatorError(
            f"API key file {path} cannot be read: {os.strerror(error.errno or 0)}",
            "name it with --api-key-file",
        ) from error
    if mode & _OPEN_TO_OTHERS:
        raise OperatorError(
            f"API key file {path} has mode {mode:04o}, so other users can read it",
            f"run 'chmod 600 {path}', or name another with --api-key-file",
        )
    for line in data.decode("ascii", "replace").splitlines():
        if line.strip() and not line.startswith("#"):
            # A line may be name:role:key.
            return line.strip().rpartition(":")[2]
    raise OperatorError(
        f"API key file {path} holds no key", "see the bridge's api.keys_file"
    )
