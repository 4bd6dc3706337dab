"""The trust bundles that the bridge holds: the newest, and those that cars still have.

A directory of signed bundles is followed without restart: what the office
puts there, `bundle-<version>.bin`, counts from the next look on. The bridge believes a
bundle as a car does: it begins with the one that the settings name, and each later one
must follow the one before (`protocol.succession`). So a file that somebody slipped into
the directory is neither used nor sent to anybody.

Rule 1: versions never go back, also if a file is taken away.
Rule 2: what the newest bundle revokes counts at once, whatever older bundles say.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from bridge.errors import SettingsError, TrustError
from protocol.errors import ProtocolError
from protocol.succession import succeed
from protocol.trust import BUNDLE, BUNDLE_LIMIT, SIGNED_BUNDLE, TrustBundle

PATTERN: Final = "bundle-*.bin"

FILE_LIMIT: Final = 2 * BUNDLE_LIMIT
"""Bytes of a signed bundle with all of its signatures, and some."""


@dataclass(frozen=True, slots=True)
class Trust:
    """What is trusted now; a value."""

    bundles: Mapping[int, TrustBundle]
    """By version: those that were accepted."""
    newest: TrustBundle
    """The one that counts."""
    data: bytes
    """Its signed bytes, as cars get them."""

    @classmethod
    def begin(cls, data: bytes, *, fleet_id: bytes) -> Self:
        """Return the trust that the settings name.

        Its root signatures are the cars' business: whoever can change this file can use
        the key beside it anyway.

        Raises:
            SettingsError: not a bundle, or of another fleet.
        """
        try:
            bundle = BUNDLE.parse(SIGNED_BUNDLE.parse(data).body)
        except ProtocolError as error:
            raise SettingsError(
                f"trust bundle cannot be read: {error}",
                advice="name the file trust/bundle-1.bin of the fleet directory",
            ) from error
        if bundle.fleet_id != fleet_id:
            raise SettingsError(
                "trust bundle belongs to another fleet",
                advice="name the bundle of the same fleet directory",
            )
        return cls({bundle.version: bundle}, bundle, data)

    def followed_by(self, data: bytes) -> Self:
        """Return the trust after a bundle that follows.

        Raises:
            ProtocolError: it does not follow.
        """
        bundle = succeed(self.newest, data, fleet_id=self.newest.fleet_id)
        if bundle is self.newest:
            return self
        return type(self)({**self.bundles, bundle.version: bundle}, bundle, data)

    def of_car(self, version: int) -> TrustBundle:
        """Return the bundle that a car has, or the newest if that one is not known."""
        return self.bundles.get(version, self.newest)


def is_emergency(before: TrustBundle, after: TrustBundle) -> bool:
    """Return whether cars must have `after` at once: it revokes a key."""
    return bool(set(after.revoked) - set(before.revoked))


class TrustDirectory:
    """Keeps a `Trust` equal to a directory of bundles, without restart."""

    def __init__(
        self, path: Path, *, fleet_id: bytes, refused: Callable[[TrustError], None]
    ) -> None:
        """Begin with the bundle at `path` and follow those beside it.

        Raises:
            SettingsError: there is no bundle of this fleet at `path`.
        """
        self._directory = path.parent
        self._refused = refused
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        try:
            data = _read(path)
        except OSError as error:
            raise SettingsError(
                f"{path} cannot be read: {error.strerror}",
                advice="check path and owner (docs/operations.md, section 4)",
            ) from error
        self._current = Trust.begin(data, fleet_id=fleet_id)

    @property
    def current(self) -> Trust:
        """The trust of the last refresh; never changes under its holder."""
        return self._current

    def refresh(self) -> bool:
        """Look for bundles that follow; return whether there is a newer one.

        May be called from any thread. A file that cannot be believed is told once.

        Raises:
            TrustError: the directory cannot be read; the trust stays as it is.
        """
        with self._lock:
            before = self._current
            try:
                changed = self._changed()
            except OSError as error:
                raise TrustError(
                    f"trust directory {self._directory} cannot be read: "
                    f"{error.strerror}",
                    advice="check path and owner; the newest known bundle counts on",
                ) from error
            for path in changed:
                self._take(path)
            return self._current is not before

    def _changed(self) -> list[Path]:
        found: dict[str, tuple[int, int]] = {}
        for path in self._directory.glob(PATTERN):
            status = path.stat()
            found[path.name] = (status.st_mtime_ns, status.st_size)
        changed = [name for name in found if found[name] != self._seen.get(name)]
        self._seen = found
        return [self._directory / name for name in sorted(changed, key=_version)]

    def _take(self, path: Path) -> None:
        if _version(path.name) in self._current.bundles:
            return
        try:
            self._current = self._current.followed_by(_read(path))
        except (OSError, ProtocolError) as error:
            self._refused(
                TrustError(
                    f"trust bundle {path.name} is refused: {error}",
                    advice="let the roots sign the version after the newest anew",
                )
            )


def bundle_files(directory: Path) -> list[Path]:
    """Return the files of signed bundles, the oldest first.

    Raises:
        OSError: the directory cannot be read.
    """
    found = [path for path in directory.glob(PATTERN) if _version(path.name)]
    return sorted(found, key=lambda path: _version(path.name))


def _version(name: str) -> int:
    """Return the version in a file's name, for the order of looking at them."""
    digits = name.removeprefix("bundle-").removesuffix(".bin")
    return int(digits) if digits.isdecimal() and len(digits) <= 10 else 0  # noqa: PLR2004 - a u32


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_LIMIT)
