"""The car's signing key of now, and the rotations that the authority has yet to see.

A rotation is done when the ledger names the new key; the authority, which certifies
keys and has no ledger, is shown the entry by the renewal (`gateway.uplink.renewal`).
Until it has certified the new key the entries are kept, in the transaction of the
rotation itself, so no power cut leaves a key whose proof is lost.
"""

import logging
from collections.abc import Callable, Sequence

from gateway.core.key_rotation import is_rotation
from gateway.core.ledger import SealedEntry
from gateway.ports import Store, StoreError
from gateway.runtime.standing import Standing


def _ignore() -> None:
    pass


class KeyProofs:
    """Implements `gateway.ports.KeyHolder`.

    Args:
        standing: what stands; its key signs.
        store: keeps the rotations.
    """

    def __init__(self, standing: Standing, *, store: Store) -> None:
        self._standing = standing
        self._store = store
        self._rotations: tuple[bytes, ...] = ()
        self.on_rotated: Callable[[], None] = _ignore
        """Told when there is a rotation to show."""
        self._log = logging.getLogger(f"{__name__}.{standing.persona.vehicle_id.short}")

    @property
    def rotations(self) -> tuple[bytes, ...]:
        """KEY_ROTATED frames that the authority has not certified, oldest first."""
        return self._rotations

    def sign(self, message: bytes) -> bytes:
        """Sign by the key of now; may be called from any thread."""
        return self._standing.key.sign(message)

    def start(self, rotations: Sequence[bytes]) -> None:
        """Take over what the store holds."""
        self._rotations = tuple(rotations)
        if self._rotations:
            self.on_rotated()

    def note(self, entries: Sequence[SealedEntry]) -> None:
        """Take note of a rotation that has become durable."""
        self.start((*self._rotations, *(e.frame for e in entries if is_rotation(e))))

    async def certified(self, rotations: Sequence[bytes]) -> None:
        """Let go of what the authority has certified.

        If the disk does not take it they are shown again after the next start, which
        changes nothing.
        """
        self._rotations = tuple(one for one in self._rotations if one not in rotations)
        try:
            await self._store.forget_rotations(rotations)
        except StoreError as error:
            self._log.warning("= a certified rotation will be shown again: %s", error)
