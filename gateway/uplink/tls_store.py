"""Where a car's renewed TLS identities lie, and which of them opens connections.

::

    <data>/tls/00000001/   tls.crt tls.key trust-anchors.pem
    <data>/tls/00000002/   ...

The identity that was installed stays where it is, often on a disk that is only read. A
renewed one is a directory that appears whole: written under another name, every file
and the directory synced, then renamed. An older one stays until a connection with the
newest stood, so a certificate that the broker does not take locks no car out.
"""

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from protocol.fleet import VehiclePart
from transport.tls import TlsIdentity

_PARTIAL: Final = ".partial"
"""Suffix of a directory that was never finished."""


Listener = Callable[[], None]
"""Is told, and returns at once."""


class InstalledTls:
    """One TLS identity that nobody renews; implements `gateway.ports.TlsIdentities`."""

    def __init__(self, identity: TlsIdentity) -> None:
        self._identity = identity

    def current(self) -> TlsIdentity:
        """Return the identity."""
        return self._identity

    def connected(self, identity: TlsIdentity) -> None:
        """Change nothing: there is no other one."""

    def refused(self, identity: TlsIdentity) -> None:
        """Change nothing: there is no other one."""


class TlsStore:
    """The identities that a car has; implements `gateway.ports.TlsIdentities`.

    Args:
        directory: for renewed ones; made when the first is written.
        installed: what the car was given when it was enrolled.
    """

    def __init__(self, directory: Path, installed: TlsIdentity) -> None:
        self._directory = directory
        self._candidates = [*map(_identity_in, _generations(directory)), installed]
        self._chosen = 0
        # `add` runs in a thread of its own, the others in the loop's.
        self._lock = threading.Lock()
        self.on_refused: Listener = _ignore
        """Told when no connection came about by a fault of TLS."""
        self.on_connected: Listener = _ignore
        """Told when a connection stands with the newest identity."""

    @property
    def newest(self) -> TlsIdentity:
        """The identity that was written last."""
        return self._candidates[0]

    def current(self) -> TlsIdentity:
        """Return the identity to connect with."""
        return self._candidates[self._chosen]

    def connected(self, identity: TlsIdentity) -> None:
        """A connection stands with this identity: older ones have had their day."""
        with self._lock:
            if identity != self.newest:
                return
            superseded, self._candidates = self._candidates[1:], [identity]
            self._chosen = 0
        for old in superseded:
            if old.key.parent.parent == self._directory:
                shutil.rmtree(old.key.parent, ignore_errors=True)
        self.on_connected()

    def refused(self, identity: TlsIdentity) -> None:
        """No connection with this identity: the next attempt takes an older one.

        What was under way while a newer one was written says nothing of that one.
        """
        with self._lock:
            if identity != self.current():
                return
            self._chosen = (self._chosen + 1) % len(self._candidates)
        self.on_refused()

    def add(self, *, key: bytes, chain: bytes, anchors: bytes) -> TlsIdentity:
        """Write a new identity, durable and whole, and make it the newest.

        Args:
            key: private key in PEM.
            chain: certificate in PEM, then its issuing CA's.
            anchors: trust anchors in PEM.

        Raises:
            OSError: it could not be written; the older ones stand.
        """
        numbers = [int(path.name) for path in _generations(self._directory)]
        target = self._directory / f"{max(numbers, default=0) + 1:08d}"
        partial = target.with_suffix(_PARTIAL)
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        try:
            _write(partial / VehiclePart.TLS_KEY, key)
            _write(partial / VehiclePart.TLS_CERTIFICATE, chain)
            _write(partial / VehiclePart.TRUST_ANCHORS, anchors)
            _sync(partial)
            partial.rename(target)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        _sync(self._directory)
        _sync(self._directory.parent)
        identity = _identity_in(target)
        with self._lock:
            self._candidates = [identity, *self._candidates]
            self._chosen = 0
        return identity


def _ignore() -> None:
    pass


def _generations(directory: Path) -> list[Path]:
    """Return the renewed identities, the newest first."""
    if not directory.is_dir():
        return []
    found = [path for path in directory.iterdir() if path.name.isdecimal()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _identity_in(directory: Path) -> TlsIdentity:
    return TlsIdentity(
        certificate=directory / VehiclePart.TLS_CERTIFICATE,
        key=directory / VehiclePart.TLS_KEY,
        trust_anchors=directory / VehiclePart.TRUST_ANCHORS,
    )


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
