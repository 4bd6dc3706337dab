"""Trust, time and key in the ledger's file: what must not go back over a restart.

They lie beside the state, so that a bundle and the entry that tells it, or a new key
and the entry that names it, are there both or not at all (FF-TRU-14, FF-ENR-13).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from gateway.core.key_rotation import is_rotation
from gateway.core.known_time import LATEST_MS, KnownTime
from gateway.ports import Commit
from gateway.storage.errors import StoreDamagedError
from gateway.storage.rows import number, plain_bytes
from protocol.codes import ClockQuality

_FLOOR_LIMIT_MS: Final = 2 * LATEST_MS
"""What was learnt, carried on for longer than any car stands; still a date."""


@dataclass(frozen=True, slots=True)
class KeptTrust:
    """What is held; see `gateway.ports.Stored`."""

    bundle: bytes | None
    expiry_told: bool
    time: KnownTime
    key_id: bytes | None
    rotations: tuple[bytes, ...]


def read_trust(connection: apsw.Connection) -> KeptTrust:
    """Return what is held.

    Raises:
        StoreDamagedError: the bundle is not what was written.
    """
    bundle, expiry_told = None, False
    for data, sha256, told in connection.execute(
        "select bundle, sha256, expiry_told from trust"
    ):
        bundle, expiry_told = plain_bytes(data), bool(number(told))
        if hashlib.sha256(bundle).digest() != sha256:
            raise StoreDamagedError("the stored trust bundle is not what was written")
    time = KnownTime()
    for floor_ms, boot_ms, quality in connection.execute(
        "select floor_ms, boot_ms, quality from known_time"
    ):
        time = KnownTime(
            number(floor_ms, limit=_FLOOR_LIMIT_MS),
            number(boot_ms),
            ClockQuality(number(quality)),
        )
    key_id = None
    for (found,) in connection.execute("select key_id from signing_key"):
        key_id = plain_bytes(found)
    rotations = tuple(
        plain_bytes(frame)
        for (frame,) in connection.execute("select frame from rotation order by place")
    )
    return KeptTrust(bundle, expiry_told, time, key_id, rotations)


def write_trust(connection: apsw.Connection, commit: Commit) -> None:
    """Put what a commit says about trust, time and key in place of what was held."""
    if commit.trust is not None:
        connection.execute(
            "insert or replace into trust values (1, ?, ?, 0)",
            (commit.trust, hashlib.sha256(commit.trust).digest()),
        )
    if commit.expiry_told:
        connection.execute("update trust set expiry_told = 1")
    if commit.time is not None:
        connection.execute(
            "insert or replace into known_time values (1, ?, ?, ?)",
            (commit.time.floor_ms, commit.time.at_ms, int(commit.time.quality)),
        )
    if commit.key_id is not None:
        connection.execute(
            "insert or replace into signing_key values (1, ?)", (commit.key_id,)
        )
        connection.executemany(
            "insert into rotation (frame) values (?)",
            [(one.frame,) for one in commit.entries if is_rotation(one)],
        )


def forget_rotations(connection: apsw.Connection, frames: Sequence[bytes]) -> None:
    """Let go of rotations that the authority has certified."""
    connection.executemany(
        "delete from rotation where frame = ?", [(frame,) for frame in frames]
    )
