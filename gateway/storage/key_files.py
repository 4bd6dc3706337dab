"""The car's signing key as a file, and the next one beside it.

A rotation writes the new key first, then the ledger names it, then it takes the old
one's place by a rename. So a power cut at any point leaves the key that the ledger
names: a key whose entry was not committed is not in use and is removed at the next
start; one whose rename was not reached is put in its place then (FF-ENR).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from gateway.ports import KeyringError, Worker
from gateway.storage.files import Files
from protocol.codes import Suite
from protocol.errors import ProtocolError
from protocol.fleet import VehiclePart
from protocol.keyfile import KEY_FILE_LIMIT, build_key, parse_signing_key
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey

NEXT_KEY: Final = f"{VehiclePart.SIGNING_KEY}.next"
"""The new key until it takes the old one's place."""

T = TypeVar("T")


class KeyFiles:
    """Implements `gateway.ports.Keyring` in the car's directory.

    Args:
        directory: the identity directory.
        present: the key that was read from it.
        files: the disk it lies on.
        worker: runs the blocking calls; it stays its owner's to close.
    """

    def __init__(
        self,
        directory: Path,
        present: SigningKey,
        *,
        files: Files,
        worker: Worker,
    ) -> None:
        self._place = directory / VehiclePart.SIGNING_KEY
        self._next_place = directory / NEXT_KEY
        self._present = present
        self._next: SigningKey | None = None
        self._due: SigningKey | None = None
        """Signs already, and could not be put in its place."""
        self._files = files
        self._worker = worker

    async def prepare(self) -> SigningKey:
        """Return the key that comes next, of the present one's suite, made durable."""
        return await self._worker.run(lambda: self._guarded(self._prepare))

    async def settle(self, key_id: bytes | None) -> SigningKey:
        """Make one key the only one, and return it."""
        return await self._worker.run(
            lambda: self._guarded(lambda: self._settle(key_id))
        )

    def _prepare(self) -> SigningKey:
        # What lies beside the place may be the only copy of the key that signs now.
        if self._due is not None:
            self._put_in_place(self._due)
        if self._next is None:
            made = _new_key(self._present.suite)
            self._files.write(self._next_place, build_key(made.handle))
            self._next = made
        return self._next

    def _settle(self, key_id: bytes | None) -> SigningKey:
        if key_id is None or key_id == self._present.key_id:
            return self._keep()
        following = self._next or self._read(self._next_place)
        if following is not None and following.key_id == key_id:
            self._due = following
            self._put_in_place(following)
            return following
        placed = self._read(self._place)
        if placed is not None and placed.key_id == key_id:
            # It took its place since the directory was read.
            self._present = placed
        # Else the directory was made anew since: its key is the one that is known.
        return self._keep()

    def _put_in_place(self, due: SigningKey) -> None:
        # After a failure, the rename itself may have been done.
        if self._files.exists(self._next_place):
            self._files.rename(self._next_place, self._place)
        self._present, self._next, self._due = due, None, None

    def _keep(self) -> SigningKey:
        if self._files.exists(self._next_place):
            self._files.remove(self._next_place)
        self._next = None
        return self._present

    def _read(self, place: Path) -> SigningKey | None:
        data = self._files.read(place, KEY_FILE_LIMIT + 1)
        try:
            return None if data is None else parse_signing_key(data, name=place.name)
        except ProtocolError:
            return None

    def _guarded(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as error:
            raise KeyringError(
                f"{self._next_place} cannot be written ({error.strerror}): give the "
                "car's directory to the user that runs the gateway, and free space"
            ) from error


def _new_key(suite: Suite) -> Ed25519SigningKey | P256SigningKey:
    if suite is Suite.P256:
        return P256SigningKey.generate()
    return Ed25519SigningKey.generate()
