"""Signed checkpoints of the audit trail, in a file outside the store (K14).

The trail's chain shows an edit to whoever has a later head. Who can write to the whole
store can make the chain anew, or cut its end off and put the head back; they cannot
sign. So the bridge writes down, once a minute if there was a call, which row was the
last and its hash, signed by its receipt key under a label of its own. Copy the file to
where the store's administrators do not reach: what was copied cannot be undone.
"""

import asyncio
import base64
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bridge.audit import AuditHead
from bridge.errors import BridgeError, StoreError
from bridge.ports import WallClock
from bridge.settings import AuditSettings
from bridge.store import Store
from bridge.wire import LOG
from protocol.errors import ProtocolError
from protocol.keys import SigningKey, VerifyKey

CONTEXT: Final = b"ff-audit-checkpoint-v1\0"
"""Separates checkpoints from receipts, which the same key signs."""

EVERY_S: Final = 60.0
LINE_LIMIT: Final = 1_024
U64: Final = 8


class CheckpointError(BridgeError):
    """A line of a checkpoint file is none, or nobody of the fleet signed it."""


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One checkpoint as it stands in the file."""

    row: int
    """The last row then."""
    row_hash: str
    """Its hash in hex."""
    at_ms: int
    """UTC ms."""
    key_id: str
    """Which key signed, in hex."""
    signature: str
    """Base64."""


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Writes checkpoints of one bridge."""

    path: Path
    """The file; made with mode 0600."""
    store: Store
    """Has the trail."""
    fleet_id: bytes
    """16 bytes; signed, so that no checkpoint counts in another fleet."""
    key: Callable[[], SigningKey]
    """What signs now."""
    now: WallClock
    """UTC ms."""

    async def run(self) -> None:
        """Write one now, then whenever there are new rows, until cancelled."""
        last = AuditHead()
        try:
            while True:
                last = await self._look(last)
                await asyncio.sleep(EVERY_S)
        finally:
            # A bridge that stops leaves no call of its last minute without one.
            await asyncio.shield(self._look(last))

    async def _look(self, last: AuditHead) -> AuditHead:
        try:
            _, head = await self.store.audit_after(2**62, 1)
            if head in {last, AuditHead()}:
                return last
            await asyncio.to_thread(self.write, head)
        except (StoreError, OSError) as error:
            LOG.warning("= audit: no checkpoint: %s", error)
            return last
        return head

    def write(self, head: AuditHead) -> None:
        """Append one and return when it is durable; blocks.

        Raises:
            OSError: the file cannot be written.
        """
        key, at_ms = self.key(), self.now()
        signature = key.sign(_signed(self.fleet_id, head, at_ms))
        line = Line(
            head.row_id,
            head.row_hash.hex(),
            at_ms,
            key.key_id.hex(),
            base64.b64encode(signature).decode(),
        )
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, msgspec.json.encode(line) + b"\n")
            os.fsync(file)
        finally:
            os.close(file)


def watch_audit(
    settings: AuditSettings,
    store: Store,
    *,
    fleet_id: bytes,
    key: Callable[[], SigningKey],
    now: WallClock,
) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
    """Yield the work that writes checkpoints, if the settings name a file."""
    if settings.checkpoints is not None:
        path = Path(settings.checkpoints)
        yield "checkpoints", Checkpoints(path, store, fleet_id, key, now).run()


def read_checkpoints(
    path: Path, *, fleet_id: bytes, keys: Sequence[VerifyKey]
) -> Iterator[AuditHead]:
    """Yield the heads of a checkpoint file, each signed by a key of the fleet.

    Raises:
        CheckpointError: a line is none, is not signed so, or goes back; says which.
        OSError: the file cannot be read.
    """
    by_id = {key.key_id: key for key in keys}
    last = AuditHead()
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            head = _head_of(data[:LINE_LIMIT], number, by_id, fleet_id)
            if head.row_id < last.row_id:
                raise CheckpointError(f"line {number}: goes back to row {head.row_id}")
            last = head
            yield head


def _head_of(
    data: bytes, number: int, keys: dict[bytes, VerifyKey], fleet_id: bytes
) -> AuditHead:
    try:
        line = msgspec.json.decode(data, type=Line)
        head = AuditHead(line.row, bytes.fromhex(line.row_hash))
        key = keys[bytes.fromhex(line.key_id)]
        signature = base64.b64decode(line.signature, validate=True)
        key.verify(signature, _signed(fleet_id, head, line.at_ms))
    except KeyError:
        raise CheckpointError(
            f"line {number}: no key of this fleet signed it"
        ) from None
    except (msgspec.DecodeError, ValueError, OverflowError, ProtocolError) as error:
        raise CheckpointError(f"line {number}: does not hold: {error}") from error
    return head


def _signed(fleet_id: bytes, head: AuditHead, at_ms: int) -> bytes:
    return b"".join(
        (
            CONTEXT,
            fleet_id,
            head.row_id.to_bytes(U64, "big"),
            head.row_hash,
            at_ms.to_bytes(U64, "big"),
        )
    )
