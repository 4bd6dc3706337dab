"""The key to the bridge's API, as commands read it: the first of a key file.

The file is the one that the bridge reads (``api.keys_file``), so the same rules hold:
nobody else may read it, and a line that begins with ``#`` is a comment.
"""

import os
import stat
from pathlib import Path
from typing import Final

from tools.errors import OperatorError

FILE_LIMIT: Final = 32_768
"""Bytes of a key file that are read; the bridge takes no longer one."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def read_api_key(path: Path) -> str:
    """Return the first key of a file.

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
