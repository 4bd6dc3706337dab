"""Which software runs in the car: Python, libraries and this build, for SNAPSHOT."""

import platform
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, distribution, version
from typing import Final

import apsw

LIBRARIES: Final = ("construct", "cryptography", "msgspec", "apsw", "paho-mqtt")
"""What decides how frames are read, checked, stored and sent."""

BUILD_DIGITS: Final = 12
"""Hexadecimal digits of the build: enough to tell the builds of one version apart."""


def software() -> tuple[str, ...]:
    """Return lines ``name=value`` about what is installed; "-" for what is unknown."""
    libraries = " ".join(f"{name}={_version_of(name)}" for name in LIBRARIES)
    return (
        f"python={platform.python_version()} sqlite={apsw.sqlite_lib_version()}",
        libraries,
        f"build={build_of('freefloat')}",
    )


def build_of(package: str) -> str:
    """Return what tells one build from another, "-" if it was not installed.

    It is a digest of the list that the installer wrote, which names each file with
    its own digest.
    """
    try:
        record = distribution(package).read_text("RECORD")
    except PackageNotFoundError:
        record = None
    if record is None:
        return "-"
    return sha256(record.encode()).hexdigest()[:BUILD_DIGITS]


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"
